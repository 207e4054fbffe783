//! `quipu verify`: the same bits whatever the conditions.

use super::load::EngineArgs;
use super::out::{Failure, Out, note};
use quipu::backends::team::MAX_THREADS;
use quipu::debug::verify::{Condition, VerifyOptions, verify};
use quipu::error::{Error, Problem, escape};

/// Show that the output does not depend on threads, passes, instruction set, fusion, cache or company.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every line is a run under one changed condition, with the SHA-256 of all its logits and ids; all must be that of the
first. Where one is not, the first value that differs is named. Exit code: 0 all the same, 1 not. Examples:
  quipu verify -m model.gguf
  quipu verify -m model.gguf -p \"Once upon a time\" -n 64 --teams 1,2,3,5 --json")]
pub struct Args {
    /// Text to run; special tokens are parsed
    #[arg(short, long, value_name = "TEXT", default_value = TEXT, allow_hyphen_values = true)]
    prompt: String,
    /// Token ids to run instead
    #[arg(long, value_name = "IDS", conflicts_with = "prompt")]
    tokens: Option<String>,
    /// Tokens to generate in each run
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", default_value_t = 16)]
    predict: u32,
    /// Numbers of threads to try
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 2, 3, 5])]
    teams: Vec<usize>,
    /// Runs of the first condition
    #[arg(long, value_name = "N", default_value_t = 10)]
    repetitions: u32,
    /// Seeds of sampled runs
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [42, 123, 999])]
    seeds: Vec<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Long enough for several chunks of attention and passes.
const TEXT: &str = "Once upon a time there was a small machine that counted knots in long cords of wool. Every knot \
was a number, every cord a story, and whoever could read the knots could hear what the old ones had to tell: 3 llamas, \
17 sacks of maize, and the name of the road that leads over the mountains to the sea.";

/// Runs all conditions.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    if let Some(n) = args.teams.iter().find(|n| !(1..=MAX_THREADS).contains(*n)) {
        let p = Problem::new("OutOfRange", "--teams").found(n.to_string());
        return Err(Error::usage(p.expected(format!("1 to {MAX_THREADS} threads"))).into());
    }
    let base = args.engine.options()?;
    let tokens = args.engine.ids(args.tokens.as_deref(), &args.prompt)?;
    let options = VerifyOptions {
        generate: args.predict,
        threads: args.teams.clone(),
        repetitions: args.repetitions.max(1),
        seeds: args.seeds.clone(),
        ..VerifyOptions::new(tokens)
    };
    let mut failed = None;
    let mut print = |c: &Condition| {
        if !args.json && failed.is_none() {
            failed = line(out, c).err();
        }
    };
    let load = |o| args.engine.load(o).map(|(engine, _)| engine);
    let done = verify(&load, &base, &options, &mut print)?;
    if let Some(f) = failed {
        return Err(f);
    }
    if args.json {
        out.json(&done)?;
    }
    out.flush()?;
    let wrong = done.conditions.iter().filter(|c| !c.same).count();
    if done.is_same() {
        note(format_args!("{} conditions, the same bits", done.conditions.len()));
        return Ok(());
    }
    note(format_args!("{wrong} of {} conditions differ", done.conditions.len()));
    Err(Failure::Reported(1))
}

fn line(out: &mut Out, c: &Condition) -> Result<(), Failure> {
    let verdict = if c.same { "same" } else { "DIFFERENT" };
    let digest = c.sha256.get(..16).unwrap_or(&c.sha256);
    out.line(format_args!("{:36} {digest}  {verdict}", c.name))?;
    if let Some(first) = &c.first {
        let command =
            first.made.as_ref().map(|m| format!(", made by c{} {}", m.cmd, m.kernel)).unwrap_or_default();
        out.line(format_args!("  first difference: {}{}", escape(&first.name), escape(&command)))?;
    }
    out.flush()
}
