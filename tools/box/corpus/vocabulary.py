"""The words of the world, kept in vocabulary.txt; `python -m corpus.vocabulary` writes it anew."""

import functools
import json
import pathlib
import random
import re

from .people import GENDER

FILE = pathlib.Path(__file__).with_name("vocabulary.txt")
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


def plain(word):
    """The word without a possessive ending."""
    return word[:-2] if word.endswith("'s") else word


def words_of(text):
    """The words of a text in lower case, names left out."""
    found = (plain(word) for word in WORD.findall(text))
    return {word.lower() for word in found if word not in GENDER}


@functools.lru_cache(maxsize=None)
def known_words():
    return frozenset(FILE.read_text(encoding="ascii").split())


def main():
    from .__main__ import chat_line, story_line
    rng = random.Random("vocabulary")
    found = set()
    for make, count in ((story_line, 20000), (chat_line, 60000)):
        for _ in range(count):
            row = json.loads(make(rng))
            texts = [row["text"]] if "text" in row else [turn["content"] for turn in row["turns"]]
            for text in texts:
                found |= words_of(text)
    FILE.write_text("\n".join(sorted(found)) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
