#!/usr/bin/env python3
"""Make the committed goldens anew: llama.cpp's numbers for the tiny random models that the tests write themselves.

    cargo build
    python3 tools/reference/goldens.py --quipu target/debug/quipu tests/data/golden
    python3 tools/reference/goldens.py --quipu target/debug/quipu --only nano-qwen3 tests/data/golden
    python3 tools/reference/goldens.py --quipu target/debug/quipu --check tests/data/golden

The models come from `quipu synth --shape SHAPE --type TYPE --seed 1`, so nothing but numbers is committed. A new
architecture is one row of GOLDENS; `tests/golden.rs` takes every file that it finds. Each file holds llama.cpp's
logits for some tokens and, for the nano shapes, the operands of every kind of matrix product for the first rows (the
output and all of layer 0), and for F32 the tensors of every layer. The metadata holds the model, the tokens, a checksum
(FNV-1a, 64 bits), llama.cpp's version and the limit that our logits must keep. A golden is written only if the numpy
model (`numpy_trace.py`) keeps that limit too. `products.safetensors` holds, for every type, some rows as llama.cpp's
quantiser packs them, and llama.cpp's products of them.

--check makes them in memory and says where they are no longer the committed ones: on another processor llama.cpp sums
in another order, so they are compared with a small tolerance, not bit by bit.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import cells
import llama_trace
import measure
import numpy_trace
import product_facts

# Shape and types. The nano shapes are too narrow for the types with blocks of 256.
GOLDENS = {
    "nano-llama": ("f32", "f16", "bf16", "q8_0"),
    "nano-qwen2": ("f32", "q8_0"),
    "nano-qwen3": ("f32", "q8_0"),
    "nano-phi3": ("f32", "q8_0"),
    "nano-phi3-long": ("f32",),
}
SEED = 1
TOKENS = [1, 351, 268, 371, 260, 17, 355, 101]
FEW_TOKENS = 4  # of the wider shapes
PRODUCT_ROWS = 3
LAYER_TENSORS = (
    "inp_scaled attn_norm wqkv Qcur_proj Kcur_proj Qcur_normed Kcur_normed Vcur Qcur Kcur kq kq_soft_max kqv_out attn_out"
    " attn_post_norm sa_out ffn_inp ffn_norm ffn_gate ffn_up ffn_swiglu ffn_geglu ffn_out ffn_post_norm l_out"
).split()


def fnv1a64(data):
    """FNV-1a of bytes, 64 bits, as 16 hexadecimal digits."""
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def kept(trace, kind, nano):
    """What is committed of a trace."""
    keep = {"result_output": trace["result_output"]}
    for name, values in trace.items():
        base = name.rpartition("-")[0]
        if name.startswith("mul_mat/"):
            weight = name.removeprefix("mul_mat/").rpartition("/")[0]
            if nano and (weight.startswith("blk.0.") or not weight.startswith("blk.")):
                keep[name] = np.ascontiguousarray(values[:PRODUCT_ROWS])
        elif base == "kq" and name.replace("kq", "Qcur_scaled") in trace:
            continue  # of a query scaled before: not our numbers
        elif kind == "f32" and (name in ("result_norm", "inp_scaled") or base in LAYER_TENSORS):
            keep[name] = values
    return keep


def golden(quipu, shape, kind):
    """(tensors, metadata) for one shape and element type."""
    nano = shape.startswith("nano-")
    tokens = TOKENS if nano else TOKENS[:FEW_TOKENS]
    bound = cells.limit(kind)
    with tempfile.TemporaryDirectory() as room:
        model = os.path.join(room, "model.gguf")
        command = [quipu, "synth", "--shape", shape, "--type", kind.upper(), "--seed", str(SEED), model]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        trace, meta = llama_trace.trace(model, tokens)
        third = numpy_trace.Model(model, rounded=True).trace(tokens)
        with open(model, "rb") as f:
            checksum = fnv1a64(f.read())
    apart = measure.nmse(trace["result_output"], third["result_output"])
    if not apart <= bound:
        raise SystemExit(f"{shape} {kind}: llama.cpp and the numpy model are {apart:.1e} apart: one of them is wrong")
    keep = kept(trace, kind, nano)
    about = {
        "engine": meta["engine"],
        "system": meta["system"].strip(),
        "made_by": "tools/reference/goldens.py",
        "model": f"quipu synth --shape {shape} --type {kind.upper()} --seed {SEED}",
        "shape": shape,
        "type": kind.upper(),
        "seed": str(SEED),
        "model_fnv1a64": checksum,
        "tokens": json.dumps(tokens),
        "nmse_limit": repr(bound),
        "product_nmse_limit": repr(cells.PRODUCT_LIMIT),
        "nmse_of_numpy": f"{apart:.1e}",
        "order": json.dumps([n for n in trace if n in keep]),
    }
    return keep, about


def drifted(path, tensors, about):
    """What is no longer as committed; empty if nothing."""
    old, old_about = measure.load(path)
    keys = ("model_fnv1a64", "tokens", "nmse_limit", "order")
    problems = [k for k in keys if old_about.get(k) != about.get(k)]
    for name in old.keys() & tensors.keys():
        if old[name].shape != tensors[name].shape:
            problems.append(f"{name}: shape")
        elif (e := measure.nmse(old[name], tensors[name])) > float(about.get("nmse_limit", cells.PRODUCT_LIMIT)) / 10:
            problems.append(f"{name}: NMSE {e:.1e}")
    return problems


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--quipu", required=True, help="the built program")
    p.add_argument("--check", action="store_true")
    p.add_argument("--only", help="shapes of GOLDENS (or `products`), separated by commas")
    a = p.parse_args()
    failed = False
    wanted = a.only.split(",") if a.only else [*GOLDENS, "products"]
    todo = [(s, k) for s, kinds in GOLDENS.items() if s in wanted for k in kinds]
    makers = {f"{s}-{k}": lambda s=s, k=k: golden(a.quipu, s, k) for s, k in todo}
    if "products" in wanted:
        makers["products"] = product_facts.facts
    for name, make in makers.items():
        path = os.path.join(a.dir, f"{name}.safetensors")
        tensors, about = make()
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
