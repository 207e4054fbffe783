//! linear: `y = W x + b`, per row of x.
//!
//! Shape: x `[rows, n]` of the type that meets W (F32 for F32, F16 and BF16 weights, the block type otherwise),
//! W `[m, n]`, optional bias F32 `[m]` -> F32 `[rows, m]`.
//! Numerics: float weights: 16 partial sums, partial j one FMA chain over k = j, j+16, ..., then the fixed tree,
//! the tail padded with +0. Block weights: the exact integer sum of a block, then one f32 FMA per block in
//! ascending order. The bias is added to the finished sum.
//! Source: `ggml_mul_mat`.

use super::{Cost, Sizes, Types, arity};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// No attributes: types and sizes say it all.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs;

/// Operands: x, weight, optional bias. Results: the products.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=3)?;
    let m = check_weight(&args[0], &args[1])?;
    if let Some(b) = args.get(2) {
        check_bias(b, m)?;
    }
    Ok(Types::from_iter([ValueType::matrix(DType::F32, args[0].rows(), m)]))
}

/// A weight is a matrix with x's row length, and x has the type that meets it. Returns its rows.
pub(super) fn check_weight(x: &ValueType, w: &ValueType) -> Result<u32, String> {
    let m = match (w.shape.len(), w.rows()) {
        (2, Dim::Fixed(m)) if w.cols() == x.cols() => m,
        _ => return Err(format!("the weight must be [m, {}], not {w}", x.cols())),
    };
    match w.dtype.codec() {
        None => Err(format!("weights of type {} have no kernels", w.dtype)),
        Some(c) if c.activation != x.dtype => {
            Err(format!("{} weights meet {} activations, not {}", w.dtype, c.activation, x.dtype))
        }
        Some(_) => Ok(m),
    }
}

/// A bias is F32 and as long as the product's row.
pub(super) fn check_bias(b: &ValueType, m: u32) -> Result<(), String> {
    if b.dtype == DType::F32 && b.shape.len() == 1 && b.cols() == m {
        Ok(())
    } else {
        Err(format!("the bias must be F32 [{m}], not {b}"))
    }
}

/// Two operations per weight and row; the weight is read once.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let rows = n.of(args[0].rows());
    let w: Cost = args[1..].iter().fold(Cost::default(), |c, w| Cost {
        ops: c.ops + 2 * rows * n.elems(w),
        weight_bytes: c.weight_bytes + n.bytes(w),
        data_bytes: 0,
    });
    Cost { data_bytes: traffic_of(&args[0], outs, n), ..w }
}

fn traffic_of(x: &ValueType, outs: &[ValueType], n: &Sizes) -> u64 {
    n.bytes(x) + outs.iter().map(|t| n.bytes(t)).sum::<u64>()
}
