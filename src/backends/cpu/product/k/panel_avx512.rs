//! Panels of 256-element blocks and tiles over them, AVX-512 with VNNI.
//!
//! A step is a block: 64 groups of 4 codes of 32 weight rows, unsigned, and what belongs to the rows; and the same
//! groups of 6 activation rows. Lanes are weight rows. Products of a sub-block start at what the codes' bias makes
//! too much, are multiplied by its scale and added; one conversion and one FMA finish a block. Types whose codes
//! times scales fit a byte are packed so, and need no scales.

use super::super::{Rows, Tile};
use super::avx2::transpose_8;
use super::avx512::{Head, Leaf, Scales, dwords_4};
use super::{X_BSUMS, X_BYTES, X_QS};
use std::arch::x86_64::*;

/// Weight rows of a tile: two registers of 16.
pub(super) const TILE_ROWS: usize = 32;
/// Activation rows of a tile.
pub(super) const TILE_ACTS: usize = 6;

/// Bytes of a group of codes, of a vector of 32 rows.
const W_VECTOR: usize = 128;
const W_D: usize = 64 * W_VECTOR;
const W_DMIN: usize = W_D + W_VECTOR;
const W_MINS: usize = W_DMIN + W_VECTOR;

/// Where the scales of sub-blocks are in a step, behind pairs of minima if there are any.
const fn scales_at<B: Leaf>() -> usize {
    W_MINS + if B::HAS_MIN { 256 / B::SUB / 2 * W_VECTOR } else { 0 }
}

/// Bytes of a step of 32 weight rows.
pub(super) const fn step_bytes<B: Leaf>() -> usize {
    scales_at::<B>() + if B::FLAT.is_none() { 256 / B::SUB * W_VECTOR } else { 0 }
}

/// A vector of 6 activation rows, 4 bytes each.
const X_VECTOR: usize = 4 * TILE_ACTS;
const X_D: usize = 64 * X_VECTOR;
/// -124 times the sum of all quants: for flat codes with a bias.
const X_FLAT: usize = X_D + X_VECTOR;
/// Pairs of sums of 32 quants, 16 bits each, for minima.
const X_PAIRS_32: usize = X_FLAT + X_VECTOR;
/// Pairs of sums of 16.
const X_PAIRS_16: usize = X_PAIRS_32 + 4 * X_VECTOR;
/// -32 times the sums of 16 quants, for Q6_K.
const X_FIX_16: usize = X_PAIRS_16 + 8 * X_VECTOR;
/// -128 times the sums of 32 quants, for IQ4_XS.
const X_FIX_32: usize = X_FIX_16 + 16 * X_VECTOR;
/// Bytes of a step of 6 activation rows. Stores of 8 lanes where 6 count run over by 8 bytes.
pub(super) const X_STEP: usize = (X_FIX_32 + 8 * X_VECTOR + 8).next_multiple_of(64);

/// Packs up to 32 weight rows for tiles.
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
                let mut codes = [[_mm512_setzero_si512(); 16]; 4];
                for (r, &p) in row.iter().enumerate() {
                    let mut four = B::codes(p);
                    if B::FLAT.is_some() {
                        four = flat_codes::<B>(four, head.scales.0[super::avx512::place(r)].as_ptr());
                    }
                    for (codes, four) in codes.iter_mut().zip(&four) {
                        codes[r] = *four;
                    }
                }
                store_codes::<B>(&codes, step);
                store_head::<B>(&head, step.add(W_D));
                if B::FLAT.is_none() {
                    pack_scales::<B>(&head.scales, step.add(scales_at::<B>()));
                }
                for p in &mut row {
                    *p = p.wrapping_add(size_of::<B>());
                }
            }
        }
    }
}

/// Sixteen rows of four registers of codes, as groups of four elements.
///
/// # Safety
/// AVX-512 is there and `out`, 64-byte aligned, takes half of each of 64 vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn store_codes<B: Leaf>(codes: &[[__m512i; 16]; 4], out: *mut u8) {
    for (codes, order) in codes.iter().zip(&B::ORDER) {
        for (j, &v) in transpose_16(codes).iter().enumerate() {
            let group = usize::from(order[j / 4]) / 4 + j % 4;
            // SAFETY: the caller's promise.
            unsafe { _mm512_store_si512(out.add(group * W_VECTOR).cast(), v) };
        }
    }
}

