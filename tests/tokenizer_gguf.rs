//! Vocabularies in files: what is read, and what a damaged or hostile one is told.
#![allow(clippy::unwrap_used)]

use quipu::loader::write::GgufWriter;
use quipu::loader::{Gguf, ParseOptions, Value, ValueType};
use quipu::text::{EncodeOptions, Role, Tokenizer};
use quipu::{Error, Result};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";

/// A small vocabulary: three special tokens, a few letters, all bytes.
fn tokens() -> (Vec<Vec<u8>>, Vec<f32>, Vec<i32>) {
    let mut texts: Vec<Vec<u8>> = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab"].map(Vec::from).to_vec();
    let mut types = vec![2, 3, 3, 1, 1, 1, 1];
    let scores: Vec<f32> = (0..texts.len() + 256).map(|i| -(i as f32)).collect();
    texts.extend((0..=255u8).map(|b| format!("<0x{b:02X}>").into_bytes()));
    types.resize(texts.len(), 6);
    (texts, scores, types)
}

/// The file of that vocabulary without the keys in `but`, then with what `more` adds.
fn file(but: &[&str], more: impl FnOnce(&mut GgufWriter) -> &mut GgufWriter) -> Gguf {
    let (texts, scores, types) = tokens();
    let mut w = GgufWriter::new();
    let keep = |key: &str| !but.contains(&key);
    w.str("general.architecture", "llama");
    if keep(MODEL) {
        w.str(MODEL, "llama");
    }
    if keep(TOKENS) {
        w.strs(TOKENS, &texts);
    }
    if keep(SCORES) {
        w.f32s(SCORES, &scores);
    }
    if keep(TYPES) {
        w.i32s(TYPES, &types);
    }
    more(&mut w);
    Gguf::parse(w.header().into(), &ParseOptions::default()).unwrap()
}

fn load(but: &[&str], more: impl FnOnce(&mut GgufWriter) -> &mut GgufWriter) -> Result<Tokenizer> {
    Tokenizer::from_gguf(&file(but, more))
}

/// The only problem of a refused file: code and thing; it must have an offset if the key is in the file.
fn refused(but: &[&str], more: impl FnOnce(&mut GgufWriter) -> &mut GgufWriter) -> (&'static str, String) {
    let file = file(but, more);
    let e: Error = Tokenizer::from_gguf(&file).unwrap_err();
    assert_eq!(e.class().exit_code(), 3);
    assert_eq!(e.problems().len(), 1, "{e}");
    let p = &e.problems()[0];
    let key = p.thing.strip_prefix("key ").unwrap().split('[').next().unwrap();
    assert_eq!(p.offset, file.offset_of(key), "{e}");
    assert!(!p.expected.is_empty(), "{e}");
    (p.code, p.thing.clone())
}

fn problem(code: &'static str, key: &str) -> (&'static str, String) {
    (code, format!("key {key}"))
}

#[test]
fn a_small_file_encodes() {
    let t = load(&[], |w| w).unwrap();
    let mut ids = Vec::new();
    t.encode("ab b", EncodeOptions { add_special: true, parse_special: false }, &mut ids).unwrap();
    assert_eq!(ids, [1, 3, 6, 3, 5]);
    assert_eq!(t.decode(&ids[1..], false).unwrap(), b"ab b");
    assert_eq!((t.vocab().role(Role::Bos), t.vocab().eog()), (Some(1), &[2][..]));
}

#[test]
fn flags_roles_and_old_keys_are_read() {
    let t = load(&[], |w| {
        w.bool(ADD_BOS, false).bool("tokenizer.ggml.add_eos_token", true).u32(EOS, 5).u32(BOS, 4);
        w.bool("tokenizer.ggml.add_space_prefix", false).u32("tokenizer.ggml.prefix_token_id", 6);
        w.i32s("tokenizer.ggml.suppress_tokens", &[4, -1, 100_000])
    })
    .unwrap();
    let mut ids = Vec::new();
    t.encode("a", EncodeOptions { add_special: true, parse_special: false }, &mut ids).unwrap();
    assert_eq!(ids, [4, 5]);
    assert_eq!(t.vocab().role(Role::FimPre), Some(6));
    assert_eq!(t.vocab().suppressed(), [4]);
    assert_eq!(t.vocab().eog(), [2, 5]);
}

#[test]
fn a_missing_or_mistyped_key_is_named() {
    assert_eq!(refused(&[TOKENS], |w| w), problem("MissingKey", TOKENS));
    assert_eq!(refused(&[MODEL], |w| w), problem("MissingKey", MODEL));
    assert_eq!(
        refused(&[TOKENS], |w| w.array(TOKENS, ValueType::U32, (0..5).map(Value::U32))),
        problem("WrongType", TOKENS)
    );
    assert_eq!(refused(&[TOKENS], |w| w.u32(TOKENS, 1)), problem("WrongType", TOKENS));
    let u8s = || (0..263).map(|_| Value::U8(1));
    assert_eq!(refused(&[SCORES], |w| w.array(SCORES, ValueType::U8, u8s())), problem("WrongType", SCORES));
    let i8s = || (0..263).map(|_| Value::I8(1));
    assert_eq!(refused(&[TYPES], |w| w.array(TYPES, ValueType::I8, i8s())), problem("WrongType", TYPES));
    assert_eq!(refused(&[], |w| w.str(BOS, "1")), problem("WrongType", BOS));
    assert_eq!(refused(&[], |w| w.u32(ADD_BOS, 1)), problem("WrongType", ADD_BOS));
}

