//! Leaves for types of 4 and 5 bits in blocks of 32, AVX2: the direct path, and panels for the tiles of
//! [`super::panels_avx2`].
//!
//! Two rows share a register, 16 bytes each, as four do in the AVX-512 leaves. `vpmaddubsw` takes the unsigned codes:
//! four products of a code below 32 with a signed byte stay far from 32767. Quants of a table are signed and go the
//! way of Q8_0: |w| times the activation carrying w's sign.

use super::k::avx2::transpose_4;
use super::nibbles::Nibbles;
use super::panels_avx2::{W_PAIRS, code_bytes, for_halves, store_pairs};
use super::q8_avx2::{DIRECT_ACTS, act_bytes, direct_bytes, scales_8, store_flight};
use super::streams::{Flight, for_flights};
use super::{Rows, Sums};
use crate::quant::IQ4_VALUES;
use std::arch::x86_64::*;

/// 16 bytes at `at` of rows i and i + 4.
///
/// # Safety
/// AVX2 is there, `i` is below 4 and every row has 16 readable bytes at `at`.
#[inline(always)]
unsafe fn load_2(row: &[*const u8; 8], i: usize, at: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (row[i].add(at), row[i + 4].add(at));
        _mm256_loadu2_m128i(b.cast(), a.cast())
    }
}

/// The codes of elements 0 to 15 and of elements 16 to 31, rows as in [`load_2`]; quants for a type with a table.
///
/// # Safety
/// AVX2 is there, `i` is below 4 and every row has a readable block at `at`.
#[inline(always)]
unsafe fn codes_2<T: Nibbles>(row: &[*const u8; 8], i: usize, at: usize) -> [__m256i; 2] {
    // SAFETY: the caller's promise; the fifth bits are followed by the nibbles, so 16 bytes are there too. The table
    // is 16 bytes.
    unsafe {
        let low = _mm256_set1_epi8(15);
        let q = load_2(row, i, at + T::AT_NIBBLES);
        let mut codes = [_mm256_and_si256(q, low), _mm256_and_si256(_mm256_srli_epi16::<4>(q), low)];
        if T::FIFTH {
            // Every byte gets the byte that holds its bit; where that bit is set, it becomes 16.
            let bits = load_2(row, i, at + T::AT_FIFTH);
            let ones = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            let fifth = _mm256_set1_epi8(16);
            let first = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0101_0101_0101_0101, 0));
            for (codes, part) in codes.iter_mut().zip([first, _mm256_or_si256(first, _mm256_set1_epi8(2))]) {
                let bit = _mm256_and_si256(_mm256_shuffle_epi8(bits, part), ones);
                let set = _mm256_and_si256(_mm256_cmpeq_epi8(bit, ones), fifth);
                *codes = _mm256_or_si256(*codes, set);
            }
        }
        if T::TABLE {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4_VALUES.as_ptr().cast()));
            codes = [_mm256_shuffle_epi8(table, codes[0]), _mm256_shuffle_epi8(table, codes[1])];
        }
        codes
    }
}

/// Products of the codes of a pair of rows with activations, added up in dwords of their rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn products<T: Nibbles>([w0, w1]: [__m256i; 2], [a0, a1]: [__m256i; 2]) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    if T::TABLE {
        let lo = _mm256_maddubs_epi16(_mm256_abs_epi8(w0), _mm256_sign_epi8(a0, w0));
        let hi = _mm256_maddubs_epi16(_mm256_abs_epi8(w1), _mm256_sign_epi8(a1, w1));
        _mm256_add_epi32(_mm256_madd_epi16(lo, ones), _mm256_madd_epi16(hi, ones))
    } else {
        let (lo, hi) = (_mm256_maddubs_epi16(w0, a0), _mm256_maddubs_epi16(w1, a1));
        _mm256_madd_epi16(_mm256_add_epi16(lo, hi), ones)
    }
}

/// Sums of the 4 dwords of each row, in the arrangement of [`load_2`], as lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_rows([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// AVX2 is there; `w` describes readable rows of blocks `T`, `x` rows as long of the activations that meet them,
/// `pack` is what [`super::q8_avx2::pack_direct`] made of `x`, and `out` has room for every pair.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn direct<T: Nibbles>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    // SAFETY: the caller's promise, passed on; NT is the number of activation rows.
    unsafe {
        for_flights(w, x, out, DIRECT_ACTS, T::BYTES, |flight, x, t0, out| {
            let pack = pack.add(t0 * direct_bytes(x.n));
            match x.rows {
                1 => direct_rows::<T, 1>(flight, x, pack, out),
                2 => direct_rows::<T, 2>(flight, x, pack, out),
                _ => direct_rows::<T, 3>(flight, x, pack, out),
            }
        });
    }
}

