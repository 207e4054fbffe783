//! quantize: every thread takes some blocks of all rows taken as one list, so that one row is shared too.

use crate::backends::{Case, Isa, Kernel, KernelCtx, no_scratch};
use crate::ops::{Op, OpKind};
use crate::quant::{BlockQ8_0, DType, quantize_row_q8_0};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Blocks per unit of sharing: 32 blocks of 34 bytes are 17 cache lines.
const UNIT: usize = 32;

/// The rows of this op.
pub(super) const KERNELS: &[Kernel] = &[
    #[cfg(target_arch = "x86_64")]
    row("cpu.quantize.q8_0.avx512", Isa::Avx512, |ctx| {
        // SAFETY: the promise of `KernelFn`; the row says that AVX-512 is there.
        unsafe { share(ctx, blocks_avx512) }
    }),
    #[cfg(target_arch = "x86_64")]
    row("cpu.quantize.q8_0.avx2", Isa::Avx2, |ctx| {
        // SAFETY: the promise of `KernelFn`; the row says that AVX2 is there.
        unsafe { share(ctx, blocks_avx2) }
    }),
    row("cpu.quantize.q8_0.scalar", Isa::Scalar, |ctx| {
        // SAFETY: the promise of `KernelFn`.
        unsafe { share(ctx, quantize_row_q8_0) }
    }),
];

const fn row(name: &'static str, isa: Isa, run: crate::backends::KernelFn) -> Kernel {
    Kernel { name, op: OpKind::Quantize, isa, supports, scratch: no_scratch, run }
}

fn supports(case: &Case<'_>) -> Result<(), &'static str> {
    match case.op {
        Op::Quantize(a) if a.to == DType::Q8_0 => Ok(()),
        _ => Err("quantises to Q8_0 only"),
    }
}

/// # Safety
/// As `KernelFn`, on a machine where `blocks` may run.
unsafe fn share(ctx: &KernelCtx<'_>, blocks: unsafe fn(&[f32], &mut [BlockQ8_0])) {
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    let all = out.rows as usize * (out.row_bytes / size_of::<BlockQ8_0>());
    let part = ctx.share(all, UNIT);
    // SAFETY: rows are dense, so blocks are one list; this thread alone writes its part of it. The arena aligns
    // results to 64, and a block needs 2.
    unsafe {
        let to = out.ptr.cast::<BlockQ8_0>().add(part.start);
        let to = std::slice::from_raw_parts_mut(to, part.len());
        blocks(&x.f32s()[32 * part.start..32 * part.end], to);
    }
}

/// [`quantize_row_q8_0`] with AVX-512.
///
/// # Safety
/// AVX-512 with F16C is there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn blocks_avx512(src: &[f32], out: &mut [BlockQ8_0]) {
    for (s, b) in src.as_chunks::<32>().0.iter().zip(out) {
        // SAFETY: 32 floats are read, 32 bytes written.
        unsafe {
            let (lo, hi) = (_mm512_loadu_ps(s.as_ptr()), _mm512_loadu_ps(s.as_ptr().add(16)));
            let amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(lo), _mm512_abs_ps(hi)));
            let (id, d) = BlockQ8_0::scales(amax);
            let id = _mm512_set1_ps(id);
            let to = b.qs.as_mut_ptr().cast::<__m128i>();
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(lo, id)));
            _mm_storeu_si128(to, bytes);
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(hi, id)));
            _mm_storeu_si128(to.add(1), bytes);
            b.d = half_bits(d);
        }
    }
}

/// [`quantize_row_q8_0`] with AVX2.
///
/// # Safety
/// AVX2 with F16C is there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn blocks_avx2(src: &[f32], out: &mut [BlockQ8_0]) {
    let sign = _mm256_set1_ps(-0.0);
    for (s, b) in src.as_chunks::<32>().0.iter().zip(out) {
        // SAFETY: 32 floats are read, 32 bytes written.
        unsafe {
            let mut v = [_mm256_setzero_ps(); 4];
            let mut max = _mm256_setzero_ps();
            for (i, v) in v.iter_mut().enumerate() {
                *v = _mm256_loadu_ps(s.as_ptr().add(8 * i));
                max = _mm256_max_ps(max, _mm256_andnot_ps(sign, *v));
            }
            let m = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps::<1>(max));
            let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
            let amax = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
            let (id, d) = BlockQ8_0::scales(amax);
            let id = _mm256_set1_ps(id);
            let mut q = [_mm256_setzero_si256(); 4];
            for (q, v) in q.iter_mut().zip(v) {
                *q = _mm256_cvtps_epi32(_mm256_mul_ps(v, id));
            }
            // The packs work on 128-bit halves: dwords come out as 0 4 1 5 2 6 3 7.
            let lo = _mm256_packs_epi32(q[0], q[1]);
            let hi = _mm256_packs_epi32(q[2], q[3]);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order);
            _mm256_storeu_si256(b.qs.as_mut_ptr().cast(), bytes);
            b.d = half_bits(d);
        }
    }
}

/// To f16, nearest even.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn half_bits(d: f32) -> half::f16 {
    let bits = _mm_cvtsi128_si32(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(d)));
    half::f16::from_bits(bits as u16)
}
