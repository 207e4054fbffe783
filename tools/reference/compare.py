#!/usr/bin/env python3
"""Lay a trace of quipu beside one of llama.cpp, tensor by tensor.

    compare.py REF.safetensors OURS.safetensors --limit 1e-9

Tensors that both have are compared in the order in which REF computed them. `kq` and `kq_soft_max` are compared where
the causal mask lets a token look; `kq` may be anything behind the mask. NMSE is sum (ref - ours)^2 / sum ref^2 in f64.

Exit code: 0 if the NMSE of result_output is at most --limit (or none was given), 1 if not, 2 if there is nothing to
compare. --each puts the limit on every tensor. Two engines need not agree inside as well as they do at the end.
"""
import argparse
import json
import re
import sys

import numpy as np

import measure

CAUSAL = re.compile(r"(kq|kq_soft_max)-\d+$")


def causal(a, shape):
    """The visible part of [tokens, heads, cached tokens], the rest set to 0."""
    tokens, heads = shape[0], shape[1]
    a = a.reshape(tokens, heads, -1)[:, :, :tokens]
    return np.where(np.tri(tokens, dtype=bool)[:, None, :], a, np.float32(0))


def align(name, ref, ours):
    """Both as arrays of one shape, or None if they cannot be."""
    if CAUSAL.match(name) and ref.ndim == 3 and ours.size % (ref.shape[0] * ref.shape[1]) == 0:
        a, b = causal(ref, ref.shape), causal(ours, ref.shape)
        return (a, b) if a.shape == b.shape else None
    if ref.size != ours.size or ref.shape[0] != ours.shape[0]:
        return None
    return ref, ours.reshape(ref.shape)


def compare(ref, ours):
    """(rows of measures in order, names whose shapes do not fit)."""
    rows, misfits = [], []
    for name in ref:
        if name not in ours or name.startswith("mul_mat/"):
            continue
        if name.startswith("kq-") and name.replace("kq", "Qcur_scaled") in ref:
            continue  # made from a query scaled before: other numbers by design
        pair = align(name, ref[name], ours[name])
        if pair is None:
            misfits.append(f"{name}: {list(ref[name].shape)} against {list(ours[name].shape)}")
        else:
            rows.append({"name": name} | measure.distance(*pair))
    return rows, misfits


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("ref")
    p.add_argument("ours")
    p.add_argument("--limit", type=float, help="largest NMSE of result_output (with --each: of any tensor)")
    p.add_argument("--each", action="store_true", help="the limit holds for every tensor")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    ref, ref_meta = measure.load(a.ref)
    ours, our_meta = measure.load(a.ours)
    rows, misfits = compare(ref, ours)
    gated = rows if a.each else [r for r in rows if r["name"] == "result_output"]
    limit = float("inf") if a.limit is None else a.limit
    over = [r for r in rows if r["nmse"] > limit]
    passed = bool(gated) and not misfits and all(r["nmse"] <= limit for r in gated)
    same_tokens = json.loads(ref_meta.get("tokens", "null")) == json.loads(our_meta.get("tokens", "null"))
    worst = max(rows, key=lambda r: r["nmse"], default=None)
    result = {
        "tensors": rows,
        "misfits": misfits,
        "only_ref": [n for n in ref if n not in ours and not n.startswith("mul_mat/")],
        "only_ours": [n for n in ours if n not in ref],
        "worst": worst and worst["name"],
        "first_over_limit": over[0]["name"] if over else None,
        "limit": a.limit,
        "passed": passed,
    }
    if a.json:
        for row in rows:  # JSON has no infinity and no NaN
            row.update({k: v if isinstance(v, str) or np.isfinite(v) else str(v) for k, v in row.items()})
        print(json.dumps(result, indent=1))
    else:
        print(f"{'tensor':<24}{'nmse':>11}{'max abs':>11}{'mean abs':>11}{'1 - cosine':>12}")
        for r in rows:
            mark = "  over" if r["nmse"] > limit else ""
            c = 1.0 - r["cosine"]
            print(f"{r['name']:<24}{r['nmse']:>11.2e}{r['max_abs']:>11.2e}{r['mean_abs']:>11.2e}{c:>12.1e}{mark}")
        for line in misfits:
            print("shapes differ:", line)
        print("only in the reference:", " ".join(result["only_ref"]) or "-")
        print("only in ours:", " ".join(result["only_ours"]) or "-")
        if worst:
            print(f"worst: {worst['name']} ({worst['nmse']:.2e})")
        if over:
            print(f"first over {limit:g}: {over[0]['name']} ({over[0]['nmse']:.2e})")
        if not same_tokens:
            print("note: the metadata of the two files does not name the same tokens")
    if not gated:
        print("result_output is not in both files" if rows else "no tensor is in both files", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
