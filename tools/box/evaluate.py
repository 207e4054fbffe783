"""Measures what a model of the box knows, by asking the engine that runs it.

    python evaluate.py box:llama --corpus build/corpus --quipu ../../target/release/quipu

Facts in wordings that were held out of training, sums of held-out pairs (both in chat, at temperature 0), and stories
held to the generator's own checks.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path

from corpus.check import check_story
from documents import documents


def ask(quipu, model, question):
    """The answer of a fresh conversation."""
    command = [quipu, "chat", "-m", model, "-p", question, "--no-escape", "-st", "--temp", "0", "--json", "-t", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["content"]


def knows(answer, accepted):
    """Whether one of the accepted phrases stands in the answer, as whole words."""
    return any(re.search(rf"\b{re.escape(a)}\b", answer.lower()) for a in accepted)


def facts(quipu, model, path):
    for line in documents(path):
        answer = ask(quipu, model, line["question"])
        yield line["question"], answer, knows(answer, line["answers"])


def sums(quipu, model, path):
    for line in documents(path):
        answer = ask(quipu, model, line["question"])
        numbers = re.findall(r"\d+", answer)
        yield line["question"], answer, bool(numbers) and int(numbers[-1]) == line["answer"]


def stories(quipu, model, count, temperature):
    prompt = "Once upon a time"
    for seed in range(count):
        command = [quipu, "run", "-m", model, "-p", prompt, "--temp", str(temperature), "-s", str(seed), "--json", "-t", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        text = prompt + json.loads(done.stdout)["text"]
        problems = check_story(text)
        yield f"seed {seed}", f"{text}\n    {problems}" if problems else text, not problems


def tell(name, results, show):
    results = list(results)
    good = sum(ok for *_, ok in results)
    print(f"{name}: {good} of {len(results)}, {100 * good / len(results):.1f} %")
    for question, answer, ok in results:
        if show == "all" or (show == "wrong" and not ok):
            print(f"  {'ok ' if ok else 'NOT'} {question} | {answer}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a file, or box:NAME")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--quipu", required=True)
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--show", choices=("none", "wrong", "all"), default="wrong")
    args = parser.parse_args()
    tell("facts", facts(args.quipu, args.model, args.corpus / "facts.jsonl"), args.show)
    tell("sums", sums(args.quipu, args.model, args.corpus / "sums.jsonl"), args.show)
    tell("stories", stories(args.quipu, args.model, args.stories, args.temperature), args.show)


if __name__ == "__main__":
    main()
