//! The engine's face: generation and its ends, sessions, errors that name numbers, traces.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{all_bits, engine, file, nano, one_thread, tokens};
use quipu::backends::Isa;
use quipu::engine::{
    Adapter, CancelToken, ContextLimit, Engine, EngineOptions, GenerateOptions, Generator, Logits,
    SamplerParams, Session, StepInput, StopReason, TraceOptions,
};
use quipu::loader::synth::{Shape, synth_shape};
use quipu::loader::{Bytes, Gguf, LoadMode, ParseOptions};
use quipu::plan::FuseOptions;
use quipu::quant::DType;
use quipu::{Class, Error};
use std::time::{Duration, Instant};

const PROMPT: &str = "Once upon a time";

fn nano_engine() -> Engine {
    engine(&file(&nano(), DType::F32), one_thread())
}

/// The most likely tokens, `n` of them, whatever they are.
fn greedy(n: i64) -> GenerateOptions {
    let sampler = SamplerParams { ignore_eos: true, ..SamplerParams::greedy() };
    GenerateOptions { max_tokens: n, sampler, ..GenerateOptions::default() }
}

/// Text and ids of all pieces.
fn drain(g: &mut Generator<'_>) -> (String, Vec<u32>) {
    let (mut text, mut ids) = (String::new(), Vec::new());
    for piece in g {
        let piece = piece.unwrap();
        text.push_str(piece.as_str());
        if ids.last() != Some(&piece.id) || piece.as_str().is_empty() {
            ids.push(piece.id);
        }
    }
    (text, ids)
}

fn generate(e: &mut Engine, s: &mut Session, prompt: &str, o: &GenerateOptions) -> (String, StopReason) {
    let mut g = e.generate(s, prompt, o).unwrap();
    let (text, _) = drain(&mut g);
    (text, g.stop_reason().unwrap())
}

fn refused(e: Error, code: &str, class: Class) -> String {
    assert_eq!((e.code(), e.class()), (code, class), "{e}");
    e.to_string()
}

#[test]
fn length_ends_a_generation_and_timings_add_up() {
    let mut e = nano_engine();
    let mut s = e.new_session().unwrap();
    let mut g = e.generate(&mut s, PROMPT, &greedy(20)).unwrap();
    let first = g.next().unwrap().unwrap();
    let (n_prompt, t) = (g.prompt().len(), g.timings());
    assert_eq!((t.generated_tokens, t.prompt_tokens), (1, n_prompt as u64));
    assert!(t.first_token >= t.prompt && t.prompt > Duration::ZERO);
    assert_eq!(g.session().len() as usize, n_prompt, "the first piece comes before a second pass");
    let (_, ids) = drain(&mut g);
    assert_eq!((g.timings().generated_tokens, g.stop_reason()), (20, Some(StopReason::Length)));
    assert!(g.next().is_none() && g.next().is_none());
    // The last token is chosen and not yet in the session.
    assert_eq!(s.len() as usize, n_prompt + 19);
    assert_eq!(s.tokens()[n_prompt], first.id);
    assert!(!ids.is_empty());
    assert_eq!(e.stats().rows, n_prompt as u64 + 19);
}

#[test]
fn nothing_is_generated_if_nothing_is_asked_for() {
    let mut e = nano_engine();
    let mut s = e.new_session().unwrap();
    let (text, reason) = generate(&mut e, &mut s, PROMPT, &greedy(0));
    assert_eq!((text.as_str(), reason), ("", StopReason::Length));
    assert!(!s.is_empty(), "the prompt is in the session");
}

#[test]
fn eos_ends_a_generation_unless_it_is_ignored() {
    let mut e = nano_engine();
    let eos = e.tokenizer().vocab().eog()[0];
    let mut s = e.new_session().unwrap();
    let mut o = GenerateOptions { max_tokens: 10, ..GenerateOptions::greedy() };
    o.sampler.logit_bias = vec![(eos, 1e6)];
    let mut g = e.generate(&mut s, PROMPT, &o).unwrap();
    assert_eq!(drain(&mut g), (String::new(), vec![]));
    assert_eq!((g.stop_reason(), g.timings().generated_tokens), (Some(StopReason::Eos), 0));
    s.reset();
    o.sampler.ignore_eos = true;
    assert_eq!(generate(&mut e, &mut s, PROMPT, &o).1, StopReason::Length);
}

