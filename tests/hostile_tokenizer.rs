//! Hostile vocabularies, cases 81 to 99: each damages one field of a model file and must give its code.
#![allow(clippy::unwrap_used)]

mod common;

use common::hostile::{Case, damaged, every_case_gives_its_code, inspect, refusal, refuses, run};
use common::{ARRAY, BOOL, I32, Model, STR, U8, U32, array, str_bytes};
use quipu::Result;
use quipu::graph::builder::CacheTypes;
use quipu::loader::{Gguf, ParseOptions};
use quipu::models::declare;
use quipu::text::{EncodeOptions, Tokenizer};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
const I8: u32 = 1;

fn strs(texts: &[Vec<u8>]) -> Vec<u8> {
    array(STR, texts.len() as u64, &texts.iter().flat_map(|t| str_bytes(t)).collect::<Vec<_>>())
}

fn i32s(numbers: &[i32]) -> Vec<u8> {
    array(I32, numbers.len() as u64, &numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())
}

fn remove(m: &mut Model, key: &str) {
    m.kv.retain(|kv| kv.key != key.as_bytes());
}

/// Token texts of the base file.
fn base_tokens() -> Vec<Vec<u8>> {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    tokens.extend("▁abcdefghijklmnopqrstuvwxyz".chars().map(String::from));
    tokens.extend((tokens.len()..common::VOCAB as usize).map(|i| format!("[PAD {i}]")));
    tokens.into_iter().map(String::into_bytes).collect()
}

/// The base file with one token replaced.
fn token(m: &mut Model, id: usize, text: Vec<u8>) {
    let mut tokens = base_tokens();
    tokens[id] = text;
    m.key(TOKENS).value = strs(&tokens);
}

const MERGE_LIST: [&str; 6] = ["t h", "th e", "a b", "Ġ the", "i n", "in Ġ"];

/// Makes the base file one with byte-level BPE.
fn bpe(m: &mut Model) {
    let plain = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = (0x100..).map(|c| char::from_u32(c).unwrap());
    let letters = (0..=255u8).map(|b| if plain(b) { char::from(b) } else { others.next().unwrap() });
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend(letters.map(String::from));
    tokens.extend(MERGE_LIST.map(|m| m.replace(' ', "")));
    tokens.extend((tokens.len()..common::VOCAB as usize).map(|i| format!("[PAD{i}]")));
    let texts: Vec<Vec<u8>> = tokens.into_iter().map(String::into_bytes).collect();
    m.key(MODEL).value = str_bytes(b"gpt2");
    m.key(TOKENS).value = strs(&texts);
    m.key(TYPES).value = i32s(&(0..common::VOCAB).map(|i| if i < 3 { 3 } else { 1 }).collect::<Vec<_>>());
    remove(m, SCORES);
    m.add(PRE.as_bytes(), STR, str_bytes(b"gpt-2"));
    merges(m, &MERGE_LIST);
}

fn merges(m: &mut Model, lines: &[&str]) {
    remove(m, MERGES);
    let lines: Vec<Vec<u8>> = lines.iter().map(|l| l.as_bytes().to_vec()).collect();
    m.add(MERGES.as_bytes(), ARRAY, strs(&lines));
}

