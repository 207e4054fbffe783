//! Leaves for F32, F16 and BF16 weights against f32 activations, generic over the lanes.
//!
//! Lanes run along k, as the 16 partial sums demand. A packed step holds 16 elements of every row of a tile,
//! zero-padded past the row's end, so tiles have no tails.

use super::streams::{AHEAD, Flight};
use super::{Rows, Sums, Tile, prefetch};
use crate::backends::cpu::simd::{LANES, Simd};

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
                    prefetch(p.wrapping_add(at + AHEAD));
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

/// Finishes the sums of neighbouring weight rows and stores the first `valid`.
///
/// # Safety
/// `out` takes `valid` values.
#[inline(always)]
unsafe fn store_sums<S: Simd, const R: usize>(s: S, acc: &[S::V; R], out: *mut f32, valid: usize) {
    let sums = finish(s, acc);
    // SAFETY: the caller's promise; no more than R values.
    unsafe {
        if valid >= R {
            out.cast::<[f32; R]>().write_unaligned(sums);
        } else {
            std::ptr::copy_nonoverlapping(sums.as_ptr(), out, valid);
        }
    }
}

/// Packs up to `P` rows: `[steps][P][16]` f32, zeros past the rows' ends and for rows that are not there.
///
/// # Safety
/// `rows` describes readable rows of `W` elements; `out`, aligned for f32, has room.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd, W: Weight, const P: usize>(s: S, rows: &Rows, out: *mut u8) {
    let (whole, tail) = (rows.n / LANES, rows.n % LANES);
    let steps = rows.n.div_ceil(LANES);
    for r in 0..P {
        // SAFETY: the caller's promise: `steps * P` vectors, this row's at every P-th place from r.
        unsafe {
            let mut to = out.cast::<[f32; LANES]>().add(r);
            if r >= rows.rows {
                for _ in 0..steps {
                    s.store(s.zero(), &mut *to);
                    to = to.wrapping_add(P);
                }
                continue;
            }
            let mut from = rows.ptr.add(r * rows.row_bytes);
            for _ in 0..whole {
                s.store(W::load(s, from), &mut *to);
                from = from.add(LANES * W::BYTES);
                to = to.wrapping_add(P);
            }
            if tail > 0 {
                s.store(W::load_tail(s, from, tail), &mut *to);
            }
        }
    }
}

/// A tile of `MR` weight rows against the first `NT` of `NR` activation rows.
///
/// # Safety
/// The tile's pointers are good for its steps, packed by [`pack`].
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const MR: usize, const NR: usize, const NT: usize>(s: S, t: &Tile) {
    let cells = t.acc.cast::<[f32; LANES]>();
    // SAFETY: the caller's promise: `steps` packed steps of each side, and MR * NT vectors of unfinished sums.
    unsafe {
        let mut acc = [[s.zero(); MR]; NT];
        if !t.first {
            for (i, acc) in acc.as_flattened_mut().iter_mut().enumerate() {
                *acc = s.load(&*cells.add(i));
            }
        }
        let (mut w, mut x) = (t.w.cast::<[[f32; LANES]; MR]>(), t.x.cast::<[[f32; LANES]; NR]>());
        for _ in 0..t.steps {
            let mut wv = [s.zero(); MR];
            for (wv, w) in wv.iter_mut().zip(&*w) {
                *wv = s.load(w);
            }
            for (acc, x) in acc.iter_mut().zip(&*x) {
                let xv = s.load(x);
                for (acc, wv) in acc.iter_mut().zip(wv) {
                    *acc = s.fma(wv, xv, *acc);
                }
            }
            w = w.add(1);
            x = x.add(1);
        }
        if t.last {
            for (n, acc) in acc.iter().enumerate() {
                store_sums(s, acc, t.out.ptr.add(n * t.out.stride), t.rows);
            }
        } else {
            for (i, acc) in acc.as_flattened().iter().enumerate() {
                s.store(*acc, &mut *cells.add(i));
            }
        }
    }
}
