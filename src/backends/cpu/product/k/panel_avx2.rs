//! Panels of 256-element blocks and tiles over them, AVX2.
//!
//! A step is a block: 64 groups of 4 codes of 16 weight rows and what belongs to the rows; and the same groups of 3
//! activation rows. Lanes are weight rows. Products of a group (`vpmaddubsw`) are added up in 16-bit lanes, two to
//! a row, which start at what the codes' bias makes too much. Each of them fits; only their sum over the groups of
//! a sub-block must fit, and does ([`Leaf::GROUPS`]); on the way it may wrap. `vpmaddwd` multiplies by the scale.

pub(super) use super::super::panels_avx2::{TILE_ACTS, TILE_ROWS};
use super::super::panels_avx2::{
    W_VECTOR, X_VECTOR, finish, for_halves, lane_sums, numbers, put_dwords, splat, vector,
};
use super::super::q8_avx2::scales_8;
use super::super::tile_parts_avx2::{PartOfTile, add_codes};
use super::super::{Rows, Tile};
use super::avx2::{Leaf, SIGNED, transpose_4, transpose_8};
use super::{X_BSUMS, X_BYTES, X_QS};
use std::arch::x86_64::*;

const W_D: usize = 64 * W_VECTOR;
const W_DMIN: usize = W_D + W_VECTOR;
/// Scales of sub-blocks, each twice as 16 bits.
const W_SCALES: usize = W_DMIN + W_VECTOR;

/// Where pairs of minima are in a step.
const fn mins_at<B: Leaf>() -> usize {
    W_SCALES + 256 / B::SUB * W_VECTOR
}

/// Bytes of a step of 16 weight rows.
pub(super) const fn step_bytes<B: Leaf>() -> usize {
    mins_at::<B>() + if B::HAS_MIN { 128 / B::SUB * W_VECTOR } else { 0 }
}

const X_D: usize = 64 * X_VECTOR;
/// Pairs of sums of 32 quants, 16 bits each, for minima.
const X_PAIRS_32: usize = X_D + X_VECTOR;
/// Pairs of sums of 16.
const X_PAIRS_16: usize = X_PAIRS_32 + 4 * X_VECTOR;
/// -4 times the sums that meet the two 16-bit lanes of a row, for 16 quants each: Q3_K.
const X_FIX_4: usize = X_PAIRS_16 + 8 * X_VECTOR;
/// -32 times the same: Q6_K.
const X_FIX_32: usize = X_FIX_4 + 16 * X_VECTOR;
/// Bytes of a step of 4 activation rows.
pub(super) const X_STEP: usize = (X_FIX_32 + 16 * X_VECTOR).next_multiple_of(64);

/// Sixteen bytes of 8 rows by fours: register i holds bytes 4 i to 4 i + 3 of every row, lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fours(rows: &[__m128i; 8]) -> [__m256i; 4] {
    transpose_4(std::array::from_fn(|i| _mm256_set_m128i(rows[i + 4], rows[i])))
}

/// Signed bytes `low` and `high` of every lane as 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn units(fours: __m256i, low: usize, high: usize) -> __m256i {
    // To the upper byte of each unit, and down from there.
    let lane = |l: usize| (0x0080_0080 | (4 * l + low) << 8 | (4 * l + high) << 24) as i32;
    let order = _mm_setr_epi32(lane(0), lane(1), lane(2), lane(3));
    _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(fours, _mm256_broadcastsi128_si256(order)))
}

