"""Trains a model of the box on prepared ids; goes on where it was stopped.

    python train.py box-llama --data build/box-llama --out build/box-llama --tokens 24e6

Muon (Jordan et al., 2024) for the matrices of the layers, AdamW for the rest; the rate rises, stays, and falls to zero
over the last part. Documents of like length share a batch; some are joined to whole windows, so that late positions
and long conversations are seen.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import network
from models import MODELS

LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)
TOKENS_PER_STEP = 6144
JOINED = 0.12  # part of the documents that are joined to whole windows


class Batches:
    """An endless, seeded stream of (ids, weights); the same from any epoch on."""

    def __init__(self, ids, weights, starts, ctx, seed):
        self.ids, self.weights, self.starts = ids, weights, starts
        self.ctx, self.seed = ctx, seed

    def document(self, i):
        a, b = self.starts[i], self.starts[i + 1]
        return self.ids[a:b][: self.ctx + 1], self.weights[a:b][: self.ctx + 1]

    def epoch(self, number):
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.starts) - 1)
        joined = int(len(order) * JOINED)
        batches = list(self.windows(order[:joined])) + list(self.alike(order[joined:]))
        rng.shuffle(batches)
        return batches

    def windows(self, documents):
        pieces = [self.document(i) for i in documents]
        ids, weights = (np.concatenate([p[k] for p in pieces]) for k in (0, 1))
        width = self.ctx + 1
        n = len(ids) // width
        ids, weights = ids[: n * width].reshape(n, width), weights[: n * width].reshape(n, width)
        rows = TOKENS_PER_STEP // self.ctx
        for at in range(0, n - rows + 1, rows):
            yield ids[at : at + rows], weights[at : at + rows]

    def alike(self, documents, rest=False):
        bins = {n: [] for n in LENGTHS}
        for i in documents:
            ids, weights = self.document(i)
            length = next(n for n in LENGTHS if len(ids) - 1 <= n)
            bins[length].append((ids, weights))
            if len(bins[length]) == TOKENS_PER_STEP // length:
                yield pad(bins[length], length)
                bins[length] = []
        if rest:
            yield from (pad(documents, length) for length, documents in bins.items() if documents)


def pad(documents, length):
    ids = np.zeros((len(documents), length + 1), np.int32)
    weights = np.zeros((len(documents), length + 1), np.float32)
    for row, (i, w) in enumerate(documents):
        ids[row, : len(i)], weights[row, : len(i)] = i, w
    return ids, weights


def orthogonal(g):
    """The matrix with the singular vectors of g and singular values near 1: five Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        y = x @ x.T
        x = a * x + (b * y + c * y @ y) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def is_hidden(name, value):
    return value.ndim == 2 and name not in ("embd", "output")


def update(p, state, grads, rate, step):
    new_p, new_state = {}, {}
    for name, g in grads.items():
        w = p[name]
        if is_hidden(name, w):
            m = 0.95 * state[name][0] + g
            scale = max(1.0, w.shape[1] / w.shape[0]) ** 0.5
            new_p[name] = w * (1 - 0.1 * rate * 0.02) - rate * 0.02 * scale * orthogonal(g + 0.95 * m)
            new_state[name] = (m,)
        else:
            m = 0.9 * state[name][0] + 0.1 * g
            v = 0.95 * state[name][1] + 0.05 * g * g
            step_size = rate * (0.003 if w.ndim == 2 else 0.01)
            m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.95**step)
            new_p[name] = w - step_size * m_hat / (jnp.sqrt(v_hat) + 1e-8)
            new_state[name] = (m, v)
    return new_p, new_state


def fresh_state(p):
    return {n: tuple(np.zeros_like(w) for _ in range(1 if is_hidden(n, w) else 2)) for n, w in p.items()}


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(model, p, state, ids, weights, rate, step):
    value, grads = jax.value_and_grad(lambda p: network.loss(p, model, ids, weights))(p)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (norm + 1e-6)), grads)
    p, state = update(p, state, grads, rate, step)
    return p, state, value


