//! `quipu run`: text from a prompt.

use super::argv::Given;
use super::interrupt;
use super::limits::LimitsArgs;
use super::load::EngineArgs;
use super::out::{Failure, Out, note, print_error, text_to, to_json};
use super::plan_check::PlanCheck;
use super::prompt::{PromptArgs, unescape};
use super::report::{Report, ScoreRow, introduce};
use super::sampling::SamplingArgs;
use super::terminal::Color;
use quipu::debug::replay::{RunRecord, Watch};
use quipu::engine::stop::StopMatcher;
use quipu::engine::{CancelToken, GenerateOptions, StopReason};
use quipu::error::{Class, Error, Problem, Result};
use quipu::text::EncodeOptions;
use std::path::PathBuf;

/// Continue a text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Standard output gets the model's text alone, everything else goes to standard error. Without -m runs a tiny model that
is part of quipu and knows simple stories; a real one is any GGUF file of a supported architecture, such as those that
people publish on Hugging Face: download it and name it with -m. Examples:
  quipu run -p \"Once upon a time\"
  quipu run -m model.gguf -p \"Once upon a time\" -n 200
  quipu run -m model.gguf -p \"Once upon a time\" --temp 0 --stop \"The end\"
  quipu run -m model.gguf -p \"Once upon a time\" -n 100 --assert-plan
  quipu run -m model.gguf -p \"Once upon a time\" -n 100 --record run.json; quipu replay run.json
  quipu run -m model.gguf --json < prompt.txt | jq -r .text")]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Most tokens to generate, -1 for as many as the context holds
    #[arg(
        short = 'n',
        long,
        visible_alias = "n-predict",
        value_name = "N",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    predict: i64,
    /// Print the prompt before the text
    #[arg(long)]
    echo: bool,
    /// End when this text comes up, which is not printed; may be given several times
    #[arg(
        short = 'r',
        long,
        visible_alias = "reverse-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    stop: Vec<String>,
    /// Colour the prompt of --echo: on, off or auto [-co]
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        num_args = 0..=1,
        default_missing_value = "on",
        hide_possible_values = true
    )]
    color: Color,
    /// Print one JSON object at the end instead of the text
    #[arg(long)]
    json: bool,
    /// With --json, list how likely each token was, beside the N most likely ones; before bias, penalties, filters and
    /// temperature
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    /// Afterwards hold the run to what was forecast before it: memory to the byte, the peak within 16 MiB and the
    /// mapped file; exit 1 if it differs. Speeds are shown beside their forecast
    #[arg(long)]
    assert_plan: bool,
    /// Write the run to this file for quipu replay: prompt, options, seed, and digests of model, plans and output
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitsArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Yellow, as llama.cpp shows prompts.
const PROMPT_COLOR: &[u8] = b"\x1b[33m";
const PLAIN: &[u8] = b"\x1b[0m";

