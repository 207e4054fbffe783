"""llama.cpp through llama-cpp-python: load a model, run tokens, watch every node of the graph.

The settings are the ones a comparison needs: keys and values kept as f32, flash attention off, nothing on an
accelerator, weights left in their file layout (no repacking), logits for every token. `llama_cpp` is the low-level
binding of llama-cpp-python; only its C functions are used here.
"""
import ctypes
import sys

import llama_cpp
import numpy as np

_lib = llama_cpp.llama_cpp._lib
_MAX_DIMS, _MAX_OP_PARAMS, _MAX_SRC, _MAX_NAME = 4, 64, 10, 64


class GgmlTensor(ctypes.Structure):
    """`struct ggml_tensor` of this llama.cpp; `Tensor` checks it against ggml's own answers."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _MAX_DIMS),
        ("nb", ctypes.c_size_t * _MAX_DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * (_MAX_OP_PARAMS // 4)),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _MAX_SRC),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _MAX_NAME),
        ("extra", ctypes.c_void_p),
    ]


def _function(name, restype, *argtypes):
    f = getattr(_lib, name)
    f.restype, f.argtypes = restype, list(argtypes)
    return f


_nbytes = _function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
_get_name = _function("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)
_op_name = _function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
_type_name = _function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)
_tensor_get = _function(
    "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)

ENGINE = f"llama-cpp-python {llama_cpp.__version__}, ggml {_function('ggml_version', ctypes.c_char_p)().decode()}"

_PLAIN = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i32": np.int32, "i64": np.int64}


class Tensor:
    """One node or operand of llama.cpp's graph."""

    def __init__(self, address):
        self.address = address
        self.raw = GgmlTensor.from_address(address)
        self.name = self.raw.name.decode()
        self.type = _type_name(self.raw.type).decode()
        self.op = _op_name(self.raw.op).decode()
        self.ne = list(self.raw.ne)
        if _get_name(address).decode() != self.name:
            raise RuntimeError("this llama.cpp lays ggml_tensor out differently: adapt GgmlTensor")

    def src(self, i):
        """Operand `i`, or None."""
        return Tensor(self.raw.src[i]) if self.raw.src[i] else None

    def values(self):
        """The elements as an f32 array, ggml's dimensions reversed (slowest first), strides followed."""
        size = _nbytes(self.address)
        data = np.empty(size, dtype=np.uint8)
        if self.raw.buffer:
            _tensor_get(self.address, data.ctypes.data, 0, size)
        else:
            ctypes.memmove(data.ctypes.data, self.raw.data, size)
        dtype = np.dtype(_PLAIN[self.type])
        shape, strides = self.ne[::-1], list(self.raw.nb)[::-1]
        flat = data[: size // dtype.itemsize * dtype.itemsize].view(dtype)
        a = np.lib.stride_tricks.as_strided(flat, shape, strides)
        if self.type == "bf16":
            return (a.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(a, dtype=np.float32)


def _quiet(level, text, _user):
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        print(text.decode(errors="replace"), end="", file=sys.stderr, flush=True)


_LOG = llama_cpp.llama_log_callback(_quiet)


_quantize_chunk = _function(
    "ggml_quantize_chunk",
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
)
_row_size = _function("ggml_row_size", ctypes.c_size_t, ctypes.c_int, ctypes.c_int64)


def quantize_rows(values, kind):
    """f32 [rows, columns] in a type of ggml, by ggml's own quantiser: the bytes as u8 [rows, bytes]; F32 as it is."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if int(kind) == 0:
        return values
    rows, columns = values.shape
    out = np.empty((rows, _row_size(int(kind), columns)), dtype=np.uint8)
    written = _quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    if written != out.nbytes:
        raise SystemExit(f"ggml_quantize_chunk wrote {written} bytes, not {out.nbytes}")
    return out


class _InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def product(packed, kind, rows, x):
    """x [n, columns] times a packed weight of `rows` rows, transposed, by ggml's CPU backend: f32 [n, rows]."""
    pointer, i64 = ctypes.c_void_p, ctypes.c_int64
    new = _function("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, i64, i64)
    x = np.ascontiguousarray(x, dtype=np.float32)
    size = (16 << 20) + 2 * (packed.nbytes + x.nbytes)
    context = _function("ggml_init", pointer, _InitParams)(_InitParams(size, None, False))
    weight, inputs = new(context, int(kind), x.shape[1], rows), new(context, 0, x.shape[1], x.shape[0])
    for tensor, source in ((weight, packed), (inputs, x)):
        if _nbytes(tensor) != source.nbytes:
            raise SystemExit(f"a tensor of {_nbytes(tensor)} bytes was given {source.nbytes}")
        ctypes.memmove(Tensor(tensor).raw.data, source.ctypes.data, source.nbytes)
    result = _function("ggml_mul_mat", pointer, pointer, pointer, pointer)(context, weight, inputs)
    graph = _function("ggml_new_graph", pointer, pointer)(context)
    _function("ggml_build_forward_expand", None, pointer, pointer)(graph, result)
    compute = _function("ggml_graph_compute_with_ctx", ctypes.c_int, pointer, pointer, ctypes.c_int)
    if compute(context, graph, 1) != 0:
        raise SystemExit("ggml cannot compute the product")
    out = Tensor(result).values()[0, 0].copy()
    _function("ggml_free", None, pointer)(context)
    return out


def quantize_file(source, target, file_type, pure=False):
    """`llama-quantize [--pure] SOURCE TARGET TYPE`, on one thread."""
    llama_cpp.llama_log_set(_LOG, None)
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.nthread, p.pure = int(file_type), 1, pure
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(p)) != 0:
        raise SystemExit(f"llama.cpp cannot quantise {source}")


class Model:
    """A loaded model; `context` makes a fresh context for each call."""

    def __init__(self, path):
        llama_cpp.llama_log_set(_LOG, None)
        llama_cpp.llama_backend_init()
        p = llama_cpp.llama_model_default_params()
        p.n_gpu_layers = 0
        if hasattr(p, "use_extra_bufts"):
            p.use_extra_bufts = False  # weights stay as in the file
        self.handle = llama_cpp.llama_model_load_from_file(str(path).encode(), p)
        if not self.handle:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.handle)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def close(self):
        """Frees the model."""
        llama_cpp.llama_model_free(self.handle)

    def tokenize(self, text, special=True):
        """Ids of a text; `special` adds BOS by the model's metadata and parses special tokens."""
        raw = text.encode()
        out = (llama_cpp.llama_token * (len(raw) + 8))()
        n = llama_cpp.llama_tokenize(self.vocab, raw, len(raw), out, len(out), special, special)
        if n < 0:
            raise SystemExit("llama.cpp cannot tokenize the prompt")
        return list(out[:n])

    def piece(self, token):
        """The bytes of one token."""
        buffer = ctypes.create_string_buffer(512)
        n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(n, 0)]

    def context(self, n_ctx, n_ubatch, threads, watch=None):
        """A context with f32 cache and no flash attention; `watch(ask, tensor)` sees every node."""
        p = llama_cpp.llama_context_default_params()
        p.n_ctx = n_ctx
        p.n_batch = max(n_ctx, n_ubatch)
        p.n_ubatch = n_ubatch
        p.n_threads = p.n_threads_batch = threads
        p.type_k = p.type_v = 0  # GGML_TYPE_F32
        p.flash_attn_type = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
        p.offload_kqv = p.op_offload = False
        failure = []
        if watch:

            def on_node(address, ask, _user):
                try:
                    return bool(watch(ask, Tensor(address)))
                except BaseException as e:  # an exception must not cross C
                    failure.append(e)
                    return False

            p.cb_eval = llama_cpp.ggml_backend_sched_eval_callback(on_node)
        handle = llama_cpp.llama_init_from_model(self.handle, p)
        if not handle:
            raise SystemExit("llama.cpp cannot make a context")
        return Context(handle, self.n_vocab, p, failure)


class Context:
    """A context of llama.cpp; `decode` returns one row of logits for every token."""

    def __init__(self, handle, n_vocab, params, failure):
        self.handle, self.n_vocab, self.params, self.failure = handle, n_vocab, params, failure

    def decode(self, tokens, position=0):
        """Runs `tokens` from `position` on; logits as [tokens, vocabulary]."""
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, t in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = t, position + i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        status = llama_cpp.llama_decode(self.handle, batch)
        llama_cpp.llama_batch_free(batch)
        if self.failure:
            raise self.failure[0]
        if status != 0:
            raise SystemExit(f"llama_decode failed with {status}")
        rows = llama_cpp.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(rows, shape=(len(tokens), self.n_vocab)).copy()

    def close(self):
        """Frees the context."""
        llama_cpp.llama_free(self.handle)
