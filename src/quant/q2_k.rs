//! Q2_K: 256 codes of 2 bits, 16 to a 4-bit scale and minimum, 84 bytes: `x = (d * scale) * code - dmin * min`.
//!
//! Source: `block_q2_K` in `ggml-common.h`.

use super::blocks::{BlockK, codec_k};
use super::{Codec, bits, search_k};
use half::f16;

/// One block: `x = (d * scale) * code - dmin * min`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ2_K {
    /// Scale (low nibble) and minimum (high nibble) of 16 elements each.
    pub scales: [u8; 16],
    /// Codes of 2 bits: byte `32 h + l` holds elements `128 h + 32 j + l`, j = 0 to 3 from the lowest bits up.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
}

const _: () = assert!(size_of::<BlockQ2_K>() == 84 && align_of::<BlockQ2_K>() == 2);

/// The codec of Q2_K.
pub(super) static CODEC: Codec = codec_k::<BlockQ2_K>();

impl BlockK for BlockQ2_K {
    const SUB: usize = 16;
    const HAS_MIN: bool = true;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn min(&self) -> f32 {
        self.dmin.to_f32()
    }

    fn scales(&self) -> [i8; 16] {
        self.scales.map(|s| (s & 15).cast_signed())
    }

    fn mins(&self) -> [u8; 16] {
        self.scales.map(|s| s >> 4)
    }

    fn quants(&self) -> [i8; 256] {
        bits::planes(&self.qs).map(u8::cast_signed)
    }

    fn encode(x: &[f32; 256]) -> BlockQ2_K {
        let s = search_k::affine::<16>(x, 3, 15);
        let scales = std::array::from_fn(|j| s.scales[j] | s.mins[j] << 4);
        BlockQ2_K { scales, qs: bits::pack_planes(&s.codes, 0), d: s.d, dmin: s.dmin }
    }
}
