//! Q5_0: 32 codes of 5 bits under one f16 scale, 22 bytes: `x = (code - 16) * d`.
//!
//! Source: `block_q5_0` in `ggml-common.h`.

use super::blocks::{Block32, codec32};
use super::search::{self, Uniform};
use super::{Codec, bits};
use half::f16;

/// One block: `x = (code - 16) * d`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: f16,
    /// The fifth bit of each code, element j in bit j (little-endian).
    pub qh: [u8; 4],
    /// The low 4 bits: byte j holds elements j (low) and j + 16 (high).
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22 && align_of::<BlockQ5_0>() == 2);

/// The codec of Q5_0.
pub(super) static CODEC: Codec = codec32::<BlockQ5_0>();

impl Block32 for BlockQ5_0 {
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn quants(&self) -> [i8; 32] {
        bits::fives(&self.qs, &self.qh).map(|c| c.cast_signed() - 16)
    }

    fn encode(x: &[f32; 32]) -> BlockQ5_0 {
        let (d, codes) = search::block(x, Uniform(16.0));
        BlockQ5_0 { d, qh: bits::pack_fifth(&codes), qs: bits::pack_nibbles(&codes) }
    }
}
