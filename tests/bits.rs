//! The logits have the same bits whatever the threads, the passes, the instruction set, the fusion, the company and
//! the way the file was loaded.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{all_bits, bits, engine, file, mixed, nano, odd, one_thread, tokens, wide};
use quipu::backends::Isa;
use quipu::engine::{Engine, EngineOptions, Logits, StepInput};
use quipu::loader::synth::Shape;
use quipu::loader::{Bytes, LoadMode};
use quipu::plan::{FuseOptions, fuse};
use quipu::quant::DType;

/// Tokens of the text: more than one chunk of attention, and no multiple of anything.
const N: usize = 301;

fn options() -> EngineOptions {
    EngineOptions { n_outputs: N as u32, ..one_thread() }
}

type Rows = Vec<Vec<u32>>;

/// The logits of the text in one pass on one thread.
fn expected(model: &Bytes, options: &EngineOptions) -> Rows {
    expected_of(model, options, N)
}

/// Those of its first `n` tokens.
fn expected_of(model: &Bytes, options: &EngineOptions, n: usize) -> Rows {
    let mut e = engine(model, EngineOptions { n_ubatch: 512, threads: Some(1), ..options.clone() });
    let mut session = e.new_session().unwrap();
    let rows = all_bits(&mut e, &mut session, &tokens(n, 1));
    let first = &rows[0];
    assert!(rows.iter().skip(1).all(|r| r != first), "logits do not depend on the text");
    rows
}

fn same(what: &str, found: &Rows, expected: &Rows) {
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let at = a.iter().zip(b).position(|(x, y)| x != y);
        assert_eq!(at, None, "{what}: row {i} differs");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn check(what: &str, e: &mut Engine, expected: &Rows) {
    let mut session = e.new_session().unwrap();
    same(what, &all_bits(e, &mut session, &tokens(expected.len(), 1)), expected);
}

/// Every way to run one text.
fn every_way(name: &str, shape: &Shape, dtype: DType, base: &EngineOptions) {
    every_way_of(name, &file(shape, dtype), base);
}

fn every_way_of(name: &str, model: &Bytes, base: &EngineOptions) {
    let rows = expected(model, base);
    let with = |f: &dyn Fn(&mut EngineOptions)| {
        let mut o = base.clone();
        f(&mut o);
        engine(model, o)
    };
    for threads in [2, 3] {
        check(&format!("{name} {threads} threads"), &mut with(&|o| o.threads = Some(threads)), &rows);
    }
    for ub in [1, 7, 64] {
        check(&format!("{name} -ub {ub}"), &mut with(&|o| o.n_ubatch = ub), &rows);
    }
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        check(&format!("{name} {isa}"), &mut with(&|o| o.isa = Some(isa)), &rows);
        let unfused = &|o: &mut EngineOptions| {
            (o.isa, o.fuse, o.threads, o.n_ubatch) = (Some(isa), FuseOptions::none(), Some(2), 64);
        };
        check(&format!("{name} {isa} unfused"), &mut with(unfused), &rows);
    }
    let mut e = with(&|_| ());
    let mut session = e.new_session().unwrap();
    let one_by_one: Rows = tokens(N, 1).chunks(1).flat_map(|t| all_bits(&mut e, &mut session, t)).collect();
    same(&format!("{name} token by token"), &one_by_one, &rows);
}

#[test]
fn f32() {
    every_way("F32", &nano(), DType::F32, &options());
}

#[test]
fn f16() {
    every_way("F16", &nano(), DType::F16, &options());
}

#[test]
fn bf16_with_f32_cache() {
    let base = EngineOptions { type_k: DType::F32, type_v: DType::F32, ..options() };
    every_way("BF16", &nano(), DType::BF16, &base);
}

#[test]
fn q8_0() {
    every_way("Q8_0", &nano(), DType::Q8_0, &options());
}

#[test]
fn mixed_types_that_meet_q8_0() {
    let types = [DType::Q4_0, DType::Q8_0, DType::IQ4_NL, DType::Q5_0];
    every_way_of("mixed", &mixed(&nano(), &types), &options());
}

#[test]
fn mixed_types_that_meet_other_activations() {
    let types = [DType::Q5_1, DType::Q4_0, DType::Q4_1, DType::IQ4_NL, DType::F16];
    every_way_of("mixed", &mixed(&nano(), &types), &options());
}

#[test]
fn a_minimum_everywhere() {
    for dtype in [DType::Q4_1, DType::Q5_1] {
        let model = file(&nano(), dtype);
        let rows = expected(&model, &options());
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            let with = |n_ubatch| EngineOptions { isa: Some(isa), n_ubatch, ..options() };
            check(&format!("{dtype} {isa}"), &mut engine(&model, with(512)), &rows);
            check(&format!("{dtype} {isa} in parts"), &mut engine(&model, with(5)), &rows);
        }
    }
}

#[test]
fn mixed_types_of_256() {
    let types = [DType::Q4_K, DType::Q6_K, DType::Q5_K, DType::Q3_K, DType::IQ4_XS, DType::Q2_K];
    every_way_of("mixed", &mixed(&wide(), &types), &options());
}

