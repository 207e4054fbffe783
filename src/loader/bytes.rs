//! Where a file's bytes live: mapped, or read into one aligned buffer. Cheap to clone, never written.

use super::boxed;
use crate::error::{Class, Error, Problem, Result, escape};
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Files smaller than this are read into memory under [`LoadMode::Auto`]: a copy that a later change of the file
/// cannot hurt costs less than a few milliseconds there.
pub const AUTO_READ_BYTES: u64 = 16 << 20;

/// Bytes read by one task of a parallel read.
const READ_CHUNK_BYTES: usize = 4 << 20;
/// Chunks between two calls of the progress callback.
const READ_WAVE_CHUNKS: usize = 16;
/// Alignment of a buffer that is read into: a cache line, and the widest vector.
const ALIGN_BYTES: usize = 64;

/// How a model file is brought into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadMode {
    /// Map the file. Starts at once and shares memory between processes, but a file that is truncated while it is
    /// mapped ends the process (one line on stderr, exit 3).
    Mmap,
    /// Copy the file into memory. Later changes of the file have no effect.
    Read,
    /// Read files below [`AUTO_READ_BYTES`], map the others. An engine that goes on to decode moves the weights of a map
    /// into memory of its own, in large pages ([`Bytes::move_chunk`]).
    #[default]
    Auto,
}

impl std::str::FromStr for LoadMode {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "mmap" => Ok(LoadMode::Mmap),
            "read" => Ok(LoadMode::Read),
            "auto" => Ok(LoadMode::Auto),
            _ => Err(format!("\"{}\" is not one of mmap, read, auto", escape(s))),
        }
    }
}

impl std::fmt::Display for LoadMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            LoadMode::Mmap => "mmap",
            LoadMode::Read => "read",
            LoadMode::Auto => "auto",
        })
    }
}

/// Immutable bytes of a file or of a buffer; clones share them.
#[derive(Clone)]
pub struct Bytes(Arc<Inner>);

struct Inner {
    store: Store,
    path: Option<PathBuf>,
}

enum Store {
    Mapped(Mapping),
    Owned(AlignedBuf),
    /// Part of the program, which the system maps.
    BuiltIn(&'static [u8]),
}

/// A map and its entry in the SIGBUS table. Fields drop in this order: the entry goes before the map does.
struct Mapping {
    #[cfg(unix)]
    _guard: super::sigbus::Guard,
    map: memmap2::Mmap,
    /// Chunks of it may be moved.
    movable: bool,
    /// One may have been, or is about to be: those pages are not the file's. Held while pages are given back.
    moved: Mutex<bool>,
}

impl Bytes {
    /// Opens a regular file, or a model in the box ([`boxed`]), whatever the mode.
    ///
    /// # Errors
    /// `NotInTheBox`; `Io` if it cannot be opened or read, `NotARegularFile` for anything but a file (never blocks on a pipe),
    /// `InsufficientMemory` if the copy does not fit.
    pub fn open(path: &Path, mode: LoadMode) -> Result<Bytes> {
        Bytes::open_with(path, mode, &mut |_, _| {})
    }

    /// As [`Bytes::open`], calling `progress(bytes done, bytes in all)` while it reads; never called for a map.
    ///
    /// # Errors
    /// As [`Bytes::open`].
    pub fn open_with(path: &Path, mode: LoadMode, progress: &mut dyn FnMut(u64, u64)) -> Result<Bytes> {
        if let Some(bytes) = boxed::find(path)? {
            return Ok(bytes);
        }
        let (file, len) = open_regular(path)?;
        let read = match mode {
            LoadMode::Read => true,
            LoadMode::Mmap => false,
            LoadMode::Auto => len < AUTO_READ_BYTES,
        };
        // An empty file cannot be mapped everywhere, and there is nothing to map.
        let store = if read || len == 0 {
            Store::Owned(read_all(&file, path, len, progress)?)
        } else {
            Store::Mapped(map(&file, path, mode == LoadMode::Auto)?)
        };
        Ok(Bytes(Arc::new(Inner { store, path: Some(path.to_owned()) })))
    }

    /// Bytes of this program, under the path that names them.
    pub(super) fn built_in(bytes: &'static [u8], path: &Path) -> Bytes {
        Bytes(Arc::new(Inner { store: Store::BuiltIn(bytes), path: Some(path.to_owned()) }))
    }

    /// Whether these bytes are a map of a file, the program's own included.
    pub fn is_mapped(&self) -> bool {
        matches!(self.0.store, Store::Mapped(_) | Store::BuiltIn(_))
    }

    /// The file they came from, if any.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The name of file `i` of a model in messages: that of its path, quoted and escaped, or its number from 1.
    pub(super) fn name(&self, i: usize) -> String {
        match self.path().and_then(Path::file_name) {
            Some(name) => format!("\"{}\"", escape(&name.to_string_lossy())),
            None => format!("file {}", i.saturating_add(1)),
        }
    }

