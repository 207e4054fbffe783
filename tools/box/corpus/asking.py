"""Questions about the facts: frames around the wordings, and what of them is held out."""

from .facts import RELATIONS, answer_of, slots

OPENERS = ("", "Hello! ", "Hi. ", "I have a question. ", "Please tell me, ", "Can you tell me, ",
           "Do you know, ", "Tell me, ", "Now I want to know, ", "Here is a question. ")
CLOSERS = ("", " Thank you.", " I want to know.", " Please tell me.")
QUESTION_WORDS = ("What", "Which", "Where", "Who", "How", "Why", "In")
HELD_CORES, HELD_FRAMES = "core", "frame"


def _lower_first(text):
    first = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if first in QUESTION_WORDS else text


def frame_is_held(core, opener, closer):
    """Some pairs of wording and frame are never trained, though each part is."""
    return bool(opener) and (core * 3 + opener * 7 + closer) % 6 == 0


def _framed(text, opener, closer):
    start = OPENERS[opener]
    if start.endswith(", "):
        text = _lower_first(text)
        if text[0].isupper():
            start = ""
    return start + text + CLOSERS[closer]


def _lower_answer(answer):
    """The answer after `Yes, ` or `No, `."""
    first = answer.split(" ", 1)[0]
    return answer[0].lower() + answer[1:] if first in LOWERED else answer


LOWERED = frozenset(["A", "An", "The", "You", "After"] + [
    x.split()[0].capitalize() for relation in RELATIONS for x in relation.table
    if x[0].islower()])


def all_facts():
    """Every fact as (relation, x, y)."""
    return [(relation, x, y) for relation in RELATIONS for x, y in relation.table.items()]


def fact_id(relation, x):
    return (relation.name + ":" + x).replace(" ", "-").lower()


def trained_question(rng, relation, x, y):
    """A plain question in a trained wording and its answer."""
    while True:
        core = rng.randrange(len(relation.cores))
        opener = rng.randrange(len(OPENERS)) if rng.random() < 0.5 else 0
        closer = rng.randrange(len(CLOSERS)) if rng.random() < 0.25 else 0
        if not frame_is_held(core, opener, closer):
            text = relation.cores[core].format(**slots(x, y))
            return _framed(text, opener, closer), answer_of(relation, x, y)


def yes_no_question(rng, relation, x, y):
    """A yes or no question; a wrong guess is answered with what is right."""
    answer = answer_of(relation, x, y)
    if rng.random() < 0.5:
        return relation.yes_no.format(**slots(x, y)), "Yes, " + _lower_answer(answer)
    wrong = rng.choice(sorted(set(relation.table.values()) - {y}))
    return relation.yes_no.format(**slots(x, wrong)), "No, " + _lower_answer(answer)


def reverse_question(rng, relation, x, y):
    return rng.choice(relation.reverse).format(**slots(x, y)), answer_of(relation, x, y)


def fact_chat(rng, fact):
    """One turn about a fact: mostly plain, sometimes yes or no, or from the answer back."""
    relation, x, y = fact
    chance = rng.random()
    if chance < 0.14 and relation.yes_no:
        return yes_no_question(rng, relation, x, y)
    if chance < 0.2 and relation.reverse and list(relation.table.values()).count(y) == 1:
        return reverse_question(rng, relation, x, y)
    return trained_question(rng, relation, x, y)


def _accepted(relation, y):
    """The lower-case substring that an answer must hold."""
    if relation.name == "legs" and y == "no":
        return ["no legs"]
    words = y.lower().split()
    while words[0] in ("in", "on", "a", "an", "the"):
        words = words[1:]
    return [" ".join(words)]


def held_questions(rng):
    """Every fact in held-out wordings: two whole cores and one frame that is not trained."""
    rows = []
    for relation, x, y in all_facts():
        cores = rng.sample(relation.held, 2)
        questions = [(core.format(**slots(x, y)), HELD_CORES) for core in cores]
        while len(questions) < 3:
            core, opener, closer = (rng.randrange(len(relation.cores)),
                                    rng.randrange(1, len(OPENERS)), rng.randrange(len(CLOSERS)))
            text = relation.cores[core].format(**slots(x, y))
            framed = _framed(text, opener, closer)
            if frame_is_held(core, opener, closer) and framed.startswith(OPENERS[opener]):
                questions.append((framed, HELD_FRAMES))
        rows.extend({"question": question, "answers": _accepted(relation, y),
                     "fact": fact_id(relation, x), "held": held} for question, held in questions)
    return rows
