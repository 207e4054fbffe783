//! The inner loops of attention: scores of 16 cells at a time, weighted sums of values. [`cells`](super::cells) has widened
//! both to f32.
//!
//! Scores come in two shapes with the same bits. `scores_of_rows` keeps lane j as partial j of one cell and sums the
//! lanes of 16 cells together; it needs no preparation, which suits few queries. `scores_of_columns` reads keys
//! transposed, so that lane i is cell i and the 16 partials are 16 sums of their own: no lane is ever moved, which
//! suits many queries over the same keys.

use super::simd::{LANES, Simd};
use crate::ops::attention::CHUNK;

/// Scores of one query with 16 cells: `q` has `width` elements, `rows` is 16 cells of `width`.
#[inline(always)]
pub(super) fn scores_of_rows<S: Simd>(s: S, q: &[f32], rows: &[f32], scale: f32) -> S::V {
    let width = q.len();
    assert!(rows.len() == LANES * width);
    let q = q.as_chunks::<LANES>().0;
    let mut sums = [s.zero(); LANES];
    // With 16 registers, four cells at a time; with 32, all of them.
    let step = if S::WIDE { LANES } else { 4 };
    for first in (0..LANES).step_by(step) {
        let mut acc = [s.zero(); LANES];
        for (c, q) in q.iter().enumerate() {
            let q = s.load(q);
            for (i, acc) in acc[..step].iter_mut().enumerate() {
                // SAFETY: cell first + i is below 16 and column c below width / 16: inside rows, by the assertion.
                let k = unsafe { &*rows.as_ptr().add((first + i) * width + c * LANES).cast() };
                *acc = s.fma(q, s.load(k), *acc);
            }
        }
        sums[first..first + step].copy_from_slice(&acc[..step]);
    }
    s.mul(s.trees(&sums), s.splat(scale))
}

/// Scores of Q queries with B times 16 cells: `q` holds Q rows of `width`, `columns` the cells transposed, 16 and 16.
/// Query i's scores go to `out[i * CHUNK..]`.
#[inline(always)]
pub(super) fn scores_of_columns<S: Simd, const Q: usize, const B: usize>(
    s: S,
    q: &[f32],
    columns: &[f32],
    scale: f32,
    out: &mut [f32],
) {
    // The tree, from its leaves: few partials at a time, so that few sums are alive at once.
    let even = quarter::<S, Q, B>(s, q, columns, [0, 8, 4, 12]);
    let even = both(s, even, quarter(s, q, columns, [2, 10, 6, 14]));
    let odd = quarter::<S, Q, B>(s, q, columns, [1, 9, 5, 13]);
    let odd = both(s, odd, quarter(s, q, columns, [3, 11, 7, 15]));
    let sums = both(s, even, odd);
    let scale = s.splat(scale);
    for (b, sums) in sums.iter().enumerate() {
        for (sum, out) in sums.iter().zip(out[b * LANES..].chunks_mut(CHUNK)) {
            s.store_upto(s.mul(*sum, scale), &mut out[..LANES]);
        }
    }
}

#[inline(always)]
fn both<S: Simd, const Q: usize, const B: usize>(
    s: S,
    mut a: [[S::V; Q]; B],
    b: [[S::V; Q]; B],
) -> [[S::V; Q]; B] {
    for (a, b) in a.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
        *a = s.add(*a, *b);
    }
    a
}

/// `(a + b) + (c + d)` of the partials with these numbers.
#[inline(always)]
fn quarter<S: Simd, const Q: usize, const B: usize>(
    s: S,
    q: &[f32],
    columns: &[f32],
    [a, b, c, d]: [usize; 4],
) -> [[S::V; Q]; B] {
    // With 16 registers one partial at a time; with 32, sixteen sums.
    let [a, b, c, d] = if !S::WIDE {
        let one = |p| partials::<S, Q, B, 1>(s, q, columns, [p])[0];
        [one(a), one(b), one(c), one(d)]
    } else if B > 1 {
        let [a, b] = partials(s, q, columns, [a, b]);
        let [c, d] = partials(s, q, columns, [c, d]);
        return both(s, both(s, a, b), both(s, c, d));
    } else {
        partials(s, q, columns, [a, b, c, d])
    };
    both(s, both(s, a, b), both(s, c, d))
}

/// The partial sums with these numbers.
#[inline(always)]
fn partials<S: Simd, const Q: usize, const B: usize, const P: usize>(
    s: S,
    q: &[f32],
    columns: &[f32],
    numbers: [usize; P],
) -> [[[S::V; Q]; B]; P] {
    let width = q.len() / Q;
    assert!(q.len() == Q * width && width.is_multiple_of(LANES) && columns.len() == B * LANES * width);
    let mut acc = [[[s.zero(); Q]; B]; P];
    for d in (0..width).step_by(LANES) {
        for (acc, number) in acc.iter_mut().zip(numbers) {
            let at = d + number % LANES;
            let mut column = [s.zero(); B];
            for (b, column) in column.iter_mut().enumerate() {
                // SAFETY: at < width, as d < width, a multiple of 16: inside block b of the columns, by the assertion.
                *column = s.load(unsafe { &*columns.as_ptr().add((b * width + at) * LANES).cast() });
            }
            for i in 0..Q {
                // SAFETY: i < Q rows of width, and at < width.
                let x = s.splat(unsafe { *q.as_ptr().add(i * width + at) });
                for (acc, column) in acc.iter_mut().zip(column) {
                    acc[i] = s.fma(x, column, acc[i]);
                }
            }
        }
    }
    acc
}

