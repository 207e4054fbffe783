//! Q5_1: 32 codes of 5 bits under an f16 scale and minimum, 24 bytes: `x = code * d + m`.
//!
//! Source: `block_q5_1` in `ggml-common.h`.

use super::blocks::{Block32, codec32};
use super::{Codec, bits, search};
use half::f16;

/// One block: `x = code * d + m`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: f16,
    /// Minimum.
    pub m: f16,
    /// The fifth bit of each code, element j in bit j (little-endian).
    pub qh: [u8; 4],
    /// The low 4 bits: byte j holds elements j (low) and j + 16 (high).
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24 && align_of::<BlockQ5_1>() == 2);

/// The codec of Q5_1.
pub(super) static CODEC: Codec = codec32::<BlockQ5_1>();

impl Block32 for BlockQ5_1 {
    const HAS_MIN: bool = true;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn min(&self) -> f32 {
        self.m.to_f32()
    }

    fn quants(&self) -> [i8; 32] {
        bits::fives(&self.qs, &self.qh).map(u8::cast_signed)
    }

    fn encode(x: &[f32; 32]) -> BlockQ5_1 {
        let (d, m, codes) = search::affine(x, 31);
        BlockQ5_1 { d, m, qh: bits::pack_fifth(&codes), qs: bits::pack_nibbles(&codes) }
    }
}
