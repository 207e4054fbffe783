//! Several activation rows against 256-element blocks on AVX-512 with VNNI: quants of 16 weight rows are turned, a block
//! at a time, so that lanes are weight rows, and meet every activation row from the first level of the cache.
//!
//! Turning costs more than one activation row's products, so this is the direct path from three rows on. What was
//! added to the quants to make codes is taken off the block's sum, with the sums that the activations bring.

use super::super::q8_avx512::{load_16, quads, store, transpose_16};
use super::super::streams::Flight;
use super::super::{Rows, Sums};
use super::avx512::{Head, Leaf, Scales, dwords_4};
use super::{X_BSUMS, X_BYTES, X_QS};
use std::arch::x86_64::*;

/// Most activation rows at once.
pub(super) const ACTS: usize = 8;

/// Parts of a block: 32 elements each.
const PARTS: usize = 8;

/// Strips of 32 bytes, turned: register k holds bytes 4 k to 4 k + 3 of every row.
pub(super) type Turned = [[__m512i; 8]; 6];

/// How turned quants become codes.
pub(super) trait Turn: Leaf {
    /// Where the block's strips of 32 bytes are.
    const STRIPS: &'static [usize];
    /// Every 16 elements have a scale and their sums fit 16 bits: two such sums meet their scales as pairs.
    const PAIRS: bool;
    /// The codes of elements 32 p and up: register k holds elements 4 k to 4 k + 3 of every row.
    ///
    /// # Safety
    /// AVX-512 is there; `p` is below 8.
    unsafe fn part(turned: &Turned, p: usize) -> [__m512i; 8];
}

/// The sums of every 32 elements, at most 4064, row after row, block after block, if there are rows enough for [`rows`].
///
/// # Safety
/// AVX-512 is there, `x` describes readable rows of Q8_K blocks, and `out` takes 16 bytes for each of their blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_sums(x: &Rows, out: *mut u8) {
    let blocks = x.n / 256;
    let all = if x.rows > 2 { x.rows * blocks } else { 0 };
    for i in 0..all {
        // SAFETY: the caller's promise.
        unsafe {
            let p = x.ptr.add(i / blocks * x.row_bytes + i % blocks * X_BYTES);
            let twos = _mm256_madd_epi16(_mm256_loadu_si256(p.add(X_BSUMS).cast()), _mm256_set1_epi16(1));
            _mm_storeu_si128(out.add(16 * i).cast(), _mm256_cvtepi32_epi16(twos));
        }
    }
}

