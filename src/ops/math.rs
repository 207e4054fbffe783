//! Elementary functions with one documented order of operations, the same bits on every machine.
//!
//! Nothing here calls libm: glibc, musl and macOS differ in the last place. A function is a fixed list of IEEE
//! operations (add, multiply, divide, fused multiply-add, nearest-even), so scalar code and vectors that follow the
//! list agree in every bit. The vector `exp` of `src/backends/cpu/simd.rs` is the list of [`exp`].
//!
//! Checked against `src/ops/math_table.txt`, made with 50 digits; the error bounds are stated at each function.
//! Source: Cody and Waite, Software Manual for the Elementary Functions, 1980; polynomials by the Remez exchange
//! (f32) and Taylor's series (f64).

/// Below this [`exp`] is exactly 0, so that its result is never subnormal; above ln(2^-126) = -87.3365.
pub const EXP_ZERO_BELOW: f32 = -87.3;
/// Above this [`exp`] is infinite: the largest f32 below ln(f32::MAX).
pub const EXP_INF_ABOVE: f32 = f32::from_bits(0x42b1_7217);
/// `log2(e)`.
pub const EXP_LOG2E: f32 = f32::from_bits(0x3fb8_aa3b);
/// 1.5 * 2^23: adding it rounds to the nearest integer, ties to even, and leaves that integer in the low bits.
pub const EXP_MAGIC: f32 = 12_582_912.0;
/// ln 2 rounded to f32. `x - n * LN2_HI` is exact as a fused multiply-add.
pub const EXP_LN2_HI: f32 = f32::from_bits(0x3f31_7218);
/// ln 2 minus [`EXP_LN2_HI`].
pub const EXP_LN2_LO: f32 = f32::from_bits(0xb102_e308);
/// Coefficients of r^6 down to r^0 of `e^r` on [-ln 2 / 2, ln 2 / 2], in the order of Horner's rule.
pub const EXP_POLY: [f32; 7] = [
    f32::from_bits(0x3ab5_120d),
    f32::from_bits(0x3c09_1cf9),
    f32::from_bits(0x3d2a_ac79),
    f32::from_bits(0x3e2a_aa49),
    f32::from_bits(0x3eff_fffe),
    1.0,
    1.0,
];

/// `e^x`. Error at most 0.9 ulp; 0 below -87.3, infinity above 88.7228, NaN for NaN.
///
/// Order: `t = fma(x, log2 e, magic)`, `n = t - magic`, `r = fma(n, -hi, x)`, `r = fma(n, -lo, r)`, Horner with one
/// fma per coefficient, n added to the exponent bits, then the two selections.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let t = x.mul_add(EXP_LOG2E, EXP_MAGIC);
    let n = t - EXP_MAGIC;
    let r = n.mul_add(-EXP_LN2_HI, x);
    let r = n.mul_add(-EXP_LN2_LO, r);
    let mut p = EXP_POLY[0];
    for c in &EXP_POLY[1..] {
        p = p.mul_add(r, *c);
    }
    let y = f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23));
    let y = if x < EXP_ZERO_BELOW { 0.0 } else { y };
    if x <= EXP_INF_ABOVE { y } else { x + f32::INFINITY }
}

/// `x / (1 + e^-x)`: our [`exp`], one addition, one division.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The sum of 16 partial sums, always in this order: halves, quarters, eighths, then the last two.
#[inline(always)]
pub fn tree16(mut s: [f32; 16]) -> f32 {
    for j in 0..8 {
        s[j] += s[j + 8];
    }
    for j in 0..4 {
        s[j] += s[j + 4];
    }
    for j in 0..2 {
        s[j] += s[j + 2];
    }
    s[0] + s[1]
}

