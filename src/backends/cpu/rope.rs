//! rope: every thread takes some heads of some rows.

use super::entry::rows;
use super::simd::{LANES, Simd};
use crate::backends::{KernelCtx, Operand, no_scratch, supports_all};
use crate::ops::Op;
use crate::ops::rope::{Attrs, Pairing, reference, rotate};

/// Rotates whole heads of one row in place by the row's line of the table: sixteen pairs at a time, and what is left
/// as the oracle does it, which is the same operations.
#[inline(always)]
pub(super) fn rope_heads<S: Simd>(s: S, heads: &mut [f32], table_row: &[f32], a: &Attrs) {
    let half = a.n_rot as usize / 2;
    let (table16, table_rest) = table_row.as_chunks::<2>().0.as_chunks::<LANES>();
    for head in heads.chunks_exact_mut(a.head_dim as usize) {
        let rotated = &mut head[..2 * half];
        match a.pairing {
            Pairing::Adjacent => {
                let (pairs16, rest) = rotated.as_chunks_mut::<2>().0.as_chunks_mut::<LANES>();
                for (pairs, t) in pairs16.iter_mut().zip(table16) {
                    let [first, second] = halves_mut(pairs);
                    let (x, y) = s.unzip(s.load(first), s.load(second));
                    let (x, y) = turn(s, x, y, t);
                    let (a, b) = s.zip(x, y);
                    s.store(a, first);
                    s.store(b, second);
                }
                for (pair, t) in rest.iter_mut().zip(table_rest) {
                    *pair = rotate(*pair, *t);
                }
            }
            Pairing::HalfSplit => {
                let (low, high) = rotated.split_at_mut(half);
                let (low16, low) = low.as_chunks_mut::<LANES>();
                let (high16, high) = high.as_chunks_mut::<LANES>();
                for ((x, y), t) in low16.iter_mut().zip(high16).zip(table16) {
                    let (a, b) = turn(s, s.load(x), s.load(y), t);
                    s.store(a, x);
                    s.store(b, y);
                }
                for ((x, y), t) in low.iter_mut().zip(high).zip(table_rest) {
                    [*x, *y] = rotate([*x, *y], *t);
                }
            }
        }
    }
}

/// [`rotate`] of sixteen pairs.
#[inline(always)]
fn turn<S: Simd>(s: S, x: S::V, y: S::V, t: &[[f32; 2]; LANES]) -> (S::V, S::V) {
    let flat = t.as_flattened().as_chunks::<LANES>().0;
    let (cos, sin) = s.unzip(s.load(&flat[0]), s.load(&flat[1]));
    (s.fma(x, cos, s.neg(s.mul(y, sin))), s.fma(x, sin, s.mul(y, cos)))
}

/// Sixteen pairs as two runs of sixteen elements.
#[inline(always)]
fn halves_mut(pairs: &mut [[f32; 2]; LANES]) -> [&mut [f32; LANES]; 2] {
    match pairs.as_flattened_mut().as_chunks_mut::<LANES>().0 {
        [first, second] => [first, second],
        _ => unreachable!("32 elements are two runs of sixteen"),
    }
}

/// Copies one head of `x` to `out` and rotates it there.
///
/// # Safety
/// As `KernelFn`: `x` and `table` are F32 operands, `out` an F32 result like `x`, and no other thread writes this
/// head of this row.
#[inline(always)]
unsafe fn rope_head<S: Simd>(
    s: S,
    a: &Attrs,
    x: &Operand,
    table: &Operand,
    out: &Operand,
    t: usize,
    head: usize,
) {
    let d = a.head_dim as usize;
    // SAFETY: the caller's promise.
    unsafe {
        let to = out.row_f32_mut(t, head * d..(head + 1) * d);
        to.copy_from_slice(&x.row_f32(t)[head * d..(head + 1) * d]);
        rope_heads(s, to, table.row_f32(t), a);
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    let Op::Rope(a) = ctx.op else { return };
    let [x, table] = ctx.args else { return };
    let d = a.head_dim as usize;
    let n = x.cols as usize / d;
    for item in ctx.share(x.rows as usize * n, 1) {
        let (t, cols) = (item / n, item % n * d..(item % n + 1) * d);
        // SAFETY: operands are F32 rows; the shares of threads are different heads.
        unsafe {
            let to = ctx.outs[0].row_f32_mut(t, cols.clone());
            to.copy_from_slice(&x.row_f32(t)[cols]);
            reference(a, to, table.row_f32(t));
        }
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::Rope(a) = ctx.op else { return };
    let [x, table] = ctx.args else { return };
    let n = x.cols as usize / a.head_dim as usize;
    for item in ctx.share(x.rows as usize * n, 1) {
        // SAFETY: operands are F32 rows; the shares of threads are different heads.
        unsafe { rope_head(s, a, x, table, &ctx.outs[0], item / n, item % n) }
    }
}

rows! {
    Rope = "rope.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
