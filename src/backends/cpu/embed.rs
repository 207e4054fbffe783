//! embed: every thread takes some rows.

use super::entry::rows;
use super::simd::{LANES, Scalar, Simd};
use crate::backends::{Case, KernelCtx, no_scratch};
use crate::ops::embed::reference;
use crate::quant::DType;

fn supports(case: &Case<'_>) -> Result<(), &'static str> {
    match case.args[0].dtype.weight_codec() {
        Some(_) => Ok(()),
        None => Err("the type has no codec"),
    }
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: as this function's.
    unsafe { simd(Scalar, ctx) }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let (table, out) = (&ctx.args[0], &ctx.outs[0]);
    for t in ctx.share(ctx.step.tokens.len(), 1) {
        // SAFETY: a token is below the rows of the table, which is a weight; this thread owns row t of the result.
        let (row, to) = unsafe {
            (table.row_bytes(ctx.step.tokens[t] as usize), out.row_f32_mut(t, 0..out.cols as usize))
        };
        match table.dtype {
            DType::F16 => widen(s, row, to),
            other => reference(other, row, to),
        }
    }
}

/// f16 bytes to f32, exactly.
#[inline(always)]
fn widen<S: Simd>(s: S, bytes: &[u8], out: &mut [f32]) {
    for (b, o) in bytes.chunks(2 * LANES).zip(out.chunks_mut(LANES)) {
        let mut h = [0u16; LANES];
        for (h, b) in h.iter_mut().zip(b.as_chunks::<2>().0) {
            *h = u16::from_le_bytes(*b);
        }
        s.store_upto(s.load_f16(&h), o);
    }
}

rows! {
    Embed = "embed.any", supports: supports, scratch: no_scratch, scalar: scalar, simd: simd
}
