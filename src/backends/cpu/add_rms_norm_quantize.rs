//! add_rms_norm_quantize: every thread takes some rows; the normed row lives in registers.

use super::act_blocks::ActBlock;
use super::entry::block_rows;
use super::rms_norm::{add_scale, apply_blocks};
use super::rms_norm_quantize::{normed_row, scratch, supports};
use super::simd::Simd;
use crate::backends::KernelCtx;
use crate::ops::Op;
use crate::ops::add_rms_norm_quantize::reference;

/// # Safety
/// As `KernelFn`.
unsafe fn scalar<B: ActBlock>(ctx: &KernelCtx<'_>) {
    let Op::AddRmsNormQuantize(at) = ctx.op else { return };
    let [a, b, w] = ctx.args else { return };
    // SAFETY: the table pairs this function with `scratch`.
    let normed = unsafe { normed_row(ctx) };
    for r in ctx.share(a.rows as usize, 1) {
        // SAFETY: operands are F32; this thread owns its rows of both results.
        unsafe {
            let sum = ctx.outs[0].row_f32_mut(r, 0..a.cols as usize);
            let to = ctx.outs[1].row_bytes_mut(r, 0..ctx.outs[1].row_bytes);
            reference(at, [a.row_f32(r), b.row_f32(r), w.f32s()], sum, normed, to);
        }
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd, B: ActBlock>(s: S, ctx: &KernelCtx<'_>) {
    let Op::AddRmsNormQuantize(at) = ctx.op else { return };
    let [a, b, w] = ctx.args else { return };
    for r in ctx.share(a.rows as usize, 1) {
        // SAFETY: operands are F32; this thread owns its rows of both results.
        unsafe {
            let sum = ctx.outs[0].row_f32_mut(r, 0..a.cols as usize);
            let to = ctx.outs[1].row_bytes_mut(r, 0..ctx.outs[1].row_bytes);
            let scale = add_scale(s, a.row_f32(r), b.row_f32(r), sum, at.eps);
            apply_blocks::<S, B>(s, sum, w.f32s(), scale, to);
        }
    }
}

block_rows! {
    AddRmsNormQuantize = "add_rms_norm_quantize.q8_0", "add_rms_norm_quantize.q8_1",
    "add_rms_norm_quantize.q8_k",
    supports: supports, scratch: scratch, scalar: scalar, simd: simd
}
