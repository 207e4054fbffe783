"""Trains the tokenizers of the box on its corpus, and writes their tables into GGUF files.

    python vocab.py --corpus build/corpus --out build

SentencePiece (BPE, digits split, bytes for what it does not know) for box-llama and box-phi3; byte-level BPE behind the
splitter of Qwen2 for box-qwen2. Every model gets `NAME-vocab.gguf`, tables without weights.
"""

import argparse
import io
import json
from itertools import chain
from pathlib import Path

import gguf
import sentencepiece as spm
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as bpe_models
from tokenizers import trainers

from documents import documents
from models import MODELS

# Source: tokenizer.json of Qwen2.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(path):
    """Plain texts, without marks of any template."""
    for d in documents(path):
        if d["kind"] == "story":
            yield d["text"]
        else:
            yield from (turn["content"] for turn in d["turns"])


def marked(corpus):
    """Texts with the marks of Llama 2's template, which are text to its tokenizer."""
    for d in documents(corpus):
        if d["kind"] == "story":
            yield d["text"]
            continue
        for turn in d["turns"]:
            marks = {"system": "<<SYS>> {} <</SYS>>", "user": "[INST] {} [/INST]"}.get(turn["role"], "{}")
            yield marks.format(turn["content"])


def train_spm(corpus, model):
    """A SentencePiece model; control tokens of the model's family stand at the end of its vocabulary."""
    out = io.BytesIO()
    source = marked(corpus) if model.arch == "llama" else texts(corpus)
    lines = (line for t in source for line in t.split("\n") if line)
    spm.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=out, model_type="bpe", split_digits=True, byte_fallback=True,
        vocab_size=model.vocab - len(model.controls), character_coverage=1.0, max_sentence_length=100000,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        num_threads=2, input_sentence_size=0, hard_vocab_limit=True, minloglevel=2,
    )
    return out.getvalue()


def add_spm(w, model, proto):
    """The tables of a SentencePiece model, as llama.cpp's converter writes them for the family."""
    sp = spm.SentencePieceProcessor(model_proto=proto)
    tokens, scores, types = [], [], []
    for i in range(sp.vocab_size()):
        piece = sp.id_to_piece(i)
        kind = gguf.TokenType.NORMAL
        if sp.is_unknown(i):
            kind = gguf.TokenType.UNKNOWN
        elif sp.is_control(i):
            kind = gguf.TokenType.CONTROL
        elif sp.is_byte(i):
            kind = gguf.TokenType.BYTE
        tokens.append(piece.encode())
        scores.append(sp.get_score(i))
        types.append(kind)
    for name in model.controls:
        tokens.append(name.encode())
        scores.append(-1000.0)
        types.append(gguf.TokenType.CONTROL)
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    if model.arch == "phi3":
        end = sp.vocab_size()
        w.add_eos_token_id(end + model.controls.index("<|end|>"))
        w.add_pad_token_id(end + model.controls.index("<|endoftext|>"))
    else:
        w.add_eos_token_id(2)
    w.add_chat_template(model.template)


def train_bpe(corpus, model):
    tokenizer = Tokenizer(bpe_models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=model.vocab - len(model.controls), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    roles = (turn["role"] for d in documents(corpus) for turn in d.get("turns", []))
    tokenizer.train_from_iterator(chain(texts(corpus), roles), trainer)
    return tokenizer.to_str()


def add_bpe(w, model, text):
    """The tables of a byte-level BPE model, as llama.cpp's converter writes them for Qwen2."""
    bpe = json.loads(text)["model"]
    pieces = sorted(bpe["vocab"], key=bpe["vocab"].get)
    assert [bpe["vocab"][p] for p in pieces] == list(range(model.vocab - len(model.controls)))
    types = [gguf.TokenType.NORMAL] * len(pieces) + [gguf.TokenType.CONTROL] * len(model.controls)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list([p.encode() for p in pieces] + [c.encode() for c in model.controls])
    w.add_token_types(types)
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]])
    end = len(pieces)
    w.add_bos_token_id(end + model.controls.index("<|endoftext|>"))
    w.add_eos_token_id(end + model.controls.index("<|im_end|>"))
    w.add_pad_token_id(end + model.controls.index("<|endoftext|>"))
    w.add_add_bos_token(False)
    w.add_chat_template(model.template)


def add_tables(w, model, folder):
    """Writes the tables that train() left in a folder."""
    if model.tokenizer == "spm":
        add_spm(w, model, (folder / f"{model.name}.model").read_bytes())
    else:
        add_bpe(w, model, (folder / f"{model.name}.tokenizer.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that python -m corpus filled")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for model in MODELS.values():
        if model.tokenizer == "spm":
            (args.out / f"{model.name}.model").write_bytes(train_spm(args.corpus / "train.jsonl", model))
        else:
            (args.out / f"{model.name}.tokenizer.json").write_text(train_bpe(args.corpus / "train.jsonl", model))
        w = gguf.GGUFWriter(args.out / f"{model.name}-vocab.gguf", model.arch)
        w.add_name(model.name)
        add_tables(w, model, args.out)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
        print(f"{model.name}: {model.vocab} tokens")


if __name__ == "__main__":
    main()
