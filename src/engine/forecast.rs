//! What a model needs and how fast it can be, from the header of its file alone.

use super::fit::{Fitted, Planner, number_of};
use super::{Budget, ContextLimit, EngineOptions, Memory, Stats};
use crate::backends::Isa;
use crate::backends::team::default_threads;
use crate::error::Result;
use crate::graph::builder::CacheTypes;
use crate::loader::{Gguf, LoadMode, ParseOptions};
use crate::models::{self, Declared};
use crate::ops::Sizes;
use crate::plan::forecast::Limits;
use crate::plan::report::human_bytes as human;
use crate::plan::{Phase, Plan};
use crate::text::Tokenizer;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;

/// How fast a kind of work can be at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Pace {
    /// Tokens that go through.
    pub tokens: u32,
    /// Tokens of the session before them.
    pub behind: u32,
    /// The least time for all of them.
    pub seconds: f64,
    /// Tokens per second in that time.
    pub tokens_per_second: f64,
}

/// How fast prompts and generation can be at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Speeds {
    /// A prompt that fills one pass, or the context if that is shorter.
    pub prompt: Pace,
    /// The first token of a text.
    pub first: Pace,
    /// The last token of a full context.
    pub last: Pace,
}

/// What [`Engine::load`](super::Engine::load) would make of a file, without its weights: plans, memory line by line,
/// and with the limits of a machine the speed. Loading with the same options allocates these bytes exactly.
///
/// ```
/// use quipu::backends::Isa;
/// use quipu::engine::{EngineOptions, RunForecast};
/// use quipu::loader::{Bytes, Gguf, ParseOptions, synth::synth_header};
/// use quipu::plan::forecast::Limits;
/// use quipu::quant::DType;
///
/// let header = synth_header("llama-2-7b", DType::Q8_0)?; // no tensor data
/// let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
/// let file = Gguf::parse(Bytes::from(header), &parse)?;
/// let options = EngineOptions { memory: Some(8 << 30), n_ctx: Some(4096), ..EngineOptions::default() };
/// let forecast = RunForecast::new(&file, &options)?;
///
/// assert_eq!(forecast.memory().cache, 2 << 30);
/// let error = forecast.check().unwrap_err(); // as loading would say
/// assert_eq!((error.code(), error.class().exit_code()), ("InsufficientMemory", 5));
/// assert!(forecast.longest_context().is_some_and(|n| (1024..4096).contains(&n)));
///
/// let limits = Limits { // of a machine; `Machine::kept` has what `quipu calibrate` measured
///     isa: Isa::best(),
///     threads: 2,
///     read_bytes_per_second: 30e9,
///     float_ops_per_second: 300e9,
///     byte_ops_per_second: 1e12,
///     barrier_seconds: 1e-6,
/// };
/// let speeds = forecast.speeds(&limits);
/// assert!(speeds.first.tokens_per_second < 30e9 / 6.6e9 && speeds.prompt.tokens_per_second > 50.0);
/// # Ok::<(), quipu::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunForecast {
    fitted: Fitted,
    isa: Isa,
    threads: u32,
    n_ctx_train: u32,
}

impl RunForecast {
    /// Of a file, which may be cut after its header. A tokenizer that is not known counts nothing.
    ///
    /// Errors: those of [`Engine::load`](super::Engine::load) about options and the model's header. Too little memory
    /// is no error here: see [`RunForecast::check`].
    pub fn new(gguf: &Gguf, options: &EngineOptions) -> Result<RunForecast> {
        options.check()?;
        let cache = CacheTypes { k: options.type_k, v: options.type_v };
        let Declared { hparams, graph, .. } = models::declare(gguf, &options.architectures, cache)?;
        let tokenizer = Tokenizer::from_gguf(gguf).map_or(0, |t| t.table_bytes());
        let isa = options.isa.unwrap_or_else(Isa::best);
        let threads = options.threads.unwrap_or_else(default_threads) as u32;
        let planner = Planner { graph: &graph, options, isa, threads };
        let fitted = planner.fit(gguf, hparams.n_ctx_train, tokenizer, &mut Stats::default())?;
        Ok(RunForecast { fitted, isa, threads, n_ctx_train: hparams.n_ctx_train })
    }

