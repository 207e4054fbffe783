//! Q8_K: 256 signed bytes under one f32 scale, with the sums of every sixteen, 292 bytes: the activations of the
//! types with super-blocks.
//!
//! Source: `block_q8_K` in `ggml-common.h`; quantisation as ggml's x86 code does it, which is its portable
//! `quantize_row_q8_K_ref`. Two rules are our own: where the factor overflows, quants and scale are 0 (ggml converts
//! infinities), and a block of zeros has sums of 0 (ggml leaves them as they were). All bits are promised for finite
//! input.

use super::blocks::{blocks, encode};
use super::{Codec, DType};

/// One block: `x[i] = d * qs[i]`.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ8_K {
    /// Scale; its sign is the opposite of that of the element with the largest magnitude.
    pub d: f32,
    /// Quants, -127 to 127.
    pub qs: [i8; 256],
    /// Sums of 16 quants each.
    pub bsums: [i16; 16],
}

const _: () = assert!(size_of::<BlockQ8_K>() == 292 && align_of::<BlockQ8_K>() == 4);

/// The codec of Q8_K.
pub(super) static CODEC: Codec = Codec {
    decode: |bytes, out| {
        for (block, out) in blocks::<BlockQ8_K>(bytes).zip(out.as_chunks_mut::<256>().0) {
            *out = block.qs.map(|q| block.d * f32::from(q));
        }
    },
    encode: |src, out| encode(src, out, quantize_block),
    activation: DType::Q8_K,
    dot: None,
};

/// Quantises a row of whole blocks; `src.len() == 256 * out.len()`.
pub fn quantize_row(src: &[f32], out: &mut [BlockQ8_K]) {
    for (s, b) in src.as_chunks::<256>().0.iter().zip(out) {
        *b = quantize_block(s);
    }
}

impl BlockQ8_K {
    /// What multiplies the elements of a block whose element of largest magnitude (the first of equals) is this, and
    /// the scale. The factor is `-127 / max`, so that element becomes -127; both are 0 where the factor is no finite
    /// number.
    pub fn scales(max: f32) -> (f32, f32) {
        let id = -127.0 / max;
        if id.is_finite() { (id, 1.0 / id) } else { (0.0, 0.0) }
    }
}

fn quantize_block(x: &[f32; 256]) -> BlockQ8_K {
    let max = x.iter().fold(0f32, |max, x| if x.abs() > max.abs() { *x } else { max });
    let (id, d) = BlockQ8_K::scales(max);
    let qs = x.map(|x| (id * x).round_ties_even().min(127.0) as i8);
    let bsums = std::array::from_fn(|i| qs[16 * i..16 * i + 16].iter().map(|q| i16::from(*q)).sum());
    BlockQ8_K { d, qs, bsums }
}
