#!/usr/bin/env python3
"""Run llama.cpp on a prompt and write what every node of its graph computed, as f32, to a safetensors file.

    llama_trace.py -m MODEL.gguf -p "Once upon a time" -o REF.safetensors
    llama_trace.py -m MODEL.gguf --tokens 1,403,407 -ub 2 -o REF.safetensors

Rows are tokens. Names are llama.cpp's, except where it uses one name for several nodes: `Qcur-0` is the node made by
RoPE, `Qcur_proj-0` the one before it (with the bias, where there is one) and `Qcur_scaled-0` a scaled one after it; a
name used again keeps its last node.
What nobody named is left out, but for the output projection of attention. `kq-0` and `kq_soft_max-0` are [tokens, heads, cached tokens] without the cache's padding; `kq` is not scaled and not
masked. For each product with a weight of the file, `mul_mat/<weight>/in` and `mul_mat/<weight>/out` hold llama.cpp's
own operands. The metadata holds the tokens, the order of execution, the sha256 of the model and the engine's version.
"""
import argparse
import hashlib
import json
import re

import numpy as np

import llamacpp
import measure

VIEWS = {"NONE", "RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE", "SET_ROWS", "CPY"}
HEADS_FIRST = re.compile(r"(kq|kq_soft_max|kqv)-\d+$")  # [heads, tokens, x] in memory
UNNAMED = re.compile(r"node_\d+$")
OUTPUT_WEIGHT = re.compile(r"blk\.(\d+)\.attn_output\.weight$")
PROJECTED = re.compile(r"([QK]cur)(-\d+)$")


class Recorder:
    """Collects nodes over the micro-batches of one pass."""

    def __init__(self, n_tokens):
        self.n_tokens, self.batch = n_tokens, 0
        self.parts, self.batch_names, self.ops = {}, set(), {}

    def __call__(self, ask, node):
        if node.op in VIEWS or node.type not in ("f32", "f16", "bf16"):
            return not ask
        weight = node.src(0) if node.op == "MUL_MAT" else None
        weight = weight if weight and weight.name.endswith(".weight") else None
        name = self.name_of(node, weight)
        if not name and not weight:
            return not ask
        if ask:
            return True
        if name:
            self.keep(name, self.by_token(name, node))
            self.ops[name] = f"{node.op} {weight.type}" if weight else node.op
        if weight:
            self.keep(f"mul_mat/{weight.name}/in", self.by_token("", node.src(1)))
            self.keep(f"mul_mat/{weight.name}/out", self.by_token("", node))
        return True

    def name_of(self, node, weight):
        """The node's name in the trace; None for what nobody named."""
        name = node.name.removesuffix(" (cont)")
        projected = PROJECTED.match(name)
        if projected and node.op != "ROPE":
            what = "scaled" if node.op == "SCALE" else "proj"
            return f"{projected[1]}_{what}{projected[2]}"
        if not UNNAMED.match(name):
            return name
        output = OUTPUT_WEIGHT.match(weight.name) if weight else None
        return f"attn_out-{output[1]}" if output else None

    def by_token(self, name, node):
        """[tokens, ...] from ggml's layout."""
        a = node.values()[0]  # [ne2, ne1, ne0]; one sequence, so ne3 is 1
        if HEADS_FIRST.match(name):
            a = a.transpose(1, 0, 2)
            return a.reshape(a.shape[0], -1) if name.startswith("kqv") else a
        return a.reshape(self.batch, -1)

    def keep(self, name, rows):
        done = self.parts.setdefault(name, [])
        if name in self.batch_names:
            done.pop()
        self.batch_names.add(name)
        done.append(rows)

    def next_batch(self, rows):
        """Call before each micro-batch: a name seen again is then a later part, not a renamed node."""
        self.batch = rows
        self.batch_names.clear()

    def tensors(self):
        """One array per name, over all tokens."""
        out = {}
        for name, parts in self.parts.items():
            if HEADS_FIRST.match(name) and parts[0].ndim == 3:
                parts = [self.crop(p) for p in parts]
            a = np.concatenate(parts, axis=0)
            out[name] = np.ascontiguousarray(a)
        return out

    def crop(self, p):
        """Exactly as many cached tokens as the pass has: the cache pads its length."""
        p = p[:, :, : self.n_tokens]
        return np.pad(p, ((0, 0), (0, 0), (0, self.n_tokens - p.shape[2])))


def trace(model_path, tokens=None, text=None, ubatch=None, threads=1, n_ctx=None):
    """Tensors by name, and the metadata, of one pass of llama.cpp; its context is `n_ctx`, or as long as the tokens."""
    model = llamacpp.Model(model_path)
    tokens = tokens or model.tokenize(text)
    if not all(0 <= t < model.n_vocab for t in tokens):
        raise SystemExit(f"token ids must be below {model.n_vocab}")
    ubatch = min(ubatch or len(tokens), len(tokens))
    recorder = Recorder(len(tokens))
    context = model.context(max(n_ctx or 0, len(tokens)), ubatch, threads, recorder)
    logits = []
    for start in range(0, len(tokens), ubatch):
        part = tokens[start : start + ubatch]
        recorder.next_batch(len(part))
        logits.append(context.decode(part, start))
    context.close()
    model.close()
    tensors = recorder.tensors()
    if not np.array_equal(tensors["result_output"], np.concatenate(logits)):
        raise SystemExit("result_output is not what llama_get_logits returns: a node was misread")
    with open(model_path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    meta = {
        "engine": llamacpp.ENGINE,
        "system": llamacpp.llama_cpp.llama_print_system_info().decode(),
        "model_sha256": digest,
        "tokens": json.dumps(tokens),
        "n_ubatch": str(ubatch),
        "threads": str(threads),
        "kv_cache": "f32",
        "flash_attention": "off",
        "order": json.dumps(list(tensors)),
        "ops": json.dumps(recorder.ops),
    }
    return tensors, meta


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("-p", "--prompt", help="text; special tokens are parsed, BOS is added by metadata")
    which.add_argument("--tokens", help="ids, separated by commas")
    p.add_argument("-ub", "--ubatch", type=int, help="tokens per pass (all of them)")
    p.add_argument("-c", "--ctx", type=int, help="context length (the tokens); LongRoPE chooses its factors by it")
    p.add_argument("-t", "--threads", type=int, default=1)
    p.add_argument("-o", "--out", required=True)
    a = p.parse_args()
    tokens = [int(t) for t in a.tokens.split(",")] if a.tokens else None
    tensors, meta = trace(a.model, tokens, a.prompt, a.ubatch, a.threads, a.ctx)
    measure.save(tensors, a.out, meta)
    print(f"wrote {a.out}: {len(tensors)} tensors of {len(json.loads(meta['tokens']))} tokens")


if __name__ == "__main__":
    main()
