//! swiglu: `silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))`.
//!
//! Shape: gate, up F32 `[rows, n]` -> F32 `[rows, n]`.
//! Numerics: our exp, one true division, one product, in that order.
//! Source: Shazeer, GLU Variants Improve Transformer, 2020; `ggml_swiglu_split`.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::ValueType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs;

/// Operands: gate, up. Results: the product.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=2)?;
    f32_rows("gate", &args[0])?;
    if args[0] != args[1] {
        return Err(format!("gate {} and up {} differ", args[0], args[1]));
    }
    Ok(Types::from_iter([args[0].clone()]))
}

/// About 16 operations per element.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost { ops: 16 * n.elems(&args[0]), weight_bytes: 0, data_bytes: traffic(args, outs, n) }
}