#[test]
fn a_stop_string_ends_a_generation_and_is_not_given_out() {
    let mut e = nano_engine();
    let mut s = e.new_session().unwrap();
    let (text, _) = generate(&mut e, &mut s, PROMPT, &greedy(40));
    let middle: Vec<char> = text.chars().collect();
    assert!(middle.len() > 12, "{text:?}");
    let stop: String = middle[6..10].iter().collect();
    s.reset();
    let o = GenerateOptions { stop: vec!["\u{2}".into(), stop.clone()], ..greedy(40) };
    let mut g = e.generate(&mut s, PROMPT, &o).unwrap();
    let (cut, _) = drain(&mut g);
    assert_eq!((g.stop_reason(), g.stop_string()), (Some(StopReason::StopString), Some(1)));
    assert_eq!(cut, text[..text.find(&stop).unwrap()]);
}

#[test]
fn a_full_context_ends_a_generation_with_length() {
    let mut e = engine(&file(&nano(), DType::F32), EngineOptions { n_ctx: Some(32), ..one_thread() });
    assert_eq!((e.n_ctx(), e.context_limit()), (32, ContextLimit::Asked));
    let mut s = e.new_session().unwrap();
    let mut g = e.generate(&mut s, PROMPT, &greedy(-1)).unwrap();
    let n_prompt = g.prompt().len() as u64;
    drain(&mut g);
    // The token behind the last cell is chosen, and has no cell.
    assert_eq!(
        (g.stop_reason(), g.timings().generated_tokens),
        (Some(StopReason::Length), 32 - n_prompt + 1)
    );
    assert_eq!((s.len(), s.room()), (32, 0));
    let full = e.step(&mut [StepInput { session: &mut s, tokens: &[1], logits: Logits::Last }]).unwrap_err();
    assert!(refused(full, "ContextFull", Class::Input).contains("32"));
}

#[test]
fn another_thread_cancels_between_tokens() {
    let mut e = nano_engine();
    let mut s = e.new_session().unwrap();
    let token = CancelToken::new();
    let o = GenerateOptions { cancel: Some(token.clone()), ..greedy(-1) };
    let mut g = e.generate(&mut s, PROMPT, &o).unwrap();
    assert!(g.next().unwrap().is_ok());
    std::thread::spawn(move || token.cancel()).join().unwrap();
    for piece in g.by_ref() {
        assert!(piece.unwrap().as_str().is_empty(), "only what was held back may follow");
    }
    assert_eq!((g.stop_reason(), g.timings().generated_tokens), (Some(StopReason::Cancelled), 1));
    s.reset();
    assert_eq!(generate(&mut e, &mut s, PROMPT, &greedy(3)).1, StopReason::Length);
}

#[test]
fn another_thread_cancels_inside_a_pass() {
    let model = file(Shape::named("tiny-llama").unwrap(), DType::F32);
    for threads in [1, 3] {
        let o = EngineOptions { threads: Some(threads), isa: Some(Isa::Scalar), ..Default::default() };
        let mut e = engine(&model, o);
        let (mut s, text) = (e.new_session().unwrap(), tokens(150, 1));
        let started = Instant::now();
        e.step(&mut [StepInput { session: &mut s, tokens: &text, logits: Logits::Last }]).unwrap();
        let whole = started.elapsed();
        let expected = e.logits(0).unwrap().to_vec();

        s.reset();
        let token = CancelToken::new();
        let other = token.clone();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(whole / 20);
            other.cancel();
        });
        let mut inputs = [StepInput { session: &mut s, tokens: &text, logits: Logits::Last }];
        let done = e.step_unless(&mut inputs, &token).unwrap();
        canceller.join().unwrap();
        assert_eq!((done, s.len()), (None, 0), "{threads} threads; a whole pass takes {whole:?}");
        assert!(e.logits(0).is_none());

        // What the pass had written does no harm.
        e.step(&mut [StepInput { session: &mut s, tokens: &text, logits: Logits::Last }]).unwrap();
        assert_eq!(e.logits(0).unwrap(), expected);
    }
}

