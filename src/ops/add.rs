//! add: `a + b`, element by element.
//!
//! Shape: a, b F32 `[rows, n]` -> F32 `[rows, n]`.
//! Numerics: one f32 addition.
//! Source: the residual connections of He et al., 2016; `ggml_add`.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::ValueType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs;

/// Operands: a, b. Results: the sum.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=2)?;
    f32_rows("a", &args[0])?;
    if args[0] != args[1] {
        return Err(format!("a {} and b {} differ", args[0], args[1]));
    }
    Ok(Types::from_iter([args[0].clone()]))
}

/// One operation per element.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost { ops: n.elems(&args[0]), weight_bytes: 0, data_bytes: traffic(args, outs, n) }
}

/// The oracle, element by element.
#[inline(always)]
pub fn reference(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        *o = a + b;
    }
}
