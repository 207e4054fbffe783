//! Traces and their comparison: an error of one unit in the last place, in any command of any architecture, is found
//! where it is made; runs that may not differ do not.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{engine, file, mixed, one_thread, tokens, wide};
use common::process::quipu;
use quipu::backends::Isa;
use quipu::debug::compare::{compare, made_by};
use quipu::debug::record::record;
use quipu::debug::scores::attention_scores;
use quipu::debug::trace_file::TraceFile;
use quipu::engine::{Engine, EngineOptions, TraceOptions};
use quipu::loader::Bytes;
use quipu::loader::synth::Shape;
use quipu::ops::OpKind;
use quipu::plan::{FuseOptions, Phase};
use quipu::quant::DType;
use std::collections::BTreeSet;

const ARCHITECTURES: [&str; 5] = ["nano-llama", "nano-qwen2", "nano-qwen3", "nano-phi3", "nano-phi3-long"];

fn model(shape: &str, dtype: DType) -> Bytes {
    file(&Shape { n_ctx: 128, ..Shape::named(shape).unwrap().clone() }, dtype)
}

fn options() -> EngineOptions {
    EngineOptions { n_outputs: 64, n_seq_max: 1, ..one_thread() }
}

fn trace(engine: &mut Engine, tokens: &[u32], fault: Option<String>) -> TraceFile {
    let inject = fault.map(|f| f.parse().unwrap());
    let trace = engine.trace(tokens, &TraceOptions { inject, ..TraceOptions::default() }).unwrap();
    record(engine, tokens, trace)
}

/// Injects into one value of every kind of op of a plan; returns the kinds.
fn every_kind_is_found(
    what: &str,
    file: &Bytes,
    options: EngineOptions,
    faults: &[&str],
) -> BTreeSet<&'static str> {
    let mut e = engine(file, options);
    let tokens = tokens(9, 1);
    let sound = trace(&mut e, &tokens, None);
    let plan = e.plan(Phase::Prefill).unwrap().clone();
    let made = made_by(&plan);
    let mut kinds = BTreeSet::new();
    for (id, cmd) in plan.cmds.iter() {
        let kind = plan.ops[cmd.op as usize].kind().name();
        if !kinds.insert(kind) {
            continue;
        }
        for value in made.iter().filter(|m| m.cmd == id.0) {
            for fault in faults {
                let wrong = trace(&mut e, &tokens, Some(format!("{fault}@{}", value.name)));
                let first = compare(&sound, &wrong, 0.0).first;
                let first =
                    first.unwrap_or_else(|| panic!("{what}: {fault}@{} of {kind} is not seen", value.name));
                assert_eq!(first.name, value.name, "{what}: {fault} of {kind}");
                assert!(first.made_here, "{what}: {first:?}");
                assert_eq!(first.made.unwrap().cmd, id.0, "{what}");
            }
        }
    }
    kinds
}

#[test]
fn a_unit_in_the_last_place_is_found_in_every_kind_of_op_of_every_architecture() {
    let mut kinds = BTreeSet::new();
    for shape in ARCHITECTURES {
        for dtype in [DType::F32, DType::Q8_0] {
            // Without a rule, what it would have taken up is seen by itself.
            let without = |rule| FuseOptions::without(&[rule]).unwrap();
            let all = [
                FuseOptions::none(),
                FuseOptions::default(),
                without("product_add"),
                without("qkv"),
                without("qkv_rope_kv"),
            ];
            for fuse in all {
                let what = format!("{shape} {dtype} {fuse:?}");
                let options = EngineOptions { fuse, ..options() };
                kinds.extend(every_kind_is_found(&what, &model(shape, dtype), options, &["ulp"]));
            }
        }
    }
    let all: BTreeSet<&str> = OpKind::ALL.iter().map(|k| k.name()).collect();
    let never: Vec<&&str> = all.difference(&kinds).collect();
    assert!(never.is_empty(), "no plan had {never:?}");
}

#[test]
fn other_faults_and_other_activations_are_found_too() {
    let shape = Shape { n_ctx: 128, ..wide() };
    let types = [DType::Q4_K, DType::Q4_1, DType::Q6_K, DType::Q5_0];
    let faults = ["ulp", "zero", "swap", "scale"];
    every_kind_is_found("mixed", &mixed(&shape, &types), options(), &faults);
    let f16 = EngineOptions { type_k: DType::F32, fuse: FuseOptions::none(), ..options() };
    every_kind_is_found("F16", &model("nano-qwen2", DType::F16), f16, &faults);
    for (type_k, type_v) in [(DType::Q8_0, DType::Q4_0), (DType::Q4_0, DType::Q8_0)] {
        for fuse in [FuseOptions::none(), FuseOptions::default()] {
            let blocks = EngineOptions { type_k, type_v, fuse, ..options() };
            every_kind_is_found("cache of blocks", &model("nano-qwen3", DType::Q8_0), blocks, &faults);
        }
    }
}

