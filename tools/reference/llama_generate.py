#!/usr/bin/env python3
"""Greedy continuation by llama.cpp: the text on stdout, the ids on stderr.

    llama_generate.py -m MODEL.gguf -p "Once upon a time" -n 200
"""
import argparse
import sys

import llamacpp


def greedy(model, tokens, count, threads=1):
    """Ids of the greedy continuation; ties go to the lowest id; stops at an end-of-generation token."""
    context = model.context(len(tokens) + count, len(tokens), threads)
    logits, position, out = context.decode(tokens), len(tokens), []
    while len(out) < count:
        token = int(logits[-1].argmax())
        if llamacpp.llama_cpp.llama_vocab_is_eog(model.vocab, token):
            break
        out.append(token)
        logits = context.decode([token], position)
        position += 1
    context.close()
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-p", "--prompt", required=True)
    p.add_argument("-n", "--count", type=int, default=200)
    p.add_argument("-t", "--threads", type=int, default=1)
    a = p.parse_args()
    model = llamacpp.Model(a.model)
    ids = greedy(model, model.tokenize(a.prompt), a.count, a.threads)
    sys.stdout.buffer.write(b"".join(model.piece(t) for t in ids))
    sys.stdout.flush()
    print("\n" + " ".join(map(str, ids)), file=sys.stderr)


if __name__ == "__main__":
    main()
