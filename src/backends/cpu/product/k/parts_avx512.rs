//! How turned quants of the 256-element types become codes, 32 elements at a time, on AVX-512.

use super::avx512::OR_AND;
use super::turned_avx512::{Turn, Turned};
use crate::quant::{BlockIQ4_XS, BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K};
use std::arch::x86_64::*;

/// Bits `shift` and up of every byte, those in `mask`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn bits(v: [__m512i; 8], shift: usize, mask: i8) -> [__m512i; 8] {
    let (shift, mask) = (_mm512_set1_epi16(shift as i16), _mm512_set1_epi8(mask));
    v.map(|v| _mm512_and_si512(_mm512_srlv_epi16(v, shift), mask))
}

/// Adds bits `from` and up of every byte of `v` to `codes`, where they become bits `to` and up, those in `mask`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn with(mut codes: [__m512i; 8], v: [__m512i; 8], from: usize, to: usize, mask: i8) -> [__m512i; 8] {
    let (by, mask) = (_mm512_set1_epi64((64 + from as i64 - to as i64) % 64), _mm512_set1_epi8(mask));
    for (codes, v) in codes.iter_mut().zip(v) {
        *codes = _mm512_ternarylogic_epi64::<OR_AND>(*codes, _mm512_rorv_epi64(v, by), mask);
    }
    codes
}

macro_rules! turn {
    ($block:ident, $strips:expr, pairs: $pairs:literal, |$v:ident, $p:ident| $part:expr) => {
        impl Turn for $block {
            const STRIPS: &'static [usize] = &$strips;
            const PAIRS: bool = $pairs;
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
            unsafe fn part($v: &Turned, $p: usize) -> [__m512i; 8] {
                $part
            }
        }
    };
}

// Nibbles of 32 bytes are two parts.
turn!(BlockQ4_K, [16, 48, 80, 112], pairs: false, |v, p| bits(v[p / 2], p % 2 * 4, 15));
// The first strip has bit p for part p.
turn!(BlockQ5_K, [48, 80, 112, 144, 16], pairs: false, |v, p| {
    with(bits(v[p / 2], p % 2 * 4, 15), v[4], p, 4, 16)
});
// Half a block: nibbles of 64 bytes, low ones first, and pairs of bits of 32 bytes.
turn!(BlockQ6_K, [0, 32, 64, 96, 128, 160], pairs: false, |v, p| {
    with(bits(v[p / 4 * 2 + p % 2], p % 4 / 2 * 4, 15), v[4 + p / 4], p % 4 * 2, 4, 0x30)
});
// Half a block: pairs of bits of 32 bytes.
turn!(BlockQ2_K, [16, 48], pairs: true, |v, p| bits(v[p / 4], p % 4 * 2, 3));
// The same, and bit p for part p.
turn!(BlockQ3_K, [32, 64, 0], pairs: true, |v, p| {
    with(bits(v[p / 4], p % 4 * 2, 3), v[2], p, 2, 4)
});
// 16 bytes are a part: low nibbles, then high ones.
turn!(BlockIQ4_XS, [8, 40, 72, 104], pairs: false, |v, p| {
    let [a, b, c, d, e, f, g, h] = v[p / 2];
    let half = if p.is_multiple_of(2) { [a, b, c, d] } else { [e, f, g, h] };
    let table = super::codes_avx512::table();
    let mask = _mm512_set1_epi8(15);
    let value = |v| _mm512_shuffle_epi8(table, _mm512_and_si512(v, mask));
    let high = half.map(|v| value(_mm512_srli_epi16::<4>(v)));
    let low = half.map(value);
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
});
