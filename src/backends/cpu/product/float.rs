//! Leaves for F32, F16 and BF16 weights against f32 activations, generic over the lanes.
//!
//! For few activation rows lanes run along k, as the 16 partial sums demand. For many, a packed step holds one element of
//! every row of a tile, zero-padded past the row's end, so that tiles have no tails and lanes are weight rows.

use super::streams::Flight;
use super::{Rows, Sums, Tile, prefetch};
use crate::backends::cpu::simd::{LANES, Simd};
use std::mem::MaybeUninit;

/// A float weight type: how sixteen of its elements become lanes.
pub(super) trait Weight {
    /// Bytes of an element.
    const BYTES: usize;
    /// Sixteen elements from `p`.
    ///
    /// # Safety
    /// `16 * BYTES` bytes are readable at `p`, which may have any alignment.
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::V;
    /// The first `n < 16` elements from `p`, the rest +0.
    ///
    /// # Safety
    /// `n * BYTES` bytes are readable at `p`.
    #[inline(always)]
    unsafe fn load_tail<S: Simd>(s: S, p: *const u8, n: usize) -> S::V {
        let mut whole = [0u8; 64];
        // SAFETY: the caller's promise for the source; n < 16 elements of at most 4 bytes fit.
        unsafe {
            std::ptr::copy_nonoverlapping(p, whole.as_mut_ptr(), n * Self::BYTES);
            Self::load(s, whole.as_ptr())
        }
    }
}

/// f32 elements: F32 weights, and activations.
pub(super) struct F32;
/// f16 elements.
pub(super) struct F16;
/// bf16 elements.
pub(super) struct Bf16;

impl Weight for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::V {
        // SAFETY: the caller's promise.
        s.load(&unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }
}

impl Weight for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::V {
        // SAFETY: the caller's promise.
        s.load_f16(&unsafe { p.cast::<[u16; LANES]>().read_unaligned() })
    }
}

impl Weight for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8) -> S::V {
        // SAFETY: the caller's promise.
        s.load_bf16(&unsafe { p.cast::<[u16; LANES]>().read_unaligned() })
    }
}

/// Sums of the `R` weight rows of a flight against exactly `NT` activation rows, straight from both.
///
/// # Safety
/// `flight` and `x` describe readable rows of `W` and f32 elements of one length, `x` has `NT` rows, and `out` has room
/// for a sum of every weight row with each of them.
#[inline(always)]
pub(super) unsafe fn direct<S: Simd, W: Weight, const R: usize, const NT: usize>(
    s: S,
    flight: &Flight<R>,
    x: &Rows,
    out: Sums,
) {
    // SAFETY: the caller's promise. Row indices stay below `rows`, elements below n: whole steps end at
    // `n / 16 * 16` and the tail loads only what is left. Prefetches may point anywhere.
    unsafe {
        let xp: [*const u8; NT] = std::array::from_fn(|t| x.ptr.add(t * x.row_bytes));
        let (whole, tail) = (x.n / LANES, x.n % LANES);
        let mut acc = [[s.zero(); R]; NT];
        for step in 0..whole {
            let at = step * LANES * W::BYTES;
            let mut xv = [s.zero(); NT];
            for (xv, p) in xv.iter_mut().zip(xp) {
                *xv = F32::load(s, p.add(step * LANES * 4));
            }
            for (r, p) in flight.row.into_iter().enumerate() {
                // Once in a line of the cache.
                if W::BYTES == 4 || step % 2 == 0 {
                    flight.ask(r, at);
                }
                let wv = W::load(s, p.add(at));
                for (acc, xv) in acc.iter_mut().zip(xv) {
                    acc[r] = s.fma(wv, xv, acc[r]);
                }
            }
        }
        if tail > 0 {
            for (r, p) in flight.row.into_iter().enumerate() {
                let wv = W::load_tail(s, p.add(whole * LANES * W::BYTES), tail);
                for (acc, p) in acc.iter_mut().zip(xp) {
                    let xv = F32::load_tail(s, p.add(whole * LANES * 4), tail);
                    acc[r] = s.fma(wv, xv, acc[r]);
                }
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            flight.store(&finish(s, acc), out.ptr.add(t * out.stride));
        }
    }
}

/// The sums of some weight rows.
#[inline(always)]
fn finish<S: Simd, const R: usize>(s: S, acc: &[S::V; R]) -> [f32; R] {
    let mut sums = [0f32; R];
    let (fours, rest) = sums.as_chunks_mut::<4>();
    let (acc_fours, acc_rest) = acc.as_chunks::<4>();
    for (sums, acc) in fours.iter_mut().zip(acc_fours) {
        *sums = s.tree4(*acc);
    }
    for (sum, acc) in rest.iter_mut().zip(acc_rest) {
        *sum = s.tree(*acc);
    }
    sums
}

/// The partials in the order in which a tile makes them: the leaves of the tree, from left to right.
const LEAVES: [usize; LANES] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Packs up to `N` rows: `[partial][step][N]` f32, the partials in the order of [`LEAVES`], zeros past the rows' ends and
/// for rows that are not there.
///
/// # Safety
/// `rows` describes readable rows of `W` elements; `out`, aligned for f32, has room.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd, W: Weight, const N: usize>(s: S, rows: &Rows, out: *mut u8) {
    let (whole, tail) = (rows.n / LANES, rows.n % LANES);
    let steps = rows.n.div_ceil(LANES);
    for first in (0..N).step_by(LANES) {
        let lanes = LANES.min(N - first);
        let there = rows.rows.saturating_sub(first).min(lanes);
        for step in 0..steps {
            let mut block = [s.zero(); LANES];
            // SAFETY: the rows that are there, and of each sixteen elements from here, or the tail.
            unsafe {
                let from = rows.ptr.add(first * rows.row_bytes + step * LANES * W::BYTES);
                if there == LANES && step < whole {
                    for (r, v) in block.iter_mut().enumerate() {
                        *v = W::load(s, from.add(r * rows.row_bytes));
                    }
                } else {
                    for (r, v) in block.iter_mut().enumerate().take(there) {
                        let from = from.add(r * rows.row_bytes);
                        *v = if step < whole { W::load(s, from) } else { W::load_tail(s, from, tail) };
                    }
                }
            }
            let columns = s.transpose(&block);
            for (at, partial) in LEAVES.into_iter().enumerate() {
                // SAFETY: the step's place for this partial: `lanes` of its N elements from `first`.
                let to = unsafe {
                    let place = out.cast::<f32>().add((at * steps + step) * N + first);
                    std::slice::from_raw_parts_mut(place, lanes)
                };
                s.store_upto(columns[partial], to);
            }
        }
    }
}

