#!/usr/bin/env python3
"""Write tiny models with random weights: every architecture in every element type.

    tiny_models.py DIR [--arch llama,qwen2] [--types f32,q4_k,q4_k_m] [--seed 0]

Files are DIR/<arch>-<type>.gguf. The writer is the `gguf` package and the quantiser is llama.cpp's own, so that what
only quipu gets wrong shows. All matrices have the given type, all vectors are F32, and the same weights are in each
type's file. Two types are mixtures: `q4_k_m` is what llama.cpp's quantiser makes of the F32 file by its own rules, and
`medley` gives every matrix another of the types in turn.

Weights are heavy-tailed (Student's t with 5 degrees of freedom, some columns larger than others) as trained ones are:
with plain noise no element stands out in its block, and quantisation is too easy.
"""
import argparse
import os

import gguf
import numpy as np

import architectures
import llamacpp
import vocabularies

FLOATS = ("f32", "f16", "bf16")
BLOCKS = tuple("q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs".split())
TYPES = FLOATS + BLOCKS
MIXTURES = ("q4_k_m", "medley")
DEGREES = 5


def filled(tensor, rng):
    """Values of one tensor, f32; matrices [rows, columns]."""
    if not tensor.rows:
        return (tensor.mean + tensor.std * rng.standard_normal(tensor.columns)).astype(np.float32)
    values = rng.standard_t(DEGREES, (tensor.rows, tensor.columns)) * np.sqrt((DEGREES - 2) / DEGREES)
    columns = np.exp(0.3 * rng.standard_normal(tensor.columns))
    values *= columns * (tensor.gain / np.sqrt(np.sum(columns**2)))
    return values.astype(np.float32)


def weights(shape, seed):
    """Name to f32 array of every tensor of a model."""
    rng = np.random.default_rng(seed)
    out = {t.name: filled(t, rng) for t in architectures.tensors(shape)}
    for name in shape.factors:
        out[name + ".weight"] = np.linspace(1.0, 8.0 if name != "rope_factors_short" else 2.0, shape.head // 2).astype(
            np.float32
        )
    return out


def file_type(kind):
    """`general.file_type` for files made of this type (of K types with mixtures: the medium one)."""
    if kind == "f32":
        return gguf.LlamaFileType.ALL_F32
    names = [f"MOSTLY_{kind.upper()}", f"MOSTLY_{kind.upper()}_M"]
    found = [t for n, t in gguf.LlamaFileType.__members__.items() if n in names]
    if not found:
        raise SystemExit(f"llama.cpp has no files of type {kind}")
    return found[0]


def type_of(index, kind):
    """The element type of matrix number `index` in a file of this kind."""
    return TYPES[index % len(TYPES)] if kind == "medley" else kind


def write(path, name, kind, seed=0):
    """Writes one model; `kind` is a type or a mixture."""
    shape = architectures.shape(name)
    if kind == "q4_k_m":
        plain = f"{path}.f32"
        write(plain, name, "f32", seed)
        llamacpp.quantize_file(plain, path, file_type(kind))
        os.remove(plain)
        return
    writer = gguf.GGUFWriter(path, shape.arch)
    writer.add_name(f"random weights, seed {seed}")  # llama.cpp wants more tokens of a name with "phi3"
    architectures.add_metadata(writer, shape)
    vocabularies.add(writer, shape.vocabulary, shape.vocab)
    matrices = 0
    for tensor, values in weights(shape, seed).items():
        if values.ndim == 1:
            writer.add_tensor(tensor, values)
            continue
        t = gguf.GGMLQuantizationType[type_of(matrices, kind).upper()]
        matrices += 1
        writer.add_tensor(tensor, llamacpp.quantize_rows(values, t), raw_dtype=t)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--arch", default="llama,qwen2,qwen3,phi3", help="names of architectures.py, separated by commas")
    p.add_argument("--types", default=",".join(TYPES + MIXTURES))
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    os.makedirs(a.dir, exist_ok=True)
    for name in a.arch.split(","):
        for kind in a.types.lower().split(","):
            if kind not in TYPES + MIXTURES:
                raise SystemExit(f"unknown type {kind}: one of {', '.join(TYPES + MIXTURES)}")
            path = os.path.join(a.dir, f"{name}-{kind}.gguf")
            write(path, name, kind, a.seed)
            print("wrote", path)


if __name__ == "__main__":
    main()
