//! Conversations and their files: only what is new goes through the model, and a saved one goes on with the same bits.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{all_bits, bits, engine, file, nano, odd, one_thread, tokens};
use quipu::Class;
use quipu::backends::Isa;
use quipu::engine::{
    CancelToken, Chat, Engine, EngineOptions, GenerateOptions, Logits, SamplerParams, StepInput,
};
use quipu::loader::synth::Shape;
use quipu::quant::DType;
use quipu::text::chat::{ChatTemplate, Message};
use sha2::{Digest, Sha256};

/// Leaves the text of earlier answers out, as templates of thinking models do with thoughts.
const FORGETFUL: &str = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'user' %}{{ m.content }}{% endif %}\n{% endfor %}<assistant>";

fn small() -> Engine {
    engine(&file(&nano(), DType::Q8_0), one_thread())
}

fn drawn() -> GenerateOptions {
    let sampler = SamplerParams { seed: Some(11), temp: 1.0, ignore_eos: true, ..SamplerParams::default() };
    GenerateOptions { max_tokens: 10, sampler, ..GenerateOptions::default() }
}

/// Says something; the answer's text, tokens that were in the cache, tokens that were run.
fn say(e: &mut Engine, chat: &mut Chat, text: &str, options: &GenerateOptions) -> (String, u32, u64) {
    chat.push(Message::new("user", text));
    let mut reply = chat.reply(e, options).unwrap();
    for piece in &mut reply {
        piece.unwrap();
    }
    (reply.text().to_owned(), reply.reused(), reply.timings().prompt_tokens)
}

/// The prompt's tokens.
fn prompt(e: &Engine, chat: &Chat) -> Vec<u32> {
    quipu::text::chat::encode(e.tokenizer(), &chat.prompt().unwrap()).unwrap()
}

#[test]
fn only_new_tokens_are_run_and_the_answer_is_that_of_a_new_session() {
    for source in ["builtin", FORGETFUL] {
        let mut e = small();
        let template = match source {
            "builtin" => ChatTemplate::builtin("plain").unwrap(),
            text => ChatTemplate::new(text, "t").unwrap(),
        };
        let mut chat = Chat::new(&e, template).unwrap();
        let greedy = GenerateOptions { max_tokens: 10, ..GenerateOptions::greedy() };
        let mut before: Vec<u32> = Vec::new();
        for (i, text) in ["Once upon a time", "there was", "and then?"].iter().enumerate() {
            chat.push(Message::new("user", *text));
            let whole = prompt(&e, &chat);
            chat.pop();
            let common = before.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            let (answer, reused, run) = say(&mut e, &mut chat, text, &greedy);
            assert_eq!((reused as usize, run as usize), (common, whole.len() - common), "turn {i}");
            assert!(i == 0 || reused as usize >= 5, "turn {i}: {reused} tokens reused");
            before = chat.session().tokens().to_vec();
            let mut fresh = e.new_session().unwrap();
            let pieces = e.generate_from(&mut fresh, whole, &greedy).unwrap();
            let again: String = pieces.map(|p| p.unwrap().as_str().to_owned()).collect();
            assert_eq!(again, answer, "turn {i}");
        }
        assert_eq!(chat.messages().len(), 6);
    }
}

#[test]
fn a_repeated_prompt_runs_its_last_token_alone() {
    let mut e = small();
    let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
    let (first, ..) = say(
        &mut e,
        &mut chat,
        "Once upon a time",
        &GenerateOptions { max_tokens: 5, ..GenerateOptions::greedy() },
    );
    chat.truncate(0);
    let (again, reused, run) = say(
        &mut e,
        &mut chat,
        "Once upon a time",
        &GenerateOptions { max_tokens: 5, ..GenerateOptions::greedy() },
    );
    assert_eq!((again, run), (first, 1));
    assert!(reused > 0);
}

