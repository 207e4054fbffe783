"""The closed world of facts: what things eat, say, are for, come after, and the wordings to ask.

A relation has a table, one or two answer forms, trained wordings and held-out wordings (cores).
The words of every held-out core occur in trained cores of the same or of other relations.
Slots: `{x}` the thing, `{xs}` its plural, `{ax}` with a or an, `{y}` the answer.
"""

from typing import NamedTuple

from . import village
from .words import a


class Relation(NamedTuple):
    """`table` maps x to y; `yes_no` and `reverse` are further questions, none held out."""

    name: str
    table: dict
    answer: str
    cores: tuple
    held: tuple
    yes_no: str = ""
    reverse: tuple = ()


PLURAL = {"sheep": "sheep", "mouse": "mice", "fish": "fish", "fox": "foxes", "calf": "calves",
          "goose": "geese", "leaf": "leaves", "brush": "brushes", "child": "children",
          "cherry": "cherries", "strawberry": "strawberries", "knife": "knives", "bus": "buses"}


def plural(noun):
    return PLURAL.get(noun, noun + "s")


EATS = {"cow": "grass", "horse": "hay", "rabbit": "carrots", "cat": "fish", "dog": "bones",
        "bird": "seeds", "frog": "flies", "bear": "honey", "monkey": "bananas",
        "mouse": "cheese", "squirrel": "nuts", "goat": "leaves", "duck": "bread", "fox": "eggs"}
LIVES = {"horse": "in a stable", "cow": "in a barn", "bee": "in a hive", "bird": "in a nest",
         "fish": "in the water", "bear": "in a cave", "spider": "in a web", "rabbit": "in a hole",
         "frog": "in a pond", "duck": "on a lake", "camel": "in the desert", "whale": "in the sea",
         "squirrel": "in a tree", "dog": "in a kennel"}
SOUNDS = {"cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa",
          "pig": "oink", "lion": "roar", "bee": "buzz", "owl": "hoot", "snake": "hiss",
          "mouse": "squeak", "hen": "cluck", "frog": "croak"}
LEGS = {"spider": "eight", "bee": "six", "ant": "six", "dog": "four", "horse": "four",
        "bird": "two", "hen": "two", "snake": "no", "fish": "no", "cat": "four"}
YOUNG = {"cow": "calf", "dog": "puppy", "cat": "kitten", "sheep": "lamb", "horse": "foal",
         "duck": "duckling", "hen": "chick", "pig": "piglet", "bear": "cub", "goat": "kid",
         "frog": "tadpole"}
COLOURS = {"grass": "green", "snow": "white", "the sky": "blue", "the sun": "yellow",
           "a tomato": "red", "a carrot": "orange", "coal": "black", "milk": "white",
           "a lemon": "yellow", "a plum": "purple", "a pig": "pink", "an elephant": "grey",
           "a strawberry": "red", "chocolate": "brown"}
TOOLS = {"hammer": "hit nails", "saw": "cut wood", "broom": "sweep the floor",
         "spoon": "eat soup", "key": "open a door", "pen": "write a letter",
         "brush": "paint a picture", "needle": "sew clothes", "spade": "dig a hole",
         "lamp": "make light", "kettle": "boil water", "net": "catch fish",
         "comb": "comb your hair", "clock": "tell the time"}
SHOPS = {"bread": "the bakery", "books": "the bookshop", "stamps": "the post office",
         "shoes": "the shoe shop", "toys": "the toy shop", "apples": "the market",
         "meat": "the butcher", "hats": "the hat shop", "milk": "the farm",
         "flowers": "the flower shop"}
OPPOSITE_PAIRS = (("big", "small"), ("hot", "cold"), ("fast", "slow"), ("wet", "dry"),
                  ("happy", "sad"), ("up", "down"), ("full", "empty"), ("hard", "soft"),
                  ("loud", "quiet"), ("early", "late"))
OPPOSITES = dict(OPPOSITE_PAIRS + tuple((right, left) for left, right in OPPOSITE_PAIRS))
DAY_LIST = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTH_LIST = ("January February March April May June July August September October November "
              "December").split()
SEASON_LIST = "spring summer autumn winter".split()
JOBS = {"baker": "bakes bread", "farmer": "grows food", "teacher": "teaches children",
        "doctor": "helps sick people", "fisher": "catches fish", "painter": "paints pictures",
        "tailor": "sews clothes", "builder": "builds houses", "singer": "sings songs",
        "driver": "drives a bus", "miller": "makes flour", "gardener": "waters flowers",
        "dentist": "looks after teeth"}


def _cycle(names):
    return dict(zip(names, names[1:] + names[:1]))


