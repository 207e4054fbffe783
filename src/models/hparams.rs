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
        /// Mix of extrapolation.
        ext_factor: f32,
        /// Ramp, low side, in rotations.
        beta_fast: f32,
        /// Ramp, high side, in rotations.
        beta_slow: f32,
    },
    /// Per-dimension factors from tensors, one set for short and one for long contexts.
    LongRope {
        /// Positions are divided by it too; 1 in every published model.
        factor: f32,
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
    /// Context length before extension: longer contexts take the long factors of LongRoPE, and YaRN's ramp is
    /// reckoned from it.
    pub rope_orig_ctx: u32,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::write::GgufWriter;
    use crate::loader::{OverrideValue, ParseOptions, Value, ValueType};

    fn write(w: &mut GgufWriter) -> Gguf {
        Gguf::parse(w.header().into(), &ParseOptions::default()).unwrap()
    }

    fn least() -> GgufWriter {
        let mut w = GgufWriter::new();
        w.str("general.architecture", "llama");
        w.u32("llama.context_length", 128);
        w.u32("llama.embedding_length", 64);
        w.u32("llama.block_count", 3);
        w.u32("llama.feed_forward_length", 96);
        w.u32("llama.attention.head_count", 4);
        w.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        w.strs("tokenizer.ggml.tokens", &["a", "b"]);
        w
    }

    #[test]
    fn absent_keys_have_llama_cpps_defaults() {
        let h = Hparams::read(&write(&mut least())).unwrap();
        assert_eq!((h.n_head_kv, h.head_dim_k, h.head_dim_v, h.n_rot, h.n_vocab), (4, 16, 16, 16, 2));
        assert_eq!((h.rope_freq_base, h.rope_scaling, h.rope_attn_factor), (10000.0, RopeScaling::None, 1.0));
        assert_eq!((h.attn_scale, h.sliding_window, h.n_expert), (None, None, 0));
        let row = |key: &str| h.table().iter().find(|r| r.key == key).unwrap();
        assert_eq!(row("llama.attention.head_count_kv").source, Source::Default);
        assert_eq!(row("llama.attention.head_count_kv").value, "4");
        assert_eq!(row("llama.block_count").source, Source::File);
        assert!(h.refuse_features(&[]).is_empty());
    }

    #[test]
    fn values_per_block_that_agree_are_one_value() {
        let mut w = least();
        w.array("llama.attention.head_count_kv", ValueType::U32, [Value::U32(2); 3].into_iter());
        assert_eq!(Hparams::read(&write(&mut w)).unwrap().n_head_kv, 2);
    }

    #[test]
    fn scaling_and_features() {
        let mut w = least();
        w.f32("llama.rope.scaling.factor", 4.0);
        w.u32("llama.attention.sliding_window", 4096);
        w.f32("llama.final_logit_softcapping", 30.0);
        w.f32("llama.attention.max_alibi_bias", 0.0);
        let h = Hparams::read(&write(&mut w)).unwrap();
        assert_eq!((h.rope_scaling, h.sliding_window), (RopeScaling::Linear { factor: 4.0 }, Some(4096)));
        let refused = h.refuse_features(&["attention.sliding_window"]);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].thing, "key llama.final_logit_softcapping");
        let mut w = least();
        w.str("llama.rope.scaling.type", "yarn");
        w.u32("llama.rope.scaling.original_context_length", 32);
        let h = Hparams::read(&write(&mut w)).unwrap();
        assert!(matches!(h.rope_scaling, RopeScaling::Yarn { beta_fast: 32.0, .. }), "{:?}", h.rope_scaling);
        assert_eq!(h.rope_orig_ctx, 32);
        let mut w = least();
        w.str("llama.rope.scaling.type", "spiral");
        assert_eq!(Hparams::read(&write(&mut w)).unwrap_err().code(), "Unsupported");
    }

    #[test]
    fn overrides_replace_and_are_checked() {
        let mut g = write(&mut least());
        g.set_override("llama.context_length", OverrideValue::Int(32)).unwrap();
        g.set_override("llama.rope.freq_base", OverrideValue::Float(5e5)).unwrap();
        let h = Hparams::read(&g).unwrap();
        assert_eq!((h.n_ctx_train, h.rope_freq_base), (32, 5e5));
        assert!(h.table().iter().any(|r| r.source == Source::Override && r.value == "32"));
        g.set_override("llama.block_count", OverrideValue::Int(-1)).unwrap();
        g.set_override("llama.attention.head_count", OverrideValue::Bool(true)).unwrap();
        let e = Hparams::read(&g).unwrap_err();
        let codes: Vec<_> = e.problems().iter().map(|p| p.code).collect();
        assert_eq!(codes, ["OutOfRange", "WrongType"], "{e}");
        assert!(g.set_override("general.alignment", OverrideValue::Int(8)).is_err());
    }

    #[test]
    fn everything_missing_is_said_at_once() {
        let mut w = GgufWriter::new();
        w.str("general.architecture", "qwen2");
        let e = Hparams::read(&write(&mut w)).unwrap_err();
        assert_eq!(e.problems().len(), 7, "{e}");
        assert!(e.problems().iter().all(|p| p.code == "MissingKey" && p.thing.starts_with("key qwen2.")));
    }
}
