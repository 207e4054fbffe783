//! `quipu replay`: a recorded run once more.

use super::args::{MemoryArgs, ThreadArgs};
use super::load::load_as_stated;
use super::out::{Failure, Out, note};
use quipu::backends::Isa;
use quipu::debug::replay::{ConditionRow, Replay, RunRecord};
use quipu::error::{Error, Problem, escape};
use std::fmt;
use std::path::PathBuf;

/// Run again what `run --record` has written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The run is made under the recorded options; instruction set and threads may be others, which must not matter. The digest
of all logits and ids must be the recorded one. Exit code: 0 same output, 1 another, 2 to 5 could not be run. Examples:
  quipu run -m model.gguf -p \"Once upon a time\" -n 100 --record run.json
  quipu replay run.json
  quipu replay run.json -m elsewhere/model.gguf -t 1 --isa avx2")]
pub struct Args {
    /// What run --record wrote
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    /// The model, if it is not where it was
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Instruction set [default: the recorded one, or the best of this machine]
    #[arg(long, value_name = "ISA")]
    isa: Option<Isa>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs and compares.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let name = args.record.to_string_lossy();
    let bytes = std::fs::read(&args.record)
        .map_err(|e| Error::usage(Problem::new("Io", escape(&name)).found(e.to_string())))?;
    let record = RunRecord::from_json(&bytes, &name)?;
    let mut options = record.engine_options()?;
    options.threads = args.threads.count()?.or(options.threads);
    options.isa = args.isa.or(options.isa);
    options.memory = args.memory.bytes();
    let model = args.model.clone().unwrap_or_else(|| PathBuf::from(&record.model));
    let replay = record.replay(&mut load_as_stated(&model, options)?)?;
    if args.json {
        out.json(&replay)?;
    } else {
        out.line(Shown { replay: &replay, tokens: record.outcome.ids.len() })?;
    }
    out.flush()?;
    if replay.same_output {
        return Ok(());
    }
    let changed: Vec<&str> = replay.conditions.iter().filter(|c| !c.same).map(|c| c.name).collect();
    note(match &changed[..] {
        [] => "the output differs under the same conditions".to_owned(),
        names => format!("the output differs, and so do: {}", names.join(", ")),
    });
    Err(Failure::Reported(1))
}

struct Shown<'a> {
    replay: &'a Replay,
    tokens: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ConditionRow { name, recorded, here, same } in &self.replay.conditions {
            match same {
                true => writeln!(f, "{name:16} same       {}", short(here))?,
                false => writeln!(f, "{name:16} DIFFERENT  {}, recorded {}", short(here), short(recorded))?,
            }
        }
        let Replay { recorded, here, same_output, first, .. } = self.replay;
        match same_output {
            true => write!(f, "{:16} same       {} of {} tokens", "output", short(here), self.tokens)?,
            false => {
                write!(f, "{:16} DIFFERENT  {}, recorded {}", "output", short(here), short(recorded))?;
            }
        }
        let Some(p) = first else { return Ok(()) };
        let id = |id: Option<u32>| id.map_or("the end".into(), |id| id.to_string());
        let what =
            if p.logits { "chosen from other logits" } else { "chosen otherwise from the same logits" };
        write!(
            f,
            "\nfirst difference: generated token {}, {what}: {}, recorded {}",
            p.token,
            id(p.here),
            id(p.recorded)
        )
    }
}

/// The beginning of a digest; anything else as it is.
fn short(s: &str) -> String {
    let digest = s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
    if digest { s[..16].to_owned() } else { escape(s) }
}
