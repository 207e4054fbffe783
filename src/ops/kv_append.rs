//! kv_append: stores the step's keys and values in the cache, each at its row's position.
//!
//! Shape: K F32 `[T, n_head_kv * head_dim_k]`, V F32 `[T, n_head_kv * head_dim_v]` -> the layer's caches
//! `[S, n_head_kv * head_dim]` of the cache types. A layer keeps K as `[n_head_kv][n_ctx][head_dim_k]`, V alike.
//! Numerics: to f16 by rounding to nearest, ties to even, once; f32 is stored as it is; to Q8_0 as `quantize` does it; to
//! Q4_0 by the rule of NUMERICS.md. Blocks of 32 lie along a head, so heads are whole blocks.
//! Source: `ggml_cpy` into `cache_k_l` and `cache_v_l`.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::{Dim, ValueType};
use crate::quant::{BlockQ4_0, DType, quantize_row_q4_0};
use half::f16;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// The layer whose cache is written.
    pub layer: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Type of the cached keys: one of [`TYPES`].
    pub type_k: DType,
    /// Type of the cached values: one of [`TYPES`].
    pub type_v: DType,
}

/// What a cache can hold.
pub const TYPES: [DType; 4] = [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0];

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
    for (what, t, ty) in [("k", a.type_k, &args[0]), ("v", a.type_v, &args[1])] {
        if !TYPES.contains(&t) {
            return Err(format!("a cache of type {t} has no kernels (have: {})", TYPES.map(DType::name).join(", ")));
        }
        let dim = ty.cols() / a.n_head_kv;
        if t.row_bytes(dim as usize).is_none() {
            return Err(format!("{what} heads of {dim} are no whole blocks of {t}, which has {}", t.block()));
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

/// The oracle: keys or values of whole heads as the bytes of the cache. `out` holds exactly their bytes.
pub fn reference(dtype: DType, x: &[f32], out: &mut [u8]) {
    if dtype == DType::Q4_0 {
        // The codec's encoder searches; a cache is filled at every token.
        let blocks = x.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(size_of::<BlockQ4_0>()));
        for (x, out) in blocks {
            let mut block = [BlockQ4_0 { d: f16::ZERO, qs: [0; 16] }];
            quantize_row_q4_0(x, &mut block);
            out.copy_from_slice(bytemuck::bytes_of(&block));
        }
    } else if let Some(codec) = dtype.codec() {
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

    #[test]
    fn blocks_lie_along_a_head() {
        let x: Vec<f32> = (0..64).map(|i| i as f32 / 8.0 - 3.0).collect();
        for dtype in [DType::Q8_0, DType::Q4_0] {
            let n = dtype.row_bytes(32).unwrap();
            let mut whole = vec![0u8; 2 * n];
            reference(dtype, &x, &mut whole);
            let mut half = vec![0u8; n];
            reference(dtype, &x[32..], &mut half);
            assert_eq!(whole[n..], half, "{dtype}");
            // What was stored is read back within a step.
            let mut back = [0f32; 64];
            (dtype.codec().unwrap().decode)(&whole, &mut back);
            let step = if dtype == DType::Q8_0 { 5.0 / 127.0 } else { 5.0 / 8.0 };
            assert!(x.iter().zip(back).all(|(a, b)| (a - b).abs() <= step), "{dtype}");
        }
    }

    #[test]
    fn types_and_heads_that_do_not_fit() {
        let rows = |cols| ValueType::matrix(DType::F32, Dim::T, cols);
        let infer_of = |type_k, type_v, cols| {
            infer(&Attrs { layer: 0, n_head_kv: 2, type_k, type_v }, &[rows(cols), rows(cols)])
        };
        let caches = infer_of(DType::Q8_0, DType::Q4_0, 128).unwrap();
        assert_eq!((caches[0].dtype, caches[1].dtype), (DType::Q8_0, DType::Q4_0));
        let e = infer_of(DType::Q8_0, DType::F16, 96).unwrap_err();
        assert!(e.contains("k heads of 48 are no whole blocks of Q8_0"), "{e}");
        let e = infer_of(DType::F16, DType::Q4_0, 32).unwrap_err();
        assert!(e.contains("v heads of 16 are no whole blocks of Q4_0"), "{e}");
        let e = infer_of(DType::F16, DType::Q6_K, 512).unwrap_err();
        assert!(e.contains("have: F32, F16, Q8_0, Q4_0"), "{e}");
    }
}
