//! rope_table: every thread takes some rows. The oracle's loop inlined into an entry point becomes that set's fused
//! multiply-adds in f64.

use super::entry::rows;
use super::simd::{Scalar, Simd};
use crate::backends::{Case, KernelCtx, no_scratch};
use crate::ops::Op;
use crate::ops::rope_table::{reference, theta_scale};

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's.
    unsafe { simd(Scalar, ctx) }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(_: S, ctx: &KernelCtx<'_>) {
    let Op::RopeTable(a) = ctx.op else { return };
    let out = &ctx.outs[0];
    // SAFETY: the optional operand is one F32 row, a weight.
    let factors = ctx.args.first().map(|f| unsafe { f.f32s() });
    let mine = ctx.share(ctx.step.positions.len(), 1);
    if mine.is_empty() {
        return;
    }
    let scale = theta_scale(a);
    for t in mine {
        // SAFETY: this thread owns row t of the result.
        let to = unsafe { out.row_f32_mut(t, 0..out.cols as usize) };
        reference(a, scale, ctx.step.positions[t], factors, to);
    }
}

fn supports(case: &Case<'_>) -> Result<(), &'static str> {
    if case.args.len() > 1 { Err("takes one set of factors: planning chooses it") } else { Ok(()) }
}

rows! {
    RopeTable = "rope_table.f32", supports: supports, scratch: no_scratch, scalar: scalar, simd: simd
}
