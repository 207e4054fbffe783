//! Leaves for Q8_0 weights, and what all weights in blocks of 32 share: packed Q8_0 and Q8_1 activations, and tiles.
//! AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and does not saturate. Weights become unsigned by adding 128
//! (flipping the top bit), so each block's sum starts at, or ends with, -128 times the sum of its activations:
//! the exact integer, for every weight from -128 to 127.
//! Lanes are weight rows: 16 rows finish a block with one conversion, one product of scales and one FMA, and one more
//! FMA where the type has a minimum. Types with a minimum (`MIN`) are unsigned as they are and meet Q8_1: in place of
//! the correction their activations bring the block's scaled sum.

use super::in_order_acts::bytes as direct_bytes;
use super::k::avx2::transpose_8;
use super::streams::{Flight, for_flights};
use super::{Rows, Sums, Tile, in_order, in_order_avx512};
use crate::quant::BlockQ8_0;
use std::arch::x86_64::*;

/// Weight rows of a tile: two registers of 16.
pub(super) const TILE_ROWS: usize = 32;
/// Activation rows of a tile.
pub(super) const TILE_ACTS: usize = 6;
/// A block of 32 rows: 8 groups of 4 elements x 32 rows x 4 bytes, then 32 scales.
pub(super) const W_STEP: usize = 8 * 128 + 128;
/// The same with 32 minima behind.
pub(super) const W_STEP_MIN: usize = W_STEP + 128;
/// A block of 6 activation rows: 8 groups of 4 elements x 6 rows x 4 bytes, then 6 scales and 6 corrections or
/// scaled sums.
pub(super) const X_STEP: usize = 256;
const X_SCALE: usize = 192;
const X_FIX: usize = 216;

/// Bytes of a block of activations: Q8_1 or Q8_0.
pub(super) const fn act_bytes(min: bool) -> usize {
    if min { 36 } else { 34 }
}

/// Scales and corrections of activation rows, `[row][block] (f32, i32)`, or scales and scaled sums, `(f32, f32)`.
///
/// # Safety
/// AVX-512 with VNNI is there; `x` describes readable rows of Q8_0 blocks, Q8_1 if `MIN`; `out` takes `direct_bytes`
/// per row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_direct<const MIN: bool>(x: &Rows, out: *mut u8) {
    let blocks = x.n / 32;
    for t in 0..x.rows {
        for b in 0..blocks {
            // SAFETY: the caller's promise; block b of row t is inside the row, and its cell 8 bytes of `out`.
            unsafe {
                let block = x.ptr.add(t * x.row_bytes + act_bytes(MIN) * b);
                let cell = out.add(t * direct_bytes(x.n) + 8 * b);
                cell.cast::<f32>().write(scale(block));
                if MIN {
                    cell.add(4).cast::<f32>().write(scale(block.add(2)));
                } else {
                    let q = _mm256_loadu_si256(block.add(2).cast());
                    cell.add(4).cast::<i32>().write(-128 * sum_bytes(q));
                }
            }
        }
    }
}

/// The scale of a block.
///
/// # Safety
/// AVX-512 with F16C is there and `block` has two readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn scale(block: *const u8) -> f32 {
    // SAFETY: the caller's promise.
    let bits = unsafe { block.cast::<u16>().read_unaligned() };
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// The sum of 32 signed bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn sum_bytes(v: __m256i) -> i32 {
    let s = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), v);
    let s = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256::<1>(s));
    let s = _mm_add_epi32(s, _mm_shuffle_epi32::<0x4E>(s));
    _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32::<0xB1>(s)))
}

/// Most activation rows that the direct path takes at once.
pub(super) const DIRECT_ACTS: usize = 8;

