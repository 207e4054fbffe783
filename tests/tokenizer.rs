//! Text to ids and back: a small vocabulary written here, and real ones where they are at hand.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use quipu::text::{Attr, EncodeOptions, Model, Piece, Role, StreamDecoder, Tokenizer, VocabParts};
use std::io::Write as _;
use std::path::PathBuf;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// `<unk> <s> </s>`, all bytes, then the given tokens from id 259 on.
fn parts(tokens: &[(&str, f32, i32)]) -> VocabParts {
    let mut parts = VocabParts::new(Model::Spm);
    for (text, kind) in [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)] {
        parts.push(text.as_bytes(), 0.0, kind).unwrap();
    }
    for byte in 0..=255u8 {
        parts.push(format!("<0x{byte:02X}>").as_bytes(), 0.0, BYTE).unwrap();
    }
    for (text, score, kind) in tokens {
        parts.push(text.as_bytes(), *score, *kind).unwrap();
    }
    parts
}

fn tokenizer(tokens: &[(&str, f32, i32)]) -> Tokenizer {
    Tokenizer::new(parts(tokens)).unwrap()
}

fn plain() -> EncodeOptions {
    EncodeOptions { add_special: false, parse_special: false }
}

fn special() -> EncodeOptions {
    EncodeOptions { add_special: false, parse_special: true }
}

fn encode(t: &Tokenizer, text: impl AsRef<[u8]>, options: EncodeOptions) -> Vec<u32> {
    let mut ids = Vec::new();
    t.encode(text, options, &mut ids).unwrap();
    ids
}

/// Texts of the ids, joined by `|`.
fn show(t: &Tokenizer, ids: &[u32]) -> String {
    let texts: Vec<_> = ids.iter().map(|&id| String::from_utf8_lossy(t.vocab().text(id).unwrap())).collect();
    texts.join("|")
}

fn split(t: &Tokenizer, text: &str, options: EncodeOptions) -> String {
    show(t, &encode(t, text, options))
}

const LETTERS: [(&str, f32, i32); 5] =
    [("▁", -9.0, NORMAL), ("a", -9.0, NORMAL), ("b", -9.0, NORMAL), ("c", -9.0, NORMAL), ("é", -9.0, NORMAL)];