#[test]
fn sessions_are_reset_cut_and_used_again_without_loading() {
    let mut e = nano_engine();
    let mut s = e.new_session().unwrap();
    let built = (e.stats().graphs_built, e.stats().plans_built, e.stats().load);
    let first = generate(&mut e, &mut s, PROMPT, &greedy(30));
    let other = generate(&mut e, &mut s, " and more", &greedy(30));
    s.reset();
    assert!(s.is_empty());
    assert_eq!(generate(&mut e, &mut s, PROMPT, &greedy(30)), first);
    assert_eq!(generate(&mut e, &mut s, " and more", &greedy(30)), other);
    let text = tokens(60, 4);
    s.reset();
    let rows = e_all(&mut e, &mut s, &text);
    s.truncate(20);
    assert_eq!((s.len(), s.tokens()), (20, &text[..20]));
    e_none(&mut e, &mut s, &tokens(30, 9));
    s.truncate(20);
    for (i, t) in text.iter().enumerate().skip(20) {
        assert_eq!(e_all(&mut e, &mut s, &[*t])[0], rows[i]);
    }
    assert_eq!((e.stats().graphs_built, e.stats().plans_built, e.stats().load), built);
}

/// As `all_bits`, eight tokens at a time: the default number of outputs.
fn e_all(e: &mut Engine, s: &mut Session, tokens: &[u32]) -> Vec<Vec<u32>> {
    tokens.chunks(8).flat_map(|t| all_bits(e, s, t)).collect()
}

fn e_none(e: &mut Engine, s: &mut Session, tokens: &[u32]) {
    assert_eq!(e.step(&mut [StepInput { session: s, tokens, logits: Logits::None }]).unwrap(), 0);
}

#[test]
fn what_a_step_cannot_do_is_said_before_anything_is_computed() {
    let (mut e, mut other) = (nano_engine(), nano_engine());
    let (mut s, mut t) = (e.new_session().unwrap(), e.new_session().unwrap());
    e_none(&mut e, &mut s, &[1, 2, 3]);
    let rows = e.stats().rows;
    let cases: [(&[u32], Logits, &str, Class); 4] = [
        (&[], Logits::None, "NoTokens", Class::Input),
        (&[384], Logits::Last, "TokenIdOutOfRange", Class::Input),
        (&[5; 1022], Logits::Last, "ContextFull", Class::Input),
        (&[5; 9], Logits::All, "TooManyOutputs", Class::Usage),
    ];
    for (tokens, logits, code, class) in cases {
        let mut inputs = [
            StepInput { session: &mut t, tokens: &[7], logits: Logits::None },
            StepInput { session: &mut s, tokens, logits },
        ];
        refused(e.step(&mut inputs).unwrap_err(), code, class);
    }
    let foreign = other.step(&mut [StepInput { session: &mut s, tokens: &[1], logits: Logits::Last }]);
    refused(foreign.unwrap_err(), "ForeignSession", Class::Input);
    assert_eq!((s.len(), t.len(), e.stats().rows, other.stats().rows), (3, 0, rows, 0));
    let long = e.generate_from(&mut s, vec![5; 1022], &greedy(1)).unwrap_err();
    let long = refused(long, "PromptTooLong", Class::Input);
    assert!(long.contains("1022") && long.contains("1021") && long.contains("1024"), "{long}");
    let empty = e.generate_from(&mut s, vec![], &greedy(1)).unwrap_err();
    refused(empty, "EmptyPrompt", Class::Input);
}

#[test]
fn too_little_memory_is_an_error_with_numbers() {
    let model = file(&nano(), DType::F32);
    let gguf = Gguf::parse(model, &ParseOptions::default()).unwrap();
    let o = EngineOptions { n_ctx: Some(i32::MAX as u32), ..one_thread() };
    let why = refused(Engine::from_gguf(gguf, o).unwrap_err(), "InsufficientMemory", Class::Resources);
    assert!(why.contains("-c") && why.contains("bytes"), "{why}");
}

