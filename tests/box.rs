//! The trained models in the box: the same layers, logits, ids, texts and perplexity as llama.cpp and PyTorch, in every
//! element type. What those say is in `tests/data/box`; `tools/box/goldens.py` made it.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{encoded, engine, one_thread};
use common::process::quipu;
use quipu::backends::Isa;
use quipu::debug::checkpoint::{CheckpointOptions, checkpoints};
use quipu::debug::compare::distance;
use quipu::debug::trace_file::TraceFile;
use quipu::engine::{EngineOptions, GenerateOptions, PerplexityOptions, TraceOptions};
use quipu::loader::{Bytes, Gguf, LoadMode, ParseOptions, boxed};
use quipu::plan::FuseOptions;
use quipu::quant::DType;
use quipu::text::EncodeOptions;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/box").join(name)
}

fn facts(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data(&format!("box-{name}.json"))).unwrap()).unwrap()
}

fn trace(name: &str, engine: &str) -> TraceFile {
    TraceFile::read(&data(&format!("box-{name}.{engine}.safetensors"))).unwrap()
}

fn shipped(name: &str) -> Gguf {
    Gguf::open(Path::new(&format!("box:{name}")), LoadMode::Auto, &ParseOptions::default()).unwrap()
}

/// The model with every matrix in one type, encoded from what the shipped file decodes to.
fn as_type(source: &Gguf, dtype: DType) -> Bytes {
    encoded(source, |_| dtype)
}

fn f32_of(name: &str) -> Bytes {
    as_type(&shipped(name), DType::F32)
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn layers_and_logits_are_those_of_two_other_engines() {
    for name in boxed::names() {
        let model = f32_of(name);
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            let f32_cache =
                EngineOptions { type_k: DType::F32, type_v: DType::F32, n_outputs: 16, ..one_thread() };
            let options = EngineOptions { isa: Some(isa), fuse: FuseOptions::none(), ..f32_cache };
            let mut engine = engine(&model, options);
            for other in ["llama.cpp", "transformers"] {
                let theirs = trace(name, other);
                let tokens: Vec<u32> = serde_json::from_str(&theirs.metadata["tokens"]).unwrap();
                let ours = engine.trace(&tokens, &TraceOptions::default()).unwrap();
                let mut seen = 0;
                for t in theirs.tensors.iter().filter(|t| !t.name.starts_with("kq")) {
                    let Some(value) = ours.find(&t.name) else { continue };
                    let d = distance(&t.data, &value.data);
                    assert!(d.nmse < 1e-10, "{name} {isa} {other} {}: {d:?}", t.name);
                    seen += 1;
                }
                // Keys, values and outputs of every layer at least.
                assert!(seen > 3 * 4, "{name} {other}: {seen} tensors");
                assert!(theirs.find("result_output").is_some());
            }
        }
    }
}

#[test]
fn fused_as_shipped_and_in_f32_the_bits_are_those_of_the_plain_graph() {
    for name in boxed::names() {
        let text = "Once upon a time, there was a small fox named Pip.";
        for model in [f32_of(name), Bytes::from(&shipped(name).bytes()[..])] {
            let logits = |fuse, n_ubatch| {
                let options = EngineOptions { fuse, n_ubatch, n_outputs: 32, ..one_thread() };
                let mut engine = engine(&model, options);
                let mut tokens = Vec::new();
                engine.tokenizer().encode(text, EncodeOptions::default(), &mut tokens).unwrap();
                let mut session = engine.new_session().unwrap();
                common::engines::all_bits(&mut engine, &mut session, &tokens)
            };
            assert_eq!(logits(FuseOptions::default(), 512), logits(FuseOptions::none(), 3), "{name}");
        }
    }
}

#[test]
fn checkpoints_pass_against_transformers_and_as_shipped() {
    for name in boxed::names() {
        let model = f32_of(name);
        let options = CheckpointOptions { tokens: vec![1, 400, 500, 600], generate: 8 };
        let reference = Some(trace(name, "transformers"));
        let list = checkpoints(&|o| Ok(engine(&model, o)), &one_thread(), reference, &options).unwrap();
        let wrong: Vec<_> = list.iter().flat_map(|c| &c.checks).filter(|k| !k.passed).collect();
        assert!(list.len() == 13 && wrong.is_empty(), "{name}: {wrong:#?}");
        let load = |o| quipu::engine::Engine::from_gguf(shipped(name), o);
        let list = checkpoints(&load, &one_thread(), None, &options).unwrap();
        assert!(list.iter().all(|c| c.passed()), "{name} as shipped");
    }
}

