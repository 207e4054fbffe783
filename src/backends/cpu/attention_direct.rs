//! Attention of one row, whose queries all see the same cells: a chunk's scores and weighted values straight from the
//! cache.
//!
//! A few cells at a time are widened in registers and meet all queries there; storing cells as f32 first would take longer
//! than the products of one query, and a large part of the time of a few. What is read next, [`AHEAD`], is asked for, in
//! the order in which it lies: behind a chunk's keys its values, behind those the next chunk's keys. The order of operations
//! is that of the tiles.

use super::cells::{Cell, by_type};
use super::product::prefetch_once;
use super::simd::{LANES, Simd};
use crate::ops::attention::{CHUNK, Cells};
use std::ops::Range;

/// Elements that a cell gives at a time.
const PAIR: usize = 2 * LANES;
/// How far ahead what comes next is asked for, in bytes; 8192 makes no difference.
const AHEAD: usize = 12288;
/// Cells that are widened at a time.
const CELLS: usize = 4;
/// Pairs of vectors of each that are.
const PAIRS: usize = 2;
/// Vectors that a query needs while its scores are made: half of its trees, and sums whose elements are not all there.
const VECTORS: usize = LANES / CELLS + CELLS;

/// Whether cells of these sizes can be read so.
pub(super) fn takes(dk: usize, dv: usize) -> bool {
    dk.is_multiple_of(PAIR) && dv.is_multiple_of(PAIR)
}

/// Floats of room that [`scores`] of `queries` queries need.
pub(super) fn room(queries: usize) -> usize {
    queries * VECTORS * LANES
}

/// Some cells of a chunk, and what is read after them.
pub(super) struct Run<'a> {
    pub cells: &'a Cells<'a>,
    pub range: Range<usize>,
    pub ahead: *const u8,
}

/// Where a run starts, its bytes, what is read after them, and the elements of a cell; cells were counted once.
#[derive(Clone, Copy)]
struct Start {
    cells: *const u8,
    bytes: usize,
    ahead: *const u8,
    dim: usize,
}

impl Run<'_> {
    #[inline(always)]
    fn start<C: Cell>(&self) -> Start {
        assert!(self.range.end <= self.cells.len() && self.range.len() <= CHUNK);
        let cell = C::bytes(self.cells.dim);
        let cells = self.cells.bytes.as_ptr().wrapping_add(self.range.start * cell);
        Start { cells, bytes: self.range.len() * cell, ahead: self.ahead, dim: self.cells.dim }
    }
}

impl Start {
    /// Asks for the line [`AHEAD`] of this byte of the run.
    #[inline(always)]
    fn ask(self, at: usize) {
        let at = at + AHEAD;
        let base = if at < self.bytes { self.cells } else { self.ahead.wrapping_sub(self.bytes) };
        prefetch_once(base.wrapping_add(at));
    }

    /// Pairs `first..first + P` of the cells at these bytes of the run. As many bytes are asked for, from those on that are
    /// ahead of `from`, where the cells would start if they were neighbours.
    ///
    /// # Safety
    /// The run has cells at these bytes, and they have these elements.
    #[inline(always)]
    unsafe fn widen<S: Simd, C: Cell, const P: usize, const N: usize>(
        self,
        s: S,
        cells: [usize; N],
        from: usize,
        first: usize,
    ) -> [[[S::V; 2]; P]; N] {
        let mut wide = [[[s.zero(); 2]; P]; N];
        let pair = C::bytes(PAIR);
        let mut next = from + N * first * pair;
        for (wide, at) in wide.iter_mut().zip(cells) {
            for (c, wide) in wide.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *wide = unsafe { C::pair(s, self.cells.wrapping_add(at), first + c) };
                for line in (0..pair).step_by(64) {
                    self.ask(next + line);
                }
                next += pair;
            }
        }
        wide
    }
}

/// Does something with pairs `$first..$first + $p` of cells of `$dim` elements, for all of them; `$p` is a constant.
macro_rules! by_pairs {
    ($dim:expr, $first:ident, $p:ident => $do:expr) => {
        for $first in (0..$dim / PAIR).step_by(PAIRS) {
            if $first + PAIRS <= $dim / PAIR {
                const $p: usize = PAIRS;
                $do;
            } else {
                const $p: usize = 1;
                $do;
            }
        }
    };
}

/// Scores of the queries in `q` with the cells of a run: each query's to the front of its row of `out`, rows CHUNK apart,
/// in whole vectors. `room` holds [`room`] floats.
#[inline(always)]
pub(super) fn scores<S: Simd>(s: S, run: &Run<'_>, q: &[f32], scale: f32, room: &mut [f32], out: &mut [f32]) {
    by_type!(run.cells, scores_as(s, run, q, scale, room, out));
}

