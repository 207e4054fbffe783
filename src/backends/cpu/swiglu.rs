//! swiglu: every thread takes a run of elements.

use super::entry::rows;
use super::simd::{LANES, Simd};
use crate::backends::{KernelCtx, no_scratch, supports_all};
use crate::ops::swiglu::reference;

/// Elements per unit of sharing: a cache line, so that no two threads write the same one.
const UNIT: usize = 16;

/// `silu(gate) * up` into `out`; all three equally long.
#[inline(always)]
pub(super) fn swiglu_slice<S: Simd>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((g, u), o) in gate.chunks(LANES).zip(up.chunks(LANES)).zip(out.chunks_mut(LANES)) {
        s.store_upto(s.mul(s.silu(s.load_upto(g)), s.load_upto(u)), o);
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: operands are F32 activations, and this thread owns its share of the result.
    let (g, u, o) = unsafe { share(ctx) };
    reference(g, u, o);
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    // SAFETY: operands are F32 activations, and this thread owns its share of the result.
    let (g, u, o) = unsafe { share(ctx) };
    swiglu_slice(s, g, u, o);
}

/// This thread's part of two operands and of the result.
///
/// # Safety
/// As `KernelFn`, for an op with two F32 operands and one F32 result, all of one shape.
#[inline(always)]
pub(super) unsafe fn share<'a>(ctx: &KernelCtx<'_>) -> (&'a [f32], &'a [f32], &'a mut [f32]) {
    let n = ctx.outs[0].rows as usize * ctx.outs[0].cols as usize;
    let part = ctx.share(n, UNIT);
    // SAFETY: dense F32 operands of n elements that nobody writes now; `share` cuts the result into disjoint parts.
    unsafe {
        let (a, b) = (ctx.args[0].f32s(), ctx.args[1].f32s());
        let out = ctx.outs[0].f32_part_mut(part.clone());
        (&a[part.clone()], &b[part], out)
    }
}

rows! {
    Swiglu = "swiglu.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
