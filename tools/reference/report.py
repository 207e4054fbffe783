"""The table of the matrix as text, Markdown and JSON."""
import json

import numpy as np

HEAD = ["model", "type", "logits", "limit", "median", "numpy", "worst tensor", "op", "its NMSE", "worst product", "arg-max", ""]
LEFT = {0, 1, 6, 7, 11}


def shortened(text):
    """As much of a reason as a table bears; the JSON has all of it."""
    return text if len(text) <= 100 else text[:97] + "..."


def fields(cell):
    """One line of the table."""
    verdict = "PASS" if cell["passed"] else "FAIL: " + shortened("; ".join(dict.fromkeys(cell["why"])))
    if "logits" not in cell:
        return [cell["model"], cell["type"]] + ["-"] * 9 + [verdict]
    product = f"{cell['worst_product']['nmse']:.1e}" if "worst_product" in cell else "-"
    return [
        cell["model"],
        cell["type"],
        f"{cell['logits']:.1e}",
        f"{cell['limit']:g}",
        f"{cell['logits_median']:.1e}",
        f"{cell['numpy']:.1e}" if "numpy" in cell else "-",
        cell["worst"]["name"],
        cell["worst"]["op"],
        f"{cell['worst']['nmse']:.1e}",
        product,
        f"{cell['clear_rows_same']}/{cell['clear_rows']} of {cell['tokens']}",
        verdict,
    ]


def text(cells):
    """Aligned columns."""
    lines = [HEAD] + [fields(c) for c in cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    pad = [str.ljust if i in LEFT else str.rjust for i in range(len(HEAD))]
    return "\n".join("  ".join(p(v, w) for p, v, w in zip(pad, line, widths)).rstrip() for line in lines)


def markdown(cells):
    """A Markdown table."""
    rule = ["---" if i in LEFT else "---:" for i in range(len(HEAD))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [HEAD, rule] + [fields(c) for c in cells])


def as_json(cells, summary):
    """Everything that was measured; infinity as text, for JSON has none."""

    def plain(x):
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, list):
            return [plain(v) for v in x]
        if isinstance(x, (float, np.floating)):
            return float(x) if np.isfinite(x) else str(x)
        return x

    return json.dumps({"summary": plain(summary), "cells": plain(cells)}, indent=1)
