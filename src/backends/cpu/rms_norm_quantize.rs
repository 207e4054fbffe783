//! rms_norm_quantize: every thread takes some rows; the normed row lives in registers.

use super::entry::rows;
use super::rms_norm::{apply_q8_0, scale};
use super::simd::Simd;
use crate::backends::{Case, KernelCtx};
use crate::ops::Op;
use crate::ops::rms_norm_quantize::reference;
use crate::quant::DType;

/// Blocks of Q8_0.
pub(super) fn supports(case: &Case<'_>) -> Result<(), &'static str> {
    match case.op {
        Op::RmsNormQuantize(a) | Op::AddRmsNormQuantize(a) if a.to == DType::Q8_0 => Ok(()),
        _ => Err("only Q8_0 blocks are made behind a norm"),
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
unsafe fn scalar(ctx: &KernelCtx<'_>) {
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
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::RmsNormQuantize(at) = ctx.op else { return };
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    for r in ctx.share(x.rows as usize, 1) {
        // SAFETY: operands are F32; this thread owns its rows of the result.
        let (x, w, o) = unsafe { (x.row_f32(r), ctx.args[1].f32s(), out.row_bytes_mut(r, 0..out.row_bytes)) };
        apply_q8_0(s, x, w, scale(s, x, at.eps), o);
    }
}

rows! {
    RmsNormQuantize = "rms_norm_quantize.q8_0", supports: supports, scratch: scratch, scalar: scalar, simd: simd
}
