//! The 256-element types on AVX2: how each one's codes, scales and minima come out of its bits.
//!
//! A block's codes are eight registers of 32 successive elements.

use crate::quant::{BlockIQ4_XS, BlockK, BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K, IQ4_VALUES};
use std::arch::x86_64::*;
use std::mem::offset_of;

/// A type of blocks on AVX2.
pub(super) trait Leaf: BlockK {
    /// Codes are quants plus this, unsigned and at most 63. 128 stands for signed codes, which are the quants.
    const BIAS: i16;
    /// Groups of four codes whose products, less the bias, add up in two 16-bit lanes.
    const GROUPS: usize;
    /// Where in the block its scale is, and that of its minima.
    const D: usize;
    const DMIN: usize = 0;

    /// Scales and minima of the sub-blocks as bytes, the first 8 or all 16 of each.
    ///
    /// # Safety
    /// AVX2 is there and `p` points to a readable block of this type.
    unsafe fn head(p: *const u8) -> [__m128i; 2];
    /// Where in the block the bits of its codes are, and how many registers of 32 bytes they fill.
    const BITS: usize;
    const REGISTERS: usize;

    /// A register of bits.
    ///
    /// # Safety
    /// As [`Leaf::head`], and `i` is below [`Leaf::REGISTERS`].
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn bits(p: *const u8, i: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { load(p.add(Self::BITS + 32 * i)) }
    }
    /// Codes of these bits, of which the first [`Leaf::REGISTERS`] registers count. A byte of codes comes from the same byte
    /// of those, so that bits can be put in another order before they become twice as much or more.
    ///
    /// # Safety
    /// AVX2 is there.
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8];
}

/// The codes of a block.
///
/// # Safety
/// As [`Leaf::head`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn codes<B: Leaf>(p: *const u8) -> [__m256i; 8] {
    let mut bits = [_mm256_setzero_si256(); 8];
    // SAFETY: the caller's promise.
    unsafe {
        for (i, bits) in bits.iter_mut().enumerate().take(B::REGISTERS) {
            *bits = B::bits(p, i);
        }
        B::codes(&bits)
    }
}

/// Signed codes, in [`Leaf::BIAS`].
pub(super) const SIGNED: i16 = 128;

/// A 4 x 4 transposition of dwords in each 128-bit half: register j holds dword j of every row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn transpose_4([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab0, ab1) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd0, cd1) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab0, cd0),
        _mm256_unpackhi_epi64(ab0, cd0),
        _mm256_unpacklo_epi64(ab1, cd1),
        _mm256_unpackhi_epi64(ab1, cd1),
    ]
}

/// An 8 x 8 transposition of dwords: register j holds dword j of every row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn transpose_8(q: [__m256i; 8]) -> [__m256i; 8] {
    // Per four rows: dword j of the four rows in each 128-bit half, j = 0, 1, 2, 3.
    let mut four = [[_mm256_setzero_si256(); 4]; 2];
    for (four, q) in four.iter_mut().zip(q.as_chunks::<4>().0) {
        *four = transpose_4(*q);
    }
    let mut out = [_mm256_setzero_si256(); 8];
    for j in 0..4 {
        out[j] = _mm256_permute2x128_si256::<0x20>(four[0][j], four[1][j]);
        out[j + 4] = _mm256_permute2x128_si256::<0x31>(four[0][j], four[1][j]);
    }
    out
}

/// 32 bytes at `p`.
///
/// # Safety
/// AVX2 is there and the bytes are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// 16 bytes at `p`.
///
/// # Safety
/// AVX2 is there and the bytes are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_16(p: *const u8) -> __m128i {
    // SAFETY: the caller's promise.
    unsafe { _mm_loadu_si128(p.cast()) }
}

/// Low and high nibbles of all bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles(v: __m256i) -> [__m256i; 2] {
    let mask = _mm256_set1_epi8(15);
    [_mm256_and_si256(v, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(v), mask)]
}

/// Nibbles of four registers: of each the low ones, then the high ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles_of_4(v: &[__m256i]) -> [__m256i; 8] {
    let mut out = [_mm256_setzero_si256(); 8];
    for (v, out) in v.iter().zip(out.as_chunks_mut().0) {
        *out = nibbles(*v);
    }
    out
}

/// `v` with those bits of `bits`, shifted left by `left` (or right), that `mask` names.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_bits(v: __m256i, bits: __m256i, left: i64, mask: i8) -> __m256i {
    let moved = if left >= 0 {
        _mm256_sllv_epi64(bits, _mm256_set1_epi64x(left))
    } else {
        _mm256_srlv_epi64(bits, _mm256_set1_epi64x(-left))
    };
    _mm256_or_si256(v, _mm256_and_si256(moved, _mm256_set1_epi8(mask)))
}

