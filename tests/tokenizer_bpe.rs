//! Byte-level BPE: merges, splitters against llama.cpp's ids, hostile texts and vocabularies.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use quipu::text::{EncodeOptions, Model, PreTokenizer, Role, StreamDecoder, Tokenizer, VocabParts};
use serde::Deserialize;
use std::collections::BTreeMap;

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER: i32 = 4;

/// The alphabet, written here anew: the character of each byte.
fn letters() -> Vec<char> {
    let plain = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = (0x100..).map(|c| char::from_u32(c).unwrap());
    (0..=255u8).map(|b| if plain(b) { char::from(b) } else { others.next().unwrap() }).collect()
}

/// Ids of all bytes, then of what the merges make, then of more tokens.
fn parts(pre: &str, merges: &[&str], more: &[(&str, i32)]) -> VocabParts {
    let mut parts = VocabParts::new(Model::Bpe(PreTokenizer::by_name(pre).unwrap()));
    for letter in letters() {
        parts.push(letter.to_string().as_bytes(), 0.0, NORMAL).unwrap();
    }
    for merge in merges {
        let text = merge.replace(' ', "");
        if !parts.texts.iter().any(|(_, t)| t == text.as_bytes()) {
            parts.push(text.as_bytes(), 0.0, NORMAL).unwrap();
        }
        parts.merges.push(merge.as_bytes()).unwrap();
    }
    for (text, kind) in more {
        parts.push(text.as_bytes(), 0.0, *kind).unwrap();
    }
    parts
}

fn tokenizer(pre: &str, merges: &[&str], more: &[(&str, i32)]) -> Tokenizer {
    Tokenizer::new(parts(pre, merges, more)).unwrap()
}

fn encode(t: &Tokenizer, text: impl AsRef<[u8]>) -> Vec<u32> {
    let mut ids = Vec::new();
    t.encode(text, EncodeOptions { add_special: false, parse_special: true }, &mut ids).unwrap();
    ids
}

/// Texts of the tokens, joined by `|`.
fn split(t: &Tokenizer, text: &str) -> String {
    let texts: Vec<_> = encode(t, text)
        .into_iter()
        .map(|id| String::from_utf8_lossy(t.vocab().text(id).unwrap()).into_owned())
        .collect();
    texts.join("|")
}

#[test]
fn the_best_rank_merges_first_and_the_leftmost_of_equals() {
    let t = tokenizer("gpt-2", &["b c", "a b", "a bc", "a a"], &[]);
    assert_eq!(split(&t, "abc"), "abc");
    assert_eq!(split(&t, "abab"), "ab|ab");
    assert_eq!(split(&t, "aaa"), "aa|a");
    assert_eq!(split(&t, "aaaab"), "aa|a|ab", "a better rank to the right goes first");
    // Of equal pairs the first line counts.
    let t = tokenizer("gpt-2", &["a b", "b c", "a b"], &[]);
    assert_eq!(split(&t, "abc"), "ab|c");
}

#[test]
fn words_merge_on_their_own() {
    let t = tokenizer("gpt-2", &["a b", "Ġ a", "Ġ ab", "b Ġ", "1 2"], &[]);
    assert_eq!(split(&t, "ab ab  ab12"), "ab|Ġab|Ġ|Ġab|12");
    assert_eq!(split(&t, "é\n"), "Ã|©|Ċ");
    let t = tokenizer("smollm", &["1 2"], &[]);
    assert_eq!(split(&t, "12"), "1|2");
}

#[test]
fn a_word_that_is_a_token_may_need_no_merges() {
    let more = [("Ġab", NORMAL), ("abc", NORMAL)];
    assert_eq!(split(&tokenizer("llama-bpe", &["b c"], &more), "abc ab abcd"), "abc|Ġab|Ġ|a|bc|d");
    assert_eq!(split(&tokenizer("gpt-2", &["b c"], &more), "abc ab"), "a|bc|Ġ|a|b");
}