/// The scales of 16 blocks and, if there are any, those of their minima and pairs of minima, a vector each.
///
/// # Safety
/// AVX-512 is there and `out`, 64-byte aligned, takes half of every vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn store_head<B: Leaf>(head: &Head, out: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        _mm512_store_ps(out.cast(), head.d);
        if !B::HAS_MIN {
            return;
        }
        _mm512_store_ps(out.add(W_DMIN - W_D).cast(), head.dmin);
        for (k, mins) in head.mins.iter().take(32 / B::SUB).enumerate() {
            for (j, &pairs) in dwords_4(*mins).iter().enumerate() {
                _mm512_store_si512(out.add(W_MINS - W_D + (4 * k + j) * W_VECTOR).cast(), pairs);
            }
        }
    }
}

/// The scales of 16 rows as vectors of 32-bit numbers.
///
/// # Safety
/// AVX-512 is there and `out`, 64-byte aligned, takes half of every vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn pack_scales<B: Leaf>(scales: &Scales, out: *mut u8) {
    let mut raw = [_mm512_setzero_si512(); 4];
    for (raw, scales) in raw.iter_mut().zip(scales.0.as_chunks::<4>().0) {
        // SAFETY: four rows are 64 bytes, aligned as `Scales` is.
        *raw = unsafe { _mm512_load_si512(scales.as_ptr().cast()) };
    }
    for (k, &v) in dwords_4(raw).iter().take(64 / B::SUB).enumerate() {
        for i in 0..4 {
            let top = _mm512_sllv_epi32(v, _mm512_set1_epi32(24 - 8 * i));
            let place = out.wrapping_add((4 * k + i as usize) * W_VECTOR);
            // SAFETY: the caller's promise.
            unsafe { _mm512_store_si512(place.cast(), _mm512_srai_epi32::<24>(top)) };
        }
    }
}

/// A row's codes times its scales, made unsigned. All is modulo 256, which the results are below.
///
/// # Safety
/// AVX-512 is there and `scales` points to 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn flat_codes<B: Leaf>(codes: [__m512i; 4], scales: *const i8) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    let all = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(scales.cast()) });
    let mut out = codes;
    for (out, order) in out.iter_mut().zip(&B::ORDER) {
        let part = |i: usize| i32::from(order[i]) / 16 * 0x0101_0101;
        let (a, b, c, d) = (part(0), part(1), part(2), part(3));
        let index = _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
        let scale = _mm512_shuffle_epi8(all, index);
        let quants = _mm512_sub_epi8(*out, _mm512_set1_epi8(B::BIAS.cast_signed()));
        let even = _mm512_mullo_epi16(quants, scale);
        let odd = _mm512_mullo_epi16(
            _mm512_srli_epi16::<8>(quants),
            _mm512_and_si512(scale, _mm512_set1_epi16(0xff)),
        );
        let low = _mm512_and_si512(even, _mm512_set1_epi16(0xff));
        let both = _mm512_or_si512(low, _mm512_slli_epi16::<8>(odd));
        *out = _mm512_add_epi8(both, _mm512_set1_epi8(B::FLAT.unwrap_or(0).cast_signed()));
    }
    out
}

/// A 16 x 16 transposition of dwords: register j holds dword j of every row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn transpose_16(p: &[__m512i; 16]) -> [__m512i; 16] {
    // Per four rows: dword j of the four rows in each 128-bit part, j = 0, 1, 2, 3.
    let mut four = [[_mm512_setzero_si512(); 4]; 4];
    for (four, p) in four.iter_mut().zip(p.as_chunks::<4>().0) {
        *four = dwords_4(*p);
    }
    let mut out = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let [a, b, c, d] = [four[0][j], four[1][j], four[2][j], four[3][j]];
        let (ab0, ab1) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xDD>(a, b));
        let (cd0, cd1) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xDD>(c, d));
        out[j] = _mm512_shuffle_i32x4::<0x88>(ab0, cd0);
        out[j + 4] = _mm512_shuffle_i32x4::<0x88>(ab1, cd1);
        out[j + 8] = _mm512_shuffle_i32x4::<0xDD>(ab0, cd0);
        out[j + 12] = _mm512_shuffle_i32x4::<0xDD>(ab1, cd1);
    }
    out
}

