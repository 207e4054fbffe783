//! linear_swiglu: every thread takes some rows of both weights, a block of gate and up sums at a time in scratch.

use super::product::{Part, Sums, for_each, part_share, product_rows, scratch_bytes, share_unit};
use super::simd::Scalar;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::swiglu::swiglu_slice;
use crate::backends::{Isa, KernelCtx};

product_rows! {
    LinearSwiglu = "linear_swiglu", scratch: |case, isa| scratch_bytes(case, isa, 2), run: run, mixed
}

/// # Safety
/// As `KernelFn`, on a machine with `isa`.
unsafe fn run(ctx: &KernelCtx<'_>, isa: Isa) {
    let (x, out) = (&ctx.args[0], &ctx.outs[0]);
    let [range] = part_share(ctx, [out.cols as usize], [share_unit(x.rows as usize)]);
    let part = |i: usize| Part::new(isa, &ctx.args[i], range.clone());
    let (Some(gate), Some(up)) = (part(1), part(2)) else { return };
    let parts = [gate, up];
    // SAFETY: operands are live and sized for the step; this thread owns the columns of its range. Scratch has
    // room for two blocks of sums, which nobody else sees.
    unsafe {
        for_each(ctx, x, &parts[0], |pass| {
            let tiles = pass.epilogue(&parts);
            pass.blocks(&parts[0], 32, |cols| {
                let (stride, rows) = (cols.len(), pass.rows.len());
                let [g, u] = [tiles, tiles.add(rows * stride)];
                pass.sums(&parts[0], cols.clone(), Sums { ptr: g, stride });
                pass.sums(&parts[1], cols.clone(), Sums { ptr: u, stride });
                for t in 0..rows {
                    let row = |p: *mut f32| std::slice::from_raw_parts(p.add(t * stride), stride);
                    let to = out.row_f32_mut(pass.rows.start + t, cols.clone());
                    match isa {
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx512 | Isa::Amx => swiglu_avx512(row(g), row(u), to),
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx2 => swiglu_avx2(row(g), row(u), to),
                        _ => swiglu_slice(Scalar, row(g), row(u), to),
                    }
                }
            });
        });
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn swiglu_avx2(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: these features are enabled.
    swiglu_slice(unsafe { Avx2::new() }, gate, up, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn swiglu_avx512(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: these features are enabled.
    swiglu_slice(unsafe { Avx512::new() }, gate, up, out);
}
