//! Leaves for Q8_0 weights against Q8_0 activations, portable.

use super::{Rows, Sums};
use crate::quant::BlockQ8_0;

/// The exact sum of a block.
fn block_sum(w: &BlockQ8_0, a: &BlockQ8_0) -> i32 {
    w.qs.iter().zip(&a.qs).map(|(w, a)| i32::from(*w) * i32::from(*a)).sum()
}

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// `w` and `x` describe readable rows of whole Q8_0 blocks of one length; `out` has room for every pair.
pub(super) unsafe fn direct(w: &Rows, x: &Rows, _: *const u8, out: Sums) {
    let blocks = w.n / 32;
    for r in 0..w.rows {
        for t in 0..x.rows {
            // SAFETY: the caller's promise: both rows hold `blocks` blocks, which are read unaligned.
            unsafe {
                let (wp, xp) = (w.ptr.add(r * w.row_bytes), x.ptr.add(t * x.row_bytes));
                let mut acc = 0f32;
                for b in 0..blocks {
                    let wb = wp.add(34 * b).cast::<BlockQ8_0>().read_unaligned();
                    let xb = xp.add(34 * b).cast::<BlockQ8_0>().read_unaligned();
                    let scale = wb.d.to_f32() * xb.d.to_f32();
                    acc = scale.mul_add(block_sum(&wb, &xb) as f32, acc);
                }
                out.ptr.add(t * out.stride + r).write(acc);
            }
        }
    }
}
