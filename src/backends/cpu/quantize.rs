//! quantize: every thread takes some blocks of all rows taken as one list, so that one row is shared too.

use super::act_blocks::{ActBlock, block};
use super::entry::block_rows;
use super::simd::{LANES, Simd};
use crate::backends::{Case, KernelCtx, no_scratch};
use crate::ops::Op;

/// Elements per unit of sharing: 17 or 18 cache lines of blocks of 32, so that no two threads write one line.
const UNIT: usize = 1024;

fn supports<B: ActBlock>(case: &Case<'_>) -> Result<(), &'static str> {
    match case.op {
        Op::Quantize(a) if a.to == B::TYPE => Ok(()),
        _ => Err("makes blocks of another type"),
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar<B: ActBlock>(ctx: &KernelCtx<'_>) {
    // SAFETY: operands are those of the op, and this thread owns its share of the result.
    let (x, out) = unsafe { share::<B>(ctx) };
    B::reference(x, out);
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd, B: ActBlock>(s: S, ctx: &KernelCtx<'_>) {
    // SAFETY: operands are those of the op, and this thread owns its share of the result.
    let (x, out) = unsafe { share::<B>(ctx) };
    for (x, out) in x.chunks_exact(B::ELEMENTS).zip(out) {
        let x = x.as_chunks::<LANES>().0;
        *out = block!(s, B, i => s.load(&x[i]));
    }
}

/// This thread's blocks, and the elements they are made of.
///
/// # Safety
/// As `KernelFn`, for an op from F32 rows to rows of blocks `B`.
#[inline(always)]
unsafe fn share<'a, B: ActBlock>(ctx: &KernelCtx<'_>) -> (&'a [f32], &'a mut [B]) {
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    let blocks = ctx.share(out.rows as usize * (out.cols as usize / B::ELEMENTS), UNIT / B::ELEMENTS);
    // SAFETY: rows are dense, so their blocks are one list, of which this thread alone writes its share; the arena
    // aligns results to 64, and a block needs at most 4.
    unsafe {
        let first = out.ptr.cast::<B>().add(blocks.start);
        let to = std::slice::from_raw_parts_mut(first, blocks.len());
        (&x.f32s()[B::ELEMENTS * blocks.start..B::ELEMENTS * blocks.end], to)
    }
}

block_rows! {
    Quantize = "quantize.q8_0", "quantize.q8_1", "quantize.q8_k",
    supports: supports, scratch: no_scratch, scalar: scalar, simd: simd
}
