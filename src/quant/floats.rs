//! F32, F16 and BF16: plain little-endian elements. Activations that meet them stay f32.
//!
//! Conversion from f16 and bf16 is exact; to them it rounds to nearest, ties to even.

use super::{Codec, DType};

/// The codec of F32.
pub(super) static F32: Codec = Codec {
    decode: |bytes, out| {
        for (b, o) in bytes.chunks_exact(4).zip(out) {
            *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
    },
    encode: |src, out| {
        for (s, b) in src.iter().zip(out.chunks_exact_mut(4)) {
            b.copy_from_slice(&s.to_le_bytes());
        }
    },
    activation: DType::F32,
};

/// The codec of F16.
pub(super) static F16: Codec = Codec {
    decode: |bytes, out| {
        for (b, o) in bytes.chunks_exact(2).zip(out) {
            *o = half::f16::from_le_bytes([b[0], b[1]]).to_f32();
        }
    },
    encode: |src, out| {
        for (s, b) in src.iter().zip(out.chunks_exact_mut(2)) {
            b.copy_from_slice(&half::f16::from_f32(*s).to_le_bytes());
        }
    },
    activation: DType::F32,
};

/// The codec of BF16.
pub(super) static BF16: Codec = Codec {
    decode: |bytes, out| {
        for (b, o) in bytes.chunks_exact(2).zip(out) {
            *o = half::bf16::from_le_bytes([b[0], b[1]]).to_f32();
        }
    },
    encode: |src, out| {
        for (s, b) in src.iter().zip(out.chunks_exact_mut(2)) {
            b.copy_from_slice(&half::bf16::from_f32(*s).to_le_bytes());
        }
    },
    activation: DType::F32,
};
