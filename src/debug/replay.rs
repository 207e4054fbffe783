//! A run written down so that anyone can run it again: what it was asked, under which conditions, and the digest of all
//! logits and ids that came of it.
//!
//! Bits depend on the model's bytes, the numerics version and the options that decide what is computed; on nothing else
//! by this crate's own promise. A replay puts that promise to the test: the digest must be the same, and if it is not, the
//! conditions that differ are named, and the first token at which the two runs part.
//!
//! ```
//! use quipu::debug::replay::{RunRecord, Watch};
//! use quipu::engine::{Engine, EngineOptions, GenerateOptions};
//! # use quipu::loader::{Gguf, ParseOptions, synth::synth};
//! # let mut file = Vec::new();
//! # synth("nano-llama", quipu::quant::DType::F32, 1, &mut file)?;
//! # let load = |o| Engine::from_gguf(Gguf::parse(file.as_slice().into(), &ParseOptions::default())?, o);
//! let mut engine = load(EngineOptions::default())?;
//! let mut session = engine.new_session()?;
//! let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
//! let mut pieces = engine.generate(&mut session, "Once", &options)?;
//! let mut watch = Watch::default();
//! while let Some(piece) = pieces.next() {
//!     piece?;
//!     watch.see(&pieces);
//! }
//! watch.see(&pieces);
//! let record = RunRecord::new("model.gguf", &pieces, &options, watch);
//!
//! // Elsewhere, later, with another number of threads:
//! let mut engine = load(EngineOptions { threads: Some(3), ..record.engine_options()? })?;
//! assert!(record.replay(&mut engine)?.same_output);
//! # Ok::<(), quipu::Error>(())
//! ```

use super::machine::processor;
use super::record::{hex, model_sha256, plan_sha256};
use crate::backends::Isa;
use crate::engine::{Engine, EngineOptions, GenerateOptions, Generator, SamplerParams, StopReason};
use crate::error::{Error, Problem, Result, escape};
use crate::loader::OverrideValue;
use crate::ops::NUMERICS_VERSION;
use crate::plan::{FuseOptions, Phase};
use crate::quant::DType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of the record's format; a record of another version is refused.
pub const RECORD_FORMAT: u32 = 1;

/// What a run was made under, as far as it could matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Version of the numeric rules.
    pub numerics: u32,
    /// Digest of the model's bytes.
    pub model_sha256: String,
    /// Digest of the plan for prompts.
    pub prefill_plan_sha256: String,
    /// Digest of the plan for single tokens.
    pub decode_plan_sha256: String,
    /// Instruction set.
    pub isa: Isa,
    /// Threads of the team.
    pub threads: u32,
    /// The engine and its version.
    pub engine: String,
    /// The processor's name, empty where the system does not tell.
    pub processor: String,
}

impl Conditions {
    /// Of a loaded engine; reads the whole file.
    pub fn of(engine: &Engine) -> Conditions {
        let plan = |phase| engine.plan(phase).map(plan_sha256).unwrap_or_default();
        Conditions {
            numerics: NUMERICS_VERSION,
            model_sha256: model_sha256(engine),
            prefill_plan_sha256: plan(Phase::Prefill),
            decode_plan_sha256: plan(Phase::Decode),
            isa: engine.isa(),
            threads: engine.n_threads(),
            engine: format!("quipu {}", env!("CARGO_PKG_VERSION")),
            processor: processor(),
        }
    }

