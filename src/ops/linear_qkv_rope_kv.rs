//! linear_qkv_rope_kv: the products for Q, K and V, rope of Q and K behind them, K and V into the cache.
//!
//! Shape: as linear_qkv with the rope table as last operand -> rotated q, rotated k, v, cache_k, cache_v.
//! Numerics: those of its parts.
//! Source: fusion of `linear_qkv` and `rope_kv`.

use super::linear_qkv::{self, Weighted};
use super::{Cost, Sizes, Types, rope_kv};
use crate::graph::ValueType;

/// Attributes: those of rope_kv.
pub type Attrs = rope_kv::Attrs;

/// Operands: x, wq, wk, wv, none or all of bq, bk, bv, table. Results: q, k, v, cache_k, cache_v.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    let Some((table, product)) = args.split_last() else { return Err("takes 5 or 8 operands".into()) };
    let mut qkv = linear_qkv::infer(&linear_qkv::Attrs, product)?;
    let v = qkv[2].clone();
    qkv.push(table.clone());
    let mut types = rope_kv::infer(a, &qkv)?;
    types.insert(2, v);
    Ok(types)
}

/// The sum of its parts; q, k and v are written once.
pub fn cost(a: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let (qkv, caches) = outs.split_at(3);
    let product = linear_qkv::cost(&linear_qkv::Attrs, &args[..args.len() - 1], qkv, n);
    let rope_args = [qkv[0].clone(), qkv[1].clone(), qkv[2].clone(), args[args.len() - 1].clone()];
    let rope = rope_kv::cost(a, &rope_args, &[&qkv[..2], caches].concat(), n);
    Cost { ops: product.ops + rope.ops, weight_bytes: product.weight_bytes, data_bytes: product.data_bytes + rope.data_bytes / 2 }
}

/// The oracle, for one row: [`linear_qkv::reference`] into q, k and v, then [`rope_kv::reference`].
pub fn reference(
    a: &Attrs,
    weights: [Weighted<'_>; 3],
    x: &[u8],
    n: usize,
    table: &[f32],
    qkv: [&mut [f32]; 3],
    cells: [&mut [u8]; 2],
) {
    let ([q, k, v], [k_cells, v_cells]) = (qkv, cells);
    linear_qkv::reference(weights, x, n, [&mut *q, &mut *k, &mut *v]);
    rope_kv::reference(a, (q, k, v), table, k_cells, v_cells);
}
