//! The table of keys.

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Any integer type, in this range.
    Int(u32, u32),
    /// As `Int`, or an array with one value per block.
    PerLayer(u32, u32),
    /// Either float type, finite and in this closed range.
    Float(f32, f32),
    Text,
    Bool,
}

#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// `MissingKey`.
    Required,
    /// Nothing is assumed.
    Nothing,
    /// This number.
    Is(f32),
    /// Follows from other keys; the text says how.
    Derived,
}

pub(super) struct Spec {
    pub(super) id: K,
    /// With `%` for the architecture.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) absent: Absent,
    /// For keys that change the computation: the value that does not.
    pub(super) neutral: Option<f32>,
    pub(super) doc: &'static str,
}

pub(super) const TINY: f32 = f32::MIN_POSITIVE;
pub(super) const HUGE: f32 = f32::MAX;

macro_rules! specs {
    ($($id:ident: $key:literal, $kind:expr, $absent:expr, $neutral:expr, $doc:literal;)*) => {
        #[derive(Clone, Copy, PartialEq)]
        pub(super) enum K { $($id),* }
        pub(super) const SPECS: &[Spec] =
            &[$(Spec { id: K::$id, key: $key, kind: $kind, absent: $absent, neutral: $neutral, doc: $doc }),*];
    };
}

use Absent::{Derived, Is, Nothing, Required};
use Kind::{Bool, Float, Int, PerLayer, Text};

specs! {
    Name: "general.name", Text, Nothing, None, "name of the model";
    FileType: "general.file_type", Int(0, u32::MAX), Nothing, None, "mix of element types, informative";
    Ctx: "%.context_length", Int(1, u32::MAX), Required, None, "context length in training";
    Embd: "%.embedding_length", Int(1, 1 << 20), Required, None, "width of the residual stream";
    Layers: "%.block_count", Int(1, 512), Required, None, "number of blocks";
    Ff: "%.feed_forward_length", PerLayer(1, 1 << 24), Required, None, "inner width of the feed-forward network";
    Heads: "%.attention.head_count", PerLayer(1, 1 << 16), Required, None, "query heads";
    HeadsKv: "%.attention.head_count_kv", PerLayer(1, 1 << 16), Derived, None, "key and value heads (default: head_count)";
    KeyLen: "%.attention.key_length", Int(1, 1 << 16), Derived, None, "size of a query or key head (default: embedding_length / head_count)";
    ValueLen: "%.attention.value_length", Int(1, 1 << 16), Derived, None, "size of a value head (default: embedding_length / head_count)";
    Eps: "%.attention.layer_norm_rms_epsilon", Float(0.0, 1.0), Required, None, "epsilon of the RMS norms";
    Vocab: "%.vocab_size", Int(1, 1 << 26), Derived, None, "tokens of the vocabulary (default, and stronger: length of the token list)";
    RopeDims: "%.rope.dimension_count", Int(2, 1 << 16), Derived, None, "rotated dimensions of a head (default: key_length)";
    RopeBase: "%.rope.freq_base", Float(TINY, HUGE), Is(10000.0), None, "base of the rotary angles";
    ScalingType: "%.rope.scaling.type", Text, Nothing, None, "none, linear, yarn or longrope (default: linear)";
    ScalingFactor: "%.rope.scaling.factor", Float(0.0, HUGE), Nothing, None, "context extension factor, 0 for none";
    ScaleLinear: "%.rope.scale_linear", Float(0.0, HUGE), Nothing, None, "older spelling of rope.scaling.factor";
    OrigCtx: "%.rope.scaling.original_context_length", Int(1, u32::MAX), Derived, None, "context length before extension (default: context_length)";
    AttnFactor: "%.rope.scaling.attn_factor", Float(TINY, HUGE), Is(1.0), None, "factor on the rotated values";
    YarnExt: "%.rope.scaling.yarn_ext_factor", Float(-1.0, HUGE), Is(-1.0), Some(-1.0), "YaRN extrapolation mix, negative for the default";
    BetaFast: "%.rope.scaling.yarn_beta_fast", Float(0.0, HUGE), Is(32.0), Some(32.0), "YaRN ramp, low side, in rotations";
    BetaSlow: "%.rope.scaling.yarn_beta_slow", Float(0.0, HUGE), Is(1.0), Some(1.0), "YaRN ramp, high side, in rotations";
    YarnAttn: "%.rope.scaling.yarn_attn_factor", Float(0.0, HUGE), Is(1.0), Some(1.0), "YaRN factor on the rotated values";
    YarnLog: "%.rope.scaling.yarn_log_multiplier", Float(0.0, HUGE), Nothing, Some(0.0), "YaRN factor on the logarithm of the extension";
    Alpha: "%.rope.scaling.alpha", Float(0.0, HUGE), Nothing, Some(0.0), "NTK-aware factor on the base";
    AttnScale: "%.attention.scale", Float(0.0, HUGE), Nothing, Some(0.0), "factor on attention scores, 0 for 1 / sqrt(key_length)";
    Window: "%.attention.sliding_window", Int(0, u32::MAX), Nothing, Some(0.0), "sliding attention window in tokens";
    Experts: "%.expert_count", Int(0, 1 << 16), Is(0.0), Some(0.0), "experts per block";
    ExpertsUsed: "%.expert_used_count", PerLayer(0, 1 << 16), Is(0.0), Some(0.0), "experts used per token";
    Causal: "%.attention.causal", Bool, Nothing, Some(1.0), "whether attention looks only back";
    AlibiBias: "%.attention.max_alibi_bias", Float(-HUGE, HUGE), Nothing, Some(0.0), "slope of position biases";
    ClampKqv: "%.attention.clamp_kqv", Float(-HUGE, HUGE), Nothing, Some(0.0), "bound on queries, keys and values";
    AttnCap: "%.attn_logit_softcapping", Float(-HUGE, HUGE), Nothing, Some(0.0), "soft bound on attention scores";
    FinalCap: "%.final_logit_softcapping", Float(-HUGE, HUGE), Nothing, Some(0.0), "soft bound on logits";
    LogitScale: "%.logit_scale", Float(-HUGE, HUGE), Nothing, Some(0.0), "factor on logits";
    ResidualScale: "%.residual_scale", Float(-HUGE, HUGE), Nothing, Some(0.0), "factor on block outputs";
    EmbeddingScale: "%.embedding_scale", Float(-HUGE, HUGE), Nothing, Some(0.0), "factor on embeddings";
    ParallelResidual: "%.use_parallel_residual", Bool, Nothing, Some(0.0), "attention and feed-forward side by side";
}
