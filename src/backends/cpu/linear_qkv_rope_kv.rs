//! linear_qkv_rope_kv: every thread takes whole heads of the three matrices taken as one list, so that the thread
//! that made a head's sums also norms and rotates it and stores it in the cache.

use super::kv_append::{store_k, store_v};
use super::product::{Part, add_rows, for_each, part_share, product_rows, scratch_bytes};
use super::rms_norm::norm_heads;
use super::rope::rope_heads;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Scalar, Simd};
use crate::backends::{Isa, KernelCtx};
use crate::ops::{Op, linear_qkv_rope_kv::table_at, rope_kv::Attrs};
use std::ops::Range;

product_rows! {
    LinearQkvRopeKv = "linear_qkv_rope_kv", scratch: |case, isa| scratch_bytes(case, isa, 0), run: run, mixed
}

/// # Safety
/// As `KernelFn`, on a machine with `isa`.
unsafe fn run(ctx: &KernelCtx<'_>, isa: Isa) {
    let Op::LinearQkvRopeKv(a) = ctx.op else { return };
    let x = &ctx.args[0];
    let units = [a.rope.head_dim, a.rope.head_dim, ctx.outs[2].cols / a.kv.n_head_kv].map(|d| d as usize);
    let [q, k, v] = part_share(ctx, [1, 2, 3].map(|i| ctx.args[i].rows as usize), units);
    let part = |i: usize, range| Part::new(isa, &ctx.args[i], range);
    let (Some(q), Some(k), Some(v)) = (part(1, q), part(2, k), part(3, v)) else { return };
    let biased = table_at(a, ctx.args.len()) == 7;
    // SAFETY: operands are live and sized for the step; this thread owns the heads of its ranges, in the results
    // and in the caches.
    unsafe {
        for_each(ctx, x, &q, |pass| {
            for (i, part) in [&q, &k, &v].into_iter().enumerate() {
                pass.blocks(part, units[i], |cols| {
                    pass.sums_into(part, cols.clone(), &ctx.outs[i]);
                    if biased {
                        add_rows(isa, &ctx.args[4 + i], &ctx.outs[i], pass.rows.clone(), cols.clone());
                    }
                    let rows = pass.rows.clone();
                    match isa {
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx512 | Isa::Amx => finish_avx512(ctx, a, i, rows, cols),
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx2 => finish_avx2(ctx, a, i, rows, cols),
                        _ => finish(Scalar, ctx, a, i, rows, cols),
                    }
                });
            }
        });
    }
}

/// Norms, rotates and stores whole heads, `cols`, of result `which` (q, k, v), in some rows.
///
/// # Safety
/// As `KernelFn`; the sums are finished and this thread owns the heads.
#[inline(always)]
unsafe fn finish<S: Simd>(
    s: S,
    ctx: &KernelCtx<'_>,
    a: &Attrs,
    which: usize,
    rows: Range<usize>,
    cols: Range<usize>,
) {
    let out = &ctx.outs[which];
    let (_, rest) = ctx.args.split_at(table_at(a, ctx.args.len()));
    let [table, norms @ ..] = rest else { return };
    let head_dim = if which < 2 { a.rope.head_dim } else { out.cols / a.kv.n_head_kv } as usize;
    let first = cols.start / head_dim;
    for t in rows {
        // SAFETY: the caller's promise; the table has a row per row of the step.
        unsafe {
            let heads = out.row_f32_mut(t, cols.clone());
            if let (Some(w), Some(eps), true) = (norms.get(which), a.norm_eps, which < 2) {
                norm_heads(s, heads, w.f32s(), eps);
            }
            if which < 2 {
                rope_heads(s, heads, table.row_f32(t), &a.rope);
            }
            for (i, head) in heads.chunks_exact(head_dim).enumerate() {
                match which {
                    1 => store_k(s, ctx, a.kv.layer, t, (first + i) as u32, head),
                    2 => store_v(s, ctx, a.kv.layer, t, (first + i) as u32, head),
                    _ => break,
                }
            }
        }
    }
}

/// # Safety
/// As [`finish`], with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn finish_avx2(ctx: &KernelCtx<'_>, a: &Attrs, which: usize, rows: Range<usize>, cols: Range<usize>) {
    // SAFETY: the caller's promise; these features are enabled.
    unsafe { finish(Avx2::new(), ctx, a, which, rows, cols) }
}

/// # Safety
/// As [`finish`], with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn finish_avx512(
    ctx: &KernelCtx<'_>,
    a: &Attrs,
    which: usize,
    rows: Range<usize>,
    cols: Range<usize>,
) {
    // SAFETY: the caller's promise; these features are enabled.
    unsafe { finish(Avx512::new(), ctx, a, which, rows, cols) }
}
