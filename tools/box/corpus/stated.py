"""Chats in which the user states things and asks for them in the same or a later turn."""

from .people import BOYS, FORMS, GENDER, GIRLS, HE_ANIMALS, KINDS, SHE_ANIMALS
from .words import COLOURS, PLACES, TOYS, a

PETS = KINDS + ["bird", "fish", "hen"]
THINGS = TOYS + ["hat", "coat", "bag", "cup", "book", "scarf", "bike", "lamp", "bed", "box"]
SPOTS = ("on the table", "under the bed", "in the box", "in the garden", "on the chair",
         "behind the door", "in the kitchen", "under the tree", "on the shelf", "in the bag")
FOODS = ("bread", "cheese", "soup", "honey", "cake", "apples", "plums", "nuts", "pears")
GAMES = ("swim", "read", "dance", "paint", "run", "sing", "bake", "climb")
NICE = ("That is nice.", "How nice!", "Good to know.", "I will remember it.", "Thank you for telling me.")


def _my_name(rng):
    name = rng.choice(BOYS + GIRLS)
    return ("My name is %s." % name if rng.random() < 0.6 else "I am %s." % name,
            rng.choice(("What is my name?", "Do you know my name?", "Who am I?", "How am I called?")),
            "Your name is %s." % name, "Nice to meet you, %s!" % name)


def _my_thing(rng):
    thing, colour = rng.choice(THINGS), rng.choice(COLOURS)
    told = rng.choice(("I have %s." % a(colour + " " + thing), "My %s is %s." % (thing, colour),
                       "I got %s." % a(colour + " " + thing)))
    return (told, rng.choice(("What colour is my %s?", "Which colour is my %s?",
                              "What colour does my %s have?", "Tell me the colour of my %s.")) % thing,
            "Your %s is %s." % (thing, colour), None)


def _my_pet(rng):
    kind, name = rng.choice(PETS), rng.choice(HE_ANIMALS + SHE_ANIMALS)
    question, answer = rng.choice((
        ("What is the name of my %s?" % kind, "The name of your %s is %s." % (kind, name)),
        ("How is my %s called?" % kind, "The name of your %s is %s." % (kind, name)),
        ("What pet do I have?", "You have %s." % a(kind)),
        ("Which pet do I have?", "You have %s." % a(kind))))
    return "I have %s named %s." % (a(kind), name), question, answer, None


def _my_food(rng):
    food = rng.choice(FOODS)
    return (rng.choice(("I like to eat %s.", "My best food is %s.", "I like %s very much.")) % food,
            rng.choice(("What do I like to eat?", "What food do I like?")),
            "You like to eat %s." % food, None)


def _my_game(rng):
    game = rng.choice(GAMES)
    return ("I like to %s." % game, rng.choice(("What do I like to do?", "Do you know what I like to do?")),
            "You like to %s." % game, None)


def _my_place(rng):
    thing, spot = rng.choice(THINGS), rng.choice(SPOTS)
    return (rng.choice(("I put my %s %s.", "My %s is %s.")) % (thing, spot),
            rng.choice(("Where is my %s?", "Where can I find my %s?", "Do you know where my %s is?"))
            % thing, "Your %s is %s." % (thing, spot), None)


def _my_age(rng):
    age = rng.randint(4, 12)
    return ("I am %d years old." % age, rng.choice(("How old am I?", "Do you know how old I am?")),
            "You are %d years old." % age, None)


MINE = (_my_name, _my_thing, _my_pet, _my_food, _my_game, _my_place, _my_age)


def _own_facts(rng):
    """Two to four things about the user, then one or more questions about them."""
    makers = rng.sample(MINE, rng.randint(1, 3))
    if rng.random() < 0.5 and _my_name not in makers:
        makers.insert(0, _my_name)
    facts = [maker(rng) for maker in makers]
    told = " ".join(fact[0] for fact in facts)
    asked = rng.sample(facts, min(len(facts), rng.randint(1, 2)))
    if rng.random() < 0.4:
        turns = [told + " " + asked[0][1], asked[0][2]]
    else:
        greetings = [fact[3] for fact in facts if fact[3]]
        turns = [told, greetings[0] if greetings else rng.choice(NICE), asked[0][1], asked[0][2]]
    for fact in asked[1:]:
        turns += [fact[1], fact[2]]
    return turns


def _tale(rng):
    """A tale of a child, a thing and a place; then questions about who, what and where."""
    name = rng.choice(BOYS + GIRLS)
    he = FORMS[GENDER[name]]["he"]
    other = rng.choice([friend for friend in BOYS + GIRLS if friend != name])
    thing, colour = rng.choice(THINGS), rng.choice(COLOURS)
    place, food = rng.choice(PLACES), rng.choice(FOODS)
    owned = a(colour + " " + thing)
    pieces = [
        ("%s had %s." % (name, owned), [
            ("What did %s have?" % name, "%s had %s." % (name, owned)),
            ("What colour was the %s?" % thing, "The %s was %s." % (thing, colour)),
            ("Who had %s?" % a(thing), "%s had %s." % (name, owned))]),
        ("%s went %s." % (he.capitalize(), place["to"]), [
            ("Where did %s go?" % name, "%s went %s." % (name, place["to"]))]),
        ("There %s met %s." % (he, other), [
            ("Who did %s meet?" % name, "%s met %s." % (name, other)),
            ("Who met %s?" % other, "%s met %s." % (name, other))]),
        ("%s gave %s some %s." % (other, name, food), [
            ("What did %s give to %s?" % (other, name), "%s gave %s some %s." % (other, name, food)),
            ("What did %s get?" % name, "%s got some %s." % (name, food))]),
    ]
    kept = pieces[:rng.randint(2, 4)]
    told = " ".join(piece[0] for piece in kept)
    asked = rng.sample(kept, min(len(kept), rng.randint(1, 3)))
    questions = [rng.choice(piece[1]) for piece in asked]
    if rng.random() < 0.6:
        turns = [told + " " + questions[0][0], questions[0][1]]
    else:
        turns = [rng.choice(("Here is a story. ", "Listen. ", "")) + told,
                 rng.choice(("That is a nice story.", "I like it.", "How nice!")), *questions[0]]
    for question in questions[1:]:
        turns += question
    return turns


def stated_chat(rng):
    """The texts of the turns, user first."""
    return _own_facts(rng) if rng.random() < 0.6 else _tale(rng)
