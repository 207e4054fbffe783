#!/usr/bin/env python3
"""llama, qwen2, qwen3 and phi3 in numpy, f64 throughout: a third opinion beside llama.cpp and quipu.

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


# Whether RoPE pairs dimension i with i + n/2 (and not with its neighbour).
HALVES = {"llama": False, "qwen2": True, "qwen3": True, "phi3": True}


class Unknown(SystemExit):
    """A model that this file does not know."""


class Model:
    """Hyper-parameters and weights of one file."""

    def __init__(self, path, rounded=True, n_ctx=256):
        self.rounded = rounded
        reader = gguf.GGUFReader(path)
        self.weights = {t.name: t for t in reader.tensors}

        self.arch = reader.fields["general.architecture"].contents()
        if self.arch not in HALVES:
            raise Unknown(f"{path}: {self.arch} is not one of {', '.join(HALVES)}")
        if f"{self.arch}.rope.scaling.type" in reader.fields:
            raise Unknown(f"{path}: scaled RoPE is not in this model")

        def key(name, default=None):
            field = reader.fields.get(f"{self.arch}.{name}")
            if field is None and default is None:
                raise SystemExit(f"{path} has no {self.arch}.{name}")
            return default if field is None else field.contents()

        self.layers = key("block_count")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.head = key("attention.key_length", key("embedding_length") // self.heads)
        self.rotated = key("rope.dimension_count", self.head)
        self.base = key("rope.freq_base", 10000.0)
        self.eps = key("attention.layer_norm_rms_epsilon")
        # Llama 3's factors, or LongRoPE's: the long ones for a context longer than the original.
        long = n_ctx > key("rope.scaling.original_context_length", key("context_length"))
        factors = ("rope_freqs.weight", f"rope_factors_{'long' if long else 'short'}.weight")
        self.factors = next((n for n in factors if n in self.weights), None)
        self.magnitude = key("rope.scaling.attn_factor", 1.0)

    def product(self, name, x):
        """x times a weight, plus its bias if there is one; the activations are f32 first, as in an engine."""
        out = oracle.product(self.weights[name], x.astype(np.float32), self.rounded)
        bias = self.weights.get(name.replace(".weight", ".bias"))
        return out if bias is None else out + bias.data.astype(np.float64)

    def norm(self, name, x):
        """RMSNorm with the weight `name`, of the last dimension."""
        scale = self.weights[name].data.astype(np.float64)
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * scale

    def head_norm(self, name, x):
        """RMSNorm of every head, if the model has this weight."""
        if name not in self.weights:
            return x
        return self.norm(name, x.reshape(x.shape[0], -1, self.head)).reshape(x.shape)

    def projections(self, block, h, keep):
        """Q, K and V before RoPE, from three matrices or from one."""
        if block + "attn_qkv.weight" in self.weights:
            qkv = keep("wqkv", self.product(block + "attn_qkv.weight", h))
            n_q, n_kv = self.heads * self.head, self.kv_heads * self.head
            return np.split(qkv, [n_q, n_q + n_kv], axis=1)
        q = keep("Qcur_proj", self.product(block + "attn_q.weight", h))
        k = keep("Kcur_proj", self.product(block + "attn_k.weight", h))
        v = keep("Vcur", self.product(block + "attn_v.weight", h))
        return self.head_norm(block + "attn_q_norm.weight", q), self.head_norm(block + "attn_k_norm.weight", k), v

    def rope(self, x, heads):
        """Pairs rotated by position * base^(-2i/n), divided by the frequency factors, and stretched, if the file says so."""
        tokens = x.shape[0]
        x = x.reshape(tokens, heads, self.head).copy()
        half = self.rotated // 2
        frequency = self.base ** (-2.0 * np.arange(half) / self.rotated)
        if self.factors:
            frequency = frequency / self.weights[self.factors].data.astype(np.float64)
        angle = np.arange(tokens)[:, None, None] * frequency
        halves = HALVES[self.arch]
        first = slice(0, half) if halves else slice(0, self.rotated, 2)
        second = slice(half, self.rotated) if halves else slice(1, self.rotated, 2)
        a, b = x[:, :, first].copy(), x[:, :, second].copy()
        cos, sin = self.magnitude * np.cos(angle), self.magnitude * np.sin(angle)
        x[:, :, first] = a * cos - b * sin
        x[:, :, second] = a * sin + b * cos
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
            q, k, v = self.projections(block, h, layer)
            q = layer("Qcur", self.rope(q, self.heads))
            k = layer("Kcur", self.rope(k, self.kv_heads))
            a = self.attention(q, k, v, layer)
            x = layer("ffn_inp", x + layer("attn_out", self.product(block + "attn_output.weight", a)))
            h = layer("ffn_norm", self.norm(block + "ffn_norm.weight", x))
            up = layer("ffn_up", self.product(block + "ffn_up.weight", h))
            if block + "ffn_gate.weight" in self.weights:
                gate = layer("ffn_gate", self.product(block + "ffn_gate.weight", h))
            else:
                gate, up = np.split(up, 2, axis=1)
            h = layer("ffn_swiglu", gate / (1.0 + np.exp(-gate)) * up)
            x = layer("l_out", x + layer("ffn_out", self.product(block + "ffn_down.weight", h)))
        h = keep("result_norm", self.norm("output_norm.weight", x))
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        keep("result_output", self.product(head, h))
        return {name: np.ascontiguousarray(a, dtype=np.float32) for name, a in out.items()}


def opinion(path, tokens, n_ctx):
    """The tensors of a pass over `tokens`, or None for a model that this file does not know."""
    try:
        return Model(path, n_ctx=n_ctx).trace(tokens)
    except Unknown:
        return None


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
    tensors = Model(a.model, not a.unrounded).trace(tokens)
    meta = {"engine": "numpy f64", "tokens": json.dumps(tokens), "order": json.dumps(list(tensors))}
    measure.save(tensors, a.out, meta)
    print(f"wrote {a.out}: {len(tensors)} tensors of {len(tokens)} tokens")


if __name__ == "__main__":
    main()
