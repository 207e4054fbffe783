//! Q8_0: 32 signed bytes under one f16 scale, 34 bytes. Also the activation type that meets it.
//!
//! Source: `block_q8_0` in `ggml-common.h`; quantisation as ggml's x86 code does it: `d = amax / 127` stored as
//! f16, quants with `id = 127 / amax` in f32, rounded to nearest, ties to even. (Its generic code rounds ties
//! away from zero: the x86 rule is the one here, for every instruction set.) One rule is our own: where the
//! factor overflows, quants are 0. All bits are promised for finite input.

use super::{Codec, DType};
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
pub(super) static CODEC: Codec = Codec {
    decode: |bytes, out| {
        for (b, o) in bytes.chunks_exact(34).zip(out.chunks_exact_mut(32)) {
            let d = f16::from_le_bytes([b[0], b[1]]).to_f32();
            for (q, o) in b[2..].iter().zip(o) {
                *o = d * f32::from(q.cast_signed());
            }
        }
    },
    encode: |src, out| {
        for (s, b) in src.chunks_exact(32).zip(out.chunks_exact_mut(34)) {
            let block = quantize_block(s);
            b.copy_from_slice(bytemuck::bytes_of(&block));
        }
    },
    activation: DType::Q8_0,
};

/// Quantises a row of whole blocks; `src.len() == 32 * out.len()`.
pub fn quantize_row(src: &[f32], out: &mut [BlockQ8_0]) {
    for (s, b) in src.chunks_exact(32).zip(out) {
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

fn quantize_block(s: &[f32]) -> BlockQ8_0 {
    let amax = s.iter().fold(0f32, |m, x| if x.abs() > m { x.abs() } else { m });
    let (id, d) = BlockQ8_0::scales(amax);
    let mut qs = [0i8; 32];
    for (q, x) in qs.iter_mut().zip(s) {
        *q = (x * id).round_ties_even() as i8;
    }
    BlockQ8_0 { d: f16::from_f32(d), qs }
}
