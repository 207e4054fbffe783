//! Q5_K: 256 codes of 5 bits, 32 to a 6-bit scale and minimum, 176 bytes: `x = (d * scale) * code - dmin * min`.
//!
//! Source: `block_q5_K` in `ggml-common.h`.

use super::blocks::{BlockK, codec_k, low_eight};
use super::{Codec, bits, search_k};
use half::f16;

/// One block: `x = (d * scale) * code - dmin * min`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ5_K {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// Eight scales and eight minima of 6 bits, see `scales_and_mins`.
    pub scales: [u8; 12],
    /// The fifth bit of each code: element `32 j + l` in bit j of byte l.
    pub qh: [u8; 32],
    /// The low 4 bits: byte `32 h + l` holds elements `64 h + l` (low) and `64 h + 32 + l` (high).
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5_K>() == 176 && align_of::<BlockQ5_K>() == 2);

/// The codec of Q5_K.
pub(super) static CODEC: Codec = codec_k::<BlockQ5_K>();

impl BlockK for BlockQ5_K {
    const SUB: usize = 32;
    const HAS_MIN: bool = true;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn min(&self) -> f32 {
        self.dmin.to_f32()
    }

    fn scales(&self) -> [i8; 16] {
        low_eight(bits::scales_and_mins(&self.scales).0.map(u8::cast_signed))
    }

    fn mins(&self) -> [u8; 16] {
        low_eight(bits::scales_and_mins(&self.scales).1)
    }

    fn quants(&self) -> [i8; 256] {
        let (low, high) = (bits::planes(&self.qs), bits::planes(&self.qh));
        std::array::from_fn(|e| (low[e] | high[e] << 4).cast_signed())
    }

    fn encode(x: &[f32; 256]) -> BlockQ5_K {
        let s = search_k::affine::<8>(x, 31, 63);
        BlockQ5_K {
            d: s.d,
            dmin: s.dmin,
            scales: bits::pack_scales_and_mins(&s.scales, &s.mins),
            qh: bits::pack_planes(&s.codes, 4),
            qs: bits::pack_planes(&s.codes, 0),
        }
    }
}
