//! Encoding of blocks of 32: the scale (and minimum) and codes with the least squared error this search finds.
//!
//! For given codes the best scale is a least-squares fit, and for a given scale the best codes are the nearest ones.
//! The search tries a grid of scales about the one that just holds the largest element, since clipping a little or
//! leaving room is often better, takes the fit with the least error and repeats the two steps from there.
//! Every element counts the same: the error minimised is the mean squared error that is reported.
//!
//! All sums run in eight lanes, so that they are fast and the same everywhere. Elements that are no numbers count
//! as 0, infinities as large numbers; scales that f16 cannot hold are cut off. Nothing here panics.

use half::f16;

/// Lanes of a sum.
const LANES: usize = 8;

/// Blocks whose largest element is smaller are zeros: no f16 scale comes near them.
pub(super) const TINY: f32 = 1e-12;

/// The levels that codes stand for.
pub(super) trait Levels: Copy {
    /// The lowest and the highest level.
    fn ends(self) -> [f32; 2];
    /// The level nearest to x.
    fn nearest(self, x: f32) -> f32;
    /// The code of a level.
    fn code(self, level: f32) -> u8;
}

/// The integers from `-n` to `n - 1`; the code is the level plus n.
#[derive(Clone, Copy)]
pub(super) struct Uniform(pub f32);

/// A table of sixteen levels in ascending order; the code is the place in it.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// The levels.
    pub levels: &'static [i8; 16],
    /// The level nearest to every half, from [`nearest_levels`].
    pub nearest: &'static [i8; HALVES],
}

/// Halves from -127 to 113, the ends of the table of IQ4_NL.
pub(super) const HALVES: usize = 2 * (113 + 127) + 1;

/// The level nearest to all numbers of each half-open half: the middle of two levels is a half itself.
pub(super) const fn nearest_levels(levels: &[i8; 16]) -> [i8; HALVES] {
    let (mut nearest, mut at, mut i) = ([0i8; HALVES], 0, 0);
    while i < HALVES {
        while at < 15 && i as i32 - 254 >= levels[at] as i32 + levels[at + 1] as i32 {
            at += 1;
        }
        nearest[i] = levels[at];
        i += 1;
    }
    nearest
}

impl Levels for Uniform {
    fn ends(self) -> [f32; 2] {
        [-self.0, self.0 - 1.0]
    }
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        round(clip(x, -self.0, self.0 - 1.0))
    }
    fn code(self, level: f32) -> u8 {
        (level + self.0) as u8
    }
}

impl Levels for Table {
    fn ends(self) -> [f32; 2] {
        [f32::from(self.levels[0]), f32::from(self.levels[15])]
    }
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        let half = clip(x + x + 254.0, 0.0, (HALVES - 1) as f32) as usize;
        f32::from(self.nearest[half.min(HALVES - 1)])
    }
    fn code(self, level: f32) -> u8 {
        self.levels.iter().take_while(|v| f32::from(**v) < level).count() as u8
    }
}

/// Comparisons that compile to one instruction each; x is a number.
#[inline(always)]
fn clip(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// To the nearest integer, ties to even, for magnitudes below 2^22: the sum has no bits behind the point.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// `levels` 0 to top, nearest to x.
#[inline(always)]
pub(super) fn nearest_code(x: f32, top: f32) -> f32 {
    round(clip(x, 0.0, top))
}

/// The nearest f16 that is finite.
pub(super) fn finite(x: f32) -> f16 {
    if x.is_nan() { f16::ZERO } else { f16::from_f32(x.clamp(-65504.0, 65504.0)) }
}

/// `1 / x`, or 0 where that is no finite number.
pub(super) fn inverse(x: f32) -> f32 {
    let id = 1.0 / x;
    if id.is_finite() { id } else { 0.0 }
}

/// The elements as numbers whose squares can be summed; no block holds one past 1e9.
pub(super) fn numbers<const N: usize>(x: &[f32; N]) -> [f32; N] {
    x.map(|x| if x.is_nan() { 0.0 } else { x.clamp(-1e9, 1e9) })
}

/// The element of largest magnitude, the first of equals.
pub(super) fn signed_max(x: &[f32]) -> f32 {
    x.iter().fold(0f32, |max, x| if x.abs() > max.abs() { *x } else { max })
}

/// Sums over all elements of the values that `f` gives for one; `x.len()` is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn sums<const N: usize>(x: &[f32], f: impl Fn(f32) -> [f32; N]) -> [f32; N] {
    let mut lanes = [[0f32; LANES]; N];
    for chunk in x.as_chunks::<LANES>().0 {
        for (l, x) in chunk.iter().enumerate() {
            let values = f(*x);
            for n in 0..N {
                lanes[n][l] += values[n];
            }
        }
    }
    lanes.map(|lane| lane.iter().sum())
}