/// `sum a[k] * b[k]` by 16 partial sums and [`tree16`]: partial j is one fma chain over k = j, j + 16, ..., from +0;
/// a tail is padded with +0. The slices are equally long.
#[inline(always)]
pub fn dot16(a: &[f32], b: &[f32]) -> f32 {
    let mut s = [0f32; 16];
    let (a16, at) = a.as_chunks::<16>();
    let (b16, bt) = b.as_chunks::<16>();
    for (a, b) in a16.iter().zip(b16) {
        for j in 0..16 {
            s[j] = a[j].mul_add(b[j], s[j]);
        }
    }
    if !at.is_empty() {
        // Partials that start at +0 never become -0, so padding changes no bit; vectors pad, so this does too.
        for (j, s) in s.iter_mut().enumerate() {
            let (a, b) = (at.get(j).copied().unwrap_or(0.0), bt.get(j).copied().unwrap_or(0.0));
            *s = a.mul_add(b, *s);
        }
    }
    tree16(s)
}

/// `sum a[k]` by 16 partial sums (plain additions, k mod 16) and [`tree16`]; a tail is padded with +0.
#[inline(always)]
pub fn sum16(a: &[f32]) -> f32 {
    let mut s = [0f32; 16];
    let (a16, at) = a.as_chunks::<16>();
    for a in a16 {
        for j in 0..16 {
            s[j] += a[j];
        }
    }
    if !at.is_empty() {
        for (j, s) in s.iter_mut().enumerate() {
            *s += at.get(j).copied().unwrap_or(0.0);
        }
    }
    tree16(s)
}

/// `ln x` rounded from [`ln64`].
pub fn ln(x: f32) -> f32 {
    ln64(f64::from(x)) as f32
}

/// Sine and cosine rounded from [`sin_cos64`].
#[inline(always)]
pub fn sin_cos(x: f32) -> (f32, f32) {
    let (s, c) = sin_cos64(f64::from(x));
    (s as f32, c as f32)
}

/// ln 2 with 32 bits: times an exponent it is exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// ln 2 minus `LN2_HI`.
const LN2_LO: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
const LOG2E: f64 = f64::from_bits(0x3ff7_1547_652b_82fe);

/// `e^x`. Error below 2 ulp; 0 below -745.2, infinity above 709.8, NaN for NaN.
pub fn exp64(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.782_712_893_384 {
        return f64::INFINITY;
    }
    if x < -745.2 {
        return 0.0;
    }
    let n = (x * LOG2E).round_ties_even();
    let r = n.mul_add(-LN2_HI, x);
    let r = n.mul_add(-LN2_LO, r);
    // Taylor to r^13: the first term left out is below 5e-18.
    const INV_FACTORIAL: [f64; 14] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let mut p = INV_FACTORIAL[0];
    for c in &INV_FACTORIAL[1..] {
        p = p.mul_add(r, *c);
    }
    // Two factors, so that neither leaves the range of normal numbers.
    let n = n as i64;
    let half = n / 2;
    p * exp2i(half) * exp2i(n - half)
}

/// 2^n for n in -1022..=1023.
fn exp2i(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// `ln x`. Error below 2 ulp; -infinity for 0, NaN for negative numbers and NaN.
pub fn ln64(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    let (scaled, bias) = if x < f64::MIN_POSITIVE { (x * exp2i(54), -54) } else { (x, 0) };
    let bits = scaled.to_bits();
    let mut e = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m >= std::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let e = (e + bias) as f64;
    // ln(1 + f) = 2 atanh(s) with s = f / (2 + f), written as f - (f^2/2 - s (f^2/2 + R)) so that f stays exact.
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut r = 2.0 / 23.0;
    for k in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        r = f64::mul_add(r, z, 2.0 / k);
    }
    r *= z;
    let h = 0.5 * f * f;
    let low = s.mul_add(h + r, e * LN2_LO);
    e.mul_add(LN2_HI, f - (h - low))
}

/// `x^y` for x > 0 (0 for x = 0 and y > 0): `exp64(y * ln64(x))`, relative error about (|y ln x| + 1) * 2^-52.
/// NaN for negative x.
pub fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    exp64(y * ln64(x))
}

/// pi/2 in three parts of 33, 33 and 53 bits: a multiple below 2^20 of the first two is exact.
const PIO2: [f64; 3] = [
    f64::from_bits(0x3ff9_21fb_5440_0000),
    f64::from_bits(0x3dd0_b461_1a60_0000),
    f64::from_bits(0x3ba3_198a_2e03_7073),
];