/// Packs up to 16 weight rows for tiles.
///
/// # Safety
/// AVX2 is there; `w` describes 1 to 16 readable rows of blocks of the type; `out`, 64-byte aligned, takes
/// [`step_bytes`] per block.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_weights<B: Leaf>(w: &Rows, out: *mut u8) {
    // SAFETY: the caller's promise; block b of every row is read, and its half of every vector is written.
    unsafe {
        for_halves(w, 256, out, step_bytes::<B>(), |row, b, step| {
            let at = b * size_of::<B>();
            let mut heads = [[_mm_setzero_si128(); 8]; 2];
            for (r, p) in row.iter().enumerate() {
                let [scales, mins] = B::head(p.add(at));
                (heads[0][r], heads[1][r]) = (scales, mins);
            }
            let put = |at: usize, v| _mm256_store_si256(step.add(at).cast(), v);
            for (i, fours) in fours(&heads[0]).iter().enumerate().take(64 / B::SUB) {
                for j in 0..4 {
                    put(W_SCALES + (4 * i + j) * W_VECTOR, units(*fours, j, j));
                }
            }
            if B::HAS_MIN {
                for (i, fours) in fours(&heads[1]).iter().enumerate().take(64 / B::SUB) {
                    for j in 0..2 {
                        put(mins_at::<B>() + (2 * i + j) * W_VECTOR, units(*fours, 2 * j, 2 * j + 1));
                    }
                }
            }
            // Bits by groups of rows, which are fewer than codes; register i of bits has bytes 4 j to 4 j + 3 at j.
            let mut bits = [[_mm256_setzero_si256(); 8]; 8];
            for (i, bits) in bits.iter_mut().enumerate().take(B::REGISTERS) {
                let mut one = [_mm256_setzero_si256(); 8];
                for (one, p) in one.iter_mut().zip(row) {
                    *one = B::bits(p.add(at), i);
                }
                for (bits, group) in bits.iter_mut().zip(transpose_8(one)) {
                    *bits = group;
                }
            }
            for j in 0..8 {
                let mut group = [_mm256_setzero_si256(); 8];
                for (group, bits) in group.iter_mut().zip(&bits) {
                    *group = bits[j];
                }
                for (i, codes) in B::codes(&group).into_iter().enumerate() {
                    put((8 * i + j) * W_VECTOR, codes);
                }
            }
            _mm256_store_ps(step.add(W_D).cast(), scales_8(row, at + B::D));
            if B::HAS_MIN {
                _mm256_store_ps(step.add(W_DMIN).cast(), scales_8(row, at + B::DMIN));
            }
        });
    }
}

/// Packs up to 4 activation rows for tiles.
///
/// # Safety
/// AVX2 is there; `x` describes 1 to 4 readable rows of Q8_K blocks; `out` takes `X_STEP` bytes per block.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack_acts(x: &Rows, out: *mut u8) {
    // Rows that are not there repeat the last one.
    let row: [usize; TILE_ACTS] = std::array::from_fn(|t| t.min(x.rows - 1) * x.row_bytes);
    for b in 0..x.n / 256 {
        // SAFETY: the caller's promise: block b of every row is read, step b written.
        unsafe {
            let (block, step) = (x.ptr.add(b * X_BYTES), out.add(b * X_STEP));
            let load = |at: usize| {
                let mut v = [_mm256_setzero_si256(); TILE_ACTS];
                for (v, row) in v.iter_mut().zip(row) {
                    *v = _mm256_loadu_si256(block.add(row + at).cast());
                }
                v
            };
            for (t, row) in row.into_iter().enumerate() {
                step.add(X_D + 4 * t)
                    .cast::<f32>()
                    .write_unaligned(block.add(row).cast::<f32>().read_unaligned());
            }
            for i in 0..8 {
                let q = transpose_4(load(X_QS + 32 * i));
                put_dwords(&q, step.add(8 * i * X_VECTOR), 1);
                let sums = lane_sums(&q);
                for (at, factor) in [(X_FIX_4, -4), (X_FIX_32, -32)] {
                    let fix = _mm256_mullo_epi16(sums, _mm256_set1_epi16(factor));
                    _mm256_storeu_si256(step.add(at + 2 * i * X_VECTOR).cast(), fix);
                }
            }
            let sums = load(X_BSUMS);
            put_dwords(&transpose_4(sums), step.add(X_PAIRS_16), 1);
            let mut twos = sums;
            for (twos, sums) in twos.iter_mut().zip(sums) {
                let v = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
                *twos = _mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi32(v, v));
            }
            for (j, pairs) in transpose_4(twos).into_iter().enumerate() {
                let at = step.add(X_PAIRS_32 + j * X_VECTOR).cast();
                _mm_storeu_si128(at, _mm256_castsi256_si128(pairs));
            }
        }
    }
}

