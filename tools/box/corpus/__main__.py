"""Write the corpus: `python -m corpus --seed 1 --out DIR`."""

import argparse
import json
import pathlib
import random

from . import asking, sums
from .story import make_story
from .talk import make_chat

HELD_SHARE = 400
# Short chats (a greeting, one plain question) are never held: train must have all of them.
HELD_SHORTEST = 220


def story_line(rng):
    return json.dumps({"kind": "story", "text": make_story(rng).text})


def chat_line(rng):
    return json.dumps({"kind": "chat", "turns": make_chat(rng)})


def _lines(rng, make, count, wanted):
    """`count` lines that are `wanted`."""
    lines = []
    while len(lines) < count:
        line = make(rng)
        if wanted(line):
            lines.append(line)
    return lines


def build(seed, stories, chats):
    """The lines of every file by name. Held texts are made first and never trained."""
    files = {}
    rng = random.Random("held %d" % seed)
    rows = _lines(rng, story_line, HELD_SHARE, lambda line: True)
    rows += _lines(rng, chat_line, HELD_SHARE, lambda line: len(line) > HELD_SHORTEST)
    files["held.jsonl"] = rows
    held = frozenset(rows)
    rng = random.Random("train %d" % seed)
    train = _lines(rng, story_line, stories, lambda line: line not in held)
    train += _lines(rng, chat_line, chats, lambda line: line not in held)
    rng.shuffle(train)
    files["train.jsonl"] = train
    rng = random.Random("facts %d" % seed)
    files["facts.jsonl"] = [json.dumps(row) for row in asking.held_questions(rng)]
    files["sums.jsonl"] = [json.dumps(row) for row in sums.held_questions()]
    return files


def main():
    parser = argparse.ArgumentParser(prog="corpus", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--stories", type=int, default=10000)
    parser.add_argument("--chats", type=int, default=60000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, lines in build(given.seed, given.stories, given.chats).items():
        (given.out / name).write_text("\n".join(lines) + "\n", encoding="ascii")
        print("%s: %d lines" % (name, len(lines)))


if __name__ == "__main__":
    main()
