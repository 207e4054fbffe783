//! quantize: f32 activations to the block type that meets a block-quantised weight.
//!
//! Shape: F32 `[rows, n]` -> `to` `[rows, n]`, n a multiple of the block.
//! Numerics: as ggml's x86 code does it; see `src/quant/q8_0.rs`.
//! Source: `quantize_row_q8_0` in ggml's x86 quantisation code.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::ValueType;
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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
