#!/usr/bin/env python3
"""Write tiny Llama models with random weights: one GGUF per element type, the same weights in each.

    tiny_models.py DIR [--types f32,f16,bf16,q8_0] [--layers 2] [--hidden 256] [--seed 0]

A second, independent writer beside `quipu synth`: what only one of the two gets right shows. The vocabulary is a small
SentencePiece one of our own (bytes, printable characters, some joined pairs), padded with unused tokens. `--tied`
leaves out output.weight, `--freq-factors` adds rope_freqs as Llama-3 has them.
"""
import argparse
import os

import gguf
import numpy as np

import oracle

TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
SPACE = "\u2581"


def vocabulary(size):
    """(tokens, scores, types): unknown, BOS, EOS, 256 bytes, characters, pairs by falling score, unused."""
    kinds = gguf.TokenType
    tokens = [("<unk>", 0.0, kinds.UNKNOWN), ("<s>", 0.0, kinds.CONTROL), ("</s>", 0.0, kinds.CONTROL)]
    tokens += [(f"<0x{b:02X}>", 0.0, kinds.BYTE) for b in range(256)]
    letters = "etaoinshrdlu"
    joined = [SPACE + c for c in letters] + [a + b for a in letters[:6] for b in letters[6:]]
    tokens += [(text, -float(i), kinds.NORMAL) for i, text in enumerate(joined)]
    single = [SPACE] + [chr(c) for c in range(33, 127)]
    tokens += [(c, -1000.0 - i, kinds.NORMAL) for i, c in enumerate(single)]
    if size < len(tokens):
        raise SystemExit(f"the vocabulary needs {len(tokens)} tokens, not {size}")
    tokens += [(f"<unused{i}>", -10000.0, kinds.UNUSED) for i in range(size - len(tokens))]
    return [list(column) for column in zip(*tokens)]


def weights(a):
    """Name to f32 array, the matrices as [rows, columns]; scaled so that activations keep unit size."""
    rng = np.random.default_rng(a.seed)
    head = a.hidden // a.heads
    kv = a.kv_heads * head

    def matrix(rows, columns, gain=1.0):
        return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(gain / np.sqrt(columns))

    def scale(n):
        return 1.0 + 0.1 * rng.standard_normal(n, dtype=np.float32)

    out = {"token_embd.weight": rng.standard_normal((a.vocab, a.hidden), dtype=np.float32)}
    for i in range(a.layers):
        block = f"blk.{i}."
        out[block + "attn_norm.weight"] = scale(a.hidden)
        out[block + "attn_q.weight"] = matrix(a.hidden, a.hidden, 2.0)
        out[block + "attn_k.weight"] = matrix(kv, a.hidden, 2.0)
        out[block + "attn_v.weight"] = matrix(kv, a.hidden)
        out[block + "attn_output.weight"] = matrix(a.hidden, a.hidden)
        out[block + "ffn_norm.weight"] = scale(a.hidden)
        out[block + "ffn_gate.weight"] = matrix(a.ffn, a.hidden)
        out[block + "ffn_up.weight"] = matrix(a.ffn, a.hidden)
        out[block + "ffn_down.weight"] = matrix(a.hidden, a.ffn)
    out["output_norm.weight"] = scale(a.hidden)
    if not a.tied:
        out["output.weight"] = matrix(a.vocab, a.hidden, 4.0)
    if a.freq_factors:
        out["rope_freqs.weight"] = np.linspace(1.0, 8.0, head // 2, dtype=np.float32)
    return out


def write(path, a, name, tensors):
    """One GGUF with every matrix in the given type and every vector in f32."""
    kind, file_type = TYPES[name]
    tokens, scores, kinds = vocabulary(a.vocab)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(f"tiny llama, random weights, seed {a.seed}")
    w.add_context_length(a.context)
    w.add_embedding_length(a.hidden)
    w.add_block_count(a.layers)
    w.add_feed_forward_length(a.ffn)
    w.add_head_count(a.heads)
    w.add_head_count_kv(a.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(a.hidden // a.heads)
    w.add_vocab_size(a.vocab)
    w.add_file_type(file_type)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(kinds)
    w.add_unk_token_id(0)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(True)
    for tensor, values in tensors.items():
        if values.ndim == 1 or name == "f32":
            w.add_tensor(tensor, values)
        elif name == "f16":
            w.add_tensor(tensor, values.astype(np.float16))
        elif name == "bf16":
            bits = oracle.round_bf16(values).view(np.uint32) >> 16
            w.add_tensor(tensor, bits.astype(np.uint16).view(np.uint8), raw_dtype=kind)
        else:
            w.add_tensor(tensor, gguf.quants.quantize(values, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--types", default=",".join(TYPES))
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--ffn", type=int, default=768)
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--kv-heads", type=int, default=4)
    p.add_argument("--vocab", type=int, default=512)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--tied", action="store_true")
    p.add_argument("--freq-factors", action="store_true")
    a = p.parse_args()
    os.makedirs(a.dir, exist_ok=True)
    tensors = weights(a)
    for name in a.types.split(","):
        if name not in TYPES:
            raise SystemExit(f"unknown type {name}: one of {', '.join(TYPES)}")
        path = os.path.join(a.dir, f"tiny-{name}.gguf")
        write(path, a, name, tensors)
        print("wrote", path)


if __name__ == "__main__":
    main()
