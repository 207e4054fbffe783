"""The characters: children, animals that talk, grown-ups and villagers, with their pronouns."""

GIRLS = ("Lily Mia Anna Emma Nora Ella Lucy Ruth Sara Zoe "
         "Kate Jane Amy Eva Molly Tina Nina Clara Maya Betty").split()
BOYS = ("Tom Ben Sam Max Leo Jack Tim Noah Finn Adam "
        "Paul Peter Oscar Hugo Felix Luke Toby Henry David Eric").split()
SHE_ANIMALS = "Lulu Tilly Coco Mimi Fifi Bella Tota Zuzu".split()
HE_ANIMALS = "Pip Bobo Otto Momo Kiko Rufus Bimbo Tuto".split()
KINDS = "fox rabbit bear mouse duck cat dog frog squirrel hedgehog pig goat".split()

# The villagers of the invented village (see village.py). No story uses these names.
SHE_VILLAGERS = "Mira Petra Greta Olga Hanna Rosa Ida Freya Tessa Berta".split()
HE_VILLAGERS = "Jonas Anton Viktor Emil Karl Stefan Marco Rolf Ivan Nils".split()

SHE_NAMES = GIRLS + SHE_ANIMALS
HE_NAMES = BOYS + HE_ANIMALS
GENDER = {name: "she" for name in SHE_NAMES + SHE_VILLAGERS}
GENDER.update({name: "he" for name in HE_NAMES + HE_VILLAGERS})

# Nouns for people that a pronoun may stand for.
SHE_NOUNS = frozenset("mother grandmother aunt sister woman girl queen lady girls".split())
HE_NOUNS = frozenset("father grandfather uncle brother man boy king boys snowman".split())

FORMS = {
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
}

ELDERS = ("mother", "father", "grandmother", "grandfather", "aunt", "uncle")


class Character:
    """One named character: `kind` is boy, girl or an animal."""

    def __init__(self, name, kind, gender):
        self.name = name
        self.kind = kind
        self.gender = gender

    @property
    def human(self):
        return self.kind in ("boy", "girl")

    def slots(self, prefix=""):
        """The template slots for this character: name, he, him, his, himself with a prefix."""
        found = {prefix + form: word for form, word in FORMS[self.gender].items()}
        found[prefix + "kind"] = self.kind
        return found


def a_child(rng, gender=None):
    gender = gender or rng.choice(("he", "she"))
    if gender == "she":
        return Character(rng.choice(GIRLS), "girl", "she")
    return Character(rng.choice(BOYS), "boy", "he")


def an_animal(rng, kind=None, gender=None):
    gender = gender or rng.choice(("he", "she"))
    names = SHE_ANIMALS if gender == "she" else HE_ANIMALS
    return Character(rng.choice(names), kind or rng.choice(KINDS), gender)


def named(name, rng):
    """The character that has this name."""
    gender = GENDER[name]
    if name in GIRLS:
        return Character(name, "girl", gender)
    if name in BOYS:
        return Character(name, "boy", gender)
    return Character(name, rng.choice(KINDS), gender)


def a_friend(rng, hero):
    """A friend of the hero: mostly of the other gender, so that pronouns stay clear."""
    other = {"he": "she", "she": "he"}[hero.gender]
    while True:
        gender = other if rng.random() < 0.8 else hero.gender
        friend = a_child(rng, gender) if hero.human else an_animal(rng, gender=gender)
        if friend.name != hero.name and (hero.human or friend.kind != hero.kind):
            return friend
