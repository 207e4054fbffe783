//! Rotary positions as the file wants them stretched: none, linear, YaRN, Llama 3's and LongRoPE's factors.
//!
//! Peng et al., YaRN, 2023; Ding et al., LongRoPE, 2024. The figures are llama.cpp's (`llama_context`,
//! `ggml_rope_yarn_corr_dims`), in f32 and in its order, with our own logarithm.

use super::Hparams;
use super::hparams::RopeScaling;
use crate::graph::{GraphBuilder, ValueId};
use crate::ops::math::ln;
use crate::ops::rope_table::{Attrs, Yarn};

/// The table of the step's cosines and sines, `[T, n_rot]`, shared by all layers. Frequency factors are the file's:
/// `rope_factors_short` and `rope_factors_long` if it has them or asks for LongRoPE, otherwise `rope_freqs` if there.
#[track_caller]
pub fn table(g: &mut GraphBuilder<'_>, hp: &Hparams) -> ValueId {
    let (short, long) = ("rope_factors_short", "rope_factors_long");
    let a = attrs(hp);
    if matches!(hp.rope_scaling, RopeScaling::LongRope { .. }) || g.has(short) || g.has(long) {
        let a = Attrs { second_above: Some(hp.rope_orig_ctx), ..a };
        return g.rope_table("rope_table", a, &[short, long]);
    }
    let one = g.has("rope_freqs").then_some("rope_freqs");
    g.rope_table("rope_table", a, one.as_slice())
}

/// Base, scale, ramp and magnitude of the angles.
pub fn attrs(hp: &Hparams) -> Attrs {
    let plain = Attrs { magnitude: hp.rope_attn_factor, ..Attrs::plain(hp.n_rot, hp.rope_freq_base) };
    match hp.rope_scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear { factor } | RopeScaling::LongRope { factor } => {
            Attrs { freq_scale: 1.0 / factor, ..plain }
        }
        RopeScaling::Yarn { factor, ext_factor, beta_fast, beta_slow } => {
            let freq_scale = 1.0 / factor;
            let ext_factor = if ext_factor < 0.0 { 1.0 } else { ext_factor };
            if ext_factor == 0.0 {
                return Attrs { freq_scale, ..plain };
            }
            let yarn = Yarn {
                ext_factor,
                low: pair_of(hp, beta_fast).floor().max(0.0),
                high: pair_of(hp, beta_slow).ceil().min(hp.n_rot as f32 - 1.0),
            };
            let magnitude = hp.rope_attn_factor * yarn_magnitude(1.0 / freq_scale);
            Attrs { freq_scale, magnitude, yarn: Some(yarn), ..plain }
        }
    }
}

/// The pair that turns `turns` times over the original context.
fn pair_of(hp: &Hparams, turns: f32) -> f32 {
    let wave = hp.rope_orig_ctx as f32 / (turns * 2.0 * std::f32::consts::PI);
    hp.n_rot as f32 * ln(wave) / (2.0 * ln(hp.rope_freq_base))
}

/// What YaRN multiplies cosines and sines by: 1 for no extension. llama.cpp takes the logarithm twice, once to make
/// up for the other; both cancel but for extensions below 1, where the result is 1.
fn yarn_magnitude(factor: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * ln(factor) }
}
