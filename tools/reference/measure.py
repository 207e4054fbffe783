"""How far two arrays are apart; safetensors in and out with their metadata."""
import json

import numpy as np
from safetensors import safe_open


def _plain(a):
    """Bytes stay bytes, all else is f32."""
    return a if a.dtype == np.uint8 else a.astype(np.float32)


def load(path):
    """(tensors in order of execution, metadata). Without an `order` in the metadata, the order of the names."""
    with safe_open(path, "np") as f:
        meta = f.metadata() or {}
        names = list(f.keys())
        if "order" in meta:
            known = set(names)
            names = [n for n in json.loads(meta["order"]) if n in known]
        return {n: _plain(f.get_tensor(n)) for n in names}, meta


def save(tensors, path, meta):
    """Writes tensors of f32 or u8 in the order given.

    The same input makes the same bytes, which the library does not promise.
    """
    header, offset = {"__metadata__": dict(sorted(meta.items()))}, 0
    for name, a in tensors.items():
        kind, size = ("U8", a.size) if a.dtype == np.uint8 else ("F32", 4 * a.size)
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a, dtype="u1" if a.dtype == np.uint8 else "<f4").tobytes())


def nmse(ref, ours):
    """Normalised mean squared error: sum (ref - ours)^2 / sum ref^2, in f64."""
    a, b = ref.astype(np.float64), ours.astype(np.float64)
    power = float(np.sum(a * a))
    error = float(np.sum((a - b) ** 2))
    if not np.isfinite(error):
        return float("inf")
    return error / power if power else (0.0 if error == 0.0 else float("inf"))


def distance(ref, ours):
    """NMSE, largest and mean absolute difference, and cosine of two arrays of one shape."""
    a, b = ref.astype(np.float64).ravel(), ours.astype(np.float64).ravel()
    d = np.abs(a - b)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return {
        "nmse": nmse(a, b),
        "max_abs": float(d.max(initial=0.0)),
        "mean_abs": float(d.mean()) if d.size else 0.0,
        "cosine": float(a @ b) / norms if norms else float(np.array_equal(a, b)),
    }
