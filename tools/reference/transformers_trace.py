#!/usr/bin/env python3
"""Run PyTorch transformers on the weights of a GGUF file and write what its modules computed to a safetensors file.

    pip install torch transformers gguf numpy safetensors
    transformers_trace.py -m MODEL-f32.gguf --tokens 1,403,407 -o REF.safetensors

A second opinion beside llama.cpp: nothing of the way from weights to logits is shared. Every matrix is taken as f32, so
files of f32 are compared best. Names and layouts are those of llama_trace.py: heads of `llama` are turned back to the
order of the file, whose converter permuted them. The next tokens of a greedy run are in the metadata, as `generated`.
"""
import argparse
import hashlib
import importlib
import json

import gguf
import numpy as np
import torch
import transformers

import measure

CLASSES = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "phi3": ("Phi3", {"pad_token_id": 0}),
}
# GGUF's name of a block's tensor, and the module's.
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Modules whose result is a value of the trace.
RESULTS = {"attn_norm": "attn_norm", "attn_v": "Vcur", "attn_output": "attn_out", "ffn_norm": "ffn_norm"}
RESULTS |= {"ffn_gate": "ffn_gate", "ffn_down": "ffn_out", "attn_q": "Qcur_proj", "attn_k": "Kcur_proj"}


def read(path):
    """(metadata, tensors as f32) of a GGUF file."""
    reader = gguf.GGUFReader(path)
    meta = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("tokenizer.")}
    tensors = {}
    for t in reader.tensors:
        shape = [int(n) for n in reversed(t.shape)]
        tensors[t.name] = gguf.dequantize(t.data, t.tensor_type).reshape(shape).astype(np.float32)
    return meta, tensors


def config(meta, tensors):
    """The configuration of transformers that says what the file says."""
    arch = meta["general.architecture"]
    name, more = CLASSES[arch]
    key = lambda k, default=None: meta.get(f"{arch}.{k}", default)
    if key("rope.scaling.type", "none") != "none" or any("rope_f" in n for n in tensors):
        raise SystemExit("scaled positions are not translated: compare those with llama_trace.py")
    heads, width = key("attention.head_count"), key("embedding_length")
    head_dim = key("attention.key_length", width // heads)
    if key("rope.dimension_count", head_dim) != head_dim:
        raise SystemExit("partly rotated heads are not translated")
    made = getattr(transformers, f"{name}Config")(
        vocab_size=tensors["token_embd.weight"].shape[0],
        hidden_size=width,
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=key("attention.head_count_kv", heads),
        head_dim=head_dim,
        max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": key("rope.freq_base", 10000.0)},
        tie_word_embeddings="output.weight" not in tensors,
        attention_bias="blk.0.attn_q.bias" in tensors,
        hidden_act="silu",
        **more,
    )
    made._attn_implementation = "eager"
    return name, made


def halves(a, heads):
    """Rows of heads from pairs side by side to first and second halves."""
    return a.reshape(heads, -1, 2, *a.shape[1:]).swapaxes(1, 2).reshape(a.shape)


def pairs(a, heads):
    """Elements of heads from halves back to pairs side by side."""
    n = a.shape[0]
    return a.reshape(n, heads, 2, -1).swapaxes(2, 3).reshape(n, -1)


def state(meta, tensors, cfg):
    """The weights under the names of transformers."""
    out = {"model.embed_tokens.weight": tensors["token_embd.weight"], "model.norm.weight": tensors["output_norm.weight"]}
    out["lm_head.weight"] = tensors.get("output.weight", tensors["token_embd.weight"])
    counts = {"attn_q": cfg.num_attention_heads, "attn_k": cfg.num_key_value_heads}
    for full, a in tensors.items():
        if not full.startswith("blk."):
            continue
        _, layer, name, kind = full.split(".")
        module = BLOCK[name]
        if meta["general.architecture"] == "phi3" and name == "ffn_up":
            module = "mlp.gate_up_proj"
        if meta["general.architecture"] == "llama" and name in counts:
            a = halves(a, counts[name])
        out[f"model.layers.{layer}.{module}.{kind}"] = a
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in out.items()}


