//! Few activation rows against 256-element blocks on AVX-512 with VNNI: the file's bytes, streamed once.
//!
//! A row's 256 codes are four registers; four products (`vpdpbusd`) leave sums of four elements in each lane. They
//! fit 16 bits (but for the wide type), so two registers become one of pairs that `vpdpwssd` multiplies by pairs
//! of scales and adds. Sixteen rows' lanes are then summed across to one register of exact sums.

use super::super::in_order;
use super::super::q8_avx512::store;
use super::super::streams::{Flight, for_flights};
use super::super::{Rows, Sums};
use super::avx512::{Leaf, Order, place, sum_across, sum_parts};
use super::in_order_avx512;
use super::turned_avx512::{self, ACTS, Turn};
use super::{X_BSUMS, X_BYTES, X_QS};
use std::arch::x86_64::*;

/// The scale of each pair of 16-bit lanes, for registers 0 and 1 and for 2 and 3: indices of bytes, or of 16-bit
/// units.
struct Pairs {
    bytes: [[u8; 64]; 2],
    units: [[u16; 32]; 2],
    /// Per dword, for registers 0 and 2, whose scales are those of 1 and 3 in the wide type.
    dwords: [[u32; 16]; 2],
}

impl Pairs {
    const fn new(order: &Order, sub: usize) -> Pairs {
        let mut p = Pairs { bytes: [[0x80; 64]; 2], units: [[0; 32]; 2], dwords: [[0; 16]; 2] };
        let mut lane = 0;
        while lane < 64 {
            let (pair, unit) = (lane / 32, lane % 32);
            let scale = order[2 * pair + unit % 2][unit / 8] as usize / sub;
            p.bytes[pair][2 * unit] = scale as u8;
            p.units[pair][unit] = scale as u16;
            p.dwords[pair][unit / 2] = (order[2 * pair][unit / 8] as usize / sub) as u32;
            lane += 1;
        }
        p
    }
}

/// The indices of a type.
struct Of<B>(std::marker::PhantomData<B>);

impl<B: Leaf> Of<B> {
    const PAIRS: Pairs = Pairs::new(&B::ORDER, B::SUB);
}

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// AVX-512 with VNNI is there; `w` and `x` describe readable rows of blocks of the type and of Q8_K blocks, of one
/// length, `pack` takes [`in_order_avx512::bytes`] a row, aligned, and holds what [`turned_avx512::pack_sums`] made of `x`, and
/// `out` has room for every pair.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn direct<B: Turn>(w: &Rows, x: &Rows, pack: *mut u8, out: Sums) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        if in_order::pays(w, x, x.n / 256, size_of::<B>()) {
            return in_order_avx512::direct::<B>(w, x, pack, out);
        }
        let sums = |t0: usize| pack.cast::<[i16; 8]>().add(t0 * (x.n / 256)).cast_const();
        for_flights(w, x, out, ACTS, size_of::<B>(), |flight, x, t0, out| match x.rows {
            1 => direct_rows::<B, 1>(flight, x, out),
            2 => direct_rows::<B, 2>(flight, x, out),
            3 | 4 => turned_avx512::rows::<B, 4>(flight, x, sums(t0), out),
            5 | 6 => turned_avx512::rows::<B, 6>(flight, x, sums(t0), out),
            _ => turned_avx512::rows::<B, 8>(flight, x, sums(t0), out),
        });
    }
}

/// # Safety
/// As [`direct`], with `NT` activation rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn direct_rows<B: Leaf, const NT: usize>(flight: &Flight<16>, x: &Rows, out: Sums) {
    let size = size_of::<B>();
    let mut row = flight.row;
    let mut acc = [_mm512_setzero_ps(); NT];
    // SAFETY: the caller's promise; every block read lies in its row; prefetches may point anywhere.
    unsafe {
        for b in 0..x.n / 256 {
            let mut acts = [Acts::nothing(); NT];
            for (t, acts) in acts.iter_mut().enumerate() {
                *acts = Acts::load::<B>(x.ptr.add(t * x.row_bytes + b * X_BYTES));
            }
            let head = B::head(&row);
            // The compiler must not know this number: unrolled, the rows of all groups would be in flight,
            // in memory.
            let groups = std::hint::black_box(4);
            let mut sums = [[_mm512_setzero_si512(); 4]; NT];
            for g in 0..groups {
                let mut lanes = [[_mm512_setzero_si512(); 4]; NT];
                for i in 0..4 {
                    let p = row[4 * g + i];
                    // Every line of a row once: blocks are no whole lines.
                    for at in ((b * size).next_multiple_of(64)..(b + 1) * size).step_by(64) {
                        flight.ask(4 * g + i, at);
                    }
                    let codes = B::codes(p);
                    let scales = scale_lanes::<B>(head.scales.0[place(4 * g + i)].as_ptr());
                    for (lanes, x) in lanes.iter_mut().zip(&acts) {
                        lanes[i] = x.sum::<B>(&codes, &scales);
                    }
                }
                for (sums, lanes) in sums.iter_mut().zip(&lanes) {
                    sums[g & 3] = sum_parts(*lanes);
                }
            }
            for ((acc, sums), x) in acc.iter_mut().zip(&sums).zip(&acts) {
                let d = _mm512_mul_ps(head.d, x.d);
                *acc = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(sum_across(*sums)), *acc);
                if B::HAS_MIN {
                    let d = _mm512_mul_ps(head.dmin, x.d);
                    let sums = _mm512_cvtepi32_ps(x.min_sums::<B>(&head.mins));
                    *acc = _mm512_fnmadd_ps(d, sums, *acc);
                }
            }
            for p in &mut row {
                *p = p.wrapping_add(size);
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            store(flight, acc, out.ptr.add(t * out.stride));
        }
    }
}

