//! `quipu inspect`: what a file holds, however damaged it is, and whether it can run.

use super::args::OverrideArgs;
use super::out::{Failure, Out, print_problems};
use quipu::error::{Error, Result};
use quipu::loader::inspect::Inspection;
use quipu::loader::{Bytes, Gguf, LoadMode, ParseOptions};
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
    let bytes = Bytes::open(&args.file, LoadMode::Auto)?;
    let (mut file, problems) = Gguf::parse_partly(bytes, &ParseOptions::default());
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

fn inspect(file: &Gguf, problems: Vec<quipu::Problem>, tensors: bool) -> Inspection {
    let mut seen = Inspection::new(file, problems, tensors);
    let problems_of = |r: Result<(), Error>| r.err().map(|e| e.problems().to_vec()).unwrap_or_default();
    seen.judge("tokenizer", &problems_of(Tokenizer::from_gguf(file).map(drop)));
    seen
}