/// Generates; the text streams to standard output.
pub fn run(args: &Args, given: Given<'_>, out: &mut Out) -> Result<(), Failure> {
    let sampler = args.sampling.params();
    sampler.check()?;
    let engine_options = args.engine.options()?;
    let stop = stop_strings(&args.stop, args.prompt.escapes(given))?;
    StopMatcher::new(&stop)?;
    let prompt = args.prompt.read(given)?;

    let forecast = args.assert_plan.then(|| args.engine.forecast(engine_options.clone())).transpose()?;
    let limits = match &forecast {
        Some(f) => args.limits.find(f.isa(), f.threads())?.map(|l| l.0),
        None => None,
    };
    let (mut engine, load) = args.engine.load(engine_options)?;
    let encode = EncodeOptions { add_special: true, parse_special: true };
    let mut tokens = Vec::new();
    engine.tokenizer().encode(&prompt, encode, &mut tokens)?;
    if !args.json {
        note(introduce(&engine, given.is_default("model")));
    }
    let mut report = Report::new(&engine, &args.engine.model.model, load);
    let cancel = CancelToken::new();
    let options = GenerateOptions {
        max_tokens: args.predict,
        sampler,
        stop: stop.clone(),
        logprobs: args.logprobs.filter(|_| args.json),
        cancel: Some(cancel.clone()),
        ..GenerateOptions::default()
    };
    let mut session = engine.new_session()?;
    let n_prompt = tokens.len();
    let mut pieces = engine.generate_from(&mut session, tokens, &options)?;
    if args.echo && !args.json {
        echo(out, &prompt, args.color.stdout())?;
    }

    interrupt::on_next(move || cancel.cancel());
    let mut failed: Option<Error> = None;
    let mut last = 0;
    let mut scores = Vec::new();
    let mut watch = args.record.is_some().then(Watch::default);
    while let Some(piece) = pieces.next() {
        // A long token comes in several pieces.
        if pieces.timings().generated_tokens > scores.len() as u64 {
            scores.extend(pieces.score().map(|s| ScoreRow::new(pieces.engine().tokenizer(), s)));
        }
        if let Some(watch) = &mut watch {
            watch.see(&pieces);
        }
        match piece {
            Ok(piece) => {
                last = piece.id;
                if args.json {
                    report.text.push_str(piece.as_str());
                } else if !piece.as_str().is_empty() {
                    out.text(piece.as_str())?;
                    out.flush()?;
                }
            }
            Err(e) => failed = Some(e),
        }
    }
    interrupt::clear();

    report.tokens = pieces.session().tokens().get(n_prompt..).unwrap_or_default().to_vec();
    let decoded = report.tokens.len();
    report.decoded(decoded, pieces.timings());
    report.plan_check = forecast.map(|f| {
        let run = (pieces.engine(), pieces.session());
        PlanCheck::new(&f, limits.as_ref(), run, (pieces.timings(), decoded))
    });
    // Nothing has needed the keys and values of the last token, so the session does not hold it.
    if (report.tokens.len() as u64) < pieces.timings().generated_tokens {
        report.tokens.push(last);
    }
    report.logprobs = options.logprobs.map(|_| scores);
    report.seed = pieces.seed();
    report.stop_reason = pieces.stop_reason();
    report.stop_string = pieces.stop_string().and_then(|i| stop.get(i).cloned());
    if let (Some(path), Some(mut watch), None) = (&args.record, watch, &failed) {
        watch.see(&pieces);
        let model = args.engine.model.model.to_string_lossy();
        let record = RunRecord::new(&model, &pieces, &options, watch);
        text_to(Some(path), &(to_json(&record)? + "\n"), out)?;
    }
    if args.json {
        report.prompt = String::from_utf8_lossy(&prompt).into_owned();
        out.json_line(&report)?;
    } else {
        out.final_newline()?;
    }
    out.flush()?;
    if !args.json {
        note(&report);
    }
    match failed {
        Some(e) => {
            print_error(&e);
            Err(Failure::Reported(e.class().exit_code()))
        }
        None if report.stop_reason == Some(StopReason::Cancelled) => {
            Err(Failure::Reported(Class::Interrupted.exit_code()))
        }
        None => report.plan_check.map_or(Ok(()), |c| Ok(c.result()?)),
    }
}

fn echo(out: &mut Out, prompt: &[u8], color: bool) -> Result<(), Failure> {
    if color {
        out.bytes(PROMPT_COLOR)?;
    }
    out.bytes(prompt)?;
    if color {
        out.bytes(PLAIN)?;
    }
    out.flush()
}

/// The texts that end the generation, with escapes read.
fn stop_strings(texts: &[String], escapes: bool) -> Result<Vec<String>> {
    let read = |text: &String| {
        if !escapes {
            return Ok(text.clone());
        }
        String::from_utf8(unescape(text.as_bytes())).map_err(|_| {
            let thing = format!("--stop \"{}\"", quipu::error::escape(text));
            Error::usage(
                Problem::new("NotUtf8", thing).expected("whole characters after reading its escapes"),
            )
        })
    };
    texts.iter().map(read).collect()
}
