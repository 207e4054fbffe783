//! `quipu calibrate`: what this machine can do, measured and kept for forecasts.

use super::out::{Failure, Out, note};
use super::terminal;
use quipu::backends::calibrate::{Machine, thread_counts};
use quipu::error::{Error, Problem, escape};
use std::path::PathBuf;

/// Measure what this machine can do at best, and keep it for forecasts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Measures how fast memory can be read (best over streams, prefetch and page size), f32 and byte products of every
instruction set, and what a meeting of the threads costs; nothing else should run meanwhile. Forecasts of quipu plan
and quipu run --assert-plan use the result. Examples:
  quipu calibrate
  quipu calibrate -t 1,2 -o limits.json")]
pub struct Args {
    /// Numbers of threads to measure [-t] [default: 1, 2, 4, ... up to all]
    #[arg(short, long, value_name = "N,...", value_delimiter = ',')]
    threads: Vec<usize>,
    /// File to keep the limits in [default: QUIPU_LIMITS, or quipu/limits.json in the user's cache folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the limits as JSON
    #[arg(long)]
    json: bool,
}

/// Measures, keeps and prints.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let threads = if args.threads.is_empty() { thread_counts() } else { args.threads.clone() };
    let Some(path) = args.output.clone().or_else(Machine::path) else {
        let p =
            Problem::new("NoPlace", "the limits").found("neither QUIPU_LIMITS nor XDG_CACHE_HOME nor HOME");
        return Err(Error::usage(p.expected("a place to keep them").hint("give -o FILE")).into());
    };
    let bar = terminal::spinner("measuring");
    let machine = Machine::measure(&threads, |what, done, total| {
        bar.set_message(format!("measuring {what} ({} of {total})", done + 1));
    })?;
    bar.finish_and_clear();
    machine.save(&path)?;
    note(format_args!("limits kept in {}", escape(&path.to_string_lossy())));
    if args.json {
        return out.json(&machine);
    }
    out.line(format_args!("{}", machine.processor))?;
    out.line("threads  isa      GB/s read  Gop/s f32  Gop/s bytes  us a meeting")?;
    for l in &machine.limits {
        out.line(format_args!(
            "{:>7}  {:<7}  {:>9.1}  {:>9.1}  {:>11.1}  {:>12.2}",
            l.threads,
            l.isa.name(),
            l.read_bytes_per_second / 1e9,
            l.float_ops_per_second / 1e9,
            l.byte_ops_per_second / 1e9,
            l.barrier_seconds * 1e6
        ))?;
    }
    Ok(())
}
