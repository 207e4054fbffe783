"""Draws the loss curves of checkpoints into one picture.

    python plot.py --out ../../docs/pictures/box-loss.svg build/box-llama build/box-qwen2 build/box-phi3
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of train.py")
    args = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "quipu"
    figure, axes = plt.subplots(figsize=(7, 4))
    for folder in args.folders:
        facts = json.loads(str(np.load(folder / "checkpoint.npz")["facts"]))
        curve = facts["curve"]
        (line,) = axes.plot([c[0] / 1e6 for c in curve], [c[1] for c in curve], linewidth=0.8, alpha=0.6)
        held = [(c[0] / 1e6, c[2]) for c in curve if c[2] is not None] + [(facts["tokens"] / 1e6, facts["held"])]
        axes.plot(*zip(*held), "o-", color=line.get_color(), markersize=3, label=f"{folder.name}, held out {facts['held']:.3f}")
    axes.set(xlabel="million tokens seen", ylabel="cross-entropy, nats a token", ylim=(0, 2))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