/// Calls `$f::<$t, 1>`, ... or `$f::<$t, 8>`, by the number of activation rows.
macro_rules! by_acts {
    ($n:expr, $f:ident [$($t:ty)?] ($($arg:expr),*)) => {
        match $n {
            1 => $f::<$($t,)? 1>($($arg),*),
            2 => $f::<$($t,)? 2>($($arg),*),
            3 => $f::<$($t,)? 3>($($arg),*),
            4 => $f::<$($t,)? 4>($($arg),*),
            5 => $f::<$($t,)? 5>($($arg),*),
            6 => $f::<$($t,)? 6>($($arg),*),
            7 => $f::<$($t,)? 7>($($arg),*),
            _ => $f::<$($t,)? 8>($($arg),*),
        }
    };
}
pub(super) use by_acts;

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` and `x` describe readable rows of Q8_0 blocks of one length, `pack` is what
/// [`pack_direct`] made of `x`, and `out` has room for every pair.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn direct(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        if in_order::pays(w, x, x.n / 32, size_of::<BlockQ8_0>()) {
            return in_order_avx512::direct::<BlockQ8_0>(w, x, pack, out);
        }
        for_flights(w, x, out, DIRECT_ACTS, 34, |flight, x, t0, out| {
            let pack = pack.add(t0 * direct_bytes(x.n));
            by_acts!(x.rows, direct_rows [] (flight, x, pack, out))
        });
    }
}

/// The weight rows of a flight. For few activation rows, lanes are groups of four elements, summed across when a block
/// is done; for more, quants are turned once so that lanes are weight rows.
///
/// # Safety
/// As [`direct`], with `NT` activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn direct_rows<const NT: usize>(flight: &Flight<16>, x: &Rows, pack: *const u8, out: Sums) {
    let flip = _mm512_set1_epi8(-128);
    let row = &flight.row;
    let mut acc = [_mm512_setzero_ps(); NT];
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        for b in 0..x.n / 32 {
            let at = 34 * b;
            // Once in a line of the cache.
            if at % 64 < 34 {
                for r in 0..row.len() {
                    flight.ask(r, at);
                }
            }
            let mut q = load_16(row, at + 2).map(|q| _mm512_xor_si512(q, flip));
            if NT > 2 {
                q = transpose_16(q);
            }
            let wd = scales_16(row, at);
            for (t, acc) in acc.iter_mut().enumerate() {
                let xq = x.ptr.add(t * x.row_bytes + at + 2);
                let cell = pack.add(t * direct_bytes(x.n) + 8 * b);
                let fix = _mm512_set1_epi32(cell.add(4).cast::<i32>().read());
                let sums = if NT > 2 {
                    quads(fix, q, xq)
                } else {
                    let a = _mm512_broadcast_i64x4(_mm256_loadu_si256(xq.cast()));
                    let p = q.map(|q| _mm512_dpbusd_epi32(_mm512_setzero_si512(), q, a));
                    _mm512_add_epi32(sum_rows(p), fix)
                };
                let d = _mm512_mul_ps(wd, _mm512_set1_ps(cell.cast::<f32>().read()));
                *acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(sums), *acc);
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            store(flight, acc, out.ptr.add(t * out.stride));
        }
    }
}

/// `from` and products of groups of four elements: lanes of `q[k]` are weight rows with elements `4 k` to `4 k + 3`, `x`
/// points to the activations.
///
/// # Safety
/// AVX-512 with VNNI is there and `x` has `4 N` readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn quads<const N: usize>(from: __m512i, q: [__m512i; N], x: *const u8) -> __m512i {
    let mut sum = from;
    for (k, q) in q.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        let a = unsafe { _mm512_set1_epi32(x.add(4 * k).cast::<i32>().read_unaligned()) };
        sum = _mm512_dpbusd_epi32(sum, q, a);
    }
    sum
}

/// Stores sums whose lanes are the rows of a flight.
///
/// # Safety
/// AVX-512 is there and `out` takes a sum of every weight row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn store(flight: &Flight<16>, sums: __m512, out: *mut f32) {
    let mut all = [0f32; 16];
    // SAFETY: the array is 64 bytes; the rest is the caller's promise.
    unsafe {
        _mm512_storeu_ps(all.as_mut_ptr(), sums);
        flight.store(&all, out);
    }
}

/// 32 bytes of 16 rows at `at`, two rows to a register: (0,4) (1,5) (2,6) (3,7) (8,12) ... (11,15).
///
/// # Safety
/// AVX-512 is there and every row has 32 readable bytes at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn load_16(row: &[*const u8; 16], at: usize) -> [__m512i; 8] {
    let mut q = [_mm512_setzero_si512(); 8];
    for (i, q) in q.iter_mut().enumerate() {
        let first = if i < 4 { i } else { i + 4 };
        // SAFETY: the caller's promise; first + 4 is at most 15.
        unsafe {
            let a = _mm256_loadu_si256(row[first].add(at).cast());
            let b = _mm256_loadu_si256(row[first + 4].add(at).cast());
            *q = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
        }
    }
    q
}

/// The scales of a block of 16 rows.
///
/// # Safety
/// AVX-512 is there and every row has two readable bytes at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn scales_16(row: &[*const u8; 16], at: usize) -> __m512 {
    let mut bits = [0u16; 16];
    for (bits, row) in bits.iter_mut().zip(row) {
        // SAFETY: the caller's promise.
        *bits = unsafe { row.add(at).cast::<u16>().read_unaligned() };
    }
    // SAFETY: the array is 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}

/// Sums of the 8 dwords of each row, in the arrangement of [`load_16`], as lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn sum_rows(p: [__m512i; 8]) -> __m512i {
    let mut pairs = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        let (a, b) = (p[2 * i], p[2 * i + 1]);
        pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    }
    let mut fours = [_mm512_setzero_si512(); 2];
    for i in 0..2 {
        let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    let [a, b] = fours;
    _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xDD>(a, b))
}

/// Packs up to 32 weight rows for tiles: unsigned, or as they are if `SIGNED`.
///
/// # Safety
/// AVX-512 is there; `w` describes 1 to 32 readable rows of Q8_0 blocks; `out`, 64-byte aligned, takes `W_STEP`
/// bytes per block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_weights<const SIGNED: bool>(w: &Rows, out: *mut u8) {
    let flip = _mm512_set1_epi8(if SIGNED { 0 } else { -128 });
    for half in 0..w.rows.div_ceil(16) {
        // SAFETY: the caller's promise. Rows past the last one repeat it; half h fills its half of every step.
        unsafe {
            let row: [*const u8; 16] =
                std::array::from_fn(|r| w.ptr.add((half * 16 + r).min(w.rows - 1) * w.row_bytes));
            for b in 0..w.n / 32 {
                let step = out.add(b * W_STEP + half * 64);
                let q = transpose_16(load_16(&row, 34 * b + 2));
                for (k, q) in q.into_iter().enumerate() {
                    _mm512_store_si512(step.add(k * 128).cast(), _mm512_xor_si512(q, flip));
                }
                _mm512_store_ps(step.add(8 * 128).cast(), scales_16(&row, 34 * b));
            }
        }
    }
}

/// From the arrangement of [`load_16`] to one register per group of 4 elements, lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn transpose_16(p: [__m512i; 8]) -> [__m512i; 8] {
    // Per four registers: dword j of the four rows in each 128-bit part, j = 0, 1, 2, 3.
    let mut four = [[_mm512_setzero_si512(); 4]; 2];
    for i in 0..2 {
        let [a, b, c, d] = [p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]];
        let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        four[i] = [
            _mm512_unpacklo_epi64(ab0, cd0),
            _mm512_unpackhi_epi64(ab0, cd0),
            _mm512_unpacklo_epi64(ab1, cd1),
            _mm512_unpackhi_epi64(ab1, cd1),
        ];
    }
    let mut out = [_mm512_setzero_si512(); 8];
    for j in 0..4 {
        out[j] = _mm512_shuffle_i32x4::<0x88>(four[0][j], four[1][j]);
        out[j + 4] = _mm512_shuffle_i32x4::<0xDD>(four[0][j], four[1][j]);
    }
    out
}

/// Packs up to 6 activation rows for tiles.
///
/// # Safety
/// AVX-512 with VNNI is there; `x` describes 1 to 6 readable rows of Q8_0 blocks, Q8_1 if `MIN`; `out` takes `X_STEP`
/// bytes per block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_acts<const MIN: bool>(x: &Rows, out: *mut u8) {
    // SAFETY: the caller's promise. Rows past the last one repeat it. Stores of 32 bytes where 24 count run over
    // into what a later store writes, the last one into bytes 240 to 248 of the step.
    unsafe {
        let row: [*const u8; TILE_ACTS] = std::array::from_fn(|t| x.ptr.add(t.min(x.rows - 1) * x.row_bytes));
        for b in 0..x.n / 32 {
            let step = out.add(b * X_STEP);
            let mut q = [_mm256_setzero_si256(); 8];
            let (mut d, mut s) = ([0u16; 8], [0u16; 8]);
            for (i, row) in row.into_iter().enumerate() {
                let block = row.add(act_bytes(MIN) * b);
                q[i] = _mm256_loadu_si256(block.add(act_bytes(MIN) - 32).cast());
                d[i] = block.cast::<u16>().read_unaligned();
                s[i] = block.add(2).cast::<u16>().read_unaligned();
            }
            let mut sum = _mm256_setzero_si256();
            for (k, quad) in transpose_8(q).into_iter().enumerate() {
                _mm256_storeu_si256(step.add(k * TILE_ACTS * 4).cast(), quad);
                sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1), quad);
            }
            let scales = _mm256_cvtph_ps(_mm_loadu_si128(d.as_ptr().cast()));
            _mm256_storeu_ps(step.add(X_SCALE).cast(), scales);
            let fix = if MIN {
                _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(s.as_ptr().cast())))
            } else {
                _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<7>(sum))
            };
            _mm256_storeu_si256(step.add(X_FIX).cast(), fix);
        }
    }
}

/// A tile against `NT` activation rows.
///
/// # Safety
/// AVX-512 with VNNI is there and the tile's pointers are good for its steps, packed by the functions above.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn tile<const MIN: bool, const NT: usize>(t: &Tile) {
    t.ahead.all();
    // SAFETY: the caller's promise, passed on.
    unsafe {
        if t.rows > 16 {
            tile_halves::<MIN, NT, 2>(t);
        } else {
            tile_halves::<MIN, NT, 1>(t);
        }
    }
}

/// # Safety
/// As [`tile`]; `H` halves of 16 rows are packed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile_halves<const MIN: bool, const NT: usize, const H: usize>(t: &Tile) {
    debug_assert!(t.first && t.last, "sums of blocks are never cut");
    let mut acc = [[_mm512_setzero_ps(); H]; NT];
    let (mut w, mut x) = (t.w, t.x);
    // The compiler must not know this number: it would unroll the loop over it, keep all weights of a step in
    // registers and the sums in memory, and finish one chain of products after another.
    let quads = std::hint::black_box(8);
    for _ in 0..t.steps {
        // SAFETY: the caller's promise: a step of weights and one of activations are readable here.
        unsafe {
            let mut sum = [[_mm512_setzero_si512(); H]; NT];
            if !MIN {
                for (n, sum) in sum.iter_mut().enumerate() {
                    *sum = [_mm512_set1_epi32(x.add(X_FIX + 4 * n).cast::<i32>().read()); H];
                }
            }
            for k in 0..quads {
                let mut q = [_mm512_setzero_si512(); H];
                for (h, q) in q.iter_mut().enumerate() {
                    *q = _mm512_load_si512(w.add(k * 128 + h * 64).cast());
                }
                for (n, sum) in sum.iter_mut().enumerate() {
                    let a = _mm512_set1_epi32(x.add((k * TILE_ACTS + n) * 4).cast::<i32>().read());
                    for (sum, q) in sum.iter_mut().zip(q) {
                        *sum = _mm512_dpbusd_epi32(*sum, q, a);
                    }
                }
            }
            let mut wd = [_mm512_setzero_ps(); H];
            for (h, wd) in wd.iter_mut().enumerate() {
                *wd = _mm512_load_ps(w.add(8 * 128 + h * 64).cast());
            }
            let mut wm = [_mm512_setzero_ps(); H];
            if MIN {
                for (h, wm) in wm.iter_mut().enumerate() {
                    *wm = _mm512_load_ps(w.add(W_STEP + h * 64).cast());
                }
            }
            for (n, (acc, sum)) in acc.iter_mut().zip(sum).enumerate() {
                let xd = _mm512_set1_ps(x.add(X_SCALE + 4 * n).cast::<f32>().read());
                for ((acc, sum), wd) in acc.iter_mut().zip(sum).zip(wd) {
                    *acc = _mm512_fmadd_ps(_mm512_mul_ps(wd, xd), _mm512_cvtepi32_ps(sum), *acc);
                }
                if MIN {
                    let xs = _mm512_set1_ps(x.add(X_FIX + 4 * n).cast::<f32>().read());
                    for (acc, wm) in acc.iter_mut().zip(wm) {
                        *acc = _mm512_fmadd_ps(wm, xs, *acc);
                    }
                }
            }
            w = w.add(if MIN { W_STEP_MIN } else { W_STEP });
            x = x.add(X_STEP);
        }
    }
    for (n, acc) in acc.into_iter().enumerate() {
        for (h, acc) in acc.into_iter().enumerate() {
            let valid = t.rows.saturating_sub(16 * h).min(16);
            let mask = (0xffffu32 >> (16 - valid)) as u16;
            // SAFETY: the caller's promise; only rows that exist are stored.
            unsafe { _mm512_mask_storeu_ps(t.out.ptr.add(n * t.out.stride + 16 * h), mask, acc) };
        }
    }
}
