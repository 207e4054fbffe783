//! One activation row against weights in blocks of 32 on AVX2, weights as one stream: see [`super::in_order`].

use super::in_order::{self, Places, STEP, ask};
use super::in_order_acts::Acts;
use super::nibbles::Nibbles;
use super::nibbles_avx2::{codes_2, products, sum_rows as sum_twos};
use super::q8_avx2::{scales_8, sum_rows};
use super::{Rows, Sums};
use crate::quant::{Block32, BlockQ8_0};
use std::arch::x86_64::*;

/// A type of blocks of 32.
pub(super) trait Block {
    /// Bytes of a block.
    const SIZE: usize;
    /// Whether blocks have a minimum behind their scale.
    const HAS_MIN: bool;
    /// How far right a correction is shifted that was made for quants with 128 added; `None` where nothing was added.
    const FIX_SHIFT: Option<u32>;
    /// Whether elements 0 to 15 and 16 to 31 lie in registers of their own.
    const HALVES: bool;

    /// The sums of products of these blocks with activations: quants or two halves.
    ///
    /// # Safety
    /// AVX2 is there, the blocks are readable and `x` points to activations for them.
    unsafe fn sums(block: &[*const u8; 8], x: [*const u8; 2]) -> __m256i;
}

impl Block for BlockQ8_0 {
    const SIZE: usize = size_of::<BlockQ8_0>();
    const HAS_MIN: bool = false;
    const FIX_SHIFT: Option<u32> = None;
    const HALVES: bool = false;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums(block: &[*const u8; 8], [x, _]: [*const u8; 2]) -> __m256i {
        let mut sums = [_mm256_setzero_si256(); 8];
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise; a block's quants follow its scale of two bytes.
            let (q, a) = unsafe {
                (_mm256_loadu_si256(block[i].add(2).cast()), _mm256_loadu_si256(x.add(32 * i).cast()))
            };
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
            *sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        }
        sum_rows(sums)
    }
}

impl<T: Nibbles> Block for T {
    const SIZE: usize = T::BYTES;
    const HAS_MIN: bool = <T as Block32>::HAS_MIN;
    const FIX_SHIFT: Option<u32> =
        if <T as Block32>::HAS_MIN || T::TABLE { None } else { Some(<T as Nibbles>::FIX_SHIFT) };
    const HALVES: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sums(block: &[*const u8; 8], x: [*const u8; 2]) -> __m256i {
        // Register i is to hold blocks 2 i and 2 i + 1.
        let two: [*const u8; 8] = std::array::from_fn(|r| block[2 * (r % 4) + r / 4]);
        let mut sums = [_mm256_setzero_si256(); 4];
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let x = x.map(|x| _mm256_loadu_si256(x.add(32 * i).cast()));
                *sums = products::<T>(codes_2::<T>(&two, i, 0), x);
            }
        }
        _mm256_permutevar8x32_epi32(sum_twos(sums), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
    }
}

/// Sums of all weight rows against one activation row.
///
/// # Safety
/// AVX2 is there; `w` and `x` describe readable rows of blocks `B` and one of the activations that meet them, of one
/// length, [`in_order::pays`] agreed, `pack` is what [`super::q8_avx2::pack_direct`] made of `x`, and `out` takes a sum of
/// every row.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Block>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    let blocks = x.n / 32;
    // SAFETY: the caller's promise.
    unsafe {
        let acts = Acts::arrange(x, pack, B::HAS_MIN, B::HALVES, B::FIX_SHIFT.unwrap_or(0));
        if B::HAS_MIN {
            in_order::sums::<true>(w, blocks, B::SIZE, out, |p, i, to| step::<B>(p, i, &acts, to));
        } else {
            in_order::sums::<false>(w, blocks, B::SIZE, out, |p, i, to| step::<B>(p, i, &acts, to));
        }
    }
}

/// # Safety
/// As [`direct`]; `p` points to [`STEP`] blocks, the first of which has this index in its row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn step<B: Block>(p: *const u8, index: usize, acts: &Acts, to: &Places) {
    ask(p, STEP * B::SIZE);
    for at in (0..STEP).step_by(8) {
        let block: [*const u8; 8] = std::array::from_fn(|i| p.wrapping_add((at + i) * B::SIZE));
        let first = index + at;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = B::sums(&block, acts.quants(B::HALVES, first));
            let fix = _mm256_loadu_si256(acts.fix.add(first).cast());
            if B::HAS_MIN {
                _mm256_storeu_ps(to.dmin.add(at), scales_8(&block, 2));
                _mm256_storeu_si256(to.smin.add(at).cast(), fix);
            } else if B::FIX_SHIFT.is_some() {
                sums = _mm256_add_epi32(sums, fix);
            }
            let d = _mm256_mul_ps(scales_8(&block, 0), _mm256_loadu_ps(acts.d.add(first)));
            _mm256_storeu_ps(to.d.add(at), d);
            _mm256_storeu_ps(to.s.add(at), _mm256_cvtepi32_ps(sums));
        }
    }
}
