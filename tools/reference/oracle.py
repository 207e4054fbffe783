"""Matrix products from a GGUF file in numpy: an oracle independent of both engines.

Activations are prepared as the weight's type wants (rounded to f16 or bf16, or quantised to blocks as ggml's x86 code
does), weights are decoded by the `gguf` package, and all else is f64. So the oracle has the value that every correct
engine approaches, without the rounding of any order of summation.
"""
import gguf
import numpy as np

QUANT = gguf.GGMLQuantizationType
# What activations are quantised to, by the weight's type.
ACTIVATIONS = (
    dict.fromkeys([QUANT.Q8_0, QUANT.Q4_0, QUANT.Q5_0, QUANT.IQ4_NL], "q8_0")
    | dict.fromkeys([QUANT.Q4_1, QUANT.Q5_1], "q8_1")
    | dict.fromkeys([QUANT.Q2_K, QUANT.Q3_K, QUANT.Q4_K, QUANT.Q5_K, QUANT.Q6_K, QUANT.IQ4_XS], "q8_k")
)


def round_bf16(x):
    """f32 rounded to bf16 (nearest, ties to even), as f32."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    u = (u + np.uint32(0x7FFF) + ((u >> 16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return u.view(np.float32)


def round_f16(x):
    """f32 rounded to f16 (nearest, ties to even), as f32."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def round_input(x, kind):
    """The activations a product with weights of this type really reads, where that is a plain rounding."""
    if kind == QUANT.F16:
        return round_f16(x)
    if kind == QUANT.BF16:
        return round_bf16(x)
    return x


def quantize_q8_0(x):
    """(d [rows, blocks] unrounded f32, quants [rows, blocks, 32]): 127/amax, nearest even."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    blocks = x.reshape(x.shape[0], -1, 32)
    amax = np.abs(blocks).max(axis=2)
    with np.errstate(divide="ignore"):
        inverse = np.where(amax > 0, np.float32(127) / amax, np.float32(0)).astype(np.float32)
    return amax / np.float32(127), np.rint(blocks * inverse[:, :, None])


def quantize_q8_k(x):
    """(d [rows, blocks], quants [rows, blocks, 256]): -127 over the value of largest magnitude, the first of equals."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    blocks = x.reshape(x.shape[0], -1, 256)
    where = np.abs(blocks).argmax(axis=2)
    largest = np.take_along_axis(blocks, where[:, :, None], axis=2)[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(largest != 0, np.float32(-127) / largest, np.float32(0)).astype(np.float32)
        d = np.where(scale != 0, np.float32(1) / scale, np.float32(0)).astype(np.float32)
    return d, np.minimum(np.rint(blocks * scale[:, :, None]), 127)


def dequantize(tensor):
    """A tensor of a GGUFReader as f32 [rows, columns]."""
    return gguf.quants.dequantize(np.asarray(tensor.data), tensor.tensor_type).reshape(tensor.shape[::-1].tolist())


def minimums(tensor):
    """The minimum of each block of a Q4_1 or Q5_1 tensor, [rows, blocks]."""
    data = np.asarray(tensor.data)
    blocks = data.reshape(data.shape[0], -1, 20 if tensor.tensor_type == QUANT.Q4_1 else 24)
    return np.ascontiguousarray(blocks[:, :, 2:4]).view(np.float16)[:, :, 0].astype(np.float64)


def product(tensor, x, rounded=True):
    """x [rows, columns] times the weight, transposed: f64 [rows, weight rows].

    `rounded=False` leaves the activations of F16 and BF16 products as they are, as quipu does.
    """
    kind = tensor.tensor_type
    w = dequantize(tensor).astype(np.float64)
    activation = ACTIVATIONS.get(kind)
    if activation is None:
        x = round_input(x, kind) if rounded else x
        return x.astype(np.float64) @ w.T
    d, quants = quantize_q8_k(x) if activation == "q8_k" else quantize_q8_0(x)
    stored = d if activation == "q8_k" else round_f16(d)
    values = (stored.astype(np.float64)[:, :, None] * quants).reshape(x.shape[0], -1)
    if activation != "q8_1":
        return values @ w.T
    # The minimum meets the block's sum, which Q8_1 keeps as an f16 of its own.
    m = minimums(tensor)
    sums = round_f16(d * quants.sum(axis=2).astype(np.float32)).astype(np.float64)
    return values @ (w - np.repeat(m, 32, axis=1)).T + sums @ m.T


def weights(path):
    """Tensors of a GGUF file by name."""
    return {t.name: t for t in gguf.GGUFReader(path).tensors}
