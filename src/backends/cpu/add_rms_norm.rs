//! add_rms_norm: every thread takes some rows.

use super::entry::rows;
use super::rms_norm::{add_scale, apply};
use super::simd::Simd;
use crate::backends::{KernelCtx, no_scratch, supports_all};
use crate::ops::Op;
use crate::ops::add_rms_norm::reference;

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    let Op::AddRmsNorm(at) = ctx.op else { return };
    let [a, b, w] = ctx.args else { return };
    let cols = 0..a.cols as usize;
    for r in ctx.share(a.rows as usize, 1) {
        // SAFETY: operands are F32; this thread owns its rows of both results.
        unsafe {
            let (sum, out) =
                (ctx.outs[0].row_f32_mut(r, cols.clone()), ctx.outs[1].row_f32_mut(r, cols.clone()));
            reference(at.eps, a.row_f32(r), b.row_f32(r), w.f32s(), sum, out);
        }
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::AddRmsNorm(at) = ctx.op else { return };
    let [a, b, w] = ctx.args else { return };
    let cols = 0..a.cols as usize;
    for r in ctx.share(a.rows as usize, 1) {
        // SAFETY: operands are F32; this thread owns its rows of both results.
        unsafe {
            let (sum, out) =
                (ctx.outs[0].row_f32_mut(r, cols.clone()), ctx.outs[1].row_f32_mut(r, cols.clone()));
            let scale = add_scale(s, a.row_f32(r), b.row_f32(r), sum, at.eps);
            apply(s, sum, w.f32s(), scale, out);
        }
    }
}

rows! {
    AddRmsNorm = "add_rms_norm.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
