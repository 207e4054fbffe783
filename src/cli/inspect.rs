//! `quipu inspect`: what a file holds, however damaged it is, and whether it can run.

use super::args::OverrideArgs;
use super::out::{Failure, Out, print_problems};
use quipu::error::{Error, Problem};
use quipu::graph::builder::CacheTypes;
use quipu::loader::inspect::Inspection;
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use quipu::models;
use quipu::text::Tokenizer;
use std::path::PathBuf;

/// Print what a GGUF file holds and whether quipu can run it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0 if the model can run, 3 if not. Examples:
  quipu inspect model.gguf
  quipu inspect --json --tensors model.gguf | jq .tensors[].name")]
pub struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// Prints the facts and the verdict; what is wrong goes to standard error as well.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let overrides = args.overrides.parse()?;
    let parse = ParseOptions::default();
    let (mut file, problems) = Gguf::open_partly(&args.file, LoadMode::Auto, &parse, &mut |_, _| {})?;
    for (key, value) in overrides {
        file.set_override(&key, value)?;
    }
    let seen = inspect(&file, problems, args.tensors);
    if args.json {
        out.json(&seen)?;
    } else {
        out.line(&seen)?;
    }
    out.flush()?;
    if seen.runnable() {
        return Ok(());
    }
    print_problems("error", &seen.problems);
    Err(Failure::Reported(quipu::Class::Model.exit_code()))
}

/// The facts with the verdicts of the architecture and of the tokenizer.
fn inspect(file: &Gguf, problems: Vec<Problem>, tensors: bool) -> Inspection {
    let mut seen = Inspection::new(file, problems, tensors);
    match models::declare(file, &[], CacheTypes::default()) {
        Ok(d) => seen.require(file, &models::wants(&d.graph)),
        Err(e) => judge(&mut seen, "architecture", &e),
    }
    match Tokenizer::from_gguf(file) {
        Ok(_) => seen.judge("tokenizer", &[]),
        Err(e) => judge(&mut seen, "tokenizer", &e),
    }
    seen
}

/// A verdict with the problems that no verdict before has listed; none if all are known.
fn judge(seen: &mut Inspection, what: &'static str, error: &Error) {
    let new: Vec<Problem> = error.problems().iter().filter(|p| !seen.problems.contains(p)).cloned().collect();
    if !new.is_empty() {
        seen.judge(what, &new);
    }
}