/// The weight rows of a flight against up to `NT` activation rows, of which `sums` are [`pack_sums`] if minima are those of 32
/// elements.
///
/// # Safety
/// AVX-512 with VNNI is there; the flight's rows and `x` are readable rows of blocks of the type and of Q8_K blocks, of
/// one length, and `out` has room for every pair.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn rows<B: Turn, const NT: usize>(
    flight: &Flight<16>,
    x: &Rows,
    sums: *const [i16; 8],
    out: Sums,
) {
    let zero = _mm512_setzero_si512();
    let size = size_of::<B>();
    let mut row = flight.row;
    let mut acc = [_mm512_setzero_ps(); NT];
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        for b in 0..x.n / 256 {
            for r in 0..flight.row.len() {
                // Every line of a row once: blocks are no whole lines.
                for at in ((b * size).next_multiple_of(64)..(b + 1) * size).step_by(64) {
                    flight.ask(r, at);
                }
            }
            let head = B::head(&row);
            let mut turned: Turned = [[zero; 8]; 6];
            for (turned, &at) in turned.iter_mut().zip(B::STRIPS) {
                *turned = transpose_16(load_16(&row, at));
            }
            let scales = scale_pairs::<B>(&head.scales);
            // Rows past the last one repeat it and are not stored.
            let block = |t: usize| x.ptr.add(t.min(x.rows - 1) * x.row_bytes + b * X_BYTES);
            let mut total = [zero; NT];
            // The compiler must not know this number: unrolled, nothing would stay in registers.
            for p in 0..std::hint::black_box(PARTS) {
                let codes = B::part(&turned, p);
                let [first, second] =
                    [[codes[0], codes[1], codes[2], codes[3]], [codes[4], codes[5], codes[6], codes[7]]];
                let pair = scales[p & 7];
                // As dwords, or as 16 bits below zeros.
                let [low, high] = if B::PAIRS {
                    [_mm512_and_si512(pair, _mm512_set1_epi32(0xffff)), _mm512_srli_epi32::<16>(pair)]
                } else {
                    [_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(pair)), _mm512_srai_epi32::<16>(pair)]
                };
                for (t, total) in total.iter_mut().enumerate() {
                    let q = block(t).add(X_QS + 32 * p);
                    let a = quads(zero, first, q);
                    if B::PAIRS {
                        let c = quads(zero, second, q.add(16));
                        *total = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(*total, a, low), c, high);
                    } else if B::SUB == 16 {
                        let c = _mm512_mullo_epi32(quads(zero, second, q.add(16)), high);
                        *total = _mm512_add_epi32(*total, _mm512_add_epi32(_mm512_mullo_epi32(a, low), c));
                    } else {
                        let both = quads(a, second, q.add(16));
                        *total = _mm512_add_epi32(*total, _mm512_mullo_epi32(both, low));
                    }
                }
            }
            let fours = dwords_4(head.mins[0]);
            let lows = if B::HAS_MIN { min_pairs(&head) } else { scales };
            for (t, (acc, total)) in acc.iter_mut().zip(total).enumerate() {
                let mut low = zero;
                if B::HAS_MIN && B::SUB == 32 {
                    let sums = sums.add(t.min(x.rows - 1) * (x.n / 256) + b).cast::<i32>();
                    for (p, pair) in fours.into_iter().enumerate() {
                        low = _mm512_dpwssd_epi32(low, pair, _mm512_set1_epi32(sums.add(p).read_unaligned()));
                    }
                } else if B::HAS_MIN || B::BIAS != 0 {
                    for (p, pair) in lows.into_iter().enumerate() {
                        let sums = block(t).add(X_BSUMS + 4 * p).cast::<i32>().read_unaligned();
                        low = _mm512_dpwssd_epi32(low, pair, _mm512_set1_epi32(sums));
                    }
                }
                let xd = _mm512_set1_ps(block(t).cast::<f32>().read_unaligned());
                let d = _mm512_mul_ps(head.d, xd);
                let over = _mm512_mullo_epi32(low, _mm512_set1_epi32(i32::from(B::BIAS)));
                let total = if B::BIAS == 0 { total } else { _mm512_sub_epi32(total, over) };
                *acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(total), *acc);
                if B::HAS_MIN {
                    let d = _mm512_mul_ps(head.dmin, xd);
                    *acc = _mm512_fnmadd_ps(d, _mm512_cvtepi32_ps(low), *acc);
                }
            }
            for p in &mut row {
                *p = p.wrapping_add(size);
            }
        }
        for (t, acc) in acc.into_iter().enumerate().take(x.rows) {
            store(flight, acc, out.ptr.add(t * out.stride));
        }
    }
}

/// For each part the scales of its two halves, as pairs of 16-bit numbers of every row: they differ where sub-blocks
/// have 16 elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn scale_pairs<B: Leaf>(scales: &Scales) -> [__m512i; PARTS] {
    let mut raw = [_mm512_setzero_si512(); 4];
    for (raw, scales) in raw.iter_mut().zip(scales.0.as_chunks::<4>().0) {
        // SAFETY: four rows are 64 bytes.
        *raw = unsafe { _mm512_loadu_si512(scales.as_ptr().cast()) };
    }
    // Dword i of every row: scales 4 i to 4 i + 3. Each goes to the upper byte of 16 bits and down again with its sign.
    let dwords = dwords_4(raw);
    let take = |v: __m512i, first: i32, second: i32| {
        let index = _mm512_set1_epi32(0x0080_0080 | first << 8 | second << 24);
        let lane = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0400_0400, 0x0800_0800, 0x0c00_0c00));
        _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, _mm512_add_epi8(index, lane)))
    };
    let mut out = [_mm512_setzero_si512(); PARTS];
    for (p, out) in out.iter_mut().enumerate() {
        let i = p as i32;
        *out = if B::SUB == 16 {
            take(dwords[p / 2], i % 2 * 2, i % 2 * 2 + 1)
        } else {
            take(dwords[p / 4], i % 4, i % 4)
        };
    }
    out
}

/// The minima of 16 elements each, in the same arrangement.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn min_pairs(head: &Head) -> [__m512i; PARTS] {
    let mut out = [_mm512_setzero_si512(); PARTS];
    let (low, high) = out.split_at_mut(4);
    low.copy_from_slice(&dwords_4(head.mins[0]));
    high.copy_from_slice(&dwords_4(head.mins[1]));
    out
}