#[test]
fn options_out_of_range_are_all_named() {
    let o = EngineOptions {
        threads: Some(0),
        n_ubatch: 0,
        n_outputs: 1 << 20,
        n_ctx: Some(0),
        type_v: DType::Q6_K,
        ..EngineOptions::default()
    };
    let why = refused(Engine::load("nowhere", o).unwrap_err(), "OutOfRange", Class::Usage);
    for field in ["threads", "n_ubatch", "n_outputs", "n_ctx", "type_v"] {
        assert!(why.contains(field), "{field} in {why}");
    }
    for isa in Isa::ALL.into_iter().filter(|i| !i.available()) {
        let gguf = Gguf::parse(file(&nano(), DType::F32), &ParseOptions::default()).unwrap();
        let e = Engine::from_gguf(gguf, EngineOptions { isa: Some(isa), ..one_thread() }).unwrap_err();
        refused(e, "NoSuchIsa", Class::Resources);
    }
}

/// The file with the first element of a tensor's row replaced by NaN.
fn with_nan(model: &Bytes, tensor: &str, row: u64) -> Bytes {
    let gguf = Gguf::parse(model.clone(), &ParseOptions::default()).unwrap();
    let t = gguf.tensor(tensor).unwrap();
    assert_eq!(t.dtype, DType::F32);
    let at = (t.offset + row * t.dims[0] * 4) as usize;
    let mut bytes = model.to_vec();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    Bytes::from(bytes)
}

#[test]
fn logits_that_are_no_numbers_end_the_step_and_are_named() {
    // Token 9 alone poisons its own position and what follows.
    let model = with_nan(&file(&nano(), DType::F32), "token_embd.weight", 9);
    let mut e = engine(&model, one_thread());
    let mut s = e.new_session().unwrap();
    e_none(&mut e, &mut s, &[4, 5]);
    let mut step = |tokens: &[u32]| e.step(&mut [StepInput { session: &mut s, tokens, logits: Logits::All }]);
    assert_eq!(step(&[6, 7]).unwrap(), 2);
    let why = refused(step(&[8, 9]).unwrap_err(), "NonFiniteLogits", Class::Runtime);
    assert!(why.contains("token 9") && why.contains("position 5") && why.contains("NaN"), "{why}");
    assert!(e.logits(0).is_none());
    assert_eq!(s.len(), 4, "the pass does not count");
    let mut g = e.generate_from(&mut s, vec![9], &greedy(3)).unwrap();
    refused(g.next().unwrap().unwrap_err(), "NonFiniteLogits", Class::Runtime);
    assert!(g.next().is_none() && g.stop_reason().is_none());

    let gguf = Gguf::parse(model, &ParseOptions::default()).unwrap();
    let o = EngineOptions { check_tensors: true, ..one_thread() };
    refused(Engine::from_gguf(gguf, o).unwrap_err(), "NonFiniteTensor", Class::Model);
}

#[test]
fn the_adapter_runs_what_the_engine_runs() {
    let mut a = Adapter::new(nano_engine()).unwrap();
    assert_eq!((a.model_type(), a.vocab_size(), a.context_length()), ("llama", 384, 1024));
    let ids = a.encode(PROMPT).unwrap();
    assert_eq!(a.decode(&ids).unwrap(), PROMPT);
    let first = a.prefill(&ids).unwrap().to_vec();
    let second = a.decode_token(7).unwrap().to_vec();
    assert_ne!(first, second);
    assert_eq!(a.prefill(&ids).unwrap(), first, "a prefill starts anew");
    let all: Vec<u32> = ids.iter().copied().chain([7]).collect();
    assert_eq!(a.prefill(&all).unwrap(), second);
    a.unload();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not-a-model");
    std::fs::write(&path, b"GGUF").unwrap();
    assert_eq!(Adapter::load(&path, one_thread()).unwrap_err().class(), Class::Model);
}

