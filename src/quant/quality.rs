//! What encoding loses, held under stated bounds beside what ggml's quantiser (`ggml_quantize_chunk` without an
//! importance matrix) loses on the same rows; and that encoders take anything.

use super::{DType, TYPES, facts::bytes};

/// The type; what is lost here and in ggml, as squared error over squared length: for rows about normal, and for the
/// same with a long tail (`x * |x|`).
const LOSS: &[(DType, [f64; 2], [f64; 2])] = &[
    (DType::Q4_0, [5.91e-3, 1.009e-2], [6.696e-3, 1.100e-2]),
    (DType::Q4_1, [4.48e-3, 7.17e-3], [5.743e-3, 9.649e-3]),
    (DType::Q5_0, [1.43e-3, 2.73e-3], [1.643e-3, 2.956e-3]),
    (DType::Q5_1, [1.04e-3, 1.74e-3], [1.333e-3, 2.262e-3]),
    (DType::Q8_0, [2.59e-5, 5.26e-5], [2.581e-5, 5.255e-5]),
    (DType::Q2_K, [6.47e-2, 7.93e-2], [8.246e-2, 1.391e-1]),
    (DType::Q3_K, [1.94e-2, 2.60e-2], [2.132e-2, 2.832e-2]),
    (DType::Q4_K, [4.54e-3, 7.34e-3], [4.729e-3, 7.878e-3]),
    (DType::Q5_K, [1.10e-3, 1.88e-3], [1.205e-3, 2.245e-3]),
    (DType::Q6_K, [2.54e-4, 4.73e-4], [2.902e-4, 6.749e-4]),
    (DType::IQ4_NL, [5.06e-3, 7.12e-3], [5.443e-3, 7.686e-3]),
    (DType::IQ4_XS, [5.14e-3, 7.34e-3], [5.525e-3, 8.601e-3]),
];

/// 65536 elements; sums of four bytes are about normal.
fn elements(tail: bool) -> Vec<f32> {
    let sums = bytes(99, 4 * 65536);
    let sums = sums.as_chunks::<4>().0.iter().map(|b| b.iter().map(|b| i32::from(*b)).sum::<i32>() - 510);
    let x = sums.map(|s| s as f32 / 8192.0);
    x.map(|x| if tail { x * x.abs() } else { x }).collect()
}

fn there_and_back(dtype: DType, x: &[f32]) -> Vec<f32> {
    let codec = dtype.codec().unwrap();
    let mut bytes = vec![0u8; dtype.row_bytes(x.len()).unwrap()];
    (codec.encode)(x, &mut bytes);
    let mut back = vec![f32::NAN; x.len()];
    (codec.decode)(&bytes, &mut back);
    back
}

#[test]
fn encoding_loses_no_more_than_stated() {
    for (tail, rows) in [false, true].into_iter().zip([elements(false), elements(true)]) {
        let size: f64 = rows.iter().map(|x| square(f64::from(*x))).sum();
        for (dtype, ours, ggml) in LOSS {
            let back = there_and_back(*dtype, &rows);
            let lost: f64 = rows.iter().zip(&back).map(|(a, b)| square(f64::from(a - b))).sum::<f64>() / size;
            let (bound, ggml) = (ours[usize::from(tail)], ggml[usize::from(tail)]);
            assert!(
                lost <= bound && lost > 0.95 * bound,
                "{dtype} tail={tail}: {lost:.4e}, stated {bound:e}"
            );
            assert!(lost <= 1.001 * ggml, "{dtype} tail={tail}: {lost:.4e}, ggml {ggml:e}");
        }
    }
    let listed: Vec<_> = LOSS.iter().map(|l| l.0).collect();
    let block_types = TYPES.iter().filter(|t| t.block > 1).map(|t| DType::from_id(t.id).unwrap());
    assert_eq!(
        block_types.filter(|t| t.weight_codec().is_some()).count(),
        listed.len(),
        "a type is not listed"
    );
}

#[test]
fn levels_of_a_type_come_back_as_they_are() {
    let levels = |n: i32| -> Vec<f32> { (0..1024).map(|i| ((i * 5 + i / 32) % n - n / 2) as f32).collect() };
    for (dtype, n) in [
        (DType::Q4_0, 16),
        (DType::Q4_1, 16),
        (DType::Q5_0, 32),
        (DType::Q5_1, 32),
        (DType::Q3_K, 8),
        (DType::Q4_K, 16),
        (DType::Q5_K, 32),
        (DType::Q2_K, 4),
    ] {
        let x = levels(n);
        let worst = x.iter().zip(there_and_back(dtype, &x)).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 0.02, "{dtype}: {worst} of a step");
    }
    let x: Vec<f32> = (0..1024).map(|i| super::IQ4_VALUES[i % 16].into()).collect();
    for dtype in [DType::IQ4_NL, DType::IQ4_XS] {
        let worst = x.iter().zip(there_and_back(dtype, &x)).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 0.02, "{dtype}: {worst}");
    }
}

#[test]
fn encoders_take_anything_and_keep_what_is_finite() {
    let odd =
        [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-42];
    let mut rows: Vec<Vec<f32>> = odd.iter().map(|v| vec![*v; 256]).collect();
    for (i, v) in odd.iter().enumerate() {
        let mut row: Vec<f32> = (0..256).map(|j| (j as f32 - 100.0) * 0.01).collect();
        row[i * 20] = *v;
        rows.push(row);
    }
    for small in [1e-30, 1e-12, 1e-7, 1e-5, 1e4, 1e8, 1e20, 1e38] {
        rows.push((0..256).map(|j| (j as f32 - 77.0) / 256.0 * small).collect());
    }
    rows.push((0..256).map(|j| odd[j % odd.len()]).collect());
    for (dtype, ..) in LOSS.iter().filter(|l| l.0 != DType::Q8_0) {
        for row in &rows {
            let back = there_and_back(*dtype, row);
            assert!(back.iter().all(|x| x.is_finite()), "{dtype} {:?}", &row[..3]);
        }
        let zeros = there_and_back(*dtype, &[0.0; 256]);
        assert!(zeros.iter().all(|x| *x == 0.0), "{dtype}");
        for constant in [1.0, -3.0] {
            let worst = there_and_back(*dtype, &[constant; 256])
                .iter()
                .fold(0f32, |m, x| m.max((x - constant).abs()));
            assert!(worst <= 2e-2 * f32::abs(constant), "{dtype} {constant}: {worst}");
        }
    }
}
fn square(x: f64) -> f64 {
    x * x
}