#[test]
fn a_saved_conversation_goes_on_with_the_same_bits() {
    let model = file(&nano(), DType::Q8_0);
    let mut e = engine(&model, one_thread());
    let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
    chat.push(Message::new("system", "Be brief."));
    say(&mut e, &mut chat, "Once upon a time", &drawn());
    let mut saved = Vec::new();
    chat.save(&e, &mut saved).unwrap();
    let unbroken = say(&mut e, &mut chat, "And then?", &drawn());
    let last = bits(&e, 0);

    let others = [
        one_thread(),
        EngineOptions { threads: Some(3), ..EngineOptions::default() },
        EngineOptions { isa: Some(Isa::Scalar), n_ubatch: 5, ..one_thread() },
        EngineOptions { n_ctx: Some(777), ..one_thread() },
    ];
    for (i, options) in others.into_iter().enumerate() {
        let (n_ctx, isa) = (options.n_ctx, options.isa);
        let mut e = engine(&model, options);
        let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
        chat.push(Message::new("user", "something that goes away"));
        let recomputed = chat.load(&mut e, &saved[..]).unwrap();
        assert_eq!(recomputed, n_ctx.is_some(), "{i}");
        assert_eq!(chat.messages().len(), 3);
        let mut bytes = Vec::new();
        chat.save(&e, &mut bytes).unwrap();
        assert!(n_ctx.is_some() || bytes == saved, "{i}: another file after reading and writing");
        assert_eq!(say(&mut e, &mut chat, "And then?", &drawn()), unbroken, "{i}, {isa:?}");
        assert_eq!(bits(&e, 0), last, "{i}");
    }
}

#[test]
fn other_cache_types_are_computed_again() {
    let model = file(&odd(), DType::F16);
    let mut e = engine(&model, one_thread());
    let mut session = e.new_session().unwrap();
    let text = tokens(300, 1);
    e.step(&mut [StepInput { session: &mut session, tokens: &text, logits: Logits::None }]).unwrap();
    let mut saved = Vec::new();
    e.save_session(&session, serde_json::Value::Null, &mut saved).unwrap();
    assert!(saved.len() > 300 * 3 * 2 * 24 * 2);

    let mut same = e.load_session(&saved[..]).unwrap();
    assert!(!same.recomputed && same.session.tokens() == text);
    let want = all_bits(&mut e, &mut session, &[5, 6, 7]);
    assert_eq!(all_bits(&mut e, &mut same.session, &[5, 6, 7]), want);

    let mut wide = engine(&model, EngineOptions { type_k: DType::F32, ..one_thread() });
    let mut restored = wide.load_session(&saved[..]).unwrap();
    assert!(restored.recomputed);
    let mut fresh = wide.new_session().unwrap();
    wide.step(&mut [StepInput { session: &mut fresh, tokens: &text, logits: Logits::None }]).unwrap();
    let want = all_bits(&mut wide, &mut fresh, &[5]);
    assert_eq!(all_bits(&mut wide, &mut restored.session, &[5]), want);
}

#[test]
fn a_saved_cache_of_blocks_goes_on_with_the_same_bits() {
    let model = file(&Shape { head_dim: 32, ..nano() }, DType::Q8_0);
    let of = |type_k, type_v| EngineOptions { type_k, type_v, ..one_thread() };
    let mut e = engine(&model, of(DType::Q8_0, DType::Q4_0));
    let mut session = e.new_session().unwrap();
    let text = tokens(300, 1);
    e.step(&mut [StepInput { session: &mut session, tokens: &text, logits: Logits::None }]).unwrap();
    let mut saved = Vec::new();
    e.save_session(&session, serde_json::Value::Null, &mut saved).unwrap();
    // 2 layers of 2 heads, of one block of keys and one of values for each token.
    assert!((300 * 4 * (34 + 18)..300 * 4 * (34 + 18) + 4000).contains(&saved.len()), "{}", saved.len());
    let want = all_bits(&mut e, &mut session, &[5, 6, 7]);
    for (isa, threads) in [(None, 1), (Some(Isa::Scalar), 1), (None, 3)] {
        let options = EngineOptions { isa, threads: Some(threads), ..of(DType::Q8_0, DType::Q4_0) };
        let mut other = engine(&model, options);
        let mut restored = other.load_session(&saved[..]).unwrap();
        assert!(!restored.recomputed && restored.session.tokens() == text);
        assert_eq!(all_bits(&mut other, &mut restored.session, &[5, 6, 7]), want);
    }
    for (k, v) in [(DType::Q4_0, DType::Q8_0), (DType::F16, DType::Q4_0), (DType::Q8_0, DType::F16)] {
        let mut other = engine(&model, of(k, v));
        let mut restored = other.load_session(&saved[..]).unwrap();
        assert!(restored.recomputed, "{k} {v}");
        let mut fresh = other.new_session().unwrap();
        other.step(&mut [StepInput { session: &mut fresh, tokens: &text, logits: Logits::None }]).unwrap();
        let want = all_bits(&mut other, &mut fresh, &[5]);
        assert_eq!(all_bits(&mut other, &mut restored.session, &[5]), want, "{k} {v}");
    }
}

