//! Encoding of super-blocks: scales of scales.
//!
//! Each sub-block is fitted alone ([`super::search`]). The largest of the fitted scales sets the scale of scales;
//! then three steps repeat while the error falls: every sub-block takes the best of the small scales (and minima)
//! next to the wanted ones, with the codes nearest to its elements; the scales of scales are fitted again to all 256
//! elements by least squares; they are rounded to f16.

use super::search::{
    Levels, best_affine, best_scale, finite, inverse, nearest_code, numbers, signed_max, sums,
};
use half::f16;

/// Rounds of fitting.
const ROUNDS: usize = 4;

/// A super-block without minima: `(d * scales[j]) * level`.
#[derive(Clone, Copy)]
pub(super) struct Symmetric<const SUBS: usize> {
    /// Scale of the scales.
    pub d: f16,
    /// Small scales.
    pub scales: [i8; SUBS],
    /// Codes of the levels.
    pub codes: [u8; 256],
}

/// A super-block with minima: `(d * scales[j]) * code - dmin * mins[j]`.
#[derive(Clone, Copy)]
pub(super) struct Affine<const SUBS: usize> {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// Small scales.
    pub scales: [u8; SUBS],
    /// Small minima.
    pub mins: [u8; SUBS],
    /// Codes.
    pub codes: [u8; 256],
}

/// 256 elements as levels under `SUBS` scales from `-n` to `n - 1`.
pub(super) fn symmetric<const SUBS: usize>(x: &[f32; 256], levels: impl Levels, n: u8) -> Symmetric<SUBS> {
    let x = numbers(x);
    let size = 256 / SUBS;
    let mut wanted = [0f32; SUBS];
    for (want, sub) in wanted.iter_mut().zip(x.chunks_exact(size)) {
        *want = best_scale(sub, levels);
    }
    let (low, high) = (-f32::from(n), f32::from(n) - 1.0);
    let mut d = finite(signed_max(&wanted) / low);
    let mut best = (f32::INFINITY, f16::ZERO, [0f32; SUBS]);
    for _ in 0..ROUNDS {
        let wide = d.to_f32();
        let (id, mut scales, mut error, mut fit) = (inverse(wide), [0f32; SUBS], 0.0, (0.0, 0.0));
        for ((scale, want), sub) in scales.iter_mut().zip(wanted).zip(x.chunks_exact(size)) {
            let near = (want * id).round_ties_even();
            let mut chosen = (f32::INFINITY, 0.0, 0.0, 0.0);
            for s in [near, near - 1.0, near + 1.0].map(|s| s.clamp(low, high)) {
                let (dl, idl) = (wide * s, inverse(wide * s));
                let [e, xq, qq] = sums(sub, |x| {
                    let q = levels.nearest(x * idl);
                    let e = x - dl * q;
                    [e * e, x * q, q * q]
                });
                if e < chosen.0 {
                    chosen = (e, s, xq, qq);
                }
            }
            *scale = chosen.1;
            error += chosen.0;
            fit = (fit.0 + chosen.1 * chosen.2, fit.1 + chosen.1 * chosen.1 * chosen.3);
        }
        if error >= best.0 {
            break;
        }
        best = (error, d, scales);
        let next = finite(fit.0 / fit.1);
        if next == d || next == f16::ZERO {
            break;
        }
        d = next;
    }
    let (_, d, scales) = best;
    let codes =
        std::array::from_fn(|e| levels.code(levels.nearest(x[e] * inverse(d.to_f32() * scales[e / size]))));
    Symmetric { d, scales: scales.map(|s| s as i8), codes }
}

