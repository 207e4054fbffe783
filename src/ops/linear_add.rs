//! linear_add: `y = (W x + b) + residual`.
//!
//! Shape: x `[rows, n]`, W `[m, n]`, optional bias F32 `[m]`, residual F32 `[rows, m]` -> F32 `[rows, m]`.
//! Numerics: the finished product, then the bias, then one addition of the residual.
//! Source: fusion of `linear` and `add`.

use super::{Cost, Sizes, Types, arity, linear};
use crate::graph::ValueType;
use crate::quant::DType;

/// No attributes: an addition has no order.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs;

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

/// The oracle: [`linear::reference`], then the residual, one addition per element.
pub fn reference(
    dtype: DType,
    weight: &[u8],
    x: &[u8],
    n: usize,
    bias: Option<&[f32]>,
    residual: &[f32],
    out: &mut [f32],
) {
    linear::reference(dtype, weight, x, n, bias, out);
    for (o, r) in out.iter_mut().zip(residual) {
        *o += r;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_residual_comes_after_the_bias() {
        let bytes = |v: f32| v.to_le_bytes();
        let mut out = [0f32];
        reference(DType::F32, &bytes(1.0), &bytes(1.0), 1, Some(&[1e8]), &[-1e8], &mut out);
        assert_eq!(out[0], 0.0, "1 + 1e8 loses the 1; 1 + (1e8 - 1e8) would keep it");
    }
}
