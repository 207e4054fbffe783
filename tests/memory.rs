//! The peak of a run is what was stated before it: the file's pages, the cache, and the lines of the plan.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // not every test takes the time
#[path = "common/process.rs"]
mod process;

use process::quipu;
use quipu::loader::synth::{Shape, synth_shape};
use quipu::quant::DType;
use serde_json::Value;

/// What may lie beside the lines that are stated: the program, the header's tables, buffers of a call.
const BESIDE: u64 = 16 << 20;

/// Runs a model with a context that its prompt fills; every stated line is larger than what may lie beside it, or
/// small and exact.
fn check(shape: &Shape, dtype: DType, n_ctx: usize, ubatch: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    synth_shape(shape, dtype, 1, std::fs::File::create(&path).unwrap()).unwrap();
    let prompt = dir.path().join("prompt.txt");
    std::fs::write(&prompt, "the ".repeat(n_ctx - 16)).unwrap();
    let (model, prompt, ctx) = (path.to_str().unwrap(), prompt.to_str().unwrap(), n_ctx.to_string());
    let common = ["-m", model, "-c", &ctx, "-ub", ubatch, "-ctk", "f32", "-ctv", "f32"];

    let run = ["run", "-f", prompt, "-n", "4", "--temp", "0", "--ignore-eos", "-t", "2", "--json"];
    let outcome = quipu(&[&run[..], &common].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let Some(peak) = outcome.peak_bytes else { return println!("skipped: no peak size on this system") };
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let tokens = report["timings"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens as usize > n_ctx * 95 / 100, "the context is filled: {tokens} of {n_ctx}");
    let planned = &report["planned_memory"];
    let line = |name: &str| planned[name].as_u64().unwrap();
    let total: u64 = planned.as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum();
    println!("{} {dtype}: peak {peak}, planned {total}: {planned}", shape.name);
    assert!(peak.abs_diff(total) <= BESIDE, "peak {peak}, planned {total}: {planned}");

    // `quipu plan` states the same lines, from the header alone.
    assert_eq!(line("file"), std::fs::metadata(&path).unwrap().len());
    let plans = ["prefill", "decode"].map(|phase| {
        let plan = quipu(&[&["plan", "--phase", phase, "--format", "json"], &common[..]].concat());
        assert_eq!(plan.code, Some(0), "{}", plan.stderr);
        serde_json::from_str::<Value>(&plan.stdout).unwrap()["totals"].take()
    });
    let most = |name: &str| plans.iter().map(|t| t[name].as_u64().unwrap()).max().unwrap();
    assert_eq!(line("arena"), most("arena_bytes"));
    assert_eq!(line("cache"), most("kv_bytes"));
    assert_eq!(line("tokenizer"), most("tokenizer_bytes"));
    assert!(line("scratch").abs_diff(2 * most("scratch_bytes")) <= 256, "two threads, whole cache lines");
    assert_eq!(line("logits") % most("logits_bytes"), 0, "whole rows");
}

#[test]
fn a_large_cache_and_vocabulary() {
    let base = Shape::named("tiny-llama").unwrap().clone();
    let shape = Shape {
        n_embd: 256,
        n_ff: 512,
        n_head: 16,
        n_head_kv: 16,
        head_dim: 128,
        n_ctx: 1024,
        n_vocab: 40_000,
        ..base
    };
    check(&shape, DType::F16, 1024, "128");
}

#[test]
fn a_large_micro_batch() {
    let shape = Shape { n_ff: 8192, n_ctx: 1024, ..Shape::named("tiny-qwen2").unwrap().clone() };
    check(&shape, DType::Q8_0, 1024, "1024");
}
