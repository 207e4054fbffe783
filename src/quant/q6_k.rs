//! Q6_K: 256 codes of 6 bits, 16 to a signed 8-bit scale, 210 bytes: `x = (d * scale) * (code - 32)`.
//!
//! Source: `block_q6_K` in `ggml-common.h`.

use super::blocks::{BlockK, codec_k};
use super::search::Uniform;
use super::{Codec, bits, search_k};
use half::f16;

/// One block: `x = (d * scale) * (code - 32)`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ6_K {
    /// The low 4 bits: byte `64 h + l` (l below 64) holds elements `128 h + l` (low) and `128 h + 64 + l` (high).
    pub ql: [u8; 128],
    /// The high 2 bits: byte `32 h + l` holds elements `128 h + 32 j + l`, j = 0 to 3 from the lowest bits up.
    pub qh: [u8; 64],
    /// Scales of 16 elements each.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = assert!(size_of::<BlockQ6_K>() == 210 && align_of::<BlockQ6_K>() == 2);

/// The codec of Q6_K.
pub(super) static CODEC: Codec = codec_k::<BlockQ6_K>();

impl BlockK for BlockQ6_K {
    const SUB: usize = 16;
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn scales(&self) -> [i8; 16] {
        self.scales
    }

    fn quants(&self) -> [i8; 256] {
        let high = bits::planes(&self.qh);
        std::array::from_fn(|e| {
            let low = self.ql[e / 128 * 64 + e % 64] >> (4 * (e % 128 / 64)) & 15;
            (low | high[e] << 4).cast_signed() - 32
        })
    }

    fn encode(x: &[f32; 256]) -> BlockQ6_K {
        let s = search_k::symmetric(x, Uniform(32.0), 128);
        let low = |e: usize| s.codes[e] & 15;
        BlockQ6_K {
            ql: std::array::from_fn(|i| low(i / 64 * 128 + i % 64) | low(i / 64 * 128 + 64 + i % 64) << 4),
            qh: bits::pack_planes(&s.codes, 4),
            scales: s.scales,
            d: s.d,
        }
    }
}
