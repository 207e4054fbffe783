//! The table of leaves: the float leaves with their instruction set turned on, and one row per weight type.

use super::float::{self, Bf16, F16, F32, Weight};
use super::{Acts, Core, Rows, Sums, Tile, q8_plain};
#[cfg(target_arch = "x86_64")]
use super::{q8_avx2, q8_avx512};
use crate::backends::cpu::simd::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::backends::cpu::simd::{Avx2, Avx512};
use crate::quant::DType;

/// The weight types of one instruction set.
pub(super) type Cores = &'static [(DType, &'static Core)];

/// Calls `f` with some weight rows and at most `most` activation rows, until all pairs have been seen. The weight
/// rows are few enough to stay in the first levels of the cache for all activation rows, which are cut evenly.
#[inline(always)]
pub(super) fn cut_direct(w: &Rows, x: &Rows, out: Sums, most: usize, f: impl Fn(&Rows, &Rows, Sums)) {
    let cuts = x.rows.div_ceil(most);
    let some = if cuts > 1 { 16 } else { w.rows };
    let mut r = 0;
    while r < w.rows {
        let to = (r + some).min(w.rows);
        for i in 0..cuts {
            let (t0, t1) = (x.rows * i / cuts, x.rows * (i + 1) / cuts);
            // SAFETY: both ranges lie inside the rows; the place of the first sum lies among the sums.
            let (w, x, ptr) = unsafe { (w.slice(r, to), x.slice(t0, t1), out.ptr.add(t0 * out.stride + r)) };
            f(&w, &x, Sums { ptr, ..out });
        }
        r = to;
    }
}

/// The float leaves of one instruction set: its token, weight rows of a tile x activation rows of a tile, and for
/// 1, 2, ... activation rows the weight rows that the direct path has in flight.
macro_rules! float_leaves {
    ($module:ident, $token:expr, $mr:literal x $nr:literal, [$($nt:literal: $r:literal),*], #[$feature:meta]) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As [`float::direct`], for any number of activation rows.
            #[$feature]
            unsafe fn direct<W: Weight>(w: &Rows, x: &Rows, _: *const u8, out: Sums) {
                cut_direct(w, x, out, $nr, |w, x, out| {
                    // SAFETY: the caller's promise; the features are on.
                    unsafe {
                        match x.rows {
                            $($nt => float::direct::<_, W, $r, $nt>($token, w, x, out),)*
                            _ => {}
                        }
                    }
                });
            }
            /// # Safety
            /// As [`float::pack`].
            #[$feature]
            unsafe fn pack<W: Weight>(w: &Rows, out: *mut u8) {
                // SAFETY: the caller's promise; the features are on.
                unsafe { float::pack::<_, W, $mr>($token, w, out) }
            }
            /// # Safety
            /// As [`float::pack`].
            #[$feature]
            unsafe fn pack_acts(x: &Rows, out: *mut u8) {
                // SAFETY: the caller's promise; the features are on.
                unsafe { float::pack::<_, F32, $nr>($token, x, out) }
            }
            /// # Safety
            /// As [`float::tile`].
            #[$feature]
            unsafe fn tile<const NT: usize>(t: &Tile) {
                // SAFETY: the caller's promise; the features are on.
                unsafe { float::tile::<_, $mr, $nr, NT>($token, t) }
            }

            static ACTS: Acts = Acts {
                direct_max: if $nr == 1 { usize::MAX } else { 2 * $nr },
                direct_bytes: |_| 0,
                pack_direct: |_, _| {},
                tile_rows: $nr,
                pass_bytes: 1 << 20,
                step: 16,
                step_bytes: $nr * 64,
                pack: pack_acts,
            };
            const fn core(direct: super::super::DirectFn, pack: super::super::PackFn) -> Core {
                Core {
                    acts: &ACTS,
                    direct,
                    tile_rows: $mr,
                    step_bytes: $mr * 64,
                    pack,
                    max_steps: 64,
                    acc_bytes: $mr * $nr * 64,
                    tiles: &[$(tile::<$nt>),*],
                }
            }
            pub(super) static CORE_F32: Core = core(direct::<F32>, pack::<F32>);
            pub(super) static CORE_F16: Core = core(direct::<F16>, pack::<F16>);
            pub(super) static CORE_BF16: Core = core(direct::<Bf16>, pack::<Bf16>);
        }
    };
}

