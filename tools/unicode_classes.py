"""Writes src/text/split/table.rs: the class of every code point, as the tokenizers' splitters need it.

    pip install unicodedata2==15.1.0
    python3 tools/unicode_classes.py > src/text/split/table.rs
    python3 tools/unicode_classes.py --check LLAMA_CPP/src/unicode-data.cpp

The version of Unicode is llama.cpp's: a newer one would give other token ids. `--check` compares every code point with
the table of a llama.cpp source tree and exits with 1 if one differs.
"""
import argparse
import re
import sys

import unicodedata2

VERSION = "15.1.0"
OTHER, LETTER, NUMBER, MARK, PUNCTUATION, SYMBOL, SPACE = range(7)
BY_CATEGORY = {"L": LETTER, "N": NUMBER, "M": MARK, "P": PUNCTUATION, "S": SYMBOL, "Z": OTHER, "C": OTHER}
# Property White_Space.
WHITE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def class_of(point):
    if point in WHITE:
        return SPACE
    return BY_CATEGORY[unicodedata2.category(chr(point))[0]]


def check(path):
    """Differences from llama.cpp's table, which has one bit per class and a set of white space."""
    source = open(path, encoding="utf-8").read()
    section = lambda name: source.split(name)[1].split("};")[0]
    bits = {0x02: NUMBER, 0x04: LETTER, 0x10: MARK, 0x20: PUNCTUATION, 0x40: SYMBOL}
    pairs = re.findall(r"\{0x([0-9A-Fa-f]+), 0x([0-9A-Fa-f]+)\}", section("unicode_ranges_flags"))
    starts = [(int(start, 16), int(flags, 16)) for start, flags in pairs]
    white = {int(p, 16) for p in re.findall(r"0x([0-9A-Fa-f]+)", section("unicode_set_whitespace"))}
    theirs = []
    for (start, flags), (end, _) in zip(starts, starts[1:]):
        theirs += [bits.get(flags & 0xFF, OTHER)] * (end - start)
    theirs = [SPACE if p in white else c for p, c in enumerate(theirs)]
    ours = [class_of(p) for p in range(0x110000)]
    lower = {chr(int(a, 16)): chr(int(b, 16)) for a, b in re.findall(
        r"\{0x([0-9A-Fa-f]+), 0x([0-9A-Fa-f]+)\}", section("unicode_map_lowercase"))}
    # The letters of contractions must have no other upper case than the ASCII one.
    odd = [u for u, l in lower.items() if l in "stmdrevl" and u != l.upper()]
    wrong = [p for p in range(0x110000) if ours[p] != theirs[p]]
    print(f"{len(ours)} code points, {len(wrong)} differ", *(f"U+{p:04X}" for p in wrong[:20]), *odd)
    return 1 if wrong or odd or len(theirs) != 0x110000 else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="UNICODE_DATA_CPP")
    args = parser.parse_args()
    if unicodedata2.unidata_version != VERSION:
        sys.exit(f"this is Unicode {unicodedata2.unidata_version}, not {VERSION}")
    if args.check:
        sys.exit(check(args.check))
    ranges, last = [], None
    for point in range(0x110000):
        if (c := class_of(point)) != last:
            ranges.append(point << 3 | c)
            last = c
    print(f"//! Classes of code points, Unicode {VERSION}. Written by `tools/unicode_classes.py`; not edited by hand.\n")
    print("/// Where each run of code points of one class starts, shifted left by three, and the class in the low bits.")
    print("#[rustfmt::skip]")
    print(f"pub(super) const RUNS: [u32; {len(ranges)}] = [")
    for i in range(0, len(ranges), 11):
        print("    " + ", ".join(f"0x{r:x}" for r in ranges[i : i + 11]) + ",")
    print("];")


main()
