#!/usr/bin/env python3
"""Every matrix product of a model, fed with llama.cpp's own input.

    products.py MODEL.gguf REF.safetensors                      # numpy oracle against llama.cpp
    products.py MODEL.gguf REF.safetensors --quipu PRODUCT      # quipu's kernels against llama.cpp and the oracle

REF comes from llama_trace.py. PRODUCT is the program of quipu's `examples/product.rs` (`cargo build --release
--example product`). llama.cpp rounds activations to the weight's type for F16 and BF16, so quipu, which does not, is
given the rounded ones. Exit code 0 if every product is within --limit of llama.cpp, 1 if not.
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


def inputs(weights, ref):
    """Weight name to the activations that its product really reads."""
    out = {}
    for name, x in ref.items():
        if name.startswith("mul_mat/") and name.endswith("/in"):
            weight = name[len("mul_mat/") : -len("/in")]
            out[weight] = np.ascontiguousarray(oracle.round_input(x, weights[weight].tensor_type))
    return out


def run_quipu(program, model, x, isa):
    """Outputs of quipu's own kernels, by weight name."""
    with tempfile.TemporaryDirectory() as room:
        source, target = os.path.join(room, "in.safetensors"), os.path.join(room, "out.safetensors")
        save_file(x, source)
        command = [program, model, source, target] + (["--isa", isa] if isa else [])
        subprocess.run(command, check=True)
        return load_file(target)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("ref")
    p.add_argument("--quipu", metavar="PRODUCT", help="the built example `product`")
    p.add_argument("--isa", help="instruction set for quipu: scalar, avx2, avx512")
    p.add_argument("--limit", type=float, default=1e-10)
    a = p.parse_args()
    ref, _ = measure.load(a.ref)
    weights = oracle.weights(a.model)
    x = inputs(weights, ref)
    ours = run_quipu(a.quipu, a.model, x, a.isa) if a.quipu else {}
    head = f"{'weight':<28}{'type':>6}{'oracle':>11}"
    print(head + (f"{'quipu':>11}{'quipu-oracle':>14}" if a.quipu else ""))
    errors = {}
    for name, rows in x.items():
        theirs = ref[f"mul_mat/{name}/out"]
        exact = oracle.product(weights[name], rows)
        line = f"{name:<28}{weights[name].tensor_type.name:>6}{measure.nmse(theirs, exact):>11.2e}"
        error = measure.nmse(theirs, exact)
        if a.quipu:
            mine = ours[name].reshape(theirs.shape)
            error = measure.nmse(theirs, mine)
            line += f"{error:>11.2e}{measure.nmse(exact, mine):>14.2e}"
        errors[name] = error
        print(line)
    if not errors:
        raise SystemExit("the reference holds no products")
    worst = max(errors, key=errors.get)
    print(f"worst: {worst} ({errors[worst]:.2e}), limit {a.limit:g}")
    sys.exit(0 if all(e <= a.limit for e in errors.values()) else 1)


if __name__ == "__main__":
    main()
