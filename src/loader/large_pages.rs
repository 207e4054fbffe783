//! Moves parts of a mapped file into large pages of this process.
//!
//! What lies in the system's file cache lies there in pages of 4 KiB, scattered over memory as they happened to be free.
//! Reading a model from there again and again, as decoding does, is slower than from pages of 2 MiB: measured, 2 to 10 %
//! and more (`benches/README.md`). So chunks of a map are copied, and each copy is put in the chunk's place: addresses and
//! contents stay, and whoever reads meanwhile finds either. The file's pages are no longer this process's, so it needs
//! no more memory than before; but what has moved is not shared with other processes, and not taken from it when memory
//! is short.

use super::bytes::Bytes;
use std::ops::Range;

/// Bytes that move at once: two large pages. What is copied and not yet in its place is all that a move takes beside
/// the file.
const CHUNK_BYTES: usize = 4 << 20;

/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;

impl Bytes {
    /// The chunks of these bytes that hold some of `parts`, each once, for [`Bytes::move_chunk`]; none unless they are a
    /// map that may be moved ([`super::LoadMode::Auto`]) and the system has large pages. A beginning or an end that does
    /// not fill a large page is in no chunk.
    pub fn chunks(&self, parts: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
        if !self.may_move() || !available() {
            return Vec::new();
        }
        let skip = self.as_ptr().addr().next_multiple_of(LARGE_PAGE) - self.as_ptr().addr();
        let end = skip + self.len().saturating_sub(skip) / LARGE_PAGE * LARGE_PAGE;
        let numbers = parts.filter(|p| p.start < end && p.end > skip && !p.is_empty()).flat_map(|p| {
            let (first, last) = (p.start.max(skip) - skip, p.end.min(end) - 1 - skip);
            first / CHUNK_BYTES..=last / CHUNK_BYTES
        });
        let mut numbers: Vec<usize> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        let start = |i: usize| skip + i * CHUNK_BYTES;
        numbers.into_iter().map(|i| start(i)..(start(i) + CHUNK_BYTES).min(end)).collect()
    }

    /// Moves one of [`Bytes::chunks`]; threads may move different ones at once. `false` if the system has no memory for
    /// it, or the range is no chunk: then nothing has changed.
    pub fn move_chunk(&self, chunk: &Range<usize>) -> bool {
        let Some(bytes) = self.get(chunk.clone()).filter(|b| {
            !b.is_empty()
                && b.as_ptr().addr().is_multiple_of(LARGE_PAGE)
                && b.len().is_multiple_of(LARGE_PAGE)
        }) else {
            return false;
        };
        self.may_move() && self.keep() && replace(bytes)
    }
}

/// Asks for large pages where these bytes, which nobody has touched yet, fill some.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn ask_for(bytes: &mut [u8]) {
    let skip = bytes.as_ptr().addr().next_multiple_of(LARGE_PAGE) - bytes.as_ptr().addr();
    if let Some(rest) = bytes.get_mut(skip..) {
        let len = rest.len() / LARGE_PAGE * LARGE_PAGE;
        // SAFETY: whole pages of memory that is borrowed alone; the advice changes no contents. A system that has no
        // large pages says no, and nothing else changes.
        let _ = unsafe { libc::madvise(rest.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn ask_for(_: &mut [u8]) {}

/// Whether the system has large pages for those who ask.
#[cfg(target_os = "linux")]
fn available() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|modes| !modes.contains("[never]"))
}

#[cfg(not(target_os = "linux"))]
fn available() -> bool {
    false
}

/// Puts a copy in large pages in the place of `bytes`, which are whole large pages of a read-only map.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn replace(bytes: &[u8]) -> bool {
    use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
    let len = bytes.len();
    // Room for a beginning that is aligned.
    let room = len + LARGE_PAGE;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new map, at a place that the system picks.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), room, PROT_READ | PROT_WRITE, flags, -1, 0) };
    if base == MAP_FAILED {
        return false;
    }
    let before = base.addr().next_multiple_of(LARGE_PAGE) - base.addr();
    let copy = base.wrapping_byte_add(before);
    let behind = copy.wrapping_byte_add(len);
    // SAFETY: `copy` is `len` bytes inside the new map, which nobody else knows and which does not overlap `bytes`. Its
    // unused ends are unmapped and never touched. Moving it unmaps `bytes` and puts pages with the same contents there
    // in one step, as seen by every thread, so references to them stay valid; the owner of the file's map unmaps the
    // whole range in the end. If the move fails, the copy is unmapped instead.
    unsafe {
        if before > 0 {
            libc::munmap(base, before);
        }
        libc::munmap(behind, LARGE_PAGE - before);
        libc::madvise(copy, len, libc::MADV_HUGEPAGE);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast::<u8>(), len);
        libc::mprotect(copy, len, PROT_READ);
        let place = bytes.as_ptr().cast_mut().cast::<libc::c_void>();
        let moved = libc::mremap(copy, len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, place);
        if moved == MAP_FAILED {
            libc::munmap(copy, len);
        }
        moved != MAP_FAILED
    }
}

