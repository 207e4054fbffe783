#!/usr/bin/env python3
"""The llama architecture in numpy, f64 throughout: a third opinion beside llama.cpp and quipu.

    numpy_trace.py -m MODEL.gguf --tokens 1,403,407 -o TRACE.safetensors
    numpy_trace.py -m MODEL.gguf --like REF.safetensors -o TRACE.safetensors

Only the activations of matrix products are rounded, as the weight's type wants (`oracle.py`); all else is as exact as
f64. Its distance from llama.cpp says how much of a limit rounding alone uses up. With --unrounded the activations of
F16 and BF16 products stay f32, as in quipu: no engine that does so can come much closer to llama.cpp than this. Names
and shapes as in llama_trace.py.
"""
import argparse
import json

import gguf
import numpy as np

import measure
import oracle


class Llama:
    """Hyper-parameters and weights of one file."""

    def __init__(self, path, rounded=True):
        self.rounded = rounded
        reader = gguf.GGUFReader(path)
        self.weights = {t.name: t for t in reader.tensors}

        def key(name, default=None):
            field = reader.fields.get(f"llama.{name}")
            if field is None and default is None:
                raise SystemExit(f"{path} has no llama.{name}")
            return default if field is None else field.contents()

        self.layers = key("block_count")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.head = key("attention.key_length", key("embedding_length") // self.heads)
        self.rotated = key("rope.dimension_count", self.head)
        self.base = key("rope.freq_base", 10000.0)
        self.eps = key("attention.layer_norm_rms_epsilon")

    def product(self, name, x):
        """x times a weight; its activations are f32 first, as in an engine."""
        return oracle.product(self.weights[name], x.astype(np.float32), self.rounded)

    def norm(self, name, x):
        """RMSNorm with the weight `name`."""
        scale = self.weights[name].data.astype(np.float64)
        return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + self.eps) * scale

    def rope(self, x, heads):
        """Adjacent pairs rotated by position * base^(-2i/n), divided by the frequency factors if there are any."""
        tokens = x.shape[0]
        x = x.reshape(tokens, heads, self.head).copy()
        half = self.rotated // 2
        frequency = self.base ** (-2.0 * np.arange(half) / self.rotated)
        if "rope_freqs.weight" in self.weights:
            frequency = frequency / self.weights["rope_freqs.weight"].data.astype(np.float64)
        angle = np.arange(tokens)[:, None, None] * frequency
        even, odd = x[:, :, 0 : self.rotated : 2].copy(), x[:, :, 1 : self.rotated : 2].copy()
        x[:, :, 0 : self.rotated : 2] = even * np.cos(angle) - odd * np.sin(angle)
        x[:, :, 1 : self.rotated : 2] = even * np.sin(angle) + odd * np.cos(angle)
        return x.reshape(tokens, -1)

    def attention(self, q, k, v, keep):
        """Causal attention; each group of query heads shares a key head."""
        tokens = q.shape[0]
        q = q.reshape(tokens, self.heads, self.head)
        group = self.heads // self.kv_heads
        k = np.repeat(k.reshape(tokens, self.kv_heads, self.head), group, axis=1)
        v = np.repeat(v.reshape(tokens, self.kv_heads, self.head), group, axis=1)
        scores = keep("kq", np.einsum("thd,shd->ths", q, k))
        visible = np.tri(tokens, dtype=bool)[:, None, :]
        scores = np.where(visible, scores / np.sqrt(self.head), -np.inf)
        soft = np.exp(scores - scores.max(axis=2, keepdims=True))
        soft = keep("kq_soft_max", soft / soft.sum(axis=2, keepdims=True))
        return keep("kqv_out", np.einsum("ths,shd->thd", soft, v).reshape(tokens, -1))

    def trace(self, tokens):
        """Every named tensor of one pass, in order."""
        out = {}

        def keep(name, value):
            out[name] = value
            return value

        x = keep("embd", oracle.dequantize(self.weights["token_embd.weight"])[tokens].astype(np.float64))
        for i in range(self.layers):

            def layer(name, value, i=i):
                return keep(f"{name}-{i}", value)

            block = f"blk.{i}."
            h = layer("attn_norm", self.norm(block + "attn_norm.weight", x))
            q = layer("Qcur_proj", self.product(block + "attn_q.weight", h))
            k = layer("Kcur_proj", self.product(block + "attn_k.weight", h))
            v = layer("Vcur", self.product(block + "attn_v.weight", h))
            q = layer("Qcur", self.rope(q, self.heads))
            k = layer("Kcur", self.rope(k, self.kv_heads))
            a = self.attention(q, k, v, layer)
            x = layer("ffn_inp", x + layer("attn_out", self.product(block + "attn_output.weight", a)))
            h = layer("ffn_norm", self.norm(block + "ffn_norm.weight", x))
            gate = layer("ffn_gate", self.product(block + "ffn_gate.weight", h))
            up = layer("ffn_up", self.product(block + "ffn_up.weight", h))
            h = layer("ffn_swiglu", gate / (1.0 + np.exp(-gate)) * up)
            x = layer("l_out", x + layer("ffn_out", self.product(block + "ffn_down.weight", h)))
        h = keep("result_norm", self.norm("output_norm.weight", x))
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        keep("result_output", self.product(head, h))
        return {name: np.ascontiguousarray(a, dtype=np.float32) for name, a in out.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--tokens", help="ids, separated by commas")
    which.add_argument("--like", help="a trace whose tokens to take")
    p.add_argument("--unrounded", action="store_true", help="f32 activations against F16 and BF16 weights")
    p.add_argument("-o", "--out", required=True)
    a = p.parse_args()
    if a.tokens:
        tokens = [int(t) for t in a.tokens.split(",")]
    else:
        tokens = json.loads(measure.load(a.like)[1]["tokens"])
    tensors = Llama(a.model, not a.unrounded).trace(tokens)
    meta = {"engine": "numpy f64", "tokens": json.dumps(tokens), "order": json.dumps(list(tensors))}
    measure.save(tensors, a.out, meta)
    print(f"wrote {a.out}: {len(tensors)} tensors of {len(tokens)} tokens")


if __name__ == "__main__":
    main()
