//! Checkpoints pass for every architecture, and a wrong model fails at the one that is about what is wrong.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{engine, file, one_thread, tokens, wide};
use common::process::quipu;
use quipu::debug::checkpoint::{Checkpoint, CheckpointOptions, checkpoints};
use quipu::debug::record::record;
use quipu::debug::scores::attention_scores;
use quipu::debug::trace_file::TraceFile;
use quipu::engine::{EngineOptions, TraceOptions};
use quipu::graph::GraphBuilder;
use quipu::graph::builder::Heads;
use quipu::loader::Bytes;
use quipu::loader::synth::Shape;
use quipu::models::{Architecture, Hparams, blocks, rope};
use quipu::ops::rope::Pairing;
use quipu::plan::{FuseOptions, Phase};
use quipu::quant::DType;

fn options() -> CheckpointOptions {
    CheckpointOptions { tokens: tokens(6, 3), generate: 5 }
}

fn run(model: &Bytes, base: EngineOptions, reference: Option<TraceFile>) -> Vec<Checkpoint> {
    checkpoints(&|o| Ok(engine(model, o)), &base, reference, &options()).unwrap()
}

fn failed(list: &[Checkpoint]) -> Vec<&str> {
    list.iter().filter(|c| !c.passed()).map(|c| c.id).collect()
}

