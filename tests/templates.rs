//! Chat templates: the same text as Python's jinja2 gives, and nothing a template does costs more than a little.
//!
//! The texts are made by `tools/reference/chat_templates.py`; the templates are written for this project from the
//! prompt formats of model families.
#![allow(clippy::unwrap_used)]

mod common;

use common::hostile_templates::hostile;
use common::{Model, STR, str_bytes};
use quipu::loader::{Bytes, Gguf, ParseOptions};
use quipu::text::chat::{ChatTemplate, MAX_TEMPLATE_BYTES, Message, RenderOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates")
}

#[test]
fn texts_are_those_of_python() {
    let facts: Value =
        serde_json::from_str(&std::fs::read_to_string(data().join("expected.json")).unwrap()).unwrap();
    let special =
        [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];
    let (mut compared, mut refused) = (0, 0);
    for (name, texts) in facts["expected"].as_object().unwrap() {
        let template = match name.strip_prefix("builtin/") {
            Some(known) => ChatTemplate::builtin(known).unwrap(),
            None => {
                let source = std::fs::read_to_string(data().join(format!("{name}.jinja"))).unwrap();
                ChatTemplate::new(&source, name).unwrap()
            }
        };
        for (conversation, want) in texts.as_object().unwrap() {
            let mut case = facts["conversations"][conversation].as_object().unwrap().clone();
            let messages: Vec<Message> = serde_json::from_value(case.remove("messages").unwrap()).unwrap();
            let options = RenderOptions {
                add_generation_prompt: case.remove("add_generation_prompt").is_none_or(|v| v == true),
                tools: case.remove("tools").unwrap_or_default(),
                kwargs: case,
                special: special.map(|(k, v)| (k, v.to_owned())).into(),
                now: facts["now"].as_i64(),
            };
            let got = template.render(&messages, &options);
            match want.as_str() {
                Some(want) => {
                    assert_eq!(got.as_deref(), Ok(want), "{name}, {conversation}");
                    compared += 1;
                }
                None => {
                    let e = got.expect_err(&format!("{name}, {conversation}"));
                    assert_eq!(e.class(), quipu::Class::Input, "{name}, {conversation}: {e}");
                    refused += 1;
                }
            }
        }
    }
    assert!(compared > 400 && refused > 20, "{compared} compared, {refused} refused");
    let builtin = facts["expected"].as_object().unwrap().keys().filter(|k| k.starts_with("builtin/")).count();
    assert_eq!(ChatTemplate::builtin_names().count(), builtin, "every built-in template is compared");
}

fn peak() -> u64 {
    quipu::debug::machine::peak_memory().unwrap_or(0)
}

#[test]
fn hostile_templates_end_soon_and_small() {
    let messages = [Message::new("user", "hi")];
    let cases = hostile();
    let before = peak();
    for (what, text, code) in &cases {
        let start = Instant::now();
        let done = ChatTemplate::new(text, "t").and_then(|t| t.render(&messages, &RenderOptions::default()));
        let done = done.map(|text| format!("{} bytes of text", text.len()));
        let took = start.elapsed();
        let e = done.expect_err(what);
        assert_eq!((e.code(), e.class()), (*code, quipu::Class::Input), "{what}: {e}");
        assert_eq!(e.problems().len(), 1, "{what}");
        // Other tests run beside this one, and each case is some twenty times faster than this.
        assert!(took < Duration::from_secs(5), "{what}: {took:?}");
    }
    assert!(peak() - before < 200 << 20, "{} bytes more", peak() - before);
    let syntax = ChatTemplate::new("one\n{% if %}", "t").unwrap_err();
    assert!(syntax.to_string().contains("line 2"), "{syntax}");
    let refused = ChatTemplate::new("{{ raise_exception('because') }}", "t").unwrap();
    let e = refused.render(&messages, &RenderOptions::default()).unwrap_err();
    assert!(e.to_string().contains("because"), "{e}");
}

#[test]
fn long_conversations_are_no_attack() {
    let text = "words and more words ".repeat(100);
    let messages: Vec<Message> =
        (0..400).map(|i| Message::new(if i % 2 == 0 { "user" } else { "assistant" }, &*text)).collect();
    let special = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k, v.to_owned())).into();
    let options = RenderOptions { special, ..RenderOptions::default() };
    for name in ["qwen3", "qwen2.5", "mistral", "llama3.1", "gemma3"] {
        let source = std::fs::read_to_string(data().join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(&source, name).unwrap();
        let rendered = template.render(&messages, &options).unwrap();
        assert!(rendered.len() > 400 * 2000, "{name}");
    }
}

#[test]
fn templates_are_found_by_name() {
    let mut model = Model::base();
    model.add(b"tokenizer.chat_template.tool_use", STR, str_bytes(b"tools"));
    let file = Gguf::parse(Bytes::from(model.build()), &ParseOptions::default()).unwrap();
    let e = ChatTemplate::from_gguf(&file, None).unwrap_err();
    assert_eq!(e.code(), "NoTemplate");
    assert!(e.to_string().contains("tool_use") && e.to_string().contains("chatml"), "{e}");
    assert_eq!(ChatTemplate::from_gguf(&file, Some("tool_use")).unwrap().source(), "tools");
    assert_eq!(ChatTemplate::from_gguf(&file, Some("rag")).unwrap_err().code(), "NoTemplate");
    assert_eq!(ChatTemplate::builtin("nothing").unwrap_err().code(), "NoTemplate");
    let at_limit = ChatTemplate::new(&"x".repeat(MAX_TEMPLATE_BYTES), "t");
    assert!(at_limit.is_ok(), "{at_limit:?}");
}

#[test]
fn bos_is_not_doubled_and_special_tokens_are_read() {
    let file = Gguf::parse(Bytes::from(Model::base().build()), &ParseOptions::default()).unwrap();
    let tokenizer = quipu::text::Tokenizer::from_gguf(&file).unwrap();
    let encode = |text: &str| quipu::text::chat::encode(&tokenizer, text).unwrap();
    assert_eq!(encode("<s>ab</s>c"), encode("ab</s>c"));
    let ids = encode("ab</s>c");
    assert_eq!((ids[0], ids.iter().filter(|id| **id == 2).count()), (1, 1), "{ids:?}");
    assert_eq!(encode("<s><s>a")[..2], [1, 1], "one that the template writes twice stays");
}
