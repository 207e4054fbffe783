"""Reads what the corpus generator writes: JSON lines."""

import json


def documents(path):
    with open(path) as lines:
        yield from map(json.loads, lines)
