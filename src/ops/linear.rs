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
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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
    match w.dtype.weight_codec() {
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

/// The oracle: `weight` holds rows of `n` elements of type `dtype`, `x` rows of `n` elements of the type that meets
/// it, both as little-endian bytes; `out` is `[rows of x, rows of weight]`.
pub fn reference(
    dtype: DType,
    weight: &[u8],
    x: &[u8],
    n: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (Some(codec), Some(w_row)) = (dtype.codec(), dtype.row_bytes(n)) else { return out.fill(f32::NAN) };
    let (Some(dot), Some(x_row)) = (codec.dot, codec.activation.row_bytes(n)) else { return out.fill(f32::NAN) };
    let m = weight.len() / w_row.max(1);
    for (x, out) in x.chunks_exact(x_row).zip(out.chunks_exact_mut(m.max(1))) {
        for (r, (w, out)) in weight.chunks_exact(w_row).zip(out).enumerate() {
            let sum = dot(w, x);
            *out = bias.map_or(sum, |b| sum + b[r]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(v: &[f32]) -> Vec<u8> {
        v.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn the_order_of_additions_is_the_documented_one() {
        // Lane 0 holds 1e8 and, 16 later, -1e8; lane 1 holds 1. A left-to-right sum would lose nothing either,
        // but one that adds lane 8 last would: (1e8 + 1) rounds to 1e8.
        let mut w = vec![0f32; 17];
        (w[0], w[1], w[8], w[16]) = (1e8, 1.0, 1.0, -1e8);
        let mut out = [0f32];
        reference(DType::F32, &bytes(&w), &bytes(&[1.0; 17]), 17, None, &mut out);
        assert_eq!(out[0], 2.0);
        // Lanes 0 and 8 meet before lanes 0 and 1: 1e8 + (-1e8), then + 1.
        let mut w = vec![0f32; 16];
        (w[0], w[1], w[8]) = (1e8, 1.0, -1e8);
        reference(DType::F32, &bytes(&w), &bytes(&[1.0; 16]), 16, None, &mut out);
        assert_eq!(out[0], 1.0);
        // Lanes 0 and 1 meet before lane 2's part would cancel: 4 before 2 before 1.
        let mut w = vec![0f32; 16];
        (w[0], w[1], w[4]) = (1e8, -1e8, 1.0);
        reference(DType::F32, &bytes(&w), &bytes(&[1.0; 16]), 16, None, &mut out);
        assert_eq!(out[0], 0.0);
    }

    #[test]
    fn the_bias_is_added_to_the_finished_sum() {
        let mut w = vec![0f32; 16];
        (w[0], w[8]) = (1.0, 1.0);
        let mut out = [0f32];
        reference(DType::F32, &bytes(&w), &bytes(&[1.0; 16]), 16, Some(&[1e8]), &mut out);
        assert_eq!(out[0], 1e8 + 2.0, "a bias at the start of a chain would have swallowed both ones");
    }

    #[test]
    fn q8_0_by_hand() {
        let block = |d: f32, q: i8| {
            let mut b = half::f16::from_f32(d).to_le_bytes().to_vec();
            b.extend([q.cast_unsigned(); 32]);
            b
        };
        let w = [block(0.5, -128), block(2.0, 3)].concat();
        let x = [block(0.25, 127), block(1.0, -1)].concat();
        let mut out = [0f32];
        reference(DType::Q8_0, &w, &x, 64, None, &mut out);
        assert_eq!(out[0], 0.125 * (-128.0 * 127.0 * 32.0) + 2.0 * -96.0);
    }
}
