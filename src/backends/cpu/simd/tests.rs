//! Every method of every instruction set of this machine against the array of [`Scalar`], bit for bit.

use super::*;
use crate::backends::Isa;

/// Reproducible numbers of many sizes and both signs.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let m = (s >> 8) as f32 / 8_388_608.0 - 1.0;
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            m * [1e-3, 0.1, 1.0, 7.0, 60.0, 2000.0][(s >> 16) as usize % 6]
        })
        .collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// All results of all methods for one input, in one list.
#[inline(always)]
fn everything<S: Simd>(s: S, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    let mut put = |v: S::V| {
        let mut a = [0f32; LANES];
        s.store(v, &mut a);
        out.extend(a);
    };
    let c = x.as_chunks::<LANES>().0;
    let mut rows = [s.zero(); LANES];
    for (r, c) in rows.iter_mut().zip(c) {
        *r = s.load(c);
    }
    for w in c.windows(3) {
        let (a, b, d) = (s.load(&w[0]), s.load(&w[1]), s.load(&w[2]));
        put(s.add(a, b));
        put(s.sub(a, b));
        put(s.mul(a, b));
        put(s.div(a, b));
        put(s.fma(a, b, d));
        put(s.max(a, b));
        put(s.abs(a));
        put(s.neg(a));
        for v in [s.unzip(a, b), s.zip(a, b)] {
            put(v.0);
            put(v.1);
        }
        put(s.exp(a));
        let mut q = [0i8; LANES];
        s.store_i8(s.mul(s.div(a, s.splat(2001.0)), s.splat(127.0)), &mut q);
        put(s.load(&q.map(f32::from)));
        s.store_i8(s.load(&std::array::from_fn(|i| i as f32 * 8.5 - 60.0)), &mut q);
        put(s.load(&q.map(f32::from)));
        put(s.splat(f32::from(s.f16_bits(w[1][1]))));
        put(s.exp(a));
        put(s.silu(a));
        put(s.where_below(a, 0.5, b, d));
        put(s.where_at_most(a, 0.5, b, d));
        put(s.splat(s.max_lane(a)));
        put(s.splat(s.tree(a)));
        let mut h = [0u16; LANES];
        s.store_f16(a, &mut h);
        put(s.load_f16(&h));
        put(s.load_bf16(&h));
        put(s.splat_f16(h[3]));
        let bytes = w[1].map(|x| (x.to_bits() >> 9) as u8);
        put(s.load_i8(&bytes));
        let (low, high) = s.load_nibbles(&bytes);
        put(low);
        put(high);
        for sum in s.tree4([a, b, d, s.add(a, b)]) {
            put(s.splat(sum));
        }
        for n in 0..=LANES {
            put(s.first(n, a, b));
            put(s.load_upto(&w[0][..n]));
            put(s.splat(s.dot(&x[..5 * n + 1], &x[7..5 * n + 8])));
            let mut t = w[1];
            s.store_upto(a, &mut t[..n]);
            put(s.load(&t));
        }
    }
    put(s.trees(&rows));
    for v in s.transpose(&rows) {
        put(v);
    }
    out
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn everything_avx2(x: &[f32]) -> Vec<f32> {
    // SAFETY: the caller checked the features.
    everything(unsafe { Avx2::new() }, x)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn everything_avx512(x: &[f32]) -> Vec<f32> {
    // SAFETY: the caller checked the features.
    everything(unsafe { Avx512::new() }, x)
}

#[test]
fn all_sets_agree() {
    for seed in 0..40 {
        let x = numbers(16 * LANES, seed);
        let want = everything(Scalar, &x);
        #[cfg(target_arch = "x86_64")]
        {
            if Isa::Avx2.available() {
                // SAFETY: just checked.
                assert_eq!(bits(&unsafe { everything_avx2(&x) }), bits(&want), "avx2, seed {seed}");
            }
            if Isa::Avx512.available() {
                // SAFETY: just checked.
                assert_eq!(bits(&unsafe { everything_avx512(&x) }), bits(&want), "avx512, seed {seed}");
            }
        }
        assert!(Isa::Scalar.available() && want.len() > 1000);
    }
}

#[test]
fn scalar_methods_are_the_functions_of_math() {
    let x = numbers(LANES, 99);
    let v = Scalar.load(x.first_chunk().unwrap());
    assert_eq!(bits(&Scalar.exp(v)), bits(&x.iter().map(|x| math::exp(*x)).collect::<Vec<_>>()));
    assert_eq!(bits(&Scalar.silu(v)), bits(&x.iter().map(|x| math::silu(*x)).collect::<Vec<_>>()));
    assert_eq!(Scalar.dot(&x, &x).to_bits(), math::dot16(&x, &x).to_bits());
    let rows: [_; LANES] = std::array::from_fn(|i| [i as f32; LANES]);
    assert_eq!(Scalar.transpose(&rows)[3], std::array::from_fn(|i| i as f32));
    let (a, b): ([f32; LANES], [f32; LANES]) =
        (std::array::from_fn(|i| i as f32), [0.0; LANES].map(|_| 20.0));
    let (even, odd) = Scalar.unzip(a, b);
    assert_eq!((even[7], even[8], odd[0], odd[7]), (14.0, 20.0, 1.0, 15.0));
    assert_eq!(Scalar.zip(even, odd), (a, b));
    assert_eq!(Scalar.trees(&rows), std::array::from_fn(|i| 16.0 * i as f32));
    assert_eq!(Scalar.exp([f32::NAN; LANES]).map(f32::is_nan), [true; LANES]);
}

#[test]
fn exp_agrees_over_its_whole_range() {
    let mut x = -120.0f32;
    let mut at = Vec::new();
    while x < 95.0 {
        at.push(x);
        x += 0.001_3;
    }
    at.extend([
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        math::EXP_ZERO_BELOW,
        math::EXP_INF_ABOVE,
        1e30,
        -1e30,
    ]);
    let want: Vec<f32> = at.iter().map(|x| math::exp(*x)).collect();
    for (x, want) in at.chunks_exact(LANES).zip(want.chunks_exact(LANES)) {
        let got = Scalar.exp(Scalar.load(x.first_chunk().unwrap()));
        assert_eq!(bits(&got), bits(want));
    }
    #[cfg(target_arch = "x86_64")]
    for isa in [Isa::Avx2, Isa::Avx512].into_iter().filter(|i| i.available()) {
        let mut got = vec![0f32; at.len()];
        // SAFETY: the set was just found available.
        unsafe { if isa == Isa::Avx2 { exp_avx2(&at, &mut got) } else { exp_avx512(&at, &mut got) } }
        assert_eq!(bits(&got), bits(&want), "{isa}");
    }
}

#[inline(always)]
fn exp_all<S: Simd>(s: S, x: &[f32], out: &mut [f32]) {
    for (x, o) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        s.store_upto(s.exp(s.load_upto(x)), o);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn exp_avx2(x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller checked the features.
    exp_all(unsafe { Avx2::new() }, x, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn exp_avx512(x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller checked the features.
    exp_all(unsafe { Avx512::new() }, x, out);
}