#[test]
fn texts_become_the_ids_of_llama_cpp() {
    for name in boxed::names() {
        let engine = engine(&f32_of(name), one_thread());
        let (tokenizer, facts) = (engine.tokenizer(), facts(name));
        let texts = facts["texts"].as_array().unwrap();
        assert!(texts.len() >= 20);
        for t in texts {
            let (text, mut got) = (t["text"].as_str().unwrap(), Vec::new());
            tokenizer
                .encode(text, EncodeOptions { add_special: true, parse_special: true }, &mut got)
                .unwrap();
            assert_eq!(got, ids(&t["ids"]), "{name}: {text}");
        }
    }
}

#[test]
fn greedy_text_is_that_of_llama_cpp() {
    for name in boxed::names() {
        let mut engine = engine(&f32_of(name), one_thread());
        for g in facts(name)["greedy"].as_array().unwrap() {
            let want = ids(&g["ids"]);
            let mut session = engine.new_session().unwrap();
            let options = GenerateOptions { max_tokens: want.len() as i64, ..GenerateOptions::greedy() };
            let prompt = g["prompt"].as_str().unwrap();
            let mut text = String::new();
            let mut pieces = engine.generate(&mut session, prompt, &options).unwrap();
            for piece in &mut pieces {
                text.push_str(piece.unwrap().as_str());
            }
            assert_eq!(text, g["text"].as_str().unwrap(), "{name}: {prompt}");
        }
    }
}

#[test]
fn as_shipped_answers_are_those_of_llama_cpp() {
    for name in boxed::names() {
        let mut engine = quipu::engine::Engine::from_gguf(shipped(name), one_thread()).unwrap();
        let facts = facts(name);
        let answers = facts["as_shipped"].as_array().unwrap();
        assert_eq!(answers.len(), 20);
        for a in answers {
            let mut session = engine.new_session().unwrap();
            let options = GenerateOptions { max_tokens: 80, ..GenerateOptions::greedy() };
            let mut text = String::new();
            for piece in engine.generate_from(&mut session, ids(&a["prompt"]), &options).unwrap() {
                text.push_str(piece.unwrap().as_str());
            }
            assert_eq!(text.trim(), a["text"].as_str().unwrap().trim(), "{name}");
        }
    }
}

/// How much more perplex each type may be than F32, in percent.
const WORSE: &[(DType, f64)] = &[
    (DType::F32, 0.0),
    (DType::F16, 0.1),
    (DType::BF16, 0.5),
    (DType::Q8_0, 0.5),
    (DType::Q6_K, 1.0),
    (DType::Q5_K, 2.0),
    (DType::Q5_1, 2.0),
    (DType::Q5_0, 2.0),
    (DType::Q4_K, 5.0),
    (DType::Q4_1, 6.0),
    (DType::Q4_0, 8.0),
    (DType::IQ4_NL, 5.0),
    (DType::IQ4_XS, 5.0),
    (DType::Q3_K, 20.0),
    (DType::Q2_K, 100.0),
];

/// Of the held-out text, with keys and values in these types.
fn perplexity(model: &Bytes, n_ctx: u32, (type_k, type_v): (DType, DType)) -> f64 {
    let limits = EngineOptions { n_ctx: Some(n_ctx), n_outputs: 128, ..EngineOptions::default() };
    let mut engine = engine(model, EngineOptions { type_k, type_v, ..limits });
    let mut tokens = Vec::new();
    let special = EncodeOptions { add_special: true, parse_special: false };
    let text = std::fs::read_to_string(data("held.txt")).unwrap();
    engine.tokenizer().encode(&text, special, &mut tokens).unwrap();
    let options = PerplexityOptions { n_ctx, chunks: None, n_seq: 1, cancel: None };
    engine.perplexity(&tokens, &options, &mut |_| ()).unwrap().unwrap().ppl
}

#[test]
fn perplexity_of_every_type_is_that_of_llama_cpp_and_near_that_of_f32() {
    for name in boxed::names() {
        let (source, facts) = (shipped(name), facts(name));
        let n_ctx = facts["context"].as_u64().unwrap() as u32;
        let figures = facts["perplexity"].as_object().unwrap();
        assert_eq!(figures.len(), WORSE.len(), "every type has a figure");
        let mut best = 0.0;
        for (dtype, worse) in WORSE {
            let ours = perplexity(&as_type(&source, *dtype), n_ctx, (DType::F16, DType::F16));
            let theirs = figures[&dtype.to_string().to_lowercase()].as_f64().unwrap();
            let apart = 100.0 * (ours / theirs - 1.0).abs();
            if *dtype == DType::F32 {
                best = ours;
            }
            let more = 100.0 * (ours / best - 1.0);
            println!(
                "{name} {dtype}: {ours:.4}, llama.cpp {theirs:.4} ({apart:.3} % apart), {more:+.2} % of F32"
            );
            // Where llama.cpp rounds an activation the other way, weights of two bits answer most; over four times this
            // text the two are 0.055 % apart.
            let limit = if *dtype == DType::Q2_K { 0.15 } else { 0.1 };
            assert!(apart < limit, "{name} {dtype}: {ours} and llama.cpp {theirs}");
            assert!(more <= *worse, "{name} {dtype}: {more:.2} % worse than F32");
        }
    }
}

