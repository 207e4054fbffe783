//! Hostile chat templates, cases 100 to 109, through the program: the code, exit 4, quick and small. The same files
//! still continue plain text.
#![allow(clippy::unwrap_used)]

mod common;

use common::hostile::refusal;
use common::hostile_templates::hostile;
use common::process::quipu;
use common::{Model, STR, str_bytes};
use std::path::Path;

fn chat(model: &Path) -> Vec<String> {
    ["chat", "-m", model.to_str().unwrap(), "-p", "hi", "-n", "2", "--temp", "0"].map(String::from).to_vec()
}

#[test]
fn bad_templates_end_chat_with_4_and_leave_text_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut cases = hostile();
    cases.retain(|(what, ..)| what.starts_with(|c: char| c.is_ascii_digit()));
    assert!((100..=109).all(|n| cases.iter().any(|c| c.0.starts_with(&n.to_string()))), "a case is missing");
    // What a process begins with counts as its own on Linux, so the long one comes last.
    cases.sort_by_key(|c| c.1.len());
    let mut wrong = Vec::new();
    for (what, text, code) in cases {
        let mut model = Model::base();
        model.add(b"tokenizer.chat_template", STR, str_bytes(text.as_bytes()));
        let bytes = model.build();
        drop((model, text));
        std::fs::write(&path, &bytes).unwrap();
        let size = bytes.len() as u64;
        drop(bytes);
        wrong.extend(refusal(&chat(&path), code, 4, size, false).iter().map(|why| format!("{what}: {why}")));
        let run = quipu(&["run", "-m", path.to_str().unwrap(), "-p", "hi", "-n", "2"]);
        if run.code != Some(0) {
            wrong.push(format!("{what}, run: {}", run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn templates_are_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let write = |key: &str, template: &[u8]| {
        let mut model = Model::base();
        model.add(key.as_bytes(), STR, str_bytes(template));
        std::fs::write(&path, model.build()).unwrap();
    };
    let run = |more: &[&str]| {
        let mut arguments = chat(&path);
        arguments.extend(more.iter().map(|s| s.to_string()));
        quipu(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    write("tokenizer.chat_template.tool_use", b"tools");
    let by_name = run(&["--chat-template", "tool_use"]);
    assert_eq!(by_name.code, Some(0), "{}", by_name.stderr);
    let none = run(&[]);
    assert!(none.code == Some(4) && none.stderr.contains("[NoTemplate]"), "{}", none.stderr);
    let built_in = run(&["--chat-template", "chatml"]);
    assert_eq!(built_in.code, Some(0), "{}", built_in.stderr);
    write("tokenizer.chat_template", b"\xff");
    let not_text = run(&[]);
    assert!(not_text.code == Some(4) && not_text.stderr.contains("[TemplateNotUtf8]"), "{}", not_text.stderr);
}