/// 256 elements as codes up to `top` under `SUBS` scales and minima up to `most`.
pub(super) fn affine<const SUBS: usize>(x: &[f32; 256], top: u8, most: u8) -> Affine<SUBS> {
    let x = numbers(x);
    let (size, top, most) = (256 / SUBS, f32::from(top), f32::from(most));
    let mut wanted = [(0f32, 0f32); SUBS];
    for (want, sub) in wanted.iter_mut().zip(x.chunks_exact(size)) {
        let (d, m) = best_affine(sub, top, true);
        *want = (d, -m);
    }
    let largest = wanted.iter().fold((0f32, 0f32), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    let (mut d, mut dmin) = (finite(largest.0 / most), finite(largest.1 / most));
    let mut best = (f32::INFINITY, f16::ZERO, f16::ZERO, [(0f32, 0f32); SUBS]);
    for _ in 0..ROUNDS {
        let (wide, wide_min) = (d.to_f32(), dmin.to_f32());
        let (mut small, mut error, mut fit) = ([(0f32, 0f32); SUBS], 0.0, Fit::default());
        for ((small, want), sub) in small.iter_mut().zip(wanted).zip(x.chunks_exact(size)) {
            let near = (want.0 * inverse(wide)).round_ties_even();
            let mut chosen = (f32::INFINITY, Fit::default());
            for s in [near, near - 1.0, near + 1.0].map(|s| s.clamp(0.0, most)) {
                // A wider step wants another minimum: the one that keeps the middle of the sub-block.
                let m = want.1 + (wide * s - want.0) * top * 0.5;
                let near = (m * inverse(wide_min)).round_ties_even();
                for m in [near, near - 1.0, near + 1.0].map(|m| m.clamp(0.0, most)) {
                    let (dl, ml, idl) = (wide * s, wide_min * m, inverse(wide * s));
                    let [e, xq, qq, q, sx] = sums(sub, |x| {
                        let q = nearest_code((x + ml) * idl, top);
                        let e = x - (dl * q - ml);
                        [e * e, x * q, q * q, q, x]
                    });
                    if e < chosen.0 {
                        let n = size as f32;
                        let fit =
                            Fit { aa: s * s * qq, ab: s * m * q, bb: m * m * n, ax: s * xq, bx: m * sx };
                        chosen = (e, fit);
                        *small = (s, m);
                    }
                }
            }
            error += chosen.0;
            fit.add(&chosen.1);
        }
        if error >= best.0 {
            break;
        }
        best = (error, d, dmin, small);
        let next = fit.solve(wide, wide_min);
        if next == (d, dmin) || next.0 <= f16::ZERO || next.1 < f16::ZERO {
            break;
        }
        (d, dmin) = next;
    }
    let (_, d, dmin, small) = best;
    let codes = std::array::from_fn(|e| {
        let (s, m) = small[e / size];
        nearest_code((x[e] + dmin.to_f32() * m) * inverse(d.to_f32() * s), top) as u8
    });
    Affine { d, dmin, scales: small.map(|s| s.0 as u8), mins: small.map(|s| s.1 as u8), codes }
}

/// The normal equations of `x = d * a - dmin * b` with `a = scale * code` and `b = min`.
#[derive(Clone, Copy, Default)]
struct Fit {
    aa: f32,
    ab: f32,
    bb: f32,
    ax: f32,
    bx: f32,
}

impl Fit {
    fn add(&mut self, other: &Fit) {
        self.aa += other.aa;
        self.ab += other.ab;
        self.bb += other.bb;
        self.ax += other.ax;
        self.bx += other.bx;
    }

    /// The two scales; those there are where the equations have no solution.
    fn solve(&self, d: f32, dmin: f32) -> (f16, f16) {
        let [aa, ab, bb, ax, bx] = [self.aa, self.ab, self.bb, self.ax, self.bx].map(f64::from);
        let det = aa * bb - ab * ab;
        if bb == 0.0 && aa > 0.0 {
            return (finite((ax / aa) as f32), finite(dmin));
        }
        if det <= 1e-9 * aa * bb {
            return (finite(d), finite(dmin));
        }
        let solved = ((ax * bb - bx * ab) / det, (ax * ab - bx * aa) / det);
        (finite(solved.0 as f32), finite(solved.1 as f32))
    }
}