/// Packs up to 6 activation rows for tiles.
///
/// # Safety
/// AVX-512 with VNNI is there; `x` describes 1 to 6 readable rows of Q8_K blocks; `out` takes `X_STEP` bytes per
/// block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack_acts(x: &Rows, out: *mut u8) {
    let zero = _mm256_setzero_si256();
    // SAFETY: the caller's promise. Rows past the last one repeat it. Stores go up in the step: what one writes
    // past its 24 bytes, the next one overwrites, and the last one stays in the step.
    unsafe {
        let row: [*const u8; 8] =
            std::array::from_fn(|t| x.ptr.add(t.min(x.rows - 1).min(TILE_ACTS - 1) * x.row_bytes));
        for b in 0..x.n / 256 {
            let step = out.add(b * X_STEP);
            let load = |at: usize| {
                let mut out = [zero; 8];
                for (out, p) in out.iter_mut().zip(row) {
                    *out = _mm256_loadu_si256(p.add(b * X_BYTES + at).cast());
                }
                out
            };
            let store = |at: usize, v: __m256i| _mm256_storeu_si256(step.add(at).cast(), v);
            for part in 0..8 {
                for (k, &quad) in transpose_8(load(X_QS + 32 * part)).iter().enumerate() {
                    store((8 * part + k) * X_VECTOR, quad);
                }
            }
            for (t, p) in row.iter().enumerate() {
                let d = p.add(b * X_BYTES).cast::<f32>().read_unaligned();
                step.add(X_D + 4 * t).cast::<f32>().write_unaligned(d);
            }
            let pairs = transpose_8(load(X_BSUMS));
            let (mut twos, mut sum) = (pairs, zero);
            for two in &mut twos {
                *two = _mm256_madd_epi16(*two, _mm256_set1_epi16(1));
                sum = _mm256_add_epi32(sum, *two);
            }
            store(X_FLAT, _mm256_mullo_epi32(sum, _mm256_set1_epi32(-124)));
            for (j, two) in twos.as_chunks::<2>().0.iter().enumerate() {
                store(
                    X_PAIRS_32 + j * X_VECTOR,
                    _mm256_blend_epi16::<0xAA>(two[0], _mm256_slli_epi32::<16>(two[1])),
                );
            }
            for (j, &pair) in pairs.iter().enumerate() {
                store(X_PAIRS_16 + j * X_VECTOR, pair);
            }
            for (j, &pair) in pairs.iter().enumerate() {
                let (low, high) = (_mm256_slli_epi32::<16>(pair), _mm256_srai_epi32::<16>(pair));
                let fix = [_mm256_srai_epi32::<11>(low), _mm256_slli_epi32::<5>(high)];
                for (i, fix) in fix.iter().enumerate() {
                    store(X_FIX_16 + (2 * j + i) * X_VECTOR, _mm256_sub_epi32(zero, *fix));
                }
            }
            for (j, two) in twos.iter().enumerate() {
                store(X_FIX_32 + j * X_VECTOR, _mm256_sub_epi32(zero, _mm256_slli_epi32::<7>(*two)));
            }
        }
    }
}

/// A tile against `NT` activation rows.
///
/// # Safety
/// AVX-512 with VNNI is there and the tile's pointers are good for its steps, packed by the functions above.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn tile<B: Leaf, const NT: usize>(t: &Tile) {
    t.ahead.all();
    // SAFETY: the caller's promise, passed on.
    unsafe {
        if t.rows > 16 {
            tile_halves::<B, NT, 2>(t);
        } else {
            tile_halves::<B, NT, 1>(t);
        }
    }
}

/// Where the sums of sub-block `sub` start in a step of activations; `None` for zero.
const fn start<B: Leaf>(sub: usize) -> Option<usize> {
    if B::BIAS == 0 {
        None
    } else if B::FLAT.is_some() {
        Some(X_FLAT)
    } else if B::SUB == 16 {
        Some(X_FIX_16 + sub * X_VECTOR)
    } else {
        Some(X_FIX_32 + sub * X_VECTOR)
    }
}

