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
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

/// A weight as the oracles take it: its type, its bytes and its bias.
pub type Weighted<'a> = (DType, &'a [u8], Option<&'a [f32]>);

/// The oracle: [`linear::reference`] for each of q, k and v.
pub fn reference(weights: [Weighted<'_>; 3], x: &[u8], n: usize, outs: [&mut [f32]; 3]) {
    for ((dtype, weight, bias), out) in weights.into_iter().zip(outs) {
        linear::reference(dtype, weight, x, n, bias, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_products_of_different_types() {
        let f32s = |v: f32| v.to_le_bytes().to_vec();
        let (q, k) = (f32s(2.0), half::f16::from_f32(3.0).to_le_bytes());
        let v = [half::bf16::from_f32(4.0).to_le_bytes(), half::bf16::from_f32(5.0).to_le_bytes()].concat();
        let (mut oq, mut ok, mut ov) = ([0f32], [0f32], [0f32; 2]);
        let weights = [
            (DType::F32, &q[..], None),
            (DType::F16, &k[..], Some(&[0.5][..])),
            (DType::BF16, &v[..], None),
        ];
        reference(weights, &f32s(10.0), 1, [&mut oq, &mut ok, &mut ov]);
        assert_eq!((oq, ok, ov), ([20.0], [30.5], [40.0, 50.0]));
    }
}