#[test]
fn mixed_types_of_32_and_256() {
    let types = [DType::Q4_K, DType::Q6_K, DType::Q5_0, DType::Q4_K, DType::Q8_0];
    let model = mixed(&wide(), &types);
    let rows = expected(&model, &options());
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        let with = |n_ubatch| EngineOptions { isa: Some(isa), n_ubatch, threads: Some(2), ..options() };
        check(&format!("{isa}"), &mut engine(&model, with(64)), &rows);
        check(&format!("{isa} in parts"), &mut engine(&model, with(5)), &rows);
    }
}

#[test]
fn sizes_that_nothing_divides() {
    every_way("odd F16", &odd(), DType::F16, &options());
    let base = EngineOptions { type_k: DType::F32, ..options() };
    every_way("odd F32", &odd(), DType::F32, &base);
}

/// Heads of one block and of three, keys and values alike and not.
#[test]
fn caches_of_blocks() {
    let of = |type_k, type_v| EngineOptions { type_k, type_v, ..options() };
    let shape = Shape { head_dim: 32, ..nano() };
    every_way("Q8_0 cache", &shape, DType::Q8_0, &of(DType::Q8_0, DType::Q8_0));
    every_way("Q4_0 cache", &shape, DType::F16, &of(DType::Q4_0, DType::Q4_0));
    let shape = Shape { head_dim: 96, n_head: 3, n_head_kv: 1, ..nano() };
    every_way("mixed cache", &shape, DType::F16, &of(DType::Q8_0, DType::Q4_0));
    every_way("Q4_0 and F32 cache", &nano_of("qwen3"), DType::Q8_0, &of(DType::Q4_0, DType::F32));
    // They do lose something.
    let file = file(&Shape { head_dim: 32, ..nano() }, DType::F16);
    let rows = [
        (DType::F16, DType::F16),
        (DType::Q8_0, DType::F16),
        (DType::Q4_0, DType::F16),
        (DType::F16, DType::Q8_0),
    ]
    .map(|(k, v)| expected_of(&file, &of(k, v), 40));
    assert!((1..4).all(|i| rows[i] != rows[0] && (0..i).all(|j| rows[j] != rows[i])));
}

/// The nano shape of an architecture, with room for several chunks of attention.
fn nano_of(arch: &str) -> Shape {
    Shape { n_ctx: 1024, ..Shape::named(&format!("nano-{arch}")).unwrap().clone() }
}

#[test]
fn qwen2_with_its_biases() {
    every_way("qwen2 Q8_0", &nano_of("qwen2"), DType::Q8_0, &options());
}

#[test]
fn qwen3_with_norms_of_heads() {
    every_way("qwen3 Q8_0", &nano_of("qwen3"), DType::Q8_0, &options());
    let odd = Shape { head_dim: 24, n_head: 5, n_head_kv: 1, n_embd: 72, n_vocab: 391, ..nano_of("qwen3") };
    every_way("qwen3 F16, odd", &odd, DType::F16, &options());
}

#[test]
fn phi3_with_joined_matrices_and_longrope() {
    every_way("phi3 Q8_0", &nano_of("phi3-long"), DType::Q8_0, &options());
    // Parts that begin at no multiple of anything.
    let odd = Shape { head_dim: 22, n_head: 3, n_head_kv: 3, n_embd: 66, n_ff: 101, ..nano_of("phi3-long") };
    every_way("phi3 F16, odd", &odd, DType::F16, &options());
}

/// Products of one type are fused where those of several would not be, so each type has a model of its own.
fn each_type(architecture: &str) {
    let sizes = wide();
    let shape = Shape {
        n_embd: sizes.n_embd,
        n_ff: 256,
        n_layer: 1,
        n_head: sizes.n_head,
        n_head_kv: sizes.n_head_kv,
        head_dim: sizes.head_dim,
        ..nano_of(architecture)
    };
    let types = quipu::quant::TYPES.iter().filter_map(|t| DType::from_name(t.name));
    for dtype in types.filter(|t| t.weight_codec().is_some()) {
        let model = file(&shape, dtype);
        let rows = expected_of(&model, &options(), 19);
        let run = |what: &str, o: EngineOptions| {
            check(&format!("{architecture} {dtype} {what}"), &mut engine(&model, o), &rows);
        };
        run("-ub 7, 3 threads", EngineOptions { n_ubatch: 7, threads: Some(3), ..options() });
        run("token by token", EngineOptions { n_ubatch: 1, ..options() });
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            let with = |fuse| EngineOptions { isa: Some(isa), fuse, threads: Some(2), ..options() };
            run(&format!("{isa}"), EngineOptions { n_ubatch: 16, ..with(FuseOptions::default()) });
            run(&format!("{isa} unfused"), with(FuseOptions::none()));
        }
        for rule in fuse::RULES {
            let fuse = FuseOptions::without(&[rule.name]).unwrap();
            run(&format!("without {}", rule.name), EngineOptions { fuse, ..options() });
        }
    }
}

#[test]
fn each_type_of_llama() {
    each_type("llama");
}

#[test]
fn each_type_of_qwen2() {
    each_type("qwen2");
}

