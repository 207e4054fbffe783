//! The rows of the product ops, and what their epilogues share.

use super::{Part, Pass, Sums};
use crate::backends::{Isa, Operand};
use std::ops::Range;

/// Defines `KERNELS`, the rows of one product op: one per weight type and instruction set. `scratch` is a
/// `fn(&Case, Isa) -> usize`, `run` an `unsafe fn(&KernelCtx, Isa)`. A row takes what the table of leaves has. Ops
/// of several products also take `mixed`: weights of types that differ and meet the same activations.
macro_rules! product_rows {
    ($kind:ident = $op:literal, scratch: $scratch:expr, run: $run:expr $(, $mixed:ident)?) => {
        product_rows! {
            @rows $kind, $op, $scratch, $run, [f32, f16, bf16],
            [q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs $(, $mixed)?]
        }
    };
    (@rows $kind:ident, $op:literal, $scratch:expr, $run:expr, [$($float:ident),*], [$($block:ident),*]) => {
        product_rows! { @all $kind, $op, $scratch, $run, [$($block),*], [$($float,)* $($block),*] }
    };
    (@all $kind:ident, $op:literal, $scratch:expr, $run:expr, [$($block:ident),*], [$($ty:ident),*]) => {
        /// The rows of this op.
        pub(super) const KERNELS: &[$crate::backends::Kernel] = &[
            $(
                #[cfg(target_arch = "x86_64")]
                product_rows!(@row $kind, $op, $block, Amx, "amx", $scratch, $run),
            )*
            $(
                #[cfg(target_arch = "x86_64")]
                product_rows!(@row $kind, $op, $ty, Avx512, "avx512", $scratch, $run),
                #[cfg(target_arch = "x86_64")]
                product_rows!(@row $kind, $op, $ty, Avx2, "avx2", $scratch, $run),
                product_rows!(@row $kind, $op, $ty, Scalar, "scalar", $scratch, $run),
            )*
        ];
    };
    (@row $kind:ident, $op:literal, $ty:ident, $isa:ident, $name:literal, $scratch:expr, $run:expr) => {
        $crate::backends::Kernel {
            name: concat!("cpu.", $op, ".", stringify!($ty), ".", $name),
            op: $crate::ops::OpKind::$kind,
            isa: $crate::backends::Isa::$isa,
            supports: |case| $crate::backends::cpu::product::supports(case, product_rows!(@type $ty), $crate::backends::Isa::$isa),
            scratch: |case| $scratch(case, $crate::backends::Isa::$isa),
            // SAFETY: the promise of `KernelFn`, passed on; the row says which instruction set must be there.
            run: |ctx| unsafe { $run(ctx, $crate::backends::Isa::$isa) },
        }
    };
    (@type mixed) => { None };
    (@type f32) => { Some($crate::quant::DType::F32) };
    (@type f16) => { Some($crate::quant::DType::F16) };
    (@type bf16) => { Some($crate::quant::DType::BF16) };
    (@type q8_0) => { Some($crate::quant::DType::Q8_0) };
    (@type q4_0) => { Some($crate::quant::DType::Q4_0) };
    (@type q4_1) => { Some($crate::quant::DType::Q4_1) };
    (@type q5_0) => { Some($crate::quant::DType::Q5_0) };
    (@type q5_1) => { Some($crate::quant::DType::Q5_1) };
    (@type iq4_nl) => { Some($crate::quant::DType::IQ4_NL) };
    (@type q2_k) => { Some($crate::quant::DType::Q2_K) };
    (@type q3_k) => { Some($crate::quant::DType::Q3_K) };
    (@type q4_k) => { Some($crate::quant::DType::Q4_K) };
    (@type q5_k) => { Some($crate::quant::DType::Q5_K) };
    (@type q6_k) => { Some($crate::quant::DType::Q6_K) };
    (@type iq4_xs) => { Some($crate::quant::DType::IQ4_XS) };
}
pub(in crate::backends::cpu) use product_rows;

impl Pass {
    /// The finished sums of weight rows `cols`, written to those columns of `out` in the pass's rows.
    ///
    /// # Safety
    /// As [`Pass::sums`]; `out` is an F32 result with a row per activation row and a column per weight row, and
    /// this thread owns the columns.
    pub unsafe fn sums_into(&self, part: &Part, cols: Range<usize>, out: &Operand) {
        let stride = out.row_bytes / 4;
        // SAFETY: the caller's promise; the first row of the pass is a row of `out`.
        unsafe {
            let ptr = out.ptr.cast::<f32>().add(self.rows.start * stride + cols.start);
            self.sums(part, cols, Sums { ptr, stride });
        }
    }
}

/// `out += add`, for columns of some rows; `add` has one row, or as many as `out`.
///
/// # Safety
/// F32 operands; the instruction set is there; this thread owns the columns of the rows of `out`.
pub(in crate::backends::cpu) unsafe fn add_rows(
    isa: Isa,
    add: &Operand,
    out: &Operand,
    rows: Range<usize>,
    cols: Range<usize>,
) {
    for t in rows {
        // SAFETY: the caller's promise; `add` is another operand, which nobody writes now.
        unsafe {
            let from = &add.row_f32(if add.rows == 1 { 0 } else { t })[cols.clone()];
            let to = out.row_f32_mut(t, cols.clone());
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Amx => add_avx512(to, from),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => add_avx2(to, from),
                _ => add_slice(to, from),
            }
        }
    }
}

/// One addition per element leaves the compiler nothing to get wrong.
#[inline(always)]
fn add_slice(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_avx2(to: &mut [f32], from: &[f32]) {
    add_slice(to, from);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn add_avx512(to: &mut [f32], from: &[f32]) {
    add_slice(to, from);
}
