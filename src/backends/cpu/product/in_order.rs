//! The direct path for one activation row where weights come fastest as one stream: byte after byte, row after row.
//!
//! Lanes are not rows but successive blocks, whichever rows they belong to. What a block brings to its row, factors and
//! exact sums, waits in [`Terms`] until some rows are complete; then lanes become rows, and each row's terms are added in
//! the order in which all leaves add them.

use super::k::avx2::transpose_8;
use super::streams::one_stream;
use super::{Rows, Sums, prefetch_once};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, compiler_fence};

/// Blocks of a step.
pub(super) const STEP: usize = 16;
/// Most blocks whose terms wait.
const CELLS: usize = 3072;
/// Rows that are added up together.
const LANES: usize = 8;

/// How far ahead weights in blocks of 32 are asked for. One thread alone is 4 % slower with 6144 or 16384.
pub(super) const AHEAD_32: usize = 10240;
/// How far ahead weights in blocks of 256 are asked for. One thread alone is 5 % slower with 8192.
pub(super) const AHEAD_256: usize = 12288;

/// Asks for the lines of some bytes, not all of which need to be readable.
///
/// To be called between loads, each time for as many bytes as they read: where all that a step reads was asked for at once,
/// one thread alone was 5 % slower.
#[inline(always)]
pub(super) fn ask(p: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(64) {
        prefetch_once(p.wrapping_add(at));
    }
}

/// Keeps the compiler from gathering what is asked for before all loads.
#[inline(always)]
pub(super) fn in_turn() {
    compiler_fence(Ordering::SeqCst);
}

/// Terms of one kind, in whole lines.
type Kind = [f32; CELLS + 2 * LANES];

/// Terms of blocks: a row's sum is that of `d * s + dmin * smin`.
#[repr(C, align(64))]
pub(super) struct Terms {
    d: Kind,
    s: Kind,
    dmin: Kind,
    smin: Kind,
}

/// Where a step leaves its terms: places for [`STEP`] of each kind.
pub(super) struct Places {
    pub d: *mut f32,
    pub s: *mut f32,
    pub dmin: *mut f32,
    pub smin: *mut f32,
}

/// Rows in flight: a register of lanes, or as many as there is room for. Of twice as many, terms would take the first level
/// of the cache from the weights that were asked for.
fn flight(rows: usize, blocks: usize) -> usize {
    (CELLS / blocks.max(1)).min(LANES).min(rows)
}

/// Whether these weights, `blocks` blocks of `size` bytes a row, are to be taken so: there is one activation row, rows follow
/// each other without gaps, there are blocks for a step and room for the terms of a row, and it is the fastest way on this
/// machine.
pub(super) fn pays(w: &Rows, x: &Rows, blocks: usize, size: usize) -> bool {
    let fits = w.row_bytes == blocks * size && flight(w.rows, blocks) * blocks >= STEP;
    x.rows == 1 && fits && one_stream()
}

/// Sums of all weight rows, each of `blocks` blocks of `size` bytes, against one activation row. `step` gets the first of
/// [`STEP`] successive blocks, the index that it has in its row, and the places of their terms.
///
/// # Safety
/// AVX2 is there, [`pays`] agreed, `out` has room for a sum of every row, and `step`
/// writes all terms of its blocks; those of minima only if `MIN`.
#[inline(always)]
pub(super) unsafe fn sums<const MIN: bool>(
    w: &Rows,
    blocks: usize,
    size: usize,
    out: Sums,
    step: impl Fn(*const u8, usize, &Places),
) {
    let mut terms = MaybeUninit::<Terms>::uninit();
    let terms = terms.as_mut_ptr();
    let flight = flight(w.rows, blocks);
    let cells = flight * blocks;
    for first in (0..w.rows).step_by(flight) {
        // The last flight makes some rows again, so that all are of one size.
        let first = first.min(w.rows - flight);
        // SAFETY: `first + flight` rows are there, of `cells` blocks in all, at most CELLS and at least STEP: the last step
        // starts early enough to end with them. Behind the terms there is room for LANES more.
        unsafe {
            let base = w.ptr.add(first * w.row_bytes);
            let places = |at: usize| Places {
                d: (&raw mut (*terms).d).cast::<f32>().add(at),
                s: (&raw mut (*terms).s).cast::<f32>().add(at),
                dmin: (&raw mut (*terms).dmin).cast::<f32>().add(at),
                smin: (&raw mut (*terms).smin).cast::<f32>().add(at),
            };
            let mut index = 0;
            for at in (0..cells).step_by(STEP) {
                if at + STEP <= cells {
                    step(base.add(at * size), index, &places(at));
                } else {
                    let at = cells - STEP;
                    step(base.add(at * size), at % blocks, &places(at));
                }
                index += STEP;
                while index >= blocks {
                    index -= blocks;
                }
            }
            let end = places(cells);
            for end in [end.d, end.s, end.dmin, end.smin].into_iter().take(if MIN { 4 } else { 2 }) {
                _mm256_storeu_ps(end, _mm256_setzero_ps());
            }
            let sums = add::<MIN>(&places(0), blocks, flight);
            let mut all = [0f32; LANES];
            _mm256_storeu_ps(all.as_mut_ptr(), sums);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out.ptr.add(first), flight);
        }
    }
}

/// The sums of up to [`LANES`] rows, from the terms of `there` rows.
///
/// # Safety
/// AVX2 is there; `from` points to the terms of the first row, and [`LANES`] more than those of the rows are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add<const MIN: bool>(from: &Places, blocks: usize, there: usize) -> __m256 {
    let mut acc = _mm256_setzero_ps();
    for b in (0..blocks).step_by(LANES) {
        // SAFETY: the caller's promise; rows that are not there repeat the last one.
        let columns = |from: *const f32| unsafe {
            let row = |r: usize| _mm256_loadu_si256(from.add(r.min(there - 1) * blocks + b).cast());
            transpose_8(std::array::from_fn(row)).map(|v| _mm256_castsi256_ps(v))
        };
        let (d, s) = (columns(from.d), columns(from.s));
        let (dmin, smin) = if MIN { (columns(from.dmin), columns(from.smin)) } else { (d, s) };
        let mut add = |k: usize| {
            acc = _mm256_fmadd_ps(d[k], s[k], acc);
            if MIN {
                acc = _mm256_fmadd_ps(dmin[k], smin[k], acc);
            }
        };
        // So that whole columns stay in registers.
        match blocks - b {
            LANES.. => (0..LANES).for_each(add),
            some => (0..some).for_each(&mut add),
        }
    }
    acc
}
