//! One activation row against weights in blocks of 32 on AVX-512 with VNNI, weights as one stream: see
//! [`super::in_order`].
//!
//! A register holds quants of successive blocks, so activations are arranged to meet them ([`in_order_acts`]).
//!
//! [`in_order_acts`]: super::in_order_acts

use super::in_order::{self, AHEAD_32, Places, STEP, ask, in_turn};
use super::in_order_acts::Acts;
use super::nibbles::Nibbles;
use super::nibbles_avx512::{codes, load_4, sum_rows as sum_fours};
use super::q8_avx512::sum_rows as sum_twos;
use super::{Rows, Sums};
use crate::quant::{Block32, BlockQ8_0};
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

    /// Of [`STEP`] blocks, the sums of products with what was added to the quants, the scales and the minima.
    ///
    /// # Safety
    /// AVX-512 with VNNI is there, `p` points to so many blocks and `x` to activations for them: quants or two halves.
    unsafe fn terms(p: *const u8, x: [*const u8; 2]) -> Terms;
}

/// See [`Block::terms`].
pub(super) struct Terms {
    sums: __m512i,
    d: __m512,
    min: __m512,
}

/// Most pairs of registers that hold the blocks of a step.
const PAIRS: usize = 5;

/// Where the first four words (of two bytes) of the blocks of a step lie: of every pair of registers the indices and which
/// there are, words 0 and 1 of all blocks, then 2 and 3.
struct Words {
    index: [[[u16; 2 * STEP]; PAIRS]; 2],
    there: [[u32; PAIRS]; 2],
}

impl Words {
    const fn new(size: usize) -> Words {
        let mut w = Words { index: [[[0; 2 * STEP]; PAIRS]; 2], there: [[0; PAIRS]; 2] };
        let mut i = 0;
        while i < 4 * STEP {
            let (word, block) = (i / STEP, i % STEP);
            let at = block * size / 2 + word;
            w.index[word / 2][at / 64][i % 32] = (at % 64) as u16;
            w.there[word / 2][at / 64] |= 1 << (i % 32);
            i += 1;
        }
        w
    }
}

/// Words 0 and 1 of [`STEP`] blocks from `p` on, or words 2 and 3.
///
/// # Safety
/// AVX-512 is there and `p` points to so many blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn words<B: Block>(p: *const u8, second: bool) -> __m512i {
    let words = const { &Words::new(B::SIZE) };
    let (index, there) = (&words.index[usize::from(second)], &words.there[usize::from(second)]);
    let bytes = STEP * B::SIZE;
    // SAFETY: the caller's promise: what lies behind the blocks is masked out. An array of indices is 64 bytes.
    let load = |at: usize| unsafe {
        match bytes.saturating_sub(at) {
            0 => _mm512_setzero_si512(),
            left @ 1..64 => _mm512_maskz_loadu_epi8((1 << left) - 1, p.add(at).cast()),
            _ => _mm512_loadu_si512(p.add(at).cast()),
        }
    };
    let mut all = _mm512_setzero_si512();
    for pair in 0..bytes.div_ceil(128) {
        let (first, second) = (load(128 * pair), load(128 * pair + 64));
        // SAFETY: as above.
        let index = unsafe { _mm512_loadu_si512(index[pair].as_ptr().cast()) };
        let some = _mm512_maskz_permutex2var_epi16(there[pair], first, index, second);
        all = _mm512_or_si512(all, some);
    }
    all
}

/// Numbers from the first 16 words, and from the other 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn numbers(words: __m512i) -> [__m512; 2] {
    [_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words)].map(|w| _mm512_cvtph_ps(w))
}

