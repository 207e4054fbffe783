//! kv_append: every thread takes some heads of some rows; also the stores that fused kernels end with.

use super::cells::store;
use super::entry::rows;
use super::simd::{Scalar, Simd};
use crate::backends::{KernelCtx, no_scratch, supports_all};
use crate::ops::Op;
use crate::ops::kv_append::Attrs;

/// Stores the key of row `t` and key-value head `head` at the row's position in its sequence's cache.
///
/// # Safety
/// As `KernelFn`: row, head and layer are the step's and the layout's, `k` has head_dim_k elements, and no other
/// thread stores this key.
#[inline(always)]
pub(super) unsafe fn store_k<S: Simd>(s: S, ctx: &KernelCtx<'_>, layer: u32, t: usize, head: u32, k: &[f32]) {
    let seq = ctx.seqs[ctx.step.seqs[t] as usize];
    let at = ctx.kv.k_offset(layer, head, ctx.step.positions[t]);
    debug_assert_eq!(k.len(), ctx.kv.head_dim_k as usize);
    // SAFETY: the offset lies in the sequence's cache, which is aligned to 64 and owned by the step.
    unsafe { store(s, ctx.kv.type_k, k, seq.base.add(at)) }
}

/// Stores the value of row `t` and key-value head `head`; see [`store_k`].
///
/// # Safety
/// As [`store_k`], with head_dim_v elements.
#[inline(always)]
pub(super) unsafe fn store_v<S: Simd>(s: S, ctx: &KernelCtx<'_>, layer: u32, t: usize, head: u32, v: &[f32]) {
    let seq = ctx.seqs[ctx.step.seqs[t] as usize];
    let at = ctx.kv.v_offset(layer, head, ctx.step.positions[t]);
    debug_assert_eq!(v.len(), ctx.kv.head_dim_v as usize);
    // SAFETY: the offset lies in the sequence's cache, which is aligned to 64 and owned by the step.
    unsafe { store(s, ctx.kv.type_v, v, seq.base.add(at)) }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's; the portable lanes convert one by one.
    unsafe { simd(Scalar, ctx) }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::KvAppend(a) = ctx.op else { return };
    let heads = a.n_head_kv as usize;
    for item in ctx.share(ctx.step.positions.len() * heads, 1) {
        // SAFETY: operands are F32 activations; the shares of threads are different heads.
        unsafe { store_head(s, ctx, a, item / heads, item % heads) }
    }
}

/// Stores key and value of one head of one row from operands 0 and 1.
///
/// # Safety
/// As `KernelFn`; no other thread stores this head of this row.
#[inline(always)]
unsafe fn store_head<S: Simd>(s: S, ctx: &KernelCtx<'_>, a: &Attrs, t: usize, head: usize) {
    let (dk, dv) = (ctx.kv.head_dim_k as usize, ctx.kv.head_dim_v as usize);
    // SAFETY: operands 0 and 1 are F32 rows of n_head_kv heads; the rest is the caller's promise.
    unsafe {
        let k = &ctx.args[0].row_f32(t)[head * dk..(head + 1) * dk];
        let v = &ctx.args[1].row_f32(t)[head * dv..(head + 1) * dv];
        store_k(s, ctx, a.layer, t, head as u32, k);
        store_v(s, ctx, a.layer, t, head as u32, v);
    }
}

rows! {
    KvAppend = "kv_append.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
