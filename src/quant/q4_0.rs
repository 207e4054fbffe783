//! Q4_0: 32 codes of 4 bits under one f16 scale, 18 bytes: `x = (code - 8) * d`.
//!
//! Source: `block_q4_0` in `ggml-common.h`.

use super::blocks::{Block32, codec32};
use super::search::{self, Uniform};
use super::{Codec, bits};
use half::f16;

/// One block: `x = (code - 8) * d`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: f16,
    /// Codes of 4 bits: byte j holds elements j (low) and j + 16 (high).
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 2);

/// The codec of Q4_0.
pub(super) static CODEC: Codec = codec32::<BlockQ4_0>();

impl Block32 for BlockQ4_0 {
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn quants(&self) -> [i8; 32] {
        bits::nibbles(&self.qs).map(|c| c.cast_signed() - 8)
    }

    fn encode(x: &[f32; 32]) -> BlockQ4_0 {
        let (d, codes) = search::block(x, Uniform(8.0));
        BlockQ4_0 { d, qs: bits::pack_nibbles(&codes) }
    }
}
