"""Writes a trained model as GGUF, its tensors laid out as llama.cpp's converters lay out those of the real families.

    python export.py box-llama --vocab build --checkpoint build/box-llama/checkpoint.npz --out build/box-llama-f32.gguf
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np

from models import MODELS
from vocab import add_tables


def permute(w, heads):
    """Rows of [rows, cols]: from halves, as trained, to neighbours, as GGUF's llama rotates them."""
    return w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def tensors(model, p):
    """GGUF names and rows of every tensor; matrices are [outputs, inputs] there."""
    t = lambda name: np.ascontiguousarray(p[name].T)
    yield "token_embd.weight", p["embd"]
    for i in range(model.layers):
        q, k, v = (t(f"{i}.{n}") for n in "qkv")
        yield f"blk.{i}.attn_norm.weight", p[f"{i}.attn_norm"]
        if model.arch == "phi3":
            yield f"blk.{i}.attn_qkv.weight", np.concatenate((q, k, v))
        else:
            if model.arch == "llama":
                q, k = permute(q, model.heads), permute(k, model.head_kv)
            for name, w in (("q", q), ("k", k), ("v", v)):
                yield f"blk.{i}.attn_{name}.weight", w
                if model.bias:
                    yield f"blk.{i}.attn_{name}.bias", p[f"{i}.{name}_bias"]
        yield f"blk.{i}.attn_output.weight", t(f"{i}.o")
        yield f"blk.{i}.ffn_norm.weight", p[f"{i}.ffn_norm"]
        if model.arch == "phi3":
            yield f"blk.{i}.ffn_up.weight", np.concatenate((t(f"{i}.gate"), t(f"{i}.up")))
        else:
            yield f"blk.{i}.ffn_gate.weight", t(f"{i}.gate")
            yield f"blk.{i}.ffn_up.weight", t(f"{i}.up")
        yield f"blk.{i}.ffn_down.weight", t(f"{i}.down")
    yield "output_norm.weight", p["norm"]
    if not model.tied:
        yield "output.weight", t("output")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = MODELS[args.model]
    data = np.load(args.checkpoint)
    p = {n[2:]: data[n] for n in data.files if n.startswith("p/")}
    facts = json.loads(str(data["facts"]))
    w = gguf.GGUFWriter(args.out, model.arch)
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(model.name)
    w.add_author("quipu")
    w.add_license("MIT OR Apache-2.0")
    w.add_description(f"a tiny model of simple stories and small talk, {facts['tokens']} tokens seen")
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_block_count(model.layers)
    w.add_context_length(model.ctx)
    w.add_embedding_length(model.embd)
    w.add_feed_forward_length(model.ff)
    w.add_head_count(model.heads)
    w.add_head_count_kv(model.head_kv)
    w.add_rope_freq_base(model.rope_base)
    w.add_layer_norm_rms_eps(model.eps)
    w.add_vocab_size(model.vocab)
    if model.arch != "qwen2":
        w.add_rope_dimension_count(model.head_dim)
    if model.arch == "phi3":
        w.add_rope_scaling_orig_ctx_len(model.ctx)
    add_tables(w, model, args.vocab)
    for name, rows in tensors(model, p):
        w.add_tensor(name, rows.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(f"{args.out}: {sum(r.size for _, r in tensors(model, p))} weights")


if __name__ == "__main__":
    main()
