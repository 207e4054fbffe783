//! F32, F16 and BF16: plain little-endian elements. Activations that meet them stay f32.
//!
//! Conversion from f16 and bf16 is exact; to them it rounds to nearest, ties to even.

use super::{Codec, DType};
use crate::ops::math::dot16;

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
    dot: Some(|w, x| dot(&F32, 4, w, x)),
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
    dot: Some(|w, x| dot(&F16, 2, w, x)),
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
    dot: Some(|w, x| dot(&BF16, 2, w, x)),
};

/// Sixteen partial sums along the decoded rows; an element of the weights has `bytes` bytes.
fn dot(codec: &Codec, bytes: usize, w: &[u8], x: &[u8]) -> f32 {
    let (mut weights, mut acts) = (vec![0f32; w.len() / bytes], vec![0f32; x.len() / 4]);
    (codec.decode)(w, &mut weights);
    (F32.decode)(x, &mut acts);
    dot16(&weights, &acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(codec: &Codec, bits: u16) -> f32 {
        let mut out = [0f32];
        (codec.decode)(&bits.to_le_bytes(), &mut out);
        out[0]
    }

    fn encode(codec: &Codec, x: f32) -> u16 {
        let mut out = [0u8; 2];
        (codec.encode)(&[x], &mut out);
        u16::from_le_bytes(out)
    }

    /// An f16 pattern in plain arithmetic.
    fn f16_value(bits: u16) -> f64 {
        let (e, m) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let two_to = |n: i32| f64::from_bits(((1023 + n) as u64) << 52);
        let x = if e == 0 { m * two_to(-24) } else { (1024.0 + m) * two_to(e - 25) };
        if bits >> 15 == 1 { -x } else { x }
    }

    #[test]
    fn every_f16_decodes_exactly_and_comes_back() {
        for bits in 0..=u16::MAX {
            let x = decode(&F16, bits);
            match (bits & 0x7c00 == 0x7c00, bits & 0x03ff == 0) {
                (true, true) => assert!(x.is_infinite() && x.is_sign_negative() == (bits >> 15 == 1)),
                (true, false) => assert!(x.is_nan()),
                _ => {
                    assert_eq!(f64::from(x), f16_value(bits), "{bits:#x}");
                    assert_eq!(encode(&F16, x), bits);
                }
            }
        }
    }

    #[test]
    fn every_bf16_is_the_upper_half_of_an_f32() {
        for bits in 0..=u16::MAX {
            let x = decode(&BF16, bits);
            let upper = u32::from(bits) << 16;
            if f32::from_bits(upper).is_nan() {
                assert!(x.is_nan());
            } else {
                assert_eq!(x.to_bits(), upper);
                assert_eq!(encode(&BF16, x), bits);
            }
        }
    }

    #[test]
    fn encoding_rounds_to_nearest_even() {
        for (codec, step) in [(&F16, f16_value(0x3c01) as f32 - 1.0), (&BF16, 1.0 / 128.0)] {
            let one = encode(codec, 1.0);
            let at = |steps: f32| encode(codec, 1.0 + steps * step) - one;
            assert_eq!([at(0.5), at(0.51), at(1.49), at(1.5), at(2.5)], [0, 1, 1, 2, 2]);
        }
    }

    #[test]
    fn f32_is_its_own_bytes() {
        let x = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, -f32::MAX];
        let mut bytes = [0u8; 20];
        (F32.encode)(&x, &mut bytes);
        let mut back = [1f32; 5];
        (F32.decode)(&bytes, &mut back);
        assert_eq!(x.map(f32::to_bits), back.map(f32::to_bits));
    }
}