/// As [`add_codes`], for one vector of signed codes.
///
/// # Safety
/// As [`add_codes`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_signed<const NT: usize>(p: &PartOfTile, total: &mut [[__m256i; 2]; NT]) {
    // SAFETY: the caller's promise.
    unsafe {
        let (q, scale) = (vector(p.w), vector(p.scale));
        for (n, total) in total.iter_mut().enumerate() {
            let a = splat(p.x.add(4 * n));
            for ((total, q), scale) in total.iter_mut().zip(q).zip(scale) {
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
                *total = _mm256_add_epi32(*total, _mm256_madd_epi16(products, scale));
            }
        }
    }
}

/// A tile against `NT` activation rows.
///
/// # Safety
/// AVX2 is there and the tile's pointers are good for its steps, packed by the functions above.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<B: Leaf, const NT: usize>(t: &Tile) {
    let mut ahead = t.ahead.paced(t.steps);
    debug_assert!(t.first && t.last, "sums of blocks are never cut");
    const { assert!(B::BIAS == SIGNED && B::GROUPS == 1 || B::GROUPS == 4 || B::GROUPS == 8 && B::BIAS == 0) };
    let zero = _mm256_setzero_si256();
    let mut acc = [[_mm256_setzero_ps(); 2]; NT];
    let (mut w, mut x) = (t.w, t.x);
    // The compiler must not know this number: see the AVX-512 tile.
    let parts = std::hint::black_box(64 / B::GROUPS);
    for _ in 0..t.steps {
        ahead.step();
        // SAFETY: the caller's promise: a step of weights and one of activations are readable here. The half of
        // rows that are not there may hold anything; their sums are not stored.
        unsafe {
            let splat = |at: usize| splat(x.add(at));
            let vector = |at: usize| vector(w.add(at));
            let mut total = [[zero; 2]; NT];
            for number in 0..parts {
                let first = number * B::GROUPS;
                let fix = if B::BIAS == 4 { X_FIX_4 } else { X_FIX_32 };
                let part = PartOfTile {
                    w: w.add(first * W_VECTOR),
                    x: x.add(first * X_VECTOR),
                    // Types without one have no place for it.
                    fix: x.wrapping_add(fix + number * X_VECTOR),
                    scale: w.add(W_SCALES + number * (4 * B::GROUPS) / B::SUB * W_VECTOR),
                    act: x.add(X_D),
                    total: (&raw mut total).cast(),
                };
                match (B::BIAS, B::GROUPS) {
                    (SIGNED, _) => add_signed(&part, &mut total),
                    (0, 8) => add_codes::<NT, 8, false>(part),
                    (0, _) => add_codes::<NT, 4, false>(part),
                    _ => add_codes::<NT, 4, true>(part),
                }
            }
            let wd = numbers(w.add(W_D));
            for (n, (acc, total)) in acc.iter_mut().zip(&total).enumerate() {
                let xd = _mm256_castsi256_ps(splat(X_D + 4 * n));
                for h in 0..2 {
                    let sum = _mm256_cvtepi32_ps(total[h]);
                    acc[h] = _mm256_fmadd_ps(_mm256_mul_ps(wd[h], xd), sum, acc[h]);
                }
                if B::HAS_MIN {
                    let mut sum = [zero; 2];
                    let pairs = if B::SUB == 16 { X_PAIRS_16 } else { X_PAIRS_32 };
                    for j in 0..128 / B::SUB {
                        let x = splat(pairs + j * X_VECTOR + 4 * n);
                        for (sum, mins) in sum.iter_mut().zip(&vector(mins_at::<B>() + j * W_VECTOR)) {
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*mins, x));
                        }
                    }
                    let wd = numbers(w.add(W_DMIN));
                    for h in 0..2 {
                        let sum = _mm256_cvtepi32_ps(sum[h]);
                        acc[h] = _mm256_fnmadd_ps(_mm256_mul_ps(wd[h], xd), sum, acc[h]);
                    }
                }
            }
            w = w.add(step_bytes::<B>());
            x = x.add(X_STEP);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { finish(t, acc) }
}
