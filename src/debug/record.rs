//! A trace as a file that says what it was made of.

use super::compare::made_by;
use super::trace_file::{Tensor, TraceFile};
use crate::engine::{Engine, Trace, TraceValue};
use crate::ops::NUMERICS_VERSION;
use crate::plan::Plan;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The trace that `engine` made of `tokens`, with the facts a comparison wants: model, plan and numerics, options, ids,
/// names that fusion left out, and which command made each tensor of what.
pub fn record(engine: &Engine, tokens: &[u32], trace: Trace) -> TraceFile {
    let metadata = metadata(engine, tokens, &trace);
    let tensor = |v: TraceValue| Tensor { shape: shape(&v, tokens.len()), name: v.name, data: v.data };
    TraceFile { tensors: trace.values.into_iter().map(tensor).collect(), metadata }
}

/// Scores are `[tokens, heads, tokens]`, everything else `[tokens, elements]`.
fn shape(v: &TraceValue, n: usize) -> Vec<usize> {
    let cols = v.cols as usize;
    if v.name.starts_with("kq-") || v.name.starts_with("kq_soft_max-") {
        vec![n, cols / n.max(1), n]
    } else {
        vec![v.data.len() / cols.max(1), cols]
    }
}

fn metadata(engine: &Engine, tokens: &[u32], trace: &Trace) -> BTreeMap<String, String> {
    let mut m = BTreeMap::new();
    let mut put = |key: &str, value: String| m.insert(key.to_owned(), value);
    put("engine", format!("quipu {}", env!("CARGO_PKG_VERSION")));
    put("numerics", NUMERICS_VERSION.to_string());
    put("model_sha256", model_sha256(engine));
    put("tokens", json!(tokens).to_string());
    put("isa", engine.isa().to_string());
    put("threads", engine.n_threads().to_string());
    put("gone", json!(trace.gone).to_string());
    if let Some(plan) = engine.plan(engine.phase_of(tokens.len())) {
        put("plan_sha256", plan_sha256(plan));
        put("plan", plan_facts(plan));
        put("made", json!(made_by(plan)).to_string());
    }
    m
}

/// Digest of the bytes of a model's file; of a split model, of its files one behind the other.
pub fn model_sha256(engine: &Engine) -> String {
    hex(engine.gguf().files().fold(Sha256::new(), |sum, file| sum.chain_update(&file[..])))
}

/// Digest of a plan's JSON.
pub fn plan_sha256(plan: &Plan) -> String {
    // A plan has nothing that JSON cannot hold.
    hex(Sha256::new().chain_update(serde_json::to_vec(plan).unwrap_or_default()))
}

/// A digest as it is written.
pub(super) fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn plan_facts(p: &Plan) -> String {
    json!({
        "architecture": p.arch, "phase": p.phase, "format": p.format, "max_rows": p.max_rows,
        "n_ctx": p.kv.n_ctx, "cache_type_k": p.kv.type_k, "cache_type_v": p.kv.type_v,
        "commands": p.totals.ops_after, "arena_bytes": p.totals.arena_bytes,
        "kernels": p.kernels, "fused_by": p.rules,
    })
    .to_string()
}
