//! The choice of tokens against a slow restatement of the rules, hand-computed numbers and frequencies.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use quipu::engine::sampler::{Sampler, SamplerParams};
use quipu::ops::math::{exp64, ln64};

/// Every filter off, temperature 1.
fn open() -> SamplerParams {
    SamplerParams { temp: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(1), ..SamplerParams::default() }
}

fn sampler(params: &SamplerParams, n_vocab: usize) -> Sampler {
    Sampler::new(params, n_vocab, &[], &[]).unwrap()
}

fn logits_of(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|&p| ln64(p) as f32).collect()
}

fn kept(params: &SamplerParams, logits: &[f32]) -> Vec<u32> {
    let mut out = Vec::new();
    sampler(params, logits.len()).probabilities(logits, &mut out).unwrap();
    assert!((out.iter().map(|c| c.1).sum::<f32>() - 1.0).abs() < 1e-4);
    out.iter().map(|c| c.0).collect()
}

#[test]
fn the_defaults_are_the_usual_ones() {
    let p = SamplerParams::default();
    assert_eq!((p.temp, p.top_k, p.top_p, p.min_p), (0.8, 40, 0.95, 0.05));
    assert_eq!((p.repeat_penalty, p.repeat_last_n), (1.0, 64));
    assert_eq!((p.presence_penalty, p.frequency_penalty), (0.0, 0.0));
    assert!(!p.ignore_eos && p.seed.is_none() && p.logit_bias.is_empty() && p.check().is_ok());
}

#[test]
fn greedy_takes_the_largest_and_of_equals_the_lowest_id() {
    let mut s = sampler(&SamplerParams::greedy(), 40);
    let mut logits = vec![-1.0f32; 40];
    assert_eq!(s.sample(&logits).unwrap(), 0);
    for id in [39, 33, 17, 16, 3] {
        logits[id] = 2.0;
        assert_eq!(s.sample(&logits).unwrap(), id as u32);
    }
    logits[1] = -0.0;
    logits[2] = 0.0;
    logits[3..].fill(-5.0);
    assert_eq!(s.sample(&logits).unwrap(), 1, "the zeros are equal");
    for temp in [-1.0, 0.0, 9e-7] {
        let p = SamplerParams { temp, ..open() };
        assert!(p.is_greedy());
        assert_eq!(sampler(&p, 3).sample(&[0.0, 1.0, 0.999]).unwrap(), 1);
    }
    assert!(!SamplerParams { temp: 1e-6, ..open() }.is_greedy());
}

#[test]
fn top_k_keeps_the_best_and_breaks_ties_by_id() {
    let p = |top_k| SamplerParams { top_k, ..open() };
    let logits = [0.0, 3.0, 1.0, 3.0, 2.0, 1.0];
    assert_eq!(kept(&p(3), &logits), [1, 3, 4]);
    assert_eq!(kept(&p(4), &logits), [1, 3, 4, 2]);
    assert_eq!(kept(&p(1), &logits), [1]);
    assert_eq!(kept(&p(-1), &logits), [1, 3, 4, 2, 5, 0]);
    assert_eq!(kept(&p(6), &logits), kept(&p(100), &logits));
    // More than is collected at once, in rising order: every one beats those before.
    let rising: Vec<f32> = (0..5000).map(|i| i as f32 * 1e-3).collect();
    assert_eq!(kept(&p(5), &rising), [4999, 4998, 4997, 4996, 4995]);
    assert_eq!(kept(&p(3), &[7.0; 1000]), [0, 1, 2]);
}

#[test]
fn top_p_includes_the_token_that_crosses() {
    let p = |top_p| SamplerParams { top_p, ..open() };
    let logits = logits_of(&[0.1, 0.4, 0.3, 0.2]);
    assert_eq!(kept(&p(0.39), &logits), [1]);
    assert_eq!(kept(&p(0.41), &logits), [1, 2]);
    assert_eq!(kept(&p(0.69), &logits), [1, 2]);
    assert_eq!(kept(&p(0.71), &logits), [1, 2, 3]);
    assert_eq!(kept(&p(0.0), &logits), [1]);
    assert_eq!(kept(&p(1.0), &logits), [1, 2, 3, 0]);
}

#[test]
fn min_p_is_relative_to_the_most_likely() {
    let p = |min_p| SamplerParams { min_p, ..open() };
    let logits = logits_of(&[0.1, 0.5, 0.25, 0.15]);
    assert_eq!(kept(&p(0.49), &logits), [1, 2]);
    assert_eq!(kept(&p(0.51), &logits), [1]);
    assert_eq!(kept(&p(0.19), &logits), [1, 2, 3, 0]);
    assert_eq!(kept(&p(1.0), &logits), [1]);
}

