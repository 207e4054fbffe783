//! The types whose blocks of 32 hold codes of 4 bits, or of 5 with the fifth bit apart: what the vector leaves, which
//! are written once for all of them, know about each.
//!
//! In the file: the scale, the minimum if there is one, the fifth bits if there are any (4 bytes, element j in bit
//! j), the nibbles (16 bytes, byte j holds elements j and j + 16).

use crate::quant::{Block32, BlockIQ4_NL, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1};

/// A type of codes of 4 or 5 bits.
pub(super) trait Nibbles: Block32 {
    /// Whether there are fifth bits.
    const FIFTH: bool;
    /// Whether codes are places of a table.
    const TABLE: bool;

    /// Bytes of a block.
    const BYTES: usize = size_of::<Self>();
    /// Offset of the nibbles.
    const AT_NIBBLES: usize = Self::BYTES - 16;
    /// Offset of the fifth bits, if there are any.
    const AT_FIFTH: usize = if Self::HAS_MIN { 4 } else { 2 };
    /// What the quants are below the unsigned codes that products are made of; a table has 128 added to be unsigned.
    const BIAS: u8 = match (Self::HAS_MIN, Self::TABLE, Self::FIFTH) {
        (true, ..) => 0,
        (_, true, _) => 128,
        (_, _, true) => 16,
        _ => 8,
    };
    /// How far -128 times a sum is shifted right to be -`BIAS` times that sum.
    const FIX_SHIFT: u32 = 7 - if Self::BIAS == 0 { 7 } else { Self::BIAS.ilog2() };
}

impl Nibbles for BlockQ4_0 {
    const FIFTH: bool = false;
    const TABLE: bool = false;
}
impl Nibbles for BlockQ4_1 {
    const FIFTH: bool = false;
    const TABLE: bool = false;
}
impl Nibbles for BlockQ5_0 {
    const FIFTH: bool = true;
    const TABLE: bool = false;
}
impl Nibbles for BlockQ5_1 {
    const FIFTH: bool = true;
    const TABLE: bool = false;
}
impl Nibbles for BlockIQ4_NL {
    const FIFTH: bool = false;
    const TABLE: bool = true;
}