    /// As [`RunForecast::new`], of a file that is mapped for as long as this takes, with the options' overrides.
    ///
    /// Errors: those of [`RunForecast::new`] and [`Gguf::open`].
    pub fn open(path: &Path, options: &EngineOptions) -> Result<RunForecast> {
        let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
        let mut gguf = Gguf::open(path, LoadMode::Mmap, &parse)?;
        for (key, value) in &options.overrides {
            gguf.set_override(key, value.clone())?;
        }
        RunForecast::new(&gguf, options)
    }

    /// Whether it fits in memory.
    ///
    /// Errors: `InsufficientMemory` (resources): need, have, and what would fit.
    pub fn check(&self) -> Result<()> {
        self.fitted.check()
    }

    /// Memory at its peak, with a full context.
    pub fn memory(&self) -> &Memory {
        &self.fitted.memory
    }
    /// The memory there is; `None` where the system does not say.
    pub fn budget(&self) -> Option<Budget> {
        self.fitted.budget
    }
    /// Tokens of context.
    pub fn n_ctx(&self) -> u32 {
        self.plan(Phase::Decode).map_or(0, |p| p.kv.n_ctx)
    }
    /// What decided [`RunForecast::n_ctx`].
    pub fn context_limit(&self) -> ContextLimit {
        self.fitted.limit
    }
    /// Tokens of context that the model was trained for.
    pub fn n_ctx_train(&self) -> u32 {
        self.n_ctx_train
    }
    /// The longest context that fits in [`RunForecast::budget`], whatever the model was trained for; `None` if not one
    /// token does, or if nobody says how much there is.
    pub fn longest_context(&self) -> Option<u32> {
        self.fitted.longest()
    }
    /// The instruction set of its plans.
    pub fn isa(&self) -> Isa {
        self.isa
    }
    /// The threads that scratch is for.
    pub fn threads(&self) -> u32 {
        self.threads
    }
    /// The plan of a phase.
    pub fn plan(&self, phase: Phase) -> Option<&Plan> {
        self.fitted.plans.get(number_of(phase))
    }

    /// `n` tokens behind `behind` others of a session, in passes as long as they can be, with logits for the last.
    pub fn prompt(&self, limits: &Limits, behind: u32, n: u32) -> Pace {
        let (Some(prefill), Some(decode)) = (self.plan(Phase::Prefill), self.plan(Phase::Decode)) else {
            return pace(n, behind, 0.0);
        };
        let (mut done, mut seconds) = (0, 0.0);
        while done < n {
            let t = (n - done).min(prefill.max_rows);
            let plan = if t <= decode.max_rows { decode } else { prefill };
            let r = u32::from(done + t == n);
            seconds += plan.forecast(limits, Sizes::of_pass(behind + done, t, r)).seconds;
            done += t;
        }
        pace(n, behind, seconds)
    }

    /// `n` tokens one after the other behind `behind` others of a session.
    pub fn generation(&self, limits: &Limits, behind: u32, n: u32) -> Pace {
        // The time of a pass grows with the context evenly, so that of the middle is their mean.
        let middle = Sizes { t: 1, r: 1, s: behind.saturating_add(n.div_ceil(2)) };
        let pass = self.plan(Phase::Decode).map_or(0.0, |p| p.forecast(limits, middle).seconds);
        pace(n, behind, pass * f64::from(n))
    }