/// The head of Q4_K and Q5_K: 8 scales and 8 minima of 6 bits in 12 bytes behind 4.
///
/// # Safety
/// As [`Leaf::head`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn head_six_bits(p: *const u8) -> [__m128i; 2] {
    // SAFETY: the caller's promise: a block starts with these 16 bytes.
    let v = unsafe { load_16(p) };
    // Scales 0 to 3, scales 4 to 7, minima 0 to 3, minima 4 to 7.
    let low = _mm_srlv_epi32(_mm_shuffle_epi32::<0b11_10_11_01>(v), _mm_setr_epi32(0, 0, 0, 4));
    let low = _mm_and_si128(low, _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
    let high = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b10_10_01_01>(v));
    let high = _mm_and_si128(high, _mm_setr_epi32(0, 0x3030_3030, 0, 0x3030_3030));
    let all = _mm_or_si128(low, high);
    [all, _mm_srli_si128::<8>(all)]
}

impl Leaf for BlockQ4_K {
    const BIAS: i16 = 0;
    const GROUPS: usize = 8;
    const D: usize = offset_of!(BlockQ4_K, d);
    const DMIN: usize = offset_of!(BlockQ4_K, dmin);
    const BITS: usize = 16;
    const REGISTERS: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head(p: *const u8) -> [__m128i; 2] {
        // SAFETY: the caller's promise.
        unsafe { head_six_bits(p) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8] {
        nibbles_of_4(&bits[..4])
    }
}

impl Leaf for BlockQ5_K {
    const BIAS: i16 = 0;
    const GROUPS: usize = 4;
    const D: usize = offset_of!(BlockQ5_K, d);
    const DMIN: usize = offset_of!(BlockQ5_K, dmin);
    /// Fifth bits, then nibbles.
    const BITS: usize = 16;
    const REGISTERS: usize = 5;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head(p: *const u8) -> [__m128i; 2] {
        // SAFETY: the caller's promise.
        unsafe { head_six_bits(p) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8] {
        let (high, mut out) = (bits[0], nibbles_of_4(&bits[1..5]));
        for (j, out) in out.iter_mut().enumerate() {
            // Bit j belongs to elements 32 j and up; it moves to bit 4.
            *out = with_bits(*out, high, 4 - j as i64, 0x10);
        }
        out
    }
}

impl Leaf for BlockQ6_K {
    const BIAS: i16 = 32;
    const GROUPS: usize = 4;
    const D: usize = offset_of!(BlockQ6_K, d);
    /// Four of nibbles, two of pairs of bits.
    const BITS: usize = 0;
    const REGISTERS: usize = 6;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head(p: *const u8) -> [__m128i; 2] {
        // SAFETY: the caller's promise: 16 bytes of scales behind 192.
        [unsafe { load_16(p.add(192)) }, _mm_setzero_si128()]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8] {
        let mut out = [_mm256_setzero_si256(); 8];
        for half in 0..2 {
            let high = bits[4 + half];
            let ([a0, a1], [b0, b1]) = (nibbles(bits[2 * half]), nibbles(bits[2 * half + 1]));
            for (j, v) in [a0, b0, a1, b1].into_iter().enumerate() {
                out[4 * half + j] = with_bits(v, high, 4 - 2 * j as i64, 0x30);
            }
        }
        out
    }
}

impl Leaf for BlockQ2_K {
    const BIAS: i16 = 0;
    const GROUPS: usize = 4;
    const D: usize = offset_of!(BlockQ2_K, d);
    const DMIN: usize = offset_of!(BlockQ2_K, dmin);
    const BITS: usize = 16;
    const REGISTERS: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head(p: *const u8) -> [__m128i; 2] {
        // SAFETY: the caller's promise: a block starts with 16 bytes of scales and minima.
        let v = unsafe { load_16(p) };
        let mask = _mm_set1_epi8(15);
        [_mm_and_si128(v, mask), _mm_and_si128(_mm_srli_epi16::<4>(v), mask)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8] {
        pairs_of_2(&bits[..2])
    }
}

/// Pairs of bits of two registers: of each the lowest, then the higher ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pairs_of_2(v: &[__m256i]) -> [__m256i; 8] {
    let mut out = [_mm256_setzero_si256(); 8];
    for (&v, out) in v.iter().zip(out.as_chunks_mut::<4>().0) {
        let shifted = [v, _mm256_srli_epi16::<2>(v), _mm256_srli_epi16::<4>(v), _mm256_srli_epi16::<6>(v)];
        for (out, v) in out.iter_mut().zip(shifted) {
            *out = _mm256_and_si256(v, _mm256_set1_epi8(3));
        }
    }
    out
}

impl Leaf for BlockQ3_K {
    const BIAS: i16 = 4;
    const GROUPS: usize = 4;
    const D: usize = offset_of!(BlockQ3_K, d);
    /// Third bits, then pairs of bits.
    const BITS: usize = 0;
    const REGISTERS: usize = 3;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head(p: *const u8) -> [__m128i; 2] {
        // SAFETY: the caller's promise: the last 14 of 110 bytes are scales and d.
        let v = unsafe { load_16(p.add(94)) };
        let nibbles = _mm_setr_epi32(0x0504_0302, 0x0908_0706, 0x0504_0302, 0x0908_0706);
        let low = _mm_srlv_epi32(_mm_shuffle_epi8(v, nibbles), _mm_setr_epi32(0, 0, 4, 4));
        let low = _mm_and_si128(low, _mm_set1_epi8(15));
        let pairs = _mm_shuffle_epi8(v, _mm_set1_epi32(0x0d0c_0b0a));
        let pairs = _mm_and_si128(_mm_srlv_epi32(pairs, _mm_setr_epi32(0, 2, 4, 6)), _mm_set1_epi8(3));
        let all = _mm_or_si128(low, _mm_slli_epi32::<4>(pairs));
        [_mm_sub_epi8(all, _mm_set1_epi8(32)), _mm_setzero_si128()]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8] {
        let (high, mut out) = (bits[0], pairs_of_2(&bits[1..3]));
        for (j, out) in out.iter_mut().enumerate() {
            // Bit j belongs to elements 32 j and up; it moves to bit 2.
            *out = with_bits(*out, high, 2 - j as i64, 4);
        }
        out
    }
}

impl Leaf for BlockIQ4_XS {
    const BIAS: i16 = SIGNED;
    const GROUPS: usize = 1;
    const D: usize = offset_of!(BlockIQ4_XS, d);
    /// A register of bits is one of quants here: both halves of a register come from the same 16 bytes.
    const BITS: usize = 8;
    const REGISTERS: usize = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn head(p: *const u8) -> [__m128i; 2] {
        // SAFETY: the caller's promise: a block starts with d, the scales' high pairs of bits and their nibbles.
        let v = unsafe { load_16(p) };
        let nibbles = _mm_shuffle_epi8(v, _mm_setr_epi32(0x0505_0404, 0x0707_0606, 0, 0));
        let odd = _mm_set1_epi16(0xff00_u16.cast_signed());
        let low = _mm_blendv_epi8(nibbles, _mm_srli_epi16::<4>(nibbles), odd);
        let low = _mm_and_si128(low, _mm_set1_epi8(15));
        // Scales 0 to 3 from byte 2 and 4 to 7 from byte 3: bit 2 k of a byte belongs to its scale k. A product
        // moves its pair of bits to bits 6 and 7 of a 16-bit lane.
        const B2: i32 = 0x8002_8002_u32.cast_signed();
        const B3: i32 = 0x8003_8003_u32.cast_signed();
        let pairs = _mm_shuffle_epi8(v, _mm_setr_epi32(B2, B2, B3, B3));
        let pairs = _mm_mullo_epi16(pairs, _mm_setr_epi16(64, 16, 4, 1, 64, 16, 4, 1));
        let pairs = _mm_and_si128(_mm_srli_epi16::<6>(pairs), _mm_set1_epi16(3));
        let pairs = _mm_slli_epi16::<4>(_mm_packus_epi16(pairs, pairs));
        [_mm_sub_epi8(_mm_or_si128(low, pairs), _mm_set1_epi8(32)), _mm_setzero_si128()]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn bits(p: *const u8, i: usize) -> __m256i {
        // SAFETY: the caller's promise: 128 bytes of nibbles behind 8; the table is 16 bytes.
        unsafe {
            let table = _mm256_broadcastsi128_si256(load_16(IQ4_VALUES.as_ptr().cast()));
            let v = _mm256_broadcastsi128_si256(load_16(p.add(Self::BITS + 16 * i)));
            let v = _mm256_srlv_epi64(v, _mm256_setr_epi64x(0, 0, 4, 4));
            _mm256_shuffle_epi8(table, _mm256_and_si256(v, _mm256_set1_epi8(15)))
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn codes(bits: &[__m256i; 8]) -> [__m256i; 8] {
        *bits
    }
}
