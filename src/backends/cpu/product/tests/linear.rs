//! linear and quantize, over a grid of shapes, and what the two paths of a product must share.

use super::*;
use crate::ops::{linear, quantize};

const SIZES_M: [usize; 6] = [1, 5, 17, 33, 100, 130];
const ROWS: [usize; 10] = [1, 2, 3, 5, 6, 7, 8, 13, 32, 65];

fn lengths(dtype: DType) -> &'static [usize] {
    if dtype.block() > 1 { &[32, 96, 288] } else { &[1, 15, 16, 100, 288, 1040] }
}

#[test]
fn linear_rows_are_the_oracle() {
    for (dtype, name) in TYPES {
        let kernels = rows_for("linear", name);
        for (i, m) in SIZES_M.into_iter().enumerate() {
            for n in lengths(dtype).iter().copied() {
                for (j, rows) in ROWS.into_iter().enumerate() {
                    let mut r = Random::new((m * 1000 + n * 7 + rows) as u64);
                    let x = r.values(rows * n);
                    let weight = r.weight(dtype, m, n);
                    let bias = r.values(m);
                    let with_bias = (i + j) % 2 == 0;
                    let mut expected = vec![0f32; rows * m];
                    let acts = acts_for(dtype, &x, rows, n);
                    let b = with_bias.then_some(&bias[..]);
                    linear::reference(dtype, &weight, &acts.content, n, b, &mut expected);
                    let mut args = vec![acts, Value::weight(dtype, m, n, weight)];
                    if with_bias {
                        args.push(Value::weight(DType::F32, 1, m, bytes(&bias)));
                    }
                    let outs = [Value::result(DType::F32, rows, m)];
                    let threads = 1 + (i + j) as u32 % 3;
                    for k in &kernels {
                        let op = Op::Linear(linear::Attrs);
                        let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                        same(&format!("{} m={m} n={n} rows={rows}", k.name), &got[0], &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn the_largest_sums_are_exact() {
    // Every code at once in all elements, every activation as large as it gets, of one sign and of alternating ones.
    let (m, n) = (35, 320);
    for (dtype, name) in TYPES.into_iter().filter(|(t, _)| t.block() > 1) {
        let one = half::f16::ONE.to_le_bytes();
        let mut weight = Vec::new();
        for r in 0..m {
            let fill = [0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x88, (r * 37) as u8][r % 8];
            let mut block = vec![fill; dtype.info().bytes as usize];
            for at in f16_places(dtype) {
                block[*at..at + 2].copy_from_slice(&one);
            }
            weight.extend(block.repeat(n / dtype.block()));
        }
        for rows in [1, 2, 3, 4, 9, 12] {
            let x: Vec<f32> = (0..rows * n)
                .map(|i| match (i / n) % 3 {
                    0 => 127.0,
                    1 => -127.0,
                    _ => [127.0, -127.0][i % 2],
                })
                .collect();
            let acts = acts_for(dtype, &x, rows, n);
            let mut expected = vec![0f32; rows * m];
            linear::reference(dtype, &weight, &acts.content, n, None, &mut expected);
            for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
                let got = matmul(dtype, isa, &weight, m, n, &x).unwrap();
                same(&format!("{name} {isa} rows={rows}"), &bytes(&got), &expected);
            }
        }
    }
}

#[test]
fn a_row_of_a_batch_is_that_row_alone() {
    for (dtype, name) in TYPES {
        let (m, n, rows) = (70, 160, 47);
        let mut r = Random::new(5);
        let x = r.values(rows * n);
        let weight = r.weight(dtype, m, n);
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            let together = matmul(dtype, isa, &weight, m, n, &x).unwrap();
            for t in 0..rows {
                let alone = matmul(dtype, isa, &weight, m, n, &x[t * n..(t + 1) * n]).unwrap();
                same(&format!("{name} {isa} row {t}"), &bytes(&alone), &together[t * m..(t + 1) * m]);
            }
        }
    }
}

#[test]
fn long_rows_cross_every_cut() {
    // Several passes, panels and ranges of steps: n past a pass's bytes for 6 rows, and rows past one pass.
    for (dtype, n, rows) in [
        (DType::F32, 24_592, 40),
        (DType::F16, 4096, 70),
        (DType::Q8_0, 24_576, 40),
        (DType::Q8_0, 2048, 400),
        (DType::Q5_0, 24_576, 40),
        (DType::Q5_1, 24_576, 40),
        (DType::Q4_1, 2048, 400),
    ] {
        let m = 37;
        let mut r = Random::new(11);
        let x = r.values(rows * n);
        let weight = r.weight(dtype, m, n);
        let acts = acts_for(dtype, &x, rows, n);
        let mut expected = vec![0f32; rows * m];
        linear::reference(dtype, &weight, &acts.content, n, None, &mut expected);
        for isa in [Isa::Avx2, Isa::Avx512].into_iter().filter(|i| i.available()) {
            let got = matmul(dtype, isa, &weight, m, n, &x).unwrap();
            same(&format!("{dtype} {isa} n={n} rows={rows}"), &bytes(&got), &expected);
        }
    }
}

#[test]
fn quantize_rows_are_the_oracle() {
    for (to, name) in [(DType::Q8_0, "q8_0"), (DType::Q8_1, "q8_1"), (DType::Q8_K, "q8_k")] {
        let block = to.block();
        for (n, rows) in [(block, 1), (3 * block, 5), (2048, 3), (256, 70)] {
            let mut r = Random::new((n + rows) as u64);
            let mut x = r.values(rows * n);
            x[..block].fill(0.0);
            if rows > 1 {
                let mut blocks = x.chunks_exact_mut(block).skip(1);
                let mut next = || blocks.next().unwrap();
                next().fill(-1e-38);
                next().iter_mut().for_each(|v| *v *= 1e-37);
                next().iter_mut().enumerate().for_each(|(i, v)| *v = i as f32 / 2.0 - block as f32 / 4.0);
                next().iter_mut().enumerate().for_each(|(i, v)| *v = block as f32 / 4.0 - i as f32 / 2.0);
            }
            if rows > 2 {
                // The largest magnitude with both signs, either first, far apart and as the last element.
                let mut blocks = x.chunks_exact_mut(block).skip(6);
                let mut next = || blocks.next().unwrap();
                next().fill(f32::MAX);
                next().fill(f32::MIN);
                for (a, b, sign) in [(0, block - 1, 1.0), (3, 20, -1.0), (17, 16, 1.0), (31, 0, -1.0)] {
                    let to = next();
                    (to[a], to[b]) = (4e4 * sign, -4e4 * sign);
                }
            }
            let mut expected = vec![0; rows * to.row_bytes(n).unwrap()];
            quantize::reference(to, &x, n, &mut expected);
            let op = Op::Quantize(quantize::Attrs { to });
            for k in rows_for("quantize", name) {
                for threads in 1..=3 {
                    let args = [Value::acts(DType::F32, rows, n, bytes(&x))];
                    let outs = [Value::result(to, rows, n)];
                    let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                    assert_eq!(got[0], expected, "{} n={n} rows={rows}", k.name);
                }
            }
        }
    }
}

#[test]
fn products_that_do_not_fit_are_refused() {
    let x = [0f32; 32];
    for (dtype, weight, m, n) in [
        (DType::F32, 128, 1, 31),
        (DType::F32, 127, 1, 32),
        (DType::Q8_0, 34, 1, 16),
        (DType::Q4_0, 18, 1, 16),
        (DType::I8, 32, 1, 32),
    ] {
        let e = matmul(dtype, Isa::Scalar, &vec![0; weight], m, n, &x).unwrap_err();
        assert_eq!(e.code(), "BadProduct", "{dtype} {m} {n}");
    }
}
