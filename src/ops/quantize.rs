//! quantize: f32 activations to the block type that meets a block-quantised weight.
//!
//! Shape: F32 `[rows, n]` -> `to` `[rows, n]`, n a multiple of the block.
//! Numerics: as ggml's x86 code does it; see `src/quant/q8_0.rs`, `q8_1.rs` and `q8_k.rs`.
//! Source: `quantize_row_q8_0`, `_q8_1` and `_q8_K` in ggml's x86 quantisation code.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::ValueType;
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// The block type of the result.
    pub to: DType,
}

/// Operands: x. Results: the blocks.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 1..=1)?;
    f32_rows("x", &args[0])?;
    if a.to.row_bytes(args[0].cols() as usize).is_none() {
        return Err(format!("rows of {} are no whole number of {} blocks", args[0].cols(), a.to));
    }
    Ok(Types::from_iter([ValueType { dtype: a.to, shape: args[0].shape.clone() }]))
}

/// A maximum, a product and a rounding per element.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost { ops: 3 * n.elems(&args[0]), weight_bytes: 0, data_bytes: traffic(args, outs, n) }
}

/// The oracle: rows of `n` elements to rows of blocks of type `to`, whose codec is the rule.
pub fn reference(to: DType, x: &[f32], n: usize, out: &mut [u8]) {
    let (Some(codec), Some(row)) = (to.codec(), to.row_bytes(n)) else { return };
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(row)) {
        (codec.encode)(x, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_and_the_scale_is_127th_of_the_maximum() {
        let mut x = [0f32; 32];
        (x[0], x[1], x[2], x[3]) = (-127.0, 2.5, 3.5, -0.5);
        let mut out = [0u8; 34];
        reference(DType::Q8_0, &x, 32, &mut out);
        assert_eq!(out[..2], half::f16::ONE.to_le_bytes());
        assert_eq!(out[2..6].iter().map(|b| b.cast_signed()).collect::<Vec<_>>(), [-127, 2, 4, 0]);
    }

    #[test]
    fn blocks_too_small_for_a_scale_are_zeros() {
        for tiny in [0.0, f32::from_bits(1), 1e-38, 3.7e-37] {
            let mut out = [1u8; 34];
            reference(DType::Q8_0, &[tiny; 32], 32, &mut out);
            assert_eq!(out, [0u8; 34], "{tiny:e}");
        }
    }
}
