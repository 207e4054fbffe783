//! Q8_0: 32 signed bytes under one f16 scale, 34 bytes. Also the activation type that meets it.
//!
//! Source: `block_q8_0` in `ggml-common.h`; quantisation as ggml's x86 code does it: `d = amax / 127` stored as
//! f16, quants with `id = 127 / amax` in f32, rounded to nearest, ties to even. (Its generic code rounds ties
//! away from zero: the x86 rule is the one here, for every instruction set.) One rule is our own: where the
//! factor overflows, quants are 0. All bits are promised for finite input.

use super::Codec;
use super::blocks::{Block32, codec32};
use half::f16;

/// One block: `x[i] = d * qs[i]`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: f16,
    /// Quants, -127 to 127 when made here; a file may also hold -128.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 2);

/// The codec of Q8_0.
pub(super) static CODEC: Codec = codec32::<BlockQ8_0>();

impl Block32 for BlockQ8_0 {
    const HAS_MIN: bool = false;

    fn scale(&self) -> f32 {
        self.d.to_f32()
    }

    fn quants(&self) -> [i8; 32] {
        self.qs
    }

    fn encode(x: &[f32; 32]) -> BlockQ8_0 {
        quantize_block(x)
    }
}

/// Quantises a row of whole blocks; `src.len() == 32 * out.len()`.
pub fn quantize_row(src: &[f32], out: &mut [BlockQ8_0]) {
    for (s, b) in src.as_chunks::<32>().0.iter().zip(out) {
        *b = quantize_block(s);
    }
}

impl BlockQ8_0 {
    /// What multiplies the elements of a block with this largest magnitude, and its scale before rounding to f16.
    ///
    /// A block so small that the factor would overflow is quantised to zeros: its scale rounds to zero, so the
    /// quants mean nothing, and converting infinities to integers differs between instruction sets.
    pub fn scales(amax: f32) -> (f32, f32) {
        let id = 127.0 / amax;
        (if id.is_finite() { id } else { 0.0 }, amax / 127.0)
    }
}

fn quantize_block(x: &[f32; 32]) -> BlockQ8_0 {
    let amax = x.iter().fold(0f32, |m, x| if x.abs() > m { x.abs() } else { m });
    let (id, d) = BlockQ8_0::scales(amax);
    BlockQ8_0 { d: f16::from_f32(d), qs: x.map(|x| (x * id).round_ties_even() as i8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(x: &[f32; 32]) -> BlockQ8_0 {
        let mut out = [0u8; 34];
        (CODEC.encode)(x, &mut out);
        bytemuck::pod_read_unaligned(&out)
    }

    #[test]
    fn ties_go_to_even_as_ggml_does_on_x86() {
        let mut x: [f32; 32] = std::array::from_fn(|i| (i as f32 - 8.0) * 0.37 - 4.0);
        x[..8].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5]);
        let b = encode(&x);
        assert_eq!(b.d, f16::ONE);
        assert_eq!(b.qs[..12], [127, 0, 2, 2, 0, -2, -2, 4, -4, -4, -3, -3]);
        assert_eq!(b.qs[28..], [3, 4, 4, 5]);
    }

    #[test]
    fn a_block_made_by_ggml() {
        let b = encode(&std::array::from_fn(|i| (i as f64 * 0.123_456_7 - 1.7) as f32));
        assert_eq!(b.d.to_bits(), 0x244a);
        assert_eq!(b.qs[..8], [-101, -94, -87, -79, -72, -65, -57, -50]);
        assert_eq!(b.qs[24..], [75, 83, 90, 98, 105, 112, 120, 127]);
    }

    #[test]
    fn zeros_stay_zeros_and_errors_stay_below_half_a_step() {
        assert_eq!(encode(&[0.0; 32]), BlockQ8_0 { d: f16::ZERO, qs: [0; 32] });
        let x: [f32; 32] = std::array::from_fn(|i| (i * i * 37 % 101) as f32 - 50.0);
        let mut bytes = [0u8; 34];
        (CODEC.encode)(&x, &mut bytes);
        let mut back = [0f32; 32];
        (CODEC.decode)(&bytes, &mut back);
        let amax = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (a, b) in x.iter().zip(back) {
            // Half a step, and the rounding of the scale to f16.
            assert!((a - b).abs() <= amax / 127.0 * 0.5 + a.abs() / 1024.0, "{a} {b}");
        }
    }

    #[test]
    fn rows_are_blocks_in_order() {
        let x: Vec<f32> = (0..96).map(|i| i as f32).collect();
        let mut blocks = [BlockQ8_0 { d: f16::ZERO, qs: [0; 32] }; 3];
        quantize_row(&x, &mut blocks);
        let mut bytes = vec![0u8; 102];
        (CODEC.encode)(&x, &mut bytes);
        assert_eq!(bytemuck::cast_slice::<_, u8>(&blocks), bytes);
        assert!(blocks[0].d < blocks[1].d && blocks[1].d < blocks[2].d);
    }
}
