"""Sums up to twenty by counting on, other small chats about numbers, and the held-out pairs."""

from .words import NUMBERS, THINGS_MANY

LIMIT = 20


def _held_pairs():
    """About thirty unordered pairs of 1..15, spread evenly by a fixed pattern."""
    return frozenset((low, high) for low in range(1, 16) for high in range(low, 16)
                     if low + high <= LIMIT and (low * 2 + high) % 10 in (5, 6, 9)
                     and low + high > 3)


HELD = _held_pairs()


def is_held(first, second):
    return (min(first, second), max(first, second)) in HELD


TRAINED = [(first, second) for first in range(LIMIT + 1) for second in range(LIMIT + 1 - first)
           if not is_held(first, second)]
STORY_PAIRS = [(first, second) for first, second in TRAINED
               if 2 <= first <= 9 and 1 <= second <= 6]


def counting_on(first, second):
    """The answer to first plus second: the second number counted from the first."""
    if second == 0:
        steps = "that is %d." % first
    else:
        steps = ", ".join("%d is %d" % (step, first + step)
                          for step in range(1, second + 1)) + "."
    return "Count %d more from %d: %s So %d plus %d is %d." % (
        second, first, steps, first, second, first + second)


PLAIN = ("What is {a} plus {b}?", "What is {a} + {b}?", "{a} + {b} =", "How much is {a} and {b}?",
         "How much is {a} plus {b}?", "Can you add {a} and {b}?", "Add {a} and {b}.",
         "Please add {a} and {b}.", "What do {a} and {b} make?", "Tell me what {a} plus {b} is.",
         "Do you know what {a} plus {b} is?", "What is the sum of {a} and {b}?",
         "I want to add {a} and {b}.", "{a} plus {b} is what?")
WORDED = ("I have {a} {things} and find {b} more. How many {things} do I have?",
          "There are {a} {things} in a box. I put in {b} more. How many {things} are there?",
          "{name} has {a} {things} and gets {b} more. How many {things} does {name} have?",
          "I see {a} {things} here and {b} {things} there. How many {things} do I see?",
          "My friend gave me {a} {things} and then {b} more. How many {things} do I have now?")
SPELLED = ("What is {a} plus {b}?", "How much is {a} and {b}?", "Can you add {a} and {b}?")
AGAIN = ("And what is {a} plus {b}?", "And {a} plus {b}?", "Now add {a} and {b}.",
         "What about {a} plus {b}?", "And how much is {a} and {b}?")


def sum_question(rng, first, second, names, again=False):
    """One wording of a sum: with digits, spelled, or as a word problem."""
    if again and rng.random() < 0.5:
        return rng.choice(AGAIN).format(a=first, b=second)
    chance = rng.random()
    if chance < 0.72:
        return rng.choice(PLAIN).format(a=first, b=second)
    if chance < 0.78:
        return rng.choice(SPELLED).format(a=NUMBERS[first], b=NUMBERS[second])
    if first < 2 or second < 2:
        return PLAIN[0].format(a=first, b=second)
    return rng.choice(WORDED).format(a=first, b=second, things=rng.choice(THINGS_MANY),
                                     name=rng.choice(names))


def _sequence_chat(rng):
    start = rng.randint(0, 16)
    end = rng.randint(start + 2, min(LIMIT, start + 10))
    question = rng.choice(("Count from {a} to {b}.", "Can you count from {a} to {b}?",
                           "Please count from {a} to {b}.")).format(a=start, b=end)
    return question, ", ".join(str(number) for number in range(start, end + 1)) + "."


def _next_chat(rng):
    number = rng.randint(0, 19)
    question = rng.choice(("What comes after {a}?", "Which number comes after {a}?",
                           "What is the next number after {a}?")).format(a=number)
    return question, "After %d comes %d." % (number, number + 1)


def _bigger_chat(rng):
    low, high = sorted(rng.sample(range(LIMIT + 1), 2))
    shown = [low, high]
    rng.shuffle(shown)
    if rng.random() < 0.5:
        question = "Which is bigger, %d or %d?" % tuple(shown)
        return question, "%d is bigger than %d." % (high, low)
    question = "Which is smaller, %d or %d?" % tuple(shown)
    return question, "%d is smaller than %d." % (low, high)


def number_chat(rng):
    """A question and its answer about counting, the next number, or the bigger of two."""
    return rng.choice((_sequence_chat, _next_chat, _bigger_chat))(rng)


def held_questions():
    """The held-out sums, both orders, in wordings that train uses for other pairs."""
    rows = []
    for low, high in sorted(HELD):
        for first, second in {(low, high), (high, low)}:
            for wording in (PLAIN[0], PLAIN[3]):
                rows.append({"question": wording.format(a=first, b=second),
                             "answer": first + second, "a": first, "b": second})
    return sorted(rows, key=lambda row: (row["a"], row["b"], row["question"]))
