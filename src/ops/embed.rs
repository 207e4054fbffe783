//! embed: row `token[t]` of the embedding table, decoded to f32.
//!
//! Shape: weight `[n_vocab, n_embd]` -> F32 `[T, n_embd]`. Tokens come from the step state.
//! Numerics: the decoded value of the weight's type, exact.
//! Source: `ggml_get_rows` on `token_embd.weight`.

use super::{Cost, Sizes, Types, arity};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// No attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs;

/// Operands: the table. Results: the rows.
pub fn infer(_: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 1..=1)?;
    if args[0].shape.len() != 2 {
        return Err(format!("the table must be a matrix, not {}", args[0]));
    }
    Ok(Types::from_iter([ValueType::matrix(DType::F32, Dim::T, args[0].cols())]))
}

/// One decoded row per token.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let row = ValueType::matrix(args[0].dtype, Dim::T, args[0].cols());
    Cost { ops: n.elems(&outs[0]), weight_bytes: n.bytes(&row), data_bytes: n.bytes(&outs[0]) }
}

/// The oracle: one row of the table, decoded. A type without a codec leaves `out` as it is; no kernel takes it.
pub fn reference(dtype: DType, row: &[u8], out: &mut [f32]) {
    if let Some(codec) = dtype.codec() {
        (codec.decode)(row, out);
    }
}
