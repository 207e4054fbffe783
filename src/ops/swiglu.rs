//! swiglu: `silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))`.
//!
//! Shape: gate, up F32 `[rows, n]` -> F32 `[rows, n]`.
//! Numerics: our exp, one true division, one product, in that order.
//! Source: Shazeer, GLU Variants Improve Transformer, 2020; `ggml_swiglu_split`.

use super::{Cost, Sizes, Types, arity, f32_rows, math, traffic};
use crate::graph::ValueType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

/// The oracle, element by element.
pub fn reference(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
        *o = math::silu(*g) * u;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        let mut out = [0f32; 3];
        reference(&[0.0, 1.0, -200.0], &[5.0, 2.0, 3.0], &mut out);
        assert_eq!(out[0], 0.0);
        assert!((f64::from(out[1]) - 1.462_117_157_260_01).abs() < 2e-7);
        assert_eq!(out[2], 0.0);
    }
}