fn with_letters(more: &[(&'static str, f32, i32)]) -> Vec<(&'static str, f32, i32)> {
    LETTERS.iter().chain(more).copied().collect()
}

#[test]
fn the_best_score_merges_first_and_the_leftmost_of_equals() {
    let t = tokenizer(&with_letters(&[("ab", -2.0, NORMAL), ("bc", -1.0, NORMAL), ("aa", -3.0, NORMAL)]));
    assert_eq!(split(&t, "abc", plain()), "▁|a|bc");
    assert_eq!(split(&t, "aaa", plain()), "▁|aa|a");
    assert_eq!(split(&t, "abab", plain()), "▁|ab|ab");
    let t = tokenizer(&with_letters(&[("ab", -1.0, NORMAL), ("bc", -1.0, NORMAL), ("abc", -5.0, NORMAL)]));
    assert_eq!(split(&t, "abc", plain()), "▁|abc");
    assert_eq!(split(&t, "bcab", plain()), "▁|bc|ab");
}

#[test]
fn what_has_no_token_becomes_bytes() {
    let t = tokenizer(&LETTERS);
    assert_eq!(split(&t, "aß", plain()), "▁|a|<0xC3>|<0x9F>");
    assert_eq!(show(&t, &encode(&t, b"\xFFa\xE2\x96", plain())), "▁|<0xFF>|<0x61>|<0xE2>|<0x96>");
    assert_eq!(encode(&t, "\0", plain()), [259, 3]);
}

#[test]
fn a_byte_without_its_own_token_is_unknown() {
    let mut parts = VocabParts::new(Model::Spm);
    for (text, kind) in
        [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("x", NORMAL), ("\t", NORMAL)]
    {
        parts.push(text.as_bytes(), 0.0, kind).unwrap();
    }
    parts.add_space_prefix = Some(false);
    let t = Tokenizer::new(parts).unwrap();
    assert_eq!(encode(&t, "x\ty", plain()), [3, 4, 0]);
}

#[test]
fn spaces_bos_and_eos_follow_the_flags() {
    let tokens = with_letters(&[]);
    let all = EncodeOptions { add_special: true, parse_special: false };
    let t = tokenizer(&tokens);
    assert!(encode(&t, "", plain()).is_empty());
    assert_eq!(encode(&t, "", all), [1]);
    assert_eq!(split(&t, "a b", all), "<s>|▁|a|▁|b");
    let mut p = parts(&tokens);
    (p.add_bos, p.add_eos, p.add_space_prefix) = (Some(false), Some(true), Some(false));
    p.roles[Role::Eos as usize] = Some(2);
    let t = Tokenizer::new(p).unwrap();
    assert_eq!(split(&t, "a b", all), "a|▁|b|</s>");
}

#[test]
fn control_tokens_are_text_unless_asked_for_and_user_defined_ones_never() {
    let t = tokenizer(&with_letters(&[("<a>", 0.0, USER), ("<b>", 0.0, CONTROL), ("<a><b>", 0.0, USER)]));
    assert_eq!(split(&t, "a<a>b", plain()), "▁|a|<a>|▁|b");
    assert_eq!(split(&t, "<b>", plain()), "▁|<0x3C>|b|<0x3E>");
    assert_eq!(split(&t, "<b>a</s>", special()), "<b>|▁|a|</s>");
    assert_eq!(split(&t, "<a><b><a>", plain()), "<a><b>|<a>");
    assert_eq!(split(&t, "<unk>", special()), "<unk>");
}

#[test]
fn the_longest_special_text_is_cut_out_everywhere_first() {
    // Leftmost-first would take `ab`; what is left of it can still hold shorter ones, and those again.
    let t = tokenizer(&with_letters(&[("ab", 0.0, USER), ("bcc", 0.0, USER), ("a", 0.0, USER)]));
    assert_eq!(split(&t, "abcc", plain()), "a|bcc");
    assert_eq!(split(&t, "abab", plain()), "ab|ab");
    let t = tokenizer(&with_letters(&[("aaa", 0.0, USER), ("aa", 0.0, USER), ("aaab", 0.0, USER)]));
    assert_eq!(split(&t, "aaaaab", plain()), "aa|aaab");
    assert_eq!(split(&t, "aaaaaab", plain()), "aaa|aaab");
    assert_eq!(split(&t, "aaaaa", plain()), "aaa|aa");
}

/// Cuts out one token after the other, the rule as it is stated.
fn slow_split(specials: &[(Vec<u8>, u32, bool)], text: &[u8]) -> Vec<(Vec<u8>, Option<u32>)> {
    let mut order: Vec<_> = specials.iter().collect();
    order.sort_by_key(|s| (std::cmp::Reverse(s.0.len()), s.1));
    let mut parts = vec![(text.to_vec(), None)];
    for (word, id, rstrip) in order {
        let mut next = Vec::new();
        for (part, token) in parts {
            let mut rest = &part[..];
            while let (None, Some(at)) = (token, rest.windows(word.len()).position(|w| w == &word[..])) {
                next.push((rest[..at].to_vec(), None));
                next.push((word.clone(), Some(*id)));
                rest = &rest[at + word.len()..];
                while *rstrip && rest.first() == Some(&b' ') {
                    rest = &rest[1..];
                }
            }
            next.push((rest.to_vec(), token));
        }
        next.retain(|(p, token)| token.is_some() || !p.is_empty());
        parts = next;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn special_tokens_are_cut_by_the_stated_rule(
        words in prop::collection::btree_set("[ab ]{1,5}", 1..8),
        text in "[ab c]{0,40}",
        phi in any::<bool>(),
    ) {
        let mut p = parts(&[]);
        let mut specials = Vec::new();
        for (word, id) in words.iter().zip(259u32..) {
            p.push(word.as_bytes(), 0.0, USER).unwrap();
            specials.push((word.clone().into_bytes(), id, phi));
        }
        p.add_space_prefix = Some(false);
        p.model_name = if phi { "my Phi-3 tune".into() } else { String::new() };
        let t = Tokenizer::new(p).unwrap();
        let mut want = Vec::new();
        for (part, id) in slow_split(&specials, text.as_bytes()) {
            match id {
                Some(id) => want.push(id),
                None => want.extend(encode(&tokenizer(&[]), part, plain()).into_iter().skip(3)),
            }
        }
        prop_assert_eq!(encode(&t, &text, plain()), want);
    }

    #[test]
    fn any_text_survives_the_round_trip(text in any::<String>(), letters in "[ab ]{0,20}") {
        let t = tokenizer(&with_letters(&[("ab", -2.0, NORMAL), ("▁a", -3.0, NORMAL)]));
        // U+2581 itself reads as a space, so it cannot come back.
        let text = (text + &letters).replace('▁', "");
        let ids = encode(&t, &text, plain());
        prop_assert_eq!(t.decode(&ids, false).unwrap(), text.as_bytes());
    }

    #[test]
    fn any_bytes_are_encoded(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        // Without any letters each byte is a token, and a space is the three of U+2581.
        let spaces = bytes.iter().filter(|b| **b == b' ').count() + usize::from(!bytes.is_empty());
        let ids = encode(&tokenizer(&[]), &bytes, plain());
        prop_assert_eq!(ids.len(), bytes.len() + 3 * spaces - (spaces - usize::from(!bytes.is_empty())));
    }

    #[test]
    fn the_stream_is_the_text_of_all_bytes_together(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..0xC0u8, 0xE0..0xF5u8], 0..60),
        cuts in prop::collection::vec(0..5usize, 0..60),
    ) {
        let mut decoder = StreamDecoder::new();
        let (mut out, mut rest) = (String::new(), &bytes[..]);
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            decoder.feed(head, &mut out);
            rest = tail;
        }
        decoder.feed(rest, &mut out);
        decoder.finish(&mut out);
        prop_assert!(!decoder.is_holding());
        prop_assert_eq!(out, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn pieces_lose_nothing(text in any::<String>(), times in 1..40usize) {
        let text = text.repeat(times);
        let pieces: Vec<Piece> = Piece::all(7, &text).collect();
        prop_assert!(pieces.iter().all(|p| p.id == 7));
        prop_assert!(text.is_empty() || pieces.iter().all(|p| !p.as_str().is_empty()));
        prop_assert_eq!(pieces.iter().map(Piece::as_str).collect::<String>(), text);
    }
}

#[test]
fn white_space_beside_some_special_tokens_is_swallowed() {
    let mut p = parts(&with_letters(&[("<x>", 0.0, USER), ("<|endoftext|>", 0.0, CONTROL)]));
    p.model_name = "Phi-3 mini".into();
    let t = Tokenizer::new(p).unwrap();
    assert!(t.vocab().attr(264).unwrap().any(Attr::RSTRIP));
    assert_eq!(split(&t, "a <x> \n\t b", plain()), "▁|a|▁|<x>|▁|b");
    assert_eq!(split(&t, "<x>  ", plain()), "<x>");
    assert_eq!(split(&t, "<|endoftext|> b</s>  a", special()), "<|endoftext|>|▁|▁|b|</s>|▁|a");
    assert_eq!(split(&t, "<s> b", special()), "<s>|▁|▁|b");
}

#[test]
fn pieces_follow_the_attributes() {
    let t = tokenizer(&[
        ("▁a▁", 0.0, NORMAL),
        ("▁u", 0.0, USER),
        ("<|c|>", 0.0, CONTROL),
        ("gone", 0.0, UNUSED),
        ("odd", 0.0, 99),
        ("", 0.0, NORMAL),
    ]);
    let piece = |id, special| String::from_utf8(t.piece(id, special).unwrap().to_vec()).unwrap();
    assert_eq!((piece(259, false), piece(259, true)), (" a ".into(), " a ".into()));
    assert_eq!((piece(260, false), piece(260, true)), ("▁u".into(), "▁u".into()));
    assert_eq!((piece(261, false), piece(261, true)), (String::new(), "<|c|>".into()));
    assert_eq!((piece(0, false), piece(0, true)), (String::new(), "<unk>".into()));
    assert_eq!((piece(262, true), piece(263, true)), (String::new(), String::new()));
    assert_eq!(piece(264, false), "[EMPTY_264]");
    assert_eq!(t.piece(3 + 0xE2, false).unwrap(), [0xE2]);
    assert_eq!(t.piece(265, true), None);
    assert_eq!(t.vocab().max_piece_len(), 11);
}

#[test]
fn decoding_drops_one_space_at_the_very_beginning() {
    let t = tokenizer(&[("▁a", 0.0, NORMAL), ("▁▁", 0.0, NORMAL)]);
    assert_eq!(t.decode(&[259, 259], false).unwrap(), b"a a");
    assert_eq!(t.decode(&[260, 259], false).unwrap(), b"  a");
    assert_eq!(t.decode(&[1, 259, 2], false).unwrap(), b" a");
    assert_eq!(t.decode(&[1, 259, 2], true).unwrap(), b"<s> a</s>");
    let e = t.decode(&[259, 261], false).unwrap_err();
    assert_eq!((e.code(), e.class().exit_code()), ("TokenIdOutOfRange", 4));
}

#[test]
fn the_end_is_known_by_id_and_by_text() {
    let t = tokenizer(&[("<|im_end|>", 0.0, NORMAL), ("<|end|>", 0.0, CONTROL), ("[PAD]", 0.0, NORMAL)]);
    assert_eq!(t.vocab().eog(), [2, 259, 260, 261]);
    assert_eq!(t.vocab().role(Role::Eot), Some(259));
    assert_eq!(t.piece(259, false).unwrap(), b"", "a token known by text is a control token");
    assert!(t.is_eog(2) && !t.is_eog(1));
    // With its own end of a call, a format uses <|end|> inside the text.
    let t = tokenizer(&[("<|end|>", 0.0, CONTROL), ("<|call|>", 0.0, CONTROL), ("<|return|>", 0.0, CONTROL)]);
    assert_eq!(t.vocab().eog(), [2, 260, 261]);
    assert_eq!(t.vocab().attr(259), Some(Attr::USER_DEFINED));
    let t = tokenizer(&[("<|tool_response>", 0.0, CONTROL), ("<|message|>", 0.0, CONTROL)]);
    assert_eq!(t.vocab().eog(), [259]);
    assert_eq!(t.vocab().attr(2), Some(Attr::NORMAL));
    assert_eq!(t.piece(260, false).unwrap(), b"<|message|>");
}

#[test]
fn bad_vocabularies_are_refused_by_code() {
    let code = |p: VocabParts| Tokenizer::new(p).unwrap_err().code();
    assert_eq!(code(VocabParts::new(Model::Spm)), "ArrayLength");
    let mut p = parts(&[]);
    p.scores.pop();
    assert_eq!(code(p), "ArrayLength");
    for text in ["<0x-1>", "<0xZZ>", "<0x100>", "<0x+1>", "x"] {
        assert_eq!(code(parts(&[(text, 0.0, BYTE)])), "BadByteToken", "{text}");
    }
    assert!(Tokenizer::new(parts(&[("<0xZZ>", 0.0, NORMAL)])).is_ok());
    assert_eq!(code(parts(&[(&"x".repeat(8193), 0.0, NORMAL)])), "TokenTooLong");
    assert_eq!(code(parts(&[("x", f32::NAN, NORMAL)])), "OutOfRange");
    let mut p = parts(&[]);
    p.roles[Role::Eos as usize] = Some(u32::MAX);
    let e = Tokenizer::new(p).unwrap_err();
    assert_eq!(
        e.to_string(),
        "[TokenIdOutOfRange] tokenizer.ggml.eos_token_id: found 4294967295, expected an id below 259"
    );
    let mut p = parts(&[]);
    p.add_bos = Some(true);
    assert_eq!(code(p), "Inconsistent");
    let t = tokenizer(&[]);
    assert_eq!(t.check_embedding_rows(258).unwrap_err().code(), "Inconsistent");
    assert!(t.check_embedding_rows(259).is_ok());
}

#[test]
fn odd_vocabularies_are_accepted() {
    let mut p = VocabParts::new(Model::Spm);
    p.push(b"x", 0.0, NORMAL).unwrap();
    let t = Tokenizer::new(p).unwrap();
    assert_eq!((t.vocab().role(Role::Bos), t.vocab().role(Role::Eos)), (None, None));
    let all = EncodeOptions { add_special: true, parse_special: true };
    assert_eq!(encode(&t, "x", all), [0, 0, 0, 0], "the space prefix is three unknown bytes");
    // Of equal texts the last id stands for the text; both print.
    let t = tokenizer(&[("dup", 0.0, NORMAL), ("dup", 0.0, NORMAL)]);
    assert_eq!(t.vocab().id(b"dup"), Some(260));
    assert_eq!(t.vocab().notes().len(), 1);
    assert_eq!(t.decode(&[259, 260], false).unwrap(), b"dupdup");
    let mut p = parts(&[]);
    p.push(b"\xFF\xFE", 0.0, NORMAL).unwrap();
    assert_eq!(Tokenizer::new(p).unwrap().piece(259, false).unwrap(), b"\xFF\xFE");
}

#[test]
fn long_hostile_texts_take_no_quadratic_time() {
    let reserved: Vec<String> = (0..600).map(|i| format!("<|reserved_{i}|>")).collect();
    let mut tokens: Vec<(&str, f32, i32)> = reserved.iter().map(|t| (&t[..], 0.0, CONTROL)).collect();
    tokens.extend([
        ("a", -1.0, NORMAL),
        ("aa", -2.0, NORMAL),
        ("aaaa", -3.0, NORMAL),
        ("aaaaaaaa", -4.0, NORMAL),
    ]);
    let t = tokenizer(&tokens);
    let start = std::time::Instant::now();
    for text in ["a", "<|reserved_", "<|reserved_59|>", "<", " "] {
        let text = text.repeat(1_000_000 / text.len());
        assert!(!encode(&t, &text, special()).is_empty());
    }
    // Quadratic work would take hours; a slow machine takes a few seconds.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// A real vocabulary and where it lies, or `None` with a visible reason.
fn real(name: &str) -> Option<(Tokenizer, PathBuf)> {
    let shared = std::env::var_os("QUIPU_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = shared.join(name);
    if !path.is_file() {
        // Straight to stderr: what the print macros write in a passing test is swallowed.
        let _ = writeln!(std::io::stderr(), "skipped: no {} (set QUIPU_SHARED)", path.display());
        return None;
    }
    let file = Gguf::open(&path, LoadMode::Auto, &ParseOptions::default()).unwrap();
    Some((Tokenizer::from_gguf(&file).unwrap(), path))
}

#[test]
fn real_vocabularies_give_the_expected_ids() {
    for name in ["llama-spm", "phi-3", "qwen2", "llama-bpe"] {
        let Some((t, path)) = real(&format!("data/vocab/ggml-vocab-{name}.gguf")) else { continue };
        let beside = |end: &str| std::fs::read_to_string(format!("{}.{end}", path.display())).unwrap();
        let (texts, ids) = (beside("inp"), beside("out"));
        // Every text ends with the separator.
        let mut texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(texts.pop(), Some(""));
        let ids: Vec<Vec<u32>> =
            ids.lines().map(|l| l.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect();
        assert_eq!(texts.len(), ids.len(), "{name}");
        assert!(texts.len() >= 40, "{name}");
        for (text, want) in texts.iter().zip(&ids) {
            assert_eq!(&encode(&t, text, plain()), want, "{name}: {text:?}");
            let back = t.decode(want, true).unwrap();
            // Where decoding takes spaces out, the pieces still have them.
            let pieces = want.iter().flat_map(|&id| t.piece(id, true).unwrap().to_vec()).collect();
            let back = if t.vocab().clean_spaces() { pieces } else { back };
            assert_eq!(String::from_utf8(back).unwrap(), **text, "{name}");
        }
    }
}

#[test]
fn real_vocabularies_have_the_known_special_tokens() {
    if let Some((t, _)) = real("data/vocab/ggml-vocab-llama-spm.gguf") {
        assert_eq!((t.len(), t.vocab().eog()), (32000, &[2][..]));
        assert_eq!(encode(&t, "Hello", EncodeOptions { add_special: true, parse_special: true }), [1, 15043]);
    }
    if let Some((t, _)) = real("data/vocab/ggml-vocab-phi-3.gguf") {
        assert_eq!(t.len(), 32064);
        let end = t.vocab().id(b"<|end|>").unwrap();
        assert!(t.is_eog(32000) && t.is_eog(end) && t.is_eog(2));
        assert_eq!(t.vocab().role(Role::Eos), Some(32000));
        let user = t.vocab().id(b"<|user|>").unwrap();
        assert_eq!(encode(&t, "<|user|>\nHi", special()), [user, 6324]);
    }
    if let Some((t, _)) = real("data/vocab/ggml-vocab-qwen2.gguf") {
        // The ordinary token `</s>` ends a text too, as in llama.cpp: it goes by texts.
        let ends = [128247, 151643, 151645];
        assert_eq!((t.vocab().eog(), t.vocab().role(Role::Eot)), (&ends[..], Some(151645)));
        assert_eq!(t.vocab().text(128247), Some(&b"</s>"[..]));
        let ids = encode(&t, "<|im_start|>user\nHi<|im_end|>", special());
        assert_eq!(ids, [151644, 872, 198, 13048, 151645]);
    }
    if let Some((t, _)) = real("data/vocab/ggml-vocab-llama-bpe.gguf") {
        let all = EncodeOptions { add_special: true, parse_special: true };
        assert_eq!(encode(&t, "Hello<|eot_id|>", all), [128000, 9906, 128009]);
        assert!(t.is_eog(128001) && t.is_eog(128009));
    }
    if let Some((t, _)) = real("data/models/stories260K-f32.gguf") {
        assert_eq!((t.len(), t.vocab().role(Role::Bos)), (512, Some(1)));
        let ids = encode(&t, "Once upon a time", EncodeOptions { add_special: true, parse_special: true });
        assert_eq!(t.decode(&ids[1..], false).unwrap(), b"Once upon a time");
    }
}
