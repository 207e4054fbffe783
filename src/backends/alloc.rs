//! Zeroed, aligned memory that may be refused: arena, scratch, logits and caches.
//!
//! Large blocks come from an anonymous map, so that pages of a cache that no token has reached cost nothing; small
//! ones from the allocator. Running out is an error with numbers, never an abort.

use super::KvLayout;
use crate::error::{Error, Problem, Result};
use crate::plan::Plan;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Alignment of every block: a cache line, and a 512-bit vector.
pub const ALIGN: usize = 64;

/// Readable bytes behind the end of every block, so that a kernel may load a whole vector at the last element.
pub const PAD: usize = 64;

/// Blocks of at least this many bytes are mapped.
const MAP_FROM: usize = 1 << 20;

/// Blocks of at least this many bytes ask for huge pages if they are used as a whole.
const HUGE_FROM: usize = 4 << 20;

/// How a block will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// All of it, over and over: worth huge pages.
    Whole,
    /// From the front, as far as a sequence gets: pages come as they are touched.
    Gradual,
}

enum Owner {
    Allocator(Layout),
    Map { _map: memmap2::MmapMut },
}

/// A block of zeroed bytes, aligned to [`ALIGN`], with [`PAD`] bytes behind it.
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
    owner: Owner,
}

// SAFETY: a block owns its bytes; who may touch them when is decided by those who hold it (see `view`).
unsafe impl Send for Block {}
// SAFETY: a shared block gives no more than its address; the bytes are reached through unsafe code only.
unsafe impl Sync for Block {}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes)", self.len)
    }
}

impl Block {
    /// `len` zeroed bytes for `what`.
    ///
    /// Errors: `InsufficientMemory` (resources) if the system has none left, with `flag` as what to change.
    pub fn zeroed(len: u64, what: &str, flag: &str, how: Use) -> Result<Block> {
        let none = || Error::resources(insufficient(what, len, memory_available(), flag));
        let len = usize::try_from(len).map_err(|_| none())?;
        let full = len.checked_add(PAD).filter(|n| *n <= isize::MAX as usize - ALIGN).ok_or_else(none)?;
        if full >= MAP_FROM {
            let mut map = memmap2::MmapMut::map_anon(full).map_err(|_| none())?;
            #[cfg(target_os = "linux")]
            if how == Use::Whole && full >= HUGE_FROM {
                // Fewer TLB misses; a kernel without huge pages says no, and nothing is lost.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            let ptr = NonNull::new(map.as_mut_ptr()).ok_or_else(none)?;
            return Ok(Block { ptr, len, owner: Owner::Map { _map: map } });
        }
        let layout = Layout::from_size_align(full, ALIGN).map_err(|_| none())?;
        // SAFETY: the layout has PAD bytes at least.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(none)?;
        Ok(Block { ptr, len, owner: Owner::Allocator(layout) })
    }
    /// First byte.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }
    /// Bytes, without the padding.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The bytes.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the block holds `len` initialised bytes; the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block holds `len` initialised bytes and is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Owner::Allocator(layout) = self.owner {
            // SAFETY: allocated with this layout in `zeroed`.
            unsafe { dealloc(self.ptr.as_ptr(), layout) }
        }
    }
}

/// The memory of a step that all plans of an engine share: arena, scratch of every thread, logits.
#[derive(Debug)]
pub struct StepMemory {
    pub(super) arena: Block,
    pub(super) scratch: Block,
    pub(super) scratch_stride: usize,
    pub(super) logits: Block,
}

/// Rounds up to whole cache lines, two of them between threads.
fn stride(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(128)
}

impl StepMemory {
    /// Bytes of the arena, of the scratch of all threads, and of the logits; `None` if one overflows.
    pub fn parts(plans: &[&Plan], n_outputs: u32, n_threads: u32) -> Option<(u64, u64, u64)> {
        let most = |f: fn(&Plan) -> u64| plans.iter().map(|p| f(p)).max().unwrap_or(0);
        let scratch = stride(most(|p| p.totals.scratch_bytes))?.checked_mul(u64::from(n_threads))?;
        let row = most(|p| u64::from(p.n_vocab)).checked_mul(4)?;
        let logits = row.checked_mul(u64::from(n_outputs))?.max(most(|p| p.totals.logits_bytes));
        Some((most(|p| p.totals.arena_bytes), scratch, logits))
    }

    /// Memory large enough for each of the plans, `n_outputs` rows of logits and `n_threads` threads.
    ///
    /// Errors: `InsufficientMemory` (resources).
    pub fn new(plans: &[&Plan], n_outputs: u32, n_threads: u32) -> Result<StepMemory> {
        let overflow = || Error::resources(insufficient("the arena", u64::MAX, memory_available(), "-ub"));
        let (arena, scratch, logits) = Self::parts(plans, n_outputs, n_threads).ok_or_else(overflow)?;
        let scratch_stride =
            usize::try_from(scratch / u64::from(n_threads.max(1))).map_err(|_| overflow())?;
        Ok(StepMemory {
            arena: Block::zeroed(arena, "the arena", "-ub", Use::Whole)?,
            scratch: Block::zeroed(scratch, "scratch memory", "-t", Use::Whole)?,
            scratch_stride,
            logits: Block::zeroed(logits, "the logits", "-ub", Use::Whole)?,
        })
    }
}

