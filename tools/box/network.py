"""The decoder of all three models in JAX, and its initial weights; rotation of halves, as Hugging Face lays it out."""

import jax
import jax.numpy as jnp
import numpy as np


def init(model, seed):
    """Weights as a flat dictionary, matrices as [inputs, outputs]."""
    rng = np.random.default_rng(seed)
    kv = model.head_kv * model.head_dim
    normal = lambda *shape, scale=0.02: (rng.standard_normal(shape) * scale).astype(np.float32)
    p = {"embd": normal(model.vocab, model.embd), "norm": np.ones(model.embd, np.float32)}
    if not model.tied:
        p["output"] = normal(model.embd, model.vocab)
    out = 0.02 / (2 * model.layers) ** 0.5
    for i in range(model.layers):
        p |= {
            f"{i}.attn_norm": np.ones(model.embd, np.float32),
            f"{i}.q": normal(model.embd, model.embd),
            f"{i}.k": normal(model.embd, kv),
            f"{i}.v": normal(model.embd, kv),
            f"{i}.o": normal(model.embd, model.embd, scale=out),
            f"{i}.ffn_norm": np.ones(model.embd, np.float32),
            f"{i}.gate": normal(model.embd, model.ff),
            f"{i}.up": normal(model.embd, model.ff),
            f"{i}.down": normal(model.ff, model.embd, scale=out),
        }
        if model.bias:
            p |= {f"{i}.{n}_bias": np.zeros(w, np.float32) for n, w in (("q", model.embd), ("k", kv), ("v", kv))}
    return p


@jax.custom_vjp
def product(x, w):
    """x @ w with operands rounded to bfloat16, which processors with tiles multiply several times as fast."""
    return jnp.dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _product_forward(x, w):
    return product(x, w), (x, w)


def _product_backward(kept, g):
    x, w = kept
    # The sum over all tokens stays in f32.
    rows = lambda a: a.reshape(-1, a.shape[-1])
    return product(g, w.T), rows(x).T @ rows(g)


product.defvjp(_product_forward, _product_backward)


def attend(q, k, v, mask):
    """Attention of [batch, time, heads, width] queries; query heads of one key head are rows of one product."""
    batch, time, heads, d = q.shape
    kv = k.shape[2]
    by_head = lambda a: a.transpose(0, 2, 1, 3).reshape(batch * kv, -1, d)
    scores = by_head(q) @ by_head(k).transpose(0, 2, 1) * d**-0.5
    scores = jax.nn.softmax(jnp.where(jnp.tile(mask, (heads // kv, 1)), scores, -1e30), -1)
    y = (scores @ by_head(v)).reshape(batch, heads, time, d)
    return y.transpose(0, 2, 1, 3).reshape(batch, time, heads * d)


def rms_norm(x, weight, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * weight


def rotate(x, cos, sin):
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate((a * cos - b * sin, b * cos + a * sin), -1)


def logits(p, model, ids):
    """Logits [batch, time, vocabulary] of ids [batch, time]."""
    batch, time = ids.shape
    d = model.head_dim
    angle = np.arange(time)[:, None] / model.rope_base ** (np.arange(0, d, 2) / d)
    cos, sin = (jnp.asarray(f(angle), jnp.float32)[None, :, None] for f in (np.cos, np.sin))
    mask = jnp.asarray(np.tril(np.ones((time, time), bool)))
    x = p["embd"][ids]
    for i in range(model.layers):
        w = lambda name: p[f"{i}.{name}"]
        y = rms_norm(x, w("attn_norm"), model.eps)
        project = lambda n: product(y, w(n)) + (w(f"{n}_bias") if model.bias else 0.0)
        q = rotate(project("q").reshape(batch, time, model.heads, d), cos, sin)
        k = rotate(project("k").reshape(batch, time, model.head_kv, d), cos, sin)
        v = project("v").reshape(batch, time, model.head_kv, d)
        x = x + product(attend(q, k, v, mask), w("o"))
        y = rms_norm(x, w("ffn_norm"), model.eps)
        x = x + product(jax.nn.silu(product(y, w("gate"))) * product(y, w("up")), w("down"))
    x = rms_norm(x, p["norm"], model.eps)
    return product(x, p["embd"].T if model.tied else p["output"])


def loss(p, model, ids, weights):
    """Mean of the cross-entropy of ids[:, 1:], weighted, in nats."""
    out = logits(p, model, ids[:, :-1])
    picked = jnp.take_along_axis(out, ids[:, 1:, None], -1)[..., 0]
    nats = jax.nn.logsumexp(out, -1) - picked
    return jnp.sum(nats * weights[:, 1:]) / jnp.maximum(jnp.sum(weights[:, 1:]), 1.0)
