"""Tests of the corpus: same seed same bytes, nothing held out leaks, the checks pass and fail."""

import itertools
import json
import random
import re
import unittest
from collections import Counter

from . import asking, people, sums
from .__main__ import build
from .check import check_story
from .facts import RELATIONS
from .story import PLOTS, make_story
from .vocabulary import known_words, words_of
from .words import NUMBERS

SOUND = (
    'Once upon a time, there was a little girl named Lily. Lily lived near the forest. She had a '
    'red ball. She loved it very much. One day, Lily went to the park with the ball. But when it '
    'was time to go home, the ball was gone. Lily was sad. "Where is my red ball?" she asked. '
    'Then Lily looked under a bush. There was the red ball! Lily jumped with joy. She ate an '
    'apple and went home. The apples were sweet. From that day on, Lily always looked after the '
    'ball.')
VALUE = {word: number for number, word in enumerate(NUMBERS)}


def _number(word):
    return VALUE[word] if word in VALUE else int(word)


class CorpusTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = build(1, 3000, 30000)
        cls.train = [json.loads(line) for line in cls.files["train.jsonl"]]
        cls.facts = [json.loads(line) for line in cls.files["facts.jsonl"]]
        cls.asked = [turn["content"] for row in cls.train for turn in row.get("turns", ())
                     if turn["role"] == "user"]

    def texts(self):
        for row in self.train:
            yield row["text"] if "text" in row else " ".join(
                turn["content"] for turn in row["turns"])

    def test_same_seed_same_bytes(self):
        self.assertEqual(build(3, 200, 400), build(3, 200, 400))
        self.assertNotEqual(build(3, 200, 400)["train.jsonl"], build(4, 200, 400)["train.jsonl"])

    def test_held_texts_and_wordings_are_not_trained(self):
        self.assertFalse(set(self.files["held.jsonl"]) & set(self.files["train.jsonl"]))
        held = [row["question"] for row in self.facts]
        self.assertFalse(set(held) & set(self.asked))
        cores = [core for relation in RELATIONS for core in relation.cores]
        for relation in RELATIONS:
            self.assertGreaterEqual(len(relation.cores), 10, relation.name)
            self.assertGreaterEqual(len(relation.held), 3, relation.name)
            self.assertFalse(set(relation.held) & set(relation.cores), relation.name)
            shared = set(relation.held) & set(cores)
            self.assertFalse({core for core in shared if "{x}" not in core}, relation.name)

    def test_held_words_are_trained(self):
        trained = set().union(*map(words_of, self.asked))
        for row in self.facts:
            self.assertLessEqual(words_of(row["question"]), trained, row)

    def test_every_fact_is_asked_and_answered_often(self):
        answers = Counter(turn["content"] for row in self.train for turn in row.get("turns", ()))
        for relation, x, y in asking.all_facts():
            self.assertGreater(answers[asking.answer_of(relation, x, y)], 30, (relation.name, x))

    def test_answers_hold_what_facts_accept(self):
        said = {asking.fact_id(relation, x): asking.answer_of(relation, x, y)
                for relation, x, y in asking.all_facts()}
        for row in self.facts:
            self.assertTrue(all(text in said[row["fact"]].lower() for text in row["answers"]), row)

    def test_held_sums_are_not_trained(self):
        self.assertTrue(25 <= len(sums.HELD) <= 35, len(sums.HELD))
        number = r"\b([0-9]+|%s)\b" % "|".join(NUMBERS)
        patterns = [number + r" (?:plus|and|\+) " + number,
                    r"(?:have|has|are|me|see) %s \w+ .{0,20}?%s (?:more|\w+ there)"
                    % (number, number), r"Count %s more from %s" % (number, number)]
        for text in self.texts():
            for pattern in patterns:
                for first, second in re.findall(pattern, text):
                    self.assertFalse(sums.is_held(_number(first), _number(second)), text)

    def test_texts_are_plain(self):
        for text in self.texts():
            self.assertRegex(text, r"\A[A-Za-z0-9 .,!?'\":+=-]+\Z")
            self.assertLessEqual(words_of(text), known_words(), text)
        self.assertLess(len(known_words()), 1600)

    def test_generated_stories_pass(self):
        for row in self.train:
            if row["kind"] == "story":
                self.assertEqual(check_story(row["text"]), [], row["text"])
                self.assertTrue(90 <= len(row["text"].split()) <= 190)

    def test_story_has_the_wanted_hero_and_plot(self):
        rng = random.Random(1)
        for kind, plot in itertools.product(("fox", "bear"), PLOTS):
            if plot.cast != "child":
                story = make_story(rng, people.an_animal(rng, kind=kind), plot)
                self.assertIn(kind, story.text.split("named")[0])


class DamageTest(unittest.TestCase):
    def assert_found(self, damaged, problem):
        self.assertNotEqual(damaged, SOUND)
        found = check_story(damaged)
        self.assertTrue(any(problem in line for line in found), found)

    def test_sound_story_passes(self):
        self.assertEqual(check_story(SOUND), [])

    def test_damage_is_found(self):
        for old, new, problem in (
                ("an apple", "a apple", "a apple"),
                ("a red ball. She", "an red ball. She", "an red"),
                ("Lily was sad", "They was sad", "they was".capitalize()),
                ("The apples were", "The apples was", "apples was"),
                ("the ball was gone", "the ball were gone", "ball were"),
                ("She loved it", "He loved it", "pronoun of nobody: He"),
                ("girl named", "boy named", "boy named Lily"),
                ("She loved it", "She wants it", "present tense"),
                ("Then Lily looked", "Then Lily look", "present tense"),
                ("Lily was sad", "Lily is sad", "present tense"),
                ("under a bush", "under a zebra", "unknown word"),
                ("with the ball", "with the Ball", "capital in mid-sentence"),
                ('ball?" she', "ball? she", "unbalanced quote"),
                ("Then Lily", "then Lily", "sentence starts small"),
                ("Lily always looked after", "Ben always looked after", "last sentence: Ben"),
                ("She had a red ball.", "She had a red ball. She had a red ball.", "repeated"),
                ("the ball.", "the ball", "does not end")):
            at = SOUND.rfind(old)
            self.assert_found(SOUND[:at] + new + SOUND[at + len(old):], problem)

    def test_swapped_name_is_found(self):
        self.assert_found(SOUND.replace("Lily", "Mia", 1).replace("Lily", "Ben"), "not named again")

    def test_no_name_and_short_are_found(self):
        self.assert_found(SOUND.replace("named Lily", "").replace("Lily", "The girl"), "no named")
        self.assert_found(SOUND[:100], "too short")


if __name__ == "__main__":
    unittest.main()
