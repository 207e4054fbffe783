//! rms_norm: `y = x / sqrt(mean(x^2) + eps) * w`, per group of as many elements as the weight has: a whole row, or
//! each head of it (Qwen 3 norms queries and keys so).
//!
//! Shape: F32 `[rows, g * n]`, weight F32 `[n]` -> F32 `[rows, g * n]`.
//! Numerics: 16 partial sums of squares, partial j one FMA chain over k = j, j+16, ..., the fixed tree of
//! NUMERICS.md, true division by n, true square root, true reciprocal division, then `(x * scale) * w`.
//! Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019; `ggml_rms_norm`.

use super::{Cost, Sizes, Types, arity, f32_rows, math, traffic};
use crate::graph::ValueType;
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// Added to the mean square; no unit.
    pub eps: f32,
}

/// Operands: x, weight. Results: the normed rows.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=2)?;
    f32_rows("x", &args[0])?;
    check_group(&args[0], &args[1])?;
    Ok(Types::from_iter([args[0].clone()]))
}

/// The weight is F32, and a row is a whole number of groups as long as it.
pub(super) fn check_group(x: &ValueType, w: &ValueType) -> Result<(), String> {
    if w.dtype != DType::F32 || w.shape.len() != 1 || w.cols() == 0 || !x.cols().is_multiple_of(w.cols()) {
        return Err(format!("the weight must be F32 and as long as a part of {}, not {w}", x.cols()));
    }
    Ok(())
}

/// The weight is F32 and as long as a row: what the ops fused with a norm take.
pub(super) fn check_row(x: &ValueType, w: &ValueType) -> Result<(), String> {
    if w.dtype != DType::F32 || w.shape.len() != 1 || w.cols() != x.cols() {
        return Err(format!("the weight must be F32 [{}], not {w}", x.cols()));
    }
    Ok(())
}

/// Two passes over the row.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost {
        ops: 4 * n.elems(&args[0]),
        weight_bytes: n.bytes(&args[1]),
        data_bytes: traffic(&args[..1], outs, n),
    }
}

/// The factor every element of a row is multiplied by: `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
pub fn scale(x: &[f32], eps: f32) -> f32 {
    scale_of(math::dot16(x, x), x.len(), eps)
}

/// The factor from the sum of the squares of `n` elements.
#[inline(always)]
pub fn scale_of(sum: f32, n: usize, eps: f32) -> f32 {
    1.0 / (sum / n as f32 + eps).sqrt()
}

/// The oracle, for one group.
pub fn reference(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let scale = scale(x, eps);
    for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
        *o = (x * scale) * w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_by_hand() {
        let mut y = [0f32; 3];
        reference(&[3.0, 0.0, 4.0], &[1.0, 2.0, 0.5], 0.0, &mut y);
        // mean square 25/3, so the factor is sqrt(3)/5.
        let s = 3f64.sqrt() / 5.0;
        for (y, want) in y.iter().zip([3.0 * s, 0.0, 2.0 * s]) {
            assert!((f64::from(*y) - want).abs() < 3e-7, "{y} {want}");
        }
    }

    #[test]
    fn a_weight_is_a_whole_part_of_a_row() {
        let x = ValueType::matrix(DType::F32, crate::graph::Dim::T, 12);
        let fits = |n| infer(&Attrs { eps: 0.0 }, &[x.clone(), ValueType::vector(DType::F32, n)]).is_ok();
        assert!(fits(12) && fits(4) && fits(1));
        assert!(!fits(0) && !fits(5) && !fits(24));
    }

    #[test]
    fn eps_is_added_to_the_mean_square() {
        assert_eq!(scale(&[0.0; 20], 0.25), 2.0);
        assert_eq!(scale(&[1.0; 20], 3.0), 0.5);
    }
}
