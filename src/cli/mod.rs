//! The command line: one file per command, and what they share.
//!
//! Shared are [`args`], groups of flags; [`argv`], spellings and environment variables; [`load`], from flags to an
//! engine; [`out`], standard output, errors and exit codes; [`terminal`], colour and bars; [`interrupt`], Ctrl-C;
//! [`whole_file`], files that are whole or not there.
//!
//! Model text alone goes to standard output, byte for byte; everything else goes to standard error. Colour and bars
//! appear only on a terminal. Programs ask for `--json`.

mod args;
mod argv;
mod bench;
mod calibrate;
mod chat;
mod checkpoint;
mod compare;
mod completions;
mod inspect;
mod interrupt;
mod limits;
mod load;
mod out;
mod perplexity;
mod plan;
mod plan_check;
mod profile;
mod prompt;
mod quantize;
mod replay;
mod report;
mod run;
mod sampling;
mod score;
mod size;
mod synth;
mod template;
mod terminal;
mod tokenize;
mod trace;
mod vectors;
mod verify;
mod version;
mod whole_file;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use out::{Failure, Out};
use quipu::loader::boxed;
use std::process::ExitCode;

/// Runs language models from GGUF files: text from a prompt, and every step of how it came about.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, max_term_width = 110)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

const EXAMPLES: &str = "\
Examples:
  quipu run -m model.gguf -p \"Once upon a time\" -n 200 --temp 0
  quipu chat -m model.gguf -sys \"Be brief.\"
  quipu inspect model.gguf
  quipu plan -m model.gguf --phase decode | less -S
  quipu quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M
  quipu synth --shape tiny-llama --type q8_0 tiny.gguf

Every long flag --foo-bar can be set as QUIPU_FOO_BAR in the environment (of bench and profile:
QUIPU_BENCH_FOO_BAR); a flag beats the environment.

Exit codes: 0 done, 1 runtime failure, 2 usage, 3 bad model, 4 bad input, 5 not enough memory or no such
instruction set, 130 interrupted; run --assert-plan: 1 if the run was not as planned.";

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Continue a text.
    Run(Box<run::Args>),
    /// Talk with a model.
    Chat(Box<chat::Args>),
    /// Print what a GGUF file holds and whether quipu can run it.
    Inspect(inspect::Args),
    /// Print the token ids of a text.
    Tokenize(tokenize::TokenizeArgs),
    /// Print the text of token ids.
    Detokenize(tokenize::DetokenizeArgs),
    /// Print the prompt that a chat template makes of a conversation.
    Template(template::Args),
    /// Print the graph or the plan of a model, from the header of its file alone.
    Plan(plan::Args),
    /// Print how likely a model finds each token of a text.
    Score(Box<score::Args>),
    /// Measure the perplexity of a text, as llama-perplexity does.
    Perplexity(Box<perplexity::Args>),
    /// Write the activations of one pass over a text to a safetensors file.
    Trace(trace::Args),
    /// Name the first tensor in which two traces differ.
    Compare(compare::Args),
    /// Hold the stages of a pass to a reference, one after the other.
    Checkpoint(Box<checkpoint::Args>),
    /// Show that the output is the same whatever the conditions.
    Verify(Box<verify::Args>),
    /// Run again what run --record has written, and say what differs.
    Replay(replay::Args),
    /// Measure prompt and generation speed, beside what memory allows.
    Bench(bench::Args),
    /// Show where the time of a run goes: per command, per kind of op, per layer, per thread.
    Profile(Box<profile::Args>),
    /// Measure what this machine can do at best, and keep it for forecasts.
    Calibrate(calibrate::Args),
    /// Write a model with other element types, as llama-quantize does.
    Quantize(quantize::Args),
    /// Write a GGUF file of random weights in a known shape.
    Synth(synth::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

/// The whole command tree with its environment variables.
fn command() -> Command {
    let root = Cli::command().version(version::short()).long_version(version::long());
    argv::with_environment(TALKERS.iter().fold(root, |root, name| root.mut_subcommand(*name, in_the_box)))
}

/// Commands that run without a model of one's own.
const TALKERS: &[&str] = &["run", "chat"];

/// Makes the model in the box the default.
fn in_the_box(command: Command) -> Command {
    command.mut_arg("model", |a| {
        let help = format!("GGUF file of the model [default: {}, which is part of quipu]", boxed::DEFAULT);
        a.help(help).required(false).default_value(boxed::DEFAULT).hide_default_value(true)
    })
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    interrupt::install();
    let argv = argv::rewrite(&Cli::command(), std::env::args_os());
    let matches = match command().try_get_matches_from(argv) {
        Ok(m) => m,
        // Help on standard output is a success, everything else is a usage error; a closed pipe is neither.
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(2);
        }
    };
    let none = ArgMatches::default();
    let given = argv::Given::new(matches.subcommand().map_or(&none, |(_, m)| m));
    out::finish(run(cli.command, given))
}

fn run(command: Cmd, given: argv::Given<'_>) -> Result<(), Failure> {
    let mut out = Out::stdout();
    match command {
        Cmd::Run(a) => run::run(&a, given, &mut out),
        Cmd::Chat(a) => chat::run(&a, given, &mut out),
        Cmd::Inspect(a) => inspect::run(&a, &mut out),
        Cmd::Tokenize(a) => tokenize::tokenize(&a, &mut out),
        Cmd::Detokenize(a) => tokenize::detokenize(&a, &mut out),
        Cmd::Template(a) => template::run(&a, &mut out),
        Cmd::Plan(a) => plan::run(&a, &mut out),
        Cmd::Score(a) => score::run(&a, given, &mut out),
        Cmd::Perplexity(a) => perplexity::run(&a, &mut out),
        Cmd::Trace(a) => trace::run(&a, given),
        Cmd::Compare(a) => compare::run(&a, &mut out),
        Cmd::Checkpoint(a) => checkpoint::run(&a, &mut out),
        Cmd::Verify(a) => verify::run(&a, &mut out),
        Cmd::Replay(a) => replay::run(&a, &mut out),
        Cmd::Bench(a) => bench::run(&a, &mut out),
        Cmd::Profile(a) => profile::run(&a, given, &mut out),
        Cmd::Calibrate(a) => calibrate::run(&a, &mut out),
        Cmd::Quantize(a) => quantize::run(&a, &mut out),
        Cmd::Synth(a) => synth::run(&a),
        Cmd::Completions(a) => completions::run(&a, &mut out),
    }?;
    out.flush()
}