#[test]
fn every_architecture_passes_in_order() {
    for shape in ["nano-llama", "nano-qwen2", "nano-qwen3", "nano-phi3"] {
        for dtype in [DType::F32, DType::Q8_0] {
            let model = file(Shape::named(shape).unwrap(), dtype);
            let list = run(&model, one_thread(), None);
            let wrong: Vec<_> = list.iter().flat_map(|c| &c.checks).filter(|k| !k.passed).collect();
            assert!(wrong.is_empty(), "{shape} {dtype}: {wrong:#?}");
            let ids: Vec<&str> = list.iter().map(|c| c.id).collect();
            assert_eq!(ids, ["1", "1B", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
        }
    }
    let mixed = common::engines::mixed(&wide(), &[DType::Q4_K, DType::Q6_K, DType::Q5_0]);
    assert!(failed(&run(&mixed, one_thread(), None)).is_empty());
}

/// llama with one thing wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Epsilon,
    Pairing,
    Order,
    Scale,
    GateAndUp,
    Residual,
}

static WRONG: std::sync::Mutex<Wrong> = std::sync::Mutex::new(Wrong::Epsilon);

fn build(g: &mut GraphBuilder<'_>, hp: &Hparams) {
    let wrong = *WRONG.lock().unwrap();
    let eps = if wrong == Wrong::Epsilon { 0.1 } else { hp.rms_eps };
    let pairing = if wrong == Wrong::Pairing { Pairing::HalfSplit } else { Pairing::Adjacent };
    let (n_q, n_kv) = (hp.n_head * hp.head_dim_k, hp.n_head_kv * hp.head_dim_k);
    let mut inp = g.embed("embd", "token_embd", hp.n_vocab, hp.n_embd);
    let rope = rope::table(g, hp);
    for il in 0..hp.n_layer {
        g.layer(il);
        let cur = g.rms_norm("attn_norm", inp, "attn_norm", eps);
        let names = if wrong == Wrong::Order {
            ["attn_q", "attn_v", "attn_k"]
        } else {
            ["attn_q", "attn_k", "attn_v"]
        };
        let q = g.linear("Qcur_proj", cur, names[0], n_q);
        let k = g.linear("Kcur_proj", cur, names[1], n_kv);
        let v = g.linear("Vcur", cur, names[2], n_kv);
        let q = g.rope("Qcur", q, rope, pairing, hp.head_dim_k);
        let k = g.rope("Kcur", k, rope, pairing, hp.head_dim_k);
        let scale = blocks::attention_scale(hp) * if wrong == Wrong::Scale { 0.5 } else { 1.0 };
        let heads = Heads { n_head: hp.n_head, n_head_kv: hp.n_head_kv, scale };
        let cur = g.attention("kqv_out", q, k, v, heads);
        let cur = g.linear("attn_out", cur, "attn_output", hp.n_embd);
        let ffn_inp = g.add("ffn_inp", cur, inp);
        let cur = g.rms_norm("ffn_norm", ffn_inp, "ffn_norm", eps);
        let gate = g.linear("ffn_gate", cur, "ffn_gate", hp.n_ff);
        let up = g.linear("ffn_up", cur, "ffn_up", hp.n_ff);
        let (gate, up) = if wrong == Wrong::GateAndUp { (up, gate) } else { (gate, up) };
        let cur = g.swiglu("ffn_swiglu", gate, up);
        let cur = g.linear("ffn_out", cur, "ffn_down", hp.n_embd);
        inp = g.add("l_out", cur, if wrong == Wrong::Residual { inp } else { ffn_inp });
    }
    g.end_layers();
    blocks::output_head(g, inp, hp);
}

const LLAMA: Architecture = Architecture { name: "llama", refuse: blocks::refuse_common, build };

/// The sound model's trace, as another engine would bring it.
fn reference(model: &Bytes) -> TraceFile {
    let plain = EngineOptions {
        fuse: FuseOptions::none(),
        n_outputs: 8,
        type_k: DType::F32,
        type_v: DType::F32,
        ..one_thread()
    };
    let mut sound = engine(model, plain);
    let tokens = options().tokens;
    let mut trace = sound.trace(&tokens, &TraceOptions::default()).unwrap();
    let scores = attention_scores(sound.plan(Phase::Prefill).unwrap(), &trace);
    trace.values.extend(scores);
    record(&sound, &tokens, trace)
}

#[test]
fn what_is_wrong_fails_where_it_is_looked_at() {
    let shape = Shape { n_head_kv: 4, ..Shape::named("nano-llama").unwrap().clone() };
    let model = file(&shape, DType::F32);
    let reference = reference(&model);
    assert!(failed(&run(&model, one_thread(), Some(reference.clone()))).is_empty());
    for (wrong, first) in [
        (Wrong::Epsilon, "1"),
        (Wrong::Pairing, "1B"),
        (Wrong::Order, "2"),
        (Wrong::Scale, "4"),
        (Wrong::GateAndUp, "6"),
        (Wrong::Residual, "7"),
    ] {
        *WRONG.lock().unwrap() = wrong;
        let base = EngineOptions { architectures: vec![LLAMA], ..one_thread() };
        let list = run(&model, base, Some(reference.clone()));
        let failed = failed(&list);
        // Queries and keys of a wrong order are seen behind RoPE too, which comes before in the list.
        let at = if wrong == Wrong::Order { 1 } else { 0 };
        assert_eq!(failed.get(at), Some(&first), "{failed:?}");
        assert!(failed.contains(&"8"), "the logits are wrong too: {failed:?}");
    }
}

#[test]
fn the_command_prints_a_table_and_leaves_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("m.gguf"), &file(Shape::named("nano-llama").unwrap(), DType::F32)[..]).unwrap();
    let (model, proof) = (path("m.gguf"), path("proof"));
    let got = quipu(&["checkpoint", "-m", &model, "--proof-dir", &proof, "--run-id", "one"]);
    assert_eq!(got.code, Some(0), "{}{}", got.stdout, got.stderr);
    assert_eq!(got.stdout.lines().filter(|l| l.ends_with("pass")).count(), 13, "{}", got.stdout);
    let read =
        |name: &str| std::fs::read_to_string(dir.path().join("proof/checkpoint/one").join(name)).unwrap();
    assert!(read("test_report.md").starts_with("# AUTOGENERATED: Proof Bundle\n"));
    assert!(read("checkpoint_1B_comparison.md").contains("Qcur-0"));
    assert_eq!(read("checkpoint_08_metadata.json.meta"), "# AUTOGENERATED: Proof Bundle\n");
    for line in read("checkpoint_03_output.ndjson").lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    // A reference of another prompt's values: failure, and a bundle of it.
    let trace = |out: &str, more: &[&str]| {
        let args = [
            "trace",
            "-m",
            &model,
            "--tokens",
            "1,40,41",
            "--reference",
            "-ctk",
            "f32",
            "-ctv",
            "f32",
            "-o",
            out,
        ];
        assert_eq!(quipu(&[&args[..], more].concat()).code, Some(0));
    };
    trace(&path("bad"), &["--inject", "scale@ffn_out-0"]);
    let got = quipu(&[
        "checkpoint",
        "-m",
        &model,
        "--proof-dir",
        &proof,
        "--run-id",
        "two",
        "--reference",
        &path("bad"),
    ]);
    assert_eq!(got.code, Some(1), "{}{}", got.stdout, got.stderr);
    let first = got.stdout.lines().find(|l| l.ends_with("FAIL")).unwrap();
    assert!(first.starts_with("6 "), "{}", got.stdout);
    assert!(dir.path().join("proof/checkpoint/two/test_report.md").exists());
    let only = ["--only", "1b,12", "--proof-dir", &proof, "--reference", &path("bad"), "--json"];
    let got = quipu(&[&["checkpoint", "-m", &model][..], &only].concat());
    let json: serde_json::Value = serde_json::from_str(&got.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(quipu(&["checkpoint", "-m", &model, "--only", "13"]).code, Some(2));
    assert_eq!(quipu(&["checkpoint", "-m", &model, "--run-id", "../x"]).code, Some(2));
}
