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

/// Stores dwords of four rows: those of the lower half in vectors `at`, 4 bytes a row, those of the upper half behind them,
/// with some vectors between one and the next.
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
/// AVX2 is there; `x` describes up to 4 readable rows of Q8_0 blocks, Q8_1 if `MIN`; `out` takes [`act_step`] bytes per
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

/// The instructions that multiply a vector of codes, the one with this number, with activation rows: where their four bytes
/// are, and the names of their two sums, which begin with these products, or with them and a fix, or had begun.
macro_rules! vector_of_codes {
    ($row:ident $k:literal $($at:literal $s0:ident $s1:ident)*) => {
        concat!(
            "vmovdqa {q0}, [{w} + 64 * ", $k, "]\n",
            "vmovdqa {q1}, [{w} + 64 * ", $k, " + 32]\n",
            $(
                "vpbroadcastd {a}, [{x} + 16 * ", $k, " + ", $at, "]\n",
                vector_of_codes!(@$row $at $s0 $s1),
            )*
        )
    };
    (@begin $at:literal $s0:ident $s1:ident) => {
        concat!(
            "vpmaddubsw {", stringify!($s0), "}, {q0}, {a}\n",
            "vpmaddubsw {", stringify!($s1), "}, {q1}, {a}\n",
        )
    };
    (@begin_fixed $at:literal $s0:ident $s1:ident) => {
        concat!(
            "vpbroadcastd {", stringify!($s0), "}, [{fix} + ", $at, "]\n",
            "vpmaddubsw {t}, {q1}, {a}\n",
            "vpaddw {", stringify!($s1), "}, {", stringify!($s0), "}, {t}\n",
            "vpmaddubsw {t}, {q0}, {a}\n",
            "vpaddw {", stringify!($s0), "}, {", stringify!($s0), "}, {t}\n",
        )
    };
    (@add $at:literal $s0:ident $s1:ident) => {
        concat!(
            "vpmaddubsw {t}, {q0}, {a}\n",
            "vpaddw {", stringify!($s0), "}, {", stringify!($s0), "}, {t}\n",
            "vpmaddubsw {t}, {q1}, {a}\n",
            "vpaddw {", stringify!($s1), "}, {", stringify!($s1), "}, {t}\n",
        )
    };
}

