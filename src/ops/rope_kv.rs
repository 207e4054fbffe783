//! rope_kv: norms of the heads of Q and K if there are any, rope of both, then K and V into the cache.
//!
//! Shape: q, k, v F32 `[T, heads * head_dim]`, table F32 `[T, n_rot]`, none or two norm weights F32 `[head_dim]` ->
//! rotated q, rotated k, cache_k, cache_v.
//! Numerics: those of its parts.
//! Source: fusion of two `rms_norm` (or none), two `rope` and `kv_append`.

use super::{Cost, Sizes, Types, kv_append, rms_norm, rope, traffic};
use crate::graph::ValueType;

/// Attributes of the parts.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// Of both ropes.
    pub rope: rope::Attrs,
    /// Of the store.
    pub kv: kv_append::Attrs,
    /// Epsilon of the heads' norms; none if there are no norms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f32>,
}

/// Norm weights of q and of k.
pub type Norms<'a> = Option<[&'a [f32]; 2]>;

/// Operands: q, k, v, table, none or both norm weights. Results: rotated q, rotated k, cache_k, cache_v.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    match (args.len(), a.norm_eps) {
        (4, None) => {}
        (6, Some(eps)) => {
            for (x, w) in args[..2].iter().zip(&args[4..]) {
                rms_norm::infer(&rms_norm::Attrs { eps }, &[x.clone(), w.clone()])?;
                if w.cols() != a.rope.head_dim {
                    return Err(format!("the norm of heads of {} cannot be {w}", a.rope.head_dim));
                }
            }
        }
        (n, eps) => return Err(format!("{n} operands with norm_eps {eps:?}")),
    }
    rope::check(&a.rope, "q", &args[0], &args[3])?;
    rope::check(&a.rope, "k", &args[1], &args[3])?;
    let caches = kv_append::infer(&a.kv, &args[1..3])?;
    Ok([args[0].clone(), args[1].clone()].into_iter().chain(caches).collect())
}

/// The sum of its parts.
pub fn cost(a: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let kv = kv_append::cost(&a.kv, &args[1..3], &[], n);
    Cost {
        ops: (3 + 4 * u64::from(a.norm_eps.is_some())) * (n.elems(&args[0]) + n.elems(&args[1])) + kv.ops,
        weight_bytes: args[4..].iter().map(|w| n.bytes(w)).sum(),
        data_bytes: traffic(&args[..4], &outs[..2], n) + kv.data_bytes,
    }
}

/// The oracle, for one row: q and k are normed and rotated in place, then `k_cells` and `v_cells` get the bytes of each key and
/// value head, side by side.
pub fn reference(
    a: &Attrs,
    qkv: (&mut [f32], &mut [f32], &[f32]),
    table: &[f32],
    norms: Norms<'_>,
    [k_cells, v_cells]: [&mut [u8]; 2],
) {
    let (q, k, v) = qkv;
    for (x, w) in [&mut *q, &mut *k].into_iter().zip(norms.into_iter().flatten()) {
        for head in x.chunks_exact_mut(w.len().max(1)) {
            let plain = head.to_vec();
            rms_norm::reference(&plain, w, a.norm_eps.unwrap_or(0.0), head);
        }
    }
    rope::reference(&a.rope, q, table);
    rope::reference(&a.rope, k, table);
    kv_append::reference(a.kv.type_k, k, k_cells);
    kv_append::reference(a.kv.type_v, v, v_cells);
}
