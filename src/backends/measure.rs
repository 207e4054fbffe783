//! Limits of the machine, measured: how fast memory can be read.
//!
//! Generating a token reads every weight once, so the rate at which memory can be read bounds it. The figure is the
//! best of several ways to read, because that is what a kernel could do at most: from ordinary and from huge pages, 1 to
//! 16 streams per thread, over the whole block or window by window, each with and without software prefetch. The block
//! is larger than any cache and has been written before, since pages that were never written all map to one page of
//! zeros. Beside it: what a meeting of a team costs.

use super::alloc::{Block, Use, memory_available};
use super::team::Team;
use crate::error::{Error, Problem, Result};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Bytes of the block where memory allows: several times the largest caches of processors in use.
const BLOCK_BYTES: u64 = 1 << 30;

/// Bytes below which caches would be measured.
const LEAST_BYTES: u64 = 64 << 20;

/// Bytes that are enough to tell which way is best.
const SEARCH_BYTES: u64 = 256 << 20;

/// How often each way is tried; the best counts.
const PASSES: usize = 3;

/// Words (8 bytes) that one stream reads before the next one has its turn: four cache lines.
const RUN: usize = 32;

/// Bytes of a window: a few pages, which keep the translation buffers small.
const WINDOW: usize = 64 << 10;

/// Bytes of a window of many streams, as the kernels read weights.
const WIDE_WINDOW: usize = 1 << 20;

/// Windows (0 for the whole block) and streams of the ways that are tried.
const SHAPES: [(usize, usize); 10] = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (WINDOW, 1),
    (WINDOW, 2),
    (WINDOW, 4),
    (WINDOW, 8),
    (WIDE_WINDOW, 8),
    (WIDE_WINDOW, 16),
];

/// A way to read: see the fields of [`ReadRate`].
#[derive(Clone, Copy, Debug)]
struct Way {
    streams: usize,
    window: usize,
    prefetch: usize,
}

/// How fast memory can be read, and by which way.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReadRate {
    /// Bytes per second, all threads together.
    pub bytes_per_second: f64,
    /// Threads.
    pub threads: usize,
    /// Streams per thread of the best way.
    pub streams: usize,
    /// Bytes that the streams of the best way share before they move on together; 0 for all.
    pub window: usize,
    /// Bytes of prefetch distance of the best way; 0 for none.
    pub prefetch: usize,
    /// Whether the best way read from a block that asked for huge pages.
    pub huge_pages: bool,
    /// Bytes of the block that was read.
    pub block_bytes: u64,
}

/// Measures how fast `threads` threads together can read memory. Takes about two seconds and up to 1 GiB.
///
/// Errors: those of [`Reader::new`].
pub fn read_rate(threads: usize) -> Result<ReadRate> {
    Reader::new(threads).map(|r| r.best)
}

/// A block of memory and the best way to read it, to be read again whenever someone asks how fast memory is now: where
/// others use it too, its speed may change within seconds.
pub struct Reader {
    field: Field,
    best: ReadRate,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?})", self.best)
    }
}

impl Reader {
    /// Finds the best way for `threads` threads together. Takes about two seconds and, as long as it lives, up to 1 GiB.
    ///
    /// Errors: `InsufficientMemory` (resources), `OutOfRange` (usage) for no threads.
    pub fn new(threads: usize) -> Result<Reader> {
        if threads == 0 {
            return Err(Error::usage(
                Problem::new("OutOfRange", "threads").found("0").expected("at least 1"),
            ));
        }
        let room = memory_available().map_or(BLOCK_BYTES, |free| free / 4);
        Reader::of(threads, BLOCK_BYTES.min(room).max(LEAST_BYTES))
    }

    fn of(threads: usize, bytes: u64) -> Result<Reader> {
        // One after the other: both at once might not fit.
        let huge = Field::new(threads, bytes, Use::Whole)?.best_way();
        let field = Field::new(threads, bytes, Use::Gradual)?;
        let best = field.best_way();
        if best.bytes_per_second >= huge.bytes_per_second {
            return Ok(Reader { field, best });
        }
        drop(field);
        Ok(Reader { field: Field::new(threads, bytes, Use::Whole)?, best: huge })
    }

