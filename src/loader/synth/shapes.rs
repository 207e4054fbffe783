//! The shapes synthetic models come in.

use crate::error::{Error, Problem, Result, escape};

/// A model's shape. Names and figures of the first ones are those of the published models.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// `general.architecture`.
    pub arch: &'static str,
    /// Blocks.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Inner width of the feed-forward network.
    pub n_ff: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Context length.
    pub n_ctx: u32,
    /// Base of the rotary angles.
    pub rope_base: f32,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Tokens.
    pub n_vocab: u32,
    /// Whether the output product uses the embedding's weights.
    pub tied: bool,
    /// Whether the file carries Llama-3's rotary frequency factors.
    pub rope_factors: bool,
    /// The context length before LongRoPE's extension, in a file that carries its factors; 0 without.
    pub long_rope: u32,
}

#[allow(clippy::too_many_arguments)]
const fn shape(
    name: &'static str,
    arch: &'static str,
    [n_layer, n_embd, n_ff]: [u32; 3],
    [n_head, n_head_kv, head_dim]: [u32; 3],
    n_ctx: u32,
    (rope_base, eps): (f32, f32),
    n_vocab: u32,
    tied: bool,
) -> Shape {
    Shape {
        name,
        arch,
        n_layer,
        n_embd,
        n_ff,
        n_head,
        n_head_kv,
        head_dim,
        n_ctx,
        rope_base,
        eps,
        n_vocab,
        tied,
        rope_factors: false,
        long_rope: 0,
    }
}

/// Every shape by name.
pub const SHAPES: &[Shape] = &[
    shape("llama-2-7b", "llama", [32, 4096, 11008], [32, 32, 128], 4096, (1e4, 1e-5), 32000, false),
    shape("tinyllama-1.1b", "llama", [22, 2048, 5632], [32, 4, 64], 2048, (1e4, 1e-5), 32000, false),
    Shape {
        rope_factors: true,
        ..shape("llama-3.2-1b", "llama", [16, 2048, 8192], [32, 8, 64], 131072, (5e5, 1e-5), 128256, true)
    },
    shape("qwen2.5-0.5b", "qwen2", [24, 896, 4864], [14, 2, 64], 32768, (1e6, 1e-6), 151936, true),
    shape("qwen3-0.6b", "qwen3", [28, 1024, 3072], [16, 8, 128], 40960, (1e6, 1e-6), 151936, true),
    shape("phi-3-mini-4k", "phi3", [32, 3072, 8192], [32, 32, 96], 4096, (1e4, 1e-5), 32064, false),
    shape("tiny-llama", "llama", [2, 256, 768], [8, 4, 32], 512, (1e4, 1e-5), 2048, false),
    shape("tiny-qwen2", "qwen2", [2, 256, 768], [8, 2, 32], 512, (1e6, 1e-6), 2048, true),
    shape("tiny-qwen3", "qwen3", [2, 256, 768], [8, 4, 64], 512, (1e6, 1e-6), 2048, true),
    shape("tiny-phi3", "phi3", [2, 256, 768], [8, 8, 32], 512, (1e4, 1e-5), 2048, false),
    shape("nano-llama", "llama", [2, 64, 96], [4, 2, 16], 128, (1e4, 1e-5), 384, false),
    shape("nano-qwen2", "qwen2", [2, 64, 96], [4, 2, 16], 128, (1e6, 1e-6), 384, true),
    shape("nano-qwen3", "qwen3", [2, 64, 96], [4, 2, 32], 128, (1e6, 1e-6), 384, true),
    shape("nano-phi3", "phi3", [2, 96, 96], [4, 4, 24], 512, (1e4, 1e-5), 384, false),
    Shape {
        long_rope: 128,
        ..shape("nano-phi3-long", "phi3", [2, 96, 96], [4, 4, 24], 512, (1e4, 1e-5), 384, false)
    },
];

impl Shape {
    /// The shape of this name.
    ///
    /// # Errors
    /// Usage, listing the shapes there are.
    pub fn named(name: &str) -> Result<&'static Shape> {
        SHAPES.iter().find(|s| s.name == name).ok_or_else(|| {
            let names: Vec<&str> = SHAPES.iter().map(|s| s.name).collect();
            Error::usage(
                Problem::new("UnknownShape", format!("shape \"{}\"", escape(name)))
                    .expected(format!("one of {}", names.join(", "))),
            )
        })
    }
}
