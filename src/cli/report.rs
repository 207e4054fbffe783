//! What `run` says beside the text: where it ran, how long it took, with which seed.

use super::plan_check::PlanCheck;
use quipu::debug::machine::peak_memory;
use quipu::engine::{ContextLimit, Engine, Memory, StopReason, Timings, TokenScore};
use quipu::error::escape;
use quipu::ops::NUMERICS_VERSION;
use quipu::plan::report::human_bytes;
use quipu::text::Tokenizer;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// One line about the engine, before the text; for a model that nobody named, which it is.
pub fn introduce(engine: &Engine, nobody_named_it: bool) -> String {
    match nobody_named_it {
        true => format!("the model in the box, as no -m FILE names another: {}", describe(engine)),
        false => describe(engine),
    }
}

/// One line about the engine.
pub fn describe(engine: &Engine) -> String {
    let hp = engine.hparams();
    let name = hp.name.as_deref().map_or_else(|| "model without a name".into(), escape);
    let limit = match engine.context_limit() {
        ContextLimit::Asked => "as asked",
        ContextLimit::Model => "the model's",
        ContextLimit::Default => "default, -c 0 for all of the model's",
        ContextLimit::Memory => "what fits in memory",
    };
    let (ctx, isa, threads) = (engine.n_ctx(), engine.isa(), engine.n_threads());
    let s = if threads == 1 { "" } else { "s" };
    format!("{name} ({}), context {ctx} ({limit}), {isa}, {threads} thread{s}", escape(&hp.arch))
}

/// Facts about the model and how it was run.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFacts {
    file: String,
    name: Option<String>,
    architecture: String,
    layers: u32,
    embedding: u32,
    vocabulary: u32,
    context_trained: u32,
    context: u32,
    context_limit: ContextLimit,
    threads: u32,
    isa: quipu::backends::Isa,
    numerics: u32,
}