/// # Safety
/// As [`tile`]; `H` halves of 16 rows are packed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile_halves<B: Leaf, const NT: usize, const H: usize>(t: &Tile) {
    debug_assert!(t.first && t.last, "sums of blocks are never cut");
    let zero = _mm512_setzero_si512();
    let mut acc = [[_mm512_setzero_ps(); H]; NT];
    let (mut w, mut x) = (t.w, t.x);
    // The compiler must not know these numbers: it would unroll the loops over them, keep weights in registers and
    // sums in memory, and finish one chain of products after another.
    let (subs, quads) =
        std::hint::black_box(if B::FLAT.is_some() { (1, 64) } else { (256 / B::SUB, B::SUB / 4) });
    for _ in 0..t.steps {
        // SAFETY: the caller's promise: a step of weights and one of activations are readable here.
        unsafe {
            let splat = |at: usize| _mm512_set1_epi32(x.add(at).cast::<i32>().read_unaligned());
            let vector = |at: usize, h: usize| _mm512_load_si512(w.add(at + 64 * h).cast());
            let vectors = |at: usize| {
                let mut out = [zero; H];
                for (h, out) in out.iter_mut().enumerate() {
                    *out = vector(at, h);
                }
                out
            };
            let mut total = [[zero; H]; NT];
            for sub in 0..subs {
                let mut sum = [[zero; H]; NT];
                if let Some(at) = start::<B>(sub) {
                    for (n, sum) in sum.iter_mut().enumerate() {
                        *sum = [splat(at + 4 * n); H];
                    }
                }
                for k in sub * quads..(sub + 1) * quads {
                    let q = vectors(k * W_VECTOR);
                    for (n, sum) in sum.iter_mut().enumerate() {
                        let a = splat(k * X_VECTOR + 4 * n);
                        for (sum, q) in sum.iter_mut().zip(&q) {
                            *sum = _mm512_dpbusd_epi32(*sum, *q, a);
                        }
                    }
                }
                if B::FLAT.is_some() {
                    total = sum;
                    continue;
                }
                let scale = vectors(scales_at::<B>() + sub * W_VECTOR);
                for (total, sum) in total.iter_mut().zip(&sum) {
                    for ((total, sum), scale) in total.iter_mut().zip(sum).zip(&scale) {
                        *total = _mm512_add_epi32(*total, _mm512_mullo_epi32(*sum, *scale));
                    }
                }
            }
            let number = |at: usize, h: usize| _mm512_castsi512_ps(vector(at, h));
            for (n, (acc, total)) in acc.iter_mut().zip(&total).enumerate() {
                let xd = _mm512_castsi512_ps(splat(X_D + 4 * n));
                for (h, (acc, total)) in acc.iter_mut().zip(total).enumerate() {
                    let d = _mm512_mul_ps(number(W_D, h), xd);
                    *acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(*total), *acc);
                    if B::HAS_MIN {
                        let pairs = if B::SUB == 16 { X_PAIRS_16 } else { X_PAIRS_32 };
                        let mut sum = zero;
                        for j in 0..128 / B::SUB {
                            let x = splat(pairs + j * X_VECTOR + 4 * n);
                            sum = _mm512_dpwssd_epi32(sum, vector(W_MINS + j * W_VECTOR, h), x);
                        }
                        let d = _mm512_mul_ps(number(W_DMIN, h), xd);
                        *acc = _mm512_fnmadd_ps(d, _mm512_cvtepi32_ps(sum), *acc);
                    }
                }
            }
            w = w.add(step_bytes::<B>());
            x = x.add(X_STEP);
        }
    }
    for (n, acc) in acc.iter().enumerate() {
        for (h, acc) in acc.iter().enumerate() {
            let valid = t.rows.saturating_sub(16 * h).min(16);
            let mask = (0xffffu32 >> (16 - valid)) as u16;
            // SAFETY: the caller's promise; only rows that exist are stored.
            unsafe { _mm512_mask_storeu_ps(t.out.ptr.add(n * t.out.stride + 16 * h), mask, *acc) };
        }
    }
}
