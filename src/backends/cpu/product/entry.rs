//! The table of leaves: the float leaves with their instruction set turned on, and one row per weight type.

use super::float::{self, Bf16, F16, F32, Weight};
#[cfg(target_arch = "x86_64")]
use super::nibbles::Nibbles;
use super::streams::{for_flights, for_rows, one_stream};
use super::{Acts, Core, DirectFn, PackFn, Rows, Sums, Tile, block32_plain};
#[cfg(target_arch = "x86_64")]
use super::{nibbles_avx2, nibbles_avx512, panels_avx2, q8_amx, q8_avx2, q8_avx512, tiles_amx};
use crate::backends::cpu::simd::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::backends::cpu::simd::{Avx2, Avx512};
use crate::quant::{
    Block32, BlockIQ4_NL, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ8_1, DType,
};

/// The weight types of one instruction set.
pub(super) type Cores = &'static [(DType, &'static Core)];

/// The float leaves of one instruction set: its token; sixteens of weight rows x activation rows of a tile; for the direct
/// path the most activation rows, the weight rows in flight for one of them where weights are several streams, and for more,
/// weight rows x activation rows.
macro_rules! float_leaves {
    (
        $module:ident, $token:expr, tile $m:literal x $nr:literal [$($nt:literal)*],
        direct to $max:expr, $one:literal, $r:literal x $most:literal [$($dt:literal)*], #[$feature:meta]
    ) => {
        mod $module {
            use super::*;

            /// # Safety
            /// As [`float::direct`], for any number of activation rows.
            #[$feature]
            unsafe fn direct<W: Weight>(w: &Rows, x: &Rows, _: *mut u8, out: Sums) {
                // SAFETY: the caller's promise; the features are on.
                unsafe {
                    if x.rows == 1 && one_stream() {
                        for_rows(w, x, out, |flight, x, _, out| {
                            float::direct::<_, W, 1, 1>($token, flight, x, out);
                        });
                        return;
                    }
                    if x.rows == 1 {
                        for_flights(w, x, out, 1, 16 * W::BYTES, |flight, x, _, out| {
                            float::direct::<_, W, $one, 1>($token, flight, x, out);
                        });
                        return;
                    }
                    for_flights(w, x, out, $most, 16 * W::BYTES, |flight, x, _, out| match x.rows {
                        $($dt => float::direct::<_, W, $r, $dt>($token, flight, x, out),)*
                        _ => {}
                    });
                }
            }
            /// # Safety
            /// As [`float::pack`].
            #[$feature]
            unsafe fn pack<W: Weight>(w: &Rows, out: *mut u8) {
                // SAFETY: the caller's promise; the features are on.
                unsafe { float::pack::<_, W, { 16 * $m }>($token, w, out) }
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
                unsafe { float::tile::<_, $m, $nr, NT>($token, t) }
            }

            static ACTS: Acts = Acts {
                direct_bytes: |_| 0,
                pack_direct: |_, _| {},
                tile_rows: $nr,
                pass_bytes: 1 << 22,
                step: 16,
                step_bytes: $nr * 64,
                pack: pack_acts,
            };
            const fn core(direct: DirectFn, pack: PackFn) -> Core {
                Core {
                    acts: &ACTS,
                    direct_max: $max,
                    direct,
                    tile_rows: 16 * $m,
                    step_bytes: 16 * $m * 64,
                    pack,
                    max_steps: usize::MAX,
                    acc_bytes: 0,
                    unit: None,
                    tiles: &[$(tile::<$nt>),*],
                }
            }
            pub(super) static CORE_F32: Core = core(direct::<F32>, pack::<F32>);
            pub(super) static CORE_F16: Core = core(direct::<F16>, pack::<F16>);
            pub(super) static CORE_BF16: Core = core(direct::<Bf16>, pack::<Bf16>);
        }
    };
}

