"""Matrix products from a GGUF file in numpy: an oracle independent of both engines.

Activations are prepared as the weight's type wants (rounded to f16 or bf16, or quantised to Q8_0 blocks), products of
a block are exact integers, and everything after that is summed in f64. So the oracle has the value that every correct
engine approaches, without the rounding of any order of summation.
"""
import gguf
import numpy as np

QUANT = gguf.GGMLQuantizationType


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
    """(scales [rows, blocks] as f32 values of f16, quants [rows, blocks, 32]): 127/amax, nearest even."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    blocks = x.reshape(x.shape[0], -1, 32)
    amax = np.abs(blocks).max(axis=2)
    with np.errstate(divide="ignore"):
        inverse = np.where(amax > 0, np.float32(127) / amax, np.float32(0)).astype(np.float32)
    quants = np.rint(blocks * inverse[:, :, None]).astype(np.int32)
    return (amax / np.float32(127)).astype(np.float16).astype(np.float32), quants


def weight_blocks_q8_0(data):
    """(scales [rows, blocks], quants [rows, blocks, 32]) of the bytes of a Q8_0 tensor [rows, bytes]."""
    blocks = data.reshape(data.shape[0], -1, 34)
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0].astype(np.float32)
    return scales, np.ascontiguousarray(blocks[:, :, 2:]).view(np.int8).astype(np.int32)


def dequantize(tensor):
    """A tensor of a GGUFReader as f32 [rows, columns]."""
    kind = tensor.tensor_type
    data = tensor.data
    if kind == QUANT.F32:
        return np.asarray(data, dtype=np.float32)
    if kind == QUANT.F16:
        return data.view(np.float16).astype(np.float32)
    if kind == QUANT.BF16:
        bits = np.ascontiguousarray(data).view(np.uint16).astype(np.uint32)
        return (bits << 16).view(np.float32)
    if kind == QUANT.Q8_0:
        scales, quants = weight_blocks_q8_0(data)
        return (scales[:, :, None] * quants).astype(np.float32).reshape(data.shape[0], -1)
    raise SystemExit(f"{tensor.name}: the oracle does not know {kind.name}")


def product(tensor, x, rounded=True):
    """x [rows, columns] times the weight, transposed: f64 [rows, weight rows].

    `rounded=False` leaves the activations of F16 and BF16 products as they are, as quipu does.
    """
    if tensor.tensor_type == QUANT.Q8_0:
        sw, qw = weight_blocks_q8_0(tensor.data)
        sx, qx = quantize_q8_0(x)
        out = np.zeros((x.shape[0], sw.shape[0]))
        for b in range(sw.shape[1]):
            # Exact: 32 products of bytes are far below 2^53.
            block = qx[:, b, :].astype(np.float64) @ qw[:, b, :].astype(np.float64).T
            out += block * np.outer(sx[:, b].astype(np.float64), sw[:, b].astype(np.float64))
        return out
    if rounded:
        x = round_input(x, tensor.tensor_type)
    return x.astype(np.float64) @ dequantize(tensor).astype(np.float64).T


def weights(path):
    """Tensors of a GGUF file by name."""
    return {t.name: t for t in gguf.GGUFReader(path).tensors}
