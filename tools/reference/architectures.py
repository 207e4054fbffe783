"""The tiny shapes of every architecture: metadata and tensors, as llama.cpp's converter would write them.

An architecture is one function of the table `TENSORS` and one row of `SHAPES`; a row more is a variant of it (tied
output, scaled RoPE). Rows of every matrix are multiples of 256 long, so that every element type fits; that is why
phi3, which wants heads of 96 to fill its width, is 768 wide here.
"""
from dataclasses import dataclass, field, replace

import gguf


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters of a tiny model."""

    arch: str
    layers: int = 2
    hidden: int = 256
    ffn: int = 512
    heads: int = 8
    kv_heads: int = 4
    head: int = 32
    vocab: int = 512
    context: int = 512
    rope_base: float = 10000.0
    eps: float = 1e-5
    tied: bool = False
    vocabulary: str = "spm"
    keys: dict = field(default_factory=dict)  # further metadata: suffix behind "<arch>." to value
    run_context: int = 256  # of both engines: LongRoPE chooses its factors by it
    factors: tuple = ()  # names of tensors with RoPE factors: rope_freqs, rope_factors_long, rope_factors_short


@dataclass(frozen=True)
class Tensor:
    """A tensor to fill: [rows, columns], or a vector where `rows` is 0."""

    name: str
    rows: int
    columns: int
    gain: float = 1.0  # of matrices: standard deviation times sqrt(columns)
    mean: float = 0.0  # of vectors
    std: float = 0.1


def norm(name, n):
    """The weight of an RMSNorm."""
    return Tensor(name, 0, n, mean=1.0)


def bias(name, n):
    """A bias large enough to matter."""
    return Tensor(name, 0, n, std=0.5)


def separate_qkv(s, b):
    """Q, K and V; sharper scores than unit weights would give."""
    q, kv = s.heads * s.head, s.kv_heads * s.head
    yield Tensor(b + "attn_q.weight", q, s.hidden, 2.0)
    yield Tensor(b + "attn_k.weight", kv, s.hidden, 2.0)
    yield Tensor(b + "attn_v.weight", kv, s.hidden)


def gated_ffn(s, b):
    """Gate, up and down."""
    yield Tensor(b + "ffn_gate.weight", s.ffn, s.hidden)
    yield Tensor(b + "ffn_up.weight", s.ffn, s.hidden)
    yield Tensor(b + "ffn_down.weight", s.hidden, s.ffn)


def llama(s, b):
    """Llama, Mistral and their kin."""
    yield norm(b + "attn_norm.weight", s.hidden)
    yield from separate_qkv(s, b)
    yield Tensor(b + "attn_output.weight", s.hidden, s.heads * s.head)
    yield norm(b + "ffn_norm.weight", s.hidden)
    yield from gated_ffn(s, b)


def qwen2(s, b):
    """As llama, with biases on Q, K and V."""
    yield from llama(s, b)
    yield bias(b + "attn_q.bias", s.heads * s.head)
    yield bias(b + "attn_k.bias", s.kv_heads * s.head)
    yield bias(b + "attn_v.bias", s.kv_heads * s.head)


def qwen3(s, b):
    """As llama, with a norm of every head of Q and K."""
    yield from llama(s, b)
    yield norm(b + "attn_q_norm.weight", s.head)
    yield norm(b + "attn_k_norm.weight", s.head)


def phi3(s, b):
    """Q, K and V in one matrix, gate and up in one matrix."""
    yield norm(b + "attn_norm.weight", s.hidden)
    yield Tensor(b + "attn_qkv.weight", (s.heads + 2 * s.kv_heads) * s.head, s.hidden, 1.5)
    yield Tensor(b + "attn_output.weight", s.hidden, s.heads * s.head)
    yield norm(b + "ffn_norm.weight", s.hidden)
    yield Tensor(b + "ffn_up.weight", 2 * s.ffn, s.hidden)
    yield Tensor(b + "ffn_down.weight", s.hidden, s.ffn)


def gemma3(s, b):
    """As qwen3, with norms behind attention and feed-forward network too."""
    yield from qwen3(s, b)
    yield norm(b + "post_attention_norm.weight", s.hidden)
    yield norm(b + "post_ffw_norm.weight", s.hidden)


OUTPUT_GAIN = 4.0  # spread of the logits
TENSORS = {f.__name__: f for f in (llama, qwen2, qwen3, phi3, gemma3)}

LLAMA = Shape("llama")
QWEN2 = Shape("qwen2", heads=8, kv_heads=2, rope_base=1e6, eps=1e-6, tied=True)
# Heads as wide together as twice the model.
QWEN3 = Shape("qwen3", heads=8, kv_heads=4, head=64, rope_base=1e6, eps=1e-6)
PHI3 = Shape(
    "phi3",
    hidden=768,
    heads=8,
    kv_heads=4,
    head=96,
    keys={"attention.sliding_window": 2047, "rope.scaling.original_context_length": 512},
)
GEMMA3 = Shape(
    "gemma3",
    layers=7,
    head=64,
    heads=4,
    kv_heads=2,
    rope_base=1e6,
    eps=1e-6,
    tied=True,
    keys={"attention.sliding_window": 16},
)

SHAPES = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "phi3": PHI3, "gemma3": GEMMA3}


def _scaled(kind, **more):
    return {"rope.scaling.type": kind} | {"rope.scaling." + k: v for k, v in more.items()}


PHI3_LONG = replace(
    PHI3,
    context=4096,
    factors=("rope_factors_long", "rope_factors_short"),
    keys={"rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.19},
)

# Variants: what no row above has. Run by name, or all of them with `matrix.py --variants`.
VARIANTS = {
    "llama-deep": replace(LLAMA, layers=3, hidden=512, ffn=768, head=64),
    # Rows that are multiples of 256 and not of 512, heads of 96.
    "llama-wide": replace(LLAMA, hidden=768, ffn=1280, heads=8, kv_heads=2, head=96),
    "llama-tied": replace(LLAMA, tied=True),
    "llama-factors": replace(LLAMA, factors=("rope_freqs",)),
    "llama-linear": replace(LLAMA, keys=_scaled("linear", factor=4.0)),
    "llama-yarn": replace(LLAMA, keys=_scaled("yarn", factor=4.0, original_context_length=128)),
    # Far past the original context, where the ramp lies inside the heads.
    "llama-yarn-far": replace(LLAMA, keys=_scaled("yarn", factor=8.0, original_context_length=16)),
    "llama-mha": replace(LLAMA, kv_heads=8),
    "llama-mqa": replace(LLAMA, kv_heads=1, head=64, heads=4),
    "qwen2-untied": replace(QWEN2, tied=False),
    "qwen2-yarn": replace(QWEN2, keys=_scaled("yarn", factor=4.0, original_context_length=128)),
    "qwen3-yarn-far": replace(
        QWEN3, keys=_scaled("yarn", factor=4.0, original_context_length=32, attn_factor=1.1)
    ),
    "qwen3-tied": replace(QWEN3, tied=True),
    "phi3-tied": replace(PHI3, tied=True),
    "phi3-longrope": PHI3_LONG,
    "phi3-longrope-far": replace(PHI3_LONG, run_context=1024),
    "gemma3-untied": replace(GEMMA3, tied=False),
}


def shape(name):
    """The shape or variant of this name."""
    found = SHAPES.get(name) or VARIANTS.get(name)
    if not found:
        raise SystemExit(f"unknown architecture {name}: one of {', '.join([*SHAPES, *VARIANTS])}")
    return found


def tensors(s):
    """Every tensor of a model, in the file's order."""
    # A tied table with unit rows would answer every token with itself.
    yield Tensor("token_embd.weight", s.vocab, s.hidden, OUTPUT_GAIN if s.tied else float(s.hidden) ** 0.5)
    for i in range(s.layers):
        yield from TENSORS[s.arch](s, f"blk.{i}.")
    yield norm("output_norm.weight", s.hidden)
    if not s.tied:
        yield Tensor("output.weight", s.vocab, s.hidden, OUTPUT_GAIN)


def add_metadata(writer, s):
    """Adds the hyper-parameters to a GGUF writer."""
    writer.add_context_length(s.context)
    writer.add_embedding_length(s.hidden)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.ffn)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.kv_heads)
    writer.add_layer_norm_rms_eps(s.eps)
    writer.add_rope_freq_base(s.rope_base)
    writer.add_vocab_size(s.vocab)
    if s.head * s.heads != s.hidden:
        writer.add_key_length(s.head)
        writer.add_value_length(s.head)
    if s.arch not in ("qwen3", "gemma3"):
        writer.add_rope_dimension_count(s.head)
    for suffix, value in s.keys.items():
        kind = {int: gguf.GGUFValueType.UINT32, float: gguf.GGUFValueType.FLOAT32, str: gguf.GGUFValueType.STRING}
        writer.add_key_value(f"{s.arch}.{suffix}", value, kind[type(value)])
