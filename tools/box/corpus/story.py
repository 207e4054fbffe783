"""Stories: a cast, a plot, an opening and an ending, put together and kept to length."""

from typing import NamedTuple

from . import plots_friends, plots_learn, plots_lost, plots_out
from .people import ELDERS, Character, a_child, a_friend, an_animal
from .plot import Plot
from .scene import Scene

PLOTS = plots_lost.PLOTS + plots_learn.PLOTS + plots_friends.PLOTS + plots_out.PLOTS
SHORTEST, LONGEST = 90, 190

ONCE = (
    "Once upon a time, there was {a:intro} named {hero}. {Hero} lived {home}.",
    "Once upon a time, there was {a:intro} named {hero}.",
    "Once upon a time, {a:intro} named {hero} lived {home}.",
    "Once upon a time, there lived {a:intro} named {hero}. {He} was {nice} and {nice2}.",
    "Once upon a time, in a small village, there was {a:intro} named {hero}.",
)
OTHER = (
    "There was once {a:intro} named {hero}. {Hero} lived {home}.",
    "There was {a:intro} named {hero}. {He} was {nice} and {nice2}.",
    "{A:intro} named {hero} lived {home}.",
    "{Hero} was {a:intro}. {He} lived {home}.",
    "{Hero} was {a:intro}. Everybody liked {him}, because {he} was {nice}.",
    "Long ago, there lived {a:intro} named {hero}.",
    "In a [small|little|quiet] village there lived {a:intro} named {hero}.",
    "Some time ago, there was {a:intro} named {hero}. {Hero} lived {home}.",
    "Not far from here, there lived {a:intro} named {hero}.",
)
KNOWN = (
    "{His} best friend was {friend_long}.",
    "{Hero} had a good friend, {friend_long}.",
    "[Every day|Often] {hero} played with {friend_long}.",
)




class Story(NamedTuple):
    text: str
    hero: Character
    plot: Plot


def _cast(scene, hero):
    """Settle the slots of the hero, the friend and the elder."""
    rng = scene.rng
    friend = a_friend(rng, hero)
    trait, other = rng.sample(scene.slots["nice"], 2)
    species = "" if friend.human else " the " + friend.kind
    scene.settle(
        nice=trait, nice2=other, elder=rng.choice(ELDERS), hero=hero.name, friend=friend.name,
        intro=rng.choice(scene.slots["little"]) + " " + hero.kind,
        friend_long="a %s named %s" % (friend.kind, friend.name),
        friend_full="%s friend %s%s" % (hero.slots()["his"], friend.name, species),
        **hero.slots(), **friend.slots("f"))


def _open(scene, plot):
    """The opening, and sometimes the friend at once."""
    rng = scene.rng
    scene.tell(rng.choice(ONCE if rng.random() < 0.45 else OTHER))
    if rng.random() < 0.3 and not plot.friend_is_new:
        scene.tell(rng.choice(KNOWN))
        scene.settle(friend_full=scene.slots["friend"])


def _one(rng, plot, hero):
    scene = Scene(rng)
    _cast(scene, hero)
    for name, options in plot.slots.items():
        scene.choose(name, options)
    _open(scene, plot)
    for line in plot.lines:
        scene.tell(line)
    return scene.text()


def plots_for(hero):
    """The plots in which this hero may play."""
    return [plot for plot in PLOTS if plot.cast == "any" or (plot.cast == "child") == hero.human]


def make_story(rng, hero=None, plot=None):
    """A story of the wanted hero and plot, or of any, within the length limits."""
    if hero is None:
        wants_child = plot is not None and plot.cast == "child"
        hero = a_child(rng) if wants_child or rng.random() < 0.55 else an_animal(rng)
    if plot is None:
        plot = rng.choice(plots_for(hero))
    while True:
        text = _one(rng, plot, hero)
        if SHORTEST <= len(text.split()) <= LONGEST:
            return Story(text, hero, plot)
