//! One activation row against weights in blocks of 32 on AVX-512 with VNNI, weights as one stream: see
//! [`super::in_order`].
//!
//! A register holds quants of successive blocks, so activations are arranged to meet them: without their scales, and in
//! halves where the weights' codes are.

use super::in_order::{self, Places, STEP, ask};
use super::nibbles::Nibbles;
use super::nibbles_avx512::{codes_4, scales_and_minima, sum_rows as sum_fours};
use super::q8_avx512::{act_bytes, cell_bytes, scales_16, sum_rows as sum_twos};
use super::{Rows, Sums};
use crate::quant::BlockQ8_0;
use std::arch::x86_64::*;

/// A type of blocks of 32.
pub(super) trait Block {
    /// Bytes of a block.
    const SIZE: usize;
    /// Whether blocks have a minimum.
    const HAS_MIN: bool;
    /// How far right a correction is shifted that was made for quants with 128 added.
    const FIX_SHIFT: u32;
    /// Whether elements 0 to 15 and 16 to 31 lie in registers of their own.
    const HALVES: bool;

    /// The sums of products of [`STEP`] blocks, with what was added to the quants, from the activations' quants or two
    /// halves of them.
    ///
    /// # Safety
    /// AVX-512 with VNNI is there, `p` points to so many blocks and `x` to activations for them.
    unsafe fn sums(p: *const u8, x: [*const u8; 2]) -> __m512i;
    /// The scales of the blocks, and their minima.
    ///
    /// # Safety
    /// AVX-512 is there and `p` points to so many blocks.
    unsafe fn scales(p: *const u8) -> [__m512; 2];
}

/// The blocks from `p` on.
#[inline(always)]
fn blocks(p: *const u8, size: usize) -> [*const u8; STEP] {
    std::array::from_fn(|i| p.wrapping_add(i * size))
}

impl Block for BlockQ8_0 {
    const SIZE: usize = size_of::<BlockQ8_0>();
    const HAS_MIN: bool = false;
    const FIX_SHIFT: u32 = 0;
    const HALVES: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn sums(p: *const u8, [x, _]: [*const u8; 2]) -> __m512i {
        let mut sums = [_mm512_setzero_si512(); 8];
        for (j, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise; a block's quants follow its scale of two bytes.
            unsafe {
                let two = p.add(2 * Self::SIZE * j + 2);
                let q = _mm512_castsi256_si512(_mm256_loadu_si256(two.cast()));
                let q = _mm512_inserti64x4::<1>(q, _mm256_loadu_si256(two.add(Self::SIZE).cast()));
                let q = _mm512_xor_si512(q, _mm512_set1_epi8(-128));
                *sums = _mm512_dpbusd_epi32(*sums, q, _mm512_loadu_si512(x.add(64 * j).cast()));
            }
        }
        let order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        _mm512_permutexvar_epi32(order, sum_twos(sums))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn scales(p: *const u8) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        [unsafe { scales_16(&blocks(p, Self::SIZE), 0) }, _mm512_setzero_ps()]
    }
}

impl<T: Nibbles> Block for T {
    const SIZE: usize = T::BYTES;
    const HAS_MIN: bool = <T as crate::quant::Block32>::HAS_MIN;
    const FIX_SHIFT: u32 = <T as Nibbles>::FIX_SHIFT;
    const HALVES: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn sums(p: *const u8, x: [*const u8; 2]) -> __m512i {
        // Register i is to hold blocks 4 i to 4 i + 3.
        let block: [*const u8; STEP] = std::array::from_fn(|r| p.wrapping_add((4 * (r % 4) + r / 4) * T::BYTES));
        let mut sums = [_mm512_setzero_si512(); 4];
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let [low, high] = codes_4::<T>(&block, i, 0);
                let x = x.map(|x| _mm512_loadu_si512(x.add(64 * i).cast()));
                *sums = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*sums, low, x[0]), high, x[1]);
            }
        }
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, sum_fours(sums))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn scales(p: *const u8) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe { scales_and_minima::<T>(&blocks(p, T::BYTES), 0) }
    }
}