    /// Gives the pages that lie in this part of a map back to the system, for readers that pass once: memory in use
    /// stays small however long the file is. A later read brings them back. Nothing to do for bytes that were read,
    /// nor for a part of something else, nor once chunks have moved.
    pub fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        if let Store::Mapped(m) = &self.0.store {
            let start = part.as_ptr().addr().wrapping_sub(m.map.as_ptr().addr());
            let inside = start < m.map.len() && part.len() <= m.map.len() - start;
            if inside
                && let Ok(moved) = m.moved.lock()
                && !*moved
            {
                release_pages(&m.map, start, part.len());
            }
        }
        #[cfg(not(unix))]
        let _ = part;
    }

    /// Whether chunks of these bytes may be moved.
    pub(super) fn may_move(&self) -> bool {
        matches!(&self.0.store, Store::Mapped(m) if m.movable)
    }

    /// From now on none of these bytes are given back. `false` if that cannot be promised.
    pub(super) fn keep(&self) -> bool {
        match &self.0.store {
            Store::Mapped(m) => m.moved.lock().map(|mut moved| *moved = true).is_ok(),
            _ => false,
        }
    }

    /// Touches every page of a map on all threads of rayon's pool, so that no later read faults. Nothing to do for
    /// bytes that were read.
    pub fn prefault(&self) {
        use rayon::prelude::*;
        const PAGE_BYTES: usize = 4096;
        if self.is_mapped() {
            let touched = self
                .par_chunks(1 << 20)
                .map(|chunk| chunk.iter().step_by(PAGE_BYTES).fold(0u8, |a, b| a ^ b))
                .reduce(|| 0, |a, b| a ^ b);
            std::hint::black_box(touched);
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0.store {
            Store::Mapped(m) => &m.map,
            Store::Owned(b) => b.as_slice(),
            Store::BuiltIn(b) => b,
        }
    }
}

impl From<&[u8]> for Bytes {
    /// Copies into an aligned buffer.
    fn from(bytes: &[u8]) -> Bytes {
        let mut buf = AlignedBuf::zeroed(bytes.len()).unwrap_or_else(|| {
            // Same as every other infallible copy in the standard library.
            std::alloc::handle_alloc_error(
                AlignedBuf::layout(bytes.len()).unwrap_or(std::alloc::Layout::new::<u8>()),
            )
        });
        buf.as_mut_slice().copy_from_slice(bytes);
        Bytes(Arc::new(Inner { store: Store::Owned(buf), path: None }))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::from(bytes.as_slice())
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({} bytes, {})", self.len(), if self.is_mapped() { "mapped" } else { "read" })
    }
}

fn io_error(path: &Path, what: &str, e: &std::io::Error) -> Error {
    Error::model(
        Problem::new("Io", format!("\"{}\"", escape(&path.to_string_lossy()))).found(format!("{what}: {e}")),
    )
}

/// Opens `path` without blocking and returns the handle and length of a regular file.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        // A FIFO without a writer would block a plain open for ever. No effect on regular files.
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).map_err(|e| io_error(path, "cannot open", &e))?;
    let meta = file.metadata().map_err(|e| io_error(path, "cannot stat", &e))?;
    if !meta.is_file() {
        let kind = if meta.is_dir() { "a directory" } else { "a pipe, socket or device" };
        return Err(Error::model(
            Problem::new("NotARegularFile", format!("\"{}\"", escape(&path.to_string_lossy())))
                .found(kind)
                .expected("a regular file"),
        ));
    }
    Ok((file, meta.len()))
}

#[allow(unsafe_code)]
fn map(file: &File, path: &Path, movable: bool) -> Result<Mapping> {
    // SAFETY: the map is read-only and private to this process. Another process can still change or truncate the
    // file; every reader of these bytes treats them as untrusted data of plain integer types, and a truncation
    // raises SIGBUS, which `sigbus` turns into one line and a documented exit code.
    let map = unsafe { memmap2::Mmap::map(file) }.map_err(|e| io_error(path, "cannot map", &e))?;
    Ok(Mapping {
        #[cfg(unix)]
        _guard: super::sigbus::Guard::new(&map, path),
        map,
        movable,
        moved: Mutex::new(false),
    })
}

/// A part of a map, which is in memory no more. A system that refuses keeps it there, and nothing else changes.
#[cfg(unix)]
#[allow(unsafe_code)]
fn release_pages(map: &memmap2::Mmap, start: usize, len: usize) {
    // SAFETY: `map` made this one read-only and of a file, so pages that are given back hold nothing that the file
    // does not, and the next read takes them from there.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
}

