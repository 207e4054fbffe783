//! rms_norm: every thread takes some groups of some rows; also the passes over a row that the fused norms are made of.

use super::act_blocks::{ActBlock, block};
use super::entry::rows;
use super::product::prefetch;
use super::simd::{LANES, Simd};
use crate::backends::{KernelCtx, Operand, no_scratch, supports_all};
use crate::ops::Op;
use crate::ops::rms_norm::{reference, scale_of};

/// The factor of a group.
#[inline(always)]
pub(super) fn scale<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    scale_of(s.dot(x, x), x.len(), eps)
}

/// Asks for row `r` of `x`, which need not exist. Columns of a product were made by other members, so parts of a row
/// may lie in the caches of other cores; waiting for a row took longer than all that is done with it.
#[inline(always)]
pub(super) fn ask_for_row(x: &Operand, r: usize) {
    let row = x.ptr.wrapping_add(r * x.row_bytes);
    for at in (0..x.row_bytes).step_by(64) {
        prefetch(row.wrapping_add(at));
    }
}

/// Writes `a + b` to `sum` and returns the factor of that row: one pass.
#[inline(always)]
pub(super) fn add_scale<S: Simd>(s: S, a: &[f32], b: &[f32], sum: &mut [f32], eps: f32) -> f32 {
    let mut squares = s.zero();
    for ((a, b), o) in a.chunks(LANES).zip(b.chunks(LANES)).zip(sum.chunks_mut(LANES)) {
        let v = s.add(s.load_upto(a), s.load_upto(b));
        s.store_upto(v, o);
        squares = s.fma(v, v, squares);
    }
    scale_of(s.tree(squares), a.len(), eps)
}

/// `(x * scale) * w`.
#[inline(always)]
pub(super) fn apply<S: Simd>(s: S, x: &[f32], w: &[f32], scale: f32, out: &mut [f32]) {
    let scale = s.splat(scale);
    for ((x, w), o) in x.chunks(LANES).zip(w.chunks(LANES)).zip(out.chunks_mut(LANES)) {
        s.store_upto(s.mul(s.mul(s.load_upto(x), scale), s.load_upto(w)), o);
    }
}

/// Norms every head of a row in place, all by the weight of one head.
#[inline(always)]
pub(super) fn norm_heads<S: Simd>(s: S, heads: &mut [f32], w: &[f32], eps: f32) {
    for head in heads.chunks_exact_mut(w.len().max(1)) {
        let scale = s.splat(scale(s, head, eps));
        for (x, w) in head.chunks_mut(LANES).zip(w.chunks(LANES)) {
            s.store_upto(s.mul(s.mul(s.load_upto(x), scale), s.load_upto(w)), x);
        }
    }
}

/// `(x * scale) * w` as the bytes of blocks: the bits of their codec, the row kept in registers.
#[inline(always)]
pub(super) fn apply_blocks<S: Simd, B: ActBlock>(s: S, x: &[f32], w: &[f32], scale: f32, out: &mut [u8]) {
    let scale = s.splat(scale);
    let (x, w) = (x.chunks_exact(B::ELEMENTS), w.chunks_exact(B::ELEMENTS));
    for ((x, w), o) in x.zip(w).zip(out.chunks_exact_mut(size_of::<B>())) {
        let (x, w) = (x.as_chunks::<LANES>().0, w.as_chunks::<LANES>().0);
        let block = block!(s, B, i => s.mul(s.mul(s.load(&x[i]), scale), s.load(&w[i])));
        o.copy_from_slice(bytemuck::bytes_of(&block));
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    let Op::RmsNorm(a) = ctx.op else { return };
    // SAFETY: as this function's.
    unsafe { groups(ctx, |x, w, out| reference(x, w, a.eps, out)) }
}

/// Calls `f` with each group of this thread, the weight, and where the result goes.
///
/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn groups(ctx: &KernelCtx<'_>, f: impl Fn(&[f32], &[f32], &mut [f32])) {
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    // SAFETY: the weight is one F32 row.
    let w = unsafe { ctx.args[1].f32s() };
    let per_row = x.cols as usize / w.len().max(1);
    for item in ctx.share(x.rows as usize * per_row, 1) {
        let (r, group) = (item / per_row, item % per_row);
        let cols = group * w.len()..(group + 1) * w.len();
        if group == 0 {
            ask_for_row(x, r + 1);
        }
        // SAFETY: operands are F32; the shares of threads are different groups.
        unsafe { f(&x.row_f32(r)[cols.clone()], w, out.row_f32_mut(r, cols)) }
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::RmsNorm(a) = ctx.op else { return };
    // SAFETY: as this function's.
    unsafe {
        groups(
            ctx,
            #[inline(always)]
            |x, w, out| apply(s, x, w, scale(s, x, a.eps), out),
        )
    }
}

rows! {
    RmsNorm = "rms_norm.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
