//! add: every thread takes a run of elements.

use super::entry::rows;
use super::simd::Simd;
use super::swiglu::share;
use crate::backends::{KernelCtx, no_scratch, supports_all};
use crate::ops::add::reference;

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    // SAFETY: operands are F32 activations, and this thread owns its share of the result.
    let (a, b, o) = unsafe { share(ctx) };
    reference(a, b, o);
}

/// The same loop; one addition per element leaves the compiler nothing to get wrong.
///
/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(_: S, ctx: &KernelCtx<'_>) {
    // SAFETY: operands are F32 activations, and this thread owns its share of the result.
    let (a, b, o) = unsafe { share(ctx) };
    reference(a, b, o);
}

rows! {
    Add = "add.f32", supports: supports_all, scratch: no_scratch, scalar: scalar, simd: simd
}
