//! One activation row against 256-element blocks on AVX-512 with VNNI, weights as one stream: see
//! [`super::super::in_order`].

use super::super::in_order::{self, AHEAD_256, Places, STEP, ask};
use super::super::{Rows, Sums};
use super::X_BYTES;
use super::avx512::{Leaf, bytes_16, place, sum_across, sum_parts};
use super::direct_avx512::{Acts, scale_lanes};
use std::arch::x86_64::*;

/// Bytes of a block of activations: its quants in the order of the weight's codes, and what the codes' bias adds.
const BLOCK: usize = 512;

/// Activations, arranged for a type of weights.
struct Arranged {
    /// Quants and corrections per block.
    blocks: *mut u8,
    /// Scales, those of the first [`STEP`] blocks once more behind the last.
    d: *mut f32,
    /// Sums that meet the minima, 32 bytes a block, the first once more likewise.
    sums: *mut u8,
}

impl Arranged {
    fn at(pack: *mut u8, blocks: usize) -> Arranged {
        let d = pack.wrapping_add(blocks * BLOCK);
        Arranged { blocks: pack, d: d.cast(), sums: d.wrapping_add((blocks + STEP) * 4) }
    }
}

/// Bytes for a row of n elements.
pub(super) fn bytes(n: usize) -> usize {
    let blocks = n / 256;
    (blocks * BLOCK + (blocks + STEP) * 36).next_multiple_of(64)
}

/// Sums of all weight rows against one activation row.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` and `x` describe readable rows of blocks of the type and one of Q8_K blocks, of one
/// length, [`in_order::pays`] agreed, `pack` takes [`bytes`], 64-byte aligned, and `out` a sum of every row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Leaf>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    let (blocks, size) = (x.n / 256, size_of::<B>());
    let acts = Arranged::at(pack, blocks);
    // SAFETY: the caller's promise; prefetches may point anywhere.
    unsafe {
        arrange::<B>(x.ptr, blocks, &acts, w.ptr);
        macro_rules! sums {
            ($min:literal) => {
                in_order::sums::<$min>(w, blocks, size, out, |p, index, to| {
                    step::<B>(p, index, blocks, &acts, to)
                })
            };
        }
        if B::HAS_MIN { sums!(true) } else { sums!(false) }
    }
}

/// Meanwhile asks for what the first step needs of the weights at `first`.
///
/// # Safety
/// As [`direct`]; `x` points to `blocks` Q8_K blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn arrange<B: Leaf>(x: *const u8, blocks: usize, to: &Arranged, first: *const u8) {
    let each = AHEAD_256.div_ceil(blocks);
    for b in 0..blocks {
        ask(first.wrapping_add(each * b), each);
        // SAFETY: the caller's promise; the places are those of [`bytes`].
        unsafe {
            let p = x.add(b * X_BYTES);
            let block = Acts::load::<B>(p);
            to.d.add(b).write(p.cast::<f32>().read_unaligned());
            for (i, sums) in block.sums.iter().enumerate() {
                _mm_storeu_si128(to.sums.add(32 * b + 16 * i).cast(), _mm512_castsi512_si128(*sums));
            }
            for (i, v) in block.qs.iter().chain(&block.fix).enumerate() {
                _mm512_store_si512(to.blocks.add(b * BLOCK + 64 * i).cast(), *v);
            }
        }
    }
    for b in blocks..blocks + STEP {
        // SAFETY: as above; what lies a row before was written.
        unsafe {
            to.d.add(b).write(to.d.add(b - blocks).read());
            to.sums.cast::<[u8; 32]>().add(b).write(to.sums.cast::<[u8; 32]>().add(b - blocks).read());
        }
    }
}

/// # Safety
/// As [`direct`]; `p` points to [`STEP`] blocks, the first of which has this index in its row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn step<B: Leaf>(p: *const u8, index: usize, blocks: usize, acts: &Arranged, to: &Places) {
    let size = size_of::<B>();
    // SAFETY: the caller's promise.
    unsafe {
        let block: [*const u8; STEP] = std::array::from_fn(|i| p.wrapping_add(i * size));
        let head = B::head(&block);
        let mut sums = [_mm512_setzero_si512(); 4];
        // The compiler must not know this number: unrolled, the codes of all groups would be in flight, in memory.
        let groups = std::hint::black_box(4);
        let mut b = index;
        for g in 0..groups {
            let mut lanes = [_mm512_setzero_si512(); 4];
            for (i, lanes) in lanes.iter_mut().enumerate() {
                let i = 4 * g + i;
                ask(block[i].wrapping_add(AHEAD_256), size);
                let x = acts.blocks.add(b * BLOCK);
                let codes = B::codes(block[i]);
                let scales = scale_lanes::<B>(head.scales.0[place(i)].as_ptr());
                *lanes = Acts::arranged::<B>(x).sum::<B>(&codes, &scales);
                b += 1;
                b = if b == blocks { 0 } else { b };
            }
            sums[g & 3] = sum_parts(lanes);
        }
        let d = _mm512_loadu_ps(acts.d.add(index));
        _mm512_storeu_ps(to.d, _mm512_mul_ps(head.d, d));
        _mm512_storeu_ps(to.s, _mm512_cvtepi32_ps(sum_across(sums)));
        if B::HAS_MIN {
            let minus = _mm512_castsi512_ps(_mm512_set1_epi32(i32::MIN));
            _mm512_storeu_ps(to.dmin, _mm512_xor_ps(_mm512_mul_ps(head.dmin, d), minus));
            let x: [*const u8; STEP] = std::array::from_fn(|i| acts.sums.add(32 * (index + i)).cast_const());
            let (x0, x1) = (bytes_16(&x, 0), bytes_16(&x, 16));
            let mut parts = [_mm512_setzero_si512(); 4];
            for (g, part) in parts.iter_mut().enumerate() {
                *part = _mm512_madd_epi16(head.mins[0][g], x0[g]);
                if B::SUB == 16 {
                    *part = _mm512_dpwssd_epi32(*part, head.mins[1][g], x1[g]);
                }
            }
            _mm512_storeu_ps(to.smin, _mm512_cvtepi32_ps(sum_parts(parts)));
        }
    }
}
