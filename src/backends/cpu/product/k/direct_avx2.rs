//! Few activation rows against 256-element blocks on AVX2: the file's bytes, streamed once.
//!
//! `vpmaddubsw` multiplies unsigned codes of at most 63 by signed activations and adds two products: at most
//! 63 * 127 * 2, below 32768. Signed codes are multiplied as |w| by a carrying w's sign: at most 127 * 127 * 2.
//! `vpmaddwd` multiplies these sums by scales. Eight rows' lanes are then summed across to one register.

use super::super::in_order;
use super::super::q8_avx2::{DIRECT_ACTS, scales_8, store_flight, sum_rows};
use super::super::streams::{Flight, for_flights};
use super::super::{Rows, Sums};
use super::avx2::{Leaf, SIGNED, codes};
use super::in_order_avx2;
use super::{X_BSUMS, X_BYTES, X_QS};
use std::arch::x86_64::*;

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// AVX2 is there; `w` and `x` describe readable rows of blocks of the type and of Q8_K blocks, of one length, and
/// `out` has room for every pair.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Leaf>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    // SAFETY: the caller's promise, passed on; NT is the number of activation rows.
    unsafe {
        if in_order::pays(w, x, x.n / 256, size_of::<B>()) {
            return in_order_avx2::direct::<B>(w, x, pack, out);
        }
        for_flights(w, x, out, DIRECT_ACTS, size_of::<B>(), |flight, x, _, out| match x.rows {
            1 => direct_rows::<B, 1>(flight, x, out),
            2 => direct_rows::<B, 2>(flight, x, out),
            _ => direct_rows::<B, 3>(flight, x, out),
        });
    }
}

/// # Safety
/// As [`direct`], with `NT` activation rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn direct_rows<B: Leaf, const NT: usize>(flight: &Flight<8>, x: &Rows, out: Sums) {
    let size = size_of::<B>();
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        let row = &flight.row;
        let mut acc = [_mm256_setzero_ps(); NT];
        for b in 0..x.n / 256 {
            let at = b * size;
            let mut acts = [Acts::nothing(); NT];
            for (t, acts) in acts.iter_mut().enumerate() {
                *acts = Acts::load(x.ptr.add(t * x.row_bytes + b * X_BYTES));
            }
            let mut sums = [[_mm256_setzero_si256(); 8]; NT];
            let mut mins = [[_mm256_setzero_si256(); 8]; NT];
            // The compiler must not know this number: unrolled, eight rows would be in flight, in memory.
            let rows = std::hint::black_box(8);
            for r in 0..rows {
                let r = r & 7;
                let p = row[r].add(at);
                // Every line of a row once: blocks are no whole lines.
                for at in (at.next_multiple_of(64)..at + size).step_by(64) {
                    flight.ask(r, at);
                }
                let codes = codes::<B>(p);
                let [scales, least] = B::head(p);
                let scales = halves::<B>(scales);
                for (sums, x) in sums.iter_mut().zip(&acts) {
                    sums[r] = x.sum::<B>(&codes, scales);
                }
                if B::HAS_MIN {
                    let least = halves::<B>(least);
                    for (mins, x) in mins.iter_mut().zip(&acts) {
                        mins[r] = x.min_sum(least);
                    }
                }
            }
            let wd = scales_8(row, at + B::D);
            for (t, x) in acts.iter().enumerate() {
                let d = _mm256_mul_ps(wd, x.d);
                acc[t] = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum_rows(sums[t])), acc[t]);
                if B::HAS_MIN {
                    let d = _mm256_mul_ps(scales_8(row, at + B::DMIN), x.d);
                    acc[t] = _mm256_fnmadd_ps(d, _mm256_cvtepi32_ps(sum_rows(mins[t])), acc[t]);
                }
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            store_flight(flight, *acc, out.ptr.add(t * out.stride));
        }
    }
}

/// Bytes of sub-blocks as 16-bit units: unit i of each half is that of the same half of elements 32 i and up.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn halves<B: Leaf>(v: __m128i) -> __m256i {
    let order = if B::SUB == 16 {
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15)
    } else {
        _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7)
    };
    _mm256_cvtepi8_epi16(_mm_shuffle_epi8(v, order))
}

/// A block of one activation row.
#[derive(Clone, Copy)]
pub(super) struct Acts {
    qs: *const u8,
    /// Sums of 16 quants, arranged as [`halves`] does, so that the halves of a sub-block of 32 meet one minimum.
    sums: __m256i,
    d: __m256,
}

impl Acts {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn nothing() -> Acts {
        Acts { qs: std::ptr::null(), sums: _mm256_setzero_si256(), d: _mm256_setzero_ps() }
    }

    /// # Safety
    /// AVX2 is there and `p` points to a readable Q8_K block, which outlives this.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn load(p: *const u8) -> Acts {
        // SAFETY: the caller's promise.
        unsafe {
            // Even sums to the first half, odd ones to the second.
            let sums = _mm256_loadu_si256(p.add(X_BSUMS).cast());
            let split = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            let sums = _mm256_shuffle_epi8(sums, _mm256_broadcastsi128_si256(split));
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
            Acts { qs: p.add(X_QS), sums, d: _mm256_set1_ps(p.cast::<f32>().read_unaligned()) }
        }
    }

    /// Lanes that add up to the exact sum of minima, as [`halves`] has them, times sums of activations.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn min_sum(&self, least: __m256i) -> __m256i {
        _mm256_madd_epi16(least, self.sums)
    }

    /// Lanes that add up to a row's exact sum.
    ///
    /// # Safety
    /// AVX2 is there and the block still is.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn sum<B: Leaf>(&self, codes: &[__m256i; 8], scales: __m256i) -> __m256i {
        let mut sum = if B::BIAS == 0 || B::BIAS == SIGNED {
            _mm256_setzero_si256()
        } else {
            let over = _mm256_madd_epi16(scales, self.sums);
            let over = _mm256_mullo_epi32(over, _mm256_set1_epi32(i32::from(B::BIAS)));
            _mm256_sub_epi32(_mm256_setzero_si256(), over)
        };
        for (i, codes) in codes.iter().enumerate() {
            // SAFETY: the caller's promise: 256 quants.
            let a = unsafe { _mm256_loadu_si256(self.qs.add(32 * i).cast()) };
            let products = if B::BIAS == SIGNED {
                _mm256_maddubs_epi16(_mm256_abs_epi8(*codes), _mm256_sign_epi8(a, *codes))
            } else {
                _mm256_maddubs_epi16(*codes, a)
            };
            let unit = _mm256_set1_epi16(0x0100 + 0x0202 * i as i16);
            let scale = _mm256_shuffle_epi8(scales, unit);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(products, scale));
        }
        sum
    }
}
