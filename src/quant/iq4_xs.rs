//! IQ4_XS: 256 codes of 4 bits into the table of IQ4_NL, 32 to a signed 6-bit scale, 136 bytes: `x = (d * scale) * VALUES[code]`.
//!
//! Source: `block_iq4_xs` and `kvalues_iq4nl` in `ggml-common.h`.

use super::blocks::{BlockK, codec_k, low_eight};
use super::iq4_nl::{LEVELS, VALUES};
use super::{Codec, search_k};
use half::f16;

/// One block: `x = (d * scale) * VALUES[code]`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ4_XS {
    /// Scale of the scales.
    pub d: f16,
    /// The high 2 bits of the scales: scale j from bit `2 j` up
    pub scales_h: u16,
    /// The low 4 bits of the scales: byte j holds scales `2 j` (low) and `2 j + 1` (high).
    pub scales_l: [u8; 4],
    /// Codes of 4 bits: byte `16 b + l` holds elements `32 b + l` (low) and `32 b + 16 + l` (high).
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIQ4_XS>() == 136 && align_of::<BlockIQ4_XS>() == 2);

/// The codec of IQ4_XS.
pub(super) static CODEC: Codec = codec_k::<BlockIQ4_XS>();

impl BlockK for BlockIQ4_XS {
    const SUB: usize = 32;
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn scales(&self) -> [i8; 16] {
        low_eight(std::array::from_fn(|j| {
            let low = self.scales_l[j / 2] >> (4 * (j % 2)) & 15;
            (low | ((self.scales_h >> (2 * j) & 3) as u8) << 4).cast_signed() - 32
        }))
    }

    fn quants(&self) -> [i8; 256] {
        std::array::from_fn(|e| {
            VALUES[usize::from(self.qs[e / 32 * 16 + e % 16] >> (4 * (e % 32 / 16)) & 15)]
        })
    }

    fn encode(x: &[f32; 256]) -> BlockIQ4_XS {
        let s = search_k::symmetric::<8>(x, LEVELS, 32);
        let code = |j: usize| (s.scales[j] + 32).cast_unsigned();
        let nibble = |e: usize| s.codes[e] & 15;
        BlockIQ4_XS {
            d: s.d,
            scales_h: (0..8).fold(0, |bits, j| bits | u16::from(code(j) >> 4) << (2 * j)),
            scales_l: std::array::from_fn(|j| (code(2 * j) & 15) | (code(2 * j + 1) & 15) << 4),
            qs: std::array::from_fn(|i| {
                nibble(i / 16 * 32 + i % 16) | nibble(i / 16 * 32 + 16 + i % 16) << 4
            }),
        }
    }
}