float_leaves!(plain, Scalar, tile 1 x 1 [1], direct to usize::MAX, 4, 4 x 1 [1], #[inline(never)]);
#[cfg(target_arch = "x86_64")]
float_leaves!(
    avx2, Avx2::new(), tile 1 x 6 [1 2 3 4 5 6], direct to 6, 4, 2 x 3 [1 2 3],
    #[target_feature(enable = "avx2,fma,f16c")]
);
#[cfg(target_arch = "x86_64")]
float_leaves!(
    avx512, Avx512::new(), tile 2 x 12 [1 2 3 4 5 6 7 8 9 10 11 12], direct to 12, 8, 6 x 4 [1 2 3 4],
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
);

/// Activations that the portable leaves read as they are.
const fn acts_plain(block: usize) -> Acts {
    Acts {
        direct_bytes: |_| 0,
        pack_direct: |_, _| {},
        tile_rows: 1,
        pass_bytes: 1 << 22,
        step: 32,
        step_bytes: block,
        pack: |_, _| {},
    }
}

static Q8_0_PLAIN: Acts = acts_plain(size_of::<BlockQ8_0>());
static Q8_1_PLAIN: Acts = acts_plain(size_of::<BlockQ8_1>());

const fn block32_plain<B: Block32>() -> Core {
    Core {
        acts: if B::HAS_MIN { &Q8_1_PLAIN } else { &Q8_0_PLAIN },
        direct_max: usize::MAX,
        direct: block32_plain::direct::<B>,
        tile_rows: 1,
        step_bytes: size_of::<B>(),
        pack: |_, _| {},
        max_steps: usize::MAX,
        acc_bytes: 0,
        unit: None,
        tiles: &[],
    }
}

#[cfg(target_arch = "x86_64")]
const fn acts_avx2<const MIN: bool>() -> Acts {
    Acts {
        direct_bytes: q8_avx2::direct_bytes,
        pack_direct: q8_avx2::pack_direct::<MIN>,
        tile_rows: panels_avx2::TILE_ACTS,
        pass_bytes: 1 << 20,
        step: 32,
        step_bytes: panels_avx2::act_step(MIN),
        pack: panels_avx2::pack_acts::<MIN>,
    }
}

#[cfg(target_arch = "x86_64")]
static Q8_0_AVX2: Acts = acts_avx2::<false>();
#[cfg(target_arch = "x86_64")]
static Q8_1_AVX2: Acts = acts_avx2::<true>();

/// A type whose `direct` and `pack` leaves are these, with signed quants in its panels.
#[cfg(target_arch = "x86_64")]
const fn pairs_avx2(direct: DirectFn, pack: PackFn) -> Core {
    use panels_avx2::{TILE_ROWS, W_PAIRS, tile_pairs};
    Core {
        acts: &Q8_0_AVX2,
        direct_max: 3,
        direct,
        tile_rows: TILE_ROWS,
        step_bytes: W_PAIRS,
        pack,
        max_steps: usize::MAX,
        acc_bytes: 0,
        unit: None,
        tiles: &[tile_pairs::<1>, tile_pairs::<2>, tile_pairs::<3>, tile_pairs::<4>],
    }
}

#[cfg(target_arch = "x86_64")]
const fn table_avx2<T: Nibbles>() -> Core {
    pairs_avx2(nibbles_avx2::direct::<T>, nibbles_avx2::pack_weights::<T>)
}

#[cfg(target_arch = "x86_64")]
const fn codes_avx2<T: Nibbles>() -> Core {
    use panels_avx2::tile_codes;
    Core {
        acts: if T::HAS_MIN { &Q8_1_AVX2 } else { &Q8_0_AVX2 },
        step_bytes: nibbles_avx2::step_bytes::<T>(),
        tiles: &[tile_codes::<T, 1>, tile_codes::<T, 2>, tile_codes::<T, 3>, tile_codes::<T, 4>],
        ..pairs_avx2(nibbles_avx2::direct::<T>, nibbles_avx2::pack_weights::<T>)
    }
}

#[cfg(target_arch = "x86_64")]
const fn acts_avx512<const MIN: bool>() -> Acts {
    Acts {
        direct_bytes: super::in_order_acts::bytes,
        pack_direct: q8_avx512::pack_direct::<MIN>,
        tile_rows: q8_avx512::TILE_ACTS,
        pass_bytes: 1 << 22,
        step: 32,
        step_bytes: q8_avx512::X_STEP,
        pack: q8_avx512::pack_acts::<MIN>,
    }
}

#[cfg(target_arch = "x86_64")]
static Q8_0_AVX512: Acts = acts_avx512::<false>();
#[cfg(target_arch = "x86_64")]
static Q8_1_AVX512: Acts = acts_avx512::<true>();

/// A type whose `direct` and `pack` leaves are these.
#[cfg(target_arch = "x86_64")]
const fn block32_avx512(min: bool, direct: DirectFn, pack: PackFn) -> Core {
    use q8_avx512::{TILE_ROWS, W_STEP, W_STEP_MIN, tile};
    macro_rules! tiles {
        ($min:literal) => {
            &[
                tile::<$min, 1>,
                tile::<$min, 2>,
                tile::<$min, 3>,
                tile::<$min, 4>,
                tile::<$min, 5>,
                tile::<$min, 6>,
            ]
        };
    }
    Core {
        acts: if min { &Q8_1_AVX512 } else { &Q8_0_AVX512 },
        direct_max: 8,
        direct,
        tile_rows: TILE_ROWS,
        step_bytes: if min { W_STEP_MIN } else { W_STEP },
        pack,
        max_steps: usize::MAX,
        acc_bytes: 0,
        unit: None,
        tiles: if min { tiles!(true) } else { tiles!(false) },
    }
}

#[cfg(target_arch = "x86_64")]
const fn nibbles_avx512<T: Nibbles>() -> Core {
    block32_avx512(T::HAS_MIN, nibbles_avx512::direct::<T>, nibbles_avx512::pack_weights::<T, false>)
}

#[cfg(target_arch = "x86_64")]
const fn acts_amx<const MIN: bool>() -> Acts {
    Acts {
        tile_rows: tiles_amx::TILE_ACTS,
        step_bytes: q8_amx::X_STEP,
        pack: q8_amx::pack_acts::<MIN>,
        ..acts_avx512::<MIN>()
    }
}

#[cfg(target_arch = "x86_64")]
static Q8_0_AMX: Acts = acts_amx::<false>();
#[cfg(target_arch = "x86_64")]
static Q8_1_AMX: Acts = acts_amx::<true>();

/// A type whose `direct` and `pack` leaves are these.
#[cfg(target_arch = "x86_64")]
const fn block32_amx(min: bool, direct: DirectFn, pack: PackFn) -> Core {
    Core {
        acts: if min { &Q8_1_AMX } else { &Q8_0_AMX },
        unit: Some(&tiles_amx::GROUPS_OF_32),
        tiles: if min {
            tiles_amx::tiles!(q8_amx::OfBlocks<true>)
        } else {
            tiles_amx::tiles!(q8_amx::OfBlocks<false>)
        },
        ..block32_avx512(min, direct, pack)
    }
}

#[cfg(target_arch = "x86_64")]
const fn nibbles_amx<T: Nibbles>() -> Core {
    block32_amx(T::HAS_MIN, nibbles_avx512::direct::<T>, nibbles_avx512::pack_weights::<T, true>)
}

/// Portable leaves: the direct path for any number of rows.
pub(super) const SCALAR: Cores = &[
    (DType::F32, &plain::CORE_F32),
    (DType::F16, &plain::CORE_F16),
    (DType::BF16, &plain::CORE_BF16),
    (DType::Q8_0, &const { block32_plain::<BlockQ8_0>() }),
    (DType::Q4_0, &const { block32_plain::<BlockQ4_0>() }),
    (DType::Q4_1, &const { block32_plain::<BlockQ4_1>() }),
    (DType::Q5_0, &const { block32_plain::<BlockQ5_0>() }),
    (DType::Q5_1, &const { block32_plain::<BlockQ5_1>() }),
    (DType::IQ4_NL, &const { block32_plain::<BlockIQ4_NL>() }),
];
/// AVX2 leaves.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX2: Cores = &[
    (DType::F32, &avx2::CORE_F32),
    (DType::F16, &avx2::CORE_F16),
    (DType::BF16, &avx2::CORE_BF16),
    (DType::Q8_0, &const { pairs_avx2(q8_avx2::direct, panels_avx2::pack_q8) }),
    (DType::Q4_0, &const { codes_avx2::<BlockQ4_0>() }),
    (DType::Q4_1, &const { codes_avx2::<BlockQ4_1>() }),
    (DType::Q5_0, &const { codes_avx2::<BlockQ5_0>() }),
    (DType::Q5_1, &const { codes_avx2::<BlockQ5_1>() }),
    (DType::IQ4_NL, &const { table_avx2::<BlockIQ4_NL>() }),
];
/// AVX-512 leaves.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX512: Cores = &[
    (DType::F32, &avx512::CORE_F32),
    (DType::F16, &avx512::CORE_F16),
    (DType::BF16, &avx512::CORE_BF16),
    (DType::Q8_0, &const { block32_avx512(false, q8_avx512::direct, q8_avx512::pack_weights::<false>) }),
    (DType::Q4_0, &const { nibbles_avx512::<BlockQ4_0>() }),
    (DType::Q4_1, &const { nibbles_avx512::<BlockQ4_1>() }),
    (DType::Q5_0, &const { nibbles_avx512::<BlockQ5_0>() }),
    (DType::Q5_1, &const { nibbles_avx512::<BlockQ5_1>() }),
    (DType::IQ4_NL, &const { nibbles_avx512::<BlockIQ4_NL>() }),
];
/// Leaves of the matrix unit. It has no exact products of floats: those are the AVX-512 ones.
#[cfg(target_arch = "x86_64")]
pub(super) const AMX: Cores = &[
    (DType::Q8_0, &const { block32_amx(false, q8_avx512::direct, q8_avx512::pack_weights::<true>) }),
    (DType::Q4_0, &const { nibbles_amx::<BlockQ4_0>() }),
    (DType::Q4_1, &const { nibbles_amx::<BlockQ4_1>() }),
    (DType::Q5_0, &const { nibbles_amx::<BlockQ5_0>() }),
    (DType::Q5_1, &const { nibbles_amx::<BlockQ5_1>() }),
    (DType::IQ4_NL, &const { nibbles_amx::<BlockIQ4_NL>() }),
];
