"""Problems of a story in free text: names, pronouns, tense, agreement, words, quotes, sentences.

`check_story(text)` gives a list of problems, empty for a sound story. It knows the words of the
world and no template, so it judges what a model wrote. `python -m corpus.check FILE` reports on
the "text" of every line of a JSON lines file.
"""

import json
import re
import sys
from collections import Counter

from .facts import DAY_LIST, MONTH_LIST
from .grammar import BASES, OPENS_BASE, PLURALS, PRESENT, SINGULARS
from .people import GENDER, HE_NOUNS, KINDS, SHE_NOUNS
from .village import VILLAGE
from .vocabulary import known_words, plain

SHORTEST = 60
REACH = 7  # sentences back in which a pronoun must find its gender
PROPER = frozenset(GENDER) | frozenset(DAY_LIST) | frozenset(MONTH_LIST) | {"I", VILLAGE}
PRONOUNS = {"he": "he", "him": "he", "his": "he", "himself": "he",
            "she": "she", "her": "she", "hers": "she", "herself": "she"}
_TOKEN = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|[0-9]+|[^\sA-Za-z0-9]")
_ODD = re.compile(r"[^A-Za-z0-9 .,!?'\":\-\n]")


class Word:
    """A word with its place: sentence number, in a quote or not, at a start or not."""

    def __init__(self, text, sentence, quoted, start, previous):
        self.text = plain(text)
        self.lower = self.text.lower()
        self.sentence = sentence
        self.quoted = quoted
        self.start = start
        self.previous = previous  # the token just before, a mark or a word

    @property
    def name(self):
        return self.text if self.text in GENDER else None


def _words(text):
    """All words, and problems of sentence starts and quotes met on the way."""
    words, problems = [], []
    sentence, quoted, start, must_capital, previous = 0, False, True, True, ""
    for token in _TOKEN.findall(text):
        if token == '"':
            if not quoted:
                start, must_capital = True, previous not in (",", "")
            elif previous in (".", "!", "?"):
                must_capital = False
            elif previous != ",":
                problems.append("quote closes without a mark")
            quoted = not quoted
        elif token in (".", "!", "?"):
            if not start or token == previous:
                sentence += 1
            start = must_capital = True
        elif token[0].isalnum():
            if start and must_capital and token[0].islower():
                problems.append("sentence starts small: " + token)
            words.append(Word(token, sentence, quoted, start, previous))
            start = must_capital = False
        if token == "," and not quoted:
            start = must_capital = False
        if token == '"' and not quoted and previous == ",":
            start = must_capital = False
        previous = token
    if quoted:
        problems.append("unbalanced quote")
    return words, problems


def _check_words(words):
    for word in words:
        if word.text[0].isdigit() or word.text in PROPER:
            continue
        if word.lower not in known_words():
            yield "unknown word: " + word.text
        elif word.text[0].isupper() and not word.start:
            yield "capital in mid-sentence: " + word.text


def _check_names(words):
    met = [word for word in words if word.name]
    if not met:
        yield "no named character"
        return
    counts = Counter(word.name for word in met)
    if counts[met[0].name] < 2:
        yield "first character is not named again: " + met[0].name
    last = words[-1].sentence
    for name in counts:
        if all(word.sentence == last for word in met if word.name == name):
            yield "name comes first in the last sentence: " + name
    for word, after in zip(words, words[1:]):
        if word.lower == "named" and after.name is None:
            yield "named, but no name: " + after.text


def _check_introduced(words):
    """`a boy named Mia`: the kind and the name must be of one gender; a name has one kind."""
    for at in range(len(words) - 2):
        noun, named, name = words[at:at + 3]
        if named.lower == "named" and name.name:
            gender = _gender(noun)
            if gender and gender != GENDER[name.name]:
                yield "%s named %s" % (noun.text, name.text)
    kinds = {}
    for at in range(len(words) - 2):
        first, middle, last = words[at:at + 3]
        if middle.lower == "named" and last.name:
            kind, name = first.lower, last.name
        elif first.name and middle.lower == "the" and middle.previous == first.text \
                and last.lower in KINDS and last.previous == middle.text:
            kind, name = last.lower, first.name
        else:
            continue
        if kinds.setdefault(name, kind) != kind:
            yield "%s is a %s and a %s" % (name, kinds[name], kind)


