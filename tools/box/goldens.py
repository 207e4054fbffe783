"""Makes tests/data/box: what llama.cpp and PyTorch transformers say of the models in the box.

    python goldens.py --quipu ../../target/release/quipu --perplexity LLAMA_PERPLEXITY --corpus build/corpus

Wants the packages of tools/reference (and torch and transformers, in the same environment or in the one named by
--torch). Every model is looked at in F32, decoded from the file that is shipped: tensors of every layer and logits from
both engines, llama.cpp's greedy continuations and ids of held-out texts, and its perplexity of a held-out text in every
type and with every type of cache. For each model a trace of each engine and one JSON file.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reference"))

import jinja2
import llama_generate
import llama_trace
import llamacpp
import measure
import numpy as np

from documents import documents
from models import MODELS

PROMPTS = ("Once upon a time, there was a little", "One day, a small fox named Pip went to the")
TRACED = "Once upon a time, there was a small fox."
TRACED_TOKENS = 4
# What checkpoints look at, of the first layer and of all.
FIRST = "attn_norm Qcur_proj Kcur_proj Vcur Qcur Kcur kq kq_soft_max attn_out ffn_out l_out".split()
ALL = ("Kcur", "Vcur", "l_out")
TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs".split()
CACHES = (("f32", "f32"), ("f16", "f16"), ("q8_0", "q8_0"), ("q8_0", "q4_0"), ("q4_0", "q8_0"), ("q4_0", "q4_0"))
CONTEXT = 256
GREEDY = 80


def held_text(corpus):
    """Held-out stories, a few kilobytes."""
    stories = [d["text"] for d in documents(corpus / "held.jsonl") if d["kind"] == "story"]
    return "\n".join(stories[:16])


def quantise(quipu, source, target, kind):
    """A pure file of one type."""
    command = [quipu, "quantize", source, target, kind, "--allow-requantize", "--pure"]
    subprocess.run([*map(str, command)], check=True, capture_output=True)


def save(trace, path, facts):
    """Writes what is kept of a trace, with the facts a checkpoint asks for."""
    base = lambda n: n.rpartition("-")[0]
    names = [n for n in trace if base(n) in ALL or (n.endswith("-0") and base(n) in FIRST) or n == "result_output"]
    values = {n: np.ascontiguousarray(trace[n], np.float32) for n in names}
    measure.save(values, path, {k: facts[k] for k in ("engine", "tokens", "generated") if k in facts})


def torch_trace(python, model, tokens, folder):
    """The trace of transformers, made by an interpreter that has them."""
    out = folder / "torch.safetensors"
    script = HERE.parent / "reference" / "transformers_trace.py"
    ids = ",".join(map(str, tokens))
    subprocess.run([python, script, "-m", model, "--tokens", ids, "-n", "20", "-o", out], check=True, capture_output=True)
    return measure.load(out)


def perplexity(program, model, text, *more):
    """llama-perplexity's figure."""
    command = [program, "-m", model, "-f", text, "-c", str(CONTEXT), "-b", str(CONTEXT), "-t", "2", "--no-repack", *more]
    # Now and then it dies before its first figure.
    for _ in range(5):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
        if found:
            return float(found[1])
    raise SystemExit(f"no perplexity of {model}: {done.stderr[-800:]}")


def conversations(corpus, model):
    """Openings of held-out conversations, as the template makes them; the tokenizer adds the first token itself.

    Only what has one answer: in a story two names are often as good as each other, small models guess at yes or no, and
    which is ahead after activations were rounded to eight bits depends on the last bits of sums."""
    chats = [d["turns"] for d in documents(corpus / "held.jsonl") if d["kind"] == "chat" and d["turns"][0]["role"] == "user"]
    chats = [c for c in chats if not c[1]["content"].startswith(("Once upon a time", "Yes", "No"))]
    template = jinja2.Environment().from_string(model.template)
    return [template.render(messages=c[:1], add_generation_prompt=True, bos_token="", eos_token="") for c in chats[:20]]


def golden(args, model, folder):
    shipped = HERE.parents[1] / "box" / f"{model.name}.gguf"
    f32 = folder / "base.gguf"
    quantise(args.quipu, shipped, f32, "f32")
    text = folder / "held.txt"
    text.write_text(held_text(args.corpus))
    engine = llamacpp.Model(str(f32))
    tokens = engine.tokenize(TRACED)[:TRACED_TOKENS]
    theirs, facts = llama_trace.trace(str(f32), tokens=tokens)
    save(theirs, args.out / f"{model.name}.llama.cpp.safetensors", facts)
    values, facts = torch_trace(args.torch, f32, tokens, folder)
    save(values, args.out / f"{model.name}.transformers.safetensors", facts)
    greedy = []
    for prompt in PROMPTS:
        ids = engine.tokenize(prompt)
        out = llama_generate.greedy(engine, ids, GREEDY)
        greedy.append({"prompt": prompt, "ids": out, "text": b"".join(map(engine.piece, out)).decode()})
    lines = [t["content"] for d in list(documents(args.corpus / "held.jsonl"))[-40:] for t in d.get("turns", [])]
    texts = [{"text": line, "ids": engine.tokenize(line)} for line in lines[:30]]
    engine.close()
    engine = llamacpp.Model(str(shipped))
    answers = []
    for prompt in conversations(args.corpus, model):
        ids = engine.tokenize(prompt)
        out = llama_generate.greedy(engine, ids, GREEDY)
        answers.append({"prompt": ids, "text": b"".join(map(engine.piece, out)).decode()})
    engine.close()
    figures = {}
    for kind in TYPES:
        quantised = folder / f"{kind}.gguf"
        quantise(args.quipu, f32, quantised, kind)
        figures[kind] = perplexity(args.perplexity, quantised, text)
        print(f"{model.name} {kind}: perplexity {figures[kind]}", flush=True)
    caches = {}
    for k, v in CACHES:
        caches[f"{k}/{v}"] = perplexity(args.perplexity, f32, text, "-ctk", k, "-ctv", v, "-fa", "on")
        print(f"{model.name} cache of {k}/{v}: perplexity {caches[f'{k}/{v}']}", flush=True)
    facts = {
        "model": model.name,
        "engine": llamacpp.ENGINE,
        "greedy": greedy,
        "as_shipped": answers,
        "texts": texts,
        "context": CONTEXT,
        "perplexity": figures,
        "cache_perplexity": caches,
    }
    (args.out / f"{model.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    (args.out / "held.txt").write_text(text.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quipu", required=True)
    parser.add_argument("--perplexity", required=True, help="llama.cpp's llama-perplexity")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--torch", default=sys.executable, help="python with torch and transformers")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "tests" / "data" / "box")
    parser.add_argument("--only", choices=MODELS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for model in MODELS.values():
        if args.only in (None, model.name):
            with tempfile.TemporaryDirectory() as folder:
                golden(args, model, Path(folder))


if __name__ == "__main__":
    main()
