//! add_rms_norm: `s = a + b`, then rms_norm of s; both are results.
//!
//! Shape: a, b F32 `[rows, n]`, weight F32 `[n]` -> s, norm F32 `[rows, n]`.
//! Numerics: those of its parts, in their order.
//! Source: fusion of `add` and `rms_norm`.

use super::{Cost, Sizes, Types, add, arity, rms_norm, traffic};
use crate::graph::ValueType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// Added to the mean square.
    pub eps: f32,
}

/// Operands: a, b, weight. Results: the sum, the normed sum.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 3..=3)?;
    let sum = add::infer(&add::Attrs, &args[..2])?;
    rms_norm::check_row(&sum[0], &args[2])?;
    let norm = rms_norm::infer(&rms_norm::Attrs { eps: a.eps }, &[sum[0].clone(), args[2].clone()])?;
    Ok(sum.into_iter().chain(norm).collect())
}

/// One addition more than a norm.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost {
        ops: 5 * n.elems(&args[0]),
        weight_bytes: n.bytes(&args[2]),
        data_bytes: traffic(&args[..2], outs, n),
    }
}

/// The oracle, for one row: the parts one after the other.
pub fn reference(eps: f32, a: &[f32], b: &[f32], w: &[f32], sum: &mut [f32], out: &mut [f32]) {
    add::reference(a, b, sum);
    rms_norm::reference(sum, w, eps, out);
}