#[test]
fn an_answer_that_is_stopped_stays_and_the_conversation_goes_on() {
    let mut e = small();
    let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
    let cancel = CancelToken::new();
    let options = GenerateOptions { cancel: Some(cancel.clone()), max_tokens: 100, ..drawn() };
    chat.push(Message::new("user", "Once upon a time"));
    let mut reply = chat.reply(&mut e, &options).unwrap();
    for _ in 0..5 {
        reply.next().unwrap().unwrap();
    }
    cancel.cancel();
    for piece in &mut reply {
        piece.unwrap();
    }
    let text = reply.text().to_owned();
    drop(reply);
    assert_eq!(chat.messages().len(), 2);
    assert_eq!(chat.messages()[1].text(), Some(&*text));
    // Cancelled before the first token: nothing was said.
    chat.push(Message::new("user", "And then?"));
    assert_eq!(chat.reply(&mut e, &options).unwrap().by_ref().count(), 0);
    assert_eq!(chat.messages().len(), 3);
    chat.pop();
    let (answer, reused, _) = say(&mut e, &mut chat, "And then?", &drawn());
    assert!(!answer.is_empty() && reused > 4);
}

#[test]
fn a_conversation_longer_than_the_context_is_an_error_that_changes_nothing() {
    let shape = Shape { n_ctx: 64, ..nano() };
    let mut e = engine(&file(&shape, DType::F32), one_thread());
    let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
    say(&mut e, &mut chat, "Once upon a time", &drawn());
    let before = chat.session().tokens().to_vec();
    chat.push(Message::new("user", "word ".repeat(100)));
    let error = chat.reply(&mut e, &drawn()).unwrap_err();
    assert_eq!((error.code(), error.class()), ("PromptTooLong", Class::Input));
    assert!(error.to_string().contains("at most 64") && error.to_string().contains("-c"), "{error}");
    chat.pop();
    assert_eq!(chat.session().tokens(), before);
    // Full in the middle of an answer: it ends there.
    let mut reply = chat.reply(&mut e, &GenerateOptions { max_tokens: -1, ..drawn() }).unwrap();
    assert!(reply.by_ref().all(|p| p.is_ok()));
    assert_eq!(reply.stop_reason(), Some(quipu::engine::StopReason::Length));
    drop(reply);
    assert_eq!(chat.session().room(), 0);
}

/// A saved session and where its JSON and its keys lie.
fn saved() -> (Engine, Vec<u8>, usize) {
    let shape = Shape { n_ctx: 64, ..nano() };
    let mut e = engine(&file(&shape, DType::F32), one_thread());
    let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
    say(&mut e, &mut chat, "Once upon a time", &drawn());
    let mut bytes = Vec::new();
    chat.save(&e, &mut bytes).unwrap();
    let json = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
    (e, bytes, 16 + json)
}

/// The file with other JSON and a digest that holds.
fn forged(bytes: &[u8], end: usize, change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let mut json = serde_json::from_slice(&bytes[16..end]).unwrap();
    change(&mut json);
    let json = serde_json::to_vec(&json).unwrap();
    let mut out = bytes[..8].to_vec();
    out.extend((json.len() as u64).to_le_bytes());
    out.extend(&json);
    out.extend(&bytes[end..bytes.len() - 32]);
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out
}

