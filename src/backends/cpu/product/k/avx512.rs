//! What the leaves of the 256-element types share on AVX-512 with VNNI, and what each type brings.
//!
//! A block's codes are read as four registers in the order that the file's bits suggest, unsigned: what is added
//! to make them so ([`Leaf::BIAS`]) is taken from the integer sums again. Lanes are four bytes of codes in the
//! direct path, and weight rows in tiles and in everything that belongs to a row.

use crate::quant::BlockK;
use std::arch::x86_64::*;

/// `a | (b & c)`, as the immediate of a ternary operation on a, b and c.
pub(super) const OR_AND: i32 = 0xF8;

/// First element of each 16 bytes of the four registers of codes.
pub(super) type Order = [[u8; 4]; 4];
/// Registers of 64 successive elements.
pub(super) const IN_ORDER: Order =
    [[0, 16, 32, 48], [64, 80, 96, 112], [128, 144, 160, 176], [192, 208, 224, 240]];
/// Nibbles of 32 bytes make 64 elements: the low ones first.
pub(super) const NIBBLES_64: Order =
    [[0, 16, 64, 80], [32, 48, 96, 112], [128, 144, 192, 208], [160, 176, 224, 240]];
/// Nibbles of 16 bytes make 32 elements.
pub(super) const NIBBLES_32: Order =
    [[0, 32, 64, 96], [16, 48, 80, 112], [128, 160, 192, 224], [144, 176, 208, 240]];
/// Pairs of bits of 32 bytes make 128 elements.
pub(super) const PAIRS_128: Order =
    [[0, 16, 128, 144], [32, 48, 160, 176], [64, 80, 192, 208], [96, 112, 224, 240]];

/// What belongs to a block beside its codes, for 16 rows.
pub(super) struct Head {
    /// Scales of the blocks, lanes in the order of the rows.
    pub d: __m512,
    /// Scales of the minima, if the type has them.
    pub dmin: __m512,
    /// Scales of the sub-blocks, 16 bytes per row; row r has place [`place`]`(r)`.
    pub scales: Scales,
    /// Minima of the sub-blocks as 16-bit units. Register g holds rows g, g + 4, g + 8, g + 12 in its four parts;
    /// of a row the first 8 minima and, if there are more, the others.
    pub mins: [[__m512i; 4]; 2],
}

/// Bytes that 64-byte registers are stored to.
#[repr(C, align(64))]
pub(super) struct Scales(pub [[i8; 16]; 16]);

/// Where row r of 16 lies when registers of rows g, g + 4, g + 8, g + 12 are stored for g = 0, 1, 2, 3.
pub(super) const fn place(r: usize) -> usize {
    r % 4 * 4 + r / 4
}

/// A type of blocks on AVX-512.
pub(super) trait Leaf: BlockK {
    /// Where elements lie in the registers of codes.
    const ORDER: Order;
    /// What was added to the quants to make the codes unsigned.
    const BIAS: u8;
    /// Sums of products of four codes may pass 16 bits.
    const WIDE: bool = false;
    /// Scales of sub-blocks may be negative.
    const SIGNED: bool;
    /// Codes times scales, plus this, fit an unsigned byte: tiles then need no scales.
    const FLAT: Option<u8> = None;

    /// # Safety
    /// AVX-512 is there and the rows point to readable blocks of this type.
    unsafe fn head(row: &[*const u8; 16]) -> Head;
    /// # Safety
    /// AVX-512 is there and `p` points to a readable block of this type.
    unsafe fn codes(p: *const u8) -> [__m512i; 4];
}

/// Sixteen bytes of every row at `at`, arranged as [`Head::mins`].
///
/// # Safety
/// AVX-512 is there and every row has 16 readable bytes at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn bytes_16(row: &[*const u8; 16], at: usize) -> [__m512i; 4] {
    let mut out = [_mm512_setzero_si512(); 4];
    for (g, out) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise; g + 12 is at most 15.
        unsafe {
            let part = |i: usize| _mm_loadu_si128(row[g + i].add(at).cast());
            let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(0)), part(4));
            let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(8)), part(12));
            *out = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        }
    }
    out
}

/// Dwords 0, 1, 2, 3 of every row of such an arrangement, lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn dwords_4(p: [__m512i; 4]) -> [__m512i; 4] {
    let (ab0, ab1) = (_mm512_unpacklo_epi32(p[0], p[1]), _mm512_unpackhi_epi32(p[0], p[1]));
    let (cd0, cd1) = (_mm512_unpacklo_epi32(p[2], p[3]), _mm512_unpackhi_epi32(p[2], p[3]));
    [
        _mm512_unpacklo_epi64(ab0, cd0),
        _mm512_unpackhi_epi64(ab0, cd0),
        _mm512_unpacklo_epi64(ab1, cd1),
        _mm512_unpackhi_epi64(ab1, cd1),
    ]
}

/// The low 16 bits of every lane, as numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn halves(v: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v))
}

/// The high 16 bits of every lane, as numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn high_halves(v: __m512i) -> __m512 {
    halves(_mm512_srli_epi32::<16>(v))
}

/// Per 128-bit part, the four sums of the four dwords of a, b, c and d.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn sum_parts([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// The sum of the four parts of a, of b, of c and of d.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn sum_across([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xDD>(a, b));
    let cd = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xDD>(c, d));
    _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xDD>(ab, cd))
}

/// Four dwords in each 128-bit part.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn each(a: u32, b: u32, c: u32, d: u32) -> __m512i {
    let four = _mm_setr_epi32(a.cast_signed(), b.cast_signed(), c.cast_signed(), d.cast_signed());
    _mm512_broadcast_i32x4(four)
}
