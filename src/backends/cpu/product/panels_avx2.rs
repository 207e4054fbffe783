//! Panels of weights in blocks of 32 and tiles over them, AVX2.
//!
//! A step is a block: 8 groups of 4 elements of 16 weight rows and their scales; and the same groups of 4 activation rows.
//! Lanes are weight rows. There are two kinds of panels:
//! - codes of 4 and 5 bits stay unsigned bytes. Products of a group (`vpmaddubsw`) are added up in 16-bit lanes, two to a
//!   row, which start at what the codes' bias makes too much. Only the sum of a block must fit: 16 products of at most
//!   16 * 127 do, and of 15 * 127. Without a bias fifth bits make that 31 * 127, so 8 products are added up at once.
//! - signed bytes become 16 bits, which `vpmaddwd` multiplies exactly whatever they are, elements 0 and 2 of a group and
//!   then 1 and 3.

use super::k::avx2::{transpose_4, transpose_8};
use super::nibbles::Nibbles;
use super::q8_avx2::{act_bytes, scale, scales_8};
use super::tile_parts_avx2::{ONES, PartOfTile, add_block, add_codes, add_pairs};
use super::{Rows, Tile};
use std::arch::x86_64::*;

/// Weight rows of a tile: two registers of 8.
pub(super) const TILE_ROWS: usize = 16;
/// Activation rows of a tile.
pub(super) const TILE_ACTS: usize = 4;

/// A vector of 16 rows, 4 bytes each.
pub(super) const W_VECTOR: usize = 64;
/// A step of signed bytes: 16 vectors of pairs of 16 bits, then scales.
pub(super) const W_PAIRS: usize = 17 * W_VECTOR;

/// Bytes of a step of codes: 8 vectors, scales, and minima if the type has them.
pub(super) const fn code_bytes(min: bool) -> usize {
    if min { 10 * W_VECTOR } else { 9 * W_VECTOR }
}

/// A vector of 4 activation rows, 4 bytes each. The groups come first.
pub(super) const X_VECTOR: usize = 4 * TILE_ACTS;
const X_SCALE: usize = 8 * X_VECTOR;
/// Q8_1: scaled sums.
const X_SUM: usize = X_SCALE + X_VECTOR;
/// Q8_0: -8 and -16 times the sums that meet the two 16-bit lanes of a row, and pairs of 16 bits.
const X_FIX_8: usize = X_SCALE + X_VECTOR;
const X_FIX_16: usize = X_FIX_8 + X_VECTOR;
const X_PAIRS: usize = X_FIX_16 + X_VECTOR;

/// Bytes of a step of 4 activation rows: Q8_1 or Q8_0.
pub(super) const fn act_step(min: bool) -> usize {
    let end = if min { X_SUM + X_VECTOR } else { X_PAIRS + 16 * X_VECTOR };
    end.next_multiple_of(64)
}

/// Elements 0 and 2 of groups of four signed bytes as 16 bits, and elements 1 and 3.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen(group: __m256i) -> [__m256i; 2] {
    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(group));
    [even, _mm256_srai_epi16::<8>(group)]
}

/// The registers of four rows by dwords: of each half, register j holds dword j of every row.
pub(super) type ByDwords = [__m256i; TILE_ACTS];

/// Stores dwords of four rows in vectors of 4 bytes a row, each `step` vectors behind the one before: from `at` on those of the
/// lower halves, then those of the upper ones.
///
/// # Safety
/// AVX2 is there and `at` takes so many bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn put_dwords(dwords: &ByDwords, at: *mut u8, step: usize) {
    for (j, v) in dwords.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            _mm_storeu_si128(at.add(step * j * X_VECTOR).cast(), _mm256_castsi256_si128(*v));
            let upper = at.add(step * (TILE_ACTS + j) * X_VECTOR).cast();
            _mm_storeu_si128(upper, _mm256_extracti128_si256::<1>(*v));
        }
    }
}

/// Sums of the quants that meet the two 16-bit lanes of a row, in each half: lane r is row r.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn lane_sums([a, b, c, d]: &ByDwords) -> __m256i {
    let ones = _mm256_set1_epi8(1);
    let ab = _mm256_add_epi16(_mm256_maddubs_epi16(ones, *a), _mm256_maddubs_epi16(ones, *b));
    let cd = _mm256_add_epi16(_mm256_maddubs_epi16(ones, *c), _mm256_maddubs_epi16(ones, *d));
    _mm256_add_epi16(ab, cd)
}

