//! rms_norm_quantize: rms_norm, then quantize; the normed f32 row is never stored.
//!
//! Shape: F32 `[rows, n]`, weight F32 `[n]` -> `to` `[rows, n]`.
//! Numerics: those of its parts, in their order.
//! Source: fusion of `rms_norm` and `quantize`.

use super::{Cost, Sizes, Types, quantize, rms_norm, traffic};
use crate::graph::ValueType;
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// Added to the mean square.
    pub eps: f32,
    /// The block type of the result.
    pub to: DType,
}

/// Operands: x, weight. Results: the blocks.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    let [x, w] = args else { return Err("takes 2 operands".into()) };
    rms_norm::check_row(x, w)?;
    let norm = rms_norm::infer(&rms_norm::Attrs { eps: a.eps }, args)?;
    quantize::infer(&quantize::Attrs { to: a.to }, &norm)
}

/// The sum of its parts without the row between them.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost {
        ops: 7 * n.elems(&args[0]),
        weight_bytes: n.bytes(&args[1]),
        data_bytes: traffic(&args[..1], outs, n),
    }
}

/// The oracle, for one row: the parts one after the other. `normed` is the row between them, `out` the blocks' bytes.
pub fn reference(a: &Attrs, x: &[f32], w: &[f32], normed: &mut [f32], out: &mut [u8]) {
    rms_norm::reference(x, w, a.eps, normed);
    if let Some(codec) = a.to.codec() {
        (codec.encode)(normed, out);
    }
}
