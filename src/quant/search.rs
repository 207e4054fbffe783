//! Encoding: the scales and codes that bring a block near its elements.

use half::f16;

/// The codes of a super-block and their scales.
pub(super) struct Affine<const SUBS: usize> {
    pub d: f16,
    pub dmin: f16,
    pub scales: [u8; SUBS],
    pub mins: [u8; SUBS],
    pub codes: [u8; 256],
}

/// The codes of a super-block without minima.
pub(super) struct Symmetric<const SUBS: usize> {
    pub d: f16,
    pub scales: [i8; SUBS],
    pub codes: [u8; 256],
}

/// The nearest f16 that is finite; 0 for a NaN.
fn finite(x: f32) -> f16 {
    if x.is_nan() { f16::ZERO } else { f16::from_f32(x.clamp(-65504.0, 65504.0)) }
}

/// `1 / x`, or 0 where that is no finite number.
fn inverse(x: f32) -> f32 {
    let id = 1.0 / x;
    if id.is_finite() { id } else { 0.0 }
}

fn code(x: f32, offset: f32, top: f32) -> u8 {
    (x.round_ties_even() + offset).clamp(0.0, top) as u8
}

/// The element of largest magnitude, the first of equals.
fn signed_max(x: &[f32]) -> f32 {
    x.iter().fold(0f32, |max, x| if x.abs() > max.abs() { *x } else { max })
}

/// 32 elements as `(code - n) * d`, codes below `2 n`.
pub(super) fn symmetric(x: &[f32; 32], n: u8) -> (f16, [u8; 32]) {
    let n = f32::from(n);
    let d = finite(-signed_max(x) / n);
    let id = inverse(d.to_f32());
    (d, x.map(|x| code(x * id, n, 2.0 * n - 1.0)))
}

/// 32 elements as `code * d + m`, codes up to `top`.
pub(super) fn affine(x: &[f32; 32], top: u8) -> (f16, f16, [u8; 32]) {
    let (min, max) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
    let top = f32::from(top);
    let (d, m) = (finite((max - min) / top), finite(min));
    let id = inverse(d.to_f32());
    (d, m, x.map(|x| code((x - m.to_f32()) * id, 0.0, top)))
}

/// The place of the value nearest to x.
fn nearest(x: f32, values: &[i8; 16]) -> u8 {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if (x - f32::from(*v)).abs() < (x - f32::from(values[best])).abs() {
            best = i;
        }
    }
    best as u8
}

/// 32 elements as `values[code] * d`.
pub(super) fn table(x: &[f32; 32], values: &[i8; 16]) -> (f16, [u8; 32]) {
    let d = finite(signed_max(x) / f32::from(values[0]));
    let id = inverse(d.to_f32());
    (d, x.map(|x| nearest(x * id, values)))
}

/// 256 elements as `(d * scale) * code - dmin * min`.
pub(super) fn affine_k<const SUBS: usize>(x: &[f32; 256], top: u8, top_scale: u8) -> Affine<SUBS> {
    let (mut ds, mut ms) = ([0f32; SUBS], [0f32; SUBS]);
    for (j, sub) in x.chunks_exact(256 / SUBS).enumerate() {
        let (min, max) = sub.iter().fold((0f32, f32::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
        (ds[j], ms[j]) = ((max - min) / f32::from(top), -min);
    }
    let super_scale = |v: &[f32; SUBS]| finite(v.iter().fold(0f32, |a, b| a.max(*b)) / f32::from(top_scale));
    let (d, dmin) = (super_scale(&ds), super_scale(&ms));
    let (id, im) = (inverse(d.to_f32()), inverse(dmin.to_f32()));
    let scales = ds.map(|s| code(s * id, 0.0, f32::from(top_scale)));
    let mins = ms.map(|m| code(m * im, 0.0, f32::from(top_scale)));
    let codes = std::array::from_fn(|e| {
        let j = e / (256 / SUBS);
        let (s, m) = (d.to_f32() * f32::from(scales[j]), dmin.to_f32() * f32::from(mins[j]));
        code((x[e] + m) * inverse(s), 0.0, f32::from(top))
    });
    Affine { d, dmin, scales, mins, codes }
}

/// 256 elements as `(d * scale) * (code - n)`, codes below `2 n`, scales from `-scales` to `scales - 1`.
pub(super) fn symmetric_k(x: &[f32; 256], n: u8, scales: u8) -> Symmetric<16> {
    let n = f32::from(n);
    let mut ds = [0f32; 16];
    for (d, sub) in ds.iter_mut().zip(x.as_chunks::<16>().0) {
        *d = -signed_max(sub) / n;
    }
    let (d, scales) = signed_scales(&ds, scales);
    let codes = std::array::from_fn(|e| {
        code(x[e] * inverse(d.to_f32() * f32::from(scales[e / 16])), n, 2.0 * n - 1.0)
    });
    Symmetric { d, scales, codes }
}

/// 256 elements as `(d * scale) * values[code]`, scales from -32 to 31.
pub(super) fn table_k(x: &[f32; 256], values: &[i8; 16]) -> Symmetric<8> {
    let mut ds = [0f32; 8];
    for (d, sub) in ds.iter_mut().zip(x.as_chunks::<32>().0) {
        *d = signed_max(sub) / f32::from(values[0]);
    }
    let (d, scales) = signed_scales(&ds, 32);
    let codes =
        std::array::from_fn(|e| nearest(x[e] * inverse(d.to_f32() * f32::from(scales[e / 32])), values));
    Symmetric { d, scales, codes }
}

fn signed_scales<const SUBS: usize>(ds: &[f32; SUBS], n: u8) -> (f16, [i8; SUBS]) {
    let d = finite(-signed_max(ds) / f32::from(n));
    let id = inverse(d.to_f32());
    let (low, high) = (-f32::from(n), f32::from(n) - 1.0);
    (d, ds.map(|s| (s * id).round_ties_even().clamp(low, high) as i8))
}
