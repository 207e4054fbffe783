//! Matrix products: one skeleton over a table of leaf functions per weight type and instruction set.
//!
//! A `Core` is what a weight type brings: a `direct` leaf for few activation rows, which reads the file's
//! bytes once and streams them, and `pack` and `tile` leaves for many rows, which turn some weight rows into a
//! panel in scratch and sweep all activation rows over it. An `Acts` is what the activation type brings; all
//! weight types that meet it share it, so one packing serves mixed weights.
//! Both paths make the same sums bit for bit; which one runs depends on the number of rows and the type of a command's
//! first weight alone.

mod block32_plain;
mod entry;
mod float;
#[cfg(target_arch = "x86_64")]
mod in_order;
#[cfg(target_arch = "x86_64")]
mod in_order_acts;
#[cfg(target_arch = "x86_64")]
mod in_order_avx512;
mod k;
mod matmul;
#[cfg(target_arch = "x86_64")]
mod nibbles;
#[cfg(target_arch = "x86_64")]
mod nibbles_avx2;
#[cfg(target_arch = "x86_64")]
mod nibbles_avx512;
#[cfg(target_arch = "x86_64")]
mod panels_avx2;
#[cfg(target_arch = "x86_64")]
mod q8_amx;
#[cfg(target_arch = "x86_64")]
mod q8_avx2;
#[cfg(target_arch = "x86_64")]
mod q8_avx512;
mod rows;
mod run;
mod streams;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile_parts_avx2;
#[cfg(target_arch = "x86_64")]
pub(in crate::backends) mod tiles_amx;

pub use matmul::{Product, matmul};
pub(super) use rows::{add_rows, product_rows};
pub(super) use run::{Part, Pass, for_each, part_share, scratch_bytes, share_unit, supports};

use crate::backends::Isa;
use crate::quant::DType;

/// Rows as a leaf finds them: row r at `ptr + r * row_bytes`, `n` elements each.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// First byte of the first row.
    pub ptr: *const u8,
    /// Bytes from row to row.
    pub row_bytes: usize,
    /// How many.
    pub rows: usize,
    /// Elements of a row.
    pub n: usize,
}

impl Rows {
    /// Rows `from..to` of these.
    ///
    /// # Safety
    /// `from <= to <= self.rows`.
    unsafe fn slice(&self, from: usize, to: usize) -> Rows {
        // SAFETY: the caller's promise keeps the pointer inside the rows or one past them.
        Rows { ptr: unsafe { self.ptr.add(from * self.row_bytes) }, rows: to - from, ..*self }
    }
}

/// Where sums go: that of activation row t and weight row r to `ptr + t * stride + r`.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// Place of the first row's first sum.
    pub ptr: *mut f32,
    /// Elements from activation row to activation row.
    pub stride: usize,
}

/// One tile: some weight rows against some activation rows, both packed, for a range of steps.
struct Tile {
    /// Packed weights at the first step.
    w: *const u8,
    /// Packed activations at the first step.
    x: *const u8,
    /// Steps to make.
    steps: usize,
    /// Place for unfinished sums between ranges of steps, 64-byte aligned.
    acc: *mut f32,
    /// Start at zero instead of `acc`.
    first: bool,
    /// Write finished sums to `out` instead of unfinished ones to `acc`.
    last: bool,
    /// Where finished sums go.
    out: Sums,
    /// Weight rows that exist.
    rows: usize,
    /// What to ask for meanwhile.
    ahead: Ahead,
}

/// Bytes of weights behind the panel. A tile asks for its part of them, so that they come from memory while the core is
/// busy and packing finds them in the cache.
#[derive(Clone, Copy)]
struct Ahead {
    ptr: *const u8,
    bytes: usize,
}

impl Ahead {
    /// Asks for all of them now, where a tile is short and so its part is small.
    #[inline(always)]
    fn all(self) {
        for at in (0..self.bytes).step_by(64) {
            prefetch(self.ptr.wrapping_add(at));
        }
    }