    /// Name and value of each, in the order of their weight.
    fn rows(&self) -> [(&'static str, String); 8] {
        [
            ("model", self.model_sha256.clone()),
            ("numerics", self.numerics.to_string()),
            ("prefill plan", self.prefill_plan_sha256.clone()),
            ("decode plan", self.decode_plan_sha256.clone()),
            ("instruction set", self.isa.to_string()),
            ("threads", self.threads.to_string()),
            ("engine", self.engine.clone()),
            ("processor", self.processor.clone()),
        ]
    }
}

/// The options of the engine that decide what is planned and computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Tokens of context.
    pub n_ctx: u32,
    /// Most rows of a pass.
    pub n_ubatch: u32,
    /// Rows up to which the decode plan is used.
    pub n_seq_max: u32,
    /// Most rows of logits of a step.
    pub n_outputs: u32,
    /// Type of cached keys.
    pub type_k: DType,
    /// Type of cached values.
    pub type_v: DType,
    /// Fusion rules that are off.
    pub no_fuse: Vec<String>,
    /// Metadata replaced, in order.
    pub overrides: Vec<(String, OverrideValue)>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Ids chosen, with one that ended the text.
    pub ids: Vec<u32>,
    /// The first 16 digits of the digest of the logits that each was chosen from.
    pub logits: Vec<String>,
    /// Digest of the whole: of the digests of all rows of logits (as little-endian f32), each with its id behind it.
    pub sha256: String,
}

/// A run, as it can be run again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// Where the model was; a replay may find it elsewhere.
    pub model: String,
    /// What it ran under.
    pub conditions: Conditions,
    /// Options of the engine.
    pub options: Planned,
    /// How tokens were chosen, the seed included.
    pub sampler: SamplerParams,
    /// Texts that ended the generation.
    pub stop: Vec<String>,
    /// Most tokens to generate; negative for no limit.
    pub max_tokens: i64,
    /// The prompt, as ids.
    pub prompt: Vec<u32>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Takes the digest of a run while it goes on.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    sum: Sha256,
    outcome: Outcome,
}

impl Watch {
    /// Looks at the token chosen last, if it has not been seen; to be called behind every piece and once at the end.
    pub fn see(&mut self, run: &Generator<'_>) {
        let chosen = run.timings().generated_tokens + u64::from(run.stop_reason() == Some(StopReason::Eos));
        if (self.outcome.ids.len() as u64) >= chosen {
            return;
        }
        let (mut row, id) = (Sha256::new(), run.last_id());
        for x in run.engine().logits(0).unwrap_or_default() {
            row.update(x.to_le_bytes());
        }
        let row = row.finalize();
        self.sum.update(row);
        self.sum.update(id.to_le_bytes());
        self.outcome.ids.push(id);
        self.outcome.logits.push(row.iter().take(8).map(|b| format!("{b:02x}")).collect());
    }

    /// What came of the run.
    pub fn outcome(self) -> Outcome {
        Outcome { sha256: hex(self.sum), ..self.outcome }
    }
}

/// A condition of a replay beside that of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionRow {
    /// What it is.
    pub name: &'static str,
    /// As recorded.
    pub recorded: String,
    /// Here.
    pub here: String,
    /// Whether they are equal.
    pub same: bool,
}

/// Where two runs part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parting {
    /// Number of the generated token, from 0.
    pub token: usize,
    /// Whether the logits it was chosen from differ already.
    pub logits: bool,
    /// The id recorded; none if the run had ended.
    pub recorded: Option<u32>,
    /// The id here; none if this run has ended.
    pub here: Option<u32>,
}

/// A replay beside its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Every condition.
    pub conditions: Vec<ConditionRow>,
    /// Digest of the record's output.
    pub recorded: String,
    /// Digest of this output.
    pub here: String,
    /// Whether they are equal.
    pub same_output: bool,
    /// Where the runs part, if they do.
    pub first: Option<Parting>,
}

impl RunRecord {
    /// Of a run that has ended, whose digest `watch` has taken; `options` are those it was started with.
    pub fn new(model: &str, run: &Generator<'_>, options: &GenerateOptions, watch: Watch) -> RunRecord {
        let engine = run.engine();
        let o = engine.options();
        // A run that somebody ended would not end there again by itself.
        let cut = run.stop_reason().is_none_or(|r| r == StopReason::Cancelled);
        RunRecord {
            format: RECORD_FORMAT,
            model: model.to_owned(),
            conditions: Conditions::of(engine),
            options: Planned {
                n_ctx: engine.n_ctx(),
                n_ubatch: o.n_ubatch,
                n_seq_max: o.n_seq_max,
                n_outputs: o.n_outputs,
                type_k: o.type_k,
                type_v: o.type_v,
                no_fuse: o.fuse.off().iter().map(|r| (*r).to_owned()).collect(),
                overrides: engine.gguf().overrides().map(|(k, v)| (k.to_owned(), v.clone())).collect(),
            },
            sampler: SamplerParams { seed: Some(run.seed()), ..options.sampler.clone() },
            stop: options.stop.clone(),
            max_tokens: if cut { watch.outcome.ids.len() as i64 } else { options.max_tokens },
            prompt: run.prompt().to_vec(),
            outcome: watch.outcome(),
        }
    }

