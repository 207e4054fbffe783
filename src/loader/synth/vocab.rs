//! A small SentencePiece vocabulary for synthetic models: enough pieces that English text tokenises readably,
//! padded with unused tokens to any size.
//!
//! Merged pieces form chains that start at a word's leading space (`▁`, `▁t`, `▁th`, `▁the`), so that greedy
//! merging by score reaches every listed word; whatever is not listed falls back to characters or bytes.

use crate::loader::write::GgufWriter;

/// Token types of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The least vocabulary: three special tokens and the bytes.
pub(super) const MIN_TOKENS: u32 = 3 + 256;

const CHARACTERS: &str =
    "▁etaoinshrdlucmwfgypbvkjxqz.,'\"!?-:;()TAISHWCBPMFDRLENGOUVJYKQXZ0123456789/&+=*#_<>[]{}@%$";

/// Common words, more common ones first; `^` marks those that also get a capital form.
const WORDS: &str = "^the ^and ^to of a ^in was ^he ^it that ^she for you with on ^they his her had ^there as day \
    is at said be but ^one were little ^once upon time not have all so this are from by very ^we who had play big \
    out up ^if or what when him them ^my your ^no can would big happy went saw like named ^this old some new more \
    about which their ^how then do will other girl boy dog cat ball park friend house tree mom wanted red could \
    into over after people water world made many make look ^good long way down see come first ^hello great model \
    word language ^every ^because something never always";

/// Adds the tokenizer's entries for a vocabulary of `n` tokens (at least [`MIN_TOKENS`]). The last ones are the
/// control tokens `extra`, where there is room for them.
pub(super) fn add(w: &mut GgufWriter, n: u32, extra: &[&str]) {
    let n = n as usize;
    let mut tokens: Vec<String> = Vec::with_capacity(n);
    let mut scores: Vec<f32> = Vec::with_capacity(n);
    let mut types: Vec<i32> = Vec::with_capacity(n);
    let mut push = |token: String, score: f32, ty: i32| {
        tokens.push(token);
        scores.push(score);
        types.push(ty);
    };
    push("<unk>".into(), 0.0, UNKNOWN);
    push("<s>".into(), 0.0, CONTROL);
    push("</s>".into(), 0.0, CONTROL);
    for b in 0..=255u8 {
        push(format!("<0x{b:02X}>"), 0.0, BYTE);
    }
    let merged = merges();
    // Characters come first where the vocabulary is too small for all; merged pieces always outscore them.
    let characters = CHARACTERS.chars().map(String::from).zip((1..).map(|i| -1000.0 - i as f32));
    let merged = merged.into_iter().zip((1..).map(|i| -(i as f32)));
    let spare = n.saturating_sub(MIN_TOKENS as usize);
    let extra = &extra[..extra.len().min(spare)];
    let room = spare - extra.len();
    let mut used = 0;
    for (piece, score) in characters.chain(merged).take(room) {
        push(piece, score, NORMAL);
        used += 1;
    }
    for i in used..room {
        push(format!("[PAD {i}]"), -10000.0, UNUSED);
    }
    for token in extra {
        push((*token).into(), 0.0, CONTROL);
    }
    w.str("tokenizer.ggml.model", "llama");
    w.str("tokenizer.ggml.pre", "default");
    w.strs("tokenizer.ggml.tokens", &tokens);
    w.f32s("tokenizer.ggml.scores", &scores);
    w.i32s("tokenizer.ggml.token_type", &types);
    w.u32("tokenizer.ggml.bos_token_id", 1);
    w.u32("tokenizer.ggml.eos_token_id", 2);
    w.u32("tokenizer.ggml.unknown_token_id", 0);
    w.bool("tokenizer.ggml.add_bos_token", true);
    w.bool("tokenizer.ggml.add_eos_token", false);
}

/// The prefixes of every word behind its leading space, shortest first for each, without repeats.
fn merges() -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in WORDS.split_whitespace() {
        let (capital, word) = word.strip_prefix('^').map_or((false, word), |w| (true, w));
        for first_upper in [false, true] {
            if first_upper && !capital {
                continue;
            }
            let mut piece = String::from("▁");
            for (i, c) in word.chars().enumerate() {
                piece.push(if i == 0 && first_upper { c.to_ascii_uppercase() } else { c });
                if !out.contains(&piece) {
                    out.push(piece.clone());
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::{Gguf, ParseOptions};

    #[test]
    fn any_size_and_no_repeats() {
        for n in [MIN_TOKENS, 300, 384, 32000] {
            let mut w = GgufWriter::new();
            add(&mut w, n, &["<|end|>"]);
            let g = Gguf::parse(w.header().into(), &ParseOptions::default()).unwrap();
            let tokens = g.array("tokenizer.ggml.tokens").unwrap().unwrap();
            let set: std::collections::HashSet<_> = tokens.strings().unwrap().collect();
            assert_eq!((tokens.len(), set.len()), (n as usize, n as usize));
            assert_eq!(g.array("tokenizer.ggml.scores").unwrap().unwrap().f32s().unwrap().len(), n as usize);
            assert_eq!(
                g.array("tokenizer.ggml.token_type").unwrap().unwrap().i32s().unwrap().len(),
                n as usize
            );
        }
    }

    #[test]
    fn every_merge_is_reached_from_its_prefix() {
        let all = merges();
        for piece in &all {
            let (head, _) = piece.char_indices().last().map(|(i, _)| piece.split_at(i)).unwrap();
            assert!(head == "▁" || all.iter().any(|p| p == head), "{piece}");
        }
    }
}
