//! rope: every thread takes some heads of some rows.

use super::entry::rows;
use super::simd::Simd;
use crate::backends::{KernelCtx, Operand, no_scratch, supports_all};
use crate::ops::Op;
use crate::ops::rope::{self, Attrs};

/// Rotates whole heads of one row in place by the row's line of the table. For every instruction set: inlined
/// into an entry point, the oracle's loop becomes that set's fused multiply-adds, and its bits do not change.
#[inline(always)]
pub(super) fn rope_heads(heads: &mut [f32], table_row: &[f32], a: &Attrs) {
    rope::reference(a, heads, table_row);
}

/// Copies one head of `x` to `out` and rotates it there.
///
/// # Safety
/// As `KernelFn`: `x` and `table` are F32 operands, `out` an F32 result like `x`, and no other thread writes this
/// head of this row.
#[inline(always)]
pub(super) unsafe fn rope_head(
    a: &Attrs,
    x: &Operand,
    table: &Operand,
    out: &Operand,
    t: usize,
    head: usize,
) {
    let d = a.head_dim as usize;
    // SAFETY: the caller's promise.
    unsafe {
        let to = out.row_f32_mut(t, head * d..(head + 1) * d);
        to.copy_from_slice(&x.row_f32(t)[head * d..(head + 1) * d]);
        rope_heads(to, table.row_f32(t), a);
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's.
    unsafe { heads(ctx) }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(_: S, ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's.
    unsafe { heads(ctx) }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn heads(ctx: &KernelCtx<'_>) {
    let Op::Rope(a) = ctx.op else { return };
    let [x, table] = ctx.args else { return };
    let n = x.cols as usize / a.head_dim as usize;
    for item in ctx.share(x.rows as usize * n, 1) {
        // SAFETY: operands are F32 rows; the shares of threads are different heads.
        unsafe { rope_head(a, x, table, &ctx.outs[0], item / n, item % n) }
    }
}

rows! {
    Rope = "rope.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