/// The keys and values of one sequence. Starts zeroed; which cells count is the business of its session.
#[derive(Debug)]
pub struct KvCache {
    pub(super) block: Block,
    layout: KvLayout,
}

impl KvCache {
    /// A cache of this layout.
    ///
    /// Errors: `InsufficientMemory` (resources).
    pub fn new(layout: KvLayout) -> Result<KvCache> {
        let bytes = layout.total_bytes().unwrap_or(u64::MAX);
        Ok(KvCache { block: Block::zeroed(bytes, "the KV cache of a session", "-c", Use::Gradual)?, layout })
    }
    /// All of it, as [`KvLayout`] says.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a step writes through a mutable borrow of the cache, so none runs while this slice lives.
        unsafe { self.block.bytes() }
    }
    /// All of it, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.block.bytes_mut()
    }
    /// Where layers, heads and cells lie.
    pub fn layout(&self) -> &KvLayout {
        &self.layout
    }
}

/// The problem of too little memory: what it was for, how much it needs, how much there is, what to change.
pub fn insufficient(what: &str, need: u64, have: Option<u64>, flag: &str) -> Problem {
    let mut p =
        Problem::new("InsufficientMemory", what).expected(format!("{} bytes ({})", need, human(need)));
    if let Some(have) = have {
        p = p.found(format!("{} bytes ({}) available", have, human(have)));
    }
    if flag.is_empty() { p } else { p.hint(format!("lower {flag}")) }
}

/// Bytes for people, in binary units.
fn human(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Bytes this process may still take: what the system calls available, and what its control groups leave, both
/// counting file pages as free. `None` where the system does not say.
pub fn memory_available() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let system = std::fs::read_to_string("/proc/meminfo").ok().and_then(|s| field(&s, "MemAvailable:"));
        let system = system.map(|kib| kib.saturating_mul(1024));
        system.into_iter().chain(cgroup_left()).min()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The first number after a word at the start of a line.
#[cfg(target_os = "linux")]
fn field(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The least of what the memory groups of this process leave, versions 1 and 2, from its own up to the root.
#[cfg(target_os = "linux")]
fn cgroup_left() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least = None::<u64>;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, limit, used) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current")
        } else if controllers.split(',').any(|c| c == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        let root = std::path::Path::new(root);
        // Inside a container the path may be the host's; the group is then mounted at the root itself.
        for dir in root.join(path.trim_start_matches('/')).ancestors().take_while(|d| d.starts_with(root)) {
            let read = |f: &str| std::fs::read_to_string(dir.join(f)).ok();
            let number = |f: &str| read(f).and_then(|s| s.trim().parse::<u64>().ok());
            let (Some(limit), Some(used)) = (number(limit), number(used)) else { continue };
            let stat = read("memory.stat").unwrap_or_default();
            // Pages of files can be had back, those in use too: a mapped model counts as used otherwise.
            let file = |kind: &str| {
                let total = field(&stat, &format!("total_{kind}_file "));
                total.or_else(|| field(&stat, &format!("{kind}_file "))).unwrap_or(0)
            };
            let left = limit.saturating_sub(used.saturating_sub(file("active") + file("inactive")));
            least = Some(least.map_or(left, |l| l.min(left)));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_writable() {
        for (len, how) in [(0, Use::Whole), (1, Use::Gradual), (100_000, Use::Whole), (9 << 20, Use::Whole)] {
            let mut b = Block::zeroed(len, "a test", "", how).unwrap();
            assert_eq!((b.len() as u64, b.ptr() as usize % ALIGN, b.is_empty()), (len, 0, len == 0));
            assert!(b.bytes_mut().iter().all(|x| *x == 0));
            b.bytes_mut().fill(7);
            // SAFETY: nobody else holds the block.
            assert!(unsafe { b.bytes() }.iter().all(|x| *x == 7));
        }
    }

    #[test]
    fn too_much_is_an_error_with_numbers() {
        for len in [u64::MAX, 1 << 62, isize::MAX as u64] {
            let e = Block::zeroed(len, "the cache", "-c", Use::Gradual).unwrap_err();
            assert_eq!((e.code(), e.class()), ("InsufficientMemory", crate::Class::Resources));
            assert!(e.to_string().contains(&len.to_string()) && e.to_string().contains("-c"), "{e}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_says_what_is_left() {
        assert!(memory_available().is_some_and(|n| n > 1 << 20 && n < 1 << 50));
        assert_eq!(field("a 1\nb: 22 kB\n", "b:"), Some(22));
        assert_eq!(field("bb 3\n", "b "), None);
    }
}
