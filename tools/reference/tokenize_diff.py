#!/usr/bin/env python3
"""Tokenises the same random texts with llama.cpp and with quipu, and decodes the ids again; every difference is shown.

    tokenize_diff.py VOCAB.gguf --quipu target/release/quipu [--pre NAME ...] [--count N] [--seed S]

Texts mix scripts of all planes, runs of blanks and line ends, numbers, contractions, look-alikes of special tokens,
the edges of the ranges that splitters name, and bytes that are no UTF-8. They depend on the seed alone. `--pre` relabels
the file's `tokenizer.ggml.pre` in both engines, which checks a splitter without its own vocabulary; `--pre all` takes
every name that quipu knows. Exits with 1 if anything differs.
"""
import argparse
import ctypes
import json
import random
import re
import subprocess
import sys
import time
import unicodedata

import llama_cpp

KEY = "tokenizer.ggml.pre"
BLANKS = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u2009\u2028\u2029\u202f\u205f\u3000"
ALMOST_BLANK = "\x00\x1c\x1f\x7f\u00ad\u180e\u200b\u200d\u2060\ufeff"
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'x", "'", "''",
                "'r", "'v", "'l", "\u2019s", "'\u017f", "'\u212a", "'s's", " 's", " ' ", "'\n"]
LOOK_ALIKES = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<unk>",
               "<|", "|>", "<|im_", "<|reserved_special_token_1|>", "[INST]", "[/INST]", "<sentinel:12>", "<sentinel:>",
               "<sentinel:1", "IMGIMGABZ", "IMGIMGZ", "IMGIMGABCDEZ", "IMGIMGA", "<0x0A>", "<fim_prefix>", "<\uff5cUser\uff5c>"]
SCRIPTS = [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F),
           (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xE00, 0xEFF), (0x1000, 0x109F),
           (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1C80, 0x1CBF), (0x1D00, 0x1DBF),
           (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x2BFF), (0x2C00, 0x2DFF), (0x2E80, 0x303F),
           (0x3040, 0x30FF), (0x3100, 0x318F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA640, 0xA7FF), (0xA9E0, 0xA9FF),
           (0xAA60, 0xAA7F), (0xAB30, 0xABBF), (0xAC00, 0xD7FF), (0xE000, 0xFAFF), (0xFE00, 0xFEFF), (0xFF00, 0xFFEF),
           (0x10400, 0x104FF), (0x118A0, 0x118FF), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F300, 0x1FAFF),
           (0x20000, 0x2A6DF), (0x2A700, 0x2EBEF), (0x2EBF0, 0x323AF), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF)]
EDGES = [0x7FF, 0x800, 0x9FA5, 0x9FA6, 0x4DFF, 0x4E00, 0xABFF, 0xAC00, 0xD7A3, 0xD7FF, 0xE000, 0x8C47, 0x8C48, 0xFAFF, 0xFB00,
         0x303F, 0x3040, 0x309F, 0x30A0, 0x30FF, 0x3100, 0x3105, 0x312F, 0x3130, 0x3131, 0x318E, 0x318F, 0x2013, 0x2014,
         0x2018, 0x201F, 0x2026, 0x3001, 0x3002, 0x3003, 0xFE30, 0xFE4F, 0xFF01, 0xFF0C, 0xFF0F, 0xFF1A, 0xFF1B, 0xFF5E,
         0xFF65, 0xFF9F, 0x964, 0x6D4, 0x60C, 0x1BB, 0x1C0, 0x294, 0x295, 0x10FFFF, 0xFFFF, 0x10000, 0xFFFD]
