//! quantize: every thread takes some blocks of all rows taken as one list, so that one row is shared too.

use super::entry::rows;
use super::simd::{LANES, Simd};
use crate::backends::{Case, KernelCtx, no_scratch};
use crate::ops::Op;
use crate::quant::{BlockQ8_0, DType, quantize_row_q8_0};
use half::f16;

/// Blocks per unit of sharing: 32 blocks of 34 bytes are 17 cache lines.
const UNIT: usize = 32;

fn supports(case: &Case<'_>) -> Result<(), &'static str> {
    match case.op {
        Op::Quantize(a) if a.to == DType::Q8_0 => Ok(()),
        _ => Err("makes Q8_0 blocks only"),
    }
}

/// One Q8_0 block of 32 elements.
#[inline(always)]
pub(super) fn q8_0<S: Simd>(s: S, a: S::V, b: S::V) -> BlockQ8_0 {
    let (id, d) = BlockQ8_0::scales(s.max_lane(s.max(s.abs(a), s.abs(b))));
    let mut qs = [0i8; 32];
    let halves = qs.as_chunks_mut::<LANES>().0;
    s.store_i8(s.mul(a, s.splat(id)), &mut halves[0]);
    s.store_i8(s.mul(b, s.splat(id)), &mut halves[1]);
    BlockQ8_0 { d: f16::from_bits(s.f16_bits(d)), qs }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: operands are those of the op, and this thread owns its share of the result.
    let (x, out) = unsafe { share(ctx) };
    quantize_row_q8_0(x, out);
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    // SAFETY: operands are those of the op, and this thread owns its share of the result.
    let (x, out) = unsafe { share(ctx) };
    for (x, out) in x.as_chunks::<32>().0.iter().zip(out) {
        let x = x.as_chunks::<LANES>().0;
        *out = q8_0(s, s.load(&x[0]), s.load(&x[1]));
    }
}

/// This thread's blocks, and the elements they are made of.
///
/// # Safety
/// As `KernelFn`, for an op from F32 rows to Q8_0 rows.
#[inline(always)]
unsafe fn share<'a>(ctx: &KernelCtx<'_>) -> (&'a [f32], &'a mut [BlockQ8_0]) {
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    let blocks = ctx.share(out.rows as usize * (out.cols as usize / 32), UNIT);
    // SAFETY: rows are dense, so their blocks are one list, of which this thread alone writes its share; the arena
    // aligns results to 64, and a block needs 2.
    unsafe {
        let first = out.ptr.cast::<BlockQ8_0>().add(blocks.start);
        let to = std::slice::from_raw_parts_mut(first, blocks.len());
        (&x.f32s()[32 * blocks.start..32 * blocks.end], to)
    }
}

rows! {
    Quantize = "quantize.q8_0", supports: supports, scratch: no_scratch, scalar: scalar, simd: simd
}
