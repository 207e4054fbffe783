//! Panels of blocks of 32 for the matrix unit: Q8_0 weights, and the activations of all types of such blocks.
//!
//! Weights are laid out as for the AVX-512 tiles ([`super::q8_avx512`]), but signed: the unit takes both sides so, and no
//! sum needs a correction.

use super::Rows;
use super::q8_avx512::{self, W_STEP, W_STEP_MIN, act_bytes};
use super::tiles_amx::{Steps, TILE_ACTS};
use std::arch::x86_64::*;

/// Bytes of 16 activation rows' quants; their scales and scaled sums follow.
const X_QUANTS: usize = 32 * TILE_ACTS;
const X_SCALE: usize = X_QUANTS;
const X_SUM: usize = X_SCALE + 64;
/// Bytes of a step of 16 activation rows.
pub(super) const X_STEP: usize = X_SUM + 64;

/// The steps of types without and with a minimum.
pub(super) struct OfBlocks<const MIN: bool>;

impl<const MIN: bool> Steps for OfBlocks<MIN> {
    const ELEMENTS: usize = 32;
    const PLANES: usize = 1;
    const W_STEP: usize = if MIN { W_STEP_MIN } else { W_STEP };
    const W_PLANE: usize = 0;
    const W_STRIDE: usize = 128;
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
            let splat = |at: usize| _mm512_set1_ps(x.add(at).cast::<f32>().read());
            let wd = _mm512_load_ps(w.add(8 * 128).cast());
            for (n, acc) in acc.iter_mut().enumerate() {
                let sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums[0].add(16 * n).cast()));
                *acc = _mm512_fmadd_ps(_mm512_mul_ps(wd, splat(X_SCALE + 4 * n)), sum, *acc);
                if MIN {
                    let wm = _mm512_load_ps(w.add(q8_avx512::W_STEP).cast());
                    *acc = _mm512_fmadd_ps(wm, splat(X_SUM + 4 * n), *acc);
                }
            }
        }
    }
}

/// Packs up to 16 activation rows.
///
/// # Safety
/// AVX-512 is there; `x` describes 1 to 16 readable rows of Q8_0 blocks, Q8_1 if `MIN`; `out` takes [`X_STEP`] bytes per
/// block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_acts<const MIN: bool>(x: &Rows, out: *mut u8) {
    // SAFETY: the caller's promise. Rows past the last one repeat it; all places lie in the step.
    unsafe {
        for b in 0..x.n / 32 {
            let step = out.add(b * X_STEP);
            for t in 0..TILE_ACTS {
                let block = x.ptr.add(t.min(x.rows - 1) * x.row_bytes + b * act_bytes(MIN));
                let quants = _mm256_loadu_si256(block.add(act_bytes(MIN) - 32).cast());
                _mm256_storeu_si256(step.add(32 * t).cast(), quants);
                step.add(X_SCALE + 4 * t).cast::<f32>().write(q8_avx512::scale(block));
                if MIN {
                    step.add(X_SUM + 4 * t).cast::<f32>().write(q8_avx512::scale(block.add(2)));
                }
            }
        }
    }
}
