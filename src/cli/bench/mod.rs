//! `quipu bench`: how fast prompts and single tokens go, beside what memory allows.

mod measure;
mod vs;

pub use measure::some_tokens;

use super::load::EngineArgs;
use super::out::{Failure, Out, to_value};
use super::report::{ModelFacts, describe};
use super::terminal;
use measure::{Bed, Row};
use quipu::backends::measure::{ReadRate, Reader};
use quipu::debug::machine::{peak_memory, processor};
use quipu::engine::Engine;
use quipu::error::{Error, Problem, Result};
use quipu::plan::Phase;
use quipu::plan::report::human_bytes;
use quipu::quant::DType;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use vs::{Earlier, Versus};

/// Measure prompt and generation speed, beside what memory allows.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prompts are arbitrary tokens; generation draws nothing (as llama-bench does). Both start behind the -d tokens that every
sequence has in its cache, which are run once and kept. Each is run once to warm up. Speeds are those of all sequences
together. Examples:
  quipu bench -m model.gguf -p 512 -n 64 -t 2
  quipu bench -m model.gguf -p 0 -n 32 -d 4096
  quipu bench -m model.gguf -p 0 -n 32 -np 8
  quipu bench -m model.gguf --json > before.json; quipu bench -m model.gguf --vs before.json")]
pub struct Args {
    /// Tokens of the prompt, 0 to leave prompts out
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    n_prompt: u32,
    /// Tokens to generate, 0 to leave generation out
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    n_gen: u32,
    /// Tokens that are in the cache before
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    n_depth: u32,
    /// Sequences that go through each step together [-np]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    parallel: u32,
    /// How often each is measured
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Set the result beside an earlier one, a file that --json made
    #[arg(long, value_name = "FILE")]
    vs: Option<PathBuf>,
    /// Leave out how fast memory can be read, which takes some seconds and up to 1 GiB
    #[arg(long)]
    no_read_rate: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A result; `benches/README.md` says what the fields mean.
#[derive(Clone, Debug, Serialize)]
struct Bench {
    model: ModelFacts,
    processor: String,
    load_ms: f64,
    prompt: Option<Row>,
    generation: Option<Row>,
    cache_type_k: DType,
    cache_type_v: DType,
    ubatch: u32,
    /// Bytes of all weights of the model.
    weight_bytes: u64,
    weight_bytes_per_token: u64,
    cache_bytes_per_token: u64,
    /// Bytes of one cell of a sequence's cache.
    #[serde(skip)]
    cell_bytes: u64,
    read: Option<ReadRate>,
    /// Of [`Bench::read`], what generation at its median speed uses.
    generation_percent_of_read: Option<f64>,
    /// Of what memory gave right before and after, what slices of generation used: see [`Row::percent_of_reads`].
    generation_percent_of_reads_around: Option<f64>,
    peak_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vs: Option<Versus>,
    #[serde(skip)]
    title: String,
}

/// Measures and prints.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let most = args.n_prompt.max(args.n_gen);
    if most == 0 {
        let p = Problem::new("OutOfRange", "-p and -n").found("0 and 0");
        return Err(Error::usage(p.expected("at least one of them above 0")).into());
    }
    let earlier = args.vs.as_deref().map(Earlier::read).transpose()?;
    let cells = args.n_depth.saturating_add(most);
    let mut options = args.engine.options()?;
    options.n_ctx = Some(cells);
    options.n_seq_max = args.parallel;
    options.n_outputs = args.parallel;
    let (mut engine, load) = args.engine.load(options)?;
    let threads = engine.n_threads() as usize;
    let bar = terminal::spinner("measuring");
    let ids = some_tokens(&engine, cells);
    let mut bed = Bed::new(&mut engine, args.parallel, args.n_depth, ids)?;
    let (prompt, _) = bed.measure(args.n_prompt, u32::MAX, args.repetitions, || Ok(None))?;
    let mut peak = None;
    let (generation, reader) = bed.measure(args.n_gen, 1, args.repetitions, || {
        peak = peak_memory();
        if args.no_read_rate {
            return Ok(None);
        }
        bar.set_message("measuring memory");
        let reader = Reader::new(threads)?;
        bar.set_message("measuring");
        Ok(Some(reader))
    })?;
    drop(bed);
    let mut bench = Bench::new(&engine, args, (prompt, generation));
    bench.load_ms = load.as_secs_f64() * 1e3;
    // What is read to know how fast memory is does not count.
    bench.peak_memory_bytes = peak.or_else(peak_memory);
    drop(engine);
    let reader = match reader {
        None if !args.no_read_rate => Some(Reader::new(threads)?),
        reader => reader,
    };
    if let Some(reader) = reader {
        bench.take_read_rate(reader.best());
    }
    bar.finish_and_clear();
    if let Some(earlier) = earlier {
        bench.vs = Some(earlier.beside(&to_value(&bench)?));
    }
    if args.json { out.json(&bench) } else { out.line(&bench) }
}

