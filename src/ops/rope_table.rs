//! rope_table: cosine and sine of every rotation angle of the step's positions, shared by all layers.
//!
//! Shape: optional frequency factors F32 `[n_rot / 2]` -> F32 `[T, n_rot]`: cos and sin of pair 0, of pair 1, ...
//! Numerics: as ggml makes the angles: theta starts at the position (f32), pair i turns by
//! `freq_scale * (theta / factor[i])`, then theta is multiplied by `theta_scale = freq_base^(-2 / n_rot)`, all in f32
//! (the exponent too; the power is ours in f64, rounded once). YaRN mixes that angle with the one without freq_scale,
//! `scaled * (1 - mix) + plain * mix`. Cosine and sine are computed in f64 by our own polynomial, rounded once to
//! f32, and multiplied by `magnitude`.
//! Source: Su et al., RoFormer, 2021; Peng et al., YaRN, 2023; Ding et al., LongRoPE, 2024; `ggml_rope_ext`; Llama 3
//! frequency factors from `rope_freqs.weight`.

use super::{Cost, Sizes, Types, arity, math};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// Rotated dimensions of a head; even.
    pub n_rot: u32,
    /// Base of the geometric series of frequencies.
    pub freq_base: f32,
    /// Linear position scale: 1 / factor; 1 for none.
    pub freq_scale: f32,
    /// Factor on cosines and sines; 1 for none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub magnitude: f32,
    /// YaRN's mix of scaled and plain angles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yarn: Option<Yarn>,
    /// With two sets of factors: a context of more cells takes the second. Planning leaves the one that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_above: Option<u32>,
}

/// Which pairs YaRN scales: those up to `low` keep their angle, those from `high` on are scaled, between is a ramp.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Yarn {
    /// How much of the plain angle unscaled pairs keep; 1 in every published model.
    pub ext_factor: f32,
    /// Pair where the ramp begins.
    pub low: f32,
    /// Pair where the ramp ends.
    pub high: f32,
}

fn one() -> f32 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's way
fn is_one(x: &f32) -> bool {
    *x == 1.0
}

impl Attrs {
    /// Angles without any scaling.
    pub fn plain(n_rot: u32, freq_base: f32) -> Attrs {
        Attrs { n_rot, freq_base, freq_scale: 1.0, magnitude: 1.0, yarn: None, second_above: None }
    }
}

/// Operands: frequency factors: none, one set, or one for short and one for long contexts. Results: the table.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, if a.second_above.is_some() { 2..=2 } else { 0..=1 })?;
    if a.n_rot == 0 || !a.n_rot.is_multiple_of(2) {
        return Err(format!("n_rot must be even and positive, not {}", a.n_rot));
    }
    for f in args {
        if f.dtype != DType::F32 || f.shape.len() != 1 || f.cols() != a.n_rot / 2 {
            return Err(format!("frequency factors must be F32 [{}], not {f}", a.n_rot / 2));
        }
    }
    Ok(Types::from_iter([ValueType::matrix(DType::F32, Dim::T, a.n_rot)]))
}

/// About 40 operations per angle.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost {
        ops: 20 * n.elems(&outs[0]),
        weight_bytes: args.iter().map(|a| n.bytes(a)).sum(),
        data_bytes: n.bytes(&outs[0]),
    }
}

/// What theta is multiplied by from one pair to the next: the exponent in f32, the power in f64, then to f32.
pub fn theta_scale(a: &Attrs) -> f32 {
    math::pow(f64::from(a.freq_base), f64::from(-2.0 / a.n_rot as f32)) as f32
}

/// The oracle, for the row of one position; `scale` is [`theta_scale`].
#[inline(always)]
pub fn reference(a: &Attrs, scale: f32, position: u32, factors: Option<&[f32]>, out: &mut [f32]) {
    let mut theta = position as f32;
    for (i, pair) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let factor = factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0);
        let plain = theta / factor;
        let scaled = a.freq_scale * plain;
        let (sin, cos) = math::sin_cos(a.yarn.map_or(scaled, |y| y.mix(i, scaled, plain)));
        *pair = [cos * a.magnitude, sin * a.magnitude];
        theta *= scale;
    }
}

