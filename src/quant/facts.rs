//! What libggml says about bytes and numbers that a small generator makes: decoded values and activation blocks.
//!
//! Facts of `dequantize_row_*` (libggml-base) and `quantize_row_q8_*` (libggml-cpu, x86-64). A fact is a hash of all
//! bytes of the result, so that every bit counts, and some values for people.

#![allow(clippy::excessive_precision)] // the digits that the reference prints

use super::{DType, TYPES};

/// Bytes of a linear congruential generator.
pub(super) fn bytes(seed: u32, n: usize) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..n).map(step).collect()
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

fn row(seed: u32, n: usize) -> Vec<f32> {
    let pair = bytes(seed, n).into_iter().zip(bytes(seed + 2, n));
    pair.map(|(a, b)| (f32::from(a) - 128.0) * (f32::from(b) + 1.0) / 64.0).collect()
}

#[test]
fn four_blocks_of_any_bytes_decode_as_in_ggml() {
    // The type, the seed, elements 0, (one block's half + 1) and (3 blocks + 5), the hash.
    let facts: [(DType, u32, [f32; 3], u64); 13] = [
        (DType::Q4_0, 2, [-171520.0, 64320.0, -7804.0], 0x3c8a_6904_e9b9_746d),
        (DType::Q4_1, 1, [4787.71875, 1994.718505859375, 32005.99609375], 0x8d87_fa0f_7445_b25d),
        (DType::Q5_0, 1, [2394.0, -3192.0, 0.0005346536636352539], 0x3692_6124_e92e_cd89),
        (DType::Q5_1, 2, [471678.6875, 235838.703125, -0.1664278507232666], 0x50d2_559e_3d6f_2b83),
        (DType::Q8_0, 1, [-50673.0, -47880.0, -9440.0], 0x383f_23ed_1c03_4476),
        (DType::Q2_K, 1, [-0.0010135173797607422, -0.01357269287109375, 4076.25], 0xe754_f4bc_e3ee_61f3),
        (DType::Q3_K, 1, [-110.0859375, -104.84375, 3.3607177734375], 0x484b_080b_ea36_da79),
        (DType::Q4_K, 1, [57457.125, 11174.533203125, 20062.2265625], 0xe866_df1f_ffc8_57d9),
        (DType::Q5_K, 1, [33517.125, 75413.53125, -835.248046875], 0x96a2_d7ee_8888_4590),
        (DType::Q6_K, 2, [433.984375, 679.999267578125, -584706.0], 0xb58c_4204_2146_f030),
        (
            DType::Q8_K,
            1,
            [-2.8916024348291103e-06, 1.9759283532039262e-05, -5.584210471669154e+24],
            0x55d9_4079_dff3_5db4,
        ),
        (DType::IQ4_NL, 2, [-2722880.0, 814720.0, -78040.0], 0xc36c_7856_0e08_de07),
        (DType::IQ4_XS, 1, [78204.0, 103740.0, 1787136.0], 0xc958_0eec_ce59_6f91),
    ];
    for (dtype, seed, values, want) in facts {
        let (block, bytes) = (dtype.block(), bytes(seed, 4 * dtype.info().bytes as usize));
        let mut out = vec![0f32; 4 * block];
        (dtype.codec().unwrap().decode)(&bytes, &mut out);
        assert_eq!([out[0], out[block / 2 + 1], out[3 * block + 5]], values, "{dtype}");
        let all: Vec<u8> = out.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(hash(&all), want, "{dtype}");
    }
}

#[test]
fn activations_become_the_blocks_that_ggml_makes() {
    let x = row(7, 1024);
    assert_eq!(x[..3], [-64.90625, 41.015_625, 110.25]);
    for (dtype, want) in [
        (DType::Q8_0, 0xe50c_04b3_a093_d314),
        (DType::Q8_1, 0xf9d1_797a_51c6_0d6c),
        (DType::Q8_K, 0xa61f_4d36_654e_176f_u64),
    ] {
        let mut out = vec![0u8; dtype.row_bytes(1024).unwrap()];
        (dtype.codec().unwrap().encode)(&x, &mut out);
        assert_eq!(hash(&out), want, "{dtype}");
    }
}

#[test]
fn q8_k_takes_the_first_of_equal_magnitudes_and_stops_at_127() {
    let mut x = [0f32; 256];
    (x[3], x[9], x[10], x[200]) = (-2.0, 2.0, 1.0, 2.0);
    let mut blocks = [super::BlockQ8_K { d: 9.0, qs: [9; 256], bsums: [9; 16] }];
    super::quantize_row_q8_k(&x, &mut blocks);
    let [block] = blocks;
    // -127 / -2 = 63.5: -2 becomes -127, 2 becomes 127, 1 is a tie and goes to the even 64.
    assert_eq!((block.qs[3], block.qs[9], block.qs[10], block.qs[200]), (-127, 127, 64, 127));
    assert_eq!((block.d, block.bsums[0], block.bsums[12]), (1.0 / 63.5, 64, 127));
    // Too small for a factor, and zeros: nothing is left of what was in the block.
    for tiny in [0.0, 1e-40] {
        super::quantize_row_q8_k(&[tiny; 256], &mut blocks);
        assert_eq!(blocks[0], super::BlockQ8_K { d: 0.0, qs: [0; 256], bsums: [0; 16] });
    }
}

