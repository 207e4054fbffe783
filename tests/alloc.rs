//! Nothing is allocated, and no graph or plan is built, for a generated token: step, sampler and detokeniser.
#![allow(clippy::unwrap_used, unsafe_code)]

mod common;

use common::engines::{engine, file, nano, tokens};
use quipu::engine::{
    Engine, EngineOptions, GenerateOptions, Logits, ProfileOptions, SamplerParams, StepInput, StopReason,
};
use quipu::loader::synth::Shape;
use quipu::quant::DType;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what every thread of the process asks for.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything that can be on: penalties, bias, all filters, draws, stop strings.
fn all_on() -> GenerateOptions {
    let sampler = SamplerParams {
        temp: 0.9,
        repeat_penalty: 1.1,
        presence_penalty: 0.1,
        frequency_penalty: 0.1,
        logit_bias: vec![(5, -1.0)],
        seed: Some(3),
        ignore_eos: true,
        ..SamplerParams::default()
    };
    GenerateOptions { sampler, stop: vec!["\u{1}never".into(), "the end of it".into()], ..Default::default() }
}

/// Generates and returns how many tokens came after the warm-up, and what they allocated.
fn generate(e: &mut Engine, options: &GenerateOptions) -> (u64, u64) {
    let mut session = e.new_session().unwrap();
    let before = e.stats();
    let mut g = e.generate(&mut session, "Once upon a time", options).unwrap();
    while g.timings().generated_tokens < 4 {
        g.next().unwrap().unwrap();
    }
    let (calls, tokens) = (CALLS.load(Ordering::SeqCst), g.timings().generated_tokens);
    let mut text = 0;
    for piece in &mut g {
        text += piece.unwrap().as_str().len();
    }
    let calls = CALLS.load(Ordering::SeqCst) - calls;
    assert_eq!(g.stop_reason(), Some(StopReason::Length));
    assert!(text > 0);
    let tokens = g.timings().generated_tokens - tokens;
    let after = e.stats();
    assert_eq!((after.graphs_built, after.plans_built), (before.graphs_built, before.plans_built));
    (tokens, calls)
}

/// One test only, so that no other allocates meanwhile.
#[test]
fn a_token_allocates_nothing() {
    let before = CALLS.load(Ordering::SeqCst);
    drop(std::hint::black_box(vec![1u8]));
    assert!(CALLS.load(Ordering::SeqCst) > before, "the allocator does not count");

    let shape = Shape { head_dim: 32, ..nano() };
    let models = [DType::F32, DType::F16, DType::Q8_0, DType::Q4_1].map(|dtype| (dtype, file(&shape, dtype)));
    // Writing them used rayon's threads, which may still be on their way to sleep.
    std::thread::sleep(std::time::Duration::from_millis(200));
    for (dtype, model) in models {
        for threads in [1, 2, 3] {
            let cache =
                if dtype == DType::Q4_1 { (DType::Q8_0, DType::Q4_0) } else { (DType::F16, DType::F16) };
            let options = EngineOptions { type_k: cache.0, type_v: cache.1, ..Default::default() };
            let mut e = engine(&model, EngineOptions { threads: Some(threads), ..options });
            assert_eq!((e.stats().graphs_built, e.stats().plans_built), (1, 2));
            let greedy = GenerateOptions {
                sampler: SamplerParams { ignore_eos: true, ..SamplerParams::greedy() },
                ..Default::default()
            };
            for options in [&greedy, &all_on()] {
                let options = GenerateOptions { max_tokens: 300, ..options.clone() };
                let (tokens, calls) = generate(&mut e, &options);
                assert_eq!((tokens, calls), (296, 0), "{dtype}, {threads} threads");
            }
            several_sessions(&mut e);
            // Neither does one that is profiled.
            let options = GenerateOptions { max_tokens: 300, ..greedy };
            e.start_profile(&ProfileOptions { passes: 301, slices: true });
            assert_eq!(generate(&mut e, &options), (296, 0), "profile of {dtype}, {threads} threads");
            assert_eq!(e.finish_profile(None).map(|p| p.plans.iter().map(|p| p.passes).sum()), Some(300u64));
        }
    }
}

/// Steps of three sessions, prompts among them.
fn several_sessions(e: &mut Engine) {
    let mut sessions: Vec<_> = (0..3).map(|_| e.new_session().unwrap()).collect();
    let text = tokens(100, 5);
    let mut calls = 0;
    for i in 0..20 {
        if i == 1 {
            calls = CALLS.load(Ordering::SeqCst);
        }
        let [a, b, c] = sessions.get_disjoint_mut([0, 1, 2]).unwrap();
        let n = e.step(&mut [
            StepInput { session: a, tokens: &text[..30], logits: Logits::Last },
            StepInput { session: b, tokens: &text[i..=i], logits: Logits::All },
            StepInput { session: c, tokens: &text[i..i + 2], logits: Logits::None },
        ]);
        assert_eq!(n.unwrap(), 2);
    }
    assert_eq!(CALLS.load(Ordering::SeqCst) - calls, 0);
}