def _after(name, noun, names):
    """Days, months and seasons: what comes next."""
    return Relation(
        name, _cycle(names), "After {x} comes {y}.",
        ("What comes after {x}?", "Which %s comes after {x}?" % noun,
         "What %s comes after {x}?" % noun, "Which %s is after {x}?" % noun,
         "What is the %s after {x}?" % noun, "What is the next %s after {x}?" % noun,
         "What follows {x}?", "Which %s follows {x}?" % noun, "After {x} comes what?",
         "Tell me the %s after {x}." % noun, "Name the %s after {x}." % noun,
         "It is {x} now. Which %s comes next?" % noun),
        ("What is after {x}?", "What %s follows {x}?" % noun,
         "Tell me the next %s after {x}." % noun, "It is {x} now. What comes next?",
         "Tell me what comes after {x}."),
        yes_no="Does {y} come after {x}?", reverse=("What comes before {y}?",
                                                    "Which %s comes before {y}?" % noun))


RELATIONS = [
    Relation("eats", EATS, "{Ax} eats {y}.",
             ("What does {ax} eat?", "What do {xs} eat?", "What is the food of {ax}?",
              "What would you feed {ax}?", "What do you feed {ax}?", "What food does {ax} eat?",
              "Tell me what {ax} eats.", "Which food do {xs} like?", "What does {ax} like to eat?",
              "Name the food of {ax}.", "What can I give {ax} to eat?",
              "I have {ax}. What does it eat?"),
             ("What do {xs} like to eat?", "Tell me the food of {ax}.", "Which food does {ax} eat?",
              "What is it that {ax} eats?"),
             yes_no="Does {ax} eat {y}?", reverse=("Who eats {y}?", "Which animal eats {y}?")),
    Relation("lives", LIVES, "{Ax} lives {y}.",
             ("Where does {ax} live?", "Where do {xs} live?", "What is the home of {ax}?",
              "Where is the home of {ax}?", "Where can I find {ax}?", "Where would you find {ax}?",
              "Tell me where {ax} lives.", "In what place does {ax} live?",
              "Name the home of {ax}.", "Where does {ax} sleep?", "Where do {xs} have a home?",
              "I look for {ax}. Where does it live?"),
             ("Tell me where {xs} live.", "In what place do {xs} live?",
              "Tell me the home of {ax}.", "Where do I find {ax}?"),
             yes_no="Does {ax} live {y}?", reverse=("Who lives {y}?", "Which animal lives {y}?")),
    Relation("sound", SOUNDS, "{Ax} says {y}.",
             ("What does {ax} say?", "What do {xs} say?", "What sound does {ax} make?",
              "Which sound does {ax} make?", "What is the sound of {ax}?",
              "What noise does {ax} make?", "Tell me what {ax} says.", "How does {ax} sound?",
              "Name the sound of {ax}.", "What can I hear from {ax}?",
              "I hear {ax}. What does it say?", "What noise do {xs} make?"),
             ("Which noise does {ax} make?", "What sound do {xs} make?",
              "Tell me the sound of {ax}.", "What is the noise of {ax}?"),
             yes_no="Does {ax} say {y}?", reverse=("Who says {y}?", "Which animal says {y}?")),
    Relation("legs", LEGS, "{Ax} has {y} legs.",
             ("How many legs does {ax} have?", "How many legs do {xs} have?",
              "How many legs has {ax}?", "What number of legs does {ax} have?",
              "Tell me how many legs {ax} has.", "Count the legs of {ax}.",
              "How many legs can you see on {ax}?", "How many are the legs of {ax}?",
              "I see {ax}. How many legs does it have?", "Name the number of legs of {ax}."),
             ("Tell me the number of legs of {ax}.", "I have {ax}. How many legs does it have?",
              "What number of legs do {xs} have?", "What number of legs has {ax}?"),
             yes_no="Does {ax} have {y} legs?"),
    Relation("young", YOUNG, "A young {x} is called {ay}.",
             ("What is a young {x} called?", "What is a baby {x} called?",
              "What do you call a young {x}?", "What do you call a baby {x}?",
              "What is the young of {ax}?", "What is the child of {ax} called?",
              "Tell me what a young {x} is called.", "How do you call a young {x}?",
              "What is the name of a baby {x}?", "Name the young of {ax}.",
              "I see a baby {x}. What is it called?", "What do people call a young {x}?"),
             ("How do you call a baby {x}?", "Tell me what a baby {x} is called.",
              "What is the name of a young {x}?", "What do people call a baby {x}?"),
             yes_no="Is a young {x} called {ay}?",
             reverse=("What is the mother of {ay}?", "Which animal has {ay}?")),
    Relation("colour", COLOURS, "{X} is {y}.",
             ("What colour is {x}?", "Which colour is {x}?", "What is the colour of {x}?",
              "What colour does {x} have?", "Tell me the colour of {x}.",
              "Name the colour of {x}.", "I see {x}. What colour is it?",
              "In what colour would you paint {x}?", "{X} is what colour?",
              "Which colour does {x} have?", "What colour has {x}?"),
             ("Tell me what colour {x} is.", "What colour would you paint {x}?",
              "Which colour has {x}?", "I see {x}. Which colour is it?"),
             yes_no="Is {x} {y}?"),
    Relation("tool", TOOLS, "You use {ax} to {y}.",
             ("What is {ax} for?", "What do you use {ax} for?", "What can you do with {ax}?",
              "What does one do with {ax}?", "Why do people use {ax}?", "What do people do with {ax}?",
              "Tell me what {ax} is for.", "What are {xs} for?", "What can I do with {ax}?",
              "I have {ax}. What is it for?", "How do you use {ax}?",
              "What do I need {ax} for?"),
             ("What do you do with {ax}?", "What do people use {ax} for?",
              "Tell me what you do with {ax}.", "Why do you need {ax}?"),
             yes_no="Can you use {ax} to {y}?",
             reverse=("What do you use to {y}?", "What do you need to {y}?")),
    Relation("shop", SHOPS, "You can buy {x} at {y}.",
             ("Where can I buy {x}?", "Where can you buy {x}?", "Where do you buy {x}?",
              "Where do people buy {x}?", "Where can I get {x}?", "Who sells {x}?",
              "I want to buy {x}. Where can I go?", "I need {x}. Where can I buy it?",
              "Tell me where I can buy {x}.", "Which place sells {x}?",
              "In what place can I find {x}?", "Where would you buy {x}?"),
             ("Where do I buy {x}?", "Where can people get {x}?", "In what place can I buy {x}?",
              "I need {x}. Where can I go?", "Tell me which place sells {x}."),
             yes_no="Can I buy {x} at {y}?", reverse=("What can I buy at {y}?",)),
    Relation("opposite", OPPOSITES, "The opposite of {x} is {y}.",
             ("What is the opposite of {x}?", "What is the opposite word of {x}?",
              "Which word is the opposite of {x}?", "Tell me the opposite of {x}.",
              "Name the opposite of {x}.", "{X} is the opposite of what?",
              "What is not {x} but the opposite?", "Can you say the opposite of {x}?",
              "If it is not {x}, what is it?", "Say the opposite of {x}.",
              "I say {x}. What do you say?"),
             ("Tell me which word is the opposite of {x}.", "I say {x}. What is the opposite?",
              "What do you call the opposite of {x}?", "Name the opposite word of {x}."),
             yes_no="Is {y} the opposite of {x}?"),
    _after("day", "day", DAY_LIST),
    _after("month", "month", MONTH_LIST),
    _after("season", "season", SEASON_LIST),
    Relation("job", JOBS, "{Ax} {y}.",
             ("What does {ax} do?", "What do {xs} do?", "What is the work of {ax}?",
              "What is the job of {ax}?", "Tell me what {ax} does.", "What work does {ax} do?",
              "What does {ax} do all day?", "How does {ax} help people?",
              "I see {ax}. What does this person do?", "Name the work of {ax}.",
              "What job does {ax} have?", "Why do people need {ax}?"),
             ("What do {xs} do all day?", "Tell me the work of {ax}.", "What job does {ax} do?",
              "Why do people need {xs}?"),
             yes_no="", reverse=("Who {y}?", "Which person {y}?")),
    Relation("village home", village.HOUSES, "{x} lives in the {y} house.",
             ("Where does {x} live?", "In which house does {x} live?",
              "Which house does {x} live in?", "What is the house of {x}?",
              "Where is the home of {x}?", "Tell me where {x} lives.",
              "In what house does {x} live?", "What colour is the house of {x}?",
              "Which house is the home of {x}?", "Where can I find {x}?",
              "I look for {x}. Where is the house?", "Name the house of {x}."),
             ("Tell me the house of {x}.", "Where would you find {x}?",
              "What colour does the house of {x} have?", "I look for {x}. In which house is the home?"),
             yes_no="Does {x} live in the {y} house?"),
    Relation("village pet", village.PETS, "{x} has {ay}.",
             ("What pet does {x} have?", "Which pet does {x} have?", "What is the pet of {x}?",
              "Which animal does {x} have?", "What animal lives with {x}?",
              "Tell me the pet of {x}.", "Name the pet of {x}.", "What pet lives in the house of {x}?",
              "What kind of pet does {x} have?", "What animal has {x}?",
              "I know {x}. Which pet lives there?", "Which animal lives with {x}?"),
             ("What pet lives with {x}?", "Which pet has {x}?", "What animal does {x} have?",
              "Tell me which pet {x} has."),
             yes_no="Does {x} have {ay}?"),
    Relation("village job", village.JOBS, "{x} is the {y}.",
             ("What does {x} do?", "What is the job of {x}?", "What is the work of {x}?",
              "What job does {x} have?", "Tell me the job of {x}.", "Name the job of {x}.",
              "Which job does {x} have?", "What work does {x} do?", "Who is {x}?",
              "I know {x}. What job is that?", "What does {x} do all day?",
              "Tell me what {x} does."),
             ("Tell me who {x} is.", "Which work does {x} do?", "What job does {x} do?",
              "Tell me the work of {x}."),
             yes_no="Is {x} the {y}?", reverse=("Who is the {y}?", "Who is the {y} of the village?")),
]


def slots(x, y):
    """The slots for the wordings of one fact."""
    upper = x[:1].upper() + x[1:]
    thing, result = a(x), a(y)
    return {"x": x, "X": upper, "xs": plural(x), "ax": thing, "Ax": thing[0].upper() + thing[1:],
            "y": y, "ay": result}


def answer_of(relation, x, y):
    return relation.answer.format(**slots(x, y))
