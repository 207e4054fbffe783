//! Cells of a cache, one head's key or value each: stored from f32, and widened back to vectors of f32.
//!
//! One type per element type, so that which it is is asked once for many cells. What is stored has the bits of
//! `kv_append::reference`, what is widened those of the type's decoder.

use super::act_blocks::{ActBlock, block};
use super::simd::{LANES, Simd};
use crate::ops::attention::Cells;
use crate::quant::{BlockQ4_0, BlockQ8_0, DType};
use half::f16;

/// Stores one cell.
///
/// # Safety
/// `to` is valid and aligned for `x.len()` elements of the type, one of `kv_append::TYPES`, whose blocks `x` fills, and
/// nobody else writes there.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(s: S, dtype: DType, x: &[f32], to: *mut u8) {
    // SAFETY: the caller's promise: so many elements or blocks, aligned, and nobody else's.
    unsafe {
        match dtype {
            DType::F32 => std::slice::from_raw_parts_mut(to.cast::<f32>(), x.len()).copy_from_slice(x),
            DType::Q8_0 => {
                let out = std::slice::from_raw_parts_mut(to.cast::<BlockQ8_0>(), x.len() / 32);
                for (x, out) in x.as_chunks::<32>().0.iter().zip(out) {
                    let x = x.as_chunks::<LANES>().0;
                    *out = block!(s, BlockQ8_0, i => s.load(&x[i]));
                }
            }
            DType::Q4_0 => {
                let out = std::slice::from_raw_parts_mut(to.cast::<BlockQ4_0>(), x.len() / 32);
                for (x, out) in x.as_chunks::<32>().0.iter().zip(out) {
                    *out = block_q4_0(s, x);
                }
            }
            dtype => {
                debug_assert_eq!(dtype, DType::F16);
                store_f16(s, x, std::slice::from_raw_parts_mut(to.cast::<u16>(), x.len()));
            }
        }
    }
}

#[inline(always)]
fn store_f16<S: Simd>(s: S, x: &[f32], out: &mut [u16]) {
    let (out16, out_tail) = out.as_chunks_mut::<LANES>();
    let (x16, x_tail) = x.as_chunks::<LANES>();
    for (o, x) in out16.iter_mut().zip(x16) {
        s.store_f16(s.load(x), o);
    }
    if !x_tail.is_empty() {
        let mut last = [0u16; LANES];
        s.store_f16(s.load_tail(x_tail), &mut last);
        for (o, x) in out_tail.iter_mut().zip(last) {
            *o = x;
        }
    }
}

/// The bits of `quantize_row_q4_0`.
#[inline(always)]
fn block_q4_0<S: Simd>(s: S, x: &[f32; 32]) -> BlockQ4_0 {
    let halves = x.as_chunks::<LANES>().0;
    let v = [s.load(&halves[0]), s.load(&halves[1])];
    let top = s.max_lane(s.max(v[0], v[1]));
    let bottom = s.max_lane(s.max(s.neg(v[0]), s.neg(v[1])));
    let max = if top > bottom {
        top
    } else if top < bottom {
        -bottom
    } else if top == 0.0 {
        // Of which sign, the rule says: a maximum starts at +0.
        0.0
    } else {
        // Both signs reach the largest magnitude: the first element that does decides.
        x.iter().copied().find(|x| x.abs() == top).unwrap_or(0.0)
    };
    let (id, d) = BlockQ4_0::scales(max);
    let mut shifted = [0f32; 32];
    for (o, v) in shifted.as_chunks_mut::<LANES>().0.iter_mut().zip(v) {
        s.store(s.add(s.mul(v, s.splat(id)), s.splat(8.5)), o);
    }
    BlockQ4_0::pack(f16::from_bits(s.f16_bits(d)), &shifted)
}

