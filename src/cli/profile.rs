//! `quipu profile`: where the time of a run goes.

use super::argv::Given;
use super::bench::some_tokens;
use super::limits::LimitsArgs;
use super::load::EngineArgs;
use super::out::{Failure, Out, file_not_writable, note};
use super::prompt::PromptArgs;
use super::report::describe;
use quipu::engine::{Engine, GenerateOptions, ProfileOptions, SamplerParams};
use quipu::error::{Error, Problem, Result};
use quipu::text::EncodeOptions;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Show where the time of a run goes: per command, per kind of op, per layer, per thread.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Runs the prompt (without one, arbitrary tokens) and generates greedily, once. Times of commands are means over the
threads. With limits of the machine (quipu calibrate) a forecast stands beside them. A trace file opens in Perfetto
(ui.perfetto.dev) and in chrome://tracing. Examples:
  quipu profile -m model.gguf -p \"Once upon a time\" -n 64 | less -S
  quipu profile -m model.gguf --n-prompt 512 -n 0 --json
  quipu profile -m model.gguf -n 8 --trace-file trace.json")]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Arbitrary tokens to run where no prompt is given
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    n_prompt: u32,
    /// Tokens to generate, whatever they are
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", default_value_t = 32)]
    predict: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// File to write every command of every pass to, in Chrome's trace format
    #[arg(long, value_name = "FILE")]
    trace_file: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitsArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs once and prints.
pub fn run(args: &Args, given: Given<'_>, out: &mut Out) -> Result<(), Failure> {
    let prompt = if args.prompt.is_given() { Some(args.prompt.read(given)?) } else { None };
    let (mut engine, _) = args.engine.load(args.engine.options()?)?;
    note(describe(&engine));
    let limits = args.limits.find(engine.isa(), engine.n_threads())?.map(|l| l.0);
    let room = engine.n_ctx().saturating_sub(args.predict).max(1);
    let tokens = tokens(&engine, prompt.as_deref(), args.n_prompt.min(room))?;
    let options = GenerateOptions {
        max_tokens: args.predict.into(),
        sampler: SamplerParams { ignore_eos: true, ..SamplerParams::greedy() },
        ..GenerateOptions::default()
    };
    let passes = tokens.len().div_ceil(args.engine.ubatch() as usize) + args.predict as usize;
    let mut session = engine.new_session()?;
    engine.start_profile(&ProfileOptions { passes, slices: args.trace_file.is_some() });
    for piece in engine.generate_from(&mut session, tokens, &options)? {
        piece?;
    }
    let Some(profile) = engine.finish_profile(limits.as_ref()) else {
        return Err(Error::runtime(Problem::new("NoProfile", "the run")).into());
    };
    if let Some(path) = &args.trace_file {
        let failed = |e| file_not_writable(path, &e);
        let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
        let left_out = profile.write_chrome_trace(&mut file).map_err(failed)?;
        file.flush().map_err(failed)?;
        if left_out > 0 {
            note(format_args!("note: {left_out} passes were too many for the trace file"));
        }
    }
    if args.json { out.json(&profile) } else { out.line(&profile) }
}

/// The tokens of the prompt, or so many arbitrary ones.
fn tokens(engine: &Engine, prompt: Option<&[u8]>, n: u32) -> Result<Vec<u32>> {
    let Some(prompt) = prompt else { return Ok(some_tokens(engine, n)) };
    let mut tokens = Vec::new();
    engine.tokenizer().encode(
        prompt,
        EncodeOptions { add_special: true, parse_special: true },
        &mut tokens,
    )?;
    Ok(tokens)
}