#[test]
fn the_filters_apply_in_order_and_temperature_last() {
    // Of 0.4 0.3 0.2 0.1, top-k 3 leaves 4/9 3/9 2/9, of which top-p 0.75 keeps two; over all four it would
    // have kept three.
    let logits = logits_of(&[0.4, 0.3, 0.2, 0.1]);
    let p = SamplerParams { top_k: 3, top_p: 0.75, ..open() };
    assert_eq!(kept(&p, &logits), [0, 1]);
    assert_eq!(kept(&SamplerParams { top_k: 0, ..p.clone() }, &logits), [0, 1, 2]);
    // A high temperature would let everything through min-p, were it first.
    let p = SamplerParams { min_p: 0.6, temp: 100.0, ..open() };
    assert_eq!(kept(&p, &logits), [0, 1]);
    // The temperature halves the distance: 0.4 : 0.3 becomes the roots of it.
    let mut out = Vec::new();
    let p = SamplerParams { top_k: 2, temp: 2.0, ..open() };
    sampler(&p, 4).probabilities(&logits, &mut out).unwrap();
    let want = 0.4f64.sqrt() / (0.4f64.sqrt() + 0.3f64.sqrt());
    assert!((f64::from(out[0].1) - want).abs() < 1e-6, "{out:?}");
    // Penalties come before top-k: they decide who is among the best.
    let p = SamplerParams { top_k: 1, presence_penalty: 1.0, ..open() };
    let mut s = sampler(&p, 4);
    s.accept(0);
    assert_eq!(s.sample(&logits).unwrap(), 1);
    // And the bias before the penalties, which divide what it made.
    let p = SamplerParams { repeat_penalty: 2.0, logit_bias: vec![(0, 3.0)], ..SamplerParams::greedy() };
    let mut s = sampler(&p, 2);
    s.accept(0);
    assert_eq!(s.sample(&[1.0, 1.9]).unwrap(), 0, "(1 + 3) / 2 is above 1.9; 1 / 2 + 3 would be too");
    assert_eq!(s.sample(&[1.0, 2.1]).unwrap(), 1, "(1 + 3) / 2 is below 2.1; 1 / 2 + 3 would not");
}

#[test]
fn penalties_give_the_hand_computed_numbers() {
    let p = SamplerParams {
        repeat_penalty: 2.0,
        presence_penalty: 0.25,
        frequency_penalty: 0.5,
        repeat_last_n: 3,
        ..open()
    };
    let mut s = sampler(&p, 4);
    let ratio = |s: &mut Sampler, logits: &[f32]| {
        let mut out = Vec::new();
        s.probabilities(logits, &mut out).unwrap();
        let of = |id| out.iter().find(|c| c.0 == id).map(|c| ln64(f64::from(c.1))).unwrap();
        [0, 1, 2].map(|id| ((of(id) - of(3)) * 1e4).round() / 1e4)
    };
    // Token 3 stays at logit 0, so the logarithms of the ratios to it are the logits.
    let logits = [3.0, -1.0, 1.0, 0.0];
    assert_eq!(ratio(&mut s, &logits), [3.0, -1.0, 1.0]);
    s.accept(0);
    s.accept(1);
    s.accept(0);
    assert_eq!(ratio(&mut s, &logits), [3.0 / 2.0 - 2.0 * 0.5 - 0.25, -2.0 - 0.5 - 0.25, 1.0]);
    // The window holds three: the first 0 leaves it.
    s.accept(2);
    assert_eq!(ratio(&mut s, &logits), [1.5 - 0.5 - 0.25, -2.75, 0.5 - 0.5 - 0.25]);
    for _ in 0..3 {
        s.accept(2);
    }
    assert_eq!(ratio(&mut s, &logits), [3.0, -1.0, 0.5 - 1.5 - 0.25]);
    s.accept(99);
    s.reset();
    assert_eq!(ratio(&mut s, &logits), [3.0, -1.0, 1.0]);
    // Without a window everything counts; with none, nothing.
    let mut s = sampler(&SamplerParams { repeat_last_n: -1, ..p.clone() }, 4);
    (0..100).for_each(|_| s.accept(2));
    assert_eq!(ratio(&mut s, &logits), [3.0, -1.0, 0.5 - 50.0 - 0.25]);
    let mut s = sampler(&SamplerParams { repeat_last_n: 0, ..p }, 4);
    s.accept(0);
    assert_eq!(ratio(&mut s, &logits), [3.0, -1.0, 1.0]);
}