/// How cells of one element type become vectors.
pub(super) trait Cell {
    /// Bytes of a cell of `dim` elements, a whole number of blocks.
    fn bytes(dim: usize) -> usize;
    /// Elements `16 c..` of a cell: sixteen, or what is left of it and then +0.
    fn vector<S: Simd>(s: S, cell: &[u8], c: usize) -> S::V;
    /// Elements `32 c..32 c + 32` of the cell at `p`.
    ///
    /// # Safety
    /// `p` points to a readable cell, aligned as the cache is, that has these elements.
    unsafe fn pair<S: Simd>(s: S, p: *const u8, c: usize) -> [S::V; 2];

    /// All elements of a cell, and +0 to the end of `out`.
    #[inline(always)]
    fn whole<S: Simd>(s: S, cell: &[u8], out: &mut [[f32; LANES]]) {
        let pairs = cell.len() / Self::bytes(2 * LANES);
        let (whole, rest) = out.split_at_mut((2 * pairs).min(out.len()));
        for (c, o) in whole.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            // SAFETY: the cell has these elements, and is aligned as the cache is.
            let [a, b] = unsafe { Self::pair(s, cell.as_ptr(), c) };
            s.store(a, &mut o[0]);
            s.store(b, &mut o[1]);
        }
        for (c, o) in rest.iter_mut().enumerate() {
            s.store(Self::vector(s, cell, 2 * pairs + c), o);
        }
    }
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Q8_0;
pub(super) struct Q4_0;

/// The part of a cell that holds elements `16 c..`, of `N` bytes in all where there are sixteen.
#[inline(always)]
fn piece<const N: usize>(cell: &[u8], c: usize) -> &[u8] {
    &cell[c * N..cell.len().min((c + 1) * N)]
}

impl Cell for F32 {
    #[inline(always)]
    fn bytes(dim: usize) -> usize {
        4 * dim
    }
    #[inline(always)]
    fn vector<S: Simd>(s: S, cell: &[u8], c: usize) -> S::V {
        let part = piece::<64>(cell, c);
        // SAFETY: whole elements of four bytes, aligned as the cache is, and any bits are an f32.
        s.load_upto(unsafe { std::slice::from_raw_parts(part.as_ptr().cast(), part.len() / 4) })
    }
    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8, c: usize) -> [S::V; 2] {
        // SAFETY: the caller's promise; any bits are an f32.
        let x: &[[f32; LANES]; 2] = unsafe { &*p.add(c * 128).cast() };
        [s.load(&x[0]), s.load(&x[1])]
    }
}

impl Cell for F16 {
    #[inline(always)]
    fn bytes(dim: usize) -> usize {
        2 * dim
    }
    #[inline(always)]
    fn vector<S: Simd>(s: S, cell: &[u8], c: usize) -> S::V {
        let part = piece::<32>(cell, c);
        // SAFETY: whole elements of two bytes, aligned as the cache is, and any bits are a u16.
        let halves: &[u16] = unsafe { std::slice::from_raw_parts(part.as_ptr().cast(), part.len() / 2) };
        match halves.first_chunk::<LANES>() {
            Some(h) => s.load_f16(h),
            None => {
                let mut h = [0u16; LANES];
                h[..halves.len()].copy_from_slice(halves);
                s.load_f16(&h)
            }
        }
    }
    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8, c: usize) -> [S::V; 2] {
        // SAFETY: the caller's promise; any bits are a u16.
        let x: &[[u16; LANES]; 2] = unsafe { &*p.add(c * 64).cast() };
        [s.load_f16(&x[0]), s.load_f16(&x[1])]
    }
}

/// A type of blocks of 32: an f16 scale, then the quants.
pub(super) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// The quants of elements 0 to 15, and of 16 to 31.
    fn quants<S: Simd>(s: S, codes: &[u8]) -> [S::V; 2];

    /// The elements of a block.
    #[inline(always)]
    fn halves<S: Simd>(s: S, block: &[u8]) -> [S::V; 2] {
        let d = s.splat_f16(u16::from_ne_bytes([block[0], block[1]]));
        let [low, high] = Self::quants(s, &block[2..Self::BYTES]);
        [s.mul(low, d), s.mul(high, d)]
    }
}