    /// Shares them out among the steps of a tile; asked for at once, many would have to wait for each other.
    #[inline(always)]
    fn paced(self, steps: usize) -> Ahead {
        Ahead { ptr: self.ptr, bytes: self.bytes.div_ceil(steps.max(1)) }
    }

    /// Asks for the part of one step.
    #[inline(always)]
    fn step(&mut self) {
        self.all();
        self.ptr = self.ptr.wrapping_add(self.bytes);
    }
}

/// Sums of all weight rows against few activation rows: weights, activations, what `pack_direct` made, results.
type DirectFn = unsafe fn(&Rows, &Rows, *mut u8, Sums);
/// Packs rows: source and destination.
type PackFn = unsafe fn(&Rows, *mut u8);
/// Makes one tile.
type TileFn = unsafe fn(&Tile);

/// An activation type on one instruction set.
struct Acts {
    /// Bytes that the direct path packs per row of n elements.
    direct_bytes: fn(n: usize) -> usize,
    /// Packs for the direct path.
    pack_direct: PackFn,
    /// Most rows of a tile.
    tile_rows: usize,
    /// Most bytes of packed rows that a panel sweeps over. L3 will do for them: a tile uses each often, and weights are
    /// packed anew for every pass.
    pass_bytes: usize,
    /// Elements of a step.
    step: usize,
    /// Bytes of a step of `tile_rows` packed rows.
    step_bytes: usize,
    /// Packs up to `tile_rows` rows for tiles.
    pack: PackFn,
}

/// A unit of the core that tiles need set up. Setting it up and leaving it costs as much as several of its products, so
/// that happens once for all tiles of a panel.
struct Unit {
    /// Sets the unit up. The machine must have it, and this process may use it.
    enter: unsafe fn(),
    /// Leaves it, so that nobody has to keep its state.
    leave: unsafe fn(),
}

/// A weight type on one instruction set.
pub(super) struct Core {
    /// The activations that meet it.
    acts: &'static Acts,
    /// Most activation rows for the direct path.
    direct_max: usize,
    /// The direct path.
    direct: DirectFn,
    /// Weight rows of a tile.
    tile_rows: usize,
    /// Bytes of a step of `tile_rows` packed weight rows.
    step_bytes: usize,
    /// Packs up to `tile_rows` weight rows.
    pack: PackFn,
    /// Most steps of one pass over a tile; more are cut, with unfinished sums kept in scratch.
    max_steps: usize,
    /// Bytes of a tile's unfinished sums; 0 if `max_steps` never cuts.
    acc_bytes: usize,
    /// What the tiles need set up.
    unit: Option<&'static Unit>,
    /// Tiles for 1, 2, ... activation rows.
    tiles: &'static [TileFn],
}

/// The leaves for a weight type, if it has any on this instruction set.
pub(super) fn core(isa: Isa, weight: DType) -> Option<&'static Core> {
    let all: [entry::Cores; 2] = match isa {
        Isa::Scalar => [entry::SCALAR, k::SCALAR],
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => [entry::AVX2, k::AVX2],
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => [entry::AVX512, k::AVX512],
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => [entry::AMX, k::AMX],
        #[cfg(not(target_arch = "x86_64"))]
        _ => return None,
    };
    all.into_iter().flatten().find(|(t, _)| *t == weight).map(|(_, c)| *c)
}

/// Asks for the line at `p`, which need not be readable, into the second level of the cache.
#[inline(always)]
pub(super) fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch faults on no address, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for the line at `p`, which need not be readable, into the first level of the cache alone: it is used once, so no
/// other level has to take it in when it goes.
#[inline(always)]
pub(super) fn prefetch_once(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_NTA, _mm_prefetch};
        // SAFETY: a prefetch faults on no address, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_NTA>(p.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for the line at `p`, which need not be writable, in order to write it.
#[inline(always)]
fn prefetch_to_write(p: *const f32) {
    // The intrinsic makes it one for reading where the target is not known to have this instruction. Processors that lack
    // it do nothing.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch faults on no address and changes nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) p, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