#[test]
fn bias_and_bans_decide_who_can_be_chosen() {
    let p = SamplerParams {
        logit_bias: vec![(0, f32::NEG_INFINITY), (3, 1.5), (3, 1.5)],
        ignore_eos: true,
        ..open()
    };
    let mut s = Sampler::new(&p, 5, &[1], &[2]).unwrap();
    let mut out = Vec::new();
    s.probabilities(&[9.0, 9.0, 9.0, -1.0, 1.0], &mut out).unwrap();
    assert_eq!(out.iter().map(|c| c.0).collect::<Vec<_>>(), [3, 4]);
    let p = SamplerParams { ignore_eos: false, ..p };
    assert_eq!(Sampler::new(&p, 5, &[1], &[2]).unwrap().sample(&[0.0, 99.0, 0.0, 0.0, 0.0]).unwrap(), 1);
    let e = Sampler::new(&open(), 2, &[], &[0, 1]).unwrap().sample(&[0.0, 0.0]).unwrap_err();
    assert_eq!(e.code(), "NoCandidates");
}

#[test]
fn logits_that_are_no_numbers_are_an_error_that_names_the_token() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for params in [SamplerParams::greedy(), open()] {
            let mut logits = vec![0.0f32; 3000];
            logits[2500] = bad;
            let e = sampler(&params, 3000).sample(&logits).unwrap_err();
            assert_eq!((e.code(), e.class().exit_code()), ("NonFiniteLogits", 1));
            assert!(e.to_string().contains("token 2500"), "{e}");
        }
    }
    let p = SamplerParams { logit_bias: vec![(1, f32::MAX)], ..open() };
    assert_eq!(sampler(&p, 2).sample(&[0.0, f32::MAX]).unwrap_err().code(), "NonFiniteLogits");
    assert_eq!(sampler(&open(), 2).sample(&[0.0]).unwrap_err().code(), "LogitsLength");
    // The largest finite differences still give a token.
    let tiny = SamplerParams { temp: 1e-6, ..open() };
    assert_eq!(sampler(&tiny, 2).sample(&[f32::MIN, f32::MAX]).unwrap(), 1);
}

#[test]
fn bad_parameters_are_named() {
    let fields = |p: SamplerParams| -> Vec<String> {
        let e = Sampler::new(&p, 10, &[], &[]).unwrap_err();
        assert_eq!(e.class().exit_code(), 2);
        e.problems().iter().map(|p| p.thing.clone()).collect()
    };
    let d = SamplerParams::default;
    assert_eq!(fields(SamplerParams { temp: f32::NAN, top_p: -0.1, ..d() }), ["temp", "top_p"]);
    assert_eq!(fields(SamplerParams { top_p: 1.5, min_p: f32::NAN, ..d() }), ["top_p", "min_p"]);
    for r in [0.0, -1.0, f32::INFINITY, 1e-45] {
        assert_eq!(fields(SamplerParams { repeat_penalty: r, ..d() }), ["repeat_penalty"]);
    }
    for n in [-2, i32::MAX] {
        assert_eq!(fields(SamplerParams { repeat_last_n: n, ..d() }), ["repeat_last_n"]);
    }
    let p = SamplerParams { presence_penalty: f32::NAN, frequency_penalty: f32::INFINITY, ..d() };
    assert_eq!(fields(p), ["presence_penalty", "frequency_penalty"]);
    let p = SamplerParams { logit_bias: vec![(3, f32::NAN), (4, f32::INFINITY)], ..d() };
    assert_eq!(fields(p), ["logit_bias[3]", "logit_bias[4]"]);
    assert_eq!(fields(SamplerParams { logit_bias: vec![(10, 0.0)], ..d() }), ["logit_bias"]);
    assert!(SamplerParams { temp: -3.0, top_k: -1, ..d() }.check().is_ok());
}

#[test]
fn a_seed_gives_the_same_tokens_everywhere() {
    let logits: Vec<f32> = (0..100).map(|i| ((i * 37 % 100) as f32) * 0.05).collect();
    let draw = |params: &SamplerParams| {
        let mut s = sampler(params, 100);
        (0..16).map(|_| s.sample(&logits).unwrap()).collect::<Vec<u32>>()
    };
    let seeded = |seed| SamplerParams { seed: Some(seed), ..SamplerParams::default() };
    // Golden: a change of these is a change of what a seed means.
    assert_eq!(draw(&seeded(42)), GOLDEN_42);
    assert_eq!(draw(&seeded(u64::MAX)), GOLDEN_MAX);
    let mut s = sampler(&seeded(42), 100);
    let first: Vec<u32> = (0..5).map(|_| s.sample(&logits).unwrap()).collect();
    s.reset();
    assert_eq!(first, (0..5).map(|_| s.sample(&logits).unwrap()).collect::<Vec<_>>());
    assert_eq!(s.seed(), 42);
    // One draw per token, however many candidates there were: what follows does not depend on it.
    let mut s = sampler(&seeded(42), 100);
    let mut certain = vec![-50.0f32; 100];
    certain[7] = 50.0;
    assert_eq!(s.sample(&certain).unwrap(), 7);
    assert_eq!(s.sample(&logits).unwrap(), GOLDEN_42[1]);
}

