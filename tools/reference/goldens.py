#!/usr/bin/env python3
"""Make the committed goldens anew: llama.cpp's numbers for the tiny random models that the tests write themselves.

    cargo build --release
    python3 tools/reference/goldens.py --quipu target/release/quipu tests/data/golden
    python3 tools/reference/goldens.py --quipu target/release/quipu --check tests/data/golden

The models come from `quipu synth --shape nano-llama --seed 1`, so nothing but numbers is committed. Each file holds
llama.cpp's logits for the tokens below, the operands of every kind of matrix product for the first rows (the output
and all of layer 0), and for F32 the tensors of every layer. The metadata holds the tokens, a checksum of the model
(FNV-1a, 64 bits), llama.cpp's version and the limit that our logits must keep. A golden is written only if the numpy
model (`numpy_trace.py`) keeps that limit too. --check makes them in memory and says
where they are no longer the committed ones: on another processor llama.cpp sums in another order, so they are compared
with a small tolerance, not bit by bit.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import llama_trace
import measure
import numpy_trace

SHAPE, SEED = "nano-llama", 1
LIMITS = {"f32": 1e-9, "f16": 5e-6, "bf16": 5e-4, "q8_0": 1e-3}
TOKENS = [1, 351, 268, 371, 260, 17, 355, 101]
PRODUCT_ROWS = 3
LAYER_TENSORS = (
    "attn_norm Qcur_proj Kcur_proj Vcur Qcur Kcur kq kq_soft_max kqv_out attn_out ffn_inp ffn_norm ffn_gate ffn_up"
    " ffn_swiglu ffn_out l_out"
).split()


def fnv1a64(data):
    """FNV-1a of bytes, 64 bits, as 16 hexadecimal digits."""
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def golden(quipu, kind):
    """(tensors, metadata) for one element type."""
    with tempfile.TemporaryDirectory() as room:
        model = os.path.join(room, "model.gguf")
        command = [quipu, "synth", "--shape", SHAPE, "--type", kind.upper(), "--seed", str(SEED), model]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        trace, meta = llama_trace.trace(model, TOKENS)
        third = numpy_trace.Llama(model, rounded=True).trace(TOKENS)
        with open(model, "rb") as f:
            checksum = fnv1a64(f.read())
    apart = measure.nmse(trace["result_output"], third["result_output"])
    if not apart <= LIMITS[kind]:
        raise SystemExit(f"{kind}: llama.cpp and the numpy model are {apart:.1e} apart: one of them is wrong")
    keep = {"result_output": trace["result_output"]}
    for name, values in trace.items():
        weight = name.removeprefix("mul_mat/").rpartition("/")[0]
        if name.startswith("mul_mat/") and (weight.startswith("blk.0.") or not weight.startswith("blk.")):
            keep[name] = np.ascontiguousarray(values[:PRODUCT_ROWS])
        if kind == "f32" and (name == "result_norm" or name.rpartition("-")[0] in LAYER_TENSORS):
            keep[name] = values
    about = {
        "engine": meta["engine"],
        "system": meta["system"].strip(),
        "made_by": "tools/reference/goldens.py",
        "model": f"quipu synth --shape {SHAPE} --type {kind.upper()} --seed {SEED}",
        "model_fnv1a64": checksum,
        "tokens": json.dumps(TOKENS),
        "nmse_limit": repr(LIMITS[kind]),
        "product_nmse_limit": "1e-10",
        "nmse_of_numpy": f"{apart:.1e}",
        "order": json.dumps([n for n in trace if n in keep]),
    }
    return keep, about


def drifted(path, tensors, about):
    """What is no longer as committed; empty if nothing."""
    old, old_about = measure.load(path)
    problems = [k for k in ("model_fnv1a64", "tokens", "nmse_limit", "order") if old_about.get(k) != about[k]]
    for name in old.keys() & tensors.keys():
        if old[name].shape != tensors[name].shape:
            problems.append(f"{name}: shape")
        elif (e := measure.nmse(old[name], tensors[name])) > float(about["nmse_limit"]) / 10:
            problems.append(f"{name}: NMSE {e:.1e}")
    return problems


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--quipu", required=True, help="the built program")
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    failed = False
    for kind in LIMITS:
        path = os.path.join(a.dir, f"{SHAPE}-{kind}.safetensors")
        tensors, about = golden(a.quipu, kind)
        if a.check:
            problems = drifted(path, tensors, about)
            failed |= bool(problems)
            print(f"{path}: {'; '.join(problems) or 'as committed'}")
        else:
            measure.save(tensors, path, about)
            print(f"wrote {path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
