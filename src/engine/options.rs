//! What an engine is loaded with, and what it can decide by itself.

use crate::backends::Isa;
use crate::backends::team::MAX_THREADS;
use crate::error::{Class, Error, Problem, Result};
use crate::loader::{LoadMode, OverrideValue};
use crate::models::Architecture;
use crate::ops::kv_append::TYPES;
use crate::plan::FuseOptions;
use crate::quant::DType;

/// Context length where the user names none and the model allows it.
pub const DEFAULT_N_CTX: u32 = 4096;

/// Largest of `n_ubatch`, `n_seq_max` and `n_outputs`: more gains nothing and only takes memory.
const MAX_ROWS: u32 = 1 << 16;

/// How to load a model. The defaults are right for most uses.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads; `None` for what the affinity mask and the cgroup quota allow.
    pub threads: Option<usize>,
    /// Tokens a session can hold; `None` for the least of the model's context, 4096 and what fits in memory.
    pub n_ctx: Option<u32>,
    /// Most rows of one pass; longer prompts are cut into passes. The logits do not depend on it.
    pub n_ubatch: u32,
    /// Rows up to which the decode plan is used: how many sessions decode together well.
    pub n_seq_max: u32,
    /// Most rows of logits that one step can return.
    pub n_outputs: u32,
    /// Type of cached keys: F16, F32, or Q8_0 or Q4_0 where heads are whole blocks of 32.
    pub type_k: DType,
    /// Type of cached values, alike; the two need not be the same.
    pub type_v: DType,
    /// Instruction set; `None` for the best this machine has.
    pub isa: Option<Isa>,
    /// How the file is brought into memory.
    pub load_mode: LoadMode,
    /// Touch every page of a mapped file while loading, so that the first prompt does not.
    pub prefault: bool,
    /// Bytes that the model and one session may take, its file included; `None` for what the system and the control
    /// groups of this process leave. A model that needs more is an error before anything of it is loaded.
    pub memory: Option<u64>,
    /// Look for non-finite weights before the first token.
    pub check_tensors: bool,
    /// Which fusion rules are on.
    pub fuse: FuseOptions,
    /// Metadata to replace, in order.
    pub overrides: Vec<(String, OverrideValue)>,
    /// Architectures from outside the crate; they come before those of the crate.
    pub architectures: Vec<Architecture>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            threads: None,
            n_ctx: None,
            n_ubatch: 512,
            n_seq_max: 8,
            n_outputs: 8,
            type_k: DType::F16,
            type_v: DType::F16,
            isa: None,
            load_mode: LoadMode::Auto,
            prefault: true,
            memory: None,
            check_tensors: false,
            fuse: FuseOptions::default(),
            overrides: Vec::new(),
            architectures: Vec::new(),
        }
    }
}

impl EngineOptions {
    /// Checks the ranges; every field that is wrong is named, code `OutOfRange`, class `Usage`.
    pub fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut demand = |ok: bool, field: &str, found: String, expected: String| {
            if !ok {
                problems.push(Problem::new("OutOfRange", field).found(found).expected(expected));
            }
        };
        if let Some(n) = self.threads {
            demand((1..=MAX_THREADS).contains(&n), "threads", n.to_string(), format!("1 to {MAX_THREADS}"));
        }
        for (field, n) in
            [("n_ubatch", self.n_ubatch), ("n_seq_max", self.n_seq_max), ("n_outputs", self.n_outputs)]
        {
            demand((1..=MAX_ROWS).contains(&n), field, n.to_string(), format!("1 to {MAX_ROWS}"));
        }
        let most = i32::MAX as u32;
        if let Some(n) = self.n_ctx {
            demand((1..=most).contains(&n), "n_ctx", n.to_string(), format!("1 to {most}"));
        }
        for (field, t) in [("type_k", self.type_k), ("type_v", self.type_v)] {
            demand(TYPES.contains(&t), field, t.to_string(), TYPES.map(DType::name).join(", "));
        }
        Error::from_problems(Class::Usage, problems)
    }
}

/// What decided the context length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextLimit {
    /// The options.
    Asked,
    /// The context the model was trained for.
    Model,
    /// 4096 tokens.
    Default,
    /// The memory of the machine.
    Memory,
}
