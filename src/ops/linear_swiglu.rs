//! linear_swiglu: the gate and up products, then `silu(gate) * up`; neither product is stored.
//!
//! Shape: x `[rows, n]`, Wg `[m, n]`, Wu `[m, n]` -> F32 `[rows, m]`.
//! Numerics: those of its parts.
//! Source: fusion of two `linear` and `swiglu`.

use super::{Cost, Sizes, Types, arity, linear, swiglu};
use crate::graph::ValueType;
use crate::quant::DType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

/// The oracle: [`linear::reference`] of gate and of up, then [`swiglu::reference`].
pub fn reference(dtypes: [DType; 2], weights: [&[u8]; 2], x: &[u8], n: usize, out: &mut [f32]) {
    let [mut gate, mut up] = [vec![0f32; out.len()], vec![0f32; out.len()]];
    linear::reference(dtypes[0], weights[0], x, n, None, &mut gate);
    linear::reference(dtypes[1], weights[1], x, n, None, &mut up);
    swiglu::reference(&gate, &up, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_the_first_weight() {
        let bytes = |v: f32| v.to_le_bytes();
        let mut out = [0f32];
        reference([DType::F32; 2], [&bytes(-200.0), &bytes(7.0)], &bytes(1.0), 1, &mut out);
        assert_eq!(out[0], 0.0, "silu(-200) is 0; silu(7) * -200 is not");
    }
}
