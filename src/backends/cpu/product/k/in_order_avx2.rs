//! One activation row against 256-element blocks on AVX2, weights as one stream: see [`super::super::in_order`].

use super::super::in_order::{self, AHEAD_256, Places, STEP, ask};
use super::super::q8_avx2::{scales_8, sum_rows};
use super::super::{Rows, Sums};
use super::X_BYTES;
use super::avx2::{Leaf, codes};
use super::direct_avx2::{Acts, halves};
use std::arch::x86_64::*;

/// Bytes for the scales of a row of n elements, the first once more behind the last.
pub(super) fn bytes(n: usize) -> usize {
    ((n / 256 + STEP) * 4).next_multiple_of(64)
}

/// Sums of all weight rows against one activation row.
///
/// # Safety
/// AVX2 is there; `w` and `x` describe readable rows of blocks of the type and one of Q8_K blocks, of one length,
/// [`in_order::pays`] agreed, `pack` takes [`bytes`], aligned, and `out` a sum of every row.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Leaf>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    let (blocks, size, d) = (x.n / 256, size_of::<B>(), pack.cast::<f32>());
    // SAFETY: the caller's promise.
    unsafe {
        for b in 0..blocks + STEP {
            d.add(b).write(x.ptr.add(b % blocks * X_BYTES).cast::<f32>().read_unaligned());
        }
        macro_rules! sums {
            ($min:literal) => {
                in_order::sums::<$min>(w, blocks, size, out, |p, index, to| {
                    step::<B>(p, index, blocks, x.ptr, d, to)
                })
            };
        }
        if B::HAS_MIN { sums!(true) } else { sums!(false) }
    }
}

/// # Safety
/// As [`direct`]; `p` points to [`STEP`] blocks, the first of which has this index in its row, `x` to the activations' blocks
/// and `d` to their scales.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn step<B: Leaf>(p: *const u8, index: usize, blocks: usize, x: *const u8, d: *const f32, to: &Places) {
    let size = size_of::<B>();
    let mut b = index;
    for at in (0..STEP).step_by(8) {
        let block: [*const u8; 8] = std::array::from_fn(|i| p.wrapping_add((at + i) * size));
        let (mut sums, mut mins) = ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
        // The compiler must not know this number: unrolled, eight blocks would be in flight, in memory.
        let all = std::hint::black_box(8);
        // SAFETY: the caller's promise.
        unsafe {
            for i in 0..all {
                let i = i & 7;
                ask(block[i].wrapping_add(AHEAD_256), size);
                let x = Acts::load(x.add(b * X_BYTES));
                let codes = codes::<B>(block[i]);
                let [scales, least] = B::head(block[i]);
                sums[i] = x.sum::<B>(&codes, halves::<B>(scales));
                if B::HAS_MIN {
                    mins[i] = x.min_sum(halves::<B>(least));
                }
                b += 1;
                b = if b == blocks { 0 } else { b };
            }
            let d = _mm256_loadu_ps(d.add(index + at));
            _mm256_storeu_ps(to.d.add(at), _mm256_mul_ps(scales_8(&block, B::D), d));
            _mm256_storeu_ps(to.s.add(at), _mm256_cvtepi32_ps(sum_rows(sums)));
            if B::HAS_MIN {
                let dmin = _mm256_mul_ps(scales_8(&block, B::DMIN), d);
                _mm256_storeu_ps(to.dmin.add(at), _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0)));
                _mm256_storeu_ps(to.smin.add(at), _mm256_cvtepi32_ps(sum_rows(mins)));
            }
        }
    }
}
