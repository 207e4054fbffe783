//! CPU kernels: scalar, AVX2 and AVX-512, the same bits. One file per op, one row per kernel.

mod add;
mod entry;
mod kv_append;
mod rope;
pub mod simd;
mod swiglu;

use super::Kernel;

/// Tables of all op files.
const TABLES: &[&[Kernel]] = &[add::KERNELS, kv_append::KERNELS, rope::KERNELS, swiglu::KERNELS];

/// Every CPU kernel.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    TABLES.iter().flat_map(|t| t.iter())
}
