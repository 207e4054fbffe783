//! rope_table: cosine and sine of every rotation angle of the step's positions, shared by all layers.
//!
//! Shape: optional frequency factors F32 `[n_rot / 2]` -> F32 `[T, n_rot]`: cos and sin of pair 0, of pair 1, ...
//! Numerics: as ggml makes the angles: theta starts at the position (f32), pair i turns by
//! `freq_scale * (theta / factor[i])`, then theta is multiplied by `theta_scale = freq_base^(-2 / n_rot)`, all in f32
//! (the exponent too; the power is ours in f64, rounded once). Cosine and sine are computed in f64 by our own
//! polynomial and rounded once to f32.
//! Source: Su et al., RoFormer, 2021; `ggml_rope_ext`; Llama 3 frequency factors from `rope_freqs.weight`.

use super::{Cost, Sizes, Types, arity, math};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// Rotated dimensions of a head; even.
    pub n_rot: u32,
    /// Base of the geometric series of frequencies.
    pub freq_base: f32,
    /// Linear position scale: 1 / factor; 1 for none.
    pub freq_scale: f32,
}

/// Operands: optional frequency factors. Results: the table.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 0..=1)?;
    if a.n_rot == 0 || !a.n_rot.is_multiple_of(2) {
        return Err(format!("n_rot must be even and positive, not {}", a.n_rot));
    }
    if let Some(f) = args.first()
        && (f.dtype != DType::F32 || f.shape.len() != 1 || f.cols() != a.n_rot / 2)
    {
        return Err(format!("frequency factors must be F32 [{}], not {f}", a.n_rot / 2));
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
        let (sin, cos) = math::sin_cos(a.freq_scale * (theta / factor));
        *pair = [cos, sin];
        theta *= scale;
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
        let a = Attrs { n_rot: 8, freq_base: 10000.0, freq_scale: 1.0 };
        assert_eq!(row(&a, 0, None), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn angles_are_a_geometric_series() {
        // 10000^(-2/8) = 1/10 (its nearest f32): angles 3, 0.3, 0.03, 0.003.
        let a = Attrs { n_rot: 8, freq_base: 10000.0, freq_scale: 1.0 };
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
        let a = Attrs { n_rot: 4, freq_base: 10000.0, freq_scale: 0.25 };
        let plain = Attrs { freq_scale: 1.0, ..a };
        assert_eq!(row(&a, 8, None), row(&plain, 2, None));
        assert_eq!(row(&plain, 8, Some(&[4.0, 4.0])), row(&plain, 2, None));
    }
}
