//! rope_kv: rotated heads of Q and K, stored keys and values; every thread takes some heads of some rows.

use super::entry::rows;
use super::kv_append::{store_k, store_v};
use super::rope::rope_head;
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
    let [q, k, v, table] = ctx.args else { return };
    let (dk, dv) = (a.rope.head_dim as usize, ctx.kv.head_dim_v as usize);
    let (n_q, n_kv) = ((q.cols / a.rope.head_dim) as usize, a.kv.n_head_kv as usize);
    for item in ctx.share(ctx.step.positions.len() * (n_q + n_kv), 1) {
        let (t, head) = (item / (n_q + n_kv), item % (n_q + n_kv));
        // SAFETY: operands are F32 rows of these heads; the shares of threads are different heads.
        unsafe {
            if head < n_q {
                rope_head(s, &a.rope, q, table, &ctx.outs[0], t, head);
                continue;
            }
            let head = head - n_q;
            rope_head(s, &a.rope, k, table, &ctx.outs[1], t, head);
            let rotated = &*ctx.outs[1].row_f32_mut(t, head * dk..(head + 1) * dk);
            store_k(s, ctx, a.kv.layer, t, head as u32, rotated);
            store_v(s, ctx, a.kv.layer, t, head as u32, &v.row_f32(t)[head * dv..(head + 1) * dv]);
        }
    }
}

rows! {
    RopeKv = "rope_kv.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
