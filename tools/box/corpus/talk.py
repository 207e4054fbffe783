"""Small talk, things the model does not know, story requests, and the mixture of the chats."""

from .asking import all_facts, fact_chat
from .people import BOYS, GIRLS, HE_ANIMALS, KINDS, SHE_ANIMALS, a_child, an_animal, named
from .stated import stated_chat
from .story import PLOTS, make_story
from .sums import TRAINED, counting_on, number_chat, sum_question
from .words import a

FACTS = all_facts()
NAMES = GIRLS + BOYS
SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", "You are a kind helper.",
           "You are a small model.", "Answer in one sentence.")
SMALL_TALK = (
    (("Hello!", "Hello.", "Hi!", "Hi there!", "Good day!", "Hello there."),
     ("Hello! How can I help you?", "Hello! What do you want to know?")),
    (("Good morning!", "Good morning."), ("Good morning! How can I help you?",)),
    (("Good evening!", "Good evening."), ("Good evening! How can I help you?",)),
    (("Thank you!", "Thank you.", "Thanks!", "Thank you so much!", "Thank you for your help."),
     ("You are welcome.", "You are welcome!")),
    (("Goodbye!", "Goodbye.", "Bye!", "Good night!", "See you soon!", "I must go now."),
     ("Goodbye! Come back soon.", "Goodbye!")),
    (("Who are you?", "What are you?", "Tell me who you are.", "What is your name?",
      "Do you have a name?", "Are you a person?"),
     ("I am a small model that lives in the box of quipu.",)),
    (("Where do you live?", "Where are you?"), ("I live in the box of quipu.",)),
    (("What can you do?", "What do you know?", "How can you help me?", "Can you help me?",
      "What can I ask you?"),
     ("I can answer small questions, add numbers and tell stories.",)),
    (("How are you?", "Are you well?", "How are you today?"), ("I am well, thank you.",)),
    (("You are clever.", "You are nice.", "I like you.", "Well done!", "That is right."),
     ("Thank you!", "Thank you, that is kind.")),
    (("I am sad.", "I feel sad today.", "I am not happy."),
     ("I am sorry. Do you want to hear a story?",)),
    (("I am happy.", "I feel good today.", "Today is a good day."), ("I am glad to hear that.",)),
)
DO_NOT_KNOW = "I do not know that."
UNKNOWN_WORDS = ("gold", "glass", "iron", "sugar", "paper", "cotton", "rubber", "salt", "oil",
                 "music", "money", "time", "love", "power", "space", "war", "art", "law")
UNKNOWN_PLACES = ("the moon", "the city", "the king", "the island", "the mountain", "the castle")
UNKNOWN = ("Where does {name} live?", "What does {name} do?", "What pet does {name} have?",
           "Who is {name}?", "Which house does {name} live in?", "How old is {name}?",
           "What is the job of {name}?", "Where is {name} now?",
           "How far is {place}?", "How old is {place}?", "How big is {place}?",
           "What is the name of {place}?", "Who made {word}?", "What is {word}?",
           "How does {word} work?", "Where does {word} come from?", "Why is there {word}?",
           "What will the weather be tomorrow?", "What did I do yesterday?",
           "What time is it?", "How much does {word} cost?", "What is the history of {word}?")
STORY_ASKS = ("Tell me a story{about}.", "Please tell me a story{about}.",
              "Can you tell me a story{about}?", "I want to hear a story{about}.",
              "Do you know a story{about}?", "Tell a story{about}, please.")


def _small_turn(rng):
    asked, answers = rng.choice(SMALL_TALK)
    return [rng.choice(asked), rng.choice(answers)]


def _unknown(rng):
    text = rng.choice(UNKNOWN).format(name=rng.choice(NAMES + SHE_ANIMALS + HE_ANIMALS),
                                      word=rng.choice(UNKNOWN_WORDS), place=rng.choice(UNKNOWN_PLACES))
    return [text, DO_NOT_KNOW]


def _fact_turns(rng):
    turns = list(fact_chat(rng, rng.choice(FACTS)))
    while rng.random() < 0.2 and len(turns) < 8:
        turns += fact_chat(rng, rng.choice(FACTS))
    return turns


def _sum_turn(rng, again):
    first, second = rng.choice(TRAINED)
    return [sum_question(rng, first, second, NAMES, again), counting_on(first, second)]


def _sum_turns(rng):
    if rng.random() < 0.2:
        return list(number_chat(rng))
    turns = _sum_turn(rng, again=False)
    while rng.random() < 0.45 and len(turns) < 8:
        turns += _sum_turn(rng, again=True)
    return turns


def _story_turns(rng):
    """A wish for a story about nobody, a kind of hero, a name or a thing, and the story."""
    hero = plot = None
    about = ""
    wish = rng.random()
    if wish < 0.45:
        hero = an_animal(rng, kind=rng.choice(KINDS)) if rng.random() < 0.65 else a_child(rng)
        about = " about " + a(hero.kind)
    elif wish < 0.6:
        hero = named(rng.choice(NAMES), rng)
        about = " about " + hero.name
    elif wish < 0.8:
        plot = rng.choice(PLOTS)
        about = " about " + plot.topic
    return [rng.choice(STORY_ASKS).format(about=about), make_story(rng, hero, plot).text]


KINDS_OF_CHAT = ((_fact_turns, 46), (_sum_turns, 29), (stated_chat, 13), (_small_turn, 5.5),
                 (_story_turns, 3.5), (_unknown, 3))


def make_chat(rng):
    """One chat as a list of turns; now and then greeting first, thanks last, or a system turn."""
    makers, weights = zip(*KINDS_OF_CHAT)
    maker = rng.choices(makers, weights)[0]
    texts = maker(rng)
    if maker is not _small_turn and rng.random() < 0.04:
        texts = [rng.choice(SMALL_TALK[0][0]), SMALL_TALK[0][1][0]] + texts
    if len(texts) < 8 and rng.random() < 0.04:
        texts = texts + [rng.choice(SMALL_TALK[3][0]), SMALL_TALK[3][1][0]]
    turns = [{"role": ("user", "assistant")[at % 2], "content": text}
             for at, text in enumerate(texts)]
    if rng.random() < 0.05:
        turns.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return turns