#[cfg(not(target_os = "linux"))]
fn replace(_: &[u8]) -> bool {
    false
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use crate::loader::{Bytes, LoadMode};

    /// A file of `len` bytes that tell where they are.
    fn file(len: usize) -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let data: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        (dir, path, data)
    }

    #[test]
    fn moved_bytes_are_the_same_and_stay() {
        let (_dir, path, data) = file((27 << 20) + 777);
        let bytes = Bytes::open(&path, LoadMode::Auto).unwrap();
        assert!(bytes.is_mapped());
        let at = bytes.as_ptr();
        let chunks = bytes.chunks([(5 << 20)..(6 << 20), 100..200, (5 << 20)..(14 << 20)].into_iter());
        if chunks.is_empty() {
            // A system without large pages.
            return;
        }
        let covered: usize = chunks.iter().map(std::ops::Range::len).sum();
        assert!((9 << 20..=24 << 20).contains(&covered), "{chunks:?}");
        assert!(chunks.windows(2).all(|c| c[0].end <= c[1].start), "{chunks:?}");
        std::thread::scope(|s| {
            for part in chunks.chunks(2) {
                let bytes = &bytes;
                s.spawn(move || assert!(part.iter().all(|c| bytes.move_chunk(c))));
            }
            // Whoever reads meanwhile.
            for _ in 0..3 {
                assert!(bytes[..] == data[..]);
            }
        });
        assert!(bytes[..] == data[..] && bytes.as_ptr() == at);
        // Moved once more, they are still the same.
        assert!(bytes.move_chunk(&chunks[0]));
        // They are no longer the file's, so they must not be given back: zeros would come.
        bytes.release(&bytes);
        assert!(bytes[..] == data[..]);
        // Nor does it matter what becomes of the file.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(chunks[0].start as u64).unwrap();
        assert!(bytes[chunks[0].clone()] == data[chunks[0].clone()]);
    }

    #[test]
    fn only_whole_pages_of_maps_that_may_move() {
        let (_dir, path, data) = file(20 << 20);
        for mode in [LoadMode::Mmap, LoadMode::Read] {
            let bytes = Bytes::open(&path, mode).unwrap();
            assert!(bytes.chunks(std::iter::once(0..20 << 20)).is_empty());
            assert!(!bytes.move_chunk(&(0..4 << 20)) && bytes[..] == data[..]);
        }
        let bytes = Bytes::open(&path, LoadMode::Auto).unwrap();
        for chunk in [1..2 << 20, 0..4096, 0..0, 0..64 << 20, (30 << 20)..(32 << 20)] {
            assert!(!bytes.move_chunk(&chunk), "{chunk:?}");
        }
        assert!(bytes.chunks(std::iter::empty()).is_empty());
        assert!(bytes.chunks([5..5, (40 << 20)..(41 << 20)].into_iter()).is_empty());
        assert!(bytes[..] == data[..]);
    }
}
