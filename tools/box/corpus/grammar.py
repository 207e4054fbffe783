"""Word lists for the checks: verbs in their present forms, plural nouns, words around them."""

# Verbs whose base form is not also a past form, a noun or an adjective of the world.
BASES = frozenset("""
    ask bake be become begin blow break bring build buy call carry catch clap climb come cry dance
    do draw drink eat fall feel find fly forget get give go grow have hear hide hold hug jump keep
    kick know laugh learn like listen live look lose love make meet mend need nod open pick play
    pull push reach remember ride run say see sell send share shine shout sing sit sleep smell
    smile speak stand stay stop swim take talk taste teach tell think throw touch tie try turn
    wait wake walk want wash watch wave wear wish write
""".split())

# Third person forms that are also plural nouns of the world, so never counted as verbs.
_ALSO_NOUNS = frozenset("plays turns looks waves loves flies catches smiles".split())


def _third(base):
    if base.endswith(("s", "sh", "ch", "x", "o")):
        return base + "es"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + "s"


PRESENT = frozenset({_third(base) for base in BASES} - _ALSO_NOUNS
                    | set("is are am has does don't doesn't isn't can't will won't".split()))

# After these a name or pronoun may be followed by a base form: `let him go`, `could he do`.
OPENS_BASE = frozenset("""
    let made make helped help saw see heard hear watched watch did could would should must might
    to may can do does will
""".split())

PLURALS = frozenset("""
    apples pears plums oranges cherries bananas lemons peaches shells stones eggs nuts flowers
    buttons leaves coins beads stars cookies clouds boots branches children ducks friends games
    hands letters people pictures sticks socks songs stairs steps toys trees windows boys girls
    birds candles lamps books boards feet eyes carrots seeds lots boxes they we you
""".split())
SINGULARS = frozenset("""
    he she it i ball kite car doll drum boat train whistle teddy rope wagon puppet puppy key box
    chest drawer toy tooth cup bowl plate lamp clock cake seed bridge storm sun moon sky wind rain
    bird boy girl man woman mother father grandmother grandfather aunt uncle friend snowman hat
    nest lake river pond forest garden house door fox rabbit bear mouse cat dog frog squirrel
    hedgehog pig goat cow horse lamb calf foal kid duckling chick hen everybody nobody somebody
""".split())