/// What a row's scales multiply: pairs of lanes, or lanes of the wide type.
///
/// # Safety
/// AVX-512 is there and `scales` points to 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn scale_lanes<B: Leaf>(scales: *const i8) -> [__m512i; 2] {
    let p = const { &Of::<B>::PAIRS };
    // SAFETY: the caller's promise; every array of indices is 64 bytes.
    unsafe {
        let bytes = _mm_loadu_si128(scales.cast());
        let index = |at: *const u8| _mm512_loadu_si512(at.cast());
        if B::WIDE {
            let all = _mm512_castsi256_si512(_mm256_cvtepi8_epi32(bytes));
            let part = |i: usize| _mm512_permutexvar_epi32(index(p.dwords[i].as_ptr().cast()), all);
            [part(0), part(1)]
        } else if B::SIGNED {
            let all = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(bytes));
            let part = |i: usize| _mm512_permutexvar_epi16(index(p.units[i].as_ptr().cast()), all);
            [part(0), part(1)]
        } else {
            let all = _mm512_broadcast_i32x4(bytes);
            let part = |i: usize| _mm512_shuffle_epi8(all, index(p.bytes[i].as_ptr()));
            [part(0), part(1)]
        }
    }
}

/// A block of one activation row, in the order of the weight's codes.
#[derive(Clone, Copy)]
pub(super) struct Acts {
    pub qs: [__m512i; 4],
    /// What the bias of the codes adds to each lane of products, negative.
    pub fix: [__m512i; 4],
    /// Sums that meet the minima, as [`super::avx512::Head::mins`] has them.
    pub sums: [__m512i; 2],
    d: __m512,
}

impl Acts {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn nothing() -> Acts {
        let zero = _mm512_setzero_si512();
        Acts { qs: [zero; 4], fix: [zero; 4], sums: [zero; 2], d: _mm512_setzero_ps() }
    }

    /// # Safety
    /// AVX-512 with VNNI is there and `p` points to a readable Q8_K block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub unsafe fn load<B: Leaf>(p: *const u8) -> Acts {
        let zero = _mm512_setzero_si512();
        let mut x = Acts::nothing();
        // SAFETY: the caller's promise; the orders hold every multiple of 16 below 256.
        unsafe {
            for (i, order) in B::ORDER.iter().enumerate() {
                let part = |j: usize| _mm_loadu_si128(p.add(X_QS + usize::from(order[j])).cast());
                let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(0)), part(1));
                let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(2)), part(3));
                x.qs[i] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
                if B::BIAS != 0 {
                    let bias = _mm512_set1_epi8(B::BIAS.cast_signed());
                    x.fix[i] = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, bias, x.qs[i]));
                }
            }
            x.d = _mm512_set1_ps(p.cast::<f32>().read_unaligned());
            if B::HAS_MIN {
                let bsums = _mm256_loadu_si256(p.add(X_BSUMS).cast());
                if B::SUB == 16 {
                    x.sums[0] = _mm512_broadcast_i32x4(_mm256_castsi256_si128(bsums));
                    x.sums[1] = _mm512_broadcast_i32x4(_mm256_extracti128_si256::<1>(bsums));
                } else {
                    let twos = _mm256_madd_epi16(bsums, _mm256_set1_epi16(1));
                    x.sums[0] = _mm512_broadcast_i32x4(_mm256_cvtepi32_epi16(twos));
                }
            }
        }
        x
    }

    /// Quants and corrections that lie in memory, one after the other.
    ///
    /// # Safety
    /// AVX-512 is there and `p`, 64-byte aligned, points to 8 registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub unsafe fn arranged<B: Leaf>(p: *const u8) -> Acts {
        let mut x = Acts::nothing();
        for i in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                x.qs[i] = _mm512_load_si512(p.add(64 * i).cast());
                if B::BIAS != 0 {
                    x.fix[i] = _mm512_load_si512(p.add(64 * (4 + i)).cast());
                }
            }
        }
        x
    }

    /// Lanes that add up to a row's exact sum.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub fn sum<B: Leaf>(&self, codes: &[__m512i; 4], scales: &[__m512i; 2]) -> __m512i {
        let products = |i: usize, from| _mm512_dpbusd_epi32(from, codes[i], self.qs[i]);
        if B::WIDE {
            // Registers 2 i and 2 i + 1 have the same scales.
            let two = |i: usize| {
                let sum = products(i + 1, products(i, _mm512_add_epi32(self.fix[i], self.fix[i + 1])));
                _mm512_mullo_epi32(sum, scales[i / 2])
            };
            return _mm512_add_epi32(two(0), two(2));
        }
        let two = |i: usize| {
            let (even, odd) = (products(i, self.fix[i]), products(i + 1, self.fix[i + 1]));
            // The low 16 bits of `odd`, moved to the high half of every lane.
            _mm512_mask_alignr_epi8::<14>(even, 0xCCCC_CCCC_CCCC_CCCC, odd, odd)
        };
        let sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), two(0), scales[0]);
        _mm512_dpwssd_epi32(sum, two(2), scales[1])
    }

    /// The exact sums of minima times sums of activations, lanes in the order of the rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn min_sums<B: Leaf>(&self, mins: &[[__m512i; 4]; 2]) -> __m512i {
        let mut parts = [_mm512_setzero_si512(); 4];
        for (g, part) in parts.iter_mut().enumerate() {
            *part = _mm512_madd_epi16(mins[0][g], self.sums[0]);
            if B::SUB == 16 {
                *part = _mm512_dpwssd_epi32(*part, mins[1][g], self.sums[1]);
            }
        }
        sum_parts(parts)
    }
}
