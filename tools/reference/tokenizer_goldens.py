#!/usr/bin/env python3
"""Makes tests/data/tokenizers.json anew: llama.cpp's ids of a few texts for every pre-tokenizer.

    tokenizer_goldens.py --quipu target/release/quipu -o tests/data/tokenizers.json

The vocabulary is made here from the texts themselves, with merges across every boundary a splitter may set, so that the
ids show where each one cuts. Names with the same ids share an entry. `--check` says whether the file is still so.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

import gguf
import tokenize_diff as diff

TEXTS = [
    "Hello World's END, I'LL say: don't! We'Ve 'S 's t'is",
    "  two   three    four     five\n\n six \r\n\t\tseven \n \n  ",
    "1 12 123 1234 12345 123456789 3.14159 a1b22c333 1234abc",
    "\u0661\u0662\u0663\u0664 \uff11\uff12\uff13\uff14 x\u00bd\u2163 12\u0663\u0664 \u0967\u0968\u0969\u096a1",
    "if (x == y) {\n    return foo->bar[0];\n}\n// done!!\n\n#define A_B 1/2\n/*/\n",
    "camelCase XMLHttp ABCdef \u00c9COLE \u00e9Cole \u01c5ungla STRASSE\u00df ABC\u00c9D \u0130I",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u3053\u3093\u306b\u3061\u306f\u3001\u30ab\u30bf\u30fb\u30ab\u30ca\u3002\uc548\ub155 \ud558\uc138\uc694 \u3105\u3106\u4f60 \u300c\u5f15\u300d",
    "e\u0301te\u0301 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0627\u0644\u0633\u0651 \u0301\u0301a .\u0301 \u0301",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f\U0001f1e9\U0001f1ea $5+3<4^2`~| \u20ac\u00a3\u2260\u2192 ...--- '\u201cq\u201d'",
    "\u00a0a\u00a0\u00a0b\u3000c\u2003\u2028d\u0085e\x0bf\x0c\x1cg\x00h\u200bi",
    "\u043f\u0440\u0438\u0432\u0435\u0442 \u041c\u0418\u0420 \u0395\u03bb\u03bb\u03ac\u03b4\u03b1 \u05e9\u05dc\u05d5\u05dd \u10d0\u10d1 \u1ec7\u0323 \u0531\u0561 \u1780\u17d2\u179a \u1019\u103c\u1014\u103a",
    "<sentinel:12><sentinel:> IMGIMGABZ IMGIMGABCDEZ a    b  c\t\tq ... <|x|> \u0964\u06d4\u060c",
    " " * 21 + "x" + "\n" * 7 + " " * 3 + "\t" * 5 + "y" + " " * 70,
    "dog's dog's dog's \u4f60a\u597d \u4f60a\u597d \u4f60a\u597d x'llama y'sing 'dog \u4f60a\u597d's b\u4f60 c'S 'Tis a b c d'e f g's h i\u0301 j 1 k l.m n/o p\n/q ./ r!\r\ns?/\n",
]


SHORT = (",", ":")


def letters():
    """The character of each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b if b in plain else next(others)) for b in range(256)]


def train(most):
    """Merges that are frequent in the texts, across all boundaries."""
    alphabet = letters()
    words = [[alphabet[b] for b in t.encode()] for t in TEXTS]
    merges = []
    while len(merges) < most:
        pairs = Counter(pair for w in words for pair in zip(w, w[1:]))
        pair = min(pairs, key=lambda p: (-pairs[p], p), default=None)
        if pair is None:
            break
        merges.append(pair)
        for i, w in enumerate(words):
            joined, at = [], 0
            while at < len(w):
                both = tuple(w[at : at + 2]) == pair
                joined.append(w[at] + w[at + 1] if both else w[at])
                at += 1 + both
            words[i] = joined
    return alphabet + list(dict.fromkeys(a + b for a, b in merges)), [f"{a} {b}" for a, b in merges]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quipu", default="quipu", help="is asked for the names it knows")
    parser.add_argument("-o", "--output", default="tests/data/tokenizers.json")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    diff.quiet()
    tokens, merges = train(5000)
    with tempfile.TemporaryDirectory() as folder:
        args.vocab = os.path.join(folder, "vocab.gguf")
        w = gguf.GGUFWriter(args.vocab, "llama")
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("gpt-2")
        w.add_token_list(tokens)
        w.add_token_merges(merges)
        for add in (w.add_context_length, w.add_embedding_length, w.add_block_count, w.add_feed_forward_length, w.add_head_count):
            add(32)
        w.add_layer_norm_rms_eps(1e-5)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
        by_ids = {}
        for name in diff.known(args):
            llama = diff.Llama(args.vocab, name)
            ids = [llama.encode(t.encode(), True) for t in TEXTS]
            llama.close()
            by_ids.setdefault(json.dumps(ids), []).append(name)
    rows = [f"    {json.dumps(' '.join(names))}: {ids.replace(' ', '')}" for ids, names in by_ids.items()]
    head = "".join(f"  {json.dumps(k)}: {json.dumps(v, separators=SHORT, ensure_ascii=False)},\n" for k, v in (("merges", merges), ("texts", TEXTS)))
    text = "{\n" + head + '  "ids": {\n' + ",\n".join(rows) + "\n  }\n}\n"
    json.loads(text)
    if args.check:
        same = open(args.output, encoding="utf-8").read() == text
        print("the same" if same else f"{args.output} differs")
        sys.exit(0 if same else 1)
    with open(args.output, "w", encoding="utf-8") as f:
        f.write(text)
    print(f"{len(by_ids)} entries, {len(text)} bytes")


main()
