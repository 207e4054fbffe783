//! How the direct path reads weights: as streams side by side.
//!
//! Memory is read fastest as several streams, each of which goes on where it was. So the rows that a leaf has in flight
//! are not neighbours: each of `L` streams takes one part of the rows from its first to its last, and the sums of those
//! in flight go to places as far apart. Neighbouring rows would be streams too, but where several share a page, no
//! prefetcher of the machine sees them: on one with 31 GB/s, rows of 952 bytes were read at 24 GB/s so, and at 31 as 16
//! streams of 64 KiB.
//!
//! That holds where a leaf goes through all rows line by line, and for the machines it was found on. On Zen 5 a leaf that
//! takes several lines of a row before it turns to the next is served better by neighbours ([`Way::Together`]), and one
//! activation row best by a single stream: float rows one after the other ([`for_rows`]), blocks by [`super::in_order`].

use super::{Rows, Sums, prefetch, prefetch_once};
use std::sync::OnceLock;

/// Bytes of weight rows that streams share before they move on together; both less and more were slower.
pub(super) const WINDOW: usize = 1 << 20;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// How rows come from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A stream for every row in flight, each asked for so many bytes ahead: into the first level of the cache if `near`,
    /// else into the second.
    Apart { ahead: usize, near: bool },
    /// Rows in flight are neighbours. While they are used, the bytes behind them, which the next flight uses, are asked for
    /// in the order in which they lie.
    Together,
}

impl Way {
    const FAR: Way = Way::Apart { ahead: 1024, near: false };
    const NEAR: Way = Way::Apart { ahead: 384, near: true };
    /// With one row in flight: all rows in their order. 6144 to 9216 bytes ahead make no difference.
    const ONE: Way = Way::Apart { ahead: 8192, near: true };

    /// That of this machine for leaves that use so many bytes of a row before they turn to the next.
    ///
    /// Measured on Zen 5 (`benches/README.md`): near is up to a fourth faster than far; where several lines of a row are used
    /// at a time, together is up to a third faster than near, where fewer are, a sixth slower.
    fn of_machine(visit: usize) -> Way {
        match zen_5() {
            true if visit > LINE => Way::Together,
            true => Way::NEAR,
            false => Way::FAR,
        }
    }
}

/// Whether this machine is a Zen 5, or newer.
fn zen_5() -> bool {
    static ZEN_5: OnceLock<bool> = OnceLock::new();
    let found = || vendor_and_family().is_some_and(|(v, family)| v == *b"AuthenticAMD" && family >= 0x1a);
    *ZEN_5.get_or_init(found)
}

/// Whether one activation row is best met by weights as a single stream, one row after the other.
///
/// Measured on Zen 5 (`benches/README.md`): up to a fourth faster than streams side by side.
pub(super) fn one_stream() -> bool {
    #[cfg(test)]
    return ONE_STREAM.get();
    #[cfg(not(test))]
    zen_5()
}

