//! `quipu checkpoint`: the stages of a pass, each against a reference.

use super::load::EngineArgs;
use super::out::{Failure, Out, note};
use quipu::debug::checkpoint::{Checkpoint, CheckpointOptions, checkpoints};
use quipu::debug::proof::Bundle;
use quipu::debug::trace_file::TraceFile;
use quipu::error::{Error, Problem, escape};
use quipu::ops::NUMERICS_VERSION;
use serde_json::json;
use std::path::PathBuf;

/// Hold the stages of a pass to a reference, one after the other.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --reference the scalar references of every op are the reference. With one, a trace of another engine under the
same names, its prompt is taken. Exit code: 0 all pass, 1 one does not. Examples:
  quipu checkpoint -m model.gguf
  quipu checkpoint -m model.gguf --reference llama.cpp.safetensors --only 1B")]
pub struct Args {
    /// Text to run; special tokens are parsed
    #[arg(short, long, value_name = "TEXT", default_value = "Hello", allow_hyphen_values = true)]
    prompt: String,
    /// Token ids to run instead
    #[arg(long, value_name = "IDS", conflicts_with = "prompt")]
    tokens: Option<String>,
    /// Tokens of the greedy run
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", default_value_t = 10)]
    predict: u32,
    /// Trace of another engine to compare with
    #[arg(long, value_name = "TRACE")]
    reference: Option<PathBuf>,
    /// Show and judge only these: 1, 1B, 2 to 12
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// Folder for proof bundles
    #[arg(long, value_name = "DIR", default_value = ".proof_bundle")]
    proof_dir: PathBuf,
    /// Name of this run in it, instead of the time
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

const IDS: [&str; 13] = ["1", "1B", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

/// Runs them, prints the table and writes the bundle, on pass and on failure.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let known = |id: &&String| !IDS.iter().any(|k| k.eq_ignore_ascii_case(id));
    if let Some(id) = args.only.iter().find(known) {
        let p = Problem::new("UnknownCheckpoint", "--only").found(escape(id));
        return Err(Error::usage(p.expected(format!("one of {}", IDS.join(", ")))).into());
    }
    let base = args.engine.options()?;
    let reference = args.reference.as_deref().map(TraceFile::read).transpose()?;
    let tokens = args.engine.ids(args.tokens.as_deref(), &args.prompt)?;
    let bundle = Bundle::create(&args.proof_dir, "checkpoint", args.run_id.as_deref())?;
    let facts = json!({
        "engine": format!("quipu {}", env!("CARGO_PKG_VERSION")),
        "numerics": NUMERICS_VERSION,
        "model": args.engine.model.model.to_string_lossy(),
        "reference": args.reference.as_ref().map(|p| p.to_string_lossy()),
        "reference_engine": reference.as_ref().and_then(|r| r.metadata.get("engine")),
        "tokens": reference.as_ref().and_then(|r| r.metadata.get("tokens").cloned()).unwrap_or_else(|| json!(tokens).to_string()),
        "only": args.only,
    });
    let load = |o| args.engine.load(o).map(|(engine, _)| engine);
    let options = CheckpointOptions { tokens, generate: args.predict };
    let list = match checkpoints(&load, &base, reference, &options) {
        Ok(list) => list,
        Err(e) => {
            bundle.checkpoints(&[], &json!({ "run": facts, "error": e.to_string() }))?;
            return Err(e.into());
        }
    };
    let wanted =
        |c: &Checkpoint| args.only.is_empty() || args.only.iter().any(|o| o.eq_ignore_ascii_case(c.id));
    let list: Vec<Checkpoint> = list.into_iter().filter(wanted).collect();
    bundle.checkpoints(&list, &facts)?;
    if args.json {
        out.json(&list)?;
    } else {
        table(out, &list)?;
    }
    out.flush()?;
    note(format_args!("proof bundle: {}", escape(&bundle.directory().to_string_lossy())));
    if list.iter().all(Checkpoint::passed) { Ok(()) } else { Err(Failure::Reported(1)) }
}

fn table(out: &mut Out, list: &[Checkpoint]) -> Result<(), Failure> {
    for c in list {
        out.line(format_args!("{:3} {:32} {}", c.id, c.title, if c.passed() { "pass" } else { "FAIL" }))?;
        for k in &c.checks {
            let verdict = if k.passed { "  " } else { "! " };
            out.line(format_args!(
                "    {verdict}{:28} {}  ({})",
                escape(&k.what),
                escape(&k.found),
                escape(&k.limit)
            ))?;
        }
    }
    Ok(())
}