    /// The best that was measured until now.
    pub fn best(&self) -> ReadRate {
        self.best
    }

    /// Bytes per second by the best way now: of a few passes, which take some hundredths of a second, the fastest.
    pub fn now(&mut self) -> f64 {
        let rate = self.field.rate(self.way(), 1, PASSES);
        self.best.bytes_per_second = self.best.bytes_per_second.max(rate);
        rate
    }

    /// Bytes per second by the best way now, of one pass over a part of the block: short enough to be asked for between
    /// tokens, and not among what [`Reader::best`] is the best of, since a short reading errs both ways.
    pub fn glance(&self) -> f64 {
        self.field.rate(self.way(), self.field.part_that_tells(), 1)
    }

    /// The best way.
    fn way(&self) -> Way {
        let ReadRate { streams, window, prefetch, .. } = self.best;
        Way { streams, window, prefetch }
    }
}

/// A block with (`Whole`) or without huge pages, cut for threads.
struct Field {
    block: Block,
    how: Use,
    /// Words of a thread, and of all.
    share: usize,
    used: usize,
}

impl Field {
    fn new(threads: usize, bytes: u64, how: Use) -> Result<Field> {
        let mut block = Block::zeroed(bytes, "the block of the read measurement", "-t", how)?;
        let words: &mut [u64] = bytemuck::cast_slice_mut(block.bytes_mut());
        let share = (words.len() / threads / (16 * RUN)).max(1) * 16 * RUN;
        let used = (share * threads).min(words.len());
        std::thread::scope(|s| {
            for (i, part) in words[..used].chunks_mut(share).enumerate() {
                s.spawn(move || part.fill(i as u64 + 1));
            }
        });
        Ok(Field { block, how, share, used })
    }

    /// What each thread reads: one `of`th of its share.
    fn parts(&self, of: usize) -> Vec<&[u64]> {
        // SAFETY: nobody writes the block after `new`.
        let words: &[u64] = bytemuck::cast_slice(unsafe { self.block.bytes() });
        let len = (self.share / of / (16 * RUN)).max(1) * 16 * RUN;
        words[..self.used].chunks(self.share).map(|share| &share[..len.min(share.len())]).collect()
    }

    /// Bytes per second, the best of so many passes over one `of`th of the block.
    fn rate(&self, way: Way, of: usize, passes: usize) -> f64 {
        let parts = self.parts(of);
        let bytes: usize = parts.iter().map(|p| size_of_val(*p)).sum();
        let fastest = (0..passes).map(|_| pass(&parts, way)).min().unwrap_or(Duration::MAX);
        bytes as f64 / fastest.as_secs_f64().max(1e-9)
    }

    /// Of how many parts one is enough to compare rates: it has to be larger than caches.
    fn part_that_tells(&self) -> usize {
        if 8 * self.used as u64 >= 4 * SEARCH_BYTES { 4 } else { 1 }
    }

    fn best_way(&self) -> ReadRate {
        let mut best = ReadRate {
            bytes_per_second: 0.0,
            threads: self.parts(1).len(),
            streams: 1,
            window: 0,
            prefetch: 0,
            huge_pages: self.how == Use::Whole,
            block_bytes: 8 * self.used as u64,
        };
        let of = self.part_that_tells();
        for (window, streams) in SHAPES {
            for prefetch in [0, 1024, 4096, WINDOW] {
                let rate = self.rate(Way { streams, window, prefetch }, of, PASSES);
                if rate > best.bytes_per_second {
                    best = ReadRate { bytes_per_second: rate, streams, window, prefetch, ..best };
                }
            }
        }
        best
    }
}

