"""Products of every type as llama.cpp computes them: the weights' bytes, the activations and the results."""
import gguf
import numpy as np

import cells
import llamacpp
import measure
import oracle
import tiny_models
from architectures import Tensor

ROWS, COLUMNS, INPUTS, SEED = 5, 512, 3, 1


class _Packed:
    """What the oracle wants of a tensor."""

    def __init__(self, data, kind):
        self.data, self.tensor_type, self.name = data, kind, kind.name
        self.shape = np.array([COLUMNS, ROWS])


def facts():
    """(tensors, metadata): `x`, and per type `<type>/weight` as bytes and `<type>/out`.

    `x` is exact in bf16 and so in f16 too, but for the smallest: what llama.cpp rounds for those two types stays as it
    is.
    """
    rng = np.random.default_rng(SEED)
    matrix = tiny_models.filled(Tensor("w", ROWS, COLUMNS), rng)
    x = oracle.round_f16(oracle.round_bf16(rng.standard_t(5, (INPUTS, COLUMNS)).astype(np.float32)))
    tensors = {"x": x}
    for name in tiny_models.TYPES:
        kind = gguf.GGMLQuantizationType[name.upper()]
        packed = llamacpp.quantize_rows(matrix, kind)
        out = llamacpp.product(packed, kind, ROWS, x)
        apart = measure.nmse(oracle.product(_Packed(packed, kind), x), out)
        if not apart <= cells.PRODUCT_LIMIT:
            raise SystemExit(f"{name}: llama.cpp and the oracle are {apart:.1e} apart: one of them is wrong")
        tensors[f"{name.upper()}/weight"] = packed.view(np.uint8).reshape(ROWS, -1)
        tensors[f"{name.upper()}/out"] = out
    about = {
        "engine": llamacpp.ENGINE,
        "made_by": "tools/reference/goldens.py",
        "what": "llama.cpp's quantiser and its products of every type",
        "product_nmse_limit": repr(cells.PRODUCT_LIMIT),
    }
    return tensors, about
