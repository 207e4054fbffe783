//! linear_add: `y = (W x + b) + residual`.
//!
//! Shape: x `[rows, n]`, W `[m, n]`, optional bias F32 `[m]`, residual F32 `[rows, m]` -> F32 `[rows, m]`.
//! Numerics: the finished product, then the bias, then one addition of the residual.
//! Source: fusion of `linear` and `add`.

use super::{Cost, Sizes, Types, arity, linear};
use crate::graph::ValueType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// Whether the residual is the left operand of the addition in the graph (bits do not depend on it).
    pub residual_first: bool,
}

/// Operands: x, weight, optional bias, residual. Results: the sum.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 3..=4)?;
    let types = linear::infer(&linear::Attrs, &args[..args.len() - 1])?;
    if args[args.len() - 1] != types[0] {
        return Err(format!("the residual {} must be like the product {}", args[args.len() - 1], types[0]));
    }
    Ok(types)
}

/// The product, and the residual read and added.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let c = linear::cost(&linear::Attrs, &args[..args.len() - 1], outs, n);
    Cost { ops: c.ops + n.elems(&outs[0]), data_bytes: c.data_bytes + n.bytes(&outs[0]), ..c }
}
