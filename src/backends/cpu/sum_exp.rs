//! `sum e^(x - max)` over a row of logits, for log-probabilities. It is no op of a plan: only those who ask for scores
//! pay for it.
//!
//! One body is compiled for each instruction set; its order of operations is fixed, so the bits are the same.

use crate::backends::Isa;
use crate::ops::math::exp;

/// The sum in f64 of [`exp`] of each f32 difference, by 16 partials (elements mod 16, from +0) and a tree of halves. A
/// class that this machine lacks gives the same bits, slower.
pub fn sum_exp(isa: Isa, x: &[f32], max: f32) -> f64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the features of the class.
        Isa::Avx2 if isa.available() => unsafe { avx2(x, max) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 | Isa::Amx if isa.available() => unsafe { avx512(x, max) },
        _ => body(x, max),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(x: &[f32], max: f32) -> f64 {
    body(x, max)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn avx512(x: &[f32], max: f32) -> f64 {
    body(x, max)
}

#[inline(always)]
fn body(x: &[f32], max: f32) -> f64 {
    let mut s = [0f64; 16];
    let (chunks, tail) = x.as_chunks::<16>();
    for chunk in chunks {
        let e = chunk.map(|v| exp(v - max));
        for (s, e) in s.iter_mut().zip(e) {
            *s += f64::from(e);
        }
    }
    for (s, v) in s.iter_mut().zip(tail) {
        *s += f64::from(exp(v - max));
    }
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            s[j] += s[j + half];
        }
    }
    s[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::math::exp64;

    fn row(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 40.0).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 511, 512, 5003] {
            let x = row(n);
            let want = sum_exp(Isa::Scalar, &x, 20.0).to_bits();
            for isa in Isa::ALL {
                assert_eq!(sum_exp(isa, &x, 20.0).to_bits(), want, "{isa}, {n} elements");
            }
        }
    }

    #[test]
    fn it_is_the_sum() {
        let x = row(1000);
        let want: f64 = x.iter().map(|v| exp64(f64::from(*v) - 20.0)).sum();
        let got = sum_exp(Isa::best(), &x, 20.0);
        assert!((got - want).abs() < 2e-7 * want, "{got} and {want}");
        assert_eq!(sum_exp(Isa::Scalar, &[3.0; 48], 3.0).to_bits(), 48f64.to_bits());
        assert_eq!(sum_exp(Isa::Scalar, &[0.0, -100.0], 0.0).to_bits(), 1f64.to_bits());
    }
}