/// Turns the first `n[i]` scores of query i, of Q whose rows are CHUNK apart, into `exp(score - max)`, padded with +0 to a
/// multiple of 16; returns max and sum of each. Queries go side by side, as each waits for its maximum and its sum.
#[inline(always)]
pub(super) fn softmax<S: Simd, const Q: usize>(s: S, scores: &mut [f32], n: [usize; Q]) -> [(f32, f32); Q] {
    assert!(
        scores.len() >= (Q - 1) * CHUNK + n[Q - 1].next_multiple_of(LANES) && n.iter().all(|n| *n <= CHUNK)
    );
    let rows = scores.as_mut_ptr();
    // SAFETY: block b of query i holds one of its first n[i] scores, so it lies in its row of CHUNK, or in the last one's
    // blocks, which are there.
    let block = |i: usize, b: usize| unsafe { &mut *rows.add(i * CHUNK + b * LANES).cast::<[f32; LANES]>() };
    // Blocks that are whole for all.
    let whole = n.iter().min().unwrap_or(&0) / LANES;
    let (lowest, mut max) = (s.splat(f32::NEG_INFINITY), [s.splat(f32::NEG_INFINITY); Q]);
    for b in 0..whole {
        for (i, max) in max.iter_mut().enumerate() {
            *max = s.max(*max, s.load(block(i, b)));
        }
    }
    let mut out = [(0.0, 0.0); Q];
    let mut shift = [s.zero(); Q];
    for i in 0..Q {
        for b in whole..n[i].div_ceil(LANES) {
            max[i] = s.max(max[i], s.first(n[i] - b * LANES, s.load(block(i, b)), lowest));
        }
        out[i].0 = s.max_lane(max[i]);
        shift[i] = s.splat(out[i].0);
    }
    let mut sum = [s.zero(); Q];
    for b in 0..whole {
        for i in 0..Q {
            let p = s.exp(s.sub(s.load(block(i, b)), shift[i]));
            sum[i] = s.add(sum[i], p);
            s.store(p, block(i, b));
        }
    }
    for i in 0..Q {
        for b in whole..n[i].div_ceil(LANES) {
            let p = s.exp(s.sub(s.load(block(i, b)), shift[i]));
            let p = s.first(n[i] - b * LANES, p, s.zero());
            sum[i] = s.add(sum[i], p);
            s.store(p, block(i, b));
        }
        out[i].1 = s.tree(sum[i]);
    }
    out
}

/// Adds `p[i] * v[i]` for cells 0..n to N vectors of outputs of Q queries: cell after cell, one fma per element.
///
/// # Safety
/// `p` points at Q rows, CHUNK apart, of n probabilities; `v` at n rows, `width` apart, and `out` at Q rows, `width`
/// apart, of 16 N elements.
#[inline(always)]
unsafe fn weigh_block<S: Simd, const Q: usize, const N: usize>(
    s: S,
    p: *const f32,
    n: usize,
    v: *const f32,
    width: usize,
    out: *mut f32,
) {
    let mut acc = [[s.zero(); N]; Q];
    for (i, acc) in acc.iter_mut().enumerate() {
        for (c, acc) in acc.iter_mut().enumerate() {
            // SAFETY: query i < Q, vector c < N.
            *acc = s.load(unsafe { &*out.add(i * width + c * LANES).cast() });
        }
    }
    for cell in 0..n {
        let mut row = [s.zero(); N];
        for (c, row) in row.iter_mut().enumerate() {
            // SAFETY: cell < n, vector c < N.
            *row = s.load(unsafe { &*v.add(cell * width + c * LANES).cast() });
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: query i < Q, cell < n.
            let p = s.splat(unsafe { *p.add(i * CHUNK + cell) });
            for (acc, row) in acc.iter_mut().zip(row) {
                *acc = s.fma(p, row, *acc);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (c, acc) in acc.iter().enumerate() {
            // SAFETY: query i < Q, vector c < N.
            s.store(*acc, unsafe { &mut *out.add(i * width + c * LANES).cast() });
        }
    }
}

/// Adds the values of n cells, weighted by probabilities, to the outputs of Q queries.
///
/// `p` starts at the first query's probability of the first cell (rows CHUNK apart), `v` at the first cell (rows
/// `width` apart, a multiple of 16), `out` at the first query's output (rows `width` apart).
#[inline(always)]
pub(super) fn weigh<S: Simd, const Q: usize>(
    s: S,
    p: &[f32],
    n: usize,
    v: &[f32],
    width: usize,
    out: &mut [f32],
) {
    if n == 0 {
        return;
    }
    assert!(p.len() >= (Q - 1) * CHUNK + n && v.len() >= n * width && out.len() >= Q * width);
    let vectors = width / LANES;
    // With 16 registers one vector (two of them) for each of four queries; with 32, four.
    let step = if S::WIDE { 4 } else { 1 };
    let mut c = 0;
    while c + step <= vectors {
        // SAFETY: columns c..c + step of rows that the assertion counted.
        unsafe {
            let (v, out) = (v.as_ptr().add(c * LANES), out.as_mut_ptr().add(c * LANES));
            if S::WIDE {
                weigh_block::<S, Q, 4>(s, p.as_ptr(), n, v, width, out);
            } else {
                weigh_block::<S, Q, 1>(s, p.as_ptr(), n, v, width, out);
            }
        }
        c += step;
    }
    while c < vectors {
        // SAFETY: column c of rows that the assertion counted.
        unsafe {
            let (v, out) = (v.as_ptr().add(c * LANES), out.as_mut_ptr().add(c * LANES));
            weigh_block::<S, Q, 1>(s, p.as_ptr(), n, v, width, out);
        }
        c += 1;
    }
}
