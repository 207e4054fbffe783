//! `quipu bench`: how fast prompts and single tokens go, beside what memory allows.

use super::load::EngineArgs;
use super::out::{Failure, Out};
use super::report::{ModelFacts, describe};
use super::terminal;
use quipu::backends::measure::{ReadRate, read_rate};
use quipu::debug::machine::{peak_memory, processor};
use quipu::engine::{Engine, Logits, Session, StepInput};
use quipu::error::{Error, Problem, Result};
use quipu::plan::Phase;
use quipu::plan::report::human_bytes;
use serde::Serialize;
use std::fmt;
use std::time::Instant;

/// Measure prompt and generation speed, beside what memory allows.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prompts are arbitrary tokens; generation starts from an empty context and draws nothing (as llama-bench does). Each
is run once to warm up. Example:
  quipu bench -m model.gguf -p 512 -n 64 -t 2")]
pub struct Args {
    /// Tokens of the prompt, 0 to leave prompts out
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    n_prompt: u32,
    /// Tokens to generate, 0 to leave generation out
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64)]
    n_gen: u32,
    /// How often each is measured
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Speeds of one kind of work, in tokens per second.
#[derive(Clone, Debug, Serialize)]
struct Spread {
    tokens: u32,
    median: f64,
    min: f64,
    max: f64,
    samples: Vec<f64>,
}

impl Spread {
    fn new(tokens: u32, samples: Vec<f64>) -> Spread {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
        let (n, last) = (sorted.len(), sorted.len().saturating_sub(1));
        Spread { tokens, median: (at(n / 2) + at(last / 2)) / 2.0, min: at(0), max: at(last), samples }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Bench {
    model: ModelFacts,
    processor: String,
    load_ms: f64,
    prompt: Option<Spread>,
    generation: Option<Spread>,
    weight_bytes_per_token: u64,
    cache_bytes_per_token: u64,
    read: ReadRate,
    /// Of [`Bench::read`], what generation at its median speed uses.
    generation_percent_of_read: Option<f64>,
    peak_memory_bytes: Option<u64>,
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
    let mut options = args.engine.options()?;
    options.n_ctx = Some(most);
    let (mut engine, load) = args.engine.load(options)?;
    let bar = terminal::spinner("measuring");
    let mut session = engine.new_session()?;
    let ids = some_tokens(&engine, most);
    let mut measure = |n: u32, chunk: usize| -> Result<Option<Spread>> {
        let ids = &ids[..n as usize];
        let mut samples = Vec::new();
        for round in 0..if n == 0 { 0 } else { args.repetitions + 1 } {
            let speed = f64::from(n) / seconds(&mut engine, &mut session, ids, chunk)?;
            // The first round touches memory and wakes the team.
            if round > 0 {
                samples.push(speed);
            }
        }
        Ok((n > 0).then(|| Spread::new(n, samples)))
    };
    let prompt = measure(args.n_prompt, usize::MAX)?;
    let generation = measure(args.n_gen, 1)?;
    let peak = peak_memory();
    let (weights, cache) = bytes_per_token(&engine, args.n_gen);
    let model = ModelFacts::new(&engine, &args.engine.model.model);
    let (title, threads) = (describe(&engine), engine.n_threads() as usize);
    drop((session, engine));
    bar.set_message("measuring memory");
    let read = read_rate(threads)?;
    bar.finish_and_clear();
    let percent =
        generation.as_ref().map(|g| g.median * (weights + cache) as f64 / read.bytes_per_second * 100.0);
    let bench = Bench {
        model,
        processor: processor(),
        load_ms: load.as_secs_f64() * 1e3,
        prompt,
        generation,
        weight_bytes_per_token: weights,
        cache_bytes_per_token: cache,
        read,
        generation_percent_of_read: percent,
        peak_memory_bytes: peak,
        title,
    };
    if args.json { out.json(&bench) } else { out.line(&bench) }
}

/// Tokens in no order, the same every time, beginning with BOS where there is one.
pub fn some_tokens(engine: &Engine, n: u32) -> Vec<u32> {
    let vocab = engine.n_vocab().max(1);
    let bos = engine.tokenizer().vocab().role(quipu::text::Role::Bos);
    let arbitrary = (1..n).map(|i| i.wrapping_mul(2_654_435_761) % vocab);
    bos.or(Some(0)).into_iter().chain(arbitrary).take(n as usize).collect()
}

/// Time to run `ids` through an empty session, `chunk` at a time, with logits for the last of each.
fn seconds(engine: &mut Engine, session: &mut Session, ids: &[u32], chunk: usize) -> Result<f64> {
    session.reset();
    let start = Instant::now();
    for tokens in ids.chunks(chunk.min(ids.len())) {
        engine.step(&mut [StepInput { session: &mut *session, tokens, logits: Logits::Last }])?;
    }
    Ok(start.elapsed().as_secs_f64().max(1e-9))
}

/// Bytes of weights and, on average over a generation of `n` tokens, of cache that one token reads.
fn bytes_per_token(engine: &Engine, n: u32) -> (u64, u64) {
    let Some(plan) = engine.plan(Phase::Decode) else { return (0, 0) };
    let cells = u64::from(plan.kv.n_ctx.max(1));
    (plan.totals.work.weight_bytes, plan.totals.kv_bytes / cells * u64::from(n.div_ceil(2)))
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for (what, spread) in [("prompt", &self.prompt), ("generation", &self.generation)] {
            let Some(s) = spread else { continue };
            let (n, median, min, max) = (s.tokens, s.median, s.min, s.max);
            writeln!(f, "{what:<12} {n:>5} tokens {median:>9.2} tok/s  ({min:.2} to {max:.2})")?;
        }
        let (weights, cache) = (self.weight_bytes_per_token, self.cache_bytes_per_token);
        writeln!(f, "token reads  {} of weights, {} of cache", human_bytes(weights), human_bytes(cache))?;
        let r = &self.read;
        let prefetch = if r.prefetch == 0 {
            "no prefetch".into()
        } else {
            format!("prefetch {} bytes ahead", r.prefetch)
        };
        write!(f, "memory       {:.1} GB/s read by {} threads", r.bytes_per_second / 1e9, r.threads)?;
        let windows = if r.window == 0 {
            String::new()
        } else {
            format!(" in windows of {}", human_bytes(r.window as u64))
        };
        write!(f, " ({} streams each{windows}, {prefetch})", r.streams)?;
        if let Some(percent) = self.generation_percent_of_read {
            write!(f, "; generation uses {percent:.1} %")?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, "\npeak memory  {}", human_bytes(bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let s = Spread::new(1, vec![3.0, 1.0, 2.0]);
        assert_eq!((s.min, s.median, s.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::new(1, vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }
}