@partial(jax.jit, static_argnums=0)
def held_sum(model, p, ids, weights):
    return network.loss(p, model, ids, weights) * jnp.sum(weights[:, 1:]), jnp.sum(weights[:, 1:])


def held_loss(model, p, batches):
    sums = [held_sum(model, p, *b) for b in batches.alike(range(len(batches.starts) - 1), rest=True)]
    return float(sum(s[0] for s in sums) / sum(s[1] for s in sums))


def rate_at(done, total):
    """1 after a short rise, falling to 0 over the last 40 percent."""
    return min(1.0, done / (0.01 * total) + 0.02, max(0.0, (total - done) / (0.4 * total)))


def save(path, p, state, facts):
    flat = {f"p/{n}": np.asarray(w) for n, w in p.items()}
    flat |= {f"s{i}/{n}": np.asarray(x) for n, s in state.items() for i, x in enumerate(s)}
    partial_file = path.with_suffix(".part.npz")
    np.savez(partial_file, facts=json.dumps(facts), **flat)
    partial_file.rename(path)


def restore(path):
    data = np.load(path)
    p = {n[2:]: data[n] for n in data.files if n.startswith("p/")}
    state = {n: tuple(data[f"s{i}/{n}"] for i in range(2) if f"s{i}/{n}" in data.files) for n in p}
    return p, state, json.loads(str(data["facts"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py filled")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the curve")
    parser.add_argument("--tokens", type=float, default=24e6, help="weighted and padded ids to see in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=90.0, help="stop after this long; a later call goes on")
    args = parser.parse_args()
    model = MODELS[args.model]
    train, held = (np.load(args.data / f"{n}.npz") for n in ("train", "held"))
    stream = Batches(train["ids"], train["weights"], train["starts"], model.ctx, args.seed)
    test = Batches(held["ids"], held["weights"], held["starts"], model.ctx, args.seed)
    checkpoint = args.out / "checkpoint.npz"
    if checkpoint.exists():
        p, state, facts = restore(checkpoint)
    else:
        p = network.init(model, args.seed)
        state, facts = fresh_state(p), {"epoch": 0, "batch": 0, "step": 0, "tokens": 0, "seconds": 0.0, "curve": []}
    start, seconds = time.time(), facts["seconds"]
    recent, last_save = [], time.time()
    while facts["tokens"] < args.tokens and time.time() - start < 60 * args.minutes:
        for i, (ids, weights) in enumerate(stream.epoch(facts["epoch"])):
            if i < facts["batch"]:
                continue
            facts["step"] += 1
            rate = rate_at(facts["tokens"], args.tokens)
            p, state, value = train_step(model, p, state, ids, weights, rate, facts["step"])
            facts["tokens"] += ids.shape[0] * (ids.shape[1] - 1)
            facts["batch"] = i + 1
            recent.append(float(value))
            if facts["step"] % 50 == 0:
                facts["seconds"] = seconds + time.time() - start
                facts["curve"].append([facts["tokens"], sum(recent) / len(recent), None])
                if facts["step"] % 500 == 0:
                    facts["curve"][-1][2] = held_loss(model, p, test)
                tokens, mean, held_now = facts["curve"][-1]
                print(f"step {facts['step']} tokens {tokens} loss {mean:.4f} held {held_now} {facts['seconds']:.0f} s", flush=True)
                recent = []
            if time.time() - last_save > 120:
                save(checkpoint, p, state, facts)
                last_save = time.time()
            if facts["tokens"] >= args.tokens or time.time() - start > 60 * args.minutes:
                break
        else:
            facts["epoch"], facts["batch"] = facts["epoch"] + 1, 0
    facts["seconds"] = seconds + time.time() - start
    facts["held"] = held_loss(model, p, test)
    save(checkpoint, p, state, facts)
    print(f"held-out loss {facts['held']:.4f} nats, perplexity {np.exp(facts['held']):.3f}, {facts['seconds']:.0f} s")


if __name__ == "__main__":
    main()