    /// The speeds that people ask for first.
    pub fn speeds(&self, limits: &Limits) -> Speeds {
        let n_ctx = self.n_ctx().max(1);
        let pass = self.plan(Phase::Prefill).map_or(1, |p| p.max_rows).min(n_ctx);
        Speeds {
            prompt: self.prompt(limits, 0, pass),
            first: self.generation(limits, 0, 1),
            last: self.generation(limits, n_ctx - 1, 1),
        }
    }
}

/// A forecast for programs. The same header and options give the same facts: what a machine happens to have left is not
/// one of them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// Tokens of context.
    pub n_ctx: u32,
    /// Tokens of context that the model was trained for.
    pub n_ctx_train: u32,
    /// Threads.
    pub threads: u32,
    /// Bytes at the peak, line by line.
    pub memory: Memory,
    /// Their sum.
    pub peak: u64,
    /// The memory that was stated.
    pub budget: Option<u64>,
    /// Whether the peak fits in it.
    pub fits: Option<bool>,
    /// The longest context that fits in it.
    pub longest_context: Option<u32>,
    /// The speeds, if limits are known.
    pub speeds: Option<Speeds>,
}

/// What `quipu plan --format json` writes: the fields of the plan, by which it is read back, and what a run of it needs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PlanDocument<'a> {
    /// The plan.
    #[serde(flatten)]
    pub plan: &'a Plan,
    /// What a run of it needs, and how fast it can be at best.
    pub forecast: Facts,
}

impl PlanDocument<'_> {
    /// The JSON schema (draft 2020-12) of a document of [`PLAN_FORMAT`](crate::plan::PLAN_FORMAT), with what every field
    /// means. `docs/plan.schema.json` holds it.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(PlanDocument<'_>).to_value()
    }
}

impl RunForecast {
    /// Whether it fits, and what would: a line for people; `None` if nobody knows how much memory there is.
    pub fn verdict(&self) -> Option<String> {
        let have = self.budget()?;
        let verdict = if self.check().is_ok() { "fits in" } else { "does not fit in" };
        let source = if have.stated { "stated" } else { "available" };
        let longest = match self.longest_context() {
            Some(n) => format!("the longest context that fits is {n}"),
            None => "no context fits".into(),
        };
        let (have, trained) = (human(have.bytes), self.n_ctx_train);
        Some(format!("memory    {verdict} {have} {source}; {longest} (the model's is {trained})"))
    }

    /// For programs.
    pub fn facts(&self, limits: Option<&Limits>) -> Facts {
        let budget = self.budget().filter(|b| b.stated);
        Facts {
            n_ctx: self.n_ctx(),
            n_ctx_train: self.n_ctx_train,
            threads: self.threads,
            memory: *self.memory(),
            peak: self.memory().total(),
            budget: budget.map(|b| b.bytes),
            fits: budget.map(|_| self.check().is_ok()),
            longest_context: budget.and_then(|_| self.longest_context()),
            speeds: limits.map(|l| self.speeds(l)),
        }
    }
}

/// The memory of a run for people: a line, and [`RunForecast::verdict`] if memory was stated. What is available changes
/// from moment to moment, and the same plan shall print the same text.
impl std::fmt::Display for RunForecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let m = self.memory();
        let (peak, n_ctx, threads) = (human(m.total()), self.n_ctx(), self.threads);
        write!(f, "peak      {peak} with {n_ctx} tokens of context: ")?;
        write!(f, "file {}, tokenizer {}, arena {}", human(m.file), human(m.tokenizer), human(m.arena))?;
        write!(f, ", scratch {} for {threads} threads", human(m.scratch))?;
        write!(f, ", logits {}, cache {}", human(m.logits), human(m.cache))?;
        write!(f, ", program {}", human(m.program))?;
        match self.verdict().filter(|_| self.budget().is_some_and(|b| b.stated)) {
            Some(line) => write!(f, "\n{line}"),
            None => Ok(()),
        }
    }
}