/// Sine and cosine of `x` radians: error below 2 ulp for |x| up to 1e6, zeros included, so that rounding to f32
/// is right but for ties closer than that. Past 1e6 the reduction loses bits; NaN for infinities and NaN.
#[inline(always)]
pub fn sin_cos64(x: f64) -> (f64, f64) {
    let n = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    // The difference to the first part is exact; the second is subtracted with the lost bits kept aside.
    let a = n.mul_add(-PIO2[0], x);
    let w = n * PIO2[1];
    let b = a - w;
    let tail = (a - b) - w;
    let tail = n.mul_add(-PIO2[2], tail);
    let r = b + tail;
    let lost = (b - r) + tail;

    let z = r * r;
    let mut s = 1.0 / 355_687_428_096_000.0;
    for c in [
        -1.0 / 1_307_674_368_000.0,
        1.0 / 6_227_020_800.0,
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5_040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
    ] {
        s = f64::mul_add(s, z, c);
    }
    let mut c = 1.0 / 20_922_789_888_000.0;
    for k in [
        -1.0 / 87_178_291_200.0,
        1.0 / 479_001_600.0,
        -1.0 / 3_628_800.0,
        1.0 / 40_320.0,
        -1.0 / 720.0,
        1.0 / 24.0,
    ] {
        c = f64::mul_add(c, z, k);
    }
    // The bits lost in r enter through the derivatives: sin' = cos (about 1 - z/2), cos' = -r.
    let sin = (r * z).mul_add(s, lost.mul_add(0.5f64.mul_add(-z, 1.0), r));
    let half = 0.5 * z;
    let one = 1.0 - half;
    let cos = one + (((1.0 - one) - half) + (z * z).mul_add(c, -(r * lost)));
    match (n as i64) & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of one function: argument and true value, both as exact bits.
    fn rows(name: &str) -> Vec<(f64, f64)> {
        let table = include_str!("math_table.txt");
        let bits = |s: &str| f64::from_bits(u64::from_str_radix(s, 16).unwrap());
        let rows: Vec<_> = table
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| l.split(' ').collect::<Vec<_>>())
            .filter(|f| f[0] == name)
            .map(|f| (bits(f[1]), bits(f[2])))
            .collect();
        assert!(rows.len() > 60, "{name}: {} rows", rows.len());
        rows
    }

    fn ulp64(want: f64) -> f64 {
        let a = want.abs().max(f64::MIN_POSITIVE);
        f64::from_bits(a.to_bits() + 1) - a
    }

    #[test]
    fn exp_is_within_nine_tenths_of_an_ulp() {
        let mut worst = 0.0f64;
        for (x, want) in rows("exp") {
            let (x32, w32) = (x as f32, want as f32);
            assert_eq!(f64::from(x32), x);
            let ulp = f64::from(f32::from_bits(w32.to_bits() + 1)) - f64::from(w32);
            worst = worst.max((f64::from(exp(x32)) - want).abs() / ulp);
        }
        assert!(worst < 0.9, "{worst} ulp");
    }

    #[test]
    fn exp_against_exp64_over_a_dense_grid() {
        let mut x = -87.3f32;
        while x < 88.72 {
            let want = exp64(f64::from(x));
            let err = (f64::from(exp(x)) - want).abs() / want;
            assert!(err < 1.2e-7, "exp({x}) is off by {err}");
            x += 0.000_37 + x.abs() * 1e-5;
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-87.4).to_bits(), 0);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert!(exp(EXP_ZERO_BELOW) >= f32::MIN_POSITIVE);
        assert!(exp(EXP_INF_ABOVE).is_finite());
        assert_eq!(exp(f32::from_bits(EXP_INF_ABOVE.to_bits() + 1)), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        for payload in [0x7fc0_0000, 0x7fff_ffff, 0xffc1_2345, 0x7f80_0001] {
            assert!(exp(f32::from_bits(payload)).is_nan());
        }
    }

    #[test]
    fn silu_at_its_ends() {
        assert_eq!(silu(0.0), 0.0);
        assert_eq!(silu(100.0), 100.0);
        assert_eq!(silu(-100.0), 0.0);
        for (x, want) in [(1.0f32, 0.731_058_578_630_005), (-1.0, -0.268_941_421_369_995_1)] {
            assert!((f64::from(silu(x)) - want).abs() < 1e-7);
        }
    }

    #[test]
    fn f64_functions_are_within_two_ulp() {
        let check = |name: &str, f: &dyn Fn(f64) -> f64, limit: f64| {
            let mut worst = (0.0f64, 0.0);
            for (x, want) in rows(name) {
                let e = (f(x) - want).abs() / ulp64(want);
                if e > worst.0 {
                    worst = (e, x);
                }
            }
            assert!(worst.0 < limit, "{name}: {} ulp at {}", worst.0, worst.1);
        };
        check("exp64", &exp64, 2.0);
        check("ln64", &ln64, 2.0);
        check("sin64", &|x| sin_cos64(x).0, 2.0);
        check("cos64", &|x| sin_cos64(x).1, 2.0);
    }

    #[test]
    fn sines_round_to_the_right_f32() {
        for (x, want) in rows("sin64") {
            assert_eq!(sin_cos(x as f32).0.to_bits(), (want as f32).to_bits(), "sin {x}");
        }
        for (x, want) in rows("cos64") {
            assert_eq!(sin_cos(x as f32).1.to_bits(), (want as f32).to_bits(), "cos {x}");
        }
    }

    #[test]
    fn pow_of_the_rope_bases() {
        // mpmath: 10000^(-2/128), 500000^(-2/64), 10000^(-2/80)
        for (x, y, want) in [
            (10000.0, -2.0 / 128.0, 0.865_964_323_360_065_4),
            (500000.0, -2.0 / 64.0, 0.663_601_237_696_088_4),
            (10000.0, -2.0 / 80.0, 0.794_328_234_724_281_5),
        ] {
            let got: f64 = pow(x, y);
            assert!((got - want).abs() < 4e-16, "{x}^{y} = {got:e}");
        }
        assert_eq!(pow(2.0, 10.0), 1024.0);
        assert_eq!(pow(0.0, 2.0), 0.0);
        assert!(pow(-2.0, 0.5).is_nan());
    }

    #[test]
    fn f64_functions_at_their_ends() {
        assert_eq!(exp64(-800.0), 0.0);
        assert_eq!(exp64(800.0), f64::INFINITY);
        assert!(exp64(f64::NAN).is_nan() && ln64(f64::NAN).is_nan() && ln64(-1.0).is_nan());
        assert!(exp64(-745.0) > 0.0);
        assert_eq!(ln64(0.0), f64::NEG_INFINITY);
        assert_eq!(ln64(1.0), 0.0);
        assert!((ln64(5e-324) + 744.440_071_921_381).abs() < 1e-12);
        assert!(sin_cos64(f64::INFINITY).0.is_nan());
        assert_eq!(sin_cos64(0.0), (0.0, 1.0));
    }

    #[test]
    fn the_tree_and_the_tail() {
        let s: [f32; 16] = std::array::from_fn(|i| 1.0 + i as f32 * 1e-7);
        let pair = |a: usize| {
            let q = |b: usize| {
                let h = |c: usize| s[c] + s[c + 8];
                h(b) + h(b + 4)
            };
            q(a) + q(a + 2)
        };
        assert_eq!(tree16(s), pair(0) + pair(1));
        let a: Vec<f32> = (0..37).map(|i| i as f32 - 11.5).collect();
        let padded: Vec<f32> = a.iter().copied().chain([0.0; 11]).collect();
        assert_eq!(dot16(&a, &a).to_bits(), dot16(&padded, &padded).to_bits());
        assert_eq!(sum16(&a).to_bits(), sum16(&padded).to_bits());
        assert_eq!(dot16(&[-0.0], &[1.0]).to_bits(), 0);
    }
}
