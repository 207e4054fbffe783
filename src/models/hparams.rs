//! Hyper-parameters: metadata keys through one typed table, into a struct that architectures build from.
//!
//! Each row says the key, the accepted type and range, and what holds if the key is absent. Everything that is
//! wrong is reported together. Names follow llama.cpp; defaults are its defaults.

mod read;
mod table;

use crate::error::{Class, Error, Problem, Result, escape};
use crate::loader::Gguf;

/// How positions are stretched beyond the trained context.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Above 0.
        factor: f32,
    },
    /// YaRN: interpolation by frequency. Negative extension factor: the type's own default (1).
    Yarn {
        /// Context extension factor.
        factor: f32,
        /// Context the model was first trained with.
        orig_ctx: u32,
        /// Mix of extrapolation.
        ext_factor: f32,
        /// Ramp, low side, in rotations.
        beta_fast: f32,
        /// Ramp, high side, in rotations.
        beta_slow: f32,
    },
    /// Per-dimension factors from tensors, one set for short and one for long contexts.
    LongRope {
        /// Context above which the long factors hold.
        orig_ctx: u32,
    },
}

/// What the metadata says about a model. Counts are in elements; all are at least 1 unless said otherwise.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Hparams {
    /// `general.architecture`: the prefix of all other keys.
    pub arch: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Context length in training.
    pub n_ctx_train: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Blocks.
    pub n_layer: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads; divides `n_head`.
    pub n_head_kv: u32,
    /// Size of a query or key head.
    pub head_dim_k: u32,
    /// Size of a value head.
    pub head_dim_v: u32,
    /// Inner width of the feed-forward network.
    pub n_ff: u32,
    /// Rotated dimensions of a head: even, at most `head_dim_k`.
    pub n_rot: u32,
    /// Tokens of the vocabulary: the token list's length, or `vocab_size` in a file without one.
    pub n_vocab: u32,
    /// Epsilon of the RMS norms, 0 to 1.
    pub rms_eps: f32,
    /// Base of the rotary angles, above 0.
    pub rope_freq_base: f32,
    /// How the rotary angles are stretched.
    pub rope_scaling: RopeScaling,
    /// Factor on the rotated values (`rope.scaling.attn_factor`), 1 unless the file says so.
    pub rope_attn_factor: f32,
    /// Factor on the attention scores in place of `1 / sqrt(head_dim_k)`, where the file has one.
    pub attn_scale: Option<f32>,
    /// Sliding attention window in tokens, where the file has one. llama.cpp reads it for neither `llama` (Mistral
    /// v0.1 files carry it) nor, in effect, `phi3`.
    pub sliding_window: Option<u32>,
    /// Experts per block, 0 for a dense model.
    pub n_expert: u32,
    /// Experts used per token, 0 for a dense model.
    pub n_expert_used: u32,
    /// `general.file_type`, informative only.
    pub file_type: Option<u32>,
    #[serde(skip)]
    rows: Vec<TableRow>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The file's metadata.
    File,
    /// `--override-kv`.
    Override,
    /// The key is absent and this is its default.
    Default,
}

/// A row of [`Hparams::table`].
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TableRow {
    /// Full key.
    pub key: String,
    /// Value as text.
    pub value: String,
    /// Where it came from.
    pub source: Source,
    /// What the key means.
    pub doc: &'static str,
    /// Whether it asks for a computation that plain transformer blocks do not do.
    pub feature: bool,
}

/// Checks that the file's architecture is one of `supported` and returns it.
///
/// # Errors
/// `MissingKey`, `WrongType`, or `UnsupportedArch` with the supported ones listed.
pub fn check_arch<'a>(gguf: &Gguf, supported: &[&'a str]) -> Result<&'a str> {
    let arch = gguf.architecture()?;
    supported.iter().find(|s| **s == arch).copied().ok_or_else(|| {
        Error::model(
            gguf.problem("UnsupportedArch", "general.architecture")
                .found(format!("\"{}\"", escape(arch)))
                .expected(format!("one of {}", supported.join(", "))),
        )
    })
}

impl Hparams {
    /// Reads and checks the hyper-parameters of any architecture.
    ///
    /// # Errors
    /// Class `Model`, all problems together: `MissingKey`, `WrongType`, `OutOfRange`, `ArrayLength`,
    /// `Inconsistent`, `Unsupported` (values that differ between blocks, an unknown scaling).
    pub fn read(gguf: &Gguf) -> Result<Hparams> {
        let mut r = read::Reader::new(gguf, gguf.architecture()?.to_owned());
        let h = r.build();
        Error::from_problems(Class::Model, r.into_problems())?;
        Ok(h)
    }

    /// Every row with its value and source, in the table's order; absent keys without default are left out.
    pub fn table(&self) -> &[TableRow] {
        &self.rows
    }

    /// One `Unsupported` problem for each key that asks for a computation the architecture does not do. `handled`
    /// lists the keys (without prefix) that it does, or knowingly ignores.
    pub fn refuse_features(&self, handled: &[&str]) -> Vec<Problem> {
        let prefix = format!("{}.", self.arch);
        self.rows
            .iter()
            .filter(|r| r.feature && !r.key.strip_prefix(&prefix).is_some_and(|k| handled.contains(&k)))
            .map(|r| {
                Problem::new("Unsupported", format!("key {}", escape(&r.key)))
                    .found(r.value.clone())
                    .expected(format!("a model without it: {}", r.doc))
            })
            .collect()
    }
}
