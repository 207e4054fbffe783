#!/usr/bin/env python3
"""`quipu quantize` beside llama.cpp's quantiser.

    quantize.py --quipu target/release/quipu --out DIR [MODEL.gguf ...] [--types q4_k_m,iq4_xs] [--markdown]

Quantises every model to every file type with both and says where they differ: the type of a tensor, a key of the
metadata, a file that llama.cpp does not load and run, and the NMSE of the decoded matrices against the source, ours
beside llama.cpp's. Without models it makes tiny ones (heavy-tailed weights, see tiny_models.py) of every architecture,
some with rows that are no multiple of 256 or of 32, and lays the types of full-size models beside each other too (of
their headers, on dry runs). Exit code 1 if a type or a key differs, a file does not run, or ours loses over 2 % more.
"""
import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import gguf
import llama_cpp
import numpy as np

import architectures
import llamacpp
import tiny_models
import vocabularies

KINDS = {
    name: gguf.LlamaFileType["ALL_F32" if name == "F32" else "MOSTLY_" + name]
    for name in (
        "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
        "IQ4_NL IQ4_XS"
    ).split()
}
NEEDS_MATRIX = ("Q2_K_S",)  # llama.cpp makes it with an importance matrix only; types come from its dry run
WORSE = 1.02
A = architectures
TINY = {name: A.shape(name) for name in ("llama", "qwen2", "qwen3", "phi3", "gemma3", "llama-mqa", "llama-tied")} | {
    "llama-16-layers": replace(A.LLAMA, layers=16, kv_heads=2),
    "qwen2-rows-224": replace(A.QWEN2, layers=8, hidden=224, heads=7, kv_heads=1),
    "qwen2-untied-224": replace(A.QWEN2, layers=2, hidden=224, heads=7, kv_heads=1, tied=False),
    "llama-rows-176": replace(A.LLAMA, hidden=176, heads=8, head=22, ffn=288),
}
FULL = {
    "llama-2-7b": replace(A.LLAMA, layers=32, hidden=4096, ffn=11008, heads=32, kv_heads=32, head=128, vocab=32000),
    "llama-2-70b": replace(A.LLAMA, layers=80, hidden=8192, ffn=28672, heads=64, kv_heads=8, head=128, vocab=32000),
    "llama-65b": replace(A.LLAMA, layers=80, hidden=8192, ffn=22016, heads=64, kv_heads=64, head=128, vocab=32000),
    "llama-3.2-1b": replace(
        A.LLAMA, layers=16, hidden=2048, ffn=8192, heads=32, kv_heads=8, head=64, vocab=128256, tied=True
    ),
    "tinyllama-1.1b": replace(A.LLAMA, layers=22, hidden=2048, ffn=5632, heads=32, kv_heads=4, head=64, vocab=32000),
    "qwen2.5-0.5b": replace(A.QWEN2, layers=24, hidden=896, ffn=4864, heads=14, kv_heads=2, head=64, vocab=151936),
    "qwen2.5-7b": replace(
        A.QWEN2, layers=28, hidden=3584, ffn=18944, heads=28, kv_heads=4, head=128, vocab=152064, tied=False
    ),
    "qwen2.5-72b": replace(
        A.QWEN2, layers=80, hidden=8192, ffn=29568, heads=64, kv_heads=8, head=128, vocab=152064, tied=False
    ),
    "qwen3-0.6b": replace(
        A.QWEN3, layers=28, hidden=1024, ffn=3072, heads=16, kv_heads=8, head=128, vocab=151936, tied=True
    ),
    "phi-3-mini-4k": replace(A.PHI3, layers=32, hidden=3072, ffn=8192, heads=32, kv_heads=32, head=96, vocab=32064),
    "gemma-3-270m": replace(A.GEMMA3, layers=18, hidden=640, ffn=2048, heads=4, kv_heads=1, head=256, vocab=262144),
}


