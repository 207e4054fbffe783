//! Leaves for the 256-element types, portable: the oracle itself.

use super::super::{Rows, Sums};
use super::{Named, X_BYTES};

/// Sums of all weight rows against all activation rows.
///
/// # Safety
/// `w` and `x` describe readable rows of blocks of the type and of Q8_K blocks, of one length; `out` has room for
/// every pair.
pub(super) unsafe fn direct<B: Named>(w: &Rows, x: &Rows, _: *mut u8, out: Sums) {
    let Some(dot) = B::TYPE.codec().and_then(|c| c.dot) else { return };
    let blocks = w.n / 256;
    for r in 0..w.rows {
        for t in 0..x.rows {
            // SAFETY: the caller's promise.
            unsafe {
                let w = std::slice::from_raw_parts(w.ptr.add(r * w.row_bytes), blocks * size_of::<B>());
                let x = std::slice::from_raw_parts(x.ptr.add(t * x.row_bytes), blocks * X_BYTES);
                out.ptr.add(t * out.stride + r).write(dot(w, x));
            }
        }
    }
}
