//! Leaves for types of 4 and 5 bits in blocks of 32, AVX-512 with VNNI: the direct path, and panels for the tiles of
//! [`super::q8_avx512`].
//!
//! Four rows share a register, 16 bytes each, first the low nibbles (elements 0 to 15), then the high ones (16 to 31),
//! against activations that lie four times over. Codes stay unsigned, as `vpdpbusd` wants them; what the quants are
//! below their codes, times the sum of the activations, is taken off the finished integer sum.
//! What loads and unpacks is `inline(always)`, without features of its own: a call would pass registers by memory.

use super::in_order_acts::bytes as direct_bytes;
use super::nibbles::Nibbles;
use super::q8_avx512::{DIRECT_ACTS, W_STEP, W_STEP_MIN, act_bytes, by_acts, quads, scales_16, store};
use super::streams::{Flight, for_flights};
use super::{Rows, Sums, in_order, in_order_avx512};
use crate::quant::IQ4_VALUES;
use std::arch::x86_64::*;

/// The table of IQ4_NL with 128 added.
const TABLE: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (IQ4_VALUES[i] as u8) ^ 0x80;
        i += 1;
    }
    table
};

/// 16 bytes at `at` of rows i, i + 4, i + 8 and i + 12.
///
/// # Safety
/// AVX-512 is there, `i` is below 4 and every row has 16 readable bytes at `at`.
#[inline(always)]
pub(super) unsafe fn load_4(row: &[*const u8; 16], i: usize, at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let q = _mm512_castsi128_si512(_mm_loadu_si128(row[i].add(at).cast()));
        let q = _mm512_inserti32x4::<1>(q, _mm_loadu_si128(row[i + 4].add(at).cast()));
        let q = _mm512_inserti32x4::<2>(q, _mm_loadu_si128(row[i + 8].add(at).cast()));
        _mm512_inserti32x4::<3>(q, _mm_loadu_si128(row[i + 12].add(at).cast()))
    }
}

/// The unsigned codes of elements 0 to 15 and of elements 16 to 31, from the nibbles of four blocks and, as masks of bytes,
/// the fifth bits of either.
///
/// # Safety
/// AVX-512 is there.
#[inline(always)]
pub(super) unsafe fn codes<T: Nibbles>(nibbles: __m512i, fifth: [u64; 2]) -> [__m512i; 2] {
    // SAFETY: the caller's promise. The table is 16 bytes.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let halves = [_mm512_and_si512(nibbles, low), _mm512_and_si512(_mm512_srli_epi16::<4>(nibbles), low)];
        if T::FIFTH {
            let bit = _mm512_set1_epi8(16);
            return std::array::from_fn(|i| _mm512_mask_add_epi8(halves[i], fifth[i], halves[i], bit));
        }
        if T::TABLE {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(TABLE.as_ptr().cast()));
            return halves.map(|h| _mm512_shuffle_epi8(table, h));
        }
        halves
    }
}

/// The codes of a block of each row, rows as in [`load_4`].
///
/// # Safety
/// AVX-512 is there, `i` is below 4 and every row has a readable block at `at`.
#[inline(always)]
unsafe fn codes_4<T: Nibbles>(row: &[*const u8; 16], i: usize, at: usize) -> [__m512i; 2] {
    // Four rows' bits of elements 0 to 15, and of 16 to 31, are a mask of the bytes of a register. Putting them together
    // takes the units that vectors leave idle.
    let bits = |r: usize, half: usize| {
        // SAFETY: the caller's promise.
        let bits = unsafe { row[i + r].add(at + T::AT_FIFTH + 2 * half).cast::<u16>().read_unaligned() };
        u64::from(bits)
    };
    let fifth = |half| bits(0, half) | bits(4, half) << 16 | bits(8, half) << 32 | bits(12, half) << 48;
    // SAFETY: the caller's promise.
    unsafe {
        codes::<T>(load_4(row, i, at + T::AT_NIBBLES), if T::FIFTH { [fifth(0), fifth(1)] } else { [0; 2] })
    }
}

/// Sums of the 4 dwords of each row, in the arrangement of [`load_4`], as lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn sum_rows([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// Register k holds dword k of every row, from the arrangement of [`load_4`] to lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn transpose_4([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab0, cd0),
        _mm512_unpackhi_epi64(ab0, cd0),
        _mm512_unpacklo_epi64(ab1, cd1),
        _mm512_unpackhi_epi64(ab1, cd1),
    ]
}