/// Packs up to 4 activation rows for tiles.
///
/// # Safety
/// AVX2 is there; `x` describes 1 to 4 readable rows of Q8_0 blocks, Q8_1 if `MIN`; `out` takes [`act_step`] bytes per
/// block.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_acts<const MIN: bool>(x: &Rows, out: *mut u8) {
    // Rows that are not there repeat the last one.
    let row: [usize; TILE_ACTS] = std::array::from_fn(|t| t.min(x.rows - 1) * x.row_bytes);
    for b in 0..x.n / 32 {
        // SAFETY: the caller's promise: block b of every row is read, step b written.
        unsafe {
            let (block, step) = (x.ptr.add(act_bytes(MIN) * b), out.add(b * act_step(MIN)));
            let mut q = [_mm256_setzero_si256(); TILE_ACTS];
            for (t, (q, row)) in q.iter_mut().zip(row).enumerate() {
                let block = block.add(row);
                *q = _mm256_loadu_si256(block.add(act_bytes(MIN) - 32).cast());
                let put = |at: usize, v: f32| step.add(at + 4 * t).cast::<f32>().write_unaligned(v);
                put(X_SCALE, scale(block));
                if MIN {
                    put(X_SUM, scale(block.add(2)));
                }
            }
            let q = transpose_4(q);
            put_dwords(&q, step, 1);
            if MIN {
                continue;
            }
            let (mut even, mut odd) = (q, q);
            for ((even, odd), q) in even.iter_mut().zip(&mut odd).zip(q) {
                [*even, *odd] = widen(q);
            }
            put_dwords(&even, step.add(X_PAIRS), 2);
            put_dwords(&odd, step.add(X_PAIRS + X_VECTOR), 2);
            let sums = lane_sums(&q);
            let sums = _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            for (at, factor) in [(X_FIX_8, -8), (X_FIX_16, -16)] {
                _mm_storeu_si128(step.add(at).cast(), _mm_mullo_epi16(sums, _mm_set1_epi16(factor)));
            }
        }
    }
}

/// Calls `f` for every block of `elements` of up to 16 weight rows, 8 at a time: with the rows, the block's number, and
/// where in `out` the half of its step begins that is theirs. Rows past the last one repeat it.
///
/// # Safety
/// `w` describes 1 to 16 readable rows; `out` takes `step_bytes` per block.
#[inline(always)]
pub(super) unsafe fn for_halves(
    w: &Rows,
    elements: usize,
    out: *mut u8,
    step_bytes: usize,
    f: impl Fn(&[*const u8; 8], usize, *mut u8),
) {
    for half in 0..w.rows.div_ceil(8) {
        // SAFETY: the caller's promise; the index is that of a row.
        let row = std::array::from_fn(|r| unsafe { w.ptr.add((half * 8 + r).min(w.rows - 1) * w.row_bytes) });
        for b in 0..w.n / elements {
            f(&row, b, out.wrapping_add(b * step_bytes + half * 32));
        }
    }
}

/// Stores a block of signed bytes of 8 rows, by groups, and their scales.
///
/// # Safety
/// AVX2 is there; `to` is 32-byte aligned and begins a half of a step of [`W_PAIRS`] bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn store_pairs(groups: [__m256i; 8], scales: __m256, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        for (k, group) in groups.into_iter().enumerate() {
            for (i, pair) in widen(group).into_iter().enumerate() {
                _mm256_store_si256(to.add((2 * k + i) * W_VECTOR).cast(), pair);
            }
        }
        _mm256_store_ps(to.add(16 * W_VECTOR).cast(), scales);
    }
}

/// Packs up to 16 rows of Q8_0 for tiles of pairs.
///
/// # Safety
/// AVX2 is there; `w` describes 1 to 16 readable rows of Q8_0 blocks; `out`, 64-byte aligned, takes [`W_PAIRS`] bytes
/// per block.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_q8(w: &Rows, out: *mut u8) {
    // SAFETY: the caller's promise; block b of every row is read.
    unsafe {
        for_halves(w, 32, out, W_PAIRS, |row, b, to| {
            let q = row.map(|row| _mm256_loadu_si256(row.add(34 * b + 2).cast()));
            store_pairs(transpose_8(q), scales_8(row, 34 * b), to);
        });
    }
}

/// The four bytes at `p` in every lane.
///
/// # Safety
/// AVX2 is there and 4 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn splat(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}

/// A vector of packed weights.
///
/// # Safety
/// AVX2 is there and `p` is 32-byte aligned with 64 readable bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn vector(p: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe { [_mm256_load_si256(p.cast()), _mm256_load_si256(p.add(32).cast())] }
}

