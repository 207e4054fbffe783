"""Makes ids of the corpus: renders conversations with a model's template, tokenises with quipu, weighs tokens.

    python prepare.py box-llama --corpus build/corpus --vocab build --quipu ../../target/release/quipu --out build/box-llama

Stories count whole; of a conversation the answers count, and a little the questions.
"""

import argparse
import json
import subprocess
from pathlib import Path

import jinja2
import numpy as np

from documents import documents
from models import MODELS

QUESTION_WEIGHT = 0.1


class Ids:
    """Texts to ids by the engine that will run them."""

    def __init__(self, quipu, vocab):
        self.command = [quipu, "tokenize", "-m", str(vocab), "--lines-json", "--parse-special", "--no-bos"]

    def all(self, texts):
        lines = "".join(json.dumps(t) + "\n" for t in texts)
        done = subprocess.run(self.command, input=lines, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]


def renderer(model):
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.globals["raise_exception"] = lambda m: (_ for _ in ()).throw(ValueError(m))
    template = env.from_string(model.template)
    marks = {"llama": ("<s>", "</s>"), "qwen2": ("", "<|im_end|>"), "phi3": ("<s>", "<|end|>")}[model.arch]
    return lambda turns, answer: template.render(
        messages=turns, add_generation_prompt=answer, bos_token=marks[0], eos_token=marks[1]
    )


def rows(model, docs, ids):
    """Ids and weights of every document: a conversation in pieces that end where an answer begins or ends."""
    render = renderer(model)
    story_bos = {"llama": "<s>", "qwen2": "<|endoftext|>", "phi3": "<s>"}[model.arch]
    story_end = {"llama": "</s>", "qwen2": "<|endoftext|>", "phi3": "<|endoftext|>"}[model.arch]
    prefix = "" if model.arch == "qwen2" else story_bos
    texts, cuts = [], []
    for d in docs:
        if d["kind"] == "story":
            texts.append(prefix + d["text"] + story_end)
            cuts.append(None)
            continue
        turns = d["turns"]
        whole = render(turns, False)
        ends = []
        for i, turn in enumerate(turns):
            if turn["role"] == "assistant":
                begin = render(turns[:i], True)
                end = render(turns[: i + 1], False)
                assert whole.startswith(begin) and whole.startswith(end), (begin, whole)
                ends += [len(begin), len(end)]
        # Phi-3's template leaves BOS to the tokenizer.
        lead = "<s>" if model.arch == "phi3" else ""
        texts.append(lead + whole)
        cuts.append([(len(lead) + a, len(lead) + b) for a, b in zip(ends[::2], ends[1::2])])
    whole_ids = ids.all(texts)
    # Where answers begin and end, in ids: a beginning of a text has the beginning of its ids, up to its last token.
    parts = [t[:at] for t, c in zip(texts, cuts) if c for pair in c for at in pair]
    lengths = iter([len(p) for p in ids.all(parts)])
    out = []
    for tokens, cut in zip(whole_ids, cuts):
        weights = np.ones(len(tokens), np.float32)
        if cut:
            weights[:] = QUESTION_WEIGHT
            for _ in cut:
                begin, end = next(lengths), next(lengths)
                weights[begin:end] = 1.0
        out.append((tokens, weights))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--vocab", type=Path, required=True, help="folder that vocab.py filled")
    parser.add_argument("--quipu", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = MODELS[args.model]
    args.out.mkdir(parents=True, exist_ok=True)
    ids = Ids(args.quipu, args.vocab / f"{model.name}-vocab.gguf")
    for part in ("train", "held"):
        found = rows(model, list(documents(args.corpus / f"{part}.jsonl")), ids)
        starts = np.cumsum([0] + [len(t) for t, _ in found])
        tokens = np.concatenate([np.asarray(t, np.int32) for t, _ in found])
        weights = np.concatenate([w for _, w in found])
        np.savez(args.out / f"{part}.npz", ids=tokens, weights=weights, starts=starts)
        longest = int(np.max(np.diff(starts)))
        print(f"{part}: {len(found)} documents, {len(tokens)} ids, longest {longest}")


if __name__ == "__main__":
    main()