#[test]
fn damaged_saved_files_are_errors() {
    let (mut e, bytes, end) = saved();
    let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
    chat.push(Message::new("user", "kept"));
    let mut code = |bytes: &[u8]| match chat.load(&mut e, bytes) {
        Ok(_) => "none",
        Err(e) => {
            assert_eq!(e.class(), Class::Input, "{e}");
            assert!(!e.to_string().contains(|c: char| c.is_control()), "{e}");
            assert_eq!(chat.messages(), [Message::new("user", "kept")], "a failure changes nothing");
            e.code()
        }
    };
    // Every length up to the keys, then some.
    for n in (0..end + 8).chain((end + 8..bytes.len()).step_by(97)).chain(bytes.len() - 33..bytes.len()) {
        assert_eq!(code(&bytes[..n]), "BadSession", "{n} bytes");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(code(&longer), "BadSession");
    // Every byte of the JSON part, then some: whatever it says, the file is not the one that was written.
    let mut damaged = bytes.clone();
    for at in (0..end).chain((end..bytes.len()).step_by(61)).chain(bytes.len() - 32..bytes.len()) {
        for bit in [0, 5, 7] {
            damaged[at] ^= 1 << bit;
            let code = code(&damaged);
            let known = ["BadSession", "OtherModel", "SessionTooLong"];
            assert!(known.contains(&code), "byte {at}, bit {bit}: {code}");
            damaged[at] ^= 1 << bit;
        }
    }
    assert_eq!(code(&bytes), "none");
}

#[test]
fn forged_saved_files_are_errors() {
    let (mut e, bytes, end) = saved();
    type Change = fn(&mut serde_json::Value);
    let cases: &[(&str, &str, Change)] = &[
        ("a token that is none", "BadSession", |j| j["tokens"][0] = 384.into()),
        ("a negative token", "BadSession", |j| j["tokens"][0] = (-1).into()),
        ("a token more than keys", "BadSession", |j| j["tokens"].as_array_mut().unwrap().push(5.into())),
        ("no tokens", "BadSession", |j| j["tokens"] = serde_json::json!([])),
        ("too many tokens", "SessionTooLong", |j| j["tokens"] = vec![5; 1_000_000].into()),
        ("no keys", "BadSession", |j| j["kv_bytes"] = 0.into()),
        ("many keys", "BadSession", |j| j["kv_bytes"] = u64::MAX.into()),
        ("many keys of another type", "BadSession", |j| {
            (j["kv_bytes"], j["type_k"]) = (u64::MAX.into(), "F32".into());
        }),
        ("keys of another type", "none", |j| j["type_k"] = "F32".into()),
        ("a type that is none", "none", |j| j["type_v"] = "\u{1b}[2J".into()),
        ("other numerics", "none", |j| j["numerics"] = 0.into()),
        ("another model", "OtherModel", |j| j["model"]["identity"] = "\u{1b}".into()),
        ("another name", "OtherModel", |j| j["model"]["name"] = "a\nb".into()),
        ("no messages", "BadSession", |j| j["extra"] = serde_json::Value::Null),
        ("a message that is none", "BadSession", |j| j["extra"]["messages"][0] = "hello".into()),
        ("a missing field", "BadSession", |j| drop(j.as_object_mut().unwrap().remove("n_ctx"))),
    ];
    for (what, want, change) in cases {
        let mut chat = Chat::new(&e, ChatTemplate::builtin("plain").unwrap()).unwrap();
        let code = match chat.load(&mut e, &forged(&bytes, end, change)[..]) {
            Ok(recomputed) => {
                assert!(recomputed, "{what}");
                "none"
            }
            Err(e) => {
                assert!(
                    e.class() == Class::Input && !e.to_string().contains(|c: char| c.is_control()),
                    "{e}"
                );
                e.code()
            }
        };
        assert_eq!(code, *want, "{what}");
    }
    // JSON that is nested deeply, and one that is longer than it may be.
    let nested = [&b"QUIPUKV1"[..], &100_000u64.to_le_bytes(), &vec![b'['; 100_000]].concat();
    let long = [&b"QUIPUKV1"[..], &u64::MAX.to_le_bytes(), b"{"].concat();
    for bytes in [nested, long, b"GGUF".repeat(100)] {
        assert_eq!(e.load_session(&bytes[..]).unwrap_err().code(), "BadSession");
    }
    let mut other = engine(&file(&nano(), DType::F16), one_thread());
    assert_eq!(other.load_session(&bytes[..]).unwrap_err().code(), "OtherModel");
    let session = e.new_session().unwrap();
    let foreign = other.save_session(&session, serde_json::Value::Null, Vec::new()).unwrap_err();
    assert_eq!(foreign.code(), "ForeignSession");
}