#[test]
fn arrays_shorter_than_the_vocabulary_are_refused() {
    for n in [0, 262] {
        assert_eq!(refused(&[SCORES], |w| w.f32s(SCORES, &vec![0.0; n])), problem("ArrayLength", SCORES));
        assert_eq!(refused(&[TYPES], |w| w.i32s(TYPES, &vec![1; n])), problem("ArrayLength", TYPES));
    }
    let none: [&str; 0] = [];
    assert_eq!(refused(&[TOKENS], |w| w.strs(TOKENS, &none)), problem("ArrayLength", TOKENS));
}

#[test]
fn whole_number_scores_and_unknown_types_are_accepted() {
    let t = load(&[SCORES], |w| w.i32s(SCORES, &(0..263).rev().collect::<Vec<_>>())).unwrap();
    assert_eq!(t.vocab().scores()[..2], [262.0, 261.0]);
    let t = load(&[SCORES, TYPES], |w| w).unwrap();
    assert_eq!(t.piece(4, false).unwrap(), b"a", "without types every token is normal");
    let mut types = tokens().2;
    types[4] = 99;
    let t = load(&[TYPES], |w| w.i32s(TYPES, &types)).unwrap();
    assert_eq!(t.piece(4, true).unwrap(), b"", "an undefined token prints nothing");
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    assert_eq!(refused(&[], |w| w.u32(EOS, u32::MAX)), problem("TokenIdOutOfRange", EOS));
    assert_eq!(refused(&[], |w| w.u32(BOS, 263)), problem("TokenIdOutOfRange", BOS));
    assert_eq!(refused(&[], |w| w.bool(ADD_BOS, true)), problem("Inconsistent", ADD_BOS));
    let t = load(&[TOKENS], |w| w.strs(TOKENS, &["x"])).unwrap();
    assert_eq!(
        (t.vocab().role(Role::Bos), t.vocab().role(Role::Eos), t.vocab().add_bos()),
        (None, None, false)
    );
}

#[test]
fn bad_token_texts_are_named() {
    for text in ["<0x-1>", "<0xZZ>", "<0x100>"] {
        let (mut texts, scores, mut types) = tokens();
        texts.push(text.into());
        types.push(6);
        let scores = [&scores[..], &[0.0]].concat();
        let got = refused(&[TOKENS, TYPES, SCORES], |w| {
            w.strs(TOKENS, &texts).i32s(TYPES, &types).f32s(SCORES, &scores)
        });
        assert_eq!(got, problem("BadByteToken", "tokenizer.ggml.tokens[263]"), "{text}");
    }
    let mut texts = tokens().0;
    texts[4] = vec![b'x'; 1 << 20];
    let want = problem("TokenTooLong", "tokenizer.ggml.tokens[4]");
    assert_eq!(refused(&[TOKENS], |w| w.strs(TOKENS, &texts)), want);
    let mut scores = tokens().1;
    scores[7] = f32::NAN;
    let want = problem("OutOfRange", "tokenizer.ggml.scores[7]");
    assert_eq!(refused(&[SCORES], |w| w.f32s(SCORES, &scores)), want);
}

#[test]
fn duplicate_empty_and_invalid_texts_are_accepted() {
    let mut texts = tokens().0;
    (texts[4], texts[5], texts[6]) = (b"dup".to_vec(), b"dup".to_vec(), vec![]);
    texts[3] = vec![0xFF, 0xC0];
    let t = load(&[TOKENS], |w| w.strs(TOKENS, &texts)).unwrap();
    assert_eq!(t.vocab().id(b"dup"), Some(5));
    assert_eq!(t.vocab().text(6).unwrap(), b"[EMPTY_6]");
    assert_eq!(t.piece(3, false).unwrap(), [0xFF, 0xC0]);
    assert_eq!(t.vocab().notes().len(), 1);
}

#[test]
fn other_families_are_refused_by_name() {
    let e = load(&[MODEL], |w| w.str(MODEL, "gpt\n2")).unwrap_err();
    assert_eq!(e.code(), "UnsupportedTokenizer");
    assert!(e.to_string().contains("\"gpt\\n2\""), "{e}");
}

#[test]
fn all_problems_are_reported_together() {
    let e = load(&[SCORES], |w| w.str(SCORES, "x").str(BOS, "1").u32(ADD_BOS, 1)).unwrap_err();
    assert_eq!(e.problems().iter().map(|p| p.code).collect::<Vec<_>>(), ["WrongType"; 3]);
    let e = load(&[], |w| w.u32(BOS, 999).u32(EOS, 999)).unwrap_err();
    assert_eq!(e.problems().iter().map(|p| p.code).collect::<Vec<_>>(), ["TokenIdOutOfRange"; 2]);
}
