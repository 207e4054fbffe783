#!/usr/bin/env python3
"""Every architecture in every element type, quipu beside llama.cpp.

    matrix.py --quipu target/debug/quipu --out DIR                       # 4 architectures, 15 types, 2 mixtures
    matrix.py --quipu BIN --out DIR --arch llama,qwen3 --type q4_k,q6_k  # some of them
    matrix.py --quipu BIN --out DIR --variants                           # tied outputs, scaled RoPE, one KV head, ...
    matrix.py --quipu BIN --out DIR --full [--models A.gguf B.gguf]      # full-size models: reported, not gated

Makes each tiny model (`tiny_models.py`), runs llama.cpp on 48 tokens (`llama_trace.py`) and quipu on the same ids, and
compares every tensor that both name; three models per cell, of which the worst is shown. A cell passes if the NMSE of the logits keeps its limit (`cells.py`), the largest
logit is the same one on each row whose two largest are clearly apart, every product of a weight with llama.cpp's own
input keeps 1e-10 on every instruction set, and quipu's fused, unfused and scalar runs agree in every bit. Over all
block types the median of the logits' NMSE is to be under 1e-5.

Writes DIR/matrix.json and DIR/matrix.md. Exit code: 0 if all passed, 1 if not.
"""
import argparse
import os
import sys
import tempfile

import numpy as np

import architectures
import cells
import full
import report
import tiny_models

MEDIAN_LIMIT = 1e-5
DEFAULT = ("llama", "qwen2", "qwen3", "phi3")
VARIANT_TYPES = ("f32", "q8_0")


def tokens(shape, count, seed):
    """Token ids to run: the first is BOS in our SentencePiece vocabulary, the others may be any."""
    rng = np.random.default_rng([seed, count])
    return [1] + [int(t) for t in rng.integers(3, shape.vocab, count - 1)]


def names(text, known, what):
    """A list from the command line, each checked."""
    given = text.lower().split(",")
    for n in given:
        if n not in known:
            raise SystemExit(f"unknown {what} {n}: one of {', '.join(known)}")
    return given


def plan(a):
    """(architecture, type) of every cell that was asked for."""
    known_types = tiny_models.TYPES + tiny_models.MIXTURES
    if a.variants:
        archs = [n for n, s in architectures.VARIANTS.items() if s.arch in DEFAULT or a.arch and n in a.arch.split(",")]
    else:
        archs = list(DEFAULT)
    if a.arch:
        archs = names(a.arch, [*architectures.SHAPES, *architectures.VARIANTS], "architecture")
    kinds = names(a.type, known_types, "type") if a.type else (VARIANT_TYPES if a.variants else known_types)
    return [(n, k) for n in archs for k in kinds]


def one(quipu, name, kind, seed, a, room):
    """Makes one model and compares it."""
    shape = architectures.shape(name)
    model = os.path.join(a.out if a.keep else room, f"{name}-{kind}-{seed}.gguf")
    tiny_models.write(model, name, kind, seed)
    result = cells.run(quipu, model, kind, tokens(shape, a.tokens, seed), shape.run_context, room)
    if not a.keep:
        os.remove(model)
    return result


def summary(done):
    """Counts, and the median over all models of block types."""
    measured = [c for c in done if "logits" in c and c["type"] not in tiny_models.FLOATS]
    blocks = [x for c in measured for x in c["logits_of_seeds"]]
    return {
        "cells": len(done),
        "passed": sum(c["passed"] for c in done),
        "block_median": float(np.median(blocks)) if blocks else None,
        "worst_product": max((c["worst_product"]["nmse"] for c in done if "worst_product" in c), default=None),
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quipu", required=True, help="the built program")
    p.add_argument("--product", help="the built example `product` (examples/product beside the program)")
    p.add_argument("--out", required=True, help="folder for the results; with --keep for models too")
    p.add_argument("--arch", help="architectures or variants, separated by commas")
    p.add_argument("--type", help="types or mixtures, separated by commas")
    p.add_argument("--variants", action="store_true", help="the variants of architectures.py, in F32 and Q8_0")
    p.add_argument("--isa", help="instruction set of the main run (the best); products run on all")
    p.add_argument("--tokens", type=int, default=48)
    p.add_argument("--seeds", type=int, default=3, help="models per cell, each with other weights and tokens")
    p.add_argument("--keep", action="store_true", help="leave the models in the folder")
    p.add_argument("--full", action="store_true", help="full-size models instead, one trace each")
    p.add_argument("--models", nargs="*", default=[], help="with --full: GGUF files (made by quipu synth if none)")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    quipu = cells.Quipu(a.quipu, a.product, a.isa)
    if not quipu.product and not a.full:
        raise SystemExit("the example `product` is not built: cargo build --example product")
    done = []
    with tempfile.TemporaryDirectory() as room:
        if a.full:
            done = full.run(quipu, a.models, a.out, room, a.tokens)
        else:
            for name, kind in plan(a):
                cell = cells.merged([one(quipu, name, kind, seed, a, room) for seed in range(a.seeds)])
                done.append({"model": name} | cell)
                print(report.text(done[-1:]).splitlines()[-1], flush=True)
    facts = summary(done)
    print("\n" + report.text(done))
    median = facts["block_median"]
    median_ok = a.full or median is None or median < MEDIAN_LIMIT
    if median is not None:
        verdict = "" if median_ok else ": FAIL"
        print(f"\nblock types: median NMSE of the logits {median:.1e}, limit {MEDIAN_LIMIT:g}{verdict}")
    print(f"{facts['passed']} of {facts['cells']} cells pass")
    with open(os.path.join(a.out, "matrix.json"), "w") as f:
        f.write(report.as_json(done, facts))
    with open(os.path.join(a.out, "matrix.md"), "w") as f:
        f.write(report.markdown(done) + "\n")
    sys.exit(0 if a.full or (median_ok and facts["passed"] == facts["cells"]) else 1)


if __name__ == "__main__":
    main()