/// One line for people.
impl std::fmt::Display for Speeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Speeds { prompt, first, last } = self;
        write!(
            f,
            "speed     at best {:.1} tok/s for a prompt of {}",
            prompt.tokens_per_second, prompt.tokens
        )?;
        write!(f, ", {:.1} tok/s generated at the start", first.tokens_per_second)?;
        write!(f, " and {:.1} tok/s behind {} tokens", last.tokens_per_second, last.behind)
    }
}

fn pace(tokens: u32, behind: u32, seconds: f64) -> Pace {
    let tokens_per_second = f64::from(tokens) / seconds.max(f64::MIN_POSITIVE);
    Pace { tokens, behind, seconds, tokens_per_second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::Bytes;
    use crate::loader::synth::synth_header;
    use crate::quant::DType;

    const LIMITS: Limits = Limits {
        isa: Isa::Scalar,
        threads: 2,
        read_bytes_per_second: 30e9,
        float_ops_per_second: 300e9,
        byte_ops_per_second: 1e12,
        barrier_seconds: 1e-6,
    };

    fn of(shape: &str, options: &EngineOptions) -> RunForecast {
        let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
        let file = Gguf::parse(Bytes::from(synth_header(shape, DType::Q8_0).unwrap()), &parse).unwrap();
        RunForecast::new(&file, options).unwrap()
    }

    #[test]
    fn the_longest_context_fits_and_one_token_more_does_not() {
        let options = |n_ctx, memory| EngineOptions { n_ctx, memory: Some(memory), ..Default::default() };
        let memory = 2 << 30;
        let n = of("tinyllama-1.1b", &options(Some(2048), memory)).longest_context().unwrap();
        for (n_ctx, fits) in [(n, true), (n + 1, false)] {
            let f = of("tinyllama-1.1b", &options(Some(n_ctx), memory));
            assert_eq!((f.check().is_ok(), f.memory().total() <= memory), (fits, fits), "{n_ctx}");
            assert_eq!(f.longest_context(), Some(n), "whatever was asked for");
        }
        // Nobody asks: whole units of what fits.
        let small = of("llama-2-7b", &options(None, 8 << 30));
        assert_eq!((small.context_limit(), small.n_ctx() % 256), (ContextLimit::Memory, 0));
        assert!(small.check().is_ok() && small.n_ctx() + 256 > small.longest_context().unwrap());
        let none = of("llama-2-7b", &options(None, 1 << 30));
        assert_eq!(none.longest_context(), None);
        assert!(none.check().unwrap_err().to_string().contains("smaller weights"));
    }

    #[test]
    fn the_size_of_a_file_is_known_from_its_header() {
        let f = of("llama-2-7b", &EngineOptions::default());
        let weights = f.plan(Phase::Decode).unwrap().totals.weight_bytes;
        assert!(f.memory().file > weights && f.memory().file < weights + (4 << 20), "{}", f.memory().file);
    }

    #[test]
    fn a_prompt_is_the_sum_of_its_passes() {
        let f = of("tinyllama-1.1b", &EngineOptions { n_seq_max: 1, ..Default::default() });
        let whole = f.prompt(&LIMITS, 0, 1024);
        let parts = f.prompt(&LIMITS, 0, 512).seconds + f.prompt(&LIMITS, 512, 512).seconds;
        // The first pass of two wants no logits.
        assert!(whole.seconds < parts && whole.seconds > 0.98 * parts, "{whole:?} {parts}");
        let one = f.prompt(&LIMITS, 7, 1).seconds;
        assert_eq!(one, f.generation(&LIMITS, 7, 1).seconds);
        let ten = f.generation(&LIMITS, 100, 10).seconds;
        let each: f64 = (100..110).map(|n| f.generation(&LIMITS, n, 1).seconds).sum();
        assert!((ten / each - 1.0).abs() < 1e-3, "{ten} {each}");
        let s = f.speeds(&LIMITS);
        assert!(s.prompt.tokens_per_second > s.first.tokens_per_second);
        assert!(s.first.tokens_per_second > s.last.tokens_per_second);
    }
}
