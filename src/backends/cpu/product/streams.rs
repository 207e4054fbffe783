//! How the direct path reads weights: as streams side by side.
//!
//! Memory is read fastest as several streams, each of which goes on where it was. So the rows that a leaf has in flight
//! are not neighbours: each of `L` streams takes one part of the rows from its first to its last, and the sums of those
//! in flight go to places as far apart. Neighbouring rows would be streams too, but where several share a page, no
//! prefetcher of the machine sees them: on one with 31 GB/s, rows of 952 bytes were read at 24 GB/s so, and at 31 as 16
//! streams of 64 KiB.

use super::{Rows, Sums, prefetch, prefetch_near};
use std::sync::OnceLock;

/// Bytes of weight rows that streams share before they move on together; both less and more were slower.
pub(super) const WINDOW: usize = 1 << 20;

/// How a processor likes to be asked for bytes before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    /// How many bytes of every stream ahead of those that are used.
    bytes: usize,
    /// Into the first level of the cache rather than the second.
    near: bool,
}

impl Reach {
    const FAR: Reach = Reach { bytes: 1024, near: false };
    const NEAR: Reach = Reach { bytes: 384, near: true };

    /// That of this machine: near on Zen 5 and what follows it, where a line that waits in the second level waits for the
    /// few buffers of the first once more (`benches/README.md`); far elsewhere.
    fn of_machine() -> Reach {
        static FOUND: OnceLock<Reach> = OnceLock::new();
        *FOUND.get_or_init(|| match vendor_and_family() {
            Some((vendor, family)) if vendor == *b"AuthenticAMD" && family >= 0x1a => Reach::NEAR,
            _ => Reach::FAR,
        })
    }
}

/// What the processor calls itself (AMD64 manual, volume 3, appendix E.3).
fn vendor_and_family() -> Option<([u8; 12], u32)> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        let (name, version) = (__cpuid(0), __cpuid(1).eax);
        let mut vendor = [0; 12];
        for (to, from) in vendor.as_chunks_mut::<4>().0.iter_mut().zip([name.ebx, name.edx, name.ecx]) {
            *to = from.to_le_bytes();
        }
        let family = (version >> 8) & 15;
        // Families from 15 on add an extended number.
        Some((vendor, if family == 15 { family + ((version >> 20) & 255) } else { family }))
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// One row of every stream.
pub(super) struct Flight<const L: usize> {
    /// The rows; streams that have ended repeat the last row of all.
    pub row: [*const u8; L],
    /// Index of the first stream's row, how far apart the streams are, and where they end.
    first: usize,
    apart: usize,
    end: usize,
    /// What to ask for: from here on, and how many 2^16ths of a byte further for each byte that is used.
    ahead: usize,
    pace: usize,
    near: bool,
}

impl<const L: usize> Flight<L> {
    /// Where the bytes are, counted from a row's first one, that are to be asked for when those at `at` are used.
    ///
    /// Where one cut of activation rows follows another, only the first would find memory at work, so each asks for its
    /// part of the stream's next row.
    #[inline(always)]
    pub fn ahead(&self, at: usize) -> usize {
        self.ahead + ((at * self.pace) >> 16)
    }

    /// Asks for the line at `p`, which need not be readable.
    #[inline(always)]
    pub fn ask(&self, p: *const u8) {
        if self.near { prefetch_near(p) } else { prefetch(p) }
    }

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
    let reach = Reach::of_machine();
    for first in 0..apart {
        let index = |r: usize| (first + r * apart).min(w.rows - 1);
        // SAFETY: the index is that of a row.
        let row = std::array::from_fn(|r| unsafe { w.ptr.add(index(r) * w.row_bytes) });
        let (ahead, near) = (reach.bytes, reach.near);
        let mut flight = Flight { row, first, apart, end: w.rows, ahead, pace: 1 << 16, near };
        for i in 0..cuts {
            if cuts > 1 {
                flight.ahead = w.row_bytes + w.row_bytes * i / cuts;
                flight.pace = (1 << 16) / cuts;
                // A row of every stream is more than the first level holds.
                flight.near = false;
            }
            let (t0, t1) = (x.rows * i / cuts, x.rows * (i + 1) / cuts);
            // SAFETY: the range lies inside the rows, the place of its first sum among the sums.
            let (x, ptr) = unsafe { (x.slice(t0, t1), out.ptr.add(t0 * out.stride)) };
            f(&flight, &x, t0, Sums { ptr, ..out });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_reach() {
        assert!([Reach::NEAR, Reach::FAR].contains(&Reach::of_machine()));
        #[cfg(target_arch = "x86_64")]
        assert!(vendor_and_family().is_some_and(|(v, family)| v.iter().all(u8::is_ascii) && family >= 5));
    }

    #[test]
    fn every_pair_is_made_once() {
        for (rows, acts, most) in [(1, 1, 1), (7, 3, 2), (16, 8, 8), (17, 9, 8), (33, 5, 3), (100, 24, 8)] {
            // Row r is one byte, r; an activation row is one byte, too.
            let weights: Vec<u8> = (0..rows as u8).collect();
            let x: Vec<u8> = (0..acts as u8).collect();
            let mut sums = vec![0.0f32; rows * acts];
            let view = |v: &[u8]| Rows { ptr: v.as_ptr(), row_bytes: 1, rows: v.len(), n: 1 };
            let out = Sums { ptr: sums.as_mut_ptr(), stride: rows };
            // SAFETY: rows of one byte, and a place for each pair.
            unsafe {
                for_flights::<8>(&view(&weights), &view(&x), out, most, |flight, x, t0, out| {
                    assert!(x.rows <= most);
                    for t in 0..x.rows {
                        assert_eq!(usize::from(*x.ptr.add(t)), t0 + t);
                        let made = flight.row.map(|w| 1.0 + f32::from(*w) + 100.0 * (t0 + t) as f32);
                        let place = out.ptr.add(t * out.stride);
                        assert_eq!(*place.add(usize::from(*flight.row[0])), 0.0, "made before");
                        flight.store(&made, place);
                    }
                });
            }
            for (i, sum) in sums.iter().enumerate() {
                assert_eq!(*sum, (1 + i % rows + 100 * (i / rows)) as f32, "{rows} x {acts}, {i}");
            }
        }
    }
}
