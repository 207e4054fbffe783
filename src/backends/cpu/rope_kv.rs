//! rope_kv: normed and rotated heads of Q and K, stored keys and values; every thread takes some heads of some rows.

use super::entry::rows;
use super::kv_append::{store_k, store_v};
use super::rms_norm::norm_heads;
use super::rope::rope_heads;
use super::simd::{Scalar, Simd};
use crate::backends::{KernelCtx, no_scratch, supports_all};
use crate::ops::Op;

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's.
    unsafe { simd(Scalar, ctx) }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::RopeKv(a) = ctx.op else { return };
    let [q, k, v, table, norms @ ..] = ctx.args else { return };
    let (dk, dv) = (a.rope.head_dim as usize, ctx.kv.head_dim_v as usize);
    let (n_q, n_kv) = ((q.cols / a.rope.head_dim) as usize, a.kv.n_head_kv as usize);
    for item in ctx.share(ctx.step.positions.len() * (n_q + n_kv), 1) {
        let (t, head) = (item / (n_q + n_kv), item % (n_q + n_kv));
        // SAFETY: operands are F32 rows of these heads; the shares of threads are different heads.
        unsafe {
            let (which, x, head) = if head < n_q { (0, q, head) } else { (1, k, head - n_q) };
            let cols = head * dk..(head + 1) * dk;
            let to = ctx.outs[which].row_f32_mut(t, cols.clone());
            to.copy_from_slice(&x.row_f32(t)[cols]);
            if let (Some(w), Some(eps)) = (norms.get(which), a.norm_eps) {
                norm_heads(s, to, w.f32s(), eps);
            }
            rope_heads(s, to, table.row_f32(t), &a.rope);
            if which == 0 {
                continue;
            }
            store_k(s, ctx, a.kv.layer, t, head as u32, to);
            store_v(s, ctx, a.kv.layer, t, head as u32, &v.row_f32(t)[head * dv..(head + 1) * dv]);
        }
    }
}

rows! {
    RopeKv = "rope_kv.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
