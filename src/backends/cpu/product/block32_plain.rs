//! Leaves for weights in blocks of 32 against Q8_0 or Q8_1 activations, portable.

use super::{Rows, Sums};
use crate::quant::{Block32, BlockQ8_0, BlockQ8_1};

/// The exact sum of a block.
fn block_sum(w: &[i8; 32], x: &[i8; 32]) -> i32 {
    w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
}

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// `w` describes readable rows of whole blocks `B`, `x` rows as long of Q8_1 blocks if the type has a minimum, else
/// of Q8_0 blocks; `out` has room for every pair.
pub(super) unsafe fn direct<B: Block32>(w: &Rows, x: &Rows, _: *mut u8, out: Sums) {
    for r in 0..w.rows {
        for t in 0..x.rows {
            // SAFETY: the caller's promise: both rows hold n / 32 blocks, which are read unaligned.
            unsafe {
                let wp = w.ptr.add(r * w.row_bytes).cast::<B>();
                let xp = x.ptr.add(t * x.row_bytes);
                let mut acc = 0f32;
                for b in 0..w.n / 32 {
                    let wb = wp.add(b).read_unaligned();
                    if B::HAS_MIN {
                        let xb = xp.cast::<BlockQ8_1>().add(b).read_unaligned();
                        let sum = block_sum(&wb.quants(), &xb.qs) as f32;
                        acc = (wb.scale() * xb.d.to_f32()).mul_add(sum, acc);
                        acc = wb.min().mul_add(xb.s.to_f32(), acc);
                    } else {
                        let xb = xp.cast::<BlockQ8_0>().add(b).read_unaligned();
                        let sum = block_sum(&wb.quants(), &xb.qs) as f32;
                        acc = (wb.scale() * xb.d.to_f32()).mul_add(sum, acc);
                    }
                }
                out.ptr.add(t * out.stride + r).write(acc);
            }
        }
    }
}
