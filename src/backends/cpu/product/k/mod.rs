//! Leaves for the 256-element types against Q8_K activations.
//!
//! All types share one skeleton per instruction set; a type brings how its codes, scales and minima come out of
//! its bits. Integer sums are exact over the whole block, so that f32 sees one value per block, and one more where
//! there are minima. One packing of activations serves all types, so they mix in one command.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod codes_avx512;
#[cfg(target_arch = "x86_64")]
mod direct_avx2;
#[cfg(target_arch = "x86_64")]
mod direct_avx512;
#[cfg(target_arch = "x86_64")]
mod in_order_avx2;
#[cfg(target_arch = "x86_64")]
mod in_order_avx512;
#[cfg(target_arch = "x86_64")]
mod panel_amx;
#[cfg(target_arch = "x86_64")]
mod panel_avx2;
#[cfg(target_arch = "x86_64")]
mod panel_avx512;
#[cfg(target_arch = "x86_64")]
mod parts_avx512;
mod plain;
#[cfg(target_arch = "x86_64")]
mod turned_avx512;

#[cfg(target_arch = "x86_64")]
use super::PackFn;
use super::entry::Cores;
#[cfg(target_arch = "x86_64")]
use super::tiles_amx;
use super::{Acts, Core};
use crate::quant::{
    BlockIQ4_XS, BlockK, BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K, BlockQ8_K, DType,
};
use std::mem::offset_of;

/// Bytes of a Q8_K block, and where in it the quants and the sums of 16 quants are; the scale comes first.
const X_BYTES: usize = size_of::<BlockQ8_K>();
const X_QS: usize = offset_of!(BlockQ8_K, qs);
const X_BSUMS: usize = offset_of!(BlockQ8_K, bsums);
const _: () = assert!(X_BYTES == 292 && X_QS == 4 && X_BSUMS == 260 && offset_of!(BlockQ8_K, d) == 0);

/// A type of blocks, by its name.
trait Named: BlockK {
    const TYPE: DType;
}

/// The table of an instruction set: one row per type, by a function that makes a type's core.
macro_rules! cores {
    ($core:ident) => {
        &[
            (DType::Q2_K, const { &$core::<BlockQ2_K>() }),
            (DType::Q3_K, const { &$core::<BlockQ3_K>() }),
            (DType::Q4_K, const { &$core::<BlockQ4_K>() }),
            (DType::Q5_K, const { &$core::<BlockQ5_K>() }),
            (DType::Q6_K, const { &$core::<BlockQ6_K>() }),
            (DType::IQ4_XS, const { &$core::<BlockIQ4_XS>() }),
        ]
    };
}
macro_rules! named {
    ($($block:ident = $ty:ident),*) => {
        $(impl Named for $block { const TYPE: DType = DType::$ty; })*
    };
}
named!(
    BlockQ2_K = Q2_K,
    BlockQ3_K = Q3_K,
    BlockQ4_K = Q4_K,
    BlockQ5_K = Q5_K,
    BlockQ6_K = Q6_K,
    BlockIQ4_XS = IQ4_XS
);

const PLAIN_ACTS: Acts = Acts {
    direct_bytes: |_| 0,
    pack_direct: |_, _| {},
    tile_rows: 1,
    pass_bytes: 1 << 22,
    step: 256,
    step_bytes: X_BYTES,
    pack: |_, _| {},
};
static PLAIN: Acts = PLAIN_ACTS;

const fn plain_core<B: Named>() -> Core {
    Core {
        acts: &PLAIN,
        direct_max: usize::MAX,
        direct: plain::direct::<B>,
        tile_rows: 1,
        step_bytes: size_of::<B>(),
        pack: |_, _| {},
        max_steps: usize::MAX,
        acc_bytes: 0,
        unit: None,
        tiles: &[],
    }
}

/// Activations of which few are read as they are and many are packed, a block to a step.
#[cfg(target_arch = "x86_64")]
const fn panel_acts(tile_rows: usize, step_bytes: usize, pack: PackFn) -> Acts {
    Acts { tile_rows, step_bytes, pack, ..PLAIN_ACTS }
}

#[cfg(target_arch = "x86_64")]
static AVX2_ACTS: Acts = Acts {
    direct_bytes: in_order_avx2::bytes,
    ..panel_acts(panel_avx2::TILE_ACTS, panel_avx2::X_STEP, panel_avx2::pack_acts)
};

#[cfg(target_arch = "x86_64")]
const fn avx2_core<B: avx2::Leaf>() -> Core {
    Core {
        acts: &AVX2_ACTS,
        direct_max: 3,
        direct: direct_avx2::direct::<B>,
        tile_rows: panel_avx2::TILE_ROWS,
        step_bytes: panel_avx2::step_bytes::<B>(),
        pack: panel_avx2::pack_weights::<B>,
        max_steps: usize::MAX,
        acc_bytes: 0,
        unit: None,
        tiles: &[
            panel_avx2::tile::<B, 1>,
            panel_avx2::tile::<B, 2>,
            panel_avx2::tile::<B, 3>,
            panel_avx2::tile::<B, 4>,
        ],
    }
}

#[cfg(target_arch = "x86_64")]
static AVX512_ACTS: Acts = Acts {
    direct_bytes: in_order_avx512::bytes,
    pack_direct: turned_avx512::pack_sums,
    ..panel_acts(panel_avx512::TILE_ACTS, panel_avx512::X_STEP, panel_avx512::pack_acts)
};

#[cfg(target_arch = "x86_64")]
const fn avx512_core<B: turned_avx512::Turn>() -> Core {
    Core {
        acts: &AVX512_ACTS,
        direct_max: 8,
        direct: direct_avx512::direct::<B>,
        tile_rows: panel_avx512::TILE_ROWS,
        step_bytes: panel_avx512::step_bytes::<B>(),
        pack: panel_avx512::pack_weights::<B>,
        max_steps: usize::MAX,
        acc_bytes: 0,
        unit: None,
        tiles: &[
            panel_avx512::tile::<B, 1>,
            panel_avx512::tile::<B, 2>,
            panel_avx512::tile::<B, 3>,
            panel_avx512::tile::<B, 4>,
            panel_avx512::tile::<B, 5>,
            panel_avx512::tile::<B, 6>,
        ],
    }
}

#[cfg(target_arch = "x86_64")]
static AMX_ACTS: Acts = Acts {
    direct_bytes: in_order_avx512::bytes,
    pack_direct: turned_avx512::pack_sums,
    ..panel_acts(tiles_amx::TILE_ACTS, panel_amx::X_STEP, panel_amx::pack_acts)
};

#[cfg(target_arch = "x86_64")]
const fn amx_core<B: turned_avx512::Turn>() -> Core {
    Core {
        acts: &AMX_ACTS,
        direct_max: 24,
        // One step of both sides stays in L1, with two planes of weights.
        max_steps: 1,
        acc_bytes: tiles_amx::ACC,
        unit: Some(&tiles_amx::GROUPS_OF_64),
        step_bytes: panel_amx::step_bytes::<B>(),
        pack: panel_amx::pack_weights::<B>,
        tiles: tiles_amx::tiles!(panel_amx::OfType<B>),
        ..avx512_core::<B>()
    }
}

/// Portable leaves.
pub(super) const SCALAR: Cores = cores!(plain_core);
/// AVX2 leaves.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX2: Cores = cores!(avx2_core);
/// AVX-512 leaves.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX512: Cores = cores!(avx512_core);
/// Leaves of the matrix unit.
#[cfg(target_arch = "x86_64")]
pub(super) const AMX: Cores = cores!(amx_core);