impl Yarn {
    /// The angle of pair `i`.
    #[inline(always)]
    fn mix(&self, i: usize, scaled: f32, plain: f32) -> f32 {
        let along = (i as f32 - self.low) / (self.high - self.low).max(0.001);
        let mix = (1.0 - along.clamp(0.0, 1.0)) * self.ext_factor;
        scaled * (1.0 - mix) + plain * mix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(a: &Attrs, position: u32, factors: Option<&[f32]>) -> Vec<f32> {
        let mut out = vec![0f32; a.n_rot as usize];
        reference(a, theta_scale(a), position, factors, &mut out);
        out
    }

    #[test]
    fn position_zero_does_not_turn() {
        let a = Attrs::plain(8, 10000.0);
        assert_eq!(row(&a, 0, None), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn angles_are_a_geometric_series() {
        // 10000^(-2/8) = 1/10 (its nearest f32): angles 3, 0.3, 0.03, 0.003.
        let a = Attrs::plain(8, 10000.0);
        let t = row(&a, 3, None);
        let want = [
            -0.989_992_496_600_445_4,
            0.141_120_008_059_867_2,
            0.955_336_489_125_606,
            0.295_520_206_661_339_57,
            0.999_550_033_748_987_5,
            0.029_995_500_202_495_66,
            0.999_995_500_003_375,
            0.002_999_995_500_002_025,
        ];
        for (t, want) in t.iter().zip(want) {
            assert!((f64::from(*t) - want).abs() < 1e-7, "{t} {want}");
        }
    }

    #[test]
    fn factors_divide_and_the_scale_multiplies() {
        let plain = Attrs::plain(4, 10000.0);
        let a = Attrs { freq_scale: 0.25, ..plain };
        assert_eq!(row(&a, 8, None), row(&plain, 2, None));
        assert_eq!(row(&plain, 8, Some(&[4.0, 4.0])), row(&plain, 2, None));
    }

    #[test]
    fn yarn_keeps_fast_pairs_scales_slow_ones_and_mixes_between() {
        let plain = Attrs::plain(8, 10000.0);
        let scaled = Attrs { freq_scale: 0.25, ..plain };
        let yarn = |ext_factor| Attrs { yarn: Some(Yarn { ext_factor, low: 0.0, high: 2.0 }), ..scaled };
        let (p, s, y) = (row(&plain, 8, None), row(&scaled, 8, None), row(&yarn(1.0), 8, None));
        assert_eq!(y[..2], p[..2], "the pair before the ramp");
        assert_eq!(y[4..], s[4..], "the pairs behind it");
        // Pair 1: half of 8 * 0.1 and half of 2 * 0.1, so 0.5.
        for (y, want) in y[2..4].iter().zip([0.877_582_561_890_372_8, 0.479_425_538_604_203]) {
            assert!((f64::from(*y) - want).abs() < 1e-7, "{y} {want}");
        }
        assert_eq!(row(&yarn(0.0), 8, None), s, "nothing of the plain angle");
    }

    #[test]
    fn the_magnitude_stretches_and_two_sets_are_for_planning() {
        let plain = Attrs::plain(4, 10000.0);
        let longer = row(&Attrs { magnitude: 2.0, ..plain }, 8, None);
        assert_eq!(longer, row(&plain, 8, None).iter().map(|x| 2.0 * x).collect::<Vec<_>>());
        let set = ValueType::vector(DType::F32, 2);
        let two = Attrs { second_above: Some(64), ..plain };
        assert!(infer(&two, &[set.clone(), set.clone()]).is_ok() && infer(&two, std::slice::from_ref(&set)).is_err());
        assert!(infer(&plain, &[set.clone(), set]).is_err());
    }
}