/// Seconds that one meeting of a team of `threads` costs: the median of several thousand, in the team that runs plans.
///
/// Errors: those of [`Team::new`].
pub fn barrier_seconds(threads: usize) -> Result<f64> {
    const MEETINGS: u32 = 1000;
    let mut team = Team::new(threads)?;
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        team.run(&|member| {
            for _ in 0..MEETINGS {
                if !member.meet() {
                    return;
                }
            }
        })?;
        times.push(start.elapsed().as_secs_f64() / f64::from(MEETINGS));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Time from the first reader's start to the last reader's end, each reading its part once.
fn pass(parts: &[&[u64]], way: Way) -> Duration {
    let ready = Barrier::new(parts.len());
    let times: Vec<(Instant, Instant)> = std::thread::scope(|s| {
        let reader = |part| {
            let ready = &ready;
            s.spawn(move || {
                ready.wait();
                let start = Instant::now();
                std::hint::black_box(read(part, way));
                (start, Instant::now())
            })
        };
        let readers: Vec<_> = parts.iter().map(|part| reader(*part)).collect();
        // A reader does nothing that can panic.
        readers.into_iter().filter_map(|r| r.join().ok()).collect()
    });
    let first = times.iter().map(|t| t.0).min();
    let last = times.iter().map(|t| t.1).max();
    first.zip(last).map_or(Duration::MAX, |(first, last)| last.duration_since(first))
}

fn read(part: &[u64], way: Way) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        use super::Isa;
        if Isa::Avx512.available() {
            // SAFETY: the line above found the features.
            return unsafe { read_avx512(part, way) };
        }
        if Isa::Avx2.available() {
            // SAFETY: the line above found the features.
            return unsafe { read_avx2(part, way) };
        }
    }
    read_any(part, way)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(part: &[u64], way: Way) -> u64 {
    read_any(part, way)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(part: &[u64], way: Way) -> u64 {
    read_any(part, way)
}

#[inline(always)]
fn read_any(part: &[u64], way: Way) -> u64 {
    let words = if way.window == 0 { part.len().max(1) } else { way.window / 8 };
    let read = |window| match way.streams {
        1 => read_streams::<1>(window, way.prefetch),
        2 => read_streams::<2>(window, way.prefetch),
        4 => read_streams::<4>(window, way.prefetch),
        8 => read_streams::<8>(window, way.prefetch),
        _ => read_streams::<16>(window, way.prefetch),
    };
    part.chunks(words).fold(0, |sum, window| read(window).wrapping_add(sum))
}

/// The sum of all words, read as `K` streams side by side. `part` is a multiple of `16 * RUN` words.
#[inline(always)]
fn read_streams<const K: usize>(part: &[u64], prefetch: usize) -> u64 {
    let len = part.len() / K;
    let mut streams: [_; K] = std::array::from_fn(|k| part[k * len..(k + 1) * len].chunks_exact(RUN));
    let mut sums = [0u64; RUN];
    for _ in 0..len / RUN {
        for stream in &mut streams {
            let Some(run) = stream.next() else { continue };
            if prefetch > 0 {
                for line in 0..RUN / 8 {
                    prefetch_line(run.as_ptr().wrapping_add(line * 8).wrapping_byte_add(prefetch));
                }
            }
            for (sum, word) in sums.iter_mut().zip(run) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[inline(always)]
fn prefetch_line(at: *const u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing and never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch(at.cast::<i8>(), std::arch::x86_64::_MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_reads_every_word() {
        let words: Vec<u64> = (0..16 * RUN as u64 * 35).map(|i| i * i).collect();
        let sum = words.iter().sum::<u64>();
        for streams in [1, 2, 4, 8, 16] {
            for (window, prefetch) in [(0, 0), (0, 1024), (WINDOW, 0), (WINDOW, WINDOW), (WIDE_WINDOW, 1024)]
            {
                let way = Way { streams, window, prefetch };
                assert_eq!(read(&words, way), sum, "{way:?}");
                assert_eq!(read_any(&words, way), sum, "{way:?}");
            }
        }
    }

    #[test]
    fn a_rate_is_found() {
        let mut reader = Reader::of(2, 4 << 20).unwrap();
        assert!(reader.now() > 1e6);
        let r = reader.best();
        assert!(r.bytes_per_second > 1e6 && r.threads == 2 && r.block_bytes == 4 << 20, "{r:?}");
        assert_eq!(read_rate(0).unwrap_err().code(), "OutOfRange");
    }

    #[test]
    fn a_meeting_takes_time() {
        let one = barrier_seconds(1).unwrap();
        let two = barrier_seconds(2).unwrap();
        assert!(one >= 0.0 && two > 0.0 && two < 1.0, "{one} {two}");
    }
}
