//! How an op's file becomes rows of the kernel table: one portable function, and one generic function behind an
//! entry point per instruction set.

/// Defines `KERNELS`, the rows of one op.
///
/// `scalar` is an `unsafe fn(&KernelCtx)`; `simd` is an `#[inline(always)] unsafe fn<S: Simd>(S, &KernelCtx)`, which
/// is compiled once in each entry point with that set's features enabled.
macro_rules! rows {
    (
        $kind:ident = $name:literal, supports: $supports:expr, scratch: $scratch:expr,
        scalar: $scalar:expr, simd: $simd:path
    ) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn run_avx2(ctx: &$crate::backends::KernelCtx<'_>) {
            // SAFETY: these features are enabled; the rest is the promise of `KernelFn`.
            unsafe { $simd($crate::backends::cpu::simd::Avx2::new(), ctx) }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        unsafe fn run_avx512(ctx: &$crate::backends::KernelCtx<'_>) {
            // SAFETY: these features are enabled; the rest is the promise of `KernelFn`.
            unsafe { $simd($crate::backends::cpu::simd::Avx512::new(), ctx) }
        }

        // Elsewhere nothing runs it yet; it still has to compile.
        #[cfg(not(target_arch = "x86_64"))]
        const _: unsafe fn($crate::backends::cpu::simd::Scalar, &$crate::backends::KernelCtx<'_>) = $simd;

        /// The rows of this op.
        pub(in crate::backends::cpu) const KERNELS: &[$crate::backends::Kernel] = &[
            #[cfg(target_arch = "x86_64")]
            $crate::backends::Kernel {
                name: concat!("cpu.", $name, ".avx512"),
                op: $crate::ops::OpKind::$kind,
                isa: $crate::backends::Isa::Avx512,
                supports: $supports,
                scratch: $scratch,
                run: run_avx512,
            },
            #[cfg(target_arch = "x86_64")]
            $crate::backends::Kernel {
                name: concat!("cpu.", $name, ".avx2"),
                op: $crate::ops::OpKind::$kind,
                isa: $crate::backends::Isa::Avx2,
                supports: $supports,
                scratch: $scratch,
                run: run_avx2,
            },
            $crate::backends::Kernel {
                name: concat!("cpu.", $name, ".scalar"),
                op: $crate::ops::OpKind::$kind,
                isa: $crate::backends::Isa::Scalar,
                supports: $supports,
                scratch: $scratch,
                run: $scalar,
            },
        ];
    };
}
pub(super) use rows;

/// Defines the rows of an op that makes blocks of activations, in a module per block type. The functions of [`rows!`]
/// take the block type as their (last) parameter.
macro_rules! block_rows {
    (
        $kind:ident = $name_0:literal, $name_1:literal, $name_k:literal,
        supports: $supports:ident, scratch: $scratch:ident, scalar: $scalar:ident, simd: $simd:ident
    ) => {
        $crate::backends::cpu::entry::block_rows! {
            @each $kind, $supports, $scratch, $scalar, $simd,
            [q8_0 BlockQ8_0 $name_0, q8_1 BlockQ8_1 $name_1, q8_k BlockQ8_K $name_k]
        }
    };
    (
        @each $kind:ident, $supports:ident, $scratch:ident, $scalar:ident, $simd:ident,
        [$($module:ident $block:ident $name:literal),*]
    ) => {$(
        pub(super) mod $module {
            use super::{$supports, $scratch, $scalar, $simd};
            use $crate::quant::$block;
            $crate::backends::cpu::entry::rows! {
                $kind = $name, supports: $supports::<$block>, scratch: $scratch,
                scalar: $scalar::<$block>, simd: $simd::<_, $block>
            }
        }
    )*};
}
pub(super) use block_rows;