/// Adds the products of a step to the sums of a tile.
#[inline(always)]
fn step<S: Simd, const M: usize, const NR: usize, const NT: usize>(
    s: S,
    acc: &mut [[S::V; M]; NT],
    w: &[[f32; LANES]; M],
    x: &[f32; NR],
) {
    let mut wv = [s.zero(); M];
    for (wv, w) in wv.iter_mut().zip(w) {
        *wv = s.load(w);
    }
    for (acc, x) in acc.iter_mut().zip(x) {
        let xv = s.splat(*x);
        for (acc, wv) in acc.iter_mut().zip(wv) {
            *acc = s.fma(wv, xv, *acc);
        }
    }
}

/// A tile of `M` times 16 weight rows against the first `NT` of `NR` activation rows.
///
/// Lanes are weight rows, so the sixteen partials are sixteen products of their own, one after the other. Finished ones
/// wait for their neighbour in the tree as the digits of a counter do.
///
/// # Safety
/// The tile's pointers are good for its steps, packed by [`pack`] for 16 M and NR rows.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const M: usize, const NR: usize, const NT: usize>(s: S, t: &Tile) {
    // SAFETY: the caller's promise: sixteen times `steps` packed steps of each side, and room for the sums.
    unsafe {
        let (mut w, mut x) = (t.w.cast::<[[f32; LANES]; M]>(), t.x.cast::<[f32; NR]>());
        let (mut ahead, ahead_step) = (t.ahead.ptr, t.ahead.bytes.div_ceil((LANES * (t.steps / 2)).max(1)));
        let mut waiting = [const { MaybeUninit::<[[S::V; M]; NT]>::uninit() }; 4];
        for partial in 0..LANES {
            let mut acc = [[s.zero(); M]; NT];
            // Two steps a turn: counting takes the core's time as well.
            for _ in 0..t.steps / 2 {
                prefetch(ahead);
                ahead = ahead.wrapping_add(ahead_step);
                step(s, &mut acc, &*w, &*x);
                step(s, &mut acc, &*w.add(1), &*x.add(1));
                (w, x) = (w.add(2), x.add(2));
            }
            if t.steps % 2 == 1 {
                step(s, &mut acc, &*w, &*x);
                (w, x) = (w.add(1), x.add(1));
            }
            let carries = partial.trailing_ones() as usize;
            for left in &waiting[..carries.min(4)] {
                // The digits below a carry have been set since the last one.
                for (acc, left) in
                    acc.as_flattened_mut().iter_mut().zip(left.assume_init_ref().as_flattened())
                {
                    *acc = s.add(*left, *acc);
                }
            }
            if let Some(digit) = waiting.get_mut(carries) {
                let digit = digit.as_mut_ptr().cast::<S::V>();
                for (i, acc) in acc.as_flattened().iter().enumerate() {
                    digit.add(i).write(*acc);
                }
                continue;
            }
            for (n, acc) in acc.into_iter().enumerate() {
                for (i, acc) in acc.into_iter().enumerate() {
                    let valid = t.rows.saturating_sub(i * LANES).min(LANES);
                    let out = t.out.ptr.wrapping_add(n * t.out.stride + i * LANES);
                    s.store_upto(acc, std::slice::from_raw_parts_mut(out, valid));
                }
            }
        }
    }
}