def _gender(word):
    if word.name:
        return GENDER[word.name]
    if word.lower in HE_NOUNS:
        return "he"
    return "she" if word.lower in SHE_NOUNS else None


def _check_pronouns(words):
    """Outside of quotes a pronoun needs somebody of its gender a few sentences back at most."""
    seen = {"he": None, "she": None}
    for word in words:
        gender = PRONOUNS.get(word.lower)
        if gender and not word.quoted:
            if seen[gender] is None or word.sentence - seen[gender] > REACH:
                yield "pronoun of nobody: " + word.text
            seen[gender] = word.sentence
        elif _gender(word):
            seen[_gender(word)] = word.sentence


def _adjacent(first, second):
    return plain(second.previous) == first.text and first.quoted == second.quoted


def _check_articles(words):
    for first, second in zip(words, words[1:]):
        if first.lower in ("a", "an") and _adjacent(first, second):
            vowel = second.lower[0] in "aeiou" and not second.lower.startswith(("one", "use"))
            if vowel != (first.lower == "an"):
                yield "%s %s" % (first.text, second.text)


def _check_agreement(words):
    for at in range(1, len(words)):
        subject, verb = words[at - 1], words[at]
        if verb.lower not in ("was", "were") or not _adjacent(subject, verb):
            continue
        before = {word.lower for word in words[max(0, at - 12):at - 1]
                  if word.sentence == verb.sentence}
        if verb.lower == "was" and subject.lower in PLURALS and not before & {"of", "with", "one"}:
            yield "%s was" % subject.text
        single = subject.lower in SINGULARS or subject.name
        if verb.lower == "were" and single and not before & {"and", "if", "or"}:
            yield "%s were" % subject.text


def _check_tense(words):
    for at, word in enumerate(words):
        if word.quoted:
            continue
        if word.lower in PRESENT:
            yield "present tense: " + word.text
        elif word.lower in BASES and at and _adjacent(words[at - 1], word):
            subject = words[at - 1]
            opened = any(other.lower in OPENS_BASE and other.sentence == word.sentence
                         for other in words[max(0, at - 4):at - 1])
            if (subject.name or subject.lower in ("he", "she", "it", "they", "we")) and not opened:
                yield "present tense: %s %s" % (subject.text, word.text)


def _check_repeats(text):
    sentences = re.findall(r"[^.!?]+[.!?]", text.replace('"', ""))
    counts = Counter(" ".join(sentence.split()).lower() for sentence in sentences)
    for sentence, count in counts.items():
        if count > 1 and len(sentence.split()) >= 4:
            yield "repeated: " + sentence


def check_story(text):
    """The problems of a story, each as a short line; empty when it is sound."""
    text = text.strip()
    words, problems = _words(text)
    if len(words) < SHORTEST:
        problems.append("too short: %d words" % len(words))
    if not re.search(r'[.!?]"?$', text):
        problems.append("does not end with a mark")
    if _ODD.search(text):
        problems.append("odd character: " + _ODD.search(text).group())
    if not words:
        return problems
    for part in (_check_words, _check_names, _check_introduced, _check_pronouns,
                 _check_articles, _check_agreement, _check_tense):
        problems.extend(part(words))
    problems.extend(_check_repeats(text))
    return problems


def main(path):
    with open(path, encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if "text" in row]
    bad, kinds = 0, Counter()
    for row in rows:
        problems = check_story(row["text"])
        bad += bool(problems)
        kinds.update(problem.split(":")[0] for problem in problems)
        for problem in problems:
            print(problem, "|", row["text"][:70])
    print("%d stories, %d with problems, %s" % (len(rows), bad, dict(kinds.most_common())))


if __name__ == "__main__":
    main(sys.argv[1])
