//! `quipu compare`: two traces, and the first tensor that differs.

use super::out::{Failure, Out};
use quipu::debug::compare::{Comparison, compare};
use quipu::debug::trace_file::TraceFile;
use quipu::error::{Error, Problem, escape};
use std::fmt;
use std::path::PathBuf;

/// Name the first tensor in which two traces differ.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A and B are safetensors files: of quipu trace, or of another engine under the same names. Tensors that both have are
compared in the order of execution. Two traces of quipu must agree in every bit unless --limit says otherwise. Exit
code: 0 same, 1 different, 2 to 5 could not be compared. Examples:
  quipu trace -m model.gguf -p Hello -o a.safetensors
  quipu trace -m model.gguf -p Hello --isa scalar --no-fuse -o b.safetensors
  quipu compare a.safetensors b.safetensors
  quipu compare llama.cpp.safetensors a.safetensors --limit 1e-9")]
pub struct Args {
    /// The trace to compare with
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The trace to compare
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Largest normalised mean square error of a tensor; 0 asks for equal bits
    #[arg(long, value_name = "NMSE", default_value_t = 0.0)]
    limit: f64,
    /// List every tensor, not only those out of tolerance
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Compares and prints.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    if args.limit < 0.0 || args.limit.is_nan() {
        let p = Problem::new("OutOfRange", "--limit").found(args.limit.to_string());
        return Err(Error::usage(p.expected("0 or more")).into());
    }
    let (a, b) = (TraceFile::read(&args.a)?, TraceFile::read(&args.b)?);
    let c = compare(&a, &b, args.limit);
    if c.rows.is_empty() && c.misfits.is_empty() {
        let p = Problem::new("NothingInCommon", "the traces").found("no tensor that both have");
        return Err(Error::input(p.expected("traces of one model")).into());
    }
    if args.json {
        out.json(&c)?
    } else {
        out.line(Table { c: &c, all: args.all })?
    }
    if c.is_same() {
        return Ok(());
    }
    out.flush()?;
    Err(Failure::Reported(1))
}

struct Table<'a> {
    c: &'a Comparison,
    all: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.c;
        let shown = || c.rows.iter().filter(|r| self.all || r.over);
        if shown().next().is_some() {
            let width = shown().map(|r| r.name.len()).max().unwrap_or(0).max(6);
            writeln!(
                f,
                "{:width$} {:>10} {:>10} {:>10} {:>10} {:>10}  worst element",
                "tensor", "nmse", "max abs", "mean abs", "max rel", "1-cosine"
            )?;
            for r in shown() {
                let d = &r.distance;
                write!(
                    f,
                    "{:width$} {:>10.2e} {:>10.2e} {:>10.2e} {:>10.2e} {:>10.1e}",
                    escape(&r.name),
                    d.nmse,
                    d.max_abs,
                    d.mean_abs,
                    d.max_rel,
                    1.0 - d.cosine
                )?;
                match d.different {
                    0 => writeln!(f, "  the same bits")?,
                    _ => writeln!(f, "  [{}]: {:e} and {:e}", d.worst, d.worst_a, d.worst_b)?,
                }
            }
        }
        for m in &c.misfits {
            writeln!(f, "shapes differ: {}", escape(m))?;
        }
        for (name, a, b) in &c.notes {
            writeln!(f, "note: {name} differs: {} and {}", short(a), short(b))?;
        }
        for (whose, names) in [("first", &c.only_a), ("second", &c.only_b)] {
            if !names.is_empty() {
                writeln!(f, "{} names only in the {whose} trace", names.len())?;
            }
        }
        match &c.first {
            None if c.misfits.is_empty() => write!(f, "{} tensors agree", c.rows.len()),
            None => write!(f, "the tensors of equal shapes agree"),
            Some(first) => {
                write!(f, "first difference: {}", escape(&first.name))?;
                if let Some(m) = &first.made {
                    write!(f, ", made by c{} {}", m.cmd, escape(&m.kernel))?;
                }
                for (name, nmse) in &first.inputs {
                    match nmse {
                        Some(e) => write!(f, "\n  from {} with nmse {e:.2e}", escape(name))?,
                        None => write!(f, "\n  from {}, which only one trace has", escape(name))?,
                    }
                }
                if first.made_here {
                    write!(f, "\n  its inputs are the same bits: the error is made by this command")?;
                }
                Ok(())
            }
        }
    }
}

/// The beginning of a long fact.
fn short(s: &str) -> String {
    let head: String = s.chars().take(40).collect();
    if head.len() < s.len() { escape(&head) + "..." } else { escape(&head) }
}
