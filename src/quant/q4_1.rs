//! Q4_1: 32 codes of 4 bits under an f16 scale and minimum, 20 bytes: `x = code * d + m`.
//!
//! Source: `block_q4_1` in `ggml-common.h`.

use super::blocks::{Block32, codec32};
use super::{Codec, bits, search};
use half::f16;

/// One block: `x = code * d + m`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: f16,
    /// Minimum.
    pub m: f16,
    /// Codes of 4 bits: byte j holds elements j (low) and j + 16 (high).
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 2);

/// The codec of Q4_1.
pub(super) static CODEC: Codec = codec32::<BlockQ4_1>();

impl Block32 for BlockQ4_1 {
    const HAS_MIN: bool = true;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn min(&self) -> f32 {
        self.m.to_f32()
    }

    fn quants(&self) -> [i8; 32] {
        bits::nibbles(&self.qs).map(u8::cast_signed)
    }

    fn encode(x: &[f32; 32]) -> BlockQ4_1 {
        let (d, m, codes) = search::affine(x, 15);
        BlockQ4_1 { d, m, qs: bits::pack_nibbles(&codes) }
    }
}