#[test]
fn special_tokens_and_flags_follow_the_name() {
    let more = [("<|x|>", CONTROL), ("[u]", USER)];
    let t = tokenizer("qwen2", &[], &more);
    assert_eq!(split(&t, "a<|x|> [u]b"), "a|<|x|>|Ġ|[u]|b");
    let mut ids = Vec::new();
    t.encode("<|x|>[u]", EncodeOptions::default(), &mut ids).unwrap();
    assert_eq!(ids.len(), 6, "without parsing only the user-defined token is one");
    // The default ids are those of the family's first models; some names add BOS, some have none.
    assert_eq!(
        (t.vocab().role(Role::Bos), t.vocab().add_bos(), t.vocab().clean_spaces()),
        (Some(11), false, false)
    );
    let t = tokenizer("llama-bpe", &[], &more);
    assert!(t.vocab().add_bos() && t.vocab().clean_spaces() && !t.vocab().add_space_prefix());
    assert_eq!(tokenizer("glm4", &[], &more).vocab().role(Role::Bos), None);
    assert_eq!(t.vocab().eog(), [11]);
}

#[test]
fn tokens_print_their_bytes() {
    let t = tokenizer("qwen2", &["Ġ a"], &[("<|x|>", CONTROL), ("odd ▁", NORMAL), ("é b", USER)]);
    let piece =
        |text: &str, special| t.piece(t.vocab().id(text.as_bytes()).unwrap(), special).unwrap().to_vec();
    assert_eq!(piece("Ġa", false), b" a");
    assert_eq!(piece("Ã", false), [0xC3]);
    assert_eq!((piece("<|x|>", false), piece("<|x|>", true)), (vec![], b"<|x|>".to_vec()));
    assert_eq!(piece("é b", false), "é b".as_bytes());
    assert_eq!(piece("odd ▁", false), "odd[UNK_BYTE_0x20odd ▁][UNK_BYTE_0xe29681odd ▁]".as_bytes());
}

#[test]
fn decoding_cleans_spaces_where_the_name_says_so() {
    let text = "it 's a , b ' c";
    for (pre, want) in [("qwen2", text), ("gpt-2", "it's a, b'c")] {
        let t = tokenizer(pre, &[], &[]);
        assert_eq!(String::from_utf8(t.decode(&encode(&t, text), false).unwrap()).unwrap(), want);
    }
}

#[test]
fn a_byte_without_a_token_is_lost_and_noted() {
    let mut p = VocabParts::new(Model::Bpe(PreTokenizer::by_name("gpt-2").unwrap()));
    for letter in ["a", "b", "ab"] {
        p.push(letter.as_bytes(), 0.0, NORMAL).unwrap();
    }
    p.merges.push(b"a b").unwrap();
    let t = Tokenizer::new(p).unwrap();
    assert_eq!(encode(&t, "abxba"), [2, 1, 0]);
    assert_eq!(t.vocab().notes()[0].code, "MissingBytes");
}

