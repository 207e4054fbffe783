//! The 256-element types: every instruction set against the oracle, over all patterns of scales and the largest sums.

use super::*;
use crate::ops::{linear, linear_qkv, linear_swiglu};

/// The types, and where in a block the f16 scales are.
const K_TYPES: [(DType, &str, &[usize]); 6] = [
    (DType::Q2_K, "q2_k", &[80, 82]),
    (DType::Q3_K, "q3_k", &[108]),
    (DType::Q4_K, "q4_k", &[0, 2]),
    (DType::Q5_K, "q5_k", &[0, 2]),
    (DType::Q6_K, "q6_k", &[208]),
    (DType::IQ4_XS, "iq4_xs", &[0]),
];

/// Blocks of random bytes under scales of every finite kind.
fn weight(r: &mut Random, dtype: DType, m: usize, n: usize) -> Vec<u8> {
    let (_, _, places) = K_TYPES.iter().find(|(t, ..)| *t == dtype).unwrap();
    let mut out: Vec<u8> = (0..m * dtype.row_bytes(n).unwrap()).map(|_| (r.next() >> 32) as u8).collect();
    for block in out.chunks_exact_mut(dtype.info().bytes as usize) {
        for at in *places {
            let d = match r.next() % 16 {
                0 => half::f16::from_bits((r.next() % 1024) as u16),
                1 => half::f16::from_f32(-0.03),
                2 => half::f16::ZERO,
                3 => half::f16::MAX,
                _ => half::f16::from_f32(r.value()),
            };
            block[*at..at + 2].copy_from_slice(&d.to_le_bytes());
        }
    }
    out
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|i| i.available())
}

#[test]
fn products_are_the_oracle() {
    for (dtype, name, _) in K_TYPES {
        let kernels = rows_for("linear", name);
        let shapes = [
            (1, 256, &[1, 2, 3, 4, 5, 7, 13][..]),
            (5, 512, &[1, 4, 6, 9]),
            (17, 768, &[1, 3, 5, 32]),
            (33, 256, &[1, 2, 8, 40]),
            (100, 1280, &[1, 4, 17]),
            // Blocks of all rows that are no whole number of steps.
            (7, 1280, &[1, 2]),
        ];
        for (i, (m, n, all_rows)) in shapes.into_iter().enumerate() {
            for (j, rows) in all_rows.iter().copied().enumerate() {
                let mut r = Random::new((m * 1000 + n * 7 + rows) as u64);
                let x = r.values(rows * n);
                let weight = weight(&mut r, dtype, m, n);
                let acts = acts_for(dtype, &x, rows, n);
                let mut expected = vec![0f32; rows * m];
                linear::reference(dtype, &weight, &acts.content, n, None, &mut expected);
                let args = [acts, Value::weight(dtype, m, n, weight)];
                let outs = [Value::result(DType::F32, rows, m)];
                let op = Op::Linear(linear::Attrs);
                for k in &kernels {
                    let threads = 1 + (i + j) as u32 % 3;
                    let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                    same(&format!("{} m={m} n={n} rows={rows}", k.name), &got[0], &expected);
                }
            }
        }
    }
}

