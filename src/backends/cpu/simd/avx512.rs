//! Sixteen lanes as one AVX-512 register.

use super::{LANES, Simd};
use std::arch::x86_64::*;

/// The token of AVX-512 F, BW, DQ, VL with FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// The machine has what `Isa::Avx512` asks for.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx512(())
    }
}

/// Intrinsics of the token's instruction set, without memory.
macro_rules! isa {
    ($($e:tt)*) => {
        // SAFETY: the token proves that the machine has the instruction set.
        unsafe { $($e)* }
    };
}

/// A mask of the first n lanes; n is at most 16.
#[inline(always)]
fn lanes(n: usize) -> __mmask16 {
    ((1u32 << n.min(LANES)) - 1) as __mmask16
}

impl Simd for Avx512 {
    type V = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        isa!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        // SAFETY: sixteen elements behind the reference; the token proves the instruction set.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32]) -> __m512 {
        // SAFETY: the mask admits only lanes inside the slice; the token proves the instruction set.
        unsafe { _mm512_maskz_loadu_ps(lanes(x.len()), x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> __m512 {
        // This form reads memory, which `_mm512_cvtph_ps` cannot, as it says that exceptions are suppressed; one
        // operation of the vector units less. The conversion is exact either way.
        // SAFETY: 32 bytes behind the reference; the token proves the instruction set.
        unsafe {
            let halves = _mm256_loadu_si256(x.as_ptr().cast());
            _mm512_cvt_roundph_ps::<_MM_FROUND_CUR_DIRECTION>(halves)
        }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> __m512 {
        // SAFETY: 32 bytes behind the reference; the token proves the instruction set.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> __m512 {
        // SAFETY: 16 bytes behind the reference; the token proves the instruction set.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_nibbles(self, x: &[u8; LANES]) -> (__m512, __m512) {
        // SAFETY: 16 bytes behind the reference; the token proves the instruction set.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let (mask, eight) = (_mm_set1_epi8(15), _mm_set1_epi8(8));
            let (low, high) = (_mm_and_si128(x, mask), _mm_and_si128(_mm_srli_epi16::<4>(x), mask));
            let (low, high) = (_mm_sub_epi8(low, eight), _mm_sub_epi8(high, eight));
            (_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)))
        }
    }
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> __m512 {
        isa!(_mm512_cvtph_ps(_mm256_set1_epi16(bits.cast_signed())))
    }
    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32; LANES]) {
        // SAFETY: sixteen elements behind the reference; the token proves the instruction set.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_tail(self, v: __m512, to: &mut [f32]) {
        // SAFETY: the mask admits only lanes inside the slice; the token proves the instruction set.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len()), v) }
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, to: &mut [u16; LANES]) {
        // SAFETY: 32 bytes behind the reference; the token proves the instruction set.
        unsafe {
            let h = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), h);
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        isa!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        isa!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn store_i8(self, v: __m512, to: &mut [i8; LANES]) {
        // SAFETY: 16 bytes behind the reference; the token proves the instruction set. The conversion rounds as
        // MXCSR says, which Rust keeps at nearest even.
        unsafe {
            let q = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), q);
        }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn first(self, n: usize, b: __m512, a: __m512) -> __m512 {
        isa!(_mm512_mask_blend_ps(lanes(n), a, b))
    }
    #[inline(always)]
    fn add_exponent(self, p: __m512, t: __m512) -> __m512 {
        isa!({
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), n))
        })
    }
    #[inline(always)]
    fn where_below(self, x: __m512, bound: f32, b: __m512, a: __m512) -> __m512 {
        isa!({
            let m = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_set1_ps(bound));
            _mm512_mask_blend_ps(m, a, b)
        })
    }
    #[inline(always)]
    fn where_at_most(self, x: __m512, bound: f32, b: __m512, a: __m512) -> __m512 {
        isa!({
            let m = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(x, _mm512_set1_ps(bound));
            _mm512_mask_blend_ps(m, a, b)
        })
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        isa!(_mm512_reduce_max_ps(v))
    }
    #[inline(always)]
    fn tree(self, v: __m512) -> f32 {
        isa!({
            let h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps::<1>(h));
            let e = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)))
        })
    }
    #[inline(always)]
    fn tree4(self, v: [__m512; 4]) -> [f32; 4] {
        // The four trees side by side, in the end one in each 128-bit quarter.
        let q = self.half_trees(v);
        isa!({
            let e = _mm512_add_ps(q, _mm512_permute_ps::<0x4E>(q));
            let s = _mm512_add_ps(e, _mm512_permute_ps::<0xB1>(e));
            let mut out = [0f32; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, s)));
            out
        })
    }
    #[inline(always)]
    fn half_trees(self, [a, b, c, d]: [__m512; 4]) -> __m512 {
        // Each step adds the far halves of two vectors to their near halves and packs the results.
        isa!({
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
            _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xDD>(ab, cd))
        })
    }
    #[inline(always)]
    fn rest_of_trees(self, v: [__m512; 4]) -> __m512 {
        isa!({
            let (a, b) = (_mm512_castps_pd(v[0]), _mm512_castps_pd(v[1]));
            let (c, d) = (_mm512_castps_pd(v[2]), _mm512_castps_pd(v[3]));
            let ab = _mm512_add_ps(
                _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
            );
            let cd = _mm512_add_ps(
                _mm512_castpd_ps(_mm512_unpacklo_pd(c, d)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)),
            );
            _mm512_add_ps(_mm512_shuffle_ps::<0x88>(ab, cd), _mm512_shuffle_ps::<0xDD>(ab, cd))
        })
    }
    #[inline(always)]
    fn unzip(self, a: __m512, b: __m512) -> (__m512, __m512) {
        isa!({
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        })
    }
    #[inline(always)]
    fn zip(self, even: __m512, odd: __m512) -> (__m512, __m512) {
        isa!({
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(even, low, odd), _mm512_permutex2var_ps(even, high, odd))
        })
    }
    #[inline(always)]
    fn transpose(self, v: &[__m512; LANES]) -> [__m512; LANES] {
        isa!({
            // 4 x 4 blocks inside the 128-bit quarters, for each four rows ...
            let mut t = [_mm512_setzero_ps(); LANES];
            for g in 0..4 {
                let r = &v[4 * g..4 * g + 4];
                let (ab, ab2) = (_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1]));
                let (cd, cd2) = (_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3]));
                t[4 * g] = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
                t[4 * g + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd);
                t[4 * g + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(ab2, cd2);
                t[4 * g + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(ab2, cd2);
            }
            // ... then the quarters themselves, for each place in a quarter.
            let mut out = [_mm512_setzero_ps(); LANES];
            for c in 0..4 {
                let (a, b) = (t[c], t[4 + c]);
                let (d, e) = (t[8 + c], t[12 + c]);
                let (lo, hi) = (
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
                );
                let (lo2, hi2) = (
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(d, e),
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(d, e),
                );
                out[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(lo, lo2);
                out[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(lo, lo2);
                out[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(hi, hi2);
                out[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(hi, hi2);
            }
            out
        })
    }
}
