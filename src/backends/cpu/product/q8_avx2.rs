//! The direct path for Q8_0 weights, and what all weights in blocks of 32 share there. AVX2; for panels see
//! [`super::panels_avx2`].
//!
//! It multiplies |w| by a carrying w's sign (`vpmaddubsw` on unsigned times signed bytes). That cannot saturate:
//! |w| <= 128 and |a| <= 127, and two such products stay below 32513. Activations are made here, never -128 for finite
//! input. Lanes are weight rows, as in the AVX-512 leaves. `MIN` stands for types with a minimum, which meet Q8_1.

pub(super) use super::in_order_acts::cell_bytes as direct_bytes;
pub(super) use super::q8_avx512::act_bytes;
use super::streams::{Flight, for_flights};
use super::{Rows, Sums};
use std::arch::x86_64::*;

/// Scales and corrections of activation rows, `[row][block] (f32, i32)`, or scales and scaled sums, `(f32, f32)`. The
/// correction is -128 times the sum of the block.
///
/// # Safety
/// AVX2 is there; `x` describes readable rows of Q8_0 blocks, Q8_1 if `MIN`; `out` takes `direct_bytes` per row.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_direct<const MIN: bool>(x: &Rows, out: *mut u8) {
    for t in 0..x.rows {
        for b in 0..x.n / 32 {
            // SAFETY: the caller's promise; block b of row t is inside the row, and its cell 8 bytes of `out`.
            unsafe {
                let block = x.ptr.add(t * x.row_bytes + act_bytes(MIN) * b);
                let cell = out.add(t * direct_bytes(x.n) + 8 * b);
                cell.cast::<f32>().write(scale(block));
                if MIN {
                    cell.add(4).cast::<f32>().write(scale(block.add(2)));
                } else {
                    let q = block.add(2).cast::<[i8; 32]>().read();
                    cell.add(4).cast::<i32>().write(-128 * q.into_iter().map(i32::from).sum::<i32>());
                }
            }
        }
    }
}

/// The scale of a block.
///
/// # Safety
/// AVX2 with F16C is there and `block` has two readable bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn scale(block: *const u8) -> f32 {
    // SAFETY: the caller's promise.
    let bits = unsafe { block.cast::<u16>().read_unaligned() };
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// The scales of a block of 8 rows.
///
/// # Safety
/// AVX2 with F16C is there and every row has two readable bytes at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn scales_8(row: &[*const u8; 8], at: usize) -> __m256 {
    let mut bits = [0u16; 8];
    for (bits, row) in bits.iter_mut().zip(row) {
        // SAFETY: the caller's promise.
        *bits = unsafe { row.add(at).cast::<u16>().read_unaligned() };
    }
    // SAFETY: the array is 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bits.as_ptr().cast()) })
}

/// Most activation rows that the direct path takes at once.
pub(super) const DIRECT_ACTS: usize = 3;

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// AVX2 is there; `w` and `x` describe readable rows of Q8_0 blocks of one length, and `out` has room for every
/// pair; `pack` is what [`pack_direct`] made of `x`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn direct(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    // SAFETY: the caller's promise, passed on; NT is the number of activation rows.
    unsafe {
        for_flights(w, x, out, DIRECT_ACTS, 34, |flight, x, t0, out| {
            let pack = pack.add(t0 * direct_bytes(x.n));
            match x.rows {
                1 => direct_rows::<1>(flight, x, pack, out),
                2 => direct_rows::<2>(flight, x, pack, out),
                _ => direct_rows::<3>(flight, x, pack, out),
            }
        });
    }
}

/// # Safety
/// As [`direct`], with `NT` activation rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn direct_rows<const NT: usize>(flight: &Flight<8>, x: &Rows, pack: *const u8, out: Sums) {
    let blocks = x.n / 32;
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        let row = &flight.row;
        let mut acc = [_mm256_setzero_ps(); NT];
        for b in 0..blocks {
            let at = 34 * b;
            // Once in a line of the cache.
            if at % 64 < 34 {
                for r in 0..row.len() {
                    flight.ask(r, at);
                }
            }
            let wd = scales_8(row, at);
            for (t, acc) in acc.iter_mut().enumerate() {
                let xb = x.ptr.add(t * x.row_bytes + at);
                let a = _mm256_loadu_si256(xb.add(2).cast());
                let mut p = [_mm256_setzero_si256(); 8];
                for (p, row) in p.iter_mut().zip(row) {
                    let q = _mm256_loadu_si256(row.add(at + 2).cast());
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
                    *p = _mm256_madd_epi16(pairs, ones);
                }
                let xd = pack.add(t * direct_bytes(x.n) + 8 * b).cast::<f32>().read();
                let d = _mm256_mul_ps(wd, _mm256_set1_ps(xd));
                *acc = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum_rows(p)), *acc);
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            store_flight(flight, acc, out.ptr.add(t * out.stride));
        }
    }
}

/// Stores sums whose lanes are the rows of a flight.
///
/// # Safety
/// AVX2 is there and `out` takes a sum of every weight row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn store_flight(flight: &Flight<8>, sums: __m256, out: *mut f32) {
    let mut all = [0f32; 8];
    // SAFETY: the array is 32 bytes; the rest is the caller's promise.
    unsafe {
        _mm256_storeu_ps(all.as_mut_ptr(), sums);
        flight.store(&all, out);
    }
}

/// Sums of the 8 dwords of each register, as lanes in the order of the registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum_rows(p: [__m256i; 8]) -> __m256i {
    let mut pairs = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let (a, b) = (p[2 * i], p[2 * i + 1]);
        pairs[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    }
    let mut fours = [_mm256_setzero_si256(); 2];
    for i in 0..2 {
        let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
        fours[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    }
    let [a, b] = fours;
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b))
}