fn read_all(file: &File, path: &Path, len: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<AlignedBuf> {
    let too_big = || {
        Error::new(
            Class::Resources,
            Problem::new("InsufficientMemory", format!("\"{}\"", escape(&path.to_string_lossy())))
                .found(format!("{len} bytes to read"))
                .hint("map it instead: --load-mode mmap"),
        )
    };
    let mut buf = usize::try_from(len).ok().and_then(AlignedBuf::zeroed).ok_or_else(too_big)?;
    super::large_pages::ask_for(buf.as_mut_slice());
    let mut done = 0u64;
    for wave in buf.as_mut_slice().chunks_mut(READ_CHUNK_BYTES * READ_WAVE_CHUNKS) {
        read_wave(file, wave, done).map_err(|e| io_error(path, "cannot read", &e))?;
        done += wave.len() as u64;
        progress(done, len);
    }
    Ok(buf)
}

#[cfg(unix)]
fn read_wave(file: &File, wave: &mut [u8], start: u64) -> std::io::Result<()> {
    use rayon::prelude::*;
    use std::os::unix::fs::FileExt;
    if wave.len() <= READ_CHUNK_BYTES {
        return file.read_exact_at(wave, start);
    }
    wave.par_chunks_mut(READ_CHUNK_BYTES)
        .enumerate()
        .try_for_each(|(i, chunk)| file.read_exact_at(chunk, start + (i * READ_CHUNK_BYTES) as u64))
}

#[cfg(not(unix))]
fn read_wave(mut file: &File, wave: &mut [u8], _start: u64) -> std::io::Result<()> {
    // The handle's own position is right: waves are read in order.
    std::io::Read::read_exact(&mut file, wave)
}

/// A heap buffer aligned to [`ALIGN_BYTES`].
struct AlignedBuf {
    ptr: std::ptr::NonNull<u8>,
    len: usize,
}

#[allow(unsafe_code)]
impl AlignedBuf {
    fn layout(len: usize) -> Option<std::alloc::Layout> {
        std::alloc::Layout::from_size_align(len.max(1), ALIGN_BYTES).ok()
    }

    /// A zeroed buffer, or `None` if there is no memory for it. Pages are taken from the system as they are written.
    fn zeroed(len: usize) -> Option<AlignedBuf> {
        let layout = AlignedBuf::layout(len)?;
        // SAFETY: the layout's size is at least 1.
        let ptr = unsafe { std::alloc::alloc_zeroed(layout) };
        std::ptr::NonNull::new(ptr).map(|ptr| AlignedBuf { ptr, len })
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: `ptr` owns at least `len` initialised (zeroed) bytes until drop.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

#[allow(unsafe_code)]
impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(layout) = AlignedBuf::layout(self.len) {
            // SAFETY: allocated in `zeroed` with this very layout, and freed once.
            unsafe { std::alloc::dealloc(self.ptr.as_ptr(), layout) };
        }
    }
}

// SAFETY: the buffer is plain memory owned by this value, like a `Vec<u8>`.
#[allow(unsafe_code)]
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; shared access only reads.
#[allow(unsafe_code)]
unsafe impl Sync for AlignedBuf {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        // More than one wave of chunks, and no multiple of a page.
        let len = READ_CHUNK_BYTES * (READ_WAVE_CHUNKS + 1) + 77;
        let data: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let mut calls = Vec::new();
        let read = Bytes::open_with(&path, LoadMode::Read, &mut |d, t| calls.push((d, t))).unwrap();
        let mapped = Bytes::open(&path, LoadMode::Mmap).unwrap();
        let auto = Bytes::open(&path, LoadMode::Auto).unwrap();
        mapped.prefault();
        mapped.release(&mapped[4097..len - 4097]);
        mapped.release(&read);
        assert!(!read.is_mapped() && mapped.is_mapped() && auto.is_mapped());
        assert!(read[..] == data[..] && mapped[..] == data[..]);
        assert_eq!(read.as_ptr() as usize % ALIGN_BYTES, 0);
        assert_eq!(calls.last(), Some(&(len as u64, len as u64)));
        assert_eq!(calls.len(), 2);
    }

    #[test]
    fn small_and_empty_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"").unwrap();
        assert!(Bytes::open(&path, LoadMode::Mmap).unwrap().is_empty());
        std::fs::write(&path, b"abc").unwrap();
        let b = Bytes::open(&path, LoadMode::Auto).unwrap();
        assert!(!b.is_mapped() && &b[..] == b"abc");
        assert_eq!(b.path(), Some(path.as_path()));
    }

    #[test]
    fn only_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Bytes::open(dir.path(), LoadMode::Auto).unwrap_err().code(), "NotARegularFile");
        let missing = Bytes::open(&dir.path().join("none"), LoadMode::Auto).unwrap_err();
        assert_eq!((missing.code(), missing.class()), ("Io", Class::Model));
        #[cfg(unix)]
        assert_eq!(
            Bytes::open(Path::new("/dev/zero"), LoadMode::Auto).unwrap_err().code(),
            "NotARegularFile"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_without_writer_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(Bytes::open(&path, LoadMode::Auto).unwrap_err().code(), "NotARegularFile");
    }
}