INVALID = [b"\xff", b"\x80", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xc0\x80", b"\xc1\x81", b"\xe0\x80\xa0", b"\xed\xa0\x80",
           b"\xed\xbf\xbf", b"\xf0\x80\x81\x81", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xc3(", b"\xe2\x28\xa1", b"\xf4"]


def by_category():
    groups = {}
    for point in range(0x110000):
        category = unicodedata.category(chr(point))
        if category != "Cs":
            groups.setdefault(category, []).append(point)
    return groups


GROUPS = by_category()


def part(r, specials):
    """A piece of a random text, as bytes."""
    kind = r.randrange(22)
    many = lambda f, most: "".join(f() for _ in range(r.randint(1, most)))
    if kind == 0:
        text = many(lambda: chr(r.randint(97, 122)), 12)
    elif kind == 1:
        text = many(lambda: chr(r.choice((65, 97)) + r.randrange(26)), 8)
    elif kind == 2:
        text = many(lambda: str(r.randrange(10)), 11)
    elif kind == 3:
        text = many(lambda: chr(r.choice(GROUPS[r.choice(("Nd", "Nl", "No"))])) if r.random() < 0.6 else str(r.randrange(10)), 7)
    elif kind == 4:
        text = " " * r.choice((1, 1, 1, 2, 2, 3, 4, 5, 8, 9, 17, 33, 70))
    elif kind == 5:
        text = r.choice("\n\r\t") * r.randint(1, 5)
    elif kind == 6:
        text = many(lambda: r.choice(BLANKS), 6)
    elif kind == 7:
        text = many(lambda: r.choice(" \n\r\t"), 9)
    elif kind == 8:
        text = r.choice(ALMOST_BLANK) * r.randint(1, 3)
    elif kind in (9, 10):
        text = r.choice(CONTRACTIONS)
    elif kind == 11:
        text = many(lambda: r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), 6)
    elif kind == 12:
        text = many(lambda: chr(r.choice(GROUPS[r.choice(("Pc", "Pd", "Ps", "Pe", "Po", "Sm", "Sc", "Sk", "So"))])), 4)
    elif kind == 13:
        text = many(lambda: chr(r.choice(GROUPS[r.choice(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Cf"))])), 6)
    elif kind == 14:
        first, last = r.choice(SCRIPTS)
        text = many(lambda: chr(r.randint(first, last)), 10)
    elif kind == 15:
        text = many(lambda: chr(r.choice(SCRIPTS[0 if r.random() < 0.5 else 1])) + chr(r.choice(GROUPS["Mn"])), 4)
    elif kind == 16:
        text = many(lambda: chr(r.choice(EDGES)), 4)
    elif kind == 17:
        text = many(lambda: chr(r.choice((r.randint(0, 0xD7FF), r.randint(0xE000, 0x10FFFF)))), 3)
    elif kind == 18:
        text = r.choice(LOOK_ALIKES)
    elif kind == 19:
        text = r.choice(specials) if specials else "<|"
        if r.random() < 0.4:
            text = text[: r.randint(0, len(text))]
    elif kind == 20:
        text = r.choice(("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea", "e\u0301", "\u0939\u093f\u0928\u094d\u0926\u0940",
                         "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u4f60\u597d\uff0c\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f\u30fc", "\uc548\ub155", "\u0627\u0644\u0633\u064e", "\u01c5\u01c6", "\u00dfA\u0130"))
    else:
        return r.choice(INVALID)
    return text.encode("utf-8", "surrogatepass")


def texts(seed, count, specials):
    r = random.Random(seed)
    beyond = re.compile(rb"(?:\xf4[\x90-\xbf]|[\xf5-\xf7][\x80-\xbf])[\x80-\xbf]{2}")
    for _ in range(count):
        text = b"".join(part(r, specials) for _ in range(r.choice((1, 2, 2, 3, 3, 4, 5, 6, 8, 12))))
        # llama.cpp ends the process at what looks like a code point beyond U+10FFFF.
        yield beyond.sub(b"?", text)


class Llama:
    """llama.cpp's side."""

    def __init__(self, path, pre):
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        if pre is not None:
            overrides = (llama_cpp.llama_model_kv_override * 2)()
            overrides[0].key = KEY.encode()
            overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            value = pre.encode() + b"\0"
            ctypes.memmove(ctypes.addressof(overrides[0].value), value, len(value))
            overrides[1].key = b""
            self.overrides, params.kv_overrides = overrides, overrides
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp does not load {path} as {pre}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.ids = (llama_cpp.llama_token * (1 << 16))()
        self.text = ctypes.create_string_buffer(1 << 20)

    def close(self):
        llama_cpp.llama_model_free(self.model)

    def specials(self):
        attr = lambda i: llama_cpp.llama_vocab_get_attr(self.vocab, i)
        n = llama_cpp.llama_vocab_n_tokens(self.vocab)
        # Unknown, control and user-defined.
        found = [i for i in range(n) if attr(i) & (1 | 8 | 16)]
        return [llama_cpp.llama_vocab_get_text(self.vocab, i).decode("utf-8", "replace") for i in found], n

    def encode(self, text, parse_special):
        n = llama_cpp.llama_tokenize(self.vocab, text, len(text), self.ids, len(self.ids), False, parse_special)
        return self.ids[:n]

    def decode(self, ids, special):
        for i, t in enumerate(ids):
            self.ids[i] = t
        n = llama_cpp.llama_detokenize(self.vocab, self.ids, len(ids), self.text, len(self.text), False, special)
        return self.text.raw[:n]


def lines(args, pre, command, values, *flags):
    """quipu's answers, a value each."""
    override = ["--override-kv", f"{KEY}=str:{pre}"] if pre else []
    stdin = "".join(json.dumps(v) + "\n" for v in values).encode()
    run = subprocess.run([args.quipu, command, "-m", args.vocab, "--lines-json", *override, *flags], input=stdin, stdout=subprocess.PIPE)
    if run.returncode:
        sys.exit(f"quipu {command} ended with {run.returncode}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def compare(args, pre):
    llama = Llama(args.vocab, pre)
    specials, n_vocab = llama.specials()
    all_texts = list(texts(args.seed, args.count, specials))
    # Half of the texts with special tokens read as such.
    half = len(all_texts) // 2
    wrong, started, answers = [], time.time(), []
    for parse, chosen in ((False, all_texts[:half]), (True, all_texts[half:])):
        flags = ["--no-bos"] + (["--parse-special"] if parse else [])
        ours = lines(args, pre, "tokenize", [list(t) for t in chosen], *flags)
        assert len(ours) == len(chosen)
        for text, got in zip(chosen, ours):
            want = llama.encode(text, parse)
            answers.append(want)
            if want != got:
                wrong.append((text, parse, want, got))
    r = random.Random(args.seed)
    lists = answers[:: max(1, args.count // 20000)]
    lists += [[r.randrange(n_vocab) for _ in range(r.randint(1, 12))] for _ in range(min(args.count, 5000))]
    wrong_texts = []
    for special in (False, True):
        ours = lines(args, pre, "detokenize", lists, *(["--special"] if special else []))
        for ids, got in zip(lists, ours):
            got = got.encode() if isinstance(got, str) else bytes(got)
            if llama.decode(ids, special) != got:
                wrong_texts.append((ids, special, llama.decode(ids, special), got))
    llama.close()
    n_ids = sum(map(len, answers))
    print(f"{pre or 'as in the file'}: {len(all_texts)} texts, {n_ids} ids, {len(wrong)} differ; {2 * len(lists)} decoded, "
          f"{len(wrong_texts)} differ; {time.time() - started:.0f} s", flush=True)
    for text, parse, want, got in wrong[: args.show]:
        print(f"  {text!r}{' (special)' if parse else ''}\n    llama.cpp {want}\n    quipu     {got}")
    for ids, special, want, got in wrong_texts[: args.show]:
        print(f"  {ids}{' (special)' if special else ''}\n    llama.cpp {want!r}\n    quipu     {got!r}")
    return bool(wrong or wrong_texts)


def known(args):
    """The names that quipu lists when it refuses one."""
    run = subprocess.run([args.quipu, "tokenize", "-m", args.vocab, "--override-kv", f"{KEY}=str:?", "x"], capture_output=True, text=True)
    return re.search(r"expected one of ([^;(\n]*)", run.stderr).group(1).split(" (")[0].replace(",", " ").split()


def quiet():
    """Keeps llama.cpp from talking."""
    global _silent
    _silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(_silent, None)
    llama_cpp.llama_backend_init()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocab")
    parser.add_argument("--quipu", default="quipu")
    parser.add_argument("--pre", action="append", default=[])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    args = parser.parse_args()
    quiet()
    names = [n for p in args.pre for n in (known(args) if p == "all" else [p])] or [None]
    sys.exit(max([compare(args, pre) for pre in names]))


if __name__ == "__main__":
    main()