const CASES: &[Case] = &[
    (81, "no tokens", "MissingKey", |m| remove(m, TOKENS)),
    (82, "tokens are numbers", "WrongType", |m| {
        m.key(TOKENS).value = array(U32, common::VOCAB, &[0; 4 * common::VOCAB as usize]);
    }),
    (82, "tokens are one number", "WrongType", |m| {
        (m.key(TOKENS).ty, m.key(TOKENS).value) = (U32, vec![0; 4]);
        m.add(b"llama.vocab_size", U32, (common::VOCAB as u32).to_le_bytes().to_vec());
    }),
    (83, "a score short", "ArrayLength", |m| {
        m.key(SCORES).value = array(common::F32, common::VOCAB - 1, &[0; 4 * (common::VOCAB as usize - 1)]);
    }),
    (83, "a type short", "ArrayLength", |m| m.key(TYPES).value = i32s(&[1; common::VOCAB as usize - 1])),
    (84, "scores in bytes", "WrongType", |m| {
        m.key(SCORES).value = array(U8, common::VOCAB, &[0; common::VOCAB as usize]);
    }),
    (85, "types in bytes", "WrongType", |m| {
        m.key(TYPES).value = array(I8, common::VOCAB, &[1; common::VOCAB as usize]);
    }),
    (86, "eos 2^32-1", "TokenIdOutOfRange", |m| m.set_u32("tokenizer.ggml.eos_token_id", u32::MAX)),
    (86, "bos is the number of tokens", "TokenIdOutOfRange", |m| {
        m.set_u32("tokenizer.ggml.bos_token_id", common::VOCAB as u32)
    }),
    (88, "byte <0x-1>", "BadByteToken", |m| token(m, 3, b"<0x-1>".to_vec())),
    (88, "byte <0xZZ>", "BadByteToken", |m| token(m, 258, b"<0xZZ>".to_vec())),
    (88, "byte <0x100>", "BadByteToken", |m| token(m, 9, b"<0x100>".to_vec())),
    (92, "a token of 8 193 bytes", "TokenTooLong", |m| token(m, 260, vec![b'x'; 8193])),
    (92, "a token of 100 MB", "TokenTooLong", |m| token(m, 260, vec![b'x'; 100_000_000])),
    (93, "a merge without a space", "BadMerge", |m| (bpe(m), merges(m, &["t h", "the"])).1),
    (93, "a merge with two spaces", "BadMerge", |m| (bpe(m), merges(m, &["t h e"])).1),
    (93, "a merge of one text", "BadMerge", |m| (bpe(m), merges(m, &["t h", "t "])).1),
    (93, "a merge that begins with a space", "BadMerge", |m| (bpe(m), merges(m, &[" h"])).1),
    (93, "an empty merge", "BadMerge", |m| (bpe(m), merges(m, &["t h", ""])).1),
    (93, "a merge of 1 MB", "TokenTooLong", |m| (bpe(m), merges(m, &["t h", &"x".repeat(1 << 20)])).1),
    (95, "no merges", "MissingKey", |m| (bpe(m), remove(m, MERGES)).1),
    (95, "merges are numbers", "WrongType", |m| {
        bpe(m);
        m.key(MERGES).value = array(U32, 2, &[0; 8]);
    }),
    (96, "an unknown pre-tokenizer", "UnsupportedPreTokenizer", |m| {
        bpe(m);
        m.key(PRE).value = str_bytes(b"qwen2\x1b[31m");
    }),
    (96, "no pre-tokenizer", "MissingKey", |m| (bpe(m), remove(m, PRE)).1),
    (96, "an empty pre-tokenizer", "UnsupportedPreTokenizer", |m| {
        bpe(m);
        m.key(PRE).value = str_bytes(b"");
    }),
    (96, "the pre-tokenizer is a number", "WrongType", |m| {
        bpe(m);
        (m.key(PRE).ty, m.key(PRE).value) = (U32, vec![0; 4]);
    }),
    (97, "add_bos without bos", "Inconsistent", |m| remove(m, "tokenizer.ggml.bos_token_id")),
    (97, "add_eos without eos", "Inconsistent", |m| {
        remove(m, "tokenizer.ggml.eos_token_id");
        m.add(b"tokenizer.ggml.add_eos_token", BOOL, vec![1]);
    }),
    (98, "a family with a short charsmap", "UnsupportedTokenizer", |m| {
        m.key(MODEL).value = str_bytes(b"t5");
        m.add(b"tokenizer.ggml.precompiled_charsmap", ARRAY, array(U8, 3, &[255; 3]));
    }),
    (99, "fewer tokens than embedding rows", "Inconsistent", |m| {
        m.key(TOKENS).value = strs(&base_tokens()[..common::VOCAB as usize - 1]);
    }),
    (99, "more tokens than embedding rows", "Inconsistent", |m| {
        let tokens = [base_tokens(), vec![b"more".to_vec()]].concat();
        m.key(TOKENS).value = strs(&tokens);
    }),
];

