"""Small vocabularies of our own for tiny models: one for SentencePiece, one for byte-level BPE."""
import gguf

SPACE = "\u2581"
KIND = gguf.TokenType
LETTERS = "etaoinshrdlu"
# Merges of byte-level BPE, by rank; G stands for the leading space (U+0120).
MERGES = (
    "G t,h e,Gt he,i n,e r,G a,o n,r e,a t,n d,Ga nd,i s,e n,o u,G s,G w,in g,i t,o r,e s,a n,G b,G c,e d,G p,Gt o,"
    "G f,o f,G of,h a,G m,G d,l l,l e,h i,G h,a r,s t,0 0,1 9,. .,Gw as,a s,Ġ Ġ"
).replace("G", "\u0120")


def byte_characters():
    """The printable character that stands for each byte in byte-level BPE (GPT-2's table)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def spm(size):
    """(tokens, scores, types): unknown, BOS, EOS, 256 bytes, characters, pairs by falling score, unused."""
    tokens = [("<unk>", 0.0, KIND.UNKNOWN), ("<s>", 0.0, KIND.CONTROL), ("</s>", 0.0, KIND.CONTROL)]
    tokens += [(f"<0x{b:02X}>", 0.0, KIND.BYTE) for b in range(256)]
    joined = [SPACE + c for c in LETTERS] + [a + b for a in LETTERS[:6] for b in LETTERS[6:]]
    tokens += [(text, -float(i), KIND.NORMAL) for i, text in enumerate(joined)]
    single = [SPACE] + [chr(c) for c in range(33, 127)]
    tokens += [(c, -1000.0 - i, KIND.NORMAL) for i, c in enumerate(single)]
    tokens += [(f"<unused{i}>", -10000.0, KIND.UNUSED) for i in range(_room(size, len(tokens)))]
    return [list(column) for column in zip(*tokens)]


def bpe(size):
    """(tokens, types, merges): 256 bytes, the merged pairs, two control tokens, unused."""
    tokens = [(c, KIND.NORMAL) for _, c in sorted(byte_characters().items())]
    merges = [m for m in MERGES.split(",") if m]
    made = dict.fromkeys(m.replace(" ", "") for m in merges)
    tokens += [(text, KIND.NORMAL) for text in made]
    tokens += [("<|endoftext|>", KIND.CONTROL), ("<|im_end|>", KIND.CONTROL)]
    tokens += [(f"[unused{i}]", KIND.UNUSED) for i in range(_room(size, len(tokens)))]
    return [*[list(column) for column in zip(*tokens)], merges]


def _room(size, used):
    if size < used:
        raise SystemExit(f"the vocabulary needs {used} tokens, not {size}")
    return size - used


def add(writer, kind, size):
    """Adds the keys of a vocabulary of `size` tokens, `spm` or `bpe`, to a GGUF writer."""
    if kind == "spm":
        tokens, scores, types = spm(size)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(True)
        return
    tokens, types, merges = bpe(size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    end = tokens.index("<|endoftext|>")
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end + 1)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
