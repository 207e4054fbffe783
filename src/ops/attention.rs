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

use super::{Cost, Sizes, Types, arity, f32_rows, math};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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
    if a.n_head == 0 || a.n_head_kv == 0 || !a.n_head.is_multiple_of(a.n_head_kv) {
        return Err(format!("{} query heads cannot share {} key-value heads", a.n_head, a.n_head_kv));
    }
    let (q, k, v) = (&args[0], &args[1], &args[2]);
    let hd = q.cols() / a.n_head;
    if hd < 8 || !q.cols().is_multiple_of(a.n_head) || Some(k.cols()) != hd.checked_mul(a.n_head_kv) {
        return Err(format!("heads of at least 8 must fit q {q} and cache_k {k}"));
    }
    if v.cols() % a.n_head_kv != 0 || k.rows() != Dim::S || v.rows() != Dim::S {
        return Err(format!("cache_v {v} is no whole number of {} heads", a.n_head_kv));
    }
    let Some(cols) = (v.cols() / a.n_head_kv).checked_mul(a.n_head) else {
        return Err(format!("{} heads of cache_v {v} are more than a row can hold", a.n_head));
    };
    Ok(Types::from_iter([ValueType::matrix(DType::F32, q.rows(), cols)]))
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

/// The cached keys or values of one head: cell after cell, each `dim` elements of a type that caches have.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    /// Their bytes: a whole number of cells.
    pub bytes: &'a [u8],
    /// One of [`TYPES`](super::kv_append::TYPES).
    pub dtype: DType,
    /// Elements of a cell.
    pub dim: usize,
}

impl Cells<'_> {
    fn cell_bytes(&self) -> usize {
        self.dtype.row_bytes(self.dim).unwrap_or(1).max(1)
    }
    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.cell_bytes()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Decodes cell `i` into `out`.
    pub fn read(&self, i: usize, out: &mut [f32]) {
        let n = self.cell_bytes();
        if let Some(codec) = self.dtype.codec() {
            (codec.decode)(&self.bytes[i * n..(i + 1) * n], out);
        }
    }
}

/// The oracle, for one query head of one row: `keys` and `values` are the cells 0..=p that it sees, at least one.
/// `row` and `part` are room for a decoded cell (the longer of both) and for one chunk's output.
pub fn reference(
    scale: f32,
    q: &[f32],
    (keys, values): (Cells<'_>, Cells<'_>),
    out: &mut [f32],
    (row, part): (&mut [f32], &mut [f32]),
) {
    let (dk, dv) = (keys.dim, values.dim);
    let mut whole = Softmax { max: 0.0, sum: 0.0 };
    for first in (0..keys.len()).step_by(CHUNK) {
        let mut p = [0f32; CHUNK];
        let p = &mut p[..(keys.len() - first).min(CHUNK)];
        for (i, s) in p.iter_mut().enumerate() {
            keys.read(first + i, &mut row[..dk]);
            *s = math::dot16(q, &row[..dk]) * scale;
        }
        let max = p.iter().fold(f32::NEG_INFINITY, |m, s| if *s > m { *s } else { m });
        for s in p.iter_mut() {
            *s = math::exp(*s - max);
        }
        let chunk = Softmax { max, sum: math::sum16(p) };
        part[..dv].fill(0.0);
        for (i, p) in p.iter().enumerate() {
            values.read(first + i, &mut row[..dv]);
            for (o, v) in part.iter_mut().zip(&row[..dv]) {
                *o = p.mul_add(*v, *o);
            }
        }
        if first == 0 {
            whole = chunk;
            out.copy_from_slice(&part[..dv]);
        } else {
            let (a, b) = whole.merge(chunk);
            for (o, part) in out.iter_mut().zip(&part[..dv]) {
                *o = o.mul_add(a, part * b);
            }
        }
    }
    for o in out {
        *o /= whole.sum;
    }
}

/// Maximum of the scores seen so far, and the sum of `exp(score - max)`.
///
/// Which zero the maximum is when both occur depends on the order of comparisons, but no bit of a result does: the
/// maximum is only ever subtracted, `x - 0` and `x - -0` differ for zeros alone, and `exp` of both zeros is 1.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// Largest score.
    pub max: f32,
    /// Sum of the exponentials.
    pub sum: f32,
}

impl Softmax {
    /// Takes the next chunk in; returns what the outputs so far (a) and the chunk's (b) are multiplied by:
    /// `out = fma(out, a, chunk * b)`.
    #[inline(always)]
    pub fn merge(&mut self, chunk: Softmax) -> (f32, f32) {
        let max = if chunk.max > self.max { chunk.max } else { self.max };
        let (a, b) = (math::exp(self.max - max), math::exp(chunk.max - max));
        *self = Softmax { max, sum: self.sum.mul_add(a, chunk.sum * b) };
        (a, b)
    }
}

/// What the tracer shows of one row, with the meaning these names have in llama.cpp: `kq`, the scores, neither scaled
/// nor masked; `kq_soft_max`, after scale, mask and softmax; `kqv`, the weighted values, which are the row of
/// `kqv_out`. For debugging: it allocates.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// `[n_head, width]`; 0 for cells the row does not see.
    pub kq: Vec<f32>,
    /// `[n_head, width]`; 0 for cells the row does not see.
    pub kq_soft_max: Vec<f32>,
    /// `[n_head * head_dim_v]`: the bits of [`reference()`].
    pub kqv: Vec<f32>,
}

