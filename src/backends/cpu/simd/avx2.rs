//! Sixteen lanes as two AVX registers.

use super::{LANES, Simd};
use std::arch::x86_64::*;

/// The token of AVX2 with FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token.
    ///
    /// # Safety
    /// The machine has what `Isa::Avx2` asks for.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx2(())
    }
}

/// Lanes 0 to 7 and 8 to 15.
type Pair = [__m256; 2];

/// Intrinsics of the token's instruction set, without memory.
macro_rules! isa {
    ($($e:tt)*) => {
        // SAFETY: the token proves that the machine has the instruction set.
        unsafe { $($e)* }
    };
}

/// All bits set in the first n lanes of each half.
#[inline(always)]
fn lanes(_: Avx2, n: usize) -> [__m256i; 2] {
    let n = n.min(LANES) as i32;
    isa!({
        let i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        [_mm256_cmpgt_epi32(_mm256_set1_epi32(n), i), _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), i)]
    })
}

/// Sixteen signed bytes as numbers.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn widen_i8(x: __m128i) -> Pair {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x)));
        [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
    }
}

impl Simd for Avx2 {
    type V = Pair;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        isa!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Pair {
        // SAFETY: sixteen elements behind the reference; the token proves the instruction set.
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32]) -> Pair {
        let m = lanes(self, x.len());
        // SAFETY: the masks admit only lanes inside the slice (the second address may be past it, so it is made
        // without a promise of being inside); the token proves the instruction set.
        unsafe {
            [_mm256_maskload_ps(x.as_ptr(), m[0]), _mm256_maskload_ps(x.as_ptr().wrapping_add(8), m[1])]
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Pair {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: 32 bytes behind the reference; the token proves the instruction set.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))] }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Pair {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: 32 bytes behind the reference; the token proves the instruction set.
        unsafe {
            let lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
            let hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(1)));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(lo)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(hi)),
            ]
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Pair {
        // SAFETY: 16 bytes behind the reference; the token proves the instruction set.
        unsafe { widen_i8(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_nibbles(self, x: &[u8; LANES]) -> (Pair, Pair) {
        // SAFETY: 16 bytes behind the reference; the token proves the instruction set.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let (mask, eight) = (_mm_set1_epi8(15), _mm_set1_epi8(8));
            let (low, high) = (_mm_and_si128(x, mask), _mm_and_si128(_mm_srli_epi16::<4>(x), mask));
            (widen_i8(_mm_sub_epi8(low, eight)), widen_i8(_mm_sub_epi8(high, eight)))
        }
    }
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> Pair {
        isa!([_mm256_cvtph_ps(_mm_set1_epi16(bits.cast_signed())); 2])
    }
    #[inline(always)]
    fn store(self, v: Pair, to: &mut [f32; LANES]) {
        // SAFETY: sixteen elements behind the reference; the token proves the instruction set.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        }
    }
    #[inline(always)]
    fn store_tail(self, v: Pair, to: &mut [f32]) {
        let m = lanes(self, to.len());
        // SAFETY: as in `load_tail`.
        unsafe {
            _mm256_maskstore_ps(to.as_mut_ptr(), m[0], v[0]);
            _mm256_maskstore_ps(to.as_mut_ptr().wrapping_add(8), m[1], v[1]);
        }
    }
    #[inline(always)]
    fn store_f16(self, v: Pair, to: &mut [u16; LANES]) {
        const EVEN: i32 = _MM_FROUND_TO_NEAREST_INT;
        let p = to.as_mut_ptr().cast::<__m128i>();
        // SAFETY: 32 bytes behind the reference; the token proves the instruction set.
        unsafe {
            _mm_storeu_si128(p, _mm256_cvtps_ph::<EVEN>(v[0]));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<EVEN>(v[1]));
        }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        isa!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        isa!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        isa!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        isa!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        isa!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        isa!({
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        })
    }
    #[inline(always)]
    fn store_i8(self, v: Pair, to: &mut [i8; LANES]) {
        // SAFETY: 16 bytes behind the reference; the token proves the instruction set. The conversion rounds as
        // MXCSR says, which Rust keeps at nearest even.
        unsafe {
            // Packing works inside 128-bit halves: words 0-3, 8-11, 4-7, 12-15.
            let w = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let w = _mm256_permute4x64_epi64::<0b11_01_10_00>(w);
            let q = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256::<1>(w));
            _mm_storeu_si128(to.as_mut_ptr().cast(), q);
        }
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        isa!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn first(self, n: usize, b: Pair, a: Pair) -> Pair {
        let m = lanes(self, n);
        isa!([
            _mm256_blendv_ps(a[0], b[0], _mm256_castsi256_ps(m[0])),
            _mm256_blendv_ps(a[1], b[1], _mm256_castsi256_ps(m[1])),
        ])
    }
    #[inline(always)]
    fn add_exponent(self, p: Pair, t: Pair) -> Pair {
        isa!({
            let mut out = p;
            for (o, t) in out.iter_mut().zip(t) {
                let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
                *o = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(*o), n));
            }
            out
        })
    }
    #[inline(always)]
    fn where_below(self, x: Pair, bound: f32, b: Pair, a: Pair) -> Pair {
        isa!({
            let bound = _mm256_set1_ps(bound);
            [
                _mm256_blendv_ps(a[0], b[0], _mm256_cmp_ps::<_CMP_LT_OQ>(x[0], bound)),
                _mm256_blendv_ps(a[1], b[1], _mm256_cmp_ps::<_CMP_LT_OQ>(x[1], bound)),
            ]
        })
    }
    #[inline(always)]
    fn where_at_most(self, x: Pair, bound: f32, b: Pair, a: Pair) -> Pair {
        isa!({
            let bound = _mm256_set1_ps(bound);
            [
                _mm256_blendv_ps(a[0], b[0], _mm256_cmp_ps::<_CMP_LE_OQ>(x[0], bound)),
                _mm256_blendv_ps(a[1], b[1], _mm256_cmp_ps::<_CMP_LE_OQ>(x[1], bound)),
            ]
        })
    }
    #[inline(always)]
    fn max_lane(self, v: Pair) -> f32 {
        isa!({
            let h = _mm256_max_ps(v[0], v[1]);
            let q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps::<1>(h));
            let e = _mm_max_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_max_ss(e, _mm_movehdup_ps(e)))
        })
    }
    #[inline(always)]
    fn tree(self, v: Pair) -> f32 {
        isa!({
            let h = _mm256_add_ps(v[0], v[1]);
            let q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps::<1>(h));
            let e = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)))
        })
    }
    #[inline(always)]
    fn half_trees(self, v: [Pair; 4]) -> Pair {
        // The first step is one addition of the two registers; the second adds the far halves of two vectors to their near
        // halves and packs the results.
        isa!({
            let mut out = [_mm256_setzero_ps(); 2];
            for (i, out) in out.iter_mut().enumerate() {
                let (a, b) = (v[2 * i], v[2 * i + 1]);
                let (a, b) = (_mm256_add_ps(a[0], a[1]), _mm256_add_ps(b[0], b[1]));
                *out =
                    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
            }
            out
        })
    }
    #[inline(always)]
    fn rest_of_trees(self, v: [Pair; 4]) -> Pair {
        isa!({
            let mut out = [_mm256_setzero_ps(); 2];
            for (i, out) in out.iter_mut().enumerate() {
                let mut e = [_mm256_setzero_ps(); 2];
                for (j, e) in e.iter_mut().enumerate() {
                    let (a, b) = (_mm256_castps_pd(v[2 * j][i]), _mm256_castps_pd(v[2 * j + 1][i]));
                    *e = _mm256_add_ps(
                        _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                        _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)),
                    );
                }
                *out = _mm256_add_ps(
                    _mm256_shuffle_ps::<0x88>(e[0], e[1]),
                    _mm256_shuffle_ps::<0xDD>(e[0], e[1]),
                );
            }
            out
        })
    }
    #[inline(always)]
    fn unzip(self, a: Pair, b: Pair) -> (Pair, Pair) {
        isa!({
            let (mut even, mut odd) = (a, b);
            for (i, [x, y]) in [a, b].into_iter().enumerate() {
                // Shuffles work inside 128-bit halves; the quarters come out as 0, 2, 1, 3.
                let (e, o) = (
                    _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(x, y)),
                    _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(x, y)),
                );
                even[i] = _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(e));
                odd[i] = _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(o));
            }
            (even, odd)
        })
    }
    #[inline(always)]
    fn zip(self, even: Pair, odd: Pair) -> (Pair, Pair) {
        isa!({
            let mut out = [even, odd];
            for (i, out) in out.iter_mut().enumerate() {
                let (l, h) = (_mm256_unpacklo_ps(even[i], odd[i]), _mm256_unpackhi_ps(even[i], odd[i]));
                *out = [_mm256_permute2f128_ps::<0x20>(l, h), _mm256_permute2f128_ps::<0x31>(l, h)];
            }
            (out[0], out[1])
        })
    }
    #[inline(always)]
    fn transpose(self, v: &[Pair; LANES]) -> [Pair; LANES] {
        isa!({
            let mut out = [[_mm256_setzero_ps(); 2]; LANES];
            // Four blocks of 8 x 8: rows from `r`, columns from the register `c`.
            for (r, c) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let mut t = [_mm256_setzero_ps(); 8];
                for g in 0..2 {
                    let i = 8 * r + 4 * g;
                    let (a, b, d, e) = (v[i][c], v[i + 1][c], v[i + 2][c], v[i + 3][c]);
                    let (ab, ab2) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                    let (de, de2) = (_mm256_unpacklo_ps(d, e), _mm256_unpackhi_ps(d, e));
                    t[4 * g] = _mm256_shuffle_ps::<0b01_00_01_00>(ab, de);
                    t[4 * g + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab, de);
                    t[4 * g + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab2, de2);
                    t[4 * g + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab2, de2);
                }
                for i in 0..4 {
                    out[8 * c + i][r] = _mm256_permute2f128_ps::<0x20>(t[i], t[4 + i]);
                    out[8 * c + 4 + i][r] = _mm256_permute2f128_ps::<0x31>(t[i], t[4 + i]);
                }
            }
            out
        })
    }
}
