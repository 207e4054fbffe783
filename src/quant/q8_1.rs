//! Q8_1: 32 signed bytes under one f16 scale, with their scaled sum, 36 bytes: the activations of types with a
//! minimum, which multiplies the sum of the block.
//!
//! Source: `block_q8_1` in `ggml-common.h`; quantisation as ggml's x86 code does it: quants and scale as in Q8_0, and
//! `s = f16(d * sum of quants)` with the scale before it is rounded to f16.

use super::blocks::{blocks, encode};
use super::{BlockQ8_0, Codec, DType};
use half::f16;

/// One block: `x[i] = d * qs[i]`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ8_1 {
    /// Scale.
    pub d: f16,
    /// The sum of the quants, scaled.
    pub s: f16,
    /// Quants, -127 to 127.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_1>() == 36 && align_of::<BlockQ8_1>() == 2);

/// The codec of Q8_1.
pub(super) static CODEC: Codec = Codec {
    decode: |bytes, out| {
        for (block, out) in blocks::<BlockQ8_1>(bytes).zip(out.as_chunks_mut::<32>().0) {
            *out = block.qs.map(|q| block.d.to_f32() * f32::from(q));
        }
    },
    encode: |src, out| encode(src, out, quantize_block),
    activation: DType::Q8_1,
    dot: None,
};

/// Quantises a row of whole blocks; `src.len() == 32 * out.len()`.
pub fn quantize_row(src: &[f32], out: &mut [BlockQ8_1]) {
    for (s, b) in src.as_chunks::<32>().0.iter().zip(out) {
        *b = quantize_block(s);
    }
}

fn quantize_block(x: &[f32; 32]) -> BlockQ8_1 {
    let amax = x.iter().fold(0f32, |m, x| if x.abs() > m { x.abs() } else { m });
    let (id, d) = BlockQ8_0::scales(amax);
    let qs = x.map(|x| (x * id).round_ties_even() as i8);
    let sum: i32 = qs.iter().map(|q| i32::from(*q)).sum();
    BlockQ8_1 { d: f16::from_f32(d), s: f16::from_f32(d * sum as f32), qs }
}
