//! linear: every thread takes some weight rows; bias and residual are added to finished sums.

use super::product::{Part, add_rows, for_each, part_share, product_rows, scratch_bytes, share_unit};
use crate::backends::{Isa, KernelCtx};

product_rows! {
    Linear = "linear", scratch: |case, isa| scratch_bytes(case, isa, 0), run: run
}

/// Also runs linear_add.
///
/// # Safety
/// As `KernelFn`, on a machine with `isa`.
pub(super) unsafe fn run(ctx: &KernelCtx<'_>, isa: Isa) {
    let (x, w, out) = (&ctx.args[0], &ctx.args[1], &ctx.outs[0]);
    let [range] = part_share(ctx, [w.rows as usize], [share_unit(x.rows as usize)]);
    let Some(part) = Part::new(isa, w, range) else { return };
    // SAFETY: operands are live and sized for the step; this thread owns the columns of its range.
    unsafe {
        for_each(ctx, x, &part, |pass| {
            pass.blocks(&part, 32, |cols| {
                pass.sums_into(&part, cols.clone(), out);
                // Operands 2 and on: none or one bias, then the residual of linear_add.
                for add in &ctx.args[2..] {
                    add_rows(isa, add, out, pass.rows.clone(), cols.clone());
                }
            });
        });
    }
}
