//! `quipu trace`: the activations of one pass as a file.

use super::args::parse_ids;
use super::argv::Given;
use super::load::EngineArgs;
use super::out::{Failure, note};
use quipu::backends::Isa;
use quipu::debug::fault::Fault;
use quipu::debug::record::record;
use quipu::debug::scores::attention_scores;
use quipu::engine::TraceOptions;
use quipu::error::{Error, Problem, Result, escape};
use quipu::plan::{FuseOptions, Phase};
use quipu::text::EncodeOptions;
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
    /// Make an error on purpose: ulp, zero, swap or scale, @ and a value, such as ulp@ffn_out-1
    #[arg(long, value_name = "FAULT")]
    inject: Option<Fault>,
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
    let trace_options = TraceOptions { inject: args.inject.clone(), ..TraceOptions::default() };
    let mut trace = engine.trace(&tokens, &trace_options)?;
    if args.reference
        && let Some(plan) = engine.plan(Phase::Prefill)
    {
        let scores = attention_scores(plan, &trace);
        trace.values.extend(scores);
    }
    let gone = trace.gone.len();
    let mut file = record(&engine, &tokens, trace);
    file.metadata.insert("reference".into(), args.reference.to_string());
    if let Some(fault) = &args.inject {
        file.metadata.insert("injected".into(), fault.to_string());
    }
    file.write(&args.output)?;
    let (path, n) = (escape(&args.output.to_string_lossy()), file.tensors.len());
    note(format_args!("{path}: {n} tensors of {} tokens, {gone} names left out by fusion", tokens.len()));
    Ok(())
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
