//! attention: causal scaled dot-product attention of every row over its own sequence's cache.
//!
//! Row t at position p of its sequence reads cells 0..=p: `softmax(q K^T * scale) V`, per head; query heads
//! `g*n..(g+1)*n` share key-value head g (n = n_head / n_head_kv).
//! Shape: q F32 `[T, n_head * head_dim_k]`, cache_k, cache_v -> F32 `[T, n_head * head_dim_v]`.
//! Numerics: cells in chunks of 256 cut at absolute positions. In a chunk: scores by the 16-partial product and
//! its tree, times scale; maximum; `p = exp(score - max)`; sum of p by 16 partials (cell mod 16) and the tree;
//! output one FMA chain over the cells per dimension. Chunks are merged in order (NUMERICS.md); one division at
//! the end. Cells past p are never read.
//! Source: Vaswani et al., 2017; Ainslie et al. (GQA), 2023; Milakov and Gimelshein, online softmax, 2018.

use super::{Cost, Sizes, Types, arity, f32_rows};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// The layer whose cache is read.
    pub layer: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads; divides n_head.
    pub n_head_kv: u32,
    /// Multiplies the scores, 1/sqrt(head_dim) as a rule.
    pub scale: f32,
}

/// Cells per chunk: part of the order of operations.
pub const CHUNK: usize = 256;

/// Operands: q, cache_k, cache_v. Results: the heads' outputs side by side.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 3..=3)?;
    f32_rows("q", &args[0])?;
    if a.n_head_kv == 0 || !a.n_head.is_multiple_of(a.n_head_kv) {
        return Err(format!("{} query heads cannot share {} key-value heads", a.n_head, a.n_head_kv));
    }
    let (q, k, v) = (&args[0], &args[1], &args[2]);
    let hd = q.cols() / a.n_head.max(1);
    if hd < 8 || q.cols() % a.n_head != 0 || k.cols() != hd * a.n_head_kv {
        return Err(format!("heads of at least 8 must fit q {q} and cache_k {k}"));
    }
    if v.cols() % a.n_head_kv != 0 || k.rows() != Dim::S || v.rows() != Dim::S {
        return Err(format!("cache_v {v} is no whole number of {} heads", a.n_head_kv));
    }
    Ok(Types::from_iter([ValueType::matrix(DType::F32, q.rows(), v.cols() / a.n_head_kv * a.n_head)]))
}

/// Two products per cell and head; the cache is read once per row.
pub fn cost(a: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    let cells = n.of(args[0].rows()) * n.of(Dim::S);
    let per_cell = u64::from(args[0].cols()) + u64::from(outs[0].cols());
    Cost {
        ops: cells * (2 * per_cell + 5 * u64::from(a.n_head)),
        weight_bytes: 0,
        data_bytes: n.bytes(&args[0]) + n.bytes(&outs[0]) + n.bytes(&args[1]) + n.bytes(&args[2]),
    }
}