float_leaves!(plain, Scalar, 4 x 1, [1: 4], #[inline(never)]);
#[cfg(target_arch = "x86_64")]
float_leaves!(avx2, Avx2::new(), 2 x 3, [1: 4, 2: 2, 3: 2], #[target_feature(enable = "avx2,fma,f16c")]);
#[cfg(target_arch = "x86_64")]
float_leaves!(
    avx512, Avx512::new(), 4 x 6, [1: 8, 2: 8, 3: 8, 4: 4, 5: 4, 6: 4],
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
);

static Q8_PLAIN: Core = Core {
    acts: &Acts {
        direct_max: usize::MAX,
        direct_bytes: |_| 0,
        pack_direct: |_, _| {},
        tile_rows: 1,
        pass_bytes: 1 << 22,
        step: 32,
        step_bytes: 34,
        pack: |_, _| {},
    },
    direct: q8_plain::direct,
    tile_rows: 1,
    step_bytes: 34,
    pack: |_, _| {},
    max_steps: usize::MAX,
    acc_bytes: 0,
    tiles: &[],
};

#[cfg(target_arch = "x86_64")]
static Q8_AVX2: Core = Core {
    acts: &Acts {
        direct_max: 6,
        direct_bytes: |_| 0,
        pack_direct: |_, _| {},
        tile_rows: q8_avx2::TILE_ACTS,
        pass_bytes: 1 << 22,
        step: 32,
        step_bytes: q8_avx2::X_STEP,
        pack: q8_avx2::pack_acts,
    },
    direct: q8_avx2::direct,
    tile_rows: q8_avx2::TILE_ROWS,
    step_bytes: q8_avx2::W_STEP,
    pack: q8_avx2::pack_weights,
    max_steps: usize::MAX,
    acc_bytes: 0,
    tiles: &[q8_avx2::tile::<1>, q8_avx2::tile::<2>, q8_avx2::tile::<3>],
};

#[cfg(target_arch = "x86_64")]
static Q8_AVX512: Core = Core {
    acts: &Acts {
        direct_max: 4,
        direct_bytes: q8_avx512::direct_bytes,
        pack_direct: q8_avx512::pack_direct,
        tile_rows: q8_avx512::TILE_ACTS,
        pass_bytes: 1 << 22,
        step: 32,
        step_bytes: q8_avx512::X_STEP,
        pack: q8_avx512::pack_acts,
    },
    direct: q8_avx512::direct,
    tile_rows: q8_avx512::TILE_ROWS,
    step_bytes: q8_avx512::W_STEP,
    pack: q8_avx512::pack_weights,
    max_steps: usize::MAX,
    acc_bytes: 0,
    tiles: &[
        q8_avx512::tile::<1>,
        q8_avx512::tile::<2>,
        q8_avx512::tile::<3>,
        q8_avx512::tile::<4>,
        q8_avx512::tile::<5>,
        q8_avx512::tile::<6>,
    ],
};

/// Portable leaves: the direct path for any number of rows.
pub(super) const SCALAR: Cores = &[
    (DType::F32, &plain::CORE_F32),
    (DType::F16, &plain::CORE_F16),
    (DType::BF16, &plain::CORE_BF16),
    (DType::Q8_0, &Q8_PLAIN),
];
/// AVX2 leaves.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX2: Cores = &[
    (DType::F32, &avx2::CORE_F32),
    (DType::F16, &avx2::CORE_F16),
    (DType::BF16, &avx2::CORE_BF16),
    (DType::Q8_0, &Q8_AVX2),
];
/// AVX-512 leaves.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX512: Cores = &[
    (DType::F32, &avx512::CORE_F32),
    (DType::F16, &avx512::CORE_F16),
    (DType::BF16, &avx512::CORE_BF16),
    (DType::Q8_0, &Q8_AVX512),
];
