//! kv_append: stores the step's keys and values in the cache, each at its row's position.
//!
//! Shape: K F32 `[T, n_head_kv * head_dim_k]`, V F32 `[T, n_head_kv * head_dim_v]` -> the layer's caches
//! `[S, n_head_kv * head_dim]` of the cache types. A layer keeps K as `[n_head_kv][n_ctx][head_dim_k]`, V alike.
//! Numerics: to f16 by rounding to nearest, ties to even, once; f32 is stored as it is.
//! Source: `ggml_cpy` into `cache_k_l` and `cache_v_l`.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// The layer whose cache is written.
    pub layer: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Type of the cached keys: F32 or F16.
    pub type_k: DType,
    /// Type of the cached values: F32 or F16.
    pub type_v: DType,
}

/// Operands: k, v. Results: the caches.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=2)?;
    f32_rows("k", &args[0])?;
    f32_rows("v", &args[1])?;
    for (what, ty) in [("k", &args[0]), ("v", &args[1])] {
        if a.n_head_kv == 0 || ty.cols() % a.n_head_kv != 0 {
            return Err(format!("{what} rows of {} are no whole number of {} heads", ty.cols(), a.n_head_kv));
        }
    }
    for t in [a.type_k, a.type_v] {
        if t != DType::F32 && t != DType::F16 {
            return Err(format!("a cache of type {t} has no kernels (have: F32, F16)"));
        }
    }
    Ok(Types::from_iter([
        ValueType::matrix(a.type_k, Dim::S, args[0].cols()),
        ValueType::matrix(a.type_v, Dim::S, args[1].cols()),
    ]))
}

/// One conversion per element.
pub fn cost(a: &Attrs, args: &[ValueType], _: &[ValueType], n: &Sizes) -> Cost {
    let stored = [
        ValueType { dtype: a.type_k, ..args[0].clone() },
        ValueType { dtype: a.type_v, ..args[1].clone() },
    ];
    Cost { ops: n.elems(&args[0]) + n.elems(&args[1]), weight_bytes: 0, data_bytes: traffic(args, &stored, n) }
}

/// The oracle: one head's keys or values as the bytes of the cache. `out` holds exactly their bytes.
pub fn reference(dtype: DType, x: &[f32], out: &mut [u8]) {
    if let Some(codec) = dtype.codec() {
        (codec.encode)(x, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even() {
        // 1 + 2^-11 and 1 + 3 * 2^-11 lie halfway between two f16: the even one is taken.
        let mut out = [0u8; 6];
        reference(DType::F16, &[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, -65504.0], &mut out);
        assert_eq!(out, [0x00, 0x3c, 0x02, 0x3c, 0xff, 0xfb]);
    }
}