impl Block for Q8_0 {
    const BYTES: usize = 34;
    #[inline(always)]
    fn quants<S: Simd>(s: S, codes: &[u8]) -> [S::V; 2] {
        let codes = codes.as_chunks().0;
        [s.load_i8(&codes[0]), s.load_i8(&codes[1])]
    }
}

impl Block for Q4_0 {
    const BYTES: usize = 18;
    #[inline(always)]
    fn quants<S: Simd>(s: S, codes: &[u8]) -> [S::V; 2] {
        let (low, high) = s.load_nibbles(&codes.as_chunks().0[0]);
        [low, high]
    }
}

impl<B: Block> Cell for B {
    #[inline(always)]
    fn bytes(dim: usize) -> usize {
        B::BYTES * (dim / 32)
    }
    #[inline(always)]
    fn vector<S: Simd>(s: S, cell: &[u8], c: usize) -> S::V {
        let [low, high] = B::halves(s, &cell[c / 2 * B::BYTES..]);
        if c.is_multiple_of(2) { low } else { high }
    }
    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8, c: usize) -> [S::V; 2] {
        // SAFETY: the caller's promise: 32 elements are a block.
        B::halves(s, unsafe { std::slice::from_raw_parts(p.add(c * B::BYTES), B::BYTES) })
    }
}

/// Calls `$f::<S, C>` for the type of the cells.
macro_rules! by_type {
    ($cells:expr, $f:ident($($arg:expr),*)) => {{
        use $crate::backends::cpu::cells;
        use $crate::quant::DType;
        match $cells.dtype {
            DType::F32 => $f::<S, cells::F32>($($arg),*),
            DType::Q8_0 => $f::<S, cells::Q8_0>($($arg),*),
            DType::Q4_0 => $f::<S, cells::Q4_0>($($arg),*),
            _ => $f::<S, cells::F16>($($arg),*),
        }
    }};
}
pub(super) use by_type;

/// Cells first.. as f32, padded to `width`, a multiple of 16: as many as `out` has rows, +0 for those past the end.
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, cells: &Cells<'_>, first: usize, width: usize, out: &mut [f32]) {
    by_type!(cells, widen_as(s, cells, first, width, out));
}

#[inline(always)]
fn widen_as<S: Simd, C: Cell>(s: S, cells: &Cells<'_>, first: usize, width: usize, out: &mut [f32]) {
    let bytes = C::bytes(cells.dim);
    let n = cells.bytes.len() / bytes;
    for (i, row) in out.chunks_exact_mut(width).enumerate() {
        if first + i < n {
            let cell = &cells.bytes[(first + i) * bytes..(first + i + 1) * bytes];
            C::whole(s, cell, row.as_chunks_mut().0);
        } else {
            row.fill(0.0);
        }
    }
}

/// Sixteen cells first.. transposed: `out[d]` holds element d of each; +0 for cells and elements past the end.
#[inline(always)]
pub(super) fn widen_transposed<S: Simd>(s: S, cells: &Cells<'_>, first: usize, out: &mut [f32]) {
    by_type!(cells, transposed_as(s, cells, first, out));
}

#[inline(always)]
fn transposed_as<S: Simd, C: Cell>(s: S, cells: &Cells<'_>, first: usize, out: &mut [f32]) {
    let bytes = C::bytes(cells.dim);
    let n = (cells.bytes.len() / bytes - first).min(LANES);
    let rows = &cells.bytes[first * bytes..(first + n) * bytes];
    let columns = out.as_chunks_mut::<LANES>().0;
    for (c, columns) in columns.chunks_exact_mut(LANES).enumerate() {
        let mut block = [s.zero(); LANES];
        for (row, cell) in block.iter_mut().zip(rows.chunks_exact(bytes)) {
            *row = C::vector(s, cell, c);
        }
        let block = s.transpose(&block);
        for (o, v) in columns.iter_mut().zip(&block) {
            s.store(*v, o);
        }
    }
}
