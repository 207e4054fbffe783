#!/usr/bin/env python3
"""Greedy continuations of quipu and llama.cpp side by side, and how near a tie was where they part.

    greedy.py --quipu target/debug/quipu -m stories260K-f32.gguf --quantise q8_0,q5_1,iq4_nl
    greedy.py --quipu target/debug/quipu -m MODEL.gguf -p "Once upon a time" -n 200

--quantise makes each of these types from the model first, as `llama-quantize` does (rows that a type cannot pack fall
back to another type by llama.cpp's own rules: a mixed file). Both engines keep f32 caches. At the first token that
differs the two largest logits of both engines are shown. It is a near-tie if in either engine they are less than
--tie apart, in units of the spread (standard deviation) of that engine's logits. Exit code 1 if they part anywhere
else.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import gguf

import llama_generate
import llamacpp
import measure
import tiny_models

CACHE = ["-ctk", "f32", "-ctv", "f32"]


def quipu_ids(program, model, prompt, count):
    """Ids of quipu's greedy continuation."""
    command = [program, "run", "-m", model, "-p", prompt, "--no-escape", "-n", str(count), "--temp", "0", "--json"]
    done = subprocess.run(command + CACHE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode().strip())
    return json.loads(done.stdout)["tokens"]


def quipu_logits(program, model, tokens):
    """quipu's logits behind the last of `tokens`."""
    with tempfile.TemporaryDirectory() as room:
        path = os.path.join(room, "trace.safetensors")
        command = [program, "trace", "-m", model, "--tokens", ",".join(map(str, tokens)), "-o", path]
        subprocess.run(command + CACHE, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return measure.load(path)[0]["result_output"][-1]


def top_two(logits):
    """(ids of the two largest, their distance, that distance in spreads)."""
    first, second = (int(i) for i in logits.argsort()[::-1][:2])
    margin = float(logits[first] - logits[second])
    return (first, second), margin, margin / float(logits.std())


def compare(program, path, prompt, count, tie, threads=1):
    """Prints the comparison of one model; whether it is equal up to a near-tie."""
    model = llamacpp.Model(path)
    tokens = model.tokenize(prompt)
    theirs = llama_generate.greedy(model, tokens, count, threads)
    ours = quipu_ids(program, path, prompt, count)
    kinds = sorted({t.tensor_type.name for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1})
    print(f"{os.path.basename(path)} ({', '.join(kinds)}), {len(tokens)} tokens of prompt")
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    if ours == theirs:
        print(f"  equal: {len(ours)} tokens")
        model.close()
        return True
    prefix = tokens + theirs[:same]
    # Token by token as it generated them: llama.cpp's logits of one pass over the same tokens are others.
    context = model.context(len(prefix) + 1, len(tokens), threads)
    logits = context.decode(tokens)
    for position, token in enumerate(theirs[:same], len(tokens)):
        logits = context.decode([token], position)
    rows = {"llama.cpp": logits[-1], "quipu": quipu_logits(program, path, prefix)}
    context.close()
    near = False
    print(f"  part at token {same} of {count}:")
    for name, logits in rows.items():
        ids, margin, spreads = top_two(logits)
        pieces = " before ".join(repr(model.piece(t).decode(errors="replace")) for t in ids)
        print(f"    {name:<10} {pieces:<24} by {margin:.3e}, {spreads:.1e} spreads")
        near |= spreads <= tie
    print(f"    NMSE of the two rows {measure.nmse(*rows.values()):.1e}: {'a near-tie' if near else 'NOT a tie'}")
    model.close()
    return near


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quipu", required=True, help="the built program")
    p.add_argument("-m", "--model", required=True)
    p.add_argument("--quantise", help="types to make of the model, separated by commas; without it, the model itself")
    p.add_argument("-p", "--prompt", action="append", help="may be given several times")
    p.add_argument("-n", "--count", type=int, default=200)
    p.add_argument("--tie", type=float, default=0.02)
    a = p.parse_args()
    passed = True
    with tempfile.TemporaryDirectory() as room:
        paths = [a.model]
        if a.quantise:
            stem = os.path.basename(a.model).removesuffix(".gguf").removesuffix("-f32")
            paths = [os.path.join(room, f"{stem}-{kind}.gguf") for kind in a.quantise.lower().split(",")]
            for path, kind in zip(paths, a.quantise.lower().split(",")):
                llamacpp.quantize_file(a.model, path, tiny_models.file_type(kind))
        for path in paths:
            for prompt in a.prompt or ["Once upon a time"]:
                passed &= compare(a.quipu, path, prompt, a.count, a.tie)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