/// A vector of scales.
///
/// # Safety
/// As [`vector`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn numbers(p: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe { [_mm256_load_ps(p.cast()), _mm256_load_ps(p.add(32).cast())] }
}

/// Stores the sums of a tile's rows that exist.
///
/// # Safety
/// AVX2 is there and the tile's place of sums takes them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn finish<const NT: usize>(t: &Tile, acc: [[__m256; 2]; NT]) {
    for (n, acc) in acc.into_iter().enumerate() {
        for (h, acc) in acc.into_iter().enumerate() {
            let out = t.out.ptr.wrapping_add(n * t.out.stride + 8 * h);
            // SAFETY: the caller's promise; the array is 32 bytes.
            unsafe {
                if t.rows >= 8 * (h + 1) {
                    _mm256_storeu_ps(out, acc);
                } else {
                    let mut all = [0f32; 8];
                    _mm256_storeu_ps(all.as_mut_ptr(), acc);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), out, t.rows.saturating_sub(8 * h));
                }
            }
        }
    }
}

/// A tile of signed bytes against `NT` activation rows.
///
/// # Safety
/// AVX2 is there and the tile's pointers are good for its steps, packed by the functions above.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile_pairs<const NT: usize>(t: &Tile) {
    let mut ahead = t.ahead.paced(t.steps);
    debug_assert!(t.first && t.last, "sums of blocks are never cut");
    let mut acc = [[_mm256_setzero_ps(); 2]; NT];
    let (mut w, mut x) = (t.w, t.x);
    for _ in 0..t.steps {
        ahead.step();
        // SAFETY: the caller's promise: a step of weights and one of activations are readable here. The half of
        // rows that are not there may hold anything; their sums are not stored.
        unsafe {
            add_pairs::<NT>(PartOfTile {
                w,
                x: x.add(X_PAIRS),
                fix: x,
                scale: w.add(16 * W_VECTOR),
                act: x.add(X_SCALE),
                total: (&raw mut acc).cast(),
            });
            w = w.add(W_PAIRS);
            x = x.add(act_step(false));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { finish(t, acc) }
}

/// A tile of codes against `NT` activation rows.
///
/// # Safety
/// As [`tile_pairs`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile_codes<T: Nibbles, const NT: usize>(t: &Tile) {
    let mut ahead = t.ahead.paced(t.steps);
    debug_assert!(t.first && t.last, "sums of blocks are never cut");
    const { assert!(!T::TABLE) };
    let mut acc = [[_mm256_setzero_ps(); 2]; NT];
    let (mut w, mut x) = (t.w, t.x);
    for _ in 0..t.steps {
        ahead.step();
        // SAFETY: as in `tile_pairs`.
        unsafe {
            let fix = x.add(if T::FIFTH { X_FIX_16 } else { X_FIX_8 });
            let scale = w.add(8 * W_VECTOR);
            let total = (&raw mut acc).cast();
            let mut part = PartOfTile { w, x, fix, scale, act: x.add(X_SCALE), total };
            if T::HAS_MIN && T::FIFTH {
                // Only products of half of the groups add up in 16 bits.
                let mut total = [[_mm256_setzero_si256(); 2]; NT];
                (part.scale, part.total) = (ONES.0.as_ptr().cast(), (&raw mut total).cast());
                add_codes::<NT, 4, false>(part);
                (part.w, part.x) = (w.add(4 * W_VECTOR), x.add(4 * X_VECTOR));
                add_codes::<NT, 4, false>(part);
                let wd = numbers(scale);
                for (n, (acc, total)) in acc.iter_mut().zip(total).enumerate() {
                    let xd = _mm256_castsi256_ps(splat(x.add(X_SCALE + 4 * n)));
                    for ((acc, total), wd) in acc.iter_mut().zip(total).zip(wd) {
                        *acc = _mm256_fmadd_ps(_mm256_mul_ps(wd, xd), _mm256_cvtepi32_ps(total), *acc);
                    }
                }
            } else if T::HAS_MIN {
                add_block::<NT, false>(part);
            } else {
                add_block::<NT, true>(part);
            }
            if T::HAS_MIN {
                let wm = numbers(w.add(9 * W_VECTOR));
                for (n, acc) in acc.iter_mut().enumerate() {
                    let xs = _mm256_castsi256_ps(splat(x.add(X_SUM + 4 * n)));
                    for (acc, wm) in acc.iter_mut().zip(wm) {
                        *acc = _mm256_fmadd_ps(wm, xs, *acc);
                    }
                }
            }
            w = w.add(code_bytes(T::HAS_MIN));
            x = x.add(act_step(T::HAS_MIN));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { finish(t, acc) }
}