#[test]
fn scores_computed_again_end_in_the_bits_of_the_run() {
    let file = model("nano-qwen3", DType::Q8_0);
    for (type_k, type_v) in [(DType::F16, DType::F16), (DType::Q8_0, DType::Q4_0), (DType::Q4_0, DType::Q8_0)]
    {
        let mut e = engine(&file, EngineOptions { type_k, type_v, fuse: FuseOptions::none(), ..options() });
        let trace = e.trace(&tokens(21, 4), &TraceOptions::default()).unwrap();
        let scores = attention_scores(e.plan(Phase::Prefill).unwrap(), &trace);
        for layer in 0..2 {
            let again = scores.iter().find(|v| v.name == format!("kqv-{layer}")).unwrap();
            assert_eq!(
                again.data,
                trace.find(&format!("kqv_out-{layer}")).unwrap().data,
                "{type_k} {type_v}"
            );
        }
    }
}

#[test]
fn runs_that_may_not_differ_do_not() {
    let file = model("nano-qwen3", DType::Q8_0);
    let tokens = tokens(33, 2);
    let with = |o: EngineOptions| trace(&mut engine(&file, o), &tokens, None);
    let base = with(EngineOptions { fuse: FuseOptions::none(), ..options() });
    assert!(base.tensors.iter().any(|t| t.name == "cache_k-1" && t.shape[0] == 33));
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        for (threads, n_ubatch) in [(1, 512), (2, 512), (3, 7)] {
            let o = EngineOptions { isa: Some(isa), threads: Some(threads), n_ubatch, ..options() };
            let c = compare(&base, &with(o), 0.0);
            assert!(c.is_same() && c.only_b.is_empty(), "{isa} {threads} {n_ubatch}: {:?}", c.first);
            assert!(c.rows.len() > 20);
        }
    }
}

#[test]
fn the_command_names_the_value_its_command_and_whether_the_error_was_made_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("m.gguf"), &model("nano-llama", DType::F16)[..]).unwrap();
    let (model, a, b) = (path("m.gguf"), path("a"), path("b"));
    let traced = |out: &str, more: &[&str]| {
        let got = quipu(
            &[&["trace", "-m", &model, "--tokens", "1,5,9,30,31,32,40,41,42", "-o", out], more].concat(),
        );
        assert_eq!(got.code, Some(0), "{}", got.stderr);
    };
    traced(&a, &["--isa", "scalar", "-t", "1"]);
    traced(&b, &["-ub", "4"]);
    let same = quipu(&["compare", &a, &b]);
    assert_eq!(same.code, Some(0), "{}{}", same.stdout, same.stderr);
    assert!(same.stdout.contains("tensors agree"), "{}", same.stdout);
    traced(&b, &["--inject", "ulp@ffn_inp-1"]);
    let other = quipu(&["compare", &a, &b]);
    assert_eq!(other.code, Some(1), "{}{}", other.stdout, other.stderr);
    for part in ["first difference: ffn_inp-1, made by c", "linear_add", "the error is made by this command"]
    {
        assert!(other.stdout.contains(part), "{part} in\n{}", other.stdout);
    }
    let json = quipu(&["compare", &a, &b, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["first"]["name"], "ffn_inp-1");
    assert_eq!(json["first"]["made_here"], true);
    // A limit that lets it through.
    assert_eq!(quipu(&["compare", &a, &b, "--limit", "1e-6"]).code, Some(0));
    let nothing = quipu(&["trace", "-m", &model, "--tokens", "1,2", "-o", &b, "--inject", "ulp@nothing-7"]);
    assert_eq!(nothing.code, Some(2), "{}", nothing.stderr);
    assert!(nothing.stderr.contains("[NoSuchValue]"), "{}", nothing.stderr);
    std::fs::write(&b, b"no trace").unwrap();
    let bad = quipu(&["compare", &a, &b]);
    assert_eq!(bad.code, Some(4), "{}", bad.stderr);
    assert!(bad.stderr.contains("[BadTrace]"), "{}", bad.stderr);
}