#[inline(always)]
fn scores_as<S: Simd, C: Cell>(
    s: S,
    run: &Run<'_>,
    q: &[f32],
    scale: f32,
    room: &mut [f32],
    out: &mut [f32],
) {
    let (bytes, n, dim) = (C::bytes(run.cells.dim), run.range.len(), run.cells.dim);
    let (start, scale) = (run.start::<C>(), s.splat(scale));
    let room = room.as_chunks_mut::<LANES>().0.as_chunks_mut::<VECTORS>().0;
    for at in (0..n).step_by(LANES) {
        for j in 0..LANES / CELLS {
            // Every fourth cell, as their trees meet; cells past the end repeat the last one.
            let mut cells = [0; CELLS];
            for (i, cell) in cells.iter_mut().enumerate() {
                *cell = (at + j + CELLS * i).min(n - 1) * bytes;
            }
            by_pairs!(dim, first, P => {
                // SAFETY: four cells of the run, whose cells `start` counted, and pairs that they have.
                unsafe { partials::<S, C, P>(s, start, cells, first, q, room, j) }
            });
        }
        for (room, out) in room.iter().zip(out.as_chunks_mut::<CHUNK>().0).take(q.len() / dim) {
            let [a, b, c, d, ..] = room;
            let sums = s.rest_of_trees([s.load(a), s.load(b), s.load(c), s.load(d)]);
            s.store(s.mul(sums, scale), &mut out.as_chunks_mut::<LANES>().0[at / LANES]);
        }
    }
}

/// What pairs `first..first + P` add to the 16 partial sums of each query with each of four cells; behind the last pair,
/// half of their trees as number `j`.
///
/// # Safety
/// As [`Start::widen`].
#[inline(always)]
unsafe fn partials<S: Simd, C: Cell, const P: usize>(
    s: S,
    start: Start,
    cells: [usize; CELLS],
    first: usize,
    q: &[f32],
    room: &mut [[[f32; LANES]; VECTORS]],
    j: usize,
) {
    let dim = start.dim;
    // Runs of four neighbours, in their order, are as many as these.
    let from = cells[0] + (CELLS - 1) * j * C::bytes(dim);
    // SAFETY: the caller's promise.
    let k = unsafe { start.widen::<S, C, P, CELLS>(s, cells, from, first) };
    for (q, room) in q.chunks_exact(dim).zip(room) {
        let (trees, sums) = room.split_at_mut(LANES / CELLS);
        let mut acc = [s.zero(); CELLS];
        if first > 0 {
            for (acc, sum) in acc.iter_mut().zip(&*sums) {
                *acc = s.load(sum);
            }
        }
        let q = &q.as_chunks::<PAIR>().0[first..first + P];
        for (c, q) in q.iter().enumerate() {
            for (h, q) in q.as_chunks::<LANES>().0.iter().enumerate() {
                let q = s.load(q);
                for (acc, k) in acc.iter_mut().zip(&k) {
                    *acc = s.fma(q, k[c][h], *acc);
                }
            }
        }
        if first + P == dim / PAIR {
            s.store(s.half_trees(acc), &mut trees[j]);
        } else {
            for (acc, sum) in acc.iter().zip(sums) {
                s.store(*acc, sum);
            }
        }
    }
}

/// For each query the cells of a run, weighted by its row of `p` and added up from +0: to its row of `out`. Rows of `p` are
/// CHUNK apart, those of `out` have the elements of a cell.
#[inline(always)]
pub(super) fn weigh<S: Simd>(s: S, run: &Run<'_>, p: &[f32], out: &mut [f32]) {
    by_type!(run.cells, weigh_as(s, run, p, out));
}

#[inline(always)]
fn weigh_as<S: Simd, C: Cell>(s: S, run: &Run<'_>, p: &[f32], out: &mut [f32]) {
    let (start, n, dim) = (run.start::<C>(), run.range.len(), run.cells.dim);
    out.fill(0.0);
    let whole = n / CELLS * CELLS;
    for cell in (0..whole).step_by(CELLS) {
        by_pairs!(dim, first, P => {
            // SAFETY: cells of the run, whose cells `start` counted, and pairs that they have.
            unsafe { weigh_some::<S, C, P, CELLS>(s, start, cell, first, p, out) }
        });
    }
    for cell in whole..n {
        by_pairs!(dim, first, P => {
            // SAFETY: as above.
            unsafe { weigh_some::<S, C, P, 1>(s, start, cell, first, p, out) }
        });
    }
}

/// Adds N cells `cell..`, weighted, to pairs `first..first + P` of each query's sums.
///
/// # Safety
/// The run has these cells, and they have these pairs.
#[inline(always)]
unsafe fn weigh_some<S: Simd, C: Cell, const P: usize, const N: usize>(
    s: S,
    start: Start,
    cell: usize,
    first: usize,
    p: &[f32],
    out: &mut [f32],
) {
    let dim = start.dim;
    let mut cells = [0; N];
    for (i, at) in cells.iter_mut().enumerate() {
        *at = (cell + i) * C::bytes(dim);
    }
    // SAFETY: the caller's promise.
    let v = unsafe { start.widen::<S, C, P, N>(s, cells, cells[0], first) };
    for (p, out) in p.as_chunks::<CHUNK>().0.iter().zip(out.chunks_exact_mut(dim)) {
        let p = &p[cell..cell + N];
        let out = &mut out.as_chunks_mut::<PAIR>().0[first..first + P];
        let mut acc = [[s.zero(); 2]; P];
        for (acc, out) in acc.as_flattened_mut().iter_mut().zip(out.as_flattened().as_chunks::<LANES>().0) {
            *acc = s.load(out);
        }
        for (p, v) in p.iter().zip(&v) {
            let p = s.splat(*p);
            for (acc, v) in acc.as_flattened_mut().iter_mut().zip(v.as_flattened()) {
                *acc = s.fma(p, *v, *acc);
            }
        }
        for (acc, out) in acc.as_flattened().iter().zip(out.as_flattened_mut().as_chunks_mut::<LANES>().0) {
            s.store(*acc, out);
        }
    }
}
