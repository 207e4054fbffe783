"""Write the corpus: `python -m corpus --seed 1 --out DIR`."""

import argparse
import json
import pathlib
import random

from . import asking, sums
from .story import make_story
from .talk import make_chat

HELD_SHARE = 400


def _texts(rng, make, key, count, seen):
    """`count` different texts that `seen` does not hold yet, as JSON lines."""
    rows = []
    while len(rows) < count:
        value = make(rng)
        line = json.dumps({"kind": key, "text" if key == "story" else "turns": value})
        if seen is None or line not in seen:
            rows.append(line)
            if seen is not None:
                seen.add(line)
    return rows


def build(seed, stories, chats):
    """The lines of every file by name. Held texts are made first and never trained."""
    files = {}
    rng = random.Random("held %d" % seed)
    story_text = lambda source: make_story(source).text
    held = set()
    rows = _texts(rng, story_text, "story", HELD_SHARE, held)
    rows += _texts(rng, make_chat, "chat", HELD_SHARE, held)
    files["held.jsonl"] = rows
    rng = random.Random("train %d" % seed)
    train = []
    for make, key, count in ((story_text, "story", stories), (make_chat, "chat", chats)):
        made = 0
        while made < count:
            line = _texts(rng, make, key, 1, None)[0]
            if line not in held:
                train.append(line)
                made += 1
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
