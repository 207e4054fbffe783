//! `quipu trace`: the activations of one pass as a file.

use super::args::parse_ids;
use super::argv::Given;
use super::load::EngineArgs;
use super::out::{Failure, note};
use quipu::backends::Isa;
use quipu::debug::scores::attention_scores;
use quipu::debug::trace_file::{self, Tensor};
use quipu::engine::{Engine, Trace, TraceOptions, TraceValue};
use quipu::error::{Error, Problem, Result, escape};
use quipu::ops::NUMERICS_VERSION;
use quipu::plan::{FuseOptions, Phase, Plan};
use quipu::text::EncodeOptions;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Write the activations of one pass over a text to a safetensors file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows are tokens; names are llama.cpp's: Qcur-0 is after RoPE, Qcur_proj-0 before it. The plan that really runs is
traced: what fusion left out is listed under `gone` in the metadata, and --no-fuse has everything. Examples:
  quipu trace -m model.gguf -p \"Once upon a time\" -o trace.safetensors
  quipu trace -m model.gguf --tokens 1,403,407 --reference -ctk f32 -ctv f32 -o trace.safetensors")]
pub struct Args {
    /// Text to trace; special tokens are parsed
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Token ids to trace instead, as they are
    #[arg(long, value_name = "IDS")]
    tokens: Option<String>,
    /// Trace the unfused graph on the scalar oracle, with kq, kq_soft_max and kqv
    #[arg(long)]
    reference: bool,
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Traces and writes the file.
pub fn run(args: &Args, given: Given<'_>) -> Result<(), Failure> {
    let mut options = args.engine.options()?;
    let tokens = tokens(args, given)?;
    if args.reference {
        options.isa = Some(Isa::Scalar);
        options.fuse = FuseOptions::none();
    }
    // Every row wants logits, and a pass has no more of them than this.
    options.n_outputs = options.n_ubatch.min(u32::try_from(tokens.len()).unwrap_or(u32::MAX)).max(1);
    let (mut engine, _) = args.engine.load(options)?;
    let mut trace = engine.trace(&tokens, &TraceOptions::default())?;
    if args.reference
        && let Some(plan) = engine.plan(Phase::Prefill)
    {
        let scores = attention_scores(plan, &trace);
        trace.values.extend(scores);
    }
    let metadata = metadata(args, &engine, &tokens, &trace);
    let shapes: Vec<Vec<usize>> = trace.values.iter().map(|v| shape(v, tokens.len())).collect();
    let tensors: Vec<Tensor<'_>> = trace
        .values
        .iter()
        .zip(&shapes)
        .map(|(v, shape)| Tensor { name: &v.name, shape, data: &v.data })
        .collect();
    trace_file::write(&args.output, &tensors, &metadata)?;
    let (path, n, gone) = (escape(&args.output.to_string_lossy()), tensors.len(), trace.gone.len());
    note(format_args!("{path}: {n} tensors of {} tokens, {gone} names left out by fusion", tokens.len()));
    Ok(())
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

/// The ids to trace; the command line beats the environment.
fn tokens(args: &Args, given: Given<'_>) -> Result<Vec<u32>> {
    let (p, t) = (given.on_command_line("prompt"), given.on_command_line("tokens"));
    match (&args.prompt, &args.tokens) {
        _ if p && t => {
            Err(Error::usage(Problem::new("TwoPrompts", "-p and --tokens").expected("one of them")))
        }
        (Some(text), _) if !t => {
            let mut ids = Vec::new();
            let special = EncodeOptions { add_special: true, parse_special: true };
            args.engine.tokenizer()?.encode(text, special, &mut ids)?;
            Ok(ids)
        }
        (_, Some(ids)) => parse_ids(&[ids]),
        _ => Err(Error::usage(Problem::new("NoPrompt", "prompt").hint("give -p TEXT or --tokens 1,2,3"))),
    }
}

/// What the file was made of. Threads are not in it: they change nothing.
fn metadata(args: &Args, engine: &Engine, tokens: &[u32], trace: &Trace) -> BTreeMap<String, String> {
    let phase = if tokens.len() == 1 || args.engine.ubatch() == 1 { Phase::Decode } else { Phase::Prefill };
    let mut m = BTreeMap::new();
    let mut put = |key: &str, value: String| m.insert(key.to_owned(), value);
    put("engine", format!("quipu {}", env!("CARGO_PKG_VERSION")));
    put("numerics", NUMERICS_VERSION.to_string());
    // Of a split model: of its files one behind the other.
    let digest = engine.gguf().files().fold(Sha256::new(), |sum, file| sum.chain_update(&file[..]));
    put("model_sha256", digest.finalize().iter().map(|b| format!("{b:02x}")).collect());
    put("tokens", json!(tokens).to_string());
    put("reference", args.reference.to_string());
    put("isa", engine.isa().to_string());
    put("n_ubatch", args.engine.ubatch().to_string());
    put("gone", json!(trace.gone).to_string());
    if let Some(plan) = engine.plan(phase) {
        put("plan", plan_facts(plan));
    }
    m
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
