//! Blocks of quantised activations, made of vectors: the bits of the codecs in `src/quant`.

use super::simd::{LANES, Simd};
use crate::quant::{
    BlockQ8_0, BlockQ8_1, BlockQ8_K, DType, quantize_row_q8_0, quantize_row_q8_1, quantize_row_q8_k,
};
use half::f16;

/// Most vectors of a block.
const MOST: usize = 16;

/// A type of blocks that activations are quantised to.
pub(super) trait ActBlock: bytemuck::Pod {
    /// The type.
    const TYPE: DType;
    /// Elements of a block: at most sixteen vectors.
    const ELEMENTS: usize;
    /// The oracle: a row of whole blocks.
    fn reference(x: &[f32], out: &mut [Self]);
    /// The block of the first `ELEMENTS / 16` vectors.
    fn make<S: Simd>(s: S, v: &[S::V; MOST]) -> Self;
}

/// Makes a block of `B::ELEMENTS` elements, each vector of which is `$v`, an expression of its number `$i`.
macro_rules! block {
    ($s:expr, $b:ty, $i:ident => $v:expr) => {{
        let mut v = [$s.zero(); 16];
        for ($i, v) in v.iter_mut().enumerate().take(<$b>::ELEMENTS / $crate::backends::cpu::simd::LANES) {
            *v = $v;
        }
        <$b>::make($s, &v)
    }};
}
pub(super) use block;

/// The quants of 32 elements, and their scale before it is rounded to f16.
#[inline(always)]
fn quants_32<S: Simd>(s: S, v: &[S::V; MOST]) -> ([i8; 32], f32) {
    let (id, d) = BlockQ8_0::scales(s.max_lane(s.max(s.abs(v[0]), s.abs(v[1]))));
    let mut qs = [0i8; 32];
    for (q, v) in qs.as_chunks_mut::<LANES>().0.iter_mut().zip(v) {
        s.store_i8(s.mul(*v, s.splat(id)), q);
    }
    (qs, d)
}

impl ActBlock for BlockQ8_0 {
    const TYPE: DType = DType::Q8_0;
    const ELEMENTS: usize = 32;

    fn reference(x: &[f32], out: &mut [Self]) {
        quantize_row_q8_0(x, out);
    }
    #[inline(always)]
    fn make<S: Simd>(s: S, v: &[S::V; MOST]) -> Self {
        let (qs, d) = quants_32(s, v);
        BlockQ8_0 { d: f16::from_bits(s.f16_bits(d)), qs }
    }
}

impl ActBlock for BlockQ8_1 {
    const TYPE: DType = DType::Q8_1;
    const ELEMENTS: usize = 32;

    fn reference(x: &[f32], out: &mut [Self]) {
        quantize_row_q8_1(x, out);
    }
    #[inline(always)]
    fn make<S: Simd>(s: S, v: &[S::V; MOST]) -> Self {
        let (qs, d) = quants_32(s, v);
        let sum: i32 = qs.iter().map(|q| i32::from(*q)).sum();
        let [d16, s16] = [d, d * sum as f32].map(|x| f16::from_bits(s.f16_bits(x)));
        BlockQ8_1 { d: d16, s: s16, qs }
    }
}

impl ActBlock for BlockQ8_K {
    const TYPE: DType = DType::Q8_K;
    const ELEMENTS: usize = 256;

    fn reference(x: &[f32], out: &mut [Self]) {
        quantize_row_q8_k(x, out);
    }
    #[inline(always)]
    fn make<S: Simd>(s: S, v: &[S::V; MOST]) -> Self {
        let (mut top, mut bottom) = (v[0], s.neg(v[0]));
        for v in &v[1..] {
            (top, bottom) = (s.max(top, *v), s.max(bottom, s.neg(*v)));
        }
        let (top, bottom) = (s.max_lane(top), s.max_lane(bottom));
        // Both signs reach the largest magnitude: the first element that does decides.
        let max = if top > bottom {
            top
        } else if top < bottom {
            -bottom
        } else {
            first_of_magnitude(s, v, top)
        };
        let (id, d) = BlockQ8_K::scales(max);
        let (mut qs, mut bsums) = ([0i8; 256], [0i16; 16]);
        for ((q, v), sum) in qs.as_chunks_mut::<LANES>().0.iter_mut().zip(v).zip(&mut bsums) {
            s.store_i8(s.mul(*v, s.splat(id)), q);
            *sum = q.iter().map(|q| i16::from(*q)).sum();
        }
        BlockQ8_K { d, qs, bsums }
    }
}

/// The first element of this magnitude; 0 if there is none.
#[inline(always)]
fn first_of_magnitude<S: Simd>(s: S, v: &[S::V; MOST], magnitude: f32) -> f32 {
    let mut x = [0f32; LANES * MOST];
    for (x, v) in x.as_chunks_mut::<LANES>().0.iter_mut().zip(v) {
        s.store(*v, x);
    }
    x.into_iter().find(|x| x.abs() == magnitude).unwrap_or(0.0)
}