def write(path, shape, seed=0, empty=False):
    """A model in F16 with heavy-tailed weights; with `empty` the header alone, in front of a hole as long as the data."""
    w = gguf.GGUFWriter(path, shape.arch)
    w.add_name(f"random weights, seed {seed}")
    architectures.add_metadata(w, shape)
    vocabularies.add(w, shape.vocabulary, 512 if empty else shape.vocab)
    rng, data = np.random.default_rng(seed), 0
    for t in architectures.tensors(shape):
        dtype = np.float16 if t.rows else np.float32
        if empty:
            dims = (t.rows, t.columns) if t.rows else (t.columns,)
            n_bytes = int(np.prod(dims)) * np.dtype(dtype).itemsize
            w.add_tensor_info(t.name, dims, np.dtype(dtype), n_bytes)
            data += -(-n_bytes // 32) * 32
        else:
            w.add_tensor(t.name, tiny_models.filled(t, rng).astype(dtype))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    if empty:
        w.write_ti_data_to_file()
    else:
        w.write_tensors_to_file()
    w.close()
    if empty:
        size = os.path.getsize(path)
        os.truncate(path, -(-size // 32) * 32 + data)


_LINES = []


@llama_cpp.llama_log_callback
def _keep(_level, text, _user):
    _LINES.append(text.decode(errors="replace"))


def dry_types(path, kind):
    """Tensor to type by the log of llama.cpp's dry run."""
    _LINES.clear()
    llama_cpp.llama_log_set(_keep, None)
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.dry_run = int(kind), True
    if llama_cpp.llama_model_quantize(path.encode(), b"", ctypes.byref(p)) != 0:
        raise SystemExit("".join(_LINES[-5:]))
    line = r"\[ *\d+/ *\d+\] +(\S+) +- \[[^\]]*\], type = +(\w+), size = [^\n(]*(?:\((\w+)\))?"
    found = re.findall(line, "".join(_LINES))
    return {name: (new or old).upper() for name, old, new in found}


def quipu(program, *arguments):
    """The JSON object of `quipu quantize`."""
    done = subprocess.run([program, "quantize", "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"quipu quantize {' '.join(arguments)}: exit code {done.returncode}")
    return json.loads(done.stdout)


def values(t):
    return np.asarray(gguf.dequantize(t.data, t.tensor_type), dtype=np.float64)


def types(reader):
    return {t.name: t.tensor_type.name for t in reader.tensors}


def keys(reader):
    """Metadata; keys about the container apart."""
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith(("GGUF.", "split."))}


def runs(path):
    """Whether llama.cpp loads the file and its logits are numbers."""
    try:
        model = llamacpp.Model(path)
        context = model.context(64, 64, 1)
        logits = context.decode([1, 5, 7, 2])
        context.close()
        model.close()
    except SystemExit:
        return False
    return bool(np.isfinite(logits).all())


def lost(source, *readers):
    """NMSE of the decoded matrices of each reader against `source`, all together."""
    by_name = [{t.name: t for t in r.tensors} for r in readers]
    errors, size = np.zeros(len(readers)), 0.0
    for t in source.tensors:
        if len(t.shape) < 2 or all(b[t.name].tensor_type == t.tensor_type for b in by_name):
            continue
        x = values(t)
        size += float(np.vdot(x, x))
        for i, b in enumerate(by_name):
            d = values(b[t.name]) - x
            errors[i] += float(np.vdot(d, d))
    return errors / size if size else errors


def different(ours, theirs):
    """The first differences of two dictionaries, as text."""
    names = [k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)]
    shown = [f"{k}: {str(ours.get(k))[:40]}, llama.cpp {str(theirs.get(k))[:40]}" for k in names[:3]]
    return [f"{len(names)} differ, {'; '.join(shown)}"] if names else []


def compare(program, name, path, kind, pure, room):
    """One model, one file type: what differs, and the NMSE of ours and llama.cpp's."""
    a, b = (os.path.join(room, f"quantized-{who}.gguf") for who in ("ours", "theirs"))
    report = quipu(program, path, a, kind, *(["--pure"] if pure else []))
    ours, why = gguf.GGUFReader(a), []
    if types(ours) != {t["name"]: t["to"] for t in report["tensors"]}:
        why.append("the report and the file differ")
    if not runs(a):
        why.append("llama.cpp does not run it")
    source = gguf.GGUFReader(path)
    if kind in NEEDS_MATRIX:
        if not pure:
            why += different(types(ours), dry_types(path, KINDS[kind]))
        return why, lost(source, ours)[0], float("nan"), report["to_bits_per_weight"]
    llamacpp.quantize_file(path, b, KINDS[kind], pure)
    theirs = gguf.GGUFReader(b)
    why += different(types(ours), types(theirs)) + different(keys(ours), keys(theirs))
    mine, other = lost(source, ours, theirs)
    if mine > WORSE * other:
        why.append(f"loses {mine:.3e}, llama.cpp {other:.3e}")
    return why, mine, other, report["to_bits_per_weight"]


def table(rows, markdown):
    """Aligned columns, or a Markdown table."""
    head = ["model", "type", "bits per weight", "NMSE of quipu", "of llama.cpp", "ratio", ""]
    lines = [
        [m, k, f"{bits:.2f}", f"{a:.3e}", "-" if b != b else f"{b:.3e}", f"{a / b:.3f}" if b > 0 else "-", "; ".join(why)]
        for m, k, why, a, b, bits in rows
    ]
    if markdown:
        return "\n".join("| " + " | ".join(x) + " |" for x in [head, ["---"] * len(head), *lines])
    widths = [max(len(x[i]) for x in [head, *lines]) for i in range(len(head))]
    return "\n".join("  ".join(v.ljust(w) for v, w in zip(x, widths)).rstrip() for x in [head, *lines])


def summary(shape, theirs):
    """The matrices of each type, counted."""
    matrices = [theirs[t.name] for t in architectures.tensors(shape) if t.rows]
    return " ".join(f"{kind}={matrices.count(kind)}" for kind in sorted(set(matrices)))


def full_types(program, out, wanted, facts):
    """Types of full-size models on dry runs; the differences."""
    found, lines = [], ["# Made by tools/reference/quantize.py --facts: llama.cpp's types of a model's matrices, from F16."]
    for name, shape in FULL.items():
        path = os.path.join(out, f"{name}-empty.gguf")
        write(path, shape, empty=True)
        for kind in wanted:
            report = quipu(program, "--dry-run", path, kind)
            ours = {t["name"]: t["to"] for t in report["tensors"]}
            theirs = dry_types(path, KINDS[kind])
            found += [f"{name} {kind}: {d}" for d in different(ours, theirs)]
            lines.append(f"{name} {kind} {summary(shape, theirs)}")
        os.remove(path)
    if facts:
        with open(facts, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
    print(f"types of {len(FULL)} full-size models in {len(wanted)} file types: {len(found)} differ")
    print("".join(f"  {d}\n" for d in found), end="")
    return found


def main():
    """Reads the command line, prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*", metavar="MODEL.gguf")
    p.add_argument("--quipu", required=True)
    p.add_argument("--out", required=True, help="folder for the files that are made")
    p.add_argument("--types", default=",".join(KINDS))
    p.add_argument("--pure", action="store_true", help="every matrix in the one type, in both")
    p.add_argument("--markdown", action="store_true")
    p.add_argument("--facts", metavar="FILE", help="write the types of the full-size models")
    args = p.parse_args()
    os.makedirs(args.out, exist_ok=True)
    wanted = args.types.upper().split(",")
    failed, rows, models = [], [], {os.path.basename(m): m for m in args.models}
    if not models:
        failed += full_types(args.quipu, args.out, wanted, args.facts)
        for name, shape in TINY.items():
            models[name] = os.path.join(args.out, f"{name}-f16.gguf")
            write(models[name], shape)
    for name, path in models.items():
        for kind in wanted:
            why, ours, theirs, bits = compare(args.quipu, name, path, kind, args.pure, args.out)
            rows.append((name, kind, why, ours, theirs, bits))
            failed += why
    print(table(rows, args.markdown))
    print(f"{len(rows)} files, {sum(bool(r[2]) for r in rows)} with a difference")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
