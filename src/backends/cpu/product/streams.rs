//! How the direct path reads weights: as streams side by side.
//!
//! Memory is read fastest as several streams, each of which goes on where it was. So the rows that a leaf has in flight
//! are not neighbours: each of `L` streams takes one part of the rows from its first to its last, and the sums of those
//! in flight go to places as far apart. Neighbouring rows would be streams too, but where several share a page, no
//! prefetcher of the machine sees them: on one with 31 GB/s, rows of 952 bytes were read at 24 GB/s so, and at 31 as 16
//! streams of 64 KiB.

use super::{Rows, Sums};

/// Bytes of weight rows that streams share before they move on together; both less and more were slower.
pub(super) const WINDOW: usize = 1 << 20;

/// Bytes that are asked for ahead of those that are used.
pub(super) const AHEAD: usize = 1024;

/// One row of every stream.
pub(super) struct Flight<const L: usize> {
    /// The rows; streams that have ended repeat the last row of all.
    pub row: [*const u8; L],
    /// Index of the first stream's row, how far apart the streams are, and where they end.
    first: usize,
    apart: usize,
    end: usize,
}

impl<const L: usize> Flight<L> {
    /// Stores the finished sums of the rows that exist.
    ///
    /// # Safety
    /// `out` takes a sum of every weight row.
    #[inline(always)]
    pub unsafe fn store(&self, sums: &[f32; L], out: *mut f32) {
        for (r, sum) in sums.iter().enumerate() {
            let row = self.first + r * self.apart;
            if row < self.end {
                // SAFETY: the caller's promise.
                unsafe { out.add(row).write(*sum) }
            }
        }
    }
}

/// Calls `f` for every flight of weight rows and, in cuts of at most `most` and nearly equal size, all activation rows:
/// with the cut, the number of its first row, and the place of that row's sums.
///
/// # Safety
/// `w` and `x` describe readable rows and `out` has room for every pair.
#[inline(always)]
pub(super) unsafe fn for_flights<const L: usize>(
    w: &Rows,
    x: &Rows,
    out: Sums,
    most: usize,
    f: impl Fn(&Flight<L>, &Rows, usize, Sums),
) {
    let apart = w.rows.div_ceil(L);
    let cuts = x.rows.div_ceil(most);
    for first in 0..apart {
        let index = |r: usize| (first + r * apart).min(w.rows - 1);
        // SAFETY: the index is that of a row.
        let row = std::array::from_fn(|r| unsafe { w.ptr.add(index(r) * w.row_bytes) });
        let flight = Flight { row, first, apart, end: w.rows };
        for i in 0..cuts {
            let (t0, t1) = (x.rows * i / cuts, x.rows * (i + 1) / cuts);
            // SAFETY: the range lies inside the rows, the place of its first sum among the sums.
            let (x, ptr) = unsafe { (x.slice(t0, t1), out.ptr.add(t0 * out.stride)) };
            f(&flight, &x, t0, Sums { ptr, ..out });
        }
    }
}
