//! What block types have in common: decoding, products and encoding of rows, written once over two traits.
//!
//! Every block is a vector of small integers, the quants, under scales. The traits give those; the functions here
//! fix the order of operations that NUMERICS.md documents.

use super::{BlockQ8_0, BlockQ8_1, BlockQ8_K, Codec, DType};
use bytemuck::Pod;

/// A block of 32 weights: `x[i] = q[i] * scale`, plus the minimum where the type has one.
pub trait Block32: Pod {
    /// Whether the type has a minimum: then its activations are Q8_1, else Q8_0.
    const HAS_MIN: bool;
    /// The scale, widened.
    fn scale(&self) -> f32;
    /// The minimum, widened; 0 where there is none.
    fn min(&self) -> f32 {
        0.0
    }
    /// The quants in the order of the elements: what the scale multiplies.
    fn quants(&self) -> [i8; 32];
    /// The best block this type has for these elements. Never panics, whatever they are.
    fn encode(x: &[f32; 32]) -> Self;
}

/// A super-block of 256 weights: `x[i] = (scale * scales[i / SUB]) * q[i] - min * mins[i / SUB]`.
/// Its activations are Q8_K.
pub trait BlockK: Pod {
    /// Elements under one small scale: 16 or 32.
    const SUB: usize;
    /// Whether the type has minima.
    const HAS_MIN: bool;
    /// The scale of the scales, widened.
    fn scale(&self) -> f32;
    /// The scale of the minima, widened; 0 where there are none.
    fn min(&self) -> f32 {
        0.0
    }
    /// The small scales; the first `256 / SUB` count.
    fn scales(&self) -> [i8; 16];
    /// The small minima; the first `256 / SUB` count.
    fn mins(&self) -> [u8; 16] {
        [0; 16]
    }
    /// The quants in the order of the elements: what the scales multiply.
    fn quants(&self) -> [i8; 256];
    /// The best block this type has for these elements. Never panics, whatever they are.
    fn encode(x: &[f32; 256]) -> Self;
}

/// The codec of a type with blocks of 32.
pub(super) const fn codec32<B: Block32>() -> Codec {
    Codec {
        decode: decode32::<B>,
        encode: |src, out| encode(src, out, B::encode),
        activation: if B::HAS_MIN { DType::Q8_1 } else { DType::Q8_0 },
        dot: Some(dot32::<B>),
    }
}

/// The codec of a type with super-blocks.
pub(super) const fn codec_k<B: BlockK>() -> Codec {
    Codec {
        decode: decode_k::<B>,
        encode: |src, out| encode(src, out, B::encode),
        activation: DType::Q8_K,
        dot: Some(dot_k::<B>),
    }
}

/// The blocks of a row, wherever its bytes lie.
pub(super) fn blocks<B: Pod>(row: &[u8]) -> impl Iterator<Item = B> {
    row.chunks_exact(size_of::<B>()).map(bytemuck::pod_read_unaligned)
}

/// Encodes a row of whole blocks of `N` elements.
pub(super) fn encode<B: Pod, const N: usize>(src: &[f32], out: &mut [u8], block: fn(&[f32; N]) -> B) {
    for (x, out) in src.as_chunks::<N>().0.iter().zip(out.chunks_exact_mut(size_of::<B>())) {
        out.copy_from_slice(bytemuck::bytes_of(&block(x)));
    }
}

fn decode32<B: Block32>(row: &[u8], out: &mut [f32]) {
    for (block, out) in blocks::<B>(row).zip(out.as_chunks_mut::<32>().0) {
        let (d, m) = (block.scale(), block.min());
        for (q, o) in block.quants().into_iter().zip(out) {
            let x = f32::from(q) * d;
            *o = if B::HAS_MIN { x + m } else { x };
        }
    }
}

fn decode_k<B: BlockK>(row: &[u8], out: &mut [f32]) {
    for (block, out) in blocks::<B>(row).zip(out.as_chunks_mut::<256>().0) {
        let (scales, mins, quants) = (block.scales(), block.mins(), block.quants());
        for (i, (q, o)) in quants.into_iter().zip(out).enumerate() {
            let x = block.scale() * f32::from(scales[i / B::SUB]) * f32::from(q);
            *o = if B::HAS_MIN { x - block.min() * f32::from(mins[i / B::SUB]) } else { x };
        }
    }
}

/// The sum of products of quants, exact for every length of this module.
fn products(w: &[i8], x: &[i8]) -> i32 {
    w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
}

/// The exact integer sum of a block, one fused multiply-add for it, and one for the minimum.
fn dot32<B: Block32>(w: &[u8], x: &[u8]) -> f32 {
    let mut acc = 0f32;
    if B::HAS_MIN {
        for (w, x) in blocks::<B>(w).zip(blocks::<BlockQ8_1>(x)) {
            acc = (w.scale() * x.d.to_f32()).mul_add(products(&w.quants(), &x.qs) as f32, acc);
            acc = w.min().mul_add(x.s.to_f32(), acc);
        }
    } else {
        for (w, x) in blocks::<B>(w).zip(blocks::<BlockQ8_0>(x)) {
            acc = (w.scale() * x.d.to_f32()).mul_add(products(&w.quants(), &x.qs) as f32, acc);
        }
    }
    acc
}

/// The exact integer sum of a super-block under its small scales, one fused multiply-add for it, and one for the
/// exact integer sum of the minima.
fn dot_k<B: BlockK>(w: &[u8], x: &[u8]) -> f32 {
    let mut acc = 0f32;
    for (w, x) in blocks::<B>(w).zip(blocks::<BlockQ8_K>(x)) {
        let (scales, mins, quants) = (w.scales(), w.mins(), w.quants());
        let (mut sum, mut min_sum) = (0i32, 0i32);
        for i in 0..16 {
            let sub = i * 16 / B::SUB;
            let (from, to) = (16 * i, 16 * i + 16);
            sum += i32::from(scales[sub]) * products(&quants[from..to], &x.qs[from..to]);
            min_sum += i32::from(mins[sub]) * i32::from(x.bsums[i]);
        }
        acc = (w.scale() * x.d).mul_add(sum as f32, acc);
        if B::HAS_MIN {
            acc = (-(w.min() * x.d)).mul_add(min_sum as f32, acc);
        }
    }
    acc
}

/// Eight values as the first of sixteen.
pub(super) fn low_eight<T: Copy + Default>(values: [T; 8]) -> [T; 16] {
    std::array::from_fn(|j| values.get(j).copied().unwrap_or_default())
}
