//! Q3_K: 256 codes of 3 bits, 16 to a signed 6-bit scale, 110 bytes: `x = (d * scale) * (code - 4)`.
//!
//! Source: `block_q3_K` in `ggml-common.h`.

use super::blocks::{BlockK, codec_k};
use super::search::Uniform;
use super::{Codec, bits, search_k};
use half::f16;

/// One block: `x = (d * scale) * (code - 4)`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ3_K {
    /// The third bit of each code: element `32 j + l` in bit j of byte l.
    pub hmask: [u8; 32],
    /// The low 2 bits: byte `32 h + l` holds elements `128 h + 32 j + l`, j = 0 to 3 from the lowest bits up.
    pub qs: [u8; 64],
    /// Sixteen scales of 6 bits, see `signed_scales`.
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = assert!(size_of::<BlockQ3_K>() == 110 && align_of::<BlockQ3_K>() == 2);

/// The codec of Q3_K.
pub(super) static CODEC: Codec = codec_k::<BlockQ3_K>();

impl BlockK for BlockQ3_K {
    const SUB: usize = 16;
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn scales(&self) -> [i8; 16] {
        bits::signed_scales(&self.scales)
    }

    fn quants(&self) -> [i8; 256] {
        let (low, high) = (bits::planes(&self.qs), bits::planes(&self.hmask));
        std::array::from_fn(|e| (low[e] | high[e] << 2).cast_signed() - 4)
    }

    fn encode(x: &[f32; 256]) -> BlockQ3_K {
        let s = search_k::symmetric(x, Uniform(4.0), 32);
        BlockQ3_K {
            hmask: bits::pack_planes(&s.codes, 2),
            qs: bits::pack_planes(&s.codes, 0),
            scales: bits::pack_signed_scales(&s.scales),
            d: s.d,
        }
    }
}