/// Four or eight vectors of codes with the activation rows whose sums are named.
macro_rules! vectors_of_codes {
    ($fixed:expr, $vectors:expr, $w:ident, $x:ident, $fix:ident, $($row:tt)*) => {
        match ($fixed, $vectors) {
            (false, 4) => vectors_of_codes!(@begin 4 $w $x $fix $($row)*),
            (true, 4) => vectors_of_codes!(@begin_fixed 4 $w $x $fix $($row)*),
            (false, _) => vectors_of_codes!(@begin 8 $w $x $fix $($row)*),
            (true, _) => vectors_of_codes!(@begin_fixed 8 $w $x $fix $($row)*),
        }
    };
    (@$begin:ident 4 $w:ident $x:ident $fix:ident $($row:tt)*) => {
        vectors_of_codes!(@$w $x $fix $($row)*; concat!(
            vector_of_codes!($begin 0 $($row)*),
            vector_of_codes!(add 1 $($row)*),
            vector_of_codes!(add 2 $($row)*),
            vector_of_codes!(add 3 $($row)*),
        ))
    };
    (@$begin:ident 8 $w:ident $x:ident $fix:ident $($row:tt)*) => {
        vectors_of_codes!(@$w $x $fix $($row)*; concat!(
            vector_of_codes!($begin 0 $($row)*),
            vector_of_codes!(add 1 $($row)*),
            vector_of_codes!(add 2 $($row)*),
            vector_of_codes!(add 3 $($row)*),
            vector_of_codes!(add 4 $($row)*),
            vector_of_codes!(add 5 $($row)*),
            vector_of_codes!(add 6 $($row)*),
            vector_of_codes!(add 7 $($row)*),
        ))
    };
    (@$w:ident $x:ident $fix:ident $($at:literal $s0:ident $s1:ident)*; $all:expr) => {
        std::arch::asm!(
            $all,
            "/* {fix} {t} */",
            w = in(reg) $w,
            x = in(reg) $x,
            fix = in(reg) $fix,
            $($s0 = out(ymm_reg) *$s0, $s1 = out(ymm_reg) *$s1,)*
            q0 = out(ymm_reg) _,
            q1 = out(ymm_reg) _,
            a = out(ymm_reg) _,
            t = out(ymm_reg) _,
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}

/// The products of `VECTORS` vectors of unsigned codes, four or eight one behind the other, with as many of signed bytes,
/// added up to two registers of weight rows for each activation row: neighbours' products are added, in 16 bits that may
/// wrap on the way. With `FIXED`, sums begin with what `fix` has for the activation rows.
///
/// These are the instructions of the innermost loop, as they are: a loop that turns for each vector takes a fourth longer,
/// and the compiler, where it unrolls, loads so much ahead that it runs out of registers. Pairs of 16 bits gain nothing.
///
/// # Safety
/// AVX2 is there; `w` is 32-byte aligned with so many vectors of weights, `x` has as many of activations, `fix` one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn sums_of_codes<const NT: usize, const VECTORS: usize, const FIXED: bool>(
    w: *const u8,
    x: *const u8,
    fix: *const u8,
) -> [[__m256i; 2]; NT] {
    const { assert!(W_VECTOR == 64 && X_VECTOR == 16 && (VECTORS == 4 || VECTORS == 8)) };
    let mut sums = [[_mm256_setzero_si256(); 2]; NT];
    // SAFETY: the caller's promise; nothing but the named registers changes.
    unsafe {
        match sums.as_mut_slice() {
            [[a0, a1]] => vectors_of_codes!(FIXED, VECTORS, w, x, fix, 0 a0 a1),
            [[a0, a1], [b0, b1]] => vectors_of_codes!(FIXED, VECTORS, w, x, fix, 0 a0 a1 4 b0 b1),
            [[a0, a1], [b0, b1], [c0, c1]] => {
                vectors_of_codes!(FIXED, VECTORS, w, x, fix, 0 a0 a1 4 b0 b1 8 c0 c1)
            }
            [[a0, a1], [b0, b1], [c0, c1], [d0, d1]] => {
                vectors_of_codes!(FIXED, VECTORS, w, x, fix, 0 a0 a1 4 b0 b1 8 c0 c1 12 d0 d1)
            }
            _ => unreachable!("a tile has up to four activation rows"),
        }
    }
    sums
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
            let mut sum = [[_mm256_setzero_si256(); 2]; NT];
            // A group a turn: counting takes the units that add as well.
            for group in 0..8 {
                for k in [2 * group, 2 * group + 1] {
                    let q = vector(w.add(k * W_VECTOR));
                    for (n, sum) in sum.iter_mut().enumerate() {
                        let a = splat(x.add(X_PAIRS + k * X_VECTOR + 4 * n));
                        for (sum, q) in sum.iter_mut().zip(q) {
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(q, a));
                        }
                    }
                }
            }
            let wd = numbers(w.add(16 * W_VECTOR));
            for (n, (acc, sum)) in acc.iter_mut().zip(sum).enumerate() {
                let xd = _mm256_castsi256_ps(splat(x.add(X_SCALE + 4 * n)));
                for ((acc, sum), wd) in acc.iter_mut().zip(sum).zip(wd) {
                    *acc = _mm256_fmadd_ps(_mm256_mul_ps(wd, xd), _mm256_cvtepi32_ps(sum), *acc);
                }
            }
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
    let ones = _mm256_set1_epi16(1);
    let mut acc = [[_mm256_setzero_ps(); 2]; NT];
    let (mut w, mut x) = (t.w, t.x);
    for _ in 0..t.steps {
        ahead.step();
        // SAFETY: as in `tile_pairs`.
        unsafe {
            // Groups whose products add up in 16 bits: all, or half of them.
            let mut total = [[_mm256_setzero_si256(); 2]; NT];
            if T::HAS_MIN && T::FIFTH {
                let halves = [0, 4].map(|k| (w.add(k * W_VECTOR), x.add(k * X_VECTOR)));
                for (w, x) in halves {
                    let sum = sums_of_codes::<NT, 4, false>(w, x, x);
                    for (total, sum) in total.as_flattened_mut().iter_mut().zip(sum.as_flattened()) {
                        *total = _mm256_add_epi32(*total, _mm256_madd_epi16(*sum, ones));
                    }
                }
            } else {
                let sum = if T::HAS_MIN {
                    sums_of_codes::<NT, 8, false>(w, x, x)
                } else {
                    sums_of_codes::<NT, 8, true>(w, x, x.add(if T::FIFTH { X_FIX_16 } else { X_FIX_8 }))
                };
                for (total, sum) in total.as_flattened_mut().iter_mut().zip(sum.as_flattened()) {
                    *total = _mm256_madd_epi16(*sum, ones);
                }
            }
            let wd = numbers(w.add(8 * W_VECTOR));
            for (n, (acc, total)) in acc.iter_mut().zip(total).enumerate() {
                let xd = _mm256_castsi256_ps(splat(x.add(X_SCALE + 4 * n)));
                for ((acc, total), wd) in acc.iter_mut().zip(total).zip(wd) {
                    *acc = _mm256_fmadd_ps(_mm256_mul_ps(wd, xd), _mm256_cvtepi32_ps(total), *acc);
                }
                if T::HAS_MIN {
                    let xs = _mm256_castsi256_ps(splat(x.add(X_SUM + 4 * n)));
                    for (acc, wm) in acc.iter_mut().zip(numbers(w.add(9 * W_VECTOR))) {
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
