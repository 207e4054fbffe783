//! Attention of one query: a chunk's scores and weighted values straight from the cache.
//!
//! Where no other query shares the cells, each is read once, widened in registers and used there; storing them as f32
//! first would take longer than all the products. What comes next is asked for meanwhile: a chunk's values while its keys
//! are read, the next chunk's keys while its values are. The order of operations is that of the tiles.

use super::cells::{Cell, by_type};
use super::product::prefetch;
use super::simd::{LANES, Simd};
use crate::ops::attention::{CHUNK, Cells};
use std::ops::Range;

/// Elements that a cell gives at a time.
const PAIR: usize = 2 * LANES;

/// Whether cells of these sizes can be read so.
pub(super) fn takes(dk: usize, dv: usize) -> bool {
    dk.is_multiple_of(PAIR) && dv.is_multiple_of(PAIR)
}

/// Some cells of a chunk, and what to ask for while they are read: as many bytes from there on.
pub(super) struct Run<'a> {
    pub cells: &'a Cells<'a>,
    pub range: Range<usize>,
    pub ahead: *const u8,
}

impl Run<'_> {
    /// Asks for what lies as far behind `ahead` as bytes `from..to` of the run behind its start.
    #[inline(always)]
    fn ask(&self, from: usize, to: usize) {
        for at in (from.next_multiple_of(64)..to).step_by(64) {
            prefetch(self.ahead.wrapping_add(at));
        }
    }
    /// The first byte of the run, of cells of `bytes`.
    #[inline(always)]
    fn start(&self, bytes: usize) -> *const u8 {
        assert!(self.range.end <= self.cells.len() && self.range.len() <= CHUNK);
        self.cells.bytes.as_ptr().wrapping_add(self.range.start * bytes)
    }
}

/// Scores of a query with the cells of a run: to the front of `out`, in whole vectors.
#[inline(always)]
pub(super) fn scores<S: Simd>(s: S, run: &Run<'_>, q: &[f32], scale: f32, out: &mut [f32]) {
    by_type!(run.cells, scores_as(s, run, q, scale, out));
}

#[inline(always)]
fn scores_as<S: Simd, C: Cell>(s: S, run: &Run<'_>, q: &[f32], scale: f32, out: &mut [f32]) {
    let (bytes, n) = (C::bytes(run.cells.dim), run.range.len());
    let (start, q) = (run.start(bytes), q[..run.cells.dim].as_chunks::<PAIR>().0);
    let scale = s.splat(scale);
    for (b, out) in out.as_chunks_mut::<LANES>().0[..n.div_ceil(LANES)].iter_mut().enumerate() {
        let at = b * LANES;
        run.ask(at * bytes, (at + LANES).min(n) * bytes);
        // Cells past the end repeat the last one.
        let cell = |i: usize| start.wrapping_add((at + i).min(n - 1) * bytes);
        let mut sums = [s.zero(); LANES];
        // With 16 registers, four cells at a time; with 32, all of them.
        let step = if S::WIDE { LANES } else { 4 };
        for first in (0..LANES).step_by(step) {
            let mut acc = [s.zero(); LANES];
            for (c, q) in q.iter().enumerate() {
                let q = q.as_chunks::<LANES>().0;
                let q = [s.load(&q[0]), s.load(&q[1])];
                for (i, acc) in acc[..step].iter_mut().enumerate() {
                    // SAFETY: a cell of the run, which lies in the cells, and elements that it has.
                    let k = unsafe { C::pair(s, cell(first + i), c) };
                    *acc = s.fma(q[1], k[1], s.fma(q[0], k[0], *acc));
                }
            }
            sums[first..first + step].copy_from_slice(&acc[..step]);
        }
        s.store(s.mul(s.trees(&sums), scale), out);
    }
}

/// The cells of a run, each weighted by its `p`, added up from +0: to `out`, whole vectors.
#[inline(always)]
pub(super) fn weigh<S: Simd>(s: S, run: &Run<'_>, p: &[f32], out: &mut [f32]) {
    by_type!(run.cells, weigh_as(s, run, p, out));
}

#[inline(always)]
fn weigh_as<S: Simd, C: Cell>(s: S, run: &Run<'_>, p: &[f32], out: &mut [f32]) {
    // Sums that registers hold: with 16, half of them.
    let most = if S::WIDE { 4 } else { 2 };
    let mut first = 0;
    for out in out[..run.cells.dim].chunks_mut(most * PAIR) {
        let out = out.as_chunks_mut::<PAIR>().0;
        match out.len() {
            1 => weigh_pairs::<S, C, 1>(s, run, p, first, out),
            2 => weigh_pairs::<S, C, 2>(s, run, p, first, out),
            3 => weigh_pairs::<S, C, 3>(s, run, p, first, out),
            _ => weigh_pairs::<S, C, 4>(s, run, p, first, out),
        }
        first += most;
    }
}

/// Pairs of vectors `first..first + N` of the weighted sum.
#[inline(always)]
fn weigh_pairs<S: Simd, C: Cell, const N: usize>(
    s: S,
    run: &Run<'_>,
    p: &[f32],
    first: usize,
    out: &mut [[f32; PAIR]],
) {
    let (bytes, n) = (C::bytes(run.cells.dim), run.range.len());
    let start = run.start(bytes);
    let mut acc = [[s.zero(); 2]; N];
    for (i, p) in p[..n].iter().enumerate() {
        if first == 0 {
            run.ask(i * bytes, (i + 1) * bytes);
        }
        let p = s.splat(*p);
        for (c, acc) in acc.iter_mut().enumerate() {
            // SAFETY: a cell of the run, which lies in the cells, and elements that it has.
            let v = unsafe { C::pair(s, start.wrapping_add(i * bytes), first + c) };
            for (acc, v) in acc.iter_mut().zip(v) {
                *acc = s.fma(p, v, *acc);
            }
        }
    }
    for (out, acc) in out.iter_mut().zip(acc) {
        for (out, acc) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(acc) {
            s.store(acc, out);
        }
    }
}