class Recorder:
    """Values by name, in the order in which they came about."""

    def __init__(self, arch, cfg):
        self.arch, self.cfg, self.values = arch, cfg, {}

    def put(self, name, layer, value):
        a = value.detach()[0].float().numpy()
        self.values[f"{name}-{layer}" if layer is not None else name] = np.ascontiguousarray(a)

    def heads(self, name, layer, value, count):
        """[1, heads, tokens, size], in the order of the file."""
        a = value.detach()[0].float().numpy().swapaxes(0, 1).reshape(value.shape[2], -1)
        self.values[f"{name}-{layer}"] = pairs(a, count) if self.arch == "llama" else np.ascontiguousarray(a)

    def projected(self, name, layer, value, count):
        self.put(name, layer, value)
        if self.arch == "llama":
            self.values[f"{name}-{layer}"] = pairs(self.values[f"{name}-{layer}"], count)

    def attention(self, module, query, key, value, mask, scaling, **_):
        """In place of transformers' own, with the same steps."""
        layer, groups = module.layer_idx, module.num_key_value_groups
        self.heads("Qcur", layer, query, self.cfg.num_attention_heads)
        self.heads("Kcur", layer, key, self.cfg.num_key_value_heads)
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        kq = query @ key.transpose(2, 3)
        weights = torch.softmax(kq * scaling + mask, -1, dtype=torch.float32)
        out = (weights @ value).transpose(1, 2).contiguous()
        self.values[f"kq-{layer}"] = np.ascontiguousarray(kq[0].numpy().swapaxes(0, 1))
        self.values[f"kq_soft_max-{layer}"] = np.ascontiguousarray(weights[0].numpy().swapaxes(0, 1))
        self.values[f"kqv_out-{layer}"] = out[0].reshape(out.shape[1], -1).numpy()
        return out, weights

    def watch(self, model):
        """Hooks on every module whose result has a name."""
        hook = lambda f: lambda _m, _i, out: f(out[0] if isinstance(out, tuple) else out)
        body = model.model
        body.embed_tokens.register_forward_hook(hook(lambda out: self.put("embd", None, out)))
        for il, layer in enumerate(body.layers):
            for name, value in RESULTS.items():
                module = layer
                for part in BLOCK[name].split("."):
                    module = getattr(module, part, None)
                    if module is None:
                        break
                if module is None:
                    continue
                if name in ("attn_q", "attn_k"):
                    count = self.cfg.num_attention_heads if name == "attn_q" else self.cfg.num_key_value_heads
                    module.register_forward_hook(hook(lambda o, v=value, i=il, c=count: self.projected(v, i, o, c)))
                else:
                    module.register_forward_hook(hook(lambda o, v=value, i=il: self.put(v, i, o)))
            if self.arch == "phi3":
                module = layer.self_attn.qkv_proj
                module.register_forward_hook(hook(lambda o, i=il: self.split(o, i)))
            layer.register_forward_hook(hook(lambda o, i=il: self.put("l_out", i, o)))
        body.norm.register_forward_hook(hook(lambda out: self.put("result_norm", None, out)))
        model.lm_head.register_forward_hook(hook(lambda out: self.put("result_output", None, out)))

    def split(self, qkv, layer):
        """phi3's one product for queries, keys and values."""
        c = self.cfg
        sizes = [n * c.head_dim for n in (c.num_attention_heads, c.num_key_value_heads, c.num_key_value_heads)]
        for name, part in zip(("Qcur_proj", "Kcur_proj", "Vcur"), qkv.split(sizes, -1)):
            self.put(name, layer, part)


def trace(path, tokens, generate):
    """(tensors, metadata) of one pass."""
    meta, tensors = read(path)
    arch = meta["general.architecture"]
    name, cfg = config(meta, tensors)
    model = getattr(transformers, f"{name}ForCausalLM")(cfg).float().eval()
    missing, unknown = model.load_state_dict(state(meta, tensors, cfg), strict=False)
    if unknown or [m for m in missing if "rotary" not in m]:
        raise SystemExit(f"weights that do not fit: missing {missing}, unknown {unknown}")
    recorder = Recorder(arch, cfg)
    recorder.watch(model)
    module = importlib.import_module(f"transformers.models.{arch if arch != 'phi3' else 'phi3'}.modeling_{arch}")
    plain = module.eager_attention_forward
    with torch.no_grad():
        module.eager_attention_forward = lambda m, q, k, v, mask, scaling, **kw: recorder.attention(m, q, k, v, mask, scaling)
        model(torch.tensor([tokens]), use_cache=False)
        values = dict(recorder.values)
        module.eager_attention_forward = plain
        ids = list(tokens)
        for _ in range(generate):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    facts = {
        "engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "model_sha256": digest,
        "tokens": json.dumps(tokens),
        "generated": json.dumps(ids[len(tokens) :]),
        "order": json.dumps(list(values)),
    }
    return values, facts


def main():
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-m", "--model", required=True)
    p.add_argument("--tokens", required=True, help="ids, separated by commas")
    p.add_argument("-n", "--generate", type=int, default=10)
    p.add_argument("-o", "--output", required=True)
    a = p.parse_args()
    torch.set_num_threads(1)
    values, facts = trace(a.model, [int(t) for t in a.tokens.split(",")], a.generate)
    measure.save(values, a.output, facts)
    print(f"{a.output}: {len(values)} tensors, {facts['engine']}")


if __name__ == "__main__":
    main()