impl Block for BlockQ8_0 {
    const SIZE: usize = size_of::<BlockQ8_0>();
    const HAS_MIN: bool = false;
    const FIX_SHIFT: u32 = 0;
    const HALVES: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn terms(p: *const u8, [x, _]: [*const u8; 2]) -> Terms {
        let mut sums = [_mm512_setzero_si512(); 8];
        for (j, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise; a block's quants follow its scale of two bytes.
            unsafe {
                let two = p.add(2 * Self::SIZE * j);
                ask(two.wrapping_add(AHEAD_32), 2 * Self::SIZE);
                in_turn();
                let two = two.add(2);
                let q = _mm512_castsi256_si512(_mm256_loadu_si256(two.cast()));
                let q = _mm512_inserti64x4::<1>(q, _mm256_loadu_si256(two.add(Self::SIZE).cast()));
                let q = _mm512_xor_si512(q, _mm512_set1_epi8(-128));
                *sums = _mm512_dpbusd_epi32(*sums, q, _mm512_loadu_si512(x.add(64 * j).cast()));
            }
        }
        let order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        let sums = _mm512_permutexvar_epi32(order, sum_twos(sums));
        // SAFETY: the caller's promise.
        let [d, _] = numbers(unsafe { words::<Self>(p, false) });
        Terms { sums, d, min: _mm512_setzero_ps() }
    }
}

impl<T: Nibbles> Block for T {
    const SIZE: usize = T::BYTES;
    const HAS_MIN: bool = <T as Block32>::HAS_MIN;
    const FIX_SHIFT: u32 = <T as Nibbles>::FIX_SHIFT;
    const HALVES: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn terms(p: *const u8, x: [*const u8; 2]) -> Terms {
        // SAFETY: the caller's promise.
        let first = unsafe { words::<T>(p, false) };
        let [d, min] = numbers(first);
        // Fifth bits of elements 0 to 15, then of 16 to 31, of four blocks to a number.
        let mut fifth = [0u64; 8];
        if T::FIFTH {
            // SAFETY: the caller's promise; the array is 64 bytes.
            unsafe {
                let second = words::<T>(p, true);
                let both = if T::AT_FIFTH == 4 { second } else { _mm512_alignr_epi64::<4>(second, first) };
                _mm512_storeu_si512(fifth.as_mut_ptr().cast(), both);
            }
        }
        // Register i is to hold blocks 4 i to 4 i + 3.
        let block: [*const u8; STEP] =
            std::array::from_fn(|r| p.wrapping_add((4 * (r % 4) + r / 4) * T::BYTES));
        let mut sums = [_mm512_setzero_si512(); 4];
        for (i, sums) in sums.iter_mut().enumerate() {
            ask(p.wrapping_add(AHEAD_32 + 4 * i * T::BYTES), 4 * T::BYTES);
            in_turn();
            // SAFETY: the caller's promise.
            unsafe {
                let [low, high] = codes::<T>(load_4(&block, i, T::AT_NIBBLES), [fifth[i], fifth[4 + i]]);
                let x = x.map(|x| _mm512_loadu_si512(x.add(64 * i).cast()));
                *sums = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(*sums, low, x[0]), high, x[1]);
            }
        }
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Terms { sums: _mm512_permutexvar_epi32(order, sum_fours(sums)), d, min }
    }
}

/// Sums of all weight rows against one activation row.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` and `x` describe readable rows of blocks `B` and one of the activations that meet them,
/// of one length, [`in_order::pays`] agreed, `pack` is what [`super::q8_avx512::pack_direct`] made of `x`, and `out` takes
/// a sum of every row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Block>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    let blocks = x.n / 32;
    // SAFETY: the caller's promise.
    unsafe {
        let shift = if B::HAS_MIN { 0 } else { B::FIX_SHIFT };
        let acts = Acts::arrange(x, pack, B::HAS_MIN, B::HALVES, shift, w.ptr);
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn step<B: Block>(p: *const u8, index: usize, acts: &Acts, to: &Places) {
    // SAFETY: the caller's promise.
    unsafe {
        let Terms { mut sums, d, min } = B::terms(p, acts.quants(B::HALVES, index));
        let fix = _mm512_loadu_si512(acts.fix.add(index).cast());
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
