//! rms_norm: `y = x / sqrt(mean(x^2) + eps) * w`, per row.
//!
//! Shape: F32 `[rows, n]`, weight F32 `[n]` -> F32 `[rows, n]`.
//! Numerics: 16 partial sums of squares, partial j one FMA chain over k = j, j+16, ..., the fixed tree of
//! NUMERICS.md, true division by n, true square root, true reciprocal division, then `(x * scale) * w`.
//! Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019; `ggml_rms_norm`.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::ValueType;
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// Added to the mean square; no unit.
    pub eps: f32,
}

/// Operands: x, weight. Results: the normed rows.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=2)?;
    f32_rows("x", &args[0])?;
    check_weight(&args[0], &args[1])?;
    Ok(Types::from_iter([args[0].clone()]))
}

/// A norm's weight is F32 and as long as a row.
pub(super) fn check_weight(x: &ValueType, w: &ValueType) -> Result<(), String> {
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