/// Activations, arranged for a type of weights; of everything, the first [`STEP`] blocks lie once more behind the last.
#[derive(Clone, Copy)]
struct Arranged {
    /// Quants, 32 bytes a block, or two halves of 16 bytes a block.
    quants: [*mut u8; 2],
    d: *mut f32,
    /// Corrections, or scaled sums.
    fix: *mut i32,
}

impl Arranged {
    fn at(to: *mut u8, blocks: usize) -> Arranged {
        let all = blocks + STEP;
        let at = |i: usize| to.wrapping_add(i * all);
        Arranged { quants: [at(0), at(16)], d: at(32).cast(), fix: at(36).cast() }
    }
}

/// Bytes of arranged activations for a row of n elements.
pub(super) fn bytes(n: usize) -> usize {
    ((n / 32 + STEP) * 40).next_multiple_of(64)
}

/// Sums of all weight rows against one activation row.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` and `x` describe readable rows of blocks `B` and one of the activations that meet them,
/// of one length, [`in_order::takes`] agreed, `pack` is what [`super::q8_avx512::pack_direct`] made of `x`, and `out` takes
/// a sum of every row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Block>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    let blocks = x.n / 32;
    // SAFETY: the caller's promise.
    unsafe {
        let acts = Arranged::at(pack.add(cell_bytes(x.n)), blocks);
        arrange::<B>(x.ptr, pack, blocks, &acts);
        if B::HAS_MIN {
            in_order::sums::<true>(w, blocks, B::SIZE, out, |p, i, to| step::<B>(p, i, &acts, to));
        } else {
            in_order::sums::<false>(w, blocks, B::SIZE, out, |p, i, to| step::<B>(p, i, &acts, to));
        }
    }
}

/// # Safety
/// As [`direct`]; `x` points to the activations' blocks, `cells` to what was made of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn arrange<B: Block>(x: *const u8, cells: *const u8, blocks: usize, to: &Arranged) {
    let size = act_bytes(B::HAS_MIN);
    for b in 0..blocks + STEP {
        let from = b % blocks;
        // SAFETY: the caller's promise; the places are those of [`bytes`].
        unsafe {
            let q = x.add((from + 1) * size - 32);
            if B::HALVES {
                _mm_storeu_si128(to.quants[0].add(16 * b).cast(), _mm_loadu_si128(q.cast()));
                _mm_storeu_si128(to.quants[1].add(16 * b).cast(), _mm_loadu_si128(q.add(16).cast()));
            } else {
                _mm256_storeu_si256(to.quants[0].add(32 * b).cast(), _mm256_loadu_si256(q.cast()));
            }
            let cell = cells.add(8 * from);
            to.d.add(b).write(cell.cast::<f32>().read());
            let fix = cell.add(4).cast::<i32>().read();
            to.fix.add(b).write(if B::HAS_MIN { fix } else { fix >> B::FIX_SHIFT });
        }
    }
}

/// # Safety
/// As [`direct`]; `p` points to [`STEP`] blocks, the first of which has this index in its row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn step<B: Block>(p: *const u8, index: usize, acts: &Arranged, to: &Places) {
    ask(p, STEP * B::SIZE);
    // SAFETY: the caller's promise.
    unsafe {
        let [first, second] = acts.quants;
        let x = if B::HALVES { [first.add(16 * index), second.add(16 * index)] } else { [first.add(32 * index); 2] };
        let mut sums = B::sums(p, x.map(|x| x.cast_const()));
        let fix = _mm512_loadu_si512(acts.fix.add(index).cast());
        let [d, min] = B::scales(p);
        if B::HAS_MIN {
            _mm512_storeu_ps(to.dmin, min);
            _mm512_storeu_si512(to.smin.cast(), fix);
        } else {
            sums = _mm512_add_epi32(sums, fix);
        }
        _mm512_storeu_ps(to.d, _mm512_mul_ps(d, _mm512_loadu_ps(acts.d.add(index))));
        _mm512_storeu_ps(to.s, _mm512_cvtepi32_ps(sums));
    }
}