#[cfg(test)]
thread_local! {
    /// What tests say instead of the machine.
    pub(super) static ONE_STREAM: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
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

/// The rows of a leaf that are in flight.
pub(super) struct Flight<const L: usize> {
    /// The rows; where there are no more, the last row of all is repeated.
    pub row: [*const u8; L],
    /// Index of the first row, how far apart the rows are, and where they end.
    first: usize,
    apart: usize,
    end: usize,
    /// What to ask for: from here on in each row, and how many 2^16ths of a byte further for each byte that is used.
    ahead: usize,
    pace: usize,
    near: bool,
    /// Where the rows are neighbours: the next flight's, whose lines are asked for in turn instead.
    next: Option<*const u8>,
}

impl<const L: usize> Flight<L> {
    /// Asks for a line that row `r` of this or the next flight has part in, when the bytes at `at` of every row are used:
    /// once for every row and [`LINE`] bytes.
    ///
    /// Where one cut of activation rows follows another, only the first would find memory at work, so each asks for its
    /// part of what comes next.
    #[inline(always)]
    pub fn ask(&self, r: usize, at: usize) {
        let at = self.ahead + ((at * self.pace) >> 16);
        let p = match self.next {
            Some(next) => next.wrapping_add((at / LINE * L + r) * LINE),
            None => self.row[r].wrapping_add(at),
        };
        if self.near { prefetch_once(p) } else { prefetch(p) }
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
/// with the cut, the number of its first row, and the place of that row's sums. It uses `visit` bytes of a row, or a few
/// less, before it turns to the next.
///
/// # Safety
/// `w` and `x` describe readable rows and `out` has room for every pair.
#[inline(always)]
pub(super) unsafe fn for_flights<const L: usize>(
    w: &Rows,
    x: &Rows,
    out: Sums,
    most: usize,
    visit: usize,
    f: impl Fn(&Flight<L>, &Rows, usize, Sums),
) {
    // SAFETY: the caller's promise.
    unsafe { for_flights_by(Way::of_machine(visit), w, x, out, most, f) }
}

/// Calls `f` for one weight row after the other, as [`for_flights`] does; `x` is one row.
///
/// # Safety
/// As [`for_flights`].
#[inline(always)]
pub(super) unsafe fn for_rows(w: &Rows, x: &Rows, out: Sums, f: impl Fn(&Flight<1>, &Rows, usize, Sums)) {
    // SAFETY: the caller's promise.
    unsafe { for_flights_by(Way::ONE, w, x, out, 1, f) }
}

/// # Safety
/// As [`for_flights`].
#[inline(always)]
unsafe fn for_flights_by<const L: usize>(
    way: Way,
    w: &Rows,
    x: &Rows,
    out: Sums,
    most: usize,
    f: impl Fn(&Flight<L>, &Rows, usize, Sums),
) {
    let flights = w.rows.div_ceil(L);
    let cuts = x.rows.div_ceil(most);
    for number in 0..flights {
        let (first, apart, ahead, near) = match way {
            Way::Apart { ahead, near } => (number, flights, ahead, near),
            Way::Together => (number * L, 1, 0, true),
        };
        let index = |r: usize| (first + r * apart).min(w.rows - 1);
        // SAFETY: the index is that of a row.
        let row: [_; L] = std::array::from_fn(|r| unsafe { w.ptr.add(index(r) * w.row_bytes) });
        // It need not exist.
        let next = (way == Way::Together).then(|| row[0].wrapping_add(L * w.row_bytes));
        let mut flight = Flight { row, first, apart, end: w.rows, ahead, pace: 1 << 16, near, next };
        for i in 0..cuts {
            if cuts > 1 {
                let whole = if next.is_some() { 0 } else { w.row_bytes };
                flight.ahead = whole + w.row_bytes * i / cuts;
                flight.pace = (1 << 16) / cuts;
                // A row of every stream is more than the first level holds, and it is used again.
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
    #[cfg(target_arch = "x86_64")]
    fn the_processor_says_what_it_is() {
        assert!(vendor_and_family().is_some_and(|(v, family)| v.iter().all(u8::is_ascii) && family >= 5));
    }

    #[test]
    fn every_pair_is_made_once() {
        let sizes = [(1, 1, 1), (7, 3, 2), (16, 8, 8), (17, 9, 8), (33, 5, 3), (100, 24, 8)];
        let ways = [Way::FAR, Way::NEAR, Way::Together];
        for ((rows, acts, most), way) in sizes.into_iter().flat_map(|s| ways.map(|w| (s, w))) {
            // Row r is one byte, r; an activation row is one byte, too.
            let weights: Vec<u8> = (0..rows as u8).collect();
            let x: Vec<u8> = (0..acts as u8).collect();
            let mut sums = vec![0.0f32; rows * acts];
            let view = |v: &[u8]| Rows { ptr: v.as_ptr(), row_bytes: 1, rows: v.len(), n: 1 };
            let out = Sums { ptr: sums.as_mut_ptr(), stride: rows };
            // SAFETY: rows of one byte, and a place for each pair.
            unsafe {
                for_flights_by::<8>(way, &view(&weights), &view(&x), out, most, |flight, x, t0, out| {
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
                assert_eq!(*sum, (1 + i % rows + 100 * (i / rows)) as f32, "{rows} x {acts}, {i}, {way:?}");
            }
        }
    }
}
