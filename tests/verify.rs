//! `quipu verify`: all conditions give one digest, and an engine that computes something else is caught with the first
//! value that differs.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{engine, file, mixed, one_thread, tokens, wide};
use common::process::quipu;
use quipu::debug::verify::{VerifyOptions, verify};
use quipu::engine::EngineOptions;
use quipu::loader::Bytes;
use quipu::loader::synth::Shape;
use quipu::quant::DType;
use std::cell::Cell;

fn options() -> VerifyOptions {
    VerifyOptions { generate: 3, repetitions: 2, chunks: vec![1, 7], ..VerifyOptions::new(tokens(20, 5)) }
}

fn model(shape: &str, dtype: DType) -> Bytes {
    file(&Shape { n_ctx: 128, ..Shape::named(shape).unwrap().clone() }, dtype)
}

#[test]
fn every_architecture_says_the_same_under_every_condition() {
    let mut models: Vec<(String, Bytes)> = Vec::new();
    for shape in ["nano-llama", "nano-qwen2", "nano-qwen3", "nano-phi3"] {
        models.push((shape.into(), model(shape, DType::Q8_0)));
    }
    models.push(("F16".into(), model("nano-llama", DType::F16)));
    let types = [DType::Q4_K, DType::Q6_K, DType::Q5_0, DType::IQ4_XS];
    models.push(("mixed".into(), mixed(&Shape { n_ctx: 128, ..wide() }, &types)));
    for (name, model) in models {
        let mut seen = 0;
        let done = verify(&|o| Ok(engine(&model, o)), &one_thread(), &options(), &mut |_| seen += 1).unwrap();
        let wrong: Vec<_> = done.conditions.iter().filter(|c| !c.same).collect();
        assert!(done.is_same(), "{name}: {wrong:#?}");
        assert_eq!(seen, done.conditions.len());
        assert!(seen > 20, "{seen} conditions");
    }
}

#[test]
fn caches_of_blocks_say_the_same_under_every_condition() {
    let model = model("nano-qwen3", DType::Q8_0);
    for (type_k, type_v) in [(DType::Q8_0, DType::Q8_0), (DType::Q4_0, DType::Q8_0)] {
        let base = EngineOptions { type_k, type_v, ..one_thread() };
        let done = verify(&|o| Ok(engine(&model, o)), &base, &options(), &mut |_| {}).unwrap();
        let wrong: Vec<_> = done.conditions.iter().filter(|c| !c.same).collect();
        assert!(done.is_same() && done.conditions.len() > 20, "{type_k} {type_v}: {wrong:#?}");
    }
}

#[test]
fn an_engine_that_differs_is_caught_and_the_first_value_named() {
    let (sound, other) = (model("nano-llama", DType::F32), model("nano-llama", DType::F32).to_vec());
    // One weight of the second block's gate, a little larger.
    let gguf = quipu::loader::Gguf::parse(sound.clone(), &Default::default()).unwrap();
    let gate = gguf.tensor("blk.1.ffn_gate.weight").unwrap();
    let at = gguf.data(gate).unwrap().as_ptr().addr() - gguf.bytes().as_ptr().addr();
    let mut wrong = other;
    wrong[at + 2] ^= 1;
    let wrong = Bytes::from(wrong);
    // Every engine without a rule of fusion gets the other file: as if a fused kernel computed something else.
    let count = Cell::new(0);
    let load = |o: EngineOptions| {
        let fused = o.fuse.is_on("gate_up");
        count.set(count.get() + 1);
        Ok(engine(if fused { &sound } else { &wrong }, o))
    };
    let done = verify(&load, &one_thread(), &options(), &mut |_| {}).unwrap();
    let bad: Vec<_> = done.conditions.iter().filter(|c| !c.same).collect();
    let names: Vec<&str> = bad.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["no fusion", "fusion without gate_up"]);
    let first = bad[1].first.as_ref().unwrap();
    assert_eq!(first.name, "ffn_swiglu-1");
    assert!(count.get() > 15);
}

#[test]
fn the_command_prints_a_line_per_condition() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, &model("nano-qwen3", DType::Q8_0)[..]).unwrap();
    let path = path.to_str().unwrap();
    let few = ["-n", "2", "--repetitions", "2", "--teams", "1,2", "--seeds", "7"];
    let got = quipu(&[&["verify", "-m", path][..], &few].concat());
    assert_eq!(got.code, Some(0), "{}{}", got.stdout, got.stderr);
    assert!(got.stdout.lines().all(|l| l.ends_with("same")), "{}", got.stdout);
    assert!(got.stderr.contains("the same bits"), "{}", got.stderr);
    let json = quipu(&[&["verify", "-m", path, "--json"][..], &few].concat());
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json["conditions"].as_array().unwrap().iter().all(|c| c["same"] == true));
    assert_eq!(quipu(&["verify", "-m", path, "--teams", "0"]).code, Some(2));
    assert_eq!(quipu(&["verify", "-m", path, "--tokens", "5"]).code, Some(2));
}