/// Types of keys and values, and how many percent worse than with a cache of F16 the model in F32 may be.
const CACHES: &[(DType, DType, f64)] = &[
    (DType::F32, DType::F32, 0.02),
    (DType::F16, DType::F16, 0.0),
    (DType::Q8_0, DType::Q8_0, 0.1),
    (DType::Q8_0, DType::Q4_0, 1.0),
    (DType::Q4_0, DType::Q8_0, 1.0),
    (DType::Q4_0, DType::Q4_0, 2.0),
];

#[test]
fn perplexity_with_every_cache_is_near_that_of_llama_cpp() {
    for name in boxed::names() {
        let (model, facts) = (f32_of(name), facts(name));
        let n_ctx = facts["context"].as_u64().unwrap() as u32;
        let figures = facts["cache_perplexity"].as_object().unwrap();
        assert_eq!(figures.len(), CACHES.len(), "every cache has a figure");
        let base = perplexity(&model, n_ctx, (DType::F16, DType::F16));
        for (k, v, worse) in CACHES {
            let ours = perplexity(&model, n_ctx, (*k, *v));
            let theirs = figures[&format!("{k}/{v}").to_lowercase()].as_f64().unwrap();
            let more = 100.0 * (ours / base - 1.0);
            println!("{name} {k}/{v}: {ours:.4}, llama.cpp {theirs:.4}, {more:+.2} % of F16");
            assert!(more <= *worse, "{name} {k}/{v}: {more:.2} % worse than F16");
            // With keys in blocks llama.cpp rounds queries too.
            let limit = if k.block() > 1 { 0.002 } else { 0.001 };
            assert!((ours / theirs - 1.0).abs() < limit, "{name} {k}/{v}: {ours} and llama.cpp {theirs}");
        }
    }
}

#[test]
fn a_cache_of_blocks_streams_and_answers() {
    for cache in [["-ctk", "q8_0", "-ctv", "q4_0"], ["-ctk", "q4_0", "-ctv", "f16"]] {
        let run = quipu(&[&["run", "-p", "Once upon a time", "--temp", "0"][..], &cache].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stdout.split_whitespace().count() >= 60, "{}", run.stdout);
        let chat =
            quipu(&[&["chat", "-p", "What does a cow eat?", "-st", "--temp", "0"][..], &cache].concat());
        assert_eq!((chat.code, chat.stdout.trim()), (Some(0), "A cow eats grass."), "{}", chat.stderr);
    }
}

#[test]
fn without_a_file_a_story_streams_and_questions_are_answered() {
    let run = quipu(&["run", "-p", "Once upon a time", "--temp", "0"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.split_whitespace().count() >= 100, "{}", run.stdout);
    assert!(run.stderr.lines().next().unwrap().contains("the model in the box"), "{}", run.stderr);
    let chat = quipu(&["chat", "-p", "What does a cow eat?", "-st", "--temp", "0"]);
    assert_eq!((chat.code, chat.stdout.trim()), (Some(0), "A cow eats grass."), "{}", chat.stderr);
    assert!(chat.stderr.contains("the model in the box"), "{}", chat.stderr);
    for name in boxed::names() {
        let model = format!("box:{name}");
        let named = quipu(&["chat", "-m", &model, "-p", "What is 2 plus 3?", "-st", "--temp", "0"]);
        assert!(named.stdout.contains("2 plus 3 is 5"), "{name}: {}{}", named.stdout, named.stderr);
        assert!(!named.stderr.contains("the model in the box"), "{}", named.stderr);
    }
    let gone = quipu(&["run", "-m", "box:gpt", "-p", "x"]);
    assert_eq!(gone.code, Some(3));
    assert!(gone.stderr.contains("[NotInTheBox]") && gone.stderr.contains("box:llama"), "{}", gone.stderr);
    // Only these two run without a model.
    assert_eq!(quipu(&["score", "x"]).code, Some(2));
}