impl ModelFacts {
    /// Of a loaded model.
    pub fn new(engine: &Engine, file: &Path) -> Self {
        let hp = engine.hparams();
        ModelFacts {
            file: file.to_string_lossy().into_owned(),
            name: hp.name.clone(),
            architecture: hp.arch.clone(),
            layers: hp.n_layer,
            embedding: hp.n_embd,
            vocabulary: hp.n_vocab,
            context_trained: hp.n_ctx_train,
            context: engine.n_ctx(),
            context_limit: engine.context_limit(),
            threads: engine.n_threads(),
            isa: engine.isa(),
            numerics: NUMERICS_VERSION,
        }
    }
}

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreRow {
    /// The token.
    pub id: u32,
    /// Its text, with U+FFFD for bytes that are none.
    pub piece: String,
    /// Its bytes.
    bytes: Vec<u8>,
    /// Natural logarithm of its probability; none for a token that nothing predicted.
    pub logprob: Option<f64>,
    /// 1 for the most likely token.
    pub rank: Option<u32>,
    /// The most likely tokens.
    pub top: Vec<TopRow>,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopRow {
    id: u32,
    /// Its text, with U+FFFD for bytes that are none.
    pub piece: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

impl ScoreRow {
    /// Of a token that nothing predicted.
    pub fn unscored(tokenizer: &Tokenizer, id: u32) -> Self {
        let bytes = tokenizer.piece(id, true).unwrap_or_default().to_vec();
        let piece = String::from_utf8_lossy(&bytes).into_owned();
        ScoreRow { id, piece, bytes, logprob: None, rank: None, top: Vec::new() }
    }

    /// Of a scored token.
    pub fn new(tokenizer: &Tokenizer, score: &TokenScore) -> Self {
        let piece = |id| String::from_utf8_lossy(tokenizer.piece(id, true).unwrap_or_default()).into_owned();
        let top = score.top.iter().map(|t| TopRow { id: t.id, piece: piece(t.id), logprob: t.logprob });
        ScoreRow {
            logprob: Some(score.logprob),
            rank: Some(score.rank),
            top: top.collect(),
            ..ScoreRow::unscored(tokenizer, score.id)
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Times {
    load_ms: f64,
    prompt_tokens: u64,
    prompt_ms: f64,
    prompt_tokens_per_second: Option<f64>,
    generated_tokens: u64,
    generated_ms: f64,
    generated_tokens_per_second: Option<f64>,
    time_to_first_token_ms: Option<f64>,
}

/// The outcome of a run; its `Display` is what people see after the text.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The prompt, with U+FFFD for bytes that are no text.
    pub prompt: String,
    /// The text of the model.
    pub text: String,
    /// Its tokens, without one that ended the text.
    pub tokens: Vec<u32>,
    /// How likely each of them was, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<ScoreRow>>,
    /// Why it ended; none after an error.
    pub stop_reason: Option<StopReason>,
    /// The stop string that came up.
    pub stop_string: Option<String>,
    /// The seed, given or found.
    pub seed: u64,
    timings: Times,
    peak_memory_bytes: Option<u64>,
    planned_memory: Memory,
    /// The run held to its forecast, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_check: Option<PlanCheck>,
    model: ModelFacts,
}

impl Report {
    /// Of a run that begins.
    pub fn new(engine: &Engine, file: &Path, load: Duration) -> Self {
        Report {
            prompt: String::new(),
            text: String::new(),
            tokens: Vec::new(),
            logprobs: None,
            stop_reason: None,
            stop_string: None,
            seed: 0,
            timings: Times { load_ms: ms(load), ..Times::default() },
            peak_memory_bytes: None,
            planned_memory: engine.memory(),
            plan_check: None,
            model: ModelFacts::new(engine, file),
        }
    }

    /// Takes the times of a run that has ended, with `decoded` passes of one token behind the prompt.
    pub fn decoded(&mut self, decoded: usize, t: Timings) {
        self.timings = Times {
            load_ms: self.timings.load_ms,
            prompt_tokens: t.prompt_tokens,
            prompt_ms: ms(t.prompt),
            prompt_tokens_per_second: rate(t.prompt_tokens, t.prompt),
            generated_tokens: t.generated_tokens,
            generated_ms: ms(t.generated),
            generated_tokens_per_second: rate(decoded as u64, t.generated),
            time_to_first_token_ms: (t.generated_tokens > 0).then(|| ms(t.first_token)),
        };
        self.peak_memory_bytes = peak_memory();
    }
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

fn rate(n: u64, time: Duration) -> Option<f64> {
    (n > 0 && !time.is_zero()).then(|| n as f64 / time.as_secs_f64())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.timings;
        let per_second = |r: Option<f64>| r.map(|r| format!(", {r:.1} tok/s")).unwrap_or_default();
        writeln!(f)?;
        writeln!(f, "load         {:>10.1} ms", t.load_ms)?;
        let (tokens, rate) = (t.prompt_tokens, per_second(t.prompt_tokens_per_second));
        writeln!(f, "prompt       {:>10.1} ms  {tokens} tokens{rate}", t.prompt_ms)?;
        let (tokens, rate) = (t.generated_tokens, per_second(t.generated_tokens_per_second));
        writeln!(f, "generated    {:>10.1} ms  {tokens} tokens{rate}", t.generated_ms)?;
        if let Some(first) = t.time_to_first_token_ms {
            writeln!(f, "first token  {first:>10.1} ms")?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            let planned = human_bytes(self.planned_memory.total());
            writeln!(f, "peak memory  {:>13}  {planned} planned", human_bytes(bytes))?;
        }
        if let Some(check) = &self.plan_check {
            writeln!(f, "{check}")?;
        }
        write!(f, "seed {}, ended by ", self.seed)?;
        match (self.stop_reason, &self.stop_string) {
            (Some(StopReason::Eos), _) => f.write_str("the model"),
            (Some(StopReason::Length), _) => f.write_str("length"),
            (Some(StopReason::StopString), Some(s)) => write!(f, "stop string \"{}\"", escape(s)),
            (Some(StopReason::StopString), None) => f.write_str("a stop string"),
            (Some(StopReason::Cancelled), _) => f.write_str("interrupt"),
            (None, _) => f.write_str("an error"),
        }
    }
}
