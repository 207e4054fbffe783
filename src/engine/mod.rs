//! The library's face: a model file becomes an engine, an engine makes sessions, sessions get text.
//!
//! An [`Engine`] owns the file, its plans, their memory and the thread team. A [`Session`] is one text: its tokens
//! and the keys and values of them. A step takes rows of one or several sessions, at whatever positions they are,
//! through one pass; the bits of a session's logits do not depend on who else is in the step, on how its tokens
//! are cut into passes, or on the number of threads.
//!
//! ```
//! use quipu::engine::{Engine, EngineOptions, GenerateOptions, StopReason};
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("model.gguf");
//! # let file = std::fs::File::create(&path).unwrap();
//! # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::F32, 1, file)?;
//! let mut engine = Engine::load(&path, EngineOptions::default())?;
//! let mut session = engine.new_session()?;
//! let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::greedy() };
//! let mut text = String::new();
//! let mut pieces = engine.generate(&mut session, "Once upon a time", &options)?;
//! for piece in &mut pieces {
//!     text.push_str(piece?.as_str());
//! }
//! assert!(matches!(pieces.stop_reason(), Some(StopReason::Length | StopReason::Eos)));
//! # Ok::<(), quipu::Error>(())
//! ```

pub mod adapter;
pub mod chat;
mod fit;
mod forecast;
mod generate;
mod held;
mod load;
pub mod logprobs;
mod memory;
mod options;
mod profile;
pub mod sampler;
mod saved;
pub mod score;
mod session;
mod step;
pub mod stop;
mod trace;

pub use adapter::Adapter;
pub use chat::{Chat, Reply};
pub use forecast::{Facts, Pace, PlanDocument, RunForecast, Speeds};
pub use generate::{CancelToken, GenerateOptions, Generator, StopReason, Timings};
pub use held::Held;
pub use logprobs::{TokenScore, TopToken};
pub use memory::{Budget, Memory};
pub use options::{ContextLimit, EngineOptions};
pub use profile::ProfileOptions;
pub use sampler::{Sampler, SamplerParams};
pub use saved::Restored;
pub use score::{Perplexity, PerplexityOptions, ScoreOptions};
pub use session::{CachedLayer, Session};
pub use step::{Logits, StepInput};
pub use trace::{Trace, TraceOptions, TraceValue};

use crate::backends::bind::Runner;
use crate::backends::probe::Recorder;
use crate::backends::{Isa, KvLayout, alloc};
use crate::error::{Error, Result};
use crate::loader::Gguf;
use crate::models::Hparams;
use crate::plan::{Phase, Plan};
use crate::text::Tokenizer;
use std::time::Duration;

/// What an engine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Graphs built; does not grow after loading.
    pub graphs_built: u64,
    /// Plans built; does not grow after loading.
    pub plans_built: u64,
    /// Time from opening the file to the engine being ready.
    pub load: Duration,
    /// Passes through a plan.
    pub passes: u64,
    /// Rows (tokens) that went through them.
    pub rows: u64,
    /// Bytes of weights that were moved from a map of the file into large pages.
    pub moved_bytes: u64,
}

/// A loaded model, ready to run.
#[derive(Debug)]
pub struct Engine {
    /// Tells the sessions of one engine from those of another.
    id: u64,
    runner: Runner,
    /// Takes times while a profile is being made.
    recorder: Option<Recorder>,
    gguf: Gguf,
    hparams: Hparams,
    tokenizer: Tokenizer,
    options: EngineOptions,
    isa: Isa,
    kv: KvLayout,
    limit: ContextLimit,
    rows: step::RowTable,
    /// Rows of logits that the last step left.
    n_logits: u32,
    /// Whether any pass has given logits: a first token is out, or can be.
    answered: bool,
    stats: Stats,
}

impl Engine {
    /// The model's metadata and tensor table.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }
    /// The model's hyper-parameters.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }
    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
    /// The options it was loaded with, as they were given.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
    /// Tokens that a session holds.
    pub fn n_ctx(&self) -> u32 {
        self.kv.n_ctx
    }
    /// What decided [`Engine::n_ctx`].
    pub fn context_limit(&self) -> ContextLimit {
        self.limit
    }
    /// Tokens of the vocabulary: elements of a row of logits.
    pub fn n_vocab(&self) -> u32 {
        self.hparams.n_vocab
    }
    /// The instruction set its plans are for.
    pub fn isa(&self) -> Isa {
        self.isa
    }
    /// Threads of its team.
    pub fn n_threads(&self) -> u32 {
        self.runner.n_threads()
    }
    /// Bytes of one session's cache.
    pub fn session_bytes(&self) -> u64 {
        self.kv.total_bytes().unwrap_or(u64::MAX)
    }
    /// The plan of a phase.
    pub fn plan(&self, phase: Phase) -> Option<&Plan> {
        self.runner.plan(fit::number_of(phase))
    }
    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// An empty session with a cache of its own.
    ///
    /// Errors: `InsufficientMemory` (resources).
    pub fn new_session(&self) -> Result<Session> {
        let need = self.session_bytes();
        if let Some(have) = self.room_for_sessions()
            && need > have
        {
            return Err(Error::resources(alloc::insufficient(
                "the KV cache of a session",
                need,
                Some(have),
                "-c",
            )));
        }
        Session::new(self.id, self.kv)
    }
}
