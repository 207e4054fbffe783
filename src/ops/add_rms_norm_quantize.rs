//! add_rms_norm_quantize: `s = a + b`, rms_norm of s, quantize; the normed f32 row is never stored.
//!
//! Shape: a, b F32 `[rows, n]`, weight F32 `[n]` -> s F32 `[rows, n]`, `to` `[rows, n]`.
//! Numerics: those of its parts, in their order.
//! Source: fusion of `add`, `rms_norm` and `quantize`.

use super::{Cost, Sizes, Types, add, add_rms_norm, quantize, rms_norm_quantize, traffic};
use crate::graph::ValueType;

/// Attributes: those of rms_norm_quantize.
pub type Attrs = rms_norm_quantize::Attrs;

/// Operands: a, b, weight. Results: the sum, the blocks.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    let mut types = add_rms_norm::infer(&add_rms_norm::Attrs { eps: a.eps }, args)?;
    let blocks = quantize::infer(&quantize::Attrs { to: a.to }, &types[1..])?;
    types.truncate(1);
    types.extend(blocks);
    Ok(types)
}

/// The sum of its parts without the row between them.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost {
        ops: 8 * n.elems(&args[0]),
        weight_bytes: n.bytes(&args[2]),
        data_bytes: traffic(&args[..2], outs, n),
    }
}

/// The oracle, for one row: the parts one after the other. `sum` is the first result, `normed` the row between the
/// parts, `out` the blocks' bytes.
pub fn reference(
    at: &Attrs,
    [a, b, w]: [&[f32]; 3],
    sum: &mut [f32],
    normed: &mut [f32],
    out: &mut [u8],
) {
    add::reference(a, b, sum);
    rms_norm_quantize::reference(at, sum, w, normed, out);
}
