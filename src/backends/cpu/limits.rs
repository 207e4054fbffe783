//! What this machine can compute at best: floating-point and byte products per second. (What it can read at best is in
//! [`crate::backends::measure`].)
//!
//! Each is the best of several short runs, since other work on the machine only ever slows one down.

#[cfg(target_arch = "x86_64")]
use super::product::tiles_amx;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{LANES, Scalar, Simd};
use crate::backends::Isa;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Runs `work` on `threads` threads at once, `runs` times, and returns the least seconds from the first start to the last
/// end. Threads meet before they start: making one takes a tenth as long as a run.
fn best(threads: usize, runs: usize, work: impl Fn(usize) + Sync) -> f64 {
    let ready = Barrier::new(threads.max(1));
    let timed = |t: usize| {
        ready.wait();
        let start = Instant::now();
        work(t);
        (start, Instant::now())
    };
    let mut least = f64::INFINITY;
    for _ in 0..runs {
        let (start, end) = std::thread::scope(|s| {
            let timed = &timed;
            let others: Vec<_> = (1..threads).map(|t| s.spawn(move || timed(t))).collect();
            let mine = timed(0);
            // A thread that could not tell its time has none.
            others.into_iter().filter_map(|o| o.join().ok()).fold(mine, |a, b| (a.0.min(b.0), a.1.max(b.1)))
        });
        least = least.min((end - start).as_secs_f64());
    }
    least
}

/// Floating-point operations per second of f32 fused multiply-adds (two each) on `threads` threads.
pub fn peak_fma(isa: Isa, threads: usize, runs: usize) -> f64 {
    const ROUNDS: usize = 400_000;
    let isa = if isa.available() { isa } else { Isa::Scalar };
    let seconds = best(threads, runs, |_| match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instruction set.
        Isa::Avx512 | Isa::Amx => unsafe { fma_avx512(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instruction set.
        Isa::Avx2 => unsafe { fma_avx2(ROUNDS) },
        _ => fma_rounds::<_, 4>(Scalar, ROUNDS),
    });
    let chains = if isa >= Isa::Avx512 { 16 } else { 4 };
    (threads * ROUNDS * chains * LANES * 2) as f64 / seconds
}

#[inline(always)]
fn fma_rounds<S: Simd, const CHAINS: usize>(s: S, rounds: usize) {
    let mut acc = [s.splat(black_box(1.0)); CHAINS];
    let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = s.fma(*acc, a, b);
        }
    }
    let sum = acc.into_iter().fold(s.zero(), |x, y| s.add(x, y));
    black_box(s.tree(sum));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn fma_avx2(rounds: usize) {
    // SAFETY: these features are enabled.
    fma_rounds::<_, 4>(unsafe { Avx2::new() }, rounds);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn fma_avx512(rounds: usize) {
    // SAFETY: these features are enabled.
    fma_rounds::<_, 16>(unsafe { Avx512::new() }, rounds);
}

/// Operations per second (a product and an addition are two) of exact byte products on `threads` threads, by the
/// instructions that the tiles of `isa` are made of; those of codes with AVX2, which take half as many as those of Q8_0.
pub fn peak_bytes(isa: Isa, threads: usize, runs: usize) -> f64 {
    const ROUNDS: usize = 400_000;
    let isa = if isa.available() { isa } else { Isa::Scalar };
    let seconds = best(threads, runs, |_| match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instruction set.
        Isa::Amx => unsafe { tiles_amx::multiply_rounds(ROUNDS / 64) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instruction set.
        Isa::Avx512 => unsafe { bytes_avx512(ROUNDS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instruction set.
        Isa::Avx2 => unsafe { bytes_avx2(ROUNDS) },
        _ => bytes_plain(ROUNDS),
    });
    let ops = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => tiles_amx::round_ops(ROUNDS / 64),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Amx => 0,
        Isa::Avx512 => ROUNDS * 16 * 64 * 2,
        Isa::Avx2 => ROUNDS * 6 * 32 * 2,
        Isa::Scalar => ROUNDS * 32 * 2,
    };
    (threads * ops) as f64 / seconds
}

fn bytes_plain(rounds: usize) {
    let (a, mut b) = (black_box([3i8; 32]), black_box([5i8; 32]));
    let mut sum = 0i32;
    for _ in 0..rounds {
        b[0] = black_box(b[0]);
        let products: i32 = a.iter().zip(&b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        sum = sum.wrapping_add(products);
    }
    black_box(sum);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn bytes_avx512(rounds: usize) {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_epi32(black_box(0x0102_0304)), _mm512_set1_epi32(black_box(0x0101_0101)));
    let mut acc = [_mm512_setzero_si512(); 16];
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = _mm512_dpbusd_epi32(*acc, a, b);
        }
    }
    let sum = acc.into_iter().fold(_mm512_setzero_si512(), |x, y| _mm512_add_epi32(x, y));
    black_box(_mm512_reduce_add_epi32(sum));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn bytes_avx2(rounds: usize) {
    use std::arch::x86_64::*;
    let mut a = _mm256_set1_epi32(black_box(0x0102_0304));
    let mut b = [_mm256_setzero_si256(); 6];
    for (i, b) in b.iter_mut().enumerate() {
        *b = _mm256_set1_epi32(black_box(i as i32));
    }
    let mut acc = [_mm256_setzero_si256(); 6];
    for _ in 0..rounds {
        for (acc, b) in acc.iter_mut().zip(b) {
            *acc = _mm256_add_epi16(*acc, _mm256_maddubs_epi16(a, b));
        }
        a = _mm256_xor_si256(a, b[1]);
    }
    let sum = acc.into_iter().fold(_mm256_setzero_si256(), |x, y| _mm256_add_epi32(x, y));
    black_box(_mm_cvtsi128_si32(_mm256_castsi256_si128(sum)));
}
