//! linear_qkv: the products for Q, K and V as one pass over x.
//!
//! Shape: x `[T, n]`, Wq `[mq, n]`, Wk `[mk, n]`, Wv `[mv, n]`, optional three biases -> q, k, v F32 `[T, m]`.
//! The three weights may have different types if the same activations meet them.
//! Numerics: those of `linear`, three times.
//! Source: fusion of three `linear`.

use super::{Cost, Sizes, Types, arity, linear};
use crate::graph::ValueType;
use crate::quant::DType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs;

/// Operands: x, wq, wk, wv, then none or all of bq, bk, bv. Results: q, k, v.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 4..=7)?;
    if args.len() != 4 && args.len() != 7 {
        return Err("takes no bias or three".into());
    }
    (0..3)
        .map(|i| {
            let m = linear::check_weight(&args[0], &args[1 + i])?;
            args.get(4 + i).map_or(Ok(()), |b| linear::check_bias(b, m))?;
            Ok(ValueType::matrix(DType::F32, args[0].rows(), m))
        })
        .collect()
}

/// The sum of three products with x read once.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    linear::cost(&linear::Attrs, args, outs, n)
}
