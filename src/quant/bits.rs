//! How codes are laid out in the bytes of blocks: nibbles in halves, high bits in planes, packed scales.
//!
//! A code is what a block stores for one element, 0 to 2^bits - 1, in the order of the elements. Every unpacking
//! function has its packing beside it.

/// 32 codes of 4 bits: byte j holds element j (low) and element j + 16 (high).
pub(super) fn nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|j| (qs[j % 16] >> (4 * (j / 16))) & 15)
}

/// The inverse of [`nibbles`]; bits above the fourth are left out.
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| (codes[j] & 15) | ((codes[j + 16] & 15) << 4))
}

/// 32 codes of 5 bits: nibbles, and bit j of `qh` (little-endian) as the fifth bit of element j.
pub(super) fn fives(qs: &[u8; 16], qh: &[u8; 4]) -> [u8; 32] {
    let (low, high) = (nibbles(qs), u32::from_le_bytes(*qh));
    std::array::from_fn(|j| low[j] | ((high >> j & 1) as u8) << 4)
}

/// The fifth bits of 32 codes, the inverse of what [`fives`] reads from `qh`.
pub(super) fn pack_fifth(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().rev().fold(0u32, |bits, c| bits << 1 | u32::from(c >> 4 & 1));
    bits.to_le_bytes()
}

/// Where element `e` of a super-block lies among planes of `bits` bits: its byte and the shift in it. Each run of
/// 32 bytes holds the planes of `32 * 8 / bits` consecutive elements, 32 at a time, lowest bits first.
fn plane(e: usize, bits: usize) -> (usize, usize) {
    let run = 256 / bits;
    (e / run * 32 + e % 32, e % run / 32 * bits)
}

/// 256 values of `bits` bits (1, 2 or 4) from planes; `N` is `32 * bits`.
pub(super) fn planes<const N: usize>(bytes: &[u8; N]) -> [u8; 256] {
    let bits = N / 32;
    std::array::from_fn(|e| {
        let (byte, shift) = plane(e, bits);
        bytes[byte] >> shift & ((1 << bits) - 1)
    })
}

/// The inverse of [`planes`] for the bits of each code from bit `from` up.
pub(super) fn pack_planes<const N: usize>(codes: &[u8; 256], from: u32) -> [u8; N] {
    let (bits, mut bytes) = (N / 32, [0u8; N]);
    for (e, code) in codes.iter().enumerate() {
        let (byte, shift) = plane(e, bits);
        bytes[byte] |= (code >> from & ((1 << bits) - 1)) << shift;
    }
    bytes
}

/// Eight scales and eight minima of 6 bits in 12 bytes (Q4_K and Q5_K). The first four of each lie in the low bits
/// of bytes 0 to 7; of the other four the low nibbles are in bytes 8 to 11 and the high bits on top of the first.
pub fn scales_and_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0u8; 8], [0u8; 8]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | (packed[j] >> 6) << 4;
        mins[j + 4] = (packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4;
    }
    (scales, mins)
}

/// The inverse of [`scales_and_mins`].
pub(super) fn pack_scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0u8; 12];
    for j in 0..4 {
        packed[j] = (scales[j] & 63) | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = (mins[j] & 63) | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
    packed
}

/// Sixteen scales of 6 bits in 12 bytes (Q3_K), less 32: nibbles in bytes 0 to 7 (the first eight low, the others
/// high), the two high bits of scale s in byte 8 + s mod 4 from bit 2 (s / 4) up.
pub fn signed_scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|s| {
        let low = packed[s % 8] >> (4 * (s / 8)) & 15;
        let high = packed[8 + s % 4] >> (2 * (s / 4)) & 3;
        (low | high << 4).cast_signed() - 32
    })
}

/// The inverse of [`signed_scales`], for scales from -32 to 31.
pub(super) fn pack_signed_scales(scales: &[i8; 16]) -> [u8; 12] {
    let mut packed = [0u8; 12];
    for (s, scale) in scales.iter().enumerate() {
        let code = (scale + 32).cast_unsigned();
        packed[s % 8] |= (code & 15) << (4 * (s / 8));
        packed[8 + s % 4] |= (code >> 4 & 3) << (2 * (s / 4));
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for _ in 0..50 {
            let codes: [u8; 32] = std::array::from_fn(|_| next() & 31);
            assert_eq!(nibbles(&pack_nibbles(&codes)), codes.map(|c| c & 15));
            assert_eq!(fives(&pack_nibbles(&codes), &pack_fifth(&codes)), codes);
            let codes: [u8; 256] = std::array::from_fn(|_| next());
            assert_eq!(planes(&pack_planes::<32>(&codes, 4)), codes.map(|c| c >> 4 & 1));
            assert_eq!(planes(&pack_planes::<64>(&codes, 2)), codes.map(|c| c >> 2 & 3));
            assert_eq!(planes(&pack_planes::<128>(&codes, 0)), codes.map(|c| c & 15));
            let packed: [u8; 12] = std::array::from_fn(|_| next());
            let (scales, mins) = scales_and_mins(&packed);
            assert_eq!(pack_scales_and_mins(&scales, &mins), packed);
            assert_eq!(pack_signed_scales(&signed_scales(&packed)), packed);
        }
    }

    #[test]
    fn planes_of_four_bits_are_nibbles_of_64_elements() {
        let mut bytes = [0u8; 128];
        (bytes[0], bytes[33]) = (0x21, 0x43);
        let codes = planes(&bytes);
        assert_eq!([codes[0], codes[32], codes[65], codes[97]], [1, 2, 3, 4]);
        assert_eq!(codes.iter().filter(|c| **c != 0).count(), 4);
    }
}
