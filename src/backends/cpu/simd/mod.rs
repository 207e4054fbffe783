//! Sixteen f32 lanes as every instruction set has them: one register of AVX-512, two of AVX2, an array.
//!
//! Sixteen is the number of partial sums of the numerics, so a vector is one row of partials and lane j is partial
//! j, whatever the registers. An implementor is a token: holding one is the proof that the machine has the set,
//! which makes its methods safe to call. Every method is one IEEE operation per lane (or a list of them that is
//! written down), so that the three agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use scalar::Scalar;

use crate::ops::math;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// The operations on sixteen f32 lanes.
pub trait Simd: Copy {
    /// Sixteen lanes.
    type V: Copy;
    /// Whether a vector is one register, so that kernels can keep more of them.
    const WIDE: bool;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Sixteen elements.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Fewer than sixteen elements, then +0.
    fn load_tail(self, x: &[f32]) -> Self::V;
    /// Sixteen elements of f16, exactly.
    fn load_f16(self, x: &[u16; LANES]) -> Self::V;
    /// Sixteen elements of bf16, exactly.
    fn load_bf16(self, x: &[u16; LANES]) -> Self::V;
    /// Sixteen signed bytes.
    fn load_i8(self, x: &[u8; LANES]) -> Self::V;
    /// The low four bits of sixteen bytes, then the high ones, less 8.
    fn load_nibbles(self, x: &[u8; LANES]) -> (Self::V, Self::V);
    /// The f16 of these bits in every lane, exactly.
    fn splat_f16(self, bits: u16) -> Self::V;
    /// Stores sixteen elements.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// Stores the first lanes, fewer than sixteen.
    fn store_tail(self, v: Self::V, to: &mut [f32]);
    /// Stores as f16, nearest even.
    fn store_f16(self, v: Self::V, to: &mut [u16; LANES]);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `|a|`.
    fn abs(self, a: Self::V) -> Self::V;
    /// Stores the nearest integers, ties to even; every lane is within -128 to 127.
    fn store_i8(self, v: Self::V, to: &mut [i8; LANES]);
    /// The larger; which zero it is of two zeros, or what of a NaN, is not said.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `b` where lane index < n, else `a`.
    fn first(self, n: usize, b: Self::V, a: Self::V) -> Self::V;
    /// The bits of `t` shifted left by 23 and added to those of `p`: `p * 2^n` if the low bits of t hold n.
    fn add_exponent(self, p: Self::V, t: Self::V) -> Self::V;
    /// `b` where `x < bound`, else `a`.
    fn where_below(self, x: Self::V, bound: f32, b: Self::V, a: Self::V) -> Self::V;
    /// `b` where `x <= bound`, else (and where x is NaN) `a`.
    fn where_at_most(self, x: Self::V, bound: f32, b: Self::V, a: Self::V) -> Self::V;
    /// The sum of the lanes by [`math::tree16`].
    fn tree(self, v: Self::V) -> f32;
    /// Four sums by [`math::tree16`].
    #[inline(always)]
    fn tree4(self, [a, b, c, d]: [Self::V; 4]) -> [f32; 4] {
        [self.tree(a), self.tree(b), self.tree(c), self.tree(d)]
    }
    /// The first two steps of four trees of [`math::tree16`]: lanes `4 i..` are the four partials that are left of `v[i]`.
    fn half_trees(self, v: [Self::V; 4]) -> Self::V;
    /// The other two steps: lane `4 i + j` is the sum of what lanes `4 i..` of `v[j]` are left with.
    fn rest_of_trees(self, v: [Self::V; 4]) -> Self::V;
    /// Lane i is the sum of the lanes of `v[i]`, each by [`math::tree16`].
    #[inline(always)]
    fn trees(self, v: &[Self::V; LANES]) -> Self::V {
        let mut half = [self.zero(); 4];
        for (j, half) in half.iter_mut().enumerate() {
            *half = self.half_trees([v[j], v[4 + j], v[8 + j], v[12 + j]]);
        }
        self.rest_of_trees(half)
    }
    /// Lane i of result j is lane j of `v[i]`.
    fn transpose(self, v: &[Self::V; LANES]) -> [Self::V; LANES];
    /// Elements 0, 2, 4, ... and 1, 3, 5, ... of the 32 in `a` and then `b`.
    fn unzip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// The inverse of [`Simd::unzip`].
    fn zip(self, even: Self::V, odd: Self::V) -> (Self::V, Self::V);

    /// +0 in every lane.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// Up to sixteen elements, then +0.
    #[inline(always)]
    fn load_upto(self, x: &[f32]) -> Self::V {
        match x.first_chunk::<LANES>() {
            Some(x) => self.load(x),
            None => self.load_tail(x),
        }
    }
    /// Stores as many lanes as `to` takes, at most sixteen.
    #[inline(always)]
    fn store_upto(self, v: Self::V, to: &mut [f32]) {
        match to.first_chunk_mut::<LANES>() {
            Some(to) => self.store(v, to),
            None => self.store_tail(v, to),
        }
    }
    /// The largest lane.
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        let mut x = [0f32; LANES];
        self.store(v, &mut x);
        x.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    /// `x` as the bits of an f16, nearest even.
    #[inline(always)]
    fn f16_bits(self, x: f32) -> u16 {
        let mut h = [0u16; LANES];
        self.store_f16(self.splat(x), &mut h);
        h[0]
    }
    /// [`math::exp`] of every lane: the same list of operations.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        let magic = self.splat(math::EXP_MAGIC);
        let t = self.fma(x, self.splat(math::EXP_LOG2E), magic);
        let n = self.sub(t, magic);
        let r = self.fma(n, self.splat(-math::EXP_LN2_HI), x);
        let r = self.fma(n, self.splat(-math::EXP_LN2_LO), r);
        let mut p = self.splat(math::EXP_POLY[0]);
        for c in &math::EXP_POLY[1..] {
            p = self.fma(p, r, self.splat(*c));
        }
        let y = self.add_exponent(p, t);
        let y = self.where_below(x, math::EXP_ZERO_BELOW, self.zero(), y);
        let over = self.add(x, self.splat(f32::INFINITY));
        self.where_at_most(x, math::EXP_INF_ABOVE, y, over)
    }
    /// `-a`, zeros included.
    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        self.sub(self.splat(-0.0), a)
    }
    /// [`math::silu`] of every lane.
    #[inline(always)]
    fn silu(self, x: Self::V) -> Self::V {
        let e = self.exp(self.neg(x));
        self.div(x, self.add(self.splat(1.0), e))
    }
    /// [`math::dot16`].
    #[inline(always)]
    fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        let mut s = self.zero();
        let (a16, at) = a.as_chunks::<LANES>();
        let (b16, bt) = b.as_chunks::<LANES>();
        for (a, b) in a16.iter().zip(b16) {
            s = self.fma(self.load(a), self.load(b), s);
        }
        if !at.is_empty() {
            s = self.fma(self.load_tail(at), self.load_tail(bt), s);
        }
        self.tree(s)
    }
}
