//! Everything that people look at, as it was: graph, plan, page, difference, profile, comparison, checkpoints, conditions,
//! replay. What a machine decides (times, memory, digits of a clock) is masked.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::file;
use common::process::quipu;
use quipu::loader::synth::Shape;
use quipu::quant::DType;
use std::path::PathBuf;
use tempfile::TempDir;

/// A model of one layer, in a folder of its own.
fn model(shape: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let one = Shape { n_layer: 1, n_ctx: 64, ..Shape::named(shape).unwrap().clone() };
    std::fs::write(&path, &file(&one, DType::Q8_0)[..]).unwrap();
    let text = path.to_str().unwrap().to_owned();
    (folder, text)
}

fn print(args: &[&str]) -> String {
    let done = quipu(args);
    assert!(matches!(done.code, Some(0 | 1)), "{args:?}: {}", done.stderr);
    done.stdout
}

/// Numbers of lines are no property of a graph.
fn without_lines(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) =
        [".rs:", " @0:", "\"line\": "].iter().filter_map(|m| rest.find(m).map(|i| i + m.len())).min()
    {
        out.push_str(&rest[..at]);
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

/// Every word that is a number as `#`, one blank between words.
fn without_numbers(text: &str) -> String {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let mask = |word: &str| {
        let bare = word.trim_matches(['(', ')', '%', ',', ';', ':']);
        let is = !bare.is_empty() && bare.chars().all(number);
        if is { word.replace(bare, "#") } else { word.to_owned() }
    };
    let line = |l: &str| l.split_whitespace().map(mask).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn graphs() {
    let (_folder, m) = model("nano-qwen3");
    let graph = |more: &[&str]| without_lines(&print(&[&["plan", "-m", &m][..], more].concat()));
    insta::assert_snapshot!("graph", graph(&["--stage", "graph"]));
    insta::assert_snapshot!("graph_fused", graph(&["--stage", "fused"]));
    insta::assert_snapshot!("graph_dot", graph(&["--stage", "graph", "--format", "dot"]));
    insta::assert_snapshot!("graph_json", graph(&["--stage", "fused", "--format", "json"]));
}

#[test]
fn plans() {
    let (folder, m) = model("nano-phi3");
    let plan = |more: &[&str]| {
        let fixed = [
            "plan", "-m", &m, "--phase", "decode", "--isa", "avx2", "-t", "2", "-c", "64", "--memory", "1GiB",
        ];
        print(&[&fixed[..], more].concat())
    };
    insta::assert_snapshot!("plan_text", without_lines(&plan(&[])));
    let json = plan(&["--format", "json"]);
    insta::assert_snapshot!("plan_json", without_lines(&json));
    let page = plan(&["--format", "html"]);
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    let data: serde_json::Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    insta::assert_snapshot!("plan_page", without_lines(&serde_json::to_string_pretty(&data).unwrap()));
    let write = |name: &str, text: &str| {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (a, b) = (write("a.json", &json), write("b.json", &plan(&["--format", "json", "--no-fuse=gate_up"])));
    insta::assert_snapshot!(
        "plan_diff_json",
        without_lines(&print(&["plan", "--diff", &a, &b, "--format", "json"]))
    );
}

#[test]
fn comparisons() {
    let (folder, m) = model("nano-llama");
    let trace = |name: &str, more: &[&str]| {
        let path = folder.path().join(name).to_str().unwrap().to_owned();
        print(
            &[
                &["trace", "-m", &m, "--tokens", "1,7,200,33", "--isa", "scalar", "-t", "1", "-o", &path][..],
                more,
            ]
            .concat(),
        );
        path
    };
    let (good, bad) = (trace("a", &[]), trace("b", &["--inject", "scale@ffn_inp-0"]));
    insta::assert_snapshot!("compare", print(&["compare", &good, &bad]));
    insta::assert_snapshot!("compare_all", print(&["compare", &good, &bad, "--all"]));
    insta::assert_snapshot!("compare_json", print(&["compare", &good, &bad, "--json"]));
}

#[test]
fn checkpoints_and_conditions() {
    let (folder, m) = model("nano-qwen2");
    let bundle = folder.path().join("proof").to_str().unwrap().to_owned();
    let args = ["checkpoint", "-m", &m, "--tokens", "1,7,200,33,5", "--proof-dir", &bundle, "--run-id", "r"];
    insta::assert_snapshot!("checkpoint", print(&args));
    let args =
        ["verify", "-m", &m, "--tokens", "1,7,200,33,5", "-n", "3", "--repetitions", "2", "--teams", "1,2"];
    // Which instruction sets there are is the machine's.
    let all = print(&args);
    let lines = all.lines().filter(|l| !l.starts_with("base") && !l.starts_with("instruction set"));
    insta::assert_snapshot!("verify", lines.collect::<Vec<_>>().join("\n"));
    let record = folder.path().join("run.json").to_str().unwrap().to_owned();
    print(&[
        "run", "-m", &m, "-p", "Once", "-n", "3", "--seed", "1", "--isa", "scalar", "-t", "1", "--record",
        &record,
    ]);
    let replay = print(&["replay", &record, "-t", "2"]);
    let lines = replay.lines().filter(|l| !l.starts_with("processor") && !l.contains(" plan "));
    insta::assert_snapshot!("replay", lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn profiles() {
    let (folder, m) = model("nano-llama");
    let events = folder.path().join("events.json");
    let fixed = ["profile", "-m", &m, "-n", "2", "-p", "Once upon", "--isa", "scalar", "-t", "1"];
    let text = print(&[&fixed[..], &["--trace-file", events.to_str().unwrap()]].concat());
    // Kinds stand in the order of their times.
    let mut lines: Vec<String> = without_numbers(&text).lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    insta::assert_snapshot!("profile", lines.join("\n"));
    let events: serde_json::Value = serde_json::from_slice(&std::fs::read(events).unwrap()).unwrap();
    // How long the team waits, and whether at all, is the machine's.
    let made = events["traceEvents"].as_array().unwrap().iter().filter(|e| e["cat"] != "wait");
    let facts = made.map(|e| {
        let keys: Vec<&str> =
            e["args"].as_object().map_or(vec![], |a| a.keys().map(String::as_str).collect());
        format!("{} {} {} {}", e["ph"], e["cat"], e["name"], keys.join(","))
    });
    insta::assert_snapshot!("profile_events", facts.collect::<Vec<_>>().join("\n"));
}

#[test]
fn files() {
    let (_folder, m) = model("nano-llama");
    let shown = print(&["inspect", &m]);
    insta::assert_snapshot!("inspect", shown.replace(&m, "m.gguf"));
}
