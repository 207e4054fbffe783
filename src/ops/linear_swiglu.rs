//! linear_swiglu: the gate and up products, then `silu(gate) * up`; neither product is stored.
//!
//! Shape: x `[rows, n]`, Wg `[m, n]`, Wu `[m, n]` -> F32 `[rows, m]`.
//! Numerics: those of its parts.
//! Source: fusion of two `linear` and `swiglu`.

use super::{Cost, Sizes, Types, arity, linear};
use crate::graph::ValueType;
use crate::quant::DType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs;

/// Operands: x, gate weight, up weight. Results: the product.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 3..=3)?;
    let m = linear::check_weight(&args[0], &args[1])?;
    if linear::check_weight(&args[0], &args[2])? != m {
        return Err(format!("gate {} and up {} differ", args[1], args[2]));
    }
    Ok(Types::from_iter([ValueType::matrix(DType::F32, args[0].rows(), m)]))
}

/// Two products and 16 operations per element.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let c = linear::cost(&linear::Attrs, args, outs, n);
    Cost { ops: c.ops + 16 * n.elems(&outs[0]), ..c }
}
