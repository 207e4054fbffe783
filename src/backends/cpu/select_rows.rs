//! select_rows: every thread copies some rows.

use super::entry::rows;
use super::simd::Simd;
use crate::backends::{KernelCtx, no_scratch, supports_all};
use crate::ops::select_rows::reference;

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    let rows = ctx.share(ctx.step.out_rows.len(), 1);
    let cols = out.cols as usize;
    // SAFETY: the listed rows are rows of the step; this thread owns its rows of the result.
    unsafe {
        reference(
            x.f32s(),
            &ctx.step.out_rows[rows.clone()],
            out.f32_part_mut(rows.start * cols..rows.end * cols),
        );
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(_: S, ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's.
    unsafe { scalar(ctx) }
}

rows! {
    SelectRows = "select_rows.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