#[test]
fn each_type_of_qwen3() {
    each_type("qwen3");
}

#[test]
fn each_type_of_phi3() {
    each_type("phi3-long");
}

#[test]
fn each_fusion_rule_alone_left_out() {
    let of = |name: &'static str, shape: Shape, dtype| (name, file(&shape, dtype));
    for (name, model) in [
        of("llama F16", nano(), DType::F16),
        of("llama Q8_0", nano(), DType::Q8_0),
        of("llama Q4_1", nano(), DType::Q4_1),
        of("qwen2 F16", nano_of("qwen2"), DType::F16),
        of("qwen3 Q8_0", nano_of("qwen3"), DType::Q8_0),
        of("phi3 Q5_0", nano_of("phi3-long"), DType::Q5_0),
        of("llama Q4_K", wide(), DType::Q4_K),
    ] {
        let rows = expected(&model, &options());
        for rule in fuse::RULES {
            let o = EngineOptions { fuse: FuseOptions::without(&[rule.name]).unwrap(), ..options() };
            check(&format!("{name} without {}", rule.name), &mut engine(&model, o), &rows);
        }
    }
}

#[test]
fn mapped_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let model = file(&nano(), DType::Q8_0);
    std::fs::write(&path, &*model).unwrap();
    let rows = expected(&model, &options());
    for load_mode in [LoadMode::Mmap, LoadMode::Read] {
        let mut e = Engine::load(&path, EngineOptions { load_mode, ..options() }).unwrap();
        check(&format!("{load_mode}"), &mut e, &rows);
    }
}

/// A text alone, beside another, and in one step with three others that are elsewhere in their texts.
#[test]
fn company_changes_nothing() {
    for (shape, dtype, threads) in [
        (nano(), DType::F32, 1),
        (nano(), DType::F16, 3),
        (nano(), DType::Q8_0, 2),
        (wide(), DType::Q4_K, 2),
        (wide(), DType::Q6_K, 1),
        (nano_of("qwen2"), DType::BF16, 2),
        (nano_of("qwen3"), DType::Q5_1, 1),
        (nano_of("phi3-long"), DType::IQ4_NL, 3),
    ] {
        let model = file(&shape, dtype);
        let rows = expected(&model, &options());
        let o = EngineOptions { threads: Some(threads), n_ubatch: 64, ..options() };
        let mut e = engine(&model, o);
        let text = tokens(N, 1);
        let last = |e: &Engine, row| vec![bits(e, row)];

        // Beside another that decodes.
        let (mut a, mut b) = (e.new_session().unwrap(), e.new_session().unwrap());
        let other = tokens(N, 2);
        for i in 0..40 {
            let n = e.step(&mut [
                StepInput { session: &mut b, tokens: &other[i..=i], logits: Logits::Last },
                StepInput { session: &mut a, tokens: &text[i..=i], logits: Logits::Last },
            ]);
            assert_eq!(n.unwrap(), 2);
            same(&format!("{dtype} beside another, token {i}"), &last(&e, 1), &rows[i..=i].to_vec());
        }

        // In one step with three others: one long prompt, one that decodes far on, one without logits.
        let mut others: Vec<_> = (0..3).map(|_| e.new_session().unwrap()).collect();
        e.step(&mut [StepInput { session: &mut others[1], tokens: &other, logits: Logits::None }]).unwrap();
        a.reset();
        for (i, part) in text.chunks(100).enumerate() {
            let [x, y, z] = others.get_disjoint_mut([0, 1, 2]).unwrap();
            let n = e.step(&mut [
                StepInput { session: x, tokens: &other[i * 50..i * 50 + 50], logits: Logits::Last },
                StepInput { session: &mut a, tokens: part, logits: Logits::All },
                StepInput { session: y, tokens: &other[i..=i], logits: Logits::Last },
                StepInput { session: z, tokens: &other[i..i + 9], logits: Logits::None },
            ]);
            assert_eq!(n.unwrap() as usize, part.len() + 2);
            let found: Rows = (1..=part.len() as u32).map(|r| bits(&e, r)).collect();
            same(
                &format!("{dtype} with three others, part {i}"),
                &found,
                &rows[i * 100..][..part.len()].to_vec(),
            );
        }

        // After all that, alone on the same engine.
        a.reset();
        same(&format!("{dtype} alone again"), &all_bits(&mut e, &mut a, &text), &rows);
        // And the other texts were not disturbed either: one of them again, alone.
        let far = tokens(N, 2).into_iter().chain(other[..4].iter().copied()).collect::<Vec<_>>();
        e.step(&mut [StepInput { session: &mut others[1], tokens: &other[4..5], logits: Logits::Last }])
            .unwrap();
        let found = last(&e, 0);
        let mut fresh = e.new_session().unwrap();
        e.step(&mut [StepInput { session: &mut fresh, tokens: &far, logits: Logits::None }]).unwrap();
        e.step(&mut [StepInput { session: &mut fresh, tokens: &other[4..5], logits: Logits::Last }]).unwrap();
        same(&format!("{dtype} the far one"), &last(&e, 0), &found);
    }
}
