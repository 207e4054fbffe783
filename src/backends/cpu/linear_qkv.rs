//! linear_qkv: every thread takes some weight rows of the three matrices taken as one.

use super::product::{Part, add_rows, for_each, part_share, product_rows, scratch_bytes, share_unit};
use crate::backends::{Isa, KernelCtx};

product_rows! {
    LinearQkv = "linear_qkv", scratch: |case, isa| scratch_bytes(case, isa, 0), run: run, mixed
}

/// # Safety
/// As `KernelFn`, on a machine with `isa`.
unsafe fn run(ctx: &KernelCtx<'_>, isa: Isa) {
    let x = &ctx.args[0];
    let unit = share_unit(x.rows as usize);
    let [q, k, v] = part_share(ctx, [1, 2, 3].map(|i| ctx.args[i].rows as usize), [unit; 3]);
    let part = |i: usize, range| Part::new(isa, &ctx.args[i], range);
    let (Some(q), Some(k), Some(v)) = (part(1, q), part(2, k), part(3, v)) else { return };
    // SAFETY: operands are live and sized for the step; this thread owns the columns of its ranges.
    unsafe {
        for_each(ctx, x, &q, |pass| {
            for (i, part) in [&q, &k, &v].into_iter().enumerate() {
                pass.blocks(part, 32, |cols| {
                    pass.sums_into(part, cols.clone(), &ctx.outs[i]);
                    if let Some(bias) = ctx.args.get(4 + i) {
                        add_rows(isa, bias, &ctx.outs[i], pass.rows.clone(), cols);
                    }
                });
            }
        });
    }
}