    /// Reads what serde wrote; `name` is what errors call it.
    ///
    /// Errors: `BadRecord` (input).
    pub fn from_json(bytes: &[u8], name: &str) -> Result<RunRecord> {
        let bad = |why: String| {
            let p = Problem::new("BadRecord", escape(name)).found(escape(&why));
            Error::input(p.expected("what quipu run --record writes"))
        };
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if head.format != RECORD_FORMAT {
            return Err(bad(format!("format {} (this is {RECORD_FORMAT})", head.format)));
        }
        let record: RunRecord = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        let (ids, rows) = (record.outcome.ids.len(), record.outcome.logits.len());
        if ids != rows {
            return Err(bad(format!("{ids} ids of {rows} rows of logits")));
        }
        Ok(record)
    }

    /// The options to load the model with: those of the record, and its instruction set if this machine has it.
    ///
    /// Errors: `UnknownRule` (usage) for a fusion rule that this version does not have.
    pub fn engine_options(&self) -> Result<EngineOptions> {
        let o = &self.options;
        Ok(EngineOptions {
            threads: Some(self.conditions.threads as usize),
            n_ctx: Some(o.n_ctx),
            n_ubatch: o.n_ubatch,
            n_seq_max: o.n_seq_max,
            n_outputs: o.n_outputs,
            type_k: o.type_k,
            type_v: o.type_v,
            isa: Some(self.conditions.isa).filter(|i| i.available()),
            fuse: FuseOptions::without(&o.no_fuse)?,
            overrides: o.overrides.clone(),
            ..EngineOptions::default()
        })
    }

    /// Runs it again.
    ///
    /// Errors: whatever the run fails with, such as a prompt that another model has no tokens or no room for.
    pub fn replay(&self, engine: &mut Engine) -> Result<Replay> {
        let here = Conditions::of(engine);
        let rows = self.conditions.rows().into_iter().zip(here.rows());
        let conditions = rows
            .map(|((name, recorded), (_, here))| ConditionRow {
                name,
                same: recorded == here,
                recorded,
                here,
            })
            .collect();
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            sampler: self.sampler.clone(),
            stop: self.stop.clone(),
            ..GenerateOptions::default()
        };
        let mut session = engine.new_session()?;
        let mut run = engine.generate_from(&mut session, self.prompt.clone(), &options)?;
        let mut watch = Watch::default();
        while let Some(piece) = run.next() {
            piece?;
            watch.see(&run);
        }
        watch.see(&run);
        let outcome = watch.outcome();
        Ok(Replay {
            conditions,
            recorded: self.outcome.sha256.clone(),
            same_output: outcome.sha256 == self.outcome.sha256,
            first: parting(&self.outcome, &outcome),
            here: outcome.sha256,
        })
    }
}

/// The first token in which two outcomes differ, or at which one has ended.
fn parting(recorded: &Outcome, here: &Outcome) -> Option<Parting> {
    let most = recorded.ids.len().max(here.ids.len());
    (0..most).find_map(|token| {
        let (a, b) = (recorded.ids.get(token), here.ids.get(token));
        let logits = recorded.logits.get(token) != here.logits.get(token);
        let parts = a != b || logits;
        parts.then(|| Parting {
            token,
            logits: logits && a.is_some() && b.is_some(),
            recorded: a.copied(),
            here: b.copied(),
        })
    })
}