/// [`Scores`] of one row `q` of `[n_head * head_dim_k]`; `cells` gives the keys and values that a key-value head of
/// this row sees, at most `width`.
pub fn reference_scores<'a>(
    a: &Attrs,
    q: &[f32],
    width: usize,
    cells: impl Fn(u32) -> (Cells<'a>, Cells<'a>),
) -> Scores {
    let (mut kq, mut soft, mut kqv) = (Vec::new(), Vec::new(), Vec::new());
    let per_group = (a.n_head / a.n_head_kv.max(1)).max(1);
    for (head, q) in q.chunks_exact(q.len() / a.n_head.max(1) as usize).enumerate() {
        let (keys, values) = cells(head as u32 / per_group);
        let mut row = vec![0f32; keys.dim.max(values.dim)];
        let first = kq.len();
        for i in 0..keys.len() {
            keys.read(i, &mut row[..keys.dim]);
            kq.push(math::dot16(q, &row[..keys.dim]));
        }
        let scaled = kq[first..].iter().map(|s| s * a.scale);
        let max = scaled.clone().fold(f32::NEG_INFINITY, |m, s| if s > m { s } else { m });
        soft.extend(scaled.map(|s| math::exp(s - max)));
        let sum = math::sum16(&soft[first..]);
        soft[first..].iter_mut().for_each(|p| *p /= sum);
        kq.resize(first + width, 0.0);
        soft.resize(first + width, 0.0);
        let at = kqv.len();
        kqv.resize(at + values.dim, 0.0);
        let mut part = vec![0f32; values.dim];
        reference(a.scale, q, (keys, values), &mut kqv[at..], (&mut row, &mut part));
    }
    Scores { kq, kq_soft_max: soft, kqv }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(x: &[f32], dim: usize) -> Cells<'_> {
        Cells { bytes: bytemuck::cast_slice(x), dtype: DType::F32, dim }
    }

    /// Softmax attention in f64, the textbook way.
    fn plain(scale: f32, q: &[f32], k: &[f32], v: &[f32], n: usize) -> Vec<f64> {
        let d = q.len();
        let dot = |i: usize| (0..d).map(|j| f64::from(q[j]) * f64::from(k[i * d + j])).sum::<f64>();
        let s: Vec<f64> = (0..n).map(|i| dot(i) * f64::from(scale)).collect();
        let m = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let p: Vec<f64> = s.iter().map(|s| math::exp64(s - m)).collect();
        let l: f64 = p.iter().sum();
        let dv = v.len() / n;
        (0..dv).map(|j| (0..n).map(|i| p[i] * f64::from(v[i * dv + j])).sum::<f64>() / l).collect()
    }

    #[test]
    fn chunks_merge_to_the_softmax_over_all_cells() {
        for n in [1, 2, 255, 256, 257, 600] {
            let wave = |i: usize, f: f32| ((i as f32 * f) % 2.0) - 1.0;
            let q: Vec<f32> = (0..8).map(|i| wave(i, 0.71) * 2.0).collect();
            let k: Vec<f32> = (0..8 * n).map(|i| wave(i, 0.37) * (1.0 + i as f32 / (4 * n) as f32)).collect();
            let v: Vec<f32> = (0..9 * n).map(|i| wave(i, 0.13)).collect();
            let mut out = [0f32; 9];
            let kv = (cells(&k, 8), cells(&v, 9));
            reference(0.35, &q, kv, &mut out, (&mut [0f32; 9], &mut [0f32; 9]));
            for (o, want) in out.iter().zip(plain(0.35, &q, &k, &v, n)) {
                assert!((f64::from(*o) - want).abs() < 1e-6, "{n} cells: {o} {want}");
            }
        }
    }

    #[test]
    fn scores_of_a_row() {
        let a = Attrs { layer: 0, n_head: 2, n_head_kv: 1, scale: 0.5 };
        let q: Vec<f32> = (0..16).map(|i| (i % 3) as f32 - 1.0).collect();
        let k: Vec<f32> = (0..24).map(|i| (i % 5) as f32 - 2.0).collect();
        let s = reference_scores(&a, &q, 4, |_| (cells(&k, 8), cells(&k, 8)));
        assert_eq!((s.kq.len(), s.kq_soft_max.len(), s.kqv.len()), (8, 8, 16));
        assert_eq!(s.kq[0], math::dot16(&q[..8], &k[..8]));
        assert_eq!((s.kq[3], s.kq_soft_max[3], s.kq_soft_max[7]), (0.0, 0.0, 0.0));
        assert!((s.kq_soft_max[4..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let want = plain(0.5, &q[8..], &k, &k, 3);
        assert!((f64::from(s.kqv[8]) - want[0]).abs() < 1e-6);
    }

    #[test]
    fn both_zeros_give_one_maximum() {
        let merged = |zero: f32| {
            let mut s = Softmax { max: zero, sum: 2.0 };
            let f = s.merge(Softmax { max: -zero, sum: 3.0 });
            (f, s.sum)
        };
        assert_eq!(merged(0.0), merged(-0.0));
    }
}