fn load(bytes: &[u8]) -> Result<Gguf> {
    let g = Gguf::parse(bytes.into(), &ParseOptions::default())?;
    declare(&g, &[], CacheTypes::default())?;
    Tokenizer::from_gguf(&g)?;
    Ok(g)
}

#[test]
fn every_case_gives_its_code_and_offset() {
    every_case_gives_its_code(CASES, load);
}

#[test]
fn commands_refuse_every_case() {
    refuses(CASES, &[inspect, run]);
    let numbers: Vec<u32> = CASES.iter().chain(ACCEPTED).map(|c| c.0).collect();
    assert!((81..=99).all(|n| n == 87 || numbers.contains(&n)), "a case is missing");
}

/// What may surprise and is accepted, all the way to a run. (Case 87, a vocabulary of one token, is no model.)
const ACCEPTED: &[Case] = &[
    (84, "scores in whole numbers", "", |m| {
        m.key(SCORES).value = i32s(&(0..common::VOCAB as i32).rev().collect::<Vec<_>>());
    }),
    (85, "types that mean nothing", "", |m| {
        m.key(TYPES).value =
            i32s(&(0..common::VOCAB as i32).map(|i| [99, -1, i][i.min(2) as usize % 3]).collect::<Vec<_>>());
        token(m, 6, b"<0x03>".to_vec());
    }),
    (89, "the same text twice", "", |m| token(m, 261, b"a".to_vec())),
    (90, "an empty text", "", |m| token(m, 290, Vec::new())),
    (91, "a text of invalid UTF-8", "", |m| token(m, 290, vec![0xFF, 0xC0])),
    (94, "merges of what is no token", "", |m| (bpe(m), merges(m, &["t h", "x yz", "q q", "ab c"])).1),
    (95, "an empty list of merges", "", |m| (bpe(m), merges(m, &[])).1),
    (96, "byte-level BPE", "", bpe),
];

#[test]
fn what_is_accepted_runs() {
    let dir = tempfile::tempdir().unwrap();
    for case in ACCEPTED {
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, damaged(case)).unwrap();
        let arguments = run(path.to_str().unwrap());
        let got = common::process::quipu(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(got.code, Some(0), "{} {}: {}", case.0, case.1, got.stderr);
    }
}

#[test]
fn merges_of_what_is_no_token_are_counted() {
    let bytes = damaged(ACCEPTED.iter().find(|c| c.0 == 94).unwrap());
    let t = Tokenizer::from_gguf(&load(&bytes).unwrap()).unwrap();
    let note = t.vocab().notes().iter().find(|n| n.code == "UnknownMerges").unwrap();
    assert_eq!(note.found, "3 merges");
    let mut ids = Vec::new();
    t.encode("qq th", EncodeOptions::default(), &mut ids).unwrap();
    assert_eq!(t.decode(&ids, false).unwrap(), b"qq th");
    assert_eq!(ids.len(), 4);
}

#[test]
fn an_unknown_pre_tokenizer_names_the_known_ones_and_the_way_out() {
    let case = |number, what: &str| CASES.iter().find(|c| c.0 == number && c.1 == what).unwrap();
    for what in ["an unknown pre-tokenizer", "no pre-tokenizer"] {
        let bytes = damaged(case(96, what));
        let e = load(&bytes).unwrap_err().to_string();
        for part in ["llama-bpe", "qwen2", "tekken", "--override-kv tokenizer.ggml.pre=str:NAME"] {
            assert!(e.contains(part), "{part} in {e}");
        }
        // The way out works.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, &bytes).unwrap();
        let mut arguments = run(path.to_str().unwrap());
        assert!(refusal(&arguments, case(96, what).2, 3, bytes.len() as u64, false).is_empty());
        arguments.extend(["--override-kv", "tokenizer.ggml.pre=str:qwen2"].map(String::from));
        let got = common::process::quipu(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(got.code, Some(0), "{}", got.stderr);
    }
}
