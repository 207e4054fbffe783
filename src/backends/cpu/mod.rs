//! CPU kernels: scalar, AVX2 and AVX-512, the same bits. One file per op, one row per kernel.

use super::Kernel;

/// Tables of all op files.
const TABLES: &[&[Kernel]] = &[];

/// Every CPU kernel.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    TABLES.iter().flat_map(|t| t.iter())
}