/// The scales of a block of 16 rows, and the minima if the type has them.
///
/// # Safety
/// AVX-512 is there and every row has a readable block at `at`.
#[inline(always)]
unsafe fn scales_and_minima<T: Nibbles>(row: &[*const u8; 16], at: usize) -> [__m512; 2] {
    // SAFETY: the caller's promise; a block with a minimum starts with two f16. The array is 64 bytes.
    unsafe {
        if !T::HAS_MIN {
            return [scales_16(row, at), _mm512_setzero_ps()];
        }
        let mut both = [0u32; 16];
        for (both, row) in both.iter_mut().zip(row) {
            *both = row.add(at).cast::<u32>().read_unaligned();
        }
        let d = _mm512_loadu_si512(both.as_ptr().cast());
        let m = _mm512_srli_epi32::<16>(d);
        [_mm512_cvtph_ps(_mm512_cvtepi32_epi16(d)), _mm512_cvtph_ps(_mm512_cvtepi32_epi16(m))]
    }
}

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` describes readable rows of blocks `T`, `x` rows as long of the activations that
/// meet them, `pack` is what [`super::q8_avx512::pack_direct`] made of `x`, and `out` has room for every pair.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn direct<T: Nibbles>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        if in_order::pays(w, x, x.n / 32, T::BYTES) {
            return in_order_avx512::direct::<T>(w, x, pack, out);
        }
        for_flights(w, x, out, DIRECT_ACTS, T::BYTES, |flight, x, t0, out| {
            let pack = pack.add(t0 * direct_bytes(x.n));
            by_acts!(x.rows, direct_rows[T](flight, x, pack, out))
        });
    }
}

/// The weight rows of a flight, as in [`super::q8_avx512`].
///
/// # Safety
/// As [`direct`], with `NT` activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn direct_rows<T: Nibbles, const NT: usize>(
    flight: &Flight<16>,
    x: &Rows,
    pack: *const u8,
    out: Sums,
) {
    let row = &flight.row;
    let mut acc = [_mm512_setzero_ps(); NT];
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        for b in 0..x.n / 32 {
            let at = T::BYTES * b;
            // Once in a line of the cache.
            if at % 64 < T::BYTES {
                for r in 0..row.len() {
                    flight.ask(r, at);
                }
            }
            let [mut lo, mut hi] = [[_mm512_setzero_si512(); 4]; 2];
            for i in 0..4 {
                [lo[i], hi[i]] = codes_4::<T>(row, i, at);
            }
            if NT > 2 {
                (lo, hi) = (transpose_4(lo), transpose_4(hi));
            }
            let [wd, wm] = scales_and_minima::<T>(row, at);
            for (t, acc) in acc.iter_mut().enumerate() {
                let act_bytes = act_bytes(T::HAS_MIN);
                let xq = x.ptr.add(t * x.row_bytes + act_bytes * b + act_bytes - 32);
                let cell = pack.add(t * direct_bytes(x.n) + 8 * b);
                let fix = if T::HAS_MIN { 0 } else { cell.add(4).cast::<i32>().read() >> T::FIX_SHIFT };
                let fix = _mm512_set1_epi32(fix);
                let sums = if NT > 2 {
                    quads(fix, [lo[0], lo[1], lo[2], lo[3], hi[0], hi[1], hi[2], hi[3]], xq)
                } else {
                    let a = [xq, xq.add(16)].map(|q| _mm512_broadcast_i32x4(_mm_loadu_si128(q.cast())));
                    let mut p = [_mm512_setzero_si512(); 4];
                    for (i, p) in p.iter_mut().enumerate() {
                        *p = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*p, lo[i], a[0]), hi[i], a[1]);
                    }
                    _mm512_add_epi32(sum_rows(p), fix)
                };
                let d = _mm512_mul_ps(wd, _mm512_set1_ps(cell.cast::<f32>().read()));
                *acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(sums), *acc);
                if T::HAS_MIN {
                    let s = _mm512_set1_ps(cell.add(4).cast::<f32>().read());
                    *acc = _mm512_fmadd_ps(wm, s, *acc);
                }
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            store(flight, acc, out.ptr.add(t * out.stride));
        }
    }
}

/// Packs up to 32 weight rows for tiles: quants with 128 added, or as they are if `SIGNED`; codes where the type has a
/// minimum.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` describes 1 to 32 readable rows of blocks `T`; `out`, 64-byte aligned, takes
/// `W_STEP_MIN` bytes per block if the type has a minimum, else `W_STEP`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_weights<T: Nibbles, const SIGNED: bool>(w: &Rows, out: *mut u8) {
    let step_bytes = if T::HAS_MIN { W_STEP_MIN } else { W_STEP };
    let top: u8 = if SIGNED { 0 } else { 128 };
    let lift = _mm512_set1_epi8(if T::HAS_MIN { 0 } else { top.wrapping_sub(T::BIAS).cast_signed() });
    for half in 0..w.rows.div_ceil(16) {
        // SAFETY: the caller's promise. Rows past the last one repeat it; half h fills its half of every step.
        unsafe {
            let row: [*const u8; 16] =
                std::array::from_fn(|r| w.ptr.add((half * 16 + r).min(w.rows - 1) * w.row_bytes));
            for b in 0..w.n / 32 {
                let (at, step) = (T::BYTES * b, out.add(b * step_bytes + half * 64));
                let [mut lo, mut hi] = [[_mm512_setzero_si512(); 4]; 2];
                for i in 0..4 {
                    [lo[i], hi[i]] = codes_4::<T>(&row, i, at).map(|c| _mm512_add_epi8(c, lift));
                }
                for (k, q) in transpose_4(lo).into_iter().chain(transpose_4(hi)).enumerate() {
                    _mm512_store_si512(step.add(k * 128).cast(), q);
                }
                let [wd, wm] = scales_and_minima::<T>(&row, at);
                _mm512_store_ps(step.add(8 * 128).cast(), wd);
                if T::HAS_MIN {
                    _mm512_store_ps(step.add(W_STEP).cast(), wm);
                }
            }
        }
    }
}