/// `tests/data/tokenizers.json`, made by `tools/reference/tokenizer_goldens.py`.
#[derive(Deserialize)]
struct Goldens {
    /// The tokens are the bytes, then what the merges make.
    merges: Vec<String>,
    texts: Vec<String>,
    /// Names of pre-tokenizers and llama.cpp's ids of each text.
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

#[test]
fn every_splitter_gives_the_ids_of_llama_cpp() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers.json");
    let goldens: Goldens = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    let merges: Vec<&str> = goldens.merges.iter().map(String::as_str).collect();
    let base = parts("gpt-2", &merges, &[]);
    for name in PreTokenizer::names() {
        let model = Model::Bpe(PreTokenizer::by_name(name).unwrap());
        let t = Tokenizer::new(VocabParts { model, ..base.clone() }).unwrap();
        // Names with the same ids share an entry.
        let (_, want) = goldens.ids.iter().find(|(names, _)| names.split(' ').any(|n| n == name)).unwrap();
        assert_eq!(want.len(), goldens.texts.len());
        for (text, want) in goldens.texts.iter().zip(want) {
            let got = encode(&t, text);
            if got != *want {
                wrong.push(format!("{name}: {text:?}: {got:?}, not {want:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn long_hostile_texts_take_no_quadratic_time() {
    let merges = ["a a", "aa aa", "aaaa aaaa", "a b", "ab ab", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ"];
    let start = std::time::Instant::now();
    let texts = [
        "a",
        "ab",
        " ",
        "\n",
        " \n",
        "1",
        "'s",
        "\u{c9}A",
        "A",
        "\u{301}",
        "a \u{301}",
        "<|",
        "\u{4e00}",
        "IMGIMG",
        "\t.",
        "\u{e000}",
    ];
    // Every name with a little, some with 1 MB.
    for name in PreTokenizer::names() {
        let size = if ["qwen2", "llama-bpe", "gpt-4o"].contains(&name) { 1_000_000 } else { 20_000 };
        let t = tokenizer(name, &merges, &[("<|end|>", CONTROL)]);
        for text in texts {
            assert!(!encode(&t, text.repeat(size / text.len())).is_empty());
        }
    }
    // Quadratic work would take hours; a slow machine takes a few seconds.
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}

/// Merges one pair after the other, the rule as it is stated.
fn slow_merge(merges: &[(String, String)], word: &str) -> Vec<String> {
    let mut symbols: Vec<String> = word.chars().map(String::from).collect();
    loop {
        let rank = |i: &usize| merges.iter().position(|m| (&m.0, &m.1) == (&symbols[*i], &symbols[i + 1]));
        let best =
            (0..symbols.len().saturating_sub(1)).filter(|i| rank(i).is_some()).min_by_key(|i| (rank(i), *i));
        let Some(i) = best else { return symbols };
        let right = symbols.remove(i + 1);
        symbols[i].push_str(&right);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merges_follow_the_stated_rule(
        pairs in prop::collection::vec(("[ab]{1,3}", "[ab]{1,3}"), 1..12),
        word in "[ab]{0,40}",
    ) {
        // Each side is a token, whether or not it can come about.
        let lines: Vec<String> = pairs.iter().map(|(l, r)| format!("{l} {r}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let sides: Vec<(&str, i32)> = pairs.iter().flat_map(|(l, r)| [(&l[..], NORMAL), (&r[..], NORMAL)]).collect();
        let t = tokenizer("gpt-2", &lines, &sides);
        prop_assert_eq!(split(&t, &word), slow_merge(&pairs, &word).join("|"));
    }

    #[test]
    fn any_text_survives_the_round_trip(text in any::<String>(), spaces in "[ab \n'1]{0,30}", at in 0..87usize) {
        let name = PreTokenizer::names().nth(at).unwrap();
        let t = tokenizer(name, &["a b", "Ġ a", "Ã ©"], &[]);
        let text = text + &spaces;
        let pieces: Vec<u8> = encode(&t, &text).iter().flat_map(|&id| t.piece(id, false).unwrap().to_vec()).collect();
        prop_assert_eq!(pieces, text.as_bytes(), "{}", name);
    }

    #[test]
    fn the_stream_never_ends_inside_a_character(text in any::<String>(), more in "[é一😀a]{0,20}") {
        let t = tokenizer("qwen2", &["ð Ł", "Ã ©"], &[]);
        let text = text + &more;
        let (mut decoder, mut out) = (StreamDecoder::new(), String::new());
        for id in encode(&t, &text) {
            let before = out.len();
            decoder.feed(t.piece(id, false).unwrap(), &mut out);
            prop_assert!(text.starts_with(&out) && text.is_char_boundary(before));
        }
        decoder.finish(&mut out);
        prop_assert_eq!(out, text);
    }

    #[test]
    fn any_vocabulary_loads_or_errs_and_takes_any_bytes(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..40),
        merges in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b' '), any::<u8>(), 97..100u8], 0..6), 0..20),
        types in prop::collection::vec(-1..9i32, 40),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        at in 0..87usize,
    ) {
        let mut p = VocabParts::new(Model::Bpe(PreTokenizer::by_name(PreTokenizer::names().nth(at).unwrap()).unwrap()));
        for (text, kind) in texts.iter().zip(types) {
            p.push(text, 0.0, kind).unwrap();
        }
        merges.iter().for_each(|m| p.merges.push(m).unwrap());
        if let Ok(t) = Tokenizer::new(p) {
            let ids = encode(&t, &bytes);
            prop_assert!(ids.iter().all(|&id| (id as usize) < t.len()));
            t.decode(&ids, true).unwrap();
        }
    }
}