#[test]
fn q8_1_keeps_the_scaled_sum() {
    let mut x = [0f32; 32];
    (x[0], x[1], x[31]) = (254.0, -3.0, 2.0);
    let mut blocks = [super::BlockQ8_1 { d: half::f16::ONE, s: half::f16::ONE, qs: [1; 32] }];
    super::quantize_row_q8_1(&x, &mut blocks);
    // The scale is 2: -1.5 goes to the even -2, and the sum is (127 - 2 + 1) * 2.
    assert_eq!((blocks[0].d.to_f32(), blocks[0].s.to_f32()), (2.0, 252.0));
    assert_eq!((blocks[0].qs[0], blocks[0].qs[1], blocks[0].qs[31]), (127, -2, 1));
}

/// The product of decoded rows in f64. For Q8_1 the minimum meets the stored sum, not the sum of what is stored.
#[test]
fn products_are_those_of_the_decoded_rows() {
    for info in TYPES {
        let dtype = DType::from_id(info.id).unwrap();
        let Some(codec) = dtype.weight_codec() else { continue };
        let Some(dot) = codec.dot else { continue };
        let (w, x) = (row(11, 1024), row(23, 1024));
        let (mut wb, mut xb) =
            (vec![0; dtype.row_bytes(1024).unwrap()], vec![0; codec.activation.row_bytes(1024).unwrap()]);
        (codec.encode)(&w, &mut wb);
        (codec.activation.codec().unwrap().encode)(&x, &mut xb);
        let (mut w, mut x) = (w, x);
        (codec.decode)(&wb, &mut w);
        (codec.activation.codec().unwrap().decode)(&xb, &mut x);
        let exact: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let size: f64 = w.iter().zip(&x).map(|(w, x)| (f64::from(*w) * f64::from(*x)).abs()).sum();
        // f16 sums of Q8_1 are good to 2^-11.
        let bound = if codec.activation == DType::Q8_1 { 5e-4 } else { 1e-6 };
        let got = f64::from(dot(&wb, &xb));
        assert!((got - exact).abs() <= bound * size, "{dtype}: {got} {exact}");
    }
}

/// Numbers at which another order of the steps, or one rounding more or less, would give other bits.
#[test]
fn the_chain_of_a_product_is_the_documented_one() {
    let (w, x) = (row(31, 1024), row(41, 1024));
    for dtype in [DType::Q4_0, DType::Q5_1, DType::Q3_K, DType::Q5_K] {
        let codec = dtype.codec().unwrap();
        let act = codec.activation;
        let (block, w_bytes, x_bytes) =
            (dtype.block().max(act.block()), dtype.info().bytes as usize, act.info().bytes as usize);
        let (mut wb, mut xb) =
            (vec![0; dtype.row_bytes(1024).unwrap()], vec![0; act.row_bytes(1024).unwrap()]);
        (codec.encode)(&w, &mut wb);
        (act.codec().unwrap().encode)(&x, &mut xb);
        let mut want = 0f32;
        for (w, x) in wb.chunks(w_bytes).zip(xb.chunks(x_bytes)) {
            want = chain(dtype, w, x, want);
        }
        assert_eq!(codec.dot.unwrap()(&wb, &xb).to_bits(), want.to_bits(), "{dtype} {block}");
    }
}

/// One block of the chain, from what the formats say, written out for each type.
fn chain(dtype: DType, w: &[u8], x: &[u8], acc: f32) -> f32 {
    let f16 = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
    let int = |b: u8| i32::from(b.cast_signed());
    match dtype {
        DType::Q4_0 => {
            let sum: i32 =
                (0..32).map(|j| (i32::from(w[2 + j % 16] >> (j / 16 * 4) & 15) - 8) * int(x[2 + j])).sum();
            (f16(w) * f16(x)).mul_add(sum as f32, acc)
        }
        DType::Q5_1 => {
            let high = u32::from_le_bytes([w[4], w[5], w[6], w[7]]);
            let code = |j: usize| i32::from(w[8 + j % 16] >> (j / 16 * 4) & 15) + 16 * (high >> j & 1) as i32;
            let sum: i32 = (0..32).map(|j| code(j) * int(x[4 + j])).sum();
            f16(&w[2..]).mul_add(f16(&x[2..]), (f16(w) * f16(x)).mul_add(sum as f32, acc))
        }
        DType::Q3_K => {
            let d_x = f32::from_le_bytes([x[0], x[1], x[2], x[3]]);
            let mut sum = 0;
            for e in 0..256 {
                let low = i32::from(w[32 + e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3);
                let high = i32::from(w[e % 32] >> (e / 32) & 1);
                let s = e / 16;
                let scale = i32::from(w[96 + s % 8] >> (s / 8 * 4) & 15)
                    + 16 * i32::from(w[104 + s % 4] >> (s / 4 * 2) & 3)
                    - 32;
                sum += scale * (low + 4 * high - 4) * int(x[4 + e]);
            }
            (f16(&w[108..]) * d_x).mul_add(sum as f32, acc)
        }
        _ => {
            let d_x = f32::from_le_bytes([x[0], x[1], x[2], x[3]]);
            let s = &w[4..16];
            let (mut sum, mut mins) = (0, 0);
            for e in 0..256 {
                let j = e / 32;
                let (scale, min) = if j < 4 {
                    (s[j] & 63, s[j + 4] & 63)
                } else {
                    ((s[j + 4] & 15) + (s[j - 4] >> 6) * 16, (s[j + 4] >> 4) + (s[j] >> 6) * 16)
                };
                let low = i32::from(w[48 + e / 64 * 32 + e % 32] >> (e % 64 / 32 * 4) & 15);
                let code = low + 16 * i32::from(w[16 + e % 32] >> j & 1);
                sum += i32::from(scale) * code * int(x[4 + e]);
                mins += i32::from(min) * int(x[4 + e]);
            }
            let acc = (f16(w) * d_x).mul_add(sum as f32, acc);
            (-(f16(&w[2..]) * d_x)).mul_add(mins as f32, acc)
        }
    }
}