/// # Safety
/// As [`direct`], with `NT` activation rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn direct_rows<T: Nibbles, const NT: usize>(flight: &Flight<8>, x: &Rows, pack: *const u8, out: Sums) {
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        let row = &flight.row;
        let mut acc = [_mm256_setzero_ps(); NT];
        for b in 0..x.n / 32 {
            let at = T::BYTES * b;
            // Once in a line of the cache.
            if at % 64 < T::BYTES {
                for r in 0..row.len() {
                    flight.ask(r, at);
                }
            }
            let mut a = [[_mm256_setzero_si256(); 2]; NT];
            for (t, a) in a.iter_mut().enumerate() {
                let act_bytes = act_bytes(T::HAS_MIN);
                let xq = x.ptr.add(t * x.row_bytes + act_bytes * b + act_bytes - 32);
                *a = [xq, xq.add(16)].map(|q| _mm256_broadcastsi128_si256(_mm_loadu_si128(q.cast())));
            }
            let mut p = [[_mm256_setzero_si256(); 4]; NT];
            for i in 0..4 {
                let codes = codes_2::<T>(row, i, at);
                for (p, a) in p.iter_mut().zip(a) {
                    p[i] = products::<T>(codes, a);
                }
            }
            let wd = scales_8(row, at);
            for (t, (acc, p)) in acc.iter_mut().zip(p).enumerate() {
                let cell = pack.add(t * direct_bytes(x.n) + 8 * b);
                let mut sums = sum_rows(p);
                if !T::HAS_MIN && !T::TABLE {
                    let fix = cell.add(4).cast::<i32>().read() >> T::FIX_SHIFT;
                    sums = _mm256_add_epi32(sums, _mm256_set1_epi32(fix));
                }
                let d = _mm256_mul_ps(wd, _mm256_set1_ps(cell.cast::<f32>().read()));
                *acc = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sums), *acc);
                if T::HAS_MIN {
                    let s = _mm256_set1_ps(cell.add(4).cast::<f32>().read());
                    *acc = _mm256_fmadd_ps(scales_8(row, at + 2), s, *acc);
                }
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            store_flight(flight, acc, out.ptr.add(t * out.stride));
        }
    }
}

/// The codes of all 8 rows by groups of four, or quants for a type with a table: register k holds group k of every row.
///
/// # Safety
/// AVX2 is there and every row has a readable block at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn groups<T: Nibbles>(row: &[*const u8; 8], at: usize) -> [__m256i; 8] {
    // Sixteen bytes of all rows by fours; the fifth bits are followed by the nibbles, so that there are as many.
    let fours = |at: usize| {
        let mut q = [_mm256_setzero_si256(); 4];
        for (i, q) in q.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *q = unsafe { load_2(row, i, at) };
        }
        transpose_4(q)
    };
    let mut out = [_mm256_setzero_si256(); 8];
    let mask = _mm256_set1_epi8(15);
    for (j, q) in fours(at + T::AT_NIBBLES).into_iter().enumerate() {
        out[j] = _mm256_and_si256(q, mask);
        out[4 + j] = _mm256_and_si256(_mm256_srli_epi16::<4>(q), mask);
    }
    if T::FIFTH {
        // Bits 4 k to 4 k + 3 of a row are those of its group k: each byte gets the byte that holds its bit, in the upper
        // half, and if the bit is set, it becomes 16.
        let [bits, ..] = fours(at + T::AT_FIFTH);
        let halves = [_mm256_slli_epi32::<4>(bits), bits];
        let each = _mm256_set1_epi32(0x8040_2010_u32.cast_signed());
        for (k, out) in out.iter_mut().enumerate() {
            let byte = (k / 2) as i32 * 0x0101_0101;
            let lane = _mm_setr_epi32(byte, 0x0404_0404 + byte, 0x0808_0808 + byte, 0x0c0c_0c0c + byte);
            let bit = _mm256_shuffle_epi8(halves[k % 2], _mm256_broadcastsi128_si256(lane));
            let fifth = _mm256_min_epu8(_mm256_and_si256(bit, each), _mm256_set1_epi8(16));
            *out = _mm256_or_si256(*out, fifth);
        }
    }
    if T::TABLE {
        // SAFETY: the table is 16 bytes.
        let table = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4_VALUES.as_ptr().cast())) };
        for out in &mut out {
            *out = _mm256_shuffle_epi8(table, *out);
        }
    }
    out
}

/// Packs up to 16 weight rows for tiles: of codes, or of quants for a type with a table.
///
/// # Safety
/// AVX2 is there; `w` describes 1 to 16 readable rows of blocks `T`; `out`, 64-byte aligned, takes [`step_bytes`] per
/// block.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_weights<T: Nibbles>(w: &Rows, out: *mut u8) {
    // SAFETY: the caller's promise; block b of every row is read, and its half of a step is written.
    unsafe {
        for_halves(w, 32, out, step_bytes::<T>(), |row, b, to| {
            let at = T::BYTES * b;
            let groups = groups::<T>(row, at);
            if T::TABLE {
                store_pairs(groups, scales_8(row, at), to);
                return;
            }
            for (k, group) in groups.into_iter().enumerate() {
                _mm256_store_si256(to.add(k * 64).cast(), group);
            }
            _mm256_store_ps(to.add(8 * 64).cast(), scales_8(row, at));
            if T::HAS_MIN {
                _mm256_store_ps(to.add(9 * 64).cast(), scales_8(row, at + 2));
            }
        });
    }
}

/// Bytes of a step of 16 packed weight rows.
pub(super) const fn step_bytes<T: Nibbles>() -> usize {
    if T::TABLE { W_PAIRS } else { code_bytes(T::HAS_MIN) }
}
