//! IQ4_NL: 32 codes of 4 bits into a table of unequal steps under one f16 scale, 18 bytes: `x = VALUES[code] * d`.
//!
//! Source: `block_iq4_nl` and `kvalues_iq4nl` in `ggml-common.h`.

use super::blocks::{Block32, codec32};
use super::search::{self, HALVES, Table, nearest_levels};
use super::{Codec, bits};
use half::f16;

/// What the 16 codes stand for: steps that grow with the magnitude, as weights are spread.
pub const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The same for encoders.
pub(super) const LEVELS: Table = Table { levels: &VALUES, nearest: &NEAREST };

static NEAREST: [i8; HALVES] = nearest_levels(&VALUES);

/// One block: `x = VALUES[code] * d`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ4_NL {
    /// Scale.
    pub d: f16,
    /// Codes of 4 bits: byte j holds elements j (low) and j + 16 (high).
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4_NL>() == 18 && align_of::<BlockIQ4_NL>() == 2);

/// The codec of IQ4_NL.
pub(super) static CODEC: Codec = codec32::<BlockIQ4_NL>();

impl Block32 for BlockIQ4_NL {
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn quants(&self) -> [i8; 32] {
        bits::nibbles(&self.qs).map(|c| VALUES[usize::from(c)])
    }

    fn encode(x: &[f32; 32]) -> BlockIQ4_NL {
        let (d, codes) = search::block(x, LEVELS);
        BlockIQ4_NL { d, qs: bits::pack_nibbles(&codes) }
    }
}
