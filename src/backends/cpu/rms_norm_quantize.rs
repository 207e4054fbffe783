//! rms_norm_quantize: every thread takes some rows; the normed row lives in registers.

use super::act_blocks::ActBlock;
use super::entry::block_rows;
use super::rms_norm::{apply_blocks, ask_for_row, scale};
use super::simd::Simd;
use crate::backends::{Case, KernelCtx};
use crate::ops::Op;
use crate::ops::rms_norm_quantize::reference;

/// Blocks of this type.
pub(super) fn supports<B: ActBlock>(case: &Case<'_>) -> Result<(), &'static str> {
    match case.op {
        Op::RmsNormQuantize(a) | Op::AddRmsNormQuantize(a) if a.to == B::TYPE => Ok(()),
        _ => Err("makes blocks of another type"),
    }
}

/// The scalar kernel keeps the normed row between its two parts.
pub(super) fn scratch(case: &Case<'_>) -> usize {
    case.args[0].cols() as usize * size_of::<f32>()
}

/// The thread's scratch as the normed row.
///
/// # Safety
/// The scratch was sized by [`scratch`].
pub(super) unsafe fn normed_row<'a>(ctx: &KernelCtx<'_>) -> &'a mut [f32] {
    // SAFETY: the caller's promise; scratch is aligned to 64 and this thread's own. It is zeroed before it is seen
    // as floats.
    unsafe {
        let (first, n) = (ctx.scratch.cast::<f32>(), ctx.args[0].cols as usize);
        first.write_bytes(0, n);
        std::slice::from_raw_parts_mut(first, n)
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar<B: ActBlock>(ctx: &KernelCtx<'_>) {
    let Op::RmsNormQuantize(at) = ctx.op else { return };
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    // SAFETY: the table pairs this function with `scratch`.
    let normed = unsafe { normed_row(ctx) };
    for r in ctx.share(x.rows as usize, 1) {
        // SAFETY: operands are F32; this thread owns its rows of the result.
        unsafe {
            let to = out.row_bytes_mut(r, 0..out.row_bytes);
            reference(at, x.row_f32(r), ctx.args[1].f32s(), normed, to);
        }
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd, B: ActBlock>(s: S, ctx: &KernelCtx<'_>) {
    let Op::RmsNormQuantize(at) = ctx.op else { return };
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    for r in ctx.share(x.rows as usize, 1) {
        ask_for_row(x, r + 1);
        // SAFETY: operands are F32; this thread owns its rows of the result.
        let (x, w, o) = unsafe { (x.row_f32(r), ctx.args[1].f32s(), out.row_bytes_mut(r, 0..out.row_bytes)) };
        apply_blocks::<S, B>(s, x, w, scale(s, x, at.eps), o);
    }
}

block_rows! {
    RmsNormQuantize = "rms_norm_quantize.q8_0", "rms_norm_quantize.q8_1", "rms_norm_quantize.q8_k",
    supports: supports, scratch: scratch, scalar: scalar, simd: simd
}
