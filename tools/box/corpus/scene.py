"""The template language of the stories and its state.

`[one|two|]` is a choice (an empty branch says nothing), `{slot}` a slot, `{Slot}` the slot with a
capital, `{a:slot}` the slot with its article. A slot that holds a tuple is chosen afresh each time.
"""

import functools
import re

from .words import MOODS, a

_MARKS = re.compile(r"([\[\]|{}])")


@functools.lru_cache(maxsize=None)
def _parsed(template):
    """The template as a sequence of text, ("slot", name) and ("choice", branches)."""
    pieces = [piece for piece in _MARKS.split(template) if piece]
    sequence, at = _sequence(pieces, 0)
    if at != len(pieces):
        raise ValueError("unbalanced template: " + template)
    return sequence


def _sequence(pieces, at):
    sequence = []
    while at < len(pieces) and pieces[at] not in "]|":
        if pieces[at] == "{":
            sequence.append(("slot", pieces[at + 1]))
            at += 3
        elif pieces[at] == "[":
            branches = []
            while True:
                branch, at = _sequence(pieces, at + 1)
                branches.append(branch)
                if pieces[at] == "]":
                    break
            sequence.append(("choice", branches))
            at += 1
        else:
            sequence.append(pieces[at])
            at += 1
    return sequence, at


def capital(text):
    return text[:1].upper() + text[1:]


def _slot(name, slots, rng):
    if name.startswith(("a:", "A:")):
        phrase = a(_slot(name[2:], slots, rng))
        return capital(phrase) if name[0] == "A" else phrase
    if name in slots:
        value = slots[name]
        return rng.choice(value) if isinstance(value, tuple) else value
    return capital(_slot(name[0].lower() + name[1:], slots, rng))


def _write(sequence, slots, rng):
    out = []
    for piece in sequence:
        if isinstance(piece, str):
            out.append(piece)
        elif piece[0] == "slot":
            out.append(_slot(piece[1], slots, rng))
        else:
            out.append(_write(rng.choice(piece[1]), slots, rng))
    return "".join(out)


def expand(template, slots, rng):
    """One reading of the template, its spaces tidied."""
    text = re.sub(r" +", " ", _write(_parsed(template), slots, rng)).strip()
    return re.sub(r" ([.,!?])", r"\1", text)


class Scene:
    """A story in the making: the slots that are settled and the sentences so far."""

    def __init__(self, rng):
        self.rng = rng
        self.slots = dict(MOODS)
        self.lines = []

    def settle(self, **slots):
        self.slots.update(slots)

    def choose(self, name, options):
        """Settle a slot by one of the options: text, a dict of slots, or a function of rng."""
        value = options(self.rng) if callable(options) else self.rng.choice(options)
        if isinstance(value, dict):
            self.slots.update(value)
        else:
            self.slots[name] = value

    def tell(self, line):
        """Add a line: text, text after `?` (sometimes left out), or branches of lines."""
        if isinstance(line, tuple):
            for part in self.rng.choice(line):
                self.tell(part)
        elif line.startswith("?"):
            if self.rng.random() < 0.35:
                self.tell(line[1:])
        else:
            text = expand(line, self.slots, self.rng)
            if text:
                self.lines.append(capital(text))

    def text(self):
        return " ".join(self.lines)
