//! select_rows: the rows of the step that want logits, in the order the step lists them.
//!
//! Shape: F32 `[T, n]` -> F32 `[R, n]`.
//! Numerics: a copy.
//! Source: `ggml_get_rows` with `inp_out_ids`.

use super::{Cost, Sizes, Types, arity, f32_rows};
use crate::graph::{Dim, ValueType};

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs;

/// Operands: x. Results: the selected rows.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 1..=1)?;
    f32_rows("x", &args[0])?;
    if args[0].rows() != Dim::T {
        return Err(format!("x must have the step's rows, not {}", args[0]));
    }
    Ok(Types::from_iter([ValueType::matrix(args[0].dtype, Dim::R, args[0].cols())]))
}

/// Read and write of the selected rows.
pub fn cost(_: &Attrs, _: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost { ops: 0, weight_bytes: 0, data_bytes: 2 * n.bytes(&outs[0]) }
}

/// The oracle: `x` holds rows of `out.len() / rows.len()` elements.
pub fn reference(x: &[f32], rows: &[u32], out: &mut [f32]) {
    let cols = out.len() / rows.len().max(1);
    for (o, r) in out.chunks_exact_mut(cols.max(1)).zip(rows) {
        let first = *r as usize * cols;
        o.copy_from_slice(&x[first..first + cols]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_the_order_of_the_step() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = [0f32; 6];
        reference(&x, &[1, 3], &mut out);
        assert_eq!(out, [3.0, 4.0, 5.0, 9.0, 10.0, 11.0]);
    }
}
