"""Runs a command and draws its terminal as an SVG that plays what was seen, at the speed at which a person reads.

    python terminal.py --out ../../docs/pictures/first-run.svg --quipu ../../target/release/quipu -- run -p "Once upon a time" -s 1

The text is that of the run, unchanged; what goes to standard error is grey.
"""

import argparse
import html
import shlex
import subprocess
import textwrap
from pathlib import Path

WIDTH, LINE, LEFT, TOP = 96, 18, 16, 44
WORDS_A_SECOND = 14


def wrapped(text):
    return [part for line in text.split("\n") for part in (textwrap.wrap(line, WIDTH, drop_whitespace=False) or [""])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quipu", required=True)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    arguments = [a for a in args.arguments if a != "--"]
    done = subprocess.run([args.quipu, *arguments], capture_output=True, text=True, check=True)
    before, _, after = done.stderr.partition("\n")
    shown = " ".join(shlex.quote(a) if " " in a else a for a in arguments)
    lines = [("prompt", f"$ quipu {shown}"), ("note", before)]
    lines += [("text", line) for line in wrapped(done.stdout.strip("\n"))]
    lines += [("note", line) for line in after.rstrip("\n").split("\n")]
    height = TOP + LINE * len(lines) + 16
    rows, second = [], 0.4
    for i, (kind, line) in enumerate(lines):
        y = TOP + LINE * i
        words = line.replace("  ", "\u00a0 ").split(" ") if kind == "text" else [line]
        spans = []
        for word in words:
            escaped = html.escape(word).replace(" ", "\u00a0")
            style = f"animation-delay:{second:.2f}s"
            spans.append(f'<tspan class="w" style="{style}">{escaped} </tspan>')
            second += 1 / WORDS_A_SECOND if kind == "text" else 0.05
        rows.append(f'<text class="{kind}" x="{LEFT}" y="{y}" xml:space="preserve">{"".join(spans)}</text>')
    width = LEFT * 2 + int(WIDTH * 8.1)
    svg = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{html.escape(lines[0][1])}">
<style>
text {{ font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #e6e4df; }}
.note {{ fill: #8f959e; }} .prompt {{ fill: #5fc9c4; }}
.w {{ opacity: 0; animation: show 0.01s forwards; }}
@keyframes show {{ to {{ opacity: 1; }} }}
@media (prefers-reduced-motion: reduce) {{ .w {{ opacity: 1; animation: none; }} }}
</style>
<rect width="{width}" height="{height}" rx="8" fill="#16181c"/>
<circle cx="18" cy="16" r="5" fill="#d9822b"/><circle cx="34" cy="16" r="5" fill="#8a8f3c"/><circle cx="50" cy="16" r="5" fill="#3f9c6b"/>
{chr(10).join(rows)}
</svg>
"""
    args.out.write_text(svg)


if __name__ == "__main__":
    main()