impl Bench {
    fn new(engine: &Engine, args: &Args, (prompt, generation): (Option<Row>, Option<Row>)) -> Bench {
        let (weights, step, cell) = bytes_read(engine);
        let cells = mean_cells(args.n_depth, args.n_gen);
        Bench {
            model: ModelFacts::new(engine, &args.engine.model.model),
            processor: processor(),
            load_ms: 0.0,
            prompt,
            generation,
            cache_type_k: engine.options().type_k,
            cache_type_v: engine.options().type_v,
            ubatch: engine.options().n_ubatch,
            weight_bytes: weights,
            weight_bytes_per_token: step / u64::from(args.parallel),
            cache_bytes_per_token: cell.saturating_mul(cells),
            cell_bytes: cell,
            read: None,
            generation_percent_of_read: None,
            generation_percent_of_reads_around: None,
            peak_memory_bytes: None,
            vs: None,
            title: describe(engine),
        }
    }

    fn take_read_rate(&mut self, read: ReadRate) {
        let weights = self.weight_bytes_per_token as f64;
        let bytes = weights + self.cache_bytes_per_token as f64;
        self.generation_percent_of_read =
            self.generation.as_ref().map(|g| g.median * bytes / read.bytes_per_second * 100.0);
        self.generation_percent_of_reads_around =
            self.generation.as_ref().and_then(|g| g.percent_of_reads(weights, self.cell_bytes as f64));
        self.read = Some(read);
    }
}

/// Bytes of all weights, of those that a step of single tokens reads, and of one cell of a sequence's cache.
fn bytes_read(engine: &Engine) -> (u64, u64, u64) {
    let Some(plan) = engine.plan(Phase::Decode) else { return (0, 0, 0) };
    let t = &plan.totals;
    (t.weight_bytes, t.work.weight_bytes, t.kv_bytes / u64::from(plan.kv.n_ctx.max(1)))
}

/// Cells that a token reads, its own too, on average over a generation of `n` tokens behind `depth`.
fn mean_cells(depth: u32, n: u32) -> u64 {
    u64::from(depth) + u64::from(n).div_ceil(2)
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for (what, row) in [("prompt", &self.prompt), ("generation", &self.generation)] {
            let Some(r) = row else { continue };
            let (n, median, min, max) = (r.tokens, r.median, r.min, r.max);
            write!(f, "{what:<12} {n:>5} tokens {median:>9.2} tok/s  ({min:.2} to {max:.2})")?;
            if r.sequences > 1 {
                write!(f, ", {} sequences, {:.2} tok/s each", r.sequences, r.per_sequence)?;
            }
            if r.depth > 0 {
                write!(f, ", behind {}", r.depth)?;
            }
            writeln!(f)?;
        }
        let (weights, cache) = (self.weight_bytes_per_token, self.cache_bytes_per_token);
        write!(f, "token reads  {} of weights, {} of cache", human_bytes(weights), human_bytes(cache))?;
        if let Some(r) = &self.read {
            show_read(f, r)?;
        }
        if let Some(percent) = self.generation_percent_of_read {
            write!(f, "; generation uses {percent:.1} %")?;
        }
        if let Some(percent) = self.generation_percent_of_reads_around {
            write!(f, ", {percent:.1} % of what memory gave around it")?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, "\npeak memory  {}", human_bytes(bytes))?;
        }
        self.vs.as_ref().map_or(Ok(()), |vs| write!(f, "\n{vs}"))
    }
}

fn show_read(f: &mut fmt::Formatter<'_>, r: &ReadRate) -> fmt::Result {
    let prefetch = match r.prefetch {
        0 => "no prefetch".into(),
        n => format!("prefetch {n} bytes ahead"),
    };
    let windows = match r.window {
        0 => String::new(),
        n => format!(" in windows of {}", human_bytes(n as u64)),
    };
    write!(f, "\nmemory       {:.1} GB/s read by {} threads", r.bytes_per_second / 1e9, r.threads)?;
    write!(f, " ({} streams each{windows}, {prefetch})", r.streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_what_lies_before_it() {
        assert_eq!((mean_cells(0, 3), mean_cells(4096, 32), mean_cells(0, 0)), (2, 4112, 0));
    }
}
