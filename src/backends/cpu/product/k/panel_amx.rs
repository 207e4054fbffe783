//! Panels of 256-element blocks for the matrix unit.
//!
//! The unit adds products of bytes over whole blocks, so scales of sub-blocks are multiplied into the quants while
//! weights are packed. What fits a signed byte is one plane of weights; else the product p is split as `64 h + l` with l
//! from -32 to 31, and the block's sum is 64 times the sum of one plane plus that of the other: the same integer.

use super::super::Rows;
use super::super::tiles_amx::{Steps, TILE_ACTS};
use super::avx512::{Leaf, place};
use super::panel_avx512::{store_codes, store_head};
use super::{X_BSUMS, X_BYTES, X_QS};
use std::arch::x86_64::*;

/// Bytes of a vector of 32 rows, and of a plane of 64 of them.
const W_VECTOR: usize = 128;
const W_PLANE: usize = 64 * W_VECTOR;
/// Bytes of 16 activation rows' quants, 64 elements at a time, and what follows: scales, pairs of sums of 32 quants, and
/// pairs of sums of 16.
const X_QUANTS: usize = 256 * TILE_ACTS;
const X_D: usize = X_QUANTS;
const X_PAIRS_32: usize = X_D + 64;
const X_PAIRS_16: usize = X_PAIRS_32 + 4 * 64;
/// Bytes of a step of 16 activation rows.
pub(super) const X_STEP: usize = X_PAIRS_16 + 8 * 64;

/// Whether quants times scales fit a signed byte.
const fn is_flat<B: Leaf>() -> bool {
    B::BIAS == 0 && B::FLAT.is_some()
}
const fn planes<B: Leaf>() -> usize {
    if is_flat::<B>() { 1 } else { 2 }
}
const fn d_at<B: Leaf>() -> usize {
    planes::<B>() * W_PLANE
}
/// Bytes of a step of 32 weight rows.
pub(super) const fn step_bytes<B: Leaf>() -> usize {
    d_at::<B>() + W_VECTOR + if B::HAS_MIN { W_VECTOR + 128 / B::SUB * W_VECTOR } else { 0 }
}

/// The steps of a type.
pub(super) struct OfType<B>(std::marker::PhantomData<B>);

impl<B: Leaf> Steps for OfType<B> {
    const ELEMENTS: usize = 256;
    const PLANES: usize = planes::<B>();
    const W_STEP: usize = step_bytes::<B>();
    const W_PLANE: usize = W_PLANE;
    const W_STRIDE: usize = W_VECTOR;
    const X_STEP: usize = X_STEP;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn finish<const N: usize>(
        acc: &mut [__m512; N],
        w: *const u8,
        x: *const u8,
        sums: [*const i32; 2],
    ) {
        // SAFETY: the caller's promise: a step of weights, of activations and of sums is readable here.
        unsafe {
            let vector = |at: usize| _mm512_load_si512(w.add(at).cast());
            let splat = |at: usize| _mm512_set1_epi32(x.add(at).cast::<i32>().read());
            let d = _mm512_castsi512_ps(vector(d_at::<B>()));
            for (n, acc) in acc.iter_mut().enumerate() {
                let mut total = _mm512_load_si512(sums[0].add(16 * n).cast());
                if !is_flat::<B>() {
                    let low = _mm512_load_si512(sums[1].add(16 * n).cast());
                    total = _mm512_add_epi32(_mm512_slli_epi32::<6>(total), low);
                }
                let xd = _mm512_castsi512_ps(splat(X_D + 4 * n));
                *acc = _mm512_fmadd_ps(_mm512_mul_ps(d, xd), _mm512_cvtepi32_ps(total), *acc);
                if B::HAS_MIN {
                    let pairs = if B::SUB == 16 { X_PAIRS_16 } else { X_PAIRS_32 };
                    let mut sum = _mm512_setzero_si512();
                    for j in 0..128 / B::SUB {
                        let mins = vector(d_at::<B>() + (2 + j) * W_VECTOR);
                        sum = _mm512_dpwssd_epi32(sum, mins, splat(pairs + 64 * j + 4 * n));
                    }
                    let dmin = _mm512_castsi512_ps(vector(d_at::<B>() + W_VECTOR));
                    *acc = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, xd), _mm512_cvtepi32_ps(sum), *acc);
                }
            }
        }
    }
}