/// One byte in a whole block, so that every field is at an extreme, against activations at theirs.
#[test]
fn the_largest_sums_are_exact() {
    let n = 512;
    for (dtype, name, places) in K_TYPES {
        let fills = [0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x88, 0x55, 0xaa, 0x08, 0x81];
        let mut weight = Vec::new();
        let size = dtype.info().bytes as usize;
        for fill in fills {
            for scales in fills {
                // The fields that hold scales are somewhere in a block: a second byte for the first 16 bytes
                // and the last 18 reaches them in every type.
                let mut block = vec![fill; size];
                block[..16].fill(scales);
                block[size - 18..].fill(scales);
                for at in places {
                    block[*at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                }
                weight.extend(block.repeat(n / 256));
            }
        }
        let m = fills.len() * fills.len();
        for rows in [1, 3, 4, 13] {
            let x: Vec<f32> = (0..rows * n)
                .map(|i| match (i / n + rows) % 4 {
                    0 => 1.0,
                    1 => -1.0,
                    2 => [1.0, -1.0][i % 2],
                    _ => [1.0, 1.0, -1.0, -1.0][i % 4],
                })
                .collect();
            let acts = acts_for(dtype, &x, rows, n);
            let mut expected = vec![0f32; rows * m];
            linear::reference(dtype, &weight, &acts.content, n, None, &mut expected);
            for isa in available() {
                let got = matmul(dtype, isa, &weight, m, n, &x).unwrap();
                same(&format!("{name} {isa} rows={rows}"), &bytes(&got), &expected);
            }
        }
    }
}

#[test]
fn long_rows_cross_every_cut() {
    for (dtype, n, rows) in [(DType::Q4_K, 24_576, 40), (DType::Q6_K, 2048, 400), (DType::Q3_K, 11_008, 50)] {
        let m = 37;
        let mut r = Random::new(11);
        let x = r.values(rows * n);
        let weight = weight(&mut r, dtype, m, n);
        let acts = acts_for(dtype, &x, rows, n);
        let mut expected = vec![0f32; rows * m];
        linear::reference(dtype, &weight, &acts.content, n, None, &mut expected);
        for isa in available().filter(|i| *i != Isa::Scalar) {
            let got = matmul(dtype, isa, &weight, m, n, &x).unwrap();
            same(&format!("{dtype} {isa} n={n} rows={rows}"), &bytes(&got), &expected);
        }
    }
}

#[test]
fn mixed_types_share_activations() {
    let n = 512;
    for rows in [1, 4, 7, 20] {
        let mut r = Random::new(rows as u64);
        let x = r.values(rows * n);
        let acts = acts_for(DType::Q4_K, &x, rows, n);
        let (types, ms) = ([DType::Q4_K, DType::Q5_K, DType::Q6_K], [65, 17, 32]);
        let weights: Vec<_> = types.iter().zip(ms).map(|(t, m)| weight(&mut r, *t, m, n)).collect();
        let mut expected = ms.map(|m| vec![0f32; rows * m]);
        let [q, k, v] = &mut expected;
        let w = |i: usize| (types[i], &weights[i][..], None);
        linear_qkv::reference([w(0), w(1), w(2)], &acts.content, n, [q, k, v]);
        let mut args = vec![acts];
        args.extend((0..3).map(|i| Value::weight(types[i], ms[i], n, weights[i].clone())));
        let outs = ms.map(|m| Value::result(DType::F32, rows, m));
        for kernel in rows_for("linear_qkv", "mixed") {
            let op = Op::LinearQkv(linear_qkv::Attrs);
            let got = run(kernel, &op, &args, &outs, &mut Around::nothing(), 2);
            for i in 0..3 {
                same(&format!("{} rows={rows} [{i}]", kernel.name), &got[i], &expected[i]);
            }
        }

        let (types, m) = ([DType::IQ4_XS, DType::Q2_K], 77);
        let weights: Vec<_> = types.iter().map(|t| weight(&mut r, *t, m, n)).collect();
        let acts = acts_for(DType::Q2_K, &x, rows, n);
        let mut expected = vec![0f32; rows * m];
        linear_swiglu::reference(types, [&weights[0], &weights[1]], &acts.content, n, &mut expected);
        let args = [
            acts,
            Value::weight(types[0], m, n, weights[0].clone()),
            Value::weight(types[1], m, n, weights[1].clone()),
        ];
        for kernel in rows_for("linear_swiglu", "mixed") {
            let op = Op::LinearSwiglu(linear_swiglu::Attrs);
            let outs = [Value::result(DType::F32, rows, m)];
            let got = run(kernel, &op, &args, &outs, &mut Around::nothing(), 2);
            same(&format!("{} rows={rows}", kernel.name), &got[0], &expected);
        }
    }
}