/// Made by a ChaCha8 and the rules written independently in Python.
const GOLDEN_42: [u32; 16] = [62, 35, 70, 89, 94, 27, 70, 35, 43, 40, 51, 94, 62, 43, 70, 81];
const GOLDEN_MAX: [u32; 16] = [32, 8, 78, 16, 97, 97, 67, 24, 24, 70, 54, 8, 8, 27, 70, 70];

#[test]
fn without_a_seed_one_is_taken_and_reported() {
    let p = SamplerParams::default();
    let seeds: Vec<u64> = (0..4).map(|_| sampler(&p, 4).seed()).collect();
    assert!(seeds.iter().all(|s| *s <= u64::from(u32::MAX)));
    assert!(seeds.iter().any(|s| *s != seeds[0]), "{seeds:?}");
    let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
    let mut a = sampler(&p, 50);
    let mut b = sampler(&SamplerParams { seed: Some(a.seed()), ..p }, 50);
    for _ in 0..50 {
        assert_eq!(a.sample(&logits).unwrap(), b.sample(&logits).unwrap());
    }
}

#[test]
fn frequencies_match_the_distribution() {
    let n = 40_000;
    for (seed, temp) in [(1, 1.0), (2, 0.7), (3, 1.6)] {
        let logits: Vec<f32> = (0..12).map(|i| (i as f32 * 1.7) % 3.0).collect();
        let p = SamplerParams { seed: Some(seed), temp, ..open() };
        let mut s = sampler(&p, 12);
        let weights: Vec<f64> = logits.iter().map(|l| exp64(f64::from(l / temp))).collect();
        let all: f64 = weights.iter().sum();
        let mut seen = [0u32; 12];
        (0..n).for_each(|_| seen[s.sample(&logits).unwrap() as usize] += 1);
        let chi2: f64 = seen
            .iter()
            .zip(&weights)
            .map(|(&o, w)| {
                let want = f64::from(n) * w / all;
                (f64::from(o) - want) * (f64::from(o) - want) / want
            })
            .sum();
        // 11 degrees of freedom: 31.3 is exceeded once in a thousand.
        assert!(chi2 < 31.3, "seed {seed} temp {temp}: {chi2}");
    }
}

/// The rules as they are stated, over a fully sorted list in f64.
fn slow(p: &SamplerParams, logits: &[f32]) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|l| f64::from(*l))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if p.top_k > 0 {
        all.truncate(p.top_k as usize);
    }
    let max = all[0].1;
    if p.top_p < 1.0 {
        let sum: f64 = all.iter().map(|c| exp64(c.1 - max)).sum();
        let mut run = 0.0;
        let keep = all.iter().position(|c| {
            run += exp64(c.1 - max) / sum;
            run >= f64::from(p.top_p)
        });
        all.truncate(keep.map_or(all.len(), |i| i + 1));
    }
    all.retain(|c| exp64(c.1 - max) >= f64::from(p.min_p));
    let weights: Vec<f64> = all.iter().map(|c| exp64((c.1 - max) / f64::from(p.temp))).collect();
    let sum: f64 = weights.iter().sum();
    all.iter().zip(weights).map(|(c, w)| (c.0, w / sum)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_filters_keep_what_the_slow_ones_keep(
        // Coarse logits make ties.
        coarse in prop::collection::vec(-60i32..60, 1..700),
        step in 0.01f32..0.5,
        top_k in prop_oneof![Just(0), 1..60i32, Just(1000)],
        top_p in prop_oneof![Just(1.0f32), 0.05..0.99f32],
        min_p in prop_oneof![Just(0.0f32), 0.001..0.9f32],
        temp in 0.2f32..3.0,
    ) {
        let logits: Vec<f32> = coarse.iter().map(|c| *c as f32 * step).collect();
        let p = SamplerParams { top_k, top_p, min_p, temp, ..open() };
        let mut got = Vec::new();
        sampler(&p, logits.len()).probabilities(&logits, &mut got).unwrap();
        // Where rounding could decide, there is nothing to compare.
        let near = |f: f32| SamplerParams { top_p: (top_p * f).min(1.0), min_p: min_p / f, ..p.clone() };
        let (fewer, more) = (slow(&near(0.99999), &logits), slow(&near(1.00001), &logits));
        prop_assume!(fewer.len() == more.len());
        let want = slow(&p, &logits);
        prop_assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(&want) {
            prop_assert_eq!(g.0, w.0);
            prop_assert!((f64::from(g.1) - w.1).abs() < 1e-5, "{} {}", g.1, w.1);
        }
    }
}
