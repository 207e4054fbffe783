"""One cell of the matrix: a model through llama.cpp and quipu, every tensor and every product compared."""
import json
import os
import subprocess

import numpy as np

import compare
import llama_trace
import measure
import numpy_trace
import products

# Largest NMSE of the logits, by type; block types and mixtures have the last.
LIMITS = {"f32": 1e-9, "f16": 5e-6, "bf16": 5e-4}
BLOCK_LIMIT = 1e-3
PRODUCT_LIMIT = 1e-10


class Refused(Exception):
    """quipu does not run this model; its own words."""


class Quipu:
    """The programs under test."""

    def __init__(self, program, product=None, isa=None):
        self.program, self.product, self.isa = program, product, isa
        if not self.product:
            beside = os.path.join(os.path.dirname(os.path.abspath(program)), "examples", "product")
            self.product = beside if os.path.exists(beside) else None

    def trace(self, model, tokens, n_ctx, path, *flags):
        """The tensors of a pass over `tokens` with an f32 cache."""
        command = [self.program, "trace", "-m", model, "--tokens", ",".join(map(str, tokens)), "-o", path]
        command += ["-ctk", "f32", "-ctv", "f32", "-c", str(n_ctx), *flags]
        if self.isa and "--reference" not in flags:
            command += ["--isa", self.isa]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Refused((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0])
        return measure.load(path)[0]


def limit(kind):
    """Largest NMSE of the logits for models of this type."""
    return LIMITS.get(kind, BLOCK_LIMIT)


def argmax(ref, ours, bound):
    """(rows whose two largest logits are clearly apart, how many of them have the same largest in both).

    Clearly: by more than four times the root mean square error that the bound allows.
    """
    top = np.sort(ref, axis=1)[:, -2:]
    apart = top[:, 1] - top[:, 0] > 4.0 * np.sqrt(bound * np.mean(ref.astype(np.float64) ** 2, axis=1))
    same = ref.argmax(axis=1) == ours.argmax(axis=1)
    return int(apart.sum()), int((apart & same).sum())


def differing(a, b):
    """Names of tensors that both have and that differ in a bit."""
    return [n for n in a if n in b and not np.array_equal(a[n].view(np.uint32), b[n].view(np.uint32))]


def run(quipu, model, kind, tokens, n_ctx, room, isas=products.ISAS, checked=True):
    """Compares one model; a dict of measures with `passed` and, where it did not pass, `why`.

    `checked=False` is for models too large for the oracles: one trace, no products, nothing but the logits gated.
    """
    bound = limit(kind)
    ref, meta = llama_trace.trace(model, tokens, n_ctx=n_ctx)
    result = {"type": kind, "limit": bound, "tokens": len(tokens)}
    try:
        ours = quipu.trace(model, tokens, n_ctx, os.path.join(room, "unfused.safetensors"), "--no-fuse")
        if checked:
            plain = quipu.trace(model, tokens, n_ctx, os.path.join(room, "plain.safetensors"), "--reference")
            fused = quipu.trace(model, tokens, n_ctx, os.path.join(room, "fused.safetensors"))
    except Refused as e:
        return result | {"passed": False, "why": [f"refused: {e}"]}
    why = []
    if checked:
        moved = sorted(set(differing(ours, plain) + differing(ours, fused)))
        why += [f"bits differ: {' '.join(moved[:4])}"] if moved else []
        ours = plain | ours  # the reference has attention scores besides
    rows, misfits = compare.compare(ref, ours)
    ops = json.loads(meta["ops"])
    for row in rows:
        row["op"] = ops.get(row["name"], "?")
    logits = next((r for r in rows if r["name"] == "result_output"), None)
    if logits is None:
        return result | {"passed": False, "why": ["no logits to compare"]}
    inside = [r for r in rows if r is not logits]
    worst = max(inside, key=lambda r: r["nmse"])
    over = next((r for r in rows if r["nmse"] > bound), None)
    clear, same = argmax(ref["result_output"], ours["result_output"].reshape(ref["result_output"].shape), bound)
    result |= {
        "logits": logits["nmse"],
        "logits_max_abs": logits["max_abs"],
        "worst": {k: worst[k] for k in ("name", "op", "nmse", "max_abs")},
        "first_over_limit": over and {k: over[k] for k in ("name", "op", "nmse")},
        "compared": len(rows),
        "clear_rows": clear,
        "clear_rows_same": same,
        "tensors": rows,
    }
    why += [f"shapes differ: {m}" for m in misfits]
    why += [f"logits {logits['nmse']:.1e} over {bound:g}"] if not logits["nmse"] <= bound else []
    why += [f"arg-max differs on {clear - same} clear rows"] if same != clear else []
    if checked:
        why += add_products(result, quipu, model, ref, isas)
        if third := numpy_trace.opinion(model, tokens, n_ctx):
            result["numpy"] = measure.nmse(ref["result_output"], third["result_output"])
    return result | {"passed": not why, "why": why}


def merged(runs):
    """The runs of one cell with several seeds as one: the worst of them, with the median of their logits."""
    failed = [r for r in runs if not r["passed"]]
    measured = [r for r in runs if "logits" in r]
    if not measured:
        return runs[0]
    out = dict(max(measured, key=lambda r: r["logits"]))
    out["logits_of_seeds"] = [r["logits"] for r in measured]
    out["logits_median"] = float(np.median(out["logits_of_seeds"]))
    for key in ("clear_rows", "clear_rows_same", "tokens"):
        out[key] = sum(r[key] for r in measured)
    if "worst_product" in out:
        out["worst_product"] = max((r["worst_product"] for r in measured), key=lambda w: w["nmse"])
    out["passed"], out["why"] = not failed, [w for r in failed for w in r["why"]]
    return out


def add_products(result, quipu, model, ref, isas):
    """Adds every product with llama.cpp's own input; says what is over the limit."""
    rows = products.compare(quipu.product, model, ref, isas)
    worst = max(rows, key=products.worst)
    result["products"] = rows
    result["worst_product"] = {k: worst[k] for k in ("weight", "type")} | {"nmse": products.worst(worst)}
    if products.worst(worst) <= PRODUCT_LIMIT:
        return []
    return [f"product {worst['weight']} {worst['type']} {products.worst(worst):.1e} over {PRODUCT_LIMIT:g}"]
