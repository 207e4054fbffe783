//! rope_kv: rope of Q and of K, then K and V into the cache.
//!
//! Shape: q, k, v F32 `[T, heads * head_dim]`, table F32 `[T, n_rot]` -> rotated q, rotated k, cache_k, cache_v.
//! Numerics: those of its parts.
//! Source: fusion of two `rope` and `kv_append`.

use super::{Cost, Sizes, Types, arity, kv_append, rope, traffic};
use crate::graph::ValueType;

/// Attributes of the parts.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// Of both ropes.
    pub rope: rope::Attrs,
    /// Of the store.
    pub kv: kv_append::Attrs,
}

/// Operands: q, k, v, table. Results: rotated q, rotated k, cache_k, cache_v.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 4..=4)?;
    rope::check(&a.rope, "q", &args[0], &args[3])?;
    rope::check(&a.rope, "k", &args[1], &args[3])?;
    let caches = kv_append::infer(&a.kv, &args[1..3])?;
    Ok([args[0].clone(), args[1].clone()].into_iter().chain(caches).collect())
}

/// The sum of its parts.
pub fn cost(a: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let kv = kv_append::cost(&a.kv, &args[1..3], &[], n);
    Cost {
        ops: 3 * (n.elems(&args[0]) + n.elems(&args[1])) + kv.ops,
        weight_bytes: 0,
        data_bytes: traffic(args, &outs[..2], n) + kv.data_bytes,
    }
}

/// The oracle, for one row: q and k are rotated in place, then `k_cells` and `v_cells` get the bytes of each key and
/// value head, side by side.
pub fn reference(a: &Attrs, qkv: (&mut [f32], &mut [f32], &[f32]), table: &[f32], k_cells: &mut [u8], v_cells: &mut [u8]) {
    let (q, k, v) = qkv;
    rope::reference(&a.rope, q, table);
    rope::reference(&a.rope, k, table);
    kv_append::reference(a.kv.type_k, k, k_cells);
    kv_append::reference(a.kv.type_v, v, v_cells);
}
