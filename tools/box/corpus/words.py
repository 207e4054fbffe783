"""Word lists of the world: colours, toys, places, weather, numbers, and the choice of a or an."""

COLOURS = "red blue green yellow white black brown orange pink purple grey".split()
TOY_COLOURS = "red blue green yellow white orange pink purple".split()

NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen "
           "fourteen fifteen sixteen seventeen eighteen nineteen twenty").split()

TOYS = "ball kite car doll drum boat train whistle teddy rope wagon puppet".split()
FRUITS = ("apple", "pear", "plum", "orange", "cherry", "banana", "lemon", "peach")
FRUITS_MANY = {"apple": "apples", "pear": "pears", "plum": "plums", "orange": "oranges",
               "cherry": "cherries", "banana": "bananas", "lemon": "lemons", "peach": "peaches"}
THINGS_MANY = ("apples", "pears", "plums", "shells", "stones", "eggs", "nuts", "flowers",
               "buttons", "leaves", "coins", "beads", "stars", "cookies")

# Where a scene happens: the bare place, where one is, where one goes.
PLACES = [
    {"place": "the park", "at": "in the park", "to": "to the park"},
    {"place": "the garden", "at": "in the garden", "to": "to the garden"},
    {"place": "the forest", "at": "in the forest", "to": "to the forest"},
    {"place": "the field", "at": "in the field", "to": "to the field"},
    {"place": "the meadow", "at": "in the meadow", "to": "to the meadow"},
    {"place": "the beach", "at": "on the beach", "to": "to the beach"},
    {"place": "the hill", "at": "on the hill", "to": "up the hill"},
    {"place": "the river", "at": "by the river", "to": "to the river"},
    {"place": "the lake", "at": "by the lake", "to": "to the lake"},
    {"place": "the pond", "at": "by the pond", "to": "to the pond"},
]

HOMES = ("in a small house", "in a little white house", "near the forest", "by the river",
         "on a green hill", "in a quiet village", "next to a big garden", "near the lake",
         "in a warm little house", "in a house with a red roof", "at the end of a long road",
         "on a small farm")

WEATHER = ("sunny", "warm", "bright", "cold", "windy", "cloudy", "quiet", "fine")
TRAITS = ("kind", "clever", "curious", "cheerful", "gentle", "friendly", "busy", "happy")

# Slots that stand for a fresh choice each time they are used.
MOODS = {
    "happy": ("happy", "very happy", "glad", "so happy", "full of joy"),
    "sad": ("sad", "very sad", "upset", "unhappy"),
    "day": ("day", "morning", "afternoon"),
    "nice": TRAITS,
    "weather": WEATHER,
    "home": HOMES,
    "said": ("said", "said", "said", "called", "answered"),
    "little": ("little", "small", "young"),
    "thanks": ("Thank you", "Thank you", "Thank you so much", "Oh, thank you"),
    "soon": ("Soon", "After a while", "Before long", "Then"),
    "atlast": ("At last", "In the end", "After a long time"),
}


def article(phrase):
    """`a` or `an` as the sound of the phrase asks for; no word of the world is an exception."""
    return "an" if phrase[0].lower() in "aeiou" else "a"


def a(phrase):
    return article(phrase) + " " + phrase


def join_words(words):
    """`x`, `x and y`, `x, y and z`."""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
