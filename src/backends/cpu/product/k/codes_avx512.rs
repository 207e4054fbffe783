//! The 256-element types on AVX-512: how each one's codes, scales and minima come out of its bits.

use super::avx512::*;
use crate::quant::{BlockIQ4_XS, BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K, IQ4_VALUES};
use std::arch::x86_64::*;

/// 64 bytes at `p`.
///
/// # Safety
/// AVX-512 is there and the bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn load(p: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

/// 32 bytes at `p`, twice.
///
/// # Safety
/// AVX-512 is there and the bytes are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn load_twice(p: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(p.cast()) })
}

/// Low and high nibbles of all bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn nibbles(v: __m512i) -> [__m512i; 2] {
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(v, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(v), mask)]
}

/// Rotates the qwords of the first half right by `a` bits, those of the second by `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn rotate(v: __m512i, a: i64, b: i64) -> __m512i {
    _mm512_rorv_epi64(v, _mm512_setr_epi64(a, a, a, a, b, b, b, b))
}

/// The head of Q4_K and Q5_K: two scales, then 8 scales and 8 minima of 6 bits in 12 bytes.
///
/// # Safety
/// As [`Leaf::head`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn head_six_bits(row: &[*const u8; 16]) -> Head {
    // SAFETY: the caller's promise: a block starts with these 16 bytes.
    let raw = unsafe { bytes_16(row, 0) };
    let mut scales = Scales([[0; 16]; 16]);
    let mut mins = [_mm512_setzero_si512(); 4];
    for (g, &v) in raw.iter().enumerate() {
        // Scales 0 to 3, scales 4 to 7, minima 0 to 3, minima 4 to 7.
        let low = _mm512_srlv_epi32(_mm512_shuffle_epi32::<0b11_10_11_01>(v), each(0, 0, 0, 4));
        let low = _mm512_and_si512(low, each(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
        let high = _mm512_srli_epi32::<2>(_mm512_shuffle_epi32::<0b10_10_01_01>(v));
        let all = _mm512_ternarylogic_epi32::<OR_AND>(low, high, each(0, 0x3030_3030, 0, 0x3030_3030));
        // SAFETY: register g of four.
        unsafe { _mm512_store_si512(scales.0[4 * g..].as_mut_ptr().cast(), all) };
        mins[g] = _mm512_unpackhi_epi8(all, _mm512_setzero_si512());
    }
    let d = dwords_4(raw)[0];
    Head { d: halves(d), dmin: high_halves(d), scales, mins: [mins, mins] }
}

impl Leaf for BlockQ4_K {
    const ORDER: Order = NIBBLES_64;
    const BIAS: u8 = 0;
    const SIGNED: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn head(row: &[*const u8; 16]) -> Head {
        // SAFETY: the caller's promise.
        unsafe { head_six_bits(row) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn codes(p: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller's promise: 128 bytes of quants behind 16.
        let ([a, b], [c, d]) = unsafe { (nibbles(load(p.add(16))), nibbles(load(p.add(80)))) };
        [a, b, c, d]
    }
}

impl Leaf for BlockQ5_K {
    const ORDER: Order = NIBBLES_64;
    const BIAS: u8 = 0;
    const SIGNED: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn head(row: &[*const u8; 16]) -> Head {
        // SAFETY: the caller's promise.
        unsafe { head_six_bits(row) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn codes(p: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller's promise: 32 bytes of fifth bits behind 16, then 128 bytes of nibbles.
        let (high, [a, b], [c, d]) =
            unsafe { (load_twice(p.add(16)), nibbles(load(p.add(48))), nibbles(load(p.add(112)))) };
        // Bit j of a byte belongs to elements 32 j and up; it moves to bit 4.
        let bit = _mm512_set1_epi8(16);
        [
            _mm512_ternarylogic_epi64::<OR_AND>(a, rotate(high, 60, 62), bit),
            _mm512_ternarylogic_epi64::<OR_AND>(b, rotate(high, 61, 63), bit),
            _mm512_ternarylogic_epi64::<OR_AND>(c, rotate(high, 0, 2), bit),
            _mm512_ternarylogic_epi64::<OR_AND>(d, rotate(high, 1, 3), bit),
        ]
    }
}

impl Leaf for BlockQ6_K {
    const ORDER: Order = IN_ORDER;
    const BIAS: u8 = 32;
    const SIGNED: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn head(row: &[*const u8; 16]) -> Head {
        // SAFETY: the caller's promise: the last 18 bytes are the scales and d.
        let (raw, last) = unsafe { (bytes_16(row, 192), bytes_16(row, 194)) };
        let mut scales = Scales([[0; 16]; 16]);
        for (g, &v) in raw.iter().enumerate() {
            // SAFETY: register g of four.
            unsafe { _mm512_store_si512(scales.0[4 * g..].as_mut_ptr().cast(), v) };
        }
        let d = high_halves(dwords_4(last)[3]);
        Head { d, dmin: _mm512_setzero_ps(), scales, mins: [[_mm512_setzero_si512(); 4]; 2] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn codes(p: *const u8) -> [__m512i; 4] {
        let bits = _mm512_set1_epi8(0x30);
        let mut out = [_mm512_setzero_si512(); 4];
        for half in 0..2 {
            // SAFETY: the caller's promise: 128 bytes of nibbles, then 64 of pairs of bits.
            let (low, high) = unsafe { (load(p.add(64 * half)), load_twice(p.add(128 + 32 * half))) };
            let [a, b] = nibbles(low);
            out[2 * half] = _mm512_ternarylogic_epi64::<OR_AND>(a, rotate(high, 60, 62), bits);
            out[2 * half + 1] = _mm512_ternarylogic_epi64::<OR_AND>(b, rotate(high, 0, 2), bits);
        }
        out
    }
}

impl Leaf for BlockQ2_K {
    const ORDER: Order = PAIRS_128;
    const BIAS: u8 = 0;
    const SIGNED: bool = false;
    const FLAT: Option<u8> = Some(0);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn head(row: &[*const u8; 16]) -> Head {
        // SAFETY: the caller's promise: a block of 84 bytes starts with the scales and ends with d and dmin.
        let (raw, last) = unsafe { (bytes_16(row, 0), bytes_16(row, 68)) };
        let mut scales = Scales([[0; 16]; 16]);
        let mut mins = [[_mm512_setzero_si512(); 4]; 2];
        for (g, &v) in raw.iter().enumerate() {
            let [scale, min] = nibbles(v);
            // SAFETY: register g of four.
            unsafe { _mm512_store_si512(scales.0[4 * g..].as_mut_ptr().cast(), scale) };
            mins[0][g] = _mm512_unpacklo_epi8(min, _mm512_setzero_si512());
            mins[1][g] = _mm512_unpackhi_epi8(min, _mm512_setzero_si512());
        }
        let d = dwords_4(last)[3];
        Head { d: halves(d), dmin: high_halves(d), scales, mins }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn codes(p: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller's promise: 64 bytes of quants behind 16.
        let v = unsafe { load(p.add(16)) };
        let two = |v| _mm512_and_si512(v, _mm512_set1_epi8(3));
        [
            two(v),
            two(_mm512_srli_epi16::<2>(v)),
            two(_mm512_srli_epi16::<4>(v)),
            two(_mm512_srli_epi16::<6>(v)),
        ]
    }
}

impl Leaf for BlockQ3_K {
    const ORDER: Order = PAIRS_128;
    const BIAS: u8 = 4;
    const SIGNED: bool = true;
    /// Quants -4 to 3 times scales -32 to 31 are -124 to 128.
    const FLAT: Option<u8> = Some(124);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn head(row: &[*const u8; 16]) -> Head {
        // SAFETY: the caller's promise: the last 14 of 110 bytes are scales and d.
        let raw = unsafe { bytes_16(row, 94) };
        let mut scales = Scales([[0; 16]; 16]);
        let nibbles = each(0x0504_0302, 0x0908_0706, 0x0504_0302, 0x0908_0706);
        let pairs = _mm512_set1_epi32(0x0d0c_0b0a);
        for (g, &v) in raw.iter().enumerate() {
            let low = _mm512_srlv_epi32(_mm512_shuffle_epi8(v, nibbles), each(0, 0, 4, 4));
            let low = _mm512_and_si512(low, _mm512_set1_epi8(15));
            let high = _mm512_rorv_epi32(_mm512_shuffle_epi8(v, pairs), each(28, 30, 0, 2));
            let all = _mm512_ternarylogic_epi32::<OR_AND>(low, high, _mm512_set1_epi8(0x30));
            let all = _mm512_sub_epi8(all, _mm512_set1_epi8(32));
            // SAFETY: register g of four.
            unsafe { _mm512_store_si512(scales.0[4 * g..].as_mut_ptr().cast(), all) };
        }
        let d = high_halves(dwords_4(raw)[3]);
        Head { d, dmin: _mm512_setzero_ps(), scales, mins: [[_mm512_setzero_si512(); 4]; 2] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn codes(p: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller's promise: 32 bytes of third bits, then 64 of pairs of bits.
        let (high, v) = unsafe { (load_twice(p), load(p.add(32))) };
        let two = |v| _mm512_and_si512(v, _mm512_set1_epi8(3));
        // Bit j belongs to elements 32 j and up; it moves to bit 2.
        let bit = _mm512_set1_epi8(4);
        [
            _mm512_ternarylogic_epi64::<OR_AND>(two(v), rotate(high, 62, 2), bit),
            _mm512_ternarylogic_epi64::<OR_AND>(two(_mm512_srli_epi16::<2>(v)), rotate(high, 63, 3), bit),
            _mm512_ternarylogic_epi64::<OR_AND>(two(_mm512_srli_epi16::<4>(v)), rotate(high, 0, 4), bit),
            _mm512_ternarylogic_epi64::<OR_AND>(two(_mm512_srli_epi16::<6>(v)), rotate(high, 1, 5), bit),
        ]
    }
}

/// The codes of IQ4_XS, four times.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn table() -> __m512i {
    const TABLE: [u8; 16] = {
        let mut out = [0; 16];
        let mut i = 0;
        while i < 16 {
            out[i] = IQ4_VALUES[i].cast_unsigned() ^ 0x80;
            i += 1;
        }
        out
    };
    // SAFETY: the table is 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(TABLE.as_ptr().cast()) })
}

impl Leaf for BlockIQ4_XS {
    const ORDER: Order = NIBBLES_32;
    const BIAS: u8 = 128;
    const WIDE: bool = true;
    const SIGNED: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn head(row: &[*const u8; 16]) -> Head {
        // SAFETY: the caller's promise: a block starts with d, the scales' high pairs of bits and their nibbles.
        let raw = unsafe { bytes_16(row, 0) };
        let mut scales = Scales([[0; 16]; 16]);
        // As 16-bit units: byte 4 + j / 2 and bytes 2 and 3, for scale j.
        let nibbles = each(0x8004_8004, 0x8005_8005, 0x8006_8006, 0x8007_8007);
        let pairs = _mm512_set1_epi32(0x0302_0302);
        for (g, &v) in raw.iter().enumerate() {
            let low = _mm512_srlv_epi16(_mm512_shuffle_epi8(v, nibbles), _mm512_set1_epi32(4 << 16));
            let low = _mm512_and_si512(low, _mm512_set1_epi16(15));
            let shift = each(0x0002_0000, 0x0006_0004, 0x000a_0008, 0x000e_000c);
            let high = _mm512_slli_epi16::<4>(_mm512_srlv_epi16(_mm512_shuffle_epi8(v, pairs), shift));
            let all = _mm512_ternarylogic_epi32::<OR_AND>(low, high, _mm512_set1_epi16(0x30));
            let all = _mm512_sub_epi16(all, _mm512_set1_epi16(32));
            let all = _mm512_packs_epi16(all, all);
            // SAFETY: register g of four.
            unsafe { _mm512_store_si512(scales.0[4 * g..].as_mut_ptr().cast(), all) };
        }
        let d = halves(dwords_4(raw)[0]);
        Head { d, dmin: _mm512_setzero_ps(), scales, mins: [[_mm512_setzero_si512(); 4]; 2] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn codes(p: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller's promise: 128 bytes of nibbles behind 8.
        let ([a, b], [c, d]) = unsafe { (nibbles(load(p.add(8))), nibbles(load(p.add(72)))) };
        let table = table();
        let value = |v| _mm512_shuffle_epi8(table, v);
        [value(a), value(b), value(c), value(d)]
    }
}
