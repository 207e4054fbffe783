//! linear_qkv_rope_kv: the products for Q, K and V, rope of Q and K behind them, K and V into the cache.
//!
//! Shape: as linear_qkv, then the rope table, then the norms of heads as for rope_kv -> rotated q, rotated k, v,
//! cache_k, cache_v.
//! Numerics: those of its parts.
//! Source: fusion of `linear_qkv` and `rope_kv`.

use super::linear_qkv::{self, Weighted};
use super::rope_kv::Norms;
use super::{Cost, Sizes, Types, rope_kv};
use crate::graph::ValueType;

/// Attributes: those of rope_kv.
pub type Attrs = rope_kv::Attrs;

/// Where the rope table stands among `n` operands.
pub fn table_at(a: &Attrs, n: usize) -> usize {
    n.saturating_sub(if a.norm_eps.is_some() { 3 } else { 1 })
}

/// Operands: x, wq, wk, wv, none or all of bq, bk, bv, table, none or both norms. Results: q, k, v, cache_k, cache_v.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    let (product, rest) = args.split_at(table_at(a, args.len()));
    let mut qkv = linear_qkv::infer(&linear_qkv::Attrs, product)?;
    let v = qkv[2].clone();
    qkv.extend(rest.iter().cloned());
    let mut types = rope_kv::infer(a, &qkv)?;
    types.insert(2, v);
    Ok(types)
}

/// The sum of its parts; q, k and v are written once.
pub fn cost(a: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let (qkv, caches) = outs.split_at(3);
    let (product, rest) = args.split_at(table_at(a, args.len()));
    let product = linear_qkv::cost(&linear_qkv::Attrs, product, qkv, n);
    let rope_args = [qkv, rest].concat();
    let rope = rope_kv::cost(a, &rope_args, &[&qkv[..2], caches].concat(), n);
    Cost { ops: product.ops + rope.ops, weight_bytes: product.weight_bytes + rope.weight_bytes, data_bytes: product.data_bytes + rope.data_bytes / 2 }
}

/// The oracle, for one row: [`linear_qkv::reference`] into q, k and v, then [`rope_kv::reference`].
pub fn reference(
    a: &Attrs,
    weights: [Weighted<'_>; 3],
    x: &[u8],
    n: usize,
    (table, norms): (&[f32], Norms<'_>),
    [q, k, v]: [&mut [f32]; 3],
    cells: [&mut [u8]; 2],
) {
    linear_qkv::reference(weights, x, n, [&mut *q, &mut *k, &mut *v]);
    rope_kv::reference(a, (q, k, v), table, norms, cells);
}