/// Packs up to 32 weight rows.
///
/// # Safety
/// AVX-512 is there; `w` describes 1 to 32 readable rows of blocks of the type; `out`, 64-byte aligned, takes
/// [`step_bytes`] per block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_weights<B: Leaf>(w: &Rows, out: *mut u8) {
    for half in 0..w.rows.div_ceil(16) {
        // SAFETY: the caller's promise. Rows past the last one repeat it; half h fills its half of every vector.
        unsafe {
            let mut row: [*const u8; 16] =
                std::array::from_fn(|r| w.ptr.add((half * 16 + r).min(w.rows - 1) * w.row_bytes));
            for b in 0..w.n / 256 {
                let step = out.add(b * step_bytes::<B>() + half * 64);
                let head = B::head(&row);
                let mut high = [[_mm512_setzero_si512(); 16]; 4];
                let mut low = high;
                for (r, &p) in row.iter().enumerate() {
                    let scales = head.scales.0[place(r)].as_ptr();
                    for (i, codes) in B::codes(p).into_iter().enumerate() {
                        [high[i][r], low[i][r]] = scaled::<B>(codes, &B::ORDER[i], scales);
                    }
                }
                store_codes::<B>(&high, step);
                if !is_flat::<B>() {
                    store_codes::<B>(&low, step.add(W_PLANE));
                }
                store_head::<B>(&head, step.add(d_at::<B>()));
                for p in &mut row {
                    *p = p.wrapping_add(size_of::<B>());
                }
            }
        }
    }
}

/// Quants times scales of a register of codes: their upper and lower part, or all of them as the upper one.
///
/// # Safety
/// AVX-512 is there and `scales` points to 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn scaled<B: Leaf>(codes: __m512i, order: &[u8; 4], scales: *const i8) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    let all = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(scales.cast()) });
    // A 16-bit lane holds two elements of one sub-block, whose scale it gets twice; the upper one is sign-extended.
    let part = |i: usize| i32::from(order[i]) / B::SUB as i32 * 0x0101_0101;
    let (a, b, c, d) = (part(0), part(1), part(2), part(3));
    let index = _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
    let scale = _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(all, index));
    let quants = _mm512_sub_epi8(codes, _mm512_set1_epi8(B::BIAS.cast_signed()));
    let even = _mm512_mullo_epi16(_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(quants)), scale);
    let odd = _mm512_mullo_epi16(_mm512_srai_epi16::<8>(quants), scale);
    let merge = |even: __m512i, odd: __m512i| {
        _mm512_or_si512(_mm512_and_si512(even, _mm512_set1_epi16(0xff)), _mm512_slli_epi16::<8>(odd))
    };
    if is_flat::<B>() {
        return [merge(even, odd), _mm512_setzero_si512()];
    }
    let low = |p: __m512i| {
        let lifted = _mm512_add_epi16(p, _mm512_set1_epi16(32));
        _mm512_sub_epi16(_mm512_and_si512(lifted, _mm512_set1_epi16(63)), _mm512_set1_epi16(32))
    };
    let (l_even, l_odd) = (low(even), low(odd));
    let high = |p: __m512i, l: __m512i| _mm512_srai_epi16::<6>(_mm512_sub_epi16(p, l));
    [merge(high(even, l_even), high(odd, l_odd)), merge(l_even, l_odd)]
}

/// Packs up to 16 activation rows.
///
/// # Safety
/// AVX-512 is there; `x` describes 1 to 16 readable rows of Q8_K blocks; `out` takes [`X_STEP`] bytes per block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_acts(x: &Rows, out: *mut u8) {
    // SAFETY: the caller's promise. Rows past the last one repeat it; all places lie in the step.
    unsafe {
        for b in 0..x.n / 256 {
            let step = out.add(b * X_STEP);
            for t in 0..TILE_ACTS {
                let block = x.ptr.add(t.min(x.rows - 1) * x.row_bytes + b * X_BYTES);
                for q in 0..4 {
                    let quants = _mm512_loadu_si512(block.add(X_QS + 64 * q).cast());
                    _mm512_storeu_si512(step.add((q * TILE_ACTS + t) * 64).cast(), quants);
                }
                step.add(X_D + 4 * t).cast::<f32>().write(block.cast::<f32>().read_unaligned());
                for j in 0..8 {
                    let pair = block.add(X_BSUMS + 4 * j).cast::<[i16; 2]>().read_unaligned();
                    step.add(X_PAIRS_16 + 64 * j + 4 * t).cast::<[i16; 2]>().write(pair);
                }
                for j in 0..4 {
                    let four = block.add(X_BSUMS + 8 * j).cast::<[i16; 4]>().read_unaligned();
                    // Sums of 32 quants of at most 127 fit 16 bits.
                    let pair = [four[0].wrapping_add(four[1]), four[2].wrapping_add(four[3])];
                    step.add(X_PAIRS_32 + 64 * j + 4 * t).cast::<[i16; 2]>().write(pair);
                }
            }
        }
    }
}
