//! Checkpoints: named stages of a forward pass, each held to its own tolerance against a reference, in the order in
//! which a pass goes through them. The first that fails says where to look.
//!
//! | | of layer 0, unless said | at most, against an F32 reference |
//! | --- | --- | --- |
//! | 1 | the first norm | 1e-5, on average 1e-6 |
//! | 1B | queries and keys after RoPE; values as they were | 1e-5 |
//! | 2 | queries, keys and values as projected | 1e-4 |
//! | 3 | the cache after a decoded token | all layers: positions, count, zero tail, repetition exact; values 1e-5 |
//! | 4 | scores, scaled, before the softmax; the mask | 1e-4 |
//! | 5 | attention behind its output product | 1e-4 |
//! | 6 | the feed-forward block | 1e-4 |
//! | 7 | the output of the block | 1e-4 |
//! | 8 | logits of every position | 1e-3 |
//! | 9 | logits of the last position | which row: exact |
//! | 10 | the most likely token | exact, where the reference has no near-tie |
//! | 11 | softmax of the reference's logits at temperatures 0.5, 1 and 2 | 1e-6, sum 1e-6, first five tokens exact |
//! | 12 | tokens of a greedy run, three times | exact, up to a near-tie of the reference |
//!
//! Weights that are rounded make llama.cpp round activations too, in another order: then NMSE bounds take the place of
//! the absolute ones (1 to 8).

mod cache;
mod stages;

use super::record::record;
use super::scores::attention_scores;
use super::trace_file::TraceFile;
use super::verify::Load;
use crate::backends::Isa;
use crate::engine::{Engine, EngineOptions, TraceOptions};
use crate::error::{Error, Problem, Result};
use crate::plan::{FuseOptions, Phase};
use crate::quant::DType;
use serde::Serialize;

/// One demand of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What is looked at: a tensor, or a fact.
    pub what: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    pub found: String,
    /// What was asked for.
    pub limit: String,
}

/// One checkpoint and its demands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checkpoint {
    /// `1`, `1B`, `2` to `12`.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Its demands.
    pub checks: Vec<Check>,
}

impl Checkpoint {
    fn new(id: &'static str, title: &'static str) -> Checkpoint {
        Checkpoint { id, title, checks: Vec::new() }
    }
    /// Whether all its demands hold, and there is one.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.passed)
    }
    fn demand(
        &mut self,
        what: impl Into<String>,
        passed: bool,
        found: impl Into<String>,
        limit: impl Into<String>,
    ) {
        self.checks.push(Check { what: what.into(), passed, found: found.into(), limit: limit.into() });
    }
}

/// What to go through.
#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// The prompt, as ids; replaced by those of the reference.
    pub tokens: Vec<u32>,
    /// Tokens of the greedy run.
    pub generate: u32,
}

/// How far a value may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tolerance {
    /// As the table says.
    Absolute,
    /// NMSE at most this.
    Nmse(f64),
}

/// The references of a run: the same pass by somebody else, and what they say comes next.
struct Reference {
    trace: TraceFile,
    tolerance: Tolerance,
    /// Ids of the greedy run, if the reference says.
    generated: Option<Vec<u32>>,
}

/// Runs all checkpoints against `reference`, a trace of another engine, or without one against this crate's own
/// oracle: the unfused graph by the scalar references of every op.
///
/// The pass under test runs unfused, because fusion leaves out values that checkpoints want, and with keys and values
/// cached as F32; [`verify`](super::verify) shows that fused plans give the same bits.
///
/// Errors: `NoReference` (input) if the reference has no ids or another vocabulary's, and whatever loading and steps
/// fail with.
pub fn checkpoints(
    load: &Load<'_>,
    base: &EngineOptions,
    reference: Option<TraceFile>,
    options: &CheckpointOptions,
) -> Result<Vec<Checkpoint>> {
    let tokens = match &reference {
        Some(r) => ids(r, "tokens")?.ok_or_else(|| {
            let p = Problem::new("NoReference", "the reference").found("no ids in its metadata");
            Error::input(p.expected("the ids it was made of, as tokens"))
        })?,
        None => options.tokens.clone(),
    };
    let base = EngineOptions {
        fuse: FuseOptions::none(),
        type_k: DType::F32,
        type_v: DType::F32,
        n_outputs: u32::try_from(tokens.len()).unwrap_or(u32::MAX).max(2),
        ..base.clone()
    };
    let mut engine = load(base.clone())?;
    let reference = match reference {
        Some(trace) => {
            let generated = ids(&trace, "generated")?;
            Reference { trace, tolerance: tolerance(&engine), generated }
        }
        None => {
            let mut oracle = load(EngineOptions { isa: Some(Isa::Scalar), threads: Some(1), ..base })?;
            let trace = full_trace(&mut oracle, &tokens)?;
            let generated = Some(stages::greedy(&mut oracle, &tokens, options.generate)?.0);
            Reference { trace, tolerance: Tolerance::Absolute, generated }
        }
    };
    let ours = full_trace(&mut engine, &tokens)?;
    let mut stages =
        stages::Stages { ours: &ours, reference: &reference, engine: &mut engine, tokens: &tokens };
    stages.all(options.generate)
}

/// Every value of a pass, with the scores inside attention.
fn full_trace(engine: &mut Engine, tokens: &[u32]) -> Result<TraceFile> {
    let mut trace = engine.trace(tokens, &TraceOptions::default())?;
    if let Some(plan) = engine.plan(Phase::Prefill) {
        let scores = attention_scores(plan, &trace);
        trace.values.extend(scores);
    }
    Ok(record(engine, tokens, trace))
}

/// What another engine can be held to: with every matrix in F32 the table, else the NMSE of the coarsest type.
fn tolerance(engine: &Engine) -> Tolerance {
    let matrices = engine.gguf().tensors().iter().filter(|t| t.dims.len() > 1);
    let nmse = matrices.map(|t| match t.dtype {
        DType::F32 => 0.0,
        DType::F16 => 5e-6,
        DType::BF16 => 5e-4,
        _ => 1e-3,
    });
    match nmse.fold(0.0, f64::max) {
        0.0 => Tolerance::Absolute,
        n => Tolerance::Nmse(n),
    }
}

fn ids(t: &TraceFile, key: &str) -> Result<Option<Vec<u32>>> {
    let Some(json) = t.metadata.get(key) else { return Ok(None) };
    serde_json::from_str(json).map(Some).map_err(|e| {
        let p = Problem::new("BadTrace", format!("{key} of the reference")).found(e.to_string());
        Error::input(p.expected("a JSON list of ids"))
    })
}
