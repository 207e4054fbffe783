"""Full-size models: logits and layers of quipu beside llama.cpp, reported and not gated."""
import os
import subprocess

import gguf
import numpy as np

import cells
import llamacpp
import tiny_models

# What is made where no model is given: shapes of `quipu synth`, and what llama.cpp's quantiser makes of them.
SHAPES = ("tinyllama-1.1b", "qwen2.5-0.5b")
TYPES = ("q4_k_m", "q8_0")


def make(quipu, out):
    """Writes the default models into `out`, those that are not there yet; their paths."""
    paths = []
    for shape in SHAPES:
        plain = os.path.join(out, f"{shape}-f16.gguf")
        wanted = {os.path.join(out, f"{shape}-{kind}.gguf"): kind for kind in TYPES}
        missing = {path: kind for path, kind in wanted.items() if not os.path.exists(path)}
        if missing:
            command = [quipu.program, "synth", "--shape", shape, "--type", "F16", "--seed", "1", plain]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for path, kind in missing.items():
                llamacpp.quantize_file(plain, path, tiny_models.file_type(kind))
            os.remove(plain)
        paths += wanted
    return paths


def type_of(path):
    """The most frequent type of a file's matrices, lower case."""
    kinds = [t.tensor_type.name for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1]
    return max(set(kinds), key=kinds.count).lower()


def run(quipu, models, out, room, count):
    """One cell per model."""
    done = []
    for path in models or make(quipu, out):
        rows = next(t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight").shape[1]
        ids = [1] + [int(t) for t in np.random.default_rng(0).integers(3, rows, count - 1)]
        cell = cells.run(quipu, path, type_of(path), ids, max(256, count), room, checked=False)
        done.append({"model": os.path.basename(path).removesuffix(".gguf")} | cells.merged([cell]))
    return done
