//! Sixteen lanes as an array: portable, and what the compiler makes of it.

use super::{LANES, Simd};
use crate::ops::math;
use half::{bf16, f16};

/// The token of portable code; every machine has it.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Lane by lane.
macro_rules! lanes {
    ($i:ident => $e:expr) => {{
        let mut out = [0f32; LANES];
        for ($i, o) in out.iter_mut().enumerate() {
            *o = $e;
        }
        out
    }};
}

impl Simd for Scalar {
    type V = [f32; LANES];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32]) -> Self::V {
        lanes!(i => x.get(i).copied().unwrap_or(0.0))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::V {
        lanes!(i => f16::from_bits(x[i]).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::V {
        lanes!(i => bf16::from_bits(x[i]).to_f32())
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::V {
        lanes!(i => f32::from(x[i].cast_signed()))
    }
    #[inline(always)]
    fn load_nibbles(self, x: &[u8; LANES]) -> (Self::V, Self::V) {
        let of = |code: u8| f32::from(code.cast_signed() - 8);
        (lanes!(i => of(x[i] & 15)), lanes!(i => of(x[i] >> 4)))
    }
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> Self::V {
        [f16::from_bits(bits).to_f32(); LANES]
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn store_tail(self, v: Self::V, to: &mut [f32]) {
        for (o, x) in to.iter_mut().zip(v) {
            *o = x;
        }
    }
    #[inline(always)]
    fn store_f16(self, v: Self::V, to: &mut [u16; LANES]) {
        for (o, x) in to.iter_mut().zip(v) {
            *o = f16::from_f32(x).to_bits();
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanes!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanes!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanes!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanes!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanes!(i => a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        lanes!(i => a[i].abs())
    }
    #[inline(always)]
    fn store_i8(self, v: Self::V, to: &mut [i8; LANES]) {
        for (o, x) in to.iter_mut().zip(v) {
            *o = x.round_ties_even() as i8;
        }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        lanes!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn first(self, n: usize, b: Self::V, a: Self::V) -> Self::V {
        lanes!(i => if i < n { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn add_exponent(self, p: Self::V, t: Self::V) -> Self::V {
        lanes!(i => f32::from_bits(p[i].to_bits().wrapping_add(t[i].to_bits() << 23)))
    }
    #[inline(always)]
    fn where_below(self, x: Self::V, bound: f32, b: Self::V, a: Self::V) -> Self::V {
        lanes!(i => if x[i] < bound { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn where_at_most(self, x: Self::V, bound: f32, b: Self::V, a: Self::V) -> Self::V {
        lanes!(i => if x[i] <= bound { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn tree(self, v: Self::V) -> f32 {
        math::tree16(v)
    }
    #[inline(always)]
    fn half_trees(self, v: [Self::V; 4]) -> Self::V {
        lanes!(i => {
            let (v, i) = (v[i / 4], i % 4);
            (v[i] + v[i + 8]) + (v[i + 4] + v[i + 12])
        })
    }
    #[inline(always)]
    fn rest_of_trees(self, v: [Self::V; 4]) -> Self::V {
        lanes!(i => {
            let (v, i) = (v[i % 4], i / 4 * 4);
            (v[i] + v[i + 2]) + (v[i + 1] + v[i + 3])
        })
    }
    #[inline(always)]
    fn unzip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V) {
        let at = |i: usize| if i < LANES { a[i] } else { b[i - LANES] };
        (lanes!(i => at(2 * i)), lanes!(i => at(2 * i + 1)))
    }
    #[inline(always)]
    fn zip(self, even: Self::V, odd: Self::V) -> (Self::V, Self::V) {
        let at = |i: usize| if i.is_multiple_of(2) { even[i / 2] } else { odd[i / 2] };
        (lanes!(i => at(i)), lanes!(i => at(LANES + i)))
    }
    #[inline(always)]
    fn transpose(self, v: &[Self::V; LANES]) -> [Self::V; LANES] {
        let mut out = [[0f32; LANES]; LANES];
        for (j, o) in out.iter_mut().enumerate() {
            *o = lanes!(i => v[i][j]);
        }
        out
    }
}