/// The scale d with which `levels * d` come nearest to the elements. It may be negative.
pub(super) fn best_scale(x: &[f32], levels: impl Levels) -> f32 {
    let max = signed_max(x);
    if max.abs() < TINY {
        return 0.0;
    }
    let unit = 1.0 / max;
    // The share of the squares that the fit explains, and its scale.
    let mut best = (0f32, 0f32);
    let attempt = |factor: f32, best: &mut (f32, f32)| {
        let [xq, qq] = sums(x, |x| {
            let x = x * unit;
            let q = levels.nearest(x * factor);
            [x * q, q * q]
        });
        let better = qq > 0.0 && xq * xq > best.0 * qq;
        if better {
            *best = (xq * xq / qq, xq / qq);
        }
        better
    };
    let ends = levels.ends();
    let step = (ends[1] - ends[0]) * (1.0 / 15.0);
    for end in ends {
        for i in 0..GRID {
            // From one step inside the end to beyond it, where the largest element is clipped.
            let room = step * (i as f32 * (2.75 / GRID as f32) - 0.75);
            attempt(if end < 0.0 { end - room } else { end + room }, &mut best);
        }
    }
    for _ in 0..4 {
        if !attempt(inverse(best.1), &mut best) {
            break;
        }
    }
    best.1 * max
}

/// Scales tried for each end.
const GRID: usize = 16;

/// 32 elements as `levels * d`: the scale and the codes.
pub(super) fn block(x: &[f32; 32], levels: impl Levels) -> (f16, [u8; 32]) {
    let x = numbers(x);
    let d = finite(best_scale(&x, levels));
    let id = inverse(d.to_f32());
    (d, x.map(|x| levels.code(levels.nearest(x * id))))
}

/// The scale and minimum with which `code * d + m`, codes up to `top`, come nearest to the elements. With `only_below`
/// the minimum is at most 0.
pub(super) fn best_affine(x: &[f32], top: f32, only_below: bool) -> (f32, f32) {
    let (mut min, max) = x.iter().fold((x[0], x[0]), |(a, b), x| (a.min(*x), b.max(*x)));
    if only_below {
        min = min.min(0.0);
    }
    let range = max - min;
    if range < TINY {
        return (0.0, min);
    }
    // Elements are taken from `min` in units of the range: 0 to 1.
    let (unit, n) = (1.0 / range, x.len() as f32);
    let floor = -min * unit;
    let [sx, sxx] = sums(x, |x| {
        let x = (x - min) * unit;
        [x, x * x]
    });
    let mut best = (sxx, 0.0, 0.0);
    let attempt = |factor: f32, shift: f32, best: &mut (f32, f32, f32)| {
        let [sq, sqq, sxq] = sums(x, |x| {
            let x = (x - min) * unit;
            let q = nearest_code(x * factor - shift, top);
            [q, q * q, x * q]
        });
        let det = n * sqq - sq * sq;
        let (mut d, mut m) = ((n * sxq - sx * sq) / det, (sqq * sx - sq * sxq) / det);
        // Codes that are all equal leave one unknown.
        if det <= 0.0 || (only_below && m > floor) {
            m = floor;
            d = (sxq - m * sq) / sqq;
        }
        // The squared error of this fit, from its sums.
        let e = sxx + d * d * sqq + n * m * m - 2.0 * (d * sxq + m * sx - d * m * sq);
        let better = d > 0.0 && e < best.0;
        if better {
            *best = (e, d, m);
        }
        better
    };
    for i in 0..AFFINE_GRID {
        // Room in steps, taken from the top alone or from both sides.
        let room = i as f32 * (2.5 / AFFINE_GRID as f32) - 1.0;
        attempt(top + room, 0.0, &mut best);
        attempt(top + room, room * 0.5, &mut best);
    }
    for _ in 0..4 {
        let id = inverse(best.1);
        if !attempt(id, best.2 * id, &mut best) {
            break;
        }
    }
    (best.1 * range, best.2 * range + min)
}

/// Ranges tried for each way to clip.
const AFFINE_GRID: usize = 16;

/// 32 elements as `code * d + m`, codes up to `top`: scale, minimum and codes.
pub(super) fn affine(x: &[f32; 32], top: u8) -> (f16, f16, [u8; 32]) {
    let (x, top) = (numbers(x), f32::from(top));
    let (d, m) = best_affine(&x, top, false);
    let (d, m) = (finite(d), finite(m));
    let id = inverse(d.to_f32());
    (d, m, x.map(|x| nearest_code((x - m.to_f32()) * id, top) as u8))
}