#[test]
fn a_trace_has_every_value_of_the_plan_that_runs() {
    let model = file(&nano(), DType::Q8_0);
    let text = tokens(21, 3);
    let o = EngineOptions { n_outputs: 512, ..one_thread() };
    let (mut fused, mut plain) =
        (engine(&model, o.clone()), engine(&model, EngineOptions { fuse: FuseOptions::none(), ..o.clone() }));
    let mut s = fused.new_session().unwrap();
    let rows = all_bits(&mut fused, &mut s, &text);
    let (some, all) = (
        fused.trace(&text, &TraceOptions::default()).unwrap(),
        plain.trace(&text, &TraceOptions::default()).unwrap(),
    );
    assert!(all.gone.is_empty() && !some.gone.is_empty(), "{:?} {:?}", all.gone, some.gone);
    for name in
        ["attn_norm-0", "Qcur_proj-0", "Qcur-0", "Kcur-1", "Vcur-0", "kqv_out-1", "ffn_inp-0", "ffn_out-1"]
    {
        assert_eq!(all.find(name).map(|v| v.data.len()), Some(21 * all.find(name).unwrap().cols as usize));
    }
    for v in &some.values {
        let unfused = all.find(&v.name).unwrap_or_else(|| panic!("{} is new", v.name));
        assert_eq!(v, unfused, "{}", v.name);
    }
    for v in &all.values {
        assert!(some.find(&v.name).is_some() || some.gone.contains(&v.name), "{} is lost", v.name);
    }
    let logits: Vec<u32> = all.find("result_output").unwrap().data.iter().map(|x| x.to_bits()).collect();
    assert_eq!(logits, rows.concat());
    assert!(fused.logits(0).is_none());
    let few = TraceOptions { names: vec!["l_out".into(), "result_output".into()], ..Default::default() };
    let mut many = engine(&model, EngineOptions { threads: Some(3), n_ubatch: 7, ..o });
    let few = many.trace(&text, &few).unwrap();
    let names: Vec<_> = few.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["l_out-0", "l_out-1", "result_output"]);
    assert!(few.values.iter().all(|v| all.find(&v.name) == Some(v)), "passes and threads change nothing");
}

#[test]
fn the_context_is_the_least_of_the_models_and_4096() {
    let header = |n_ctx| file(&Shape { n_ctx, ..nano() }, DType::F32);
    let e = engine(&header(100_000), one_thread());
    assert_eq!((e.n_ctx(), e.context_limit()), (4096, ContextLimit::Default));
    let e = nano_engine();
    assert_eq!((e.n_ctx(), e.context_limit()), (1024, ContextLimit::Model));
}

#[test]
fn an_engine_moves_to_another_thread_with_its_sessions() {
    let mut e = engine(&file(&nano(), DType::F16), EngineOptions { threads: Some(2), ..Default::default() });
    let mut s = e.new_session().unwrap();
    let here = generate(&mut e, &mut s, PROMPT, &greedy(10));
    s.reset();
    let there = std::thread::spawn(move || generate(&mut e, &mut s, PROMPT, &greedy(10)));
    assert_eq!(there.join().unwrap(), here);
}

/// Weights of a mapped file move into large pages once decoding goes on, and nothing but their pages changes.
#[test]
fn weights_move_when_decoding_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    // Past the size up to which a file is read.
    let shape = Shape { n_embd: 256, n_head: 8, n_head_kv: 4, head_dim: 32, n_vocab: 16_000, ..nano() };
    synth_shape(&shape, DType::F32, 7, std::fs::File::create(&path).unwrap()).unwrap();
    let bits = |load_mode: LoadMode, threads: usize| {
        // What is left of the prompt behind a full pass is one row, which the plan of decoding runs.
        let options =
            EngineOptions { load_mode, threads: Some(threads), n_ubatch: 3, ..EngineOptions::default() };
        let mut e = Engine::load(&path, options).unwrap();
        let mut s = e.new_session().unwrap();
        let (mut all, mut moved) = (Vec::new(), Vec::new());
        for tokens in [&[1, 5, 9, 2][..], &[3], &[4], &[5]] {
            e.step(&mut [StepInput { session: &mut s, tokens, logits: Logits::Last }]).unwrap();
            all.extend(e.logits(0).unwrap().iter().map(|x| x.to_bits()));
            moved.push(e.stats().moved_bytes);
        }
        (all, moved)
    };
    let (mapped, moved) = bits(LoadMode::Mmap, 1);
    assert_eq!(moved, [0; 4]);
    for threads in [1, 2] {
        let (auto, moved) = bits(LoadMode::Auto, threads);
        assert!(auto == mapped);
        // Not before the first token, and then once; nowhere if the system has no large pages.
        assert!(moved[0] == 0 && moved[1..].iter().all(|m| *m == moved[1]), "{moved:?}");
        let thp = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if thp.is_ok_and(|t| !t.contains("[never]")) {
            // The output matrix at least, but not the embedding's table.
            let matrix = 16_000 * 256 * 4;
            assert!(moved[1] > matrix && moved[1] < 2 * matrix, "{moved:?}");
        }
    }
}
