#!/usr/bin/env python3
"""Every matrix product of a model, fed with llama.cpp's own input.

    products.py MODEL.gguf REF.safetensors                      # numpy oracle against llama.cpp
    products.py MODEL.gguf REF.safetensors --quipu PRODUCT      # quipu's kernels too, of every instruction set

REF comes from llama_trace.py. PRODUCT is the program of quipu's `examples/product.rs` (`cargo build --release
--example product`). llama.cpp rounds activations to the weight's type for F16 and BF16, so quipu, which does not, is
given the rounded ones; activations of block types each engine quantises itself. Exit code 0 if every product is within
--limit of llama.cpp, 1 if not.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

import measure
import oracle

ISAS = ("scalar", "avx2", "avx512")


def inputs(weights, ref):
    """Weight name to the activations that its product really reads."""
    out = {}
    for name, x in ref.items():
        if name.startswith("mul_mat/") and name.endswith("/in"):
            weight = name[len("mul_mat/") : -len("/in")]
            out[weight] = np.ascontiguousarray(oracle.round_input(x, weights[weight].tensor_type))
    return out


def run_quipu(program, model, x, isa):
    """Outputs of quipu's own kernels, by weight name; None if this machine lacks the instruction set."""
    with tempfile.TemporaryDirectory() as room:
        source, target = os.path.join(room, "in.safetensors"), os.path.join(room, "out.safetensors")
        save_file(x, source)
        command = [program, model, source, target] + (["--isa", isa] if isa else [])
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if "NoSuchIsa" in done.stderr:
            return None
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"{program} ended with {done.returncode}")
        return load_file(target)


def compare(program, model, ref, isas):
    """One row per product: weight, type, and the NMSE against llama.cpp of the oracle and of each instruction set.

    Instruction sets that this machine lacks are left out.
    """
    weights = oracle.weights(model)
    x = inputs(weights, ref)
    ours = {isa: run_quipu(program, model, x, isa) for isa in isas} if program else {}
    rows = []
    for name, read in x.items():
        theirs = ref[f"mul_mat/{name}/out"]
        row = {"weight": name, "type": weights[name].tensor_type.name}
        row["oracle"] = measure.nmse(theirs, oracle.product(weights[name], read))
        for isa, outputs in ours.items():
            if outputs is not None:
                row[isa] = measure.nmse(theirs, outputs[name].reshape(theirs.shape))
        rows.append(row)
    return rows


def worst(row):
    """The largest error of a row."""
    return max(v for k, v in row.items() if k not in ("weight", "type"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("ref")
    p.add_argument("--quipu", metavar="PRODUCT", help="the built example `product`")
    p.add_argument("--isa", default=",".join(ISAS), help="instruction sets for quipu, separated by commas")
    p.add_argument("--limit", type=float, default=1e-10)
    a = p.parse_args()
    ref, _ = measure.load(a.ref)
    rows = compare(a.quipu, a.model, ref, a.isa.split(","))
    if not rows:
        raise SystemExit("the reference holds no products")
    columns = [k for k in rows[0] if k not in ("weight", "type")]
    print(f"{'weight':<28}{'type':>8}" + "".join(f"{c:>11}" for c in columns))
    for r in rows:
        print(f"{r['weight']:<28}{r['type']:>8}" + "".join(f"{r[c]:>11.2e}" for c in columns))
    last = max(rows, key=worst)
    print(f"worst: {last['weight']} ({worst(last):.2e}), limit {a.limit:g}")
    sys.exit(0 if worst(last) <= a.limit else 1)


if __name__ == "__main__":
    main()
