//! Q4_0: 32 codes of 4 bits under one f16 scale, 18 bytes: `x = (code - 8) * d`.
//!
//! There are two encoders. The codec's searches for the best block, for files, which are made once. [`quantize_row`] is a
//! pass of plain arithmetic, for caches, which are filled while a model runs.
//!
//! Source: `block_q4_0` in `ggml-common.h`; `quantize_row` is `quantize_row_q4_0_ref` of `ggml-quants.c`, with one rule
//! of our own: where the factor overflows, all elements are 0. All bits are promised for finite input.

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

/// Quantises a row of whole blocks without a search; `src.len() == 32 * out.len()`.
pub fn quantize_row(src: &[f32], out: &mut [BlockQ4_0]) {
    for (s, b) in src.as_chunks::<32>().0.iter().zip(out) {
        *b = quantize_block(s);
    }
}

impl BlockQ4_0 {
    /// What multiplies the elements of a block whose element of largest magnitude this is, and its scale before
    /// rounding to f16. That element gets the code 0, which is -8: the code that has no counterpart of the other sign.
    pub fn scales(max: f32) -> (f32, f32) {
        let d = max / -8.0;
        let id = 1.0 / d;
        (if id.is_finite() { id } else { 0.0 }, d)
    }

    /// The block of elements that are multiplied already, with 8.5 added: codes are what is before the point.
    pub fn pack(d: f16, shifted: &[f32; 32]) -> BlockQ4_0 {
        BlockQ4_0 { d, qs: bits::pack_nibbles(&shifted.map(|x| (x as u8).min(15))) }
    }
}

fn quantize_block(x: &[f32; 32]) -> BlockQ4_0 {
    // The first of equals.
    let max = x.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
    let (id, d) = BlockQ4_0::scales(max);
    BlockQ4_0::pack(f16::from_f32(d), &x.map(|x| x * id + 8.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(x: &[f32; 32]) -> (BlockQ4_0, [f32; 32]) {
        let mut blocks = [BlockQ4_0 { d: f16::ZERO, qs: [0; 16] }];
        quantize_row(x, &mut blocks);
        let mut back = [0f32; 32];
        (CODEC.decode)(bytemuck::bytes_of(&blocks[0]), &mut back);
        (blocks[0], back)
    }

    #[test]
    fn the_element_of_largest_magnitude_is_minus_eight() {
        let mut x: [f32; 32] = std::array::from_fn(|i| (i as f32 - 16.0) / 4.0);
        let (b, back) = encode(&x);
        // -4 is the largest: the scale is 1/2; 3.75 is 7.5 of it, code 16, cut to 15.
        assert_eq!((b.d, back[0], back[31], back[16]), (f16::from_f32(0.5), -4.0, 3.5, 0.0));
        // Halves go up: -3.75 is -7.5 of the scale and becomes -7.
        assert_eq!((back[1], back[17]), (-3.5, 0.5));
        // Of equals the first decides the sign of the scale.
        (x[0], x[31]) = (4.0, -4.0);
        let (b, back) = encode(&x);
        assert_eq!((b.d, back[0], back[31]), (f16::from_f32(-0.5), 4.0, -3.5));
    }

    #[test]
    fn a_block_made_by_ggml() {
        let (b, _) = encode(&std::array::from_fn(|i| (i as f64 * 0.123_456_7 - 1.7) as f32));
        assert_eq!(b.d.to_bits(), 0xb441);
        let want =
            [0x7e, 0x7e, 0x6d, 0x6d, 0x5d, 0x5c, 0x4c, 0x4b, 0x3b, 0x3a, 0x2a, 0x29, 0x19, 0x18, 0x08, 0x07];
        assert_eq!(b.qs, want);
    }

    #[test]
    fn zeros_and_very_small_elements_are_zeros() {
        for x in [0.0, -0.0, 1e-40, -1e-45] {
            let (b, back) = encode(&[x; 32]);
            assert!(back.iter().all(|x| *x == 0.0), "{x}: {b:?}");
        }
    }

    #[test]
    fn errors_stay_below_one_step() {
        let x: [f32; 32] = std::array::from_fn(|i| (i * i * 37 % 101) as f32 - 50.0);
        let (b, back) = encode(&x);
        for (a, b8) in x.iter().zip(back) {
            // Half a step, a whole one at the end that has no -8, and the rounding of the scale.
            assert!((a - b8).abs() <= b.scale().abs() * 1.01, "{a} {b8}");
        }
    }
}
