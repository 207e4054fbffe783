//! Our numbers against llama.cpp's, for the tiny random model that this test writes itself.
//!
//! Conditions and limits: `tests/data/golden/README.md`. Tolerances appear here and nowhere else in the tests,
//! because llama.cpp adds in another order than we do.
#![allow(clippy::unwrap_used)]

use quipu::backends::Isa;
use quipu::backends::cpu::product::matmul;
use quipu::debug::scores::attention_scores;
use quipu::engine::{Engine, EngineOptions, TraceOptions};
use quipu::loader::synth::synth;
use quipu::loader::{Bytes, Gguf, ParseOptions};
use quipu::plan::{FuseOptions, Phase};
use quipu::quant::DType;
use safetensors::SafeTensors;
use std::collections::HashMap;

struct Golden {
    meta: HashMap<String, String>,
    tensors: HashMap<String, Vec<f32>>,
}

impl Golden {
    fn read(dtype: DType) -> Golden {
        let file = format!("nano-llama-{}.safetensors", dtype.name().to_lowercase());
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(file);
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let floats =
            |b: &[u8]| b.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        Golden {
            meta: header.metadata().clone().unwrap(),
            tensors: tensors.iter().map(|(n, t)| (n.to_string(), floats(t.data()))).collect(),
        }
    }
    fn tokens(&self) -> Vec<u32> {
        serde_json::from_str(&self.meta["tokens"]).unwrap()
    }
    fn limit(&self, key: &str) -> f64 {
        self.meta[key].parse().unwrap()
    }
}

const TYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::Q8_0];

fn model(dtype: DType) -> Vec<u8> {
    let mut bytes = Vec::new();
    synth("nano-llama", dtype, 1, &mut bytes).unwrap();
    bytes
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

fn nmse(golden: &[f32], ours: &[f32]) -> f64 {
    assert_eq!(golden.len(), ours.len());
    let square = |x: f64| x * x;
    let error: f64 = golden.iter().zip(ours).map(|(g, o)| square(f64::from(*g) - f64::from(*o))).sum();
    error / golden.iter().map(|g| square(f64::from(*g))).sum::<f64>()
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| {
        if !isa.available() {
            println!("skipped: {isa}, this machine lacks it");
        }
        isa.available()
    })
}

#[test]
fn the_model_is_the_one_the_goldens_were_made_for() {
    for t in TYPES {
        let sum = format!("{:016x}", fnv1a64(&model(t)));
        assert_eq!(
            sum,
            Golden::read(t).meta["model_fnv1a64"],
            "{t}: make the goldens anew, note it in CHANGELOG"
        );
    }
}

#[test]
fn logits_and_layers_are_within_the_limits() {
    for t in TYPES {
        let golden = Golden::read(t);
        for (isa, fuse) in isas().flat_map(|i| [(i, FuseOptions::default()), (i, FuseOptions::none())]) {
            let gguf = Gguf::parse(Bytes::from(model(t)), &ParseOptions::default()).unwrap();
            let options = EngineOptions {
                isa: Some(isa),
                fuse,
                type_k: DType::F32,
                type_v: DType::F32,
                n_outputs: 64,
                threads: Some(1),
                ..EngineOptions::default()
            };
            let mut engine = Engine::from_gguf(gguf, options).unwrap();
            let trace = engine.trace(&golden.tokens(), &TraceOptions::default()).unwrap();
            let logits = &trace.find("result_output").unwrap().data;
            let error = nmse(&golden.tensors["result_output"], logits);
            assert!(error <= golden.limit("nmse_limit"), "{t} {isa}: {error:e}");

            let mut worst = (0.0, String::new());
            for v in &trace.values {
                let Some(g) = golden.tensors.get(&v.name) else { continue };
                let error = nmse(g, &v.data);
                if error >= worst.0 {
                    worst = (error, v.name.clone());
                }
            }
            println!("{t} {isa}: logits {error:.1e}, worst of all {:.1e} at {}", worst.0, worst.1);
            assert!(worst.0 <= golden.limit("nmse_limit"), "{t} {isa}: {worst:?}");
        }
    }
}

#[test]
fn attention_scores_are_theirs() {
    let golden = Golden::read(DType::F32);
    let tokens = golden.tokens();
    let gguf = Gguf::parse(Bytes::from(model(DType::F32)), &ParseOptions::default()).unwrap();
    let options = EngineOptions {
        isa: Some(Isa::Scalar),
        fuse: FuseOptions::none(),
        type_k: DType::F32,
        type_v: DType::F32,
        n_outputs: 64,
        ..EngineOptions::default()
    };
    let mut engine = Engine::from_gguf(gguf, options).unwrap();
    let trace = engine.trace(&tokens, &TraceOptions::default()).unwrap();
    let scores = attention_scores(engine.plan(Phase::Prefill).unwrap(), &trace);
    let mut compared = 0;
    for s in &scores {
        let Some(theirs) = golden.tensors.get(&s.name) else { continue };
        // [tokens, heads, cached tokens]; what the causal mask hides means nothing in theirs and is 0 in ours.
        let n = tokens.len();
        let seen = |i: &usize| i % n <= i / (s.cols as usize);
        let (a, b): (Vec<f32>, Vec<f32>) =
            (0..theirs.len()).filter(seen).map(|i| (theirs[i], s.data[i])).unzip();
        let error = nmse(&a, &b);
        assert!(error <= 1e-9, "{}: {error:e}", s.name);
        compared += 1;
    }
    assert_eq!(compared, 4, "kq and kq_soft_max of two layers");
}

#[test]
fn every_product_fed_with_their_input_gives_their_output() {
    for t in TYPES {
        let golden = Golden::read(t);
        let gguf = Gguf::parse(Bytes::from(model(t)), &ParseOptions::default()).unwrap();
        let mut n = 0;
        for (name, input) in &golden.tensors {
            let Some(weight) = name.strip_prefix("mul_mat/").and_then(|n| n.strip_suffix("/in")) else {
                continue;
            };
            let info = gguf.tensor(weight).unwrap();
            let round = |x: &f32| match info.dtype {
                DType::F16 => half::f16::from_f32(*x).to_f32(),
                DType::BF16 => half::bf16::from_f32(*x).to_f32(),
                _ => *x,
            };
            let x: Vec<f32> = input.iter().map(round).collect();
            let (cols, rows) = (info.dims[0] as usize, info.dims[1] as usize);
            for isa in isas() {
                let ours = matmul(info.dtype, isa, gguf.data(info).unwrap(), rows, cols, &x).unwrap();
                let error = nmse(&golden.tensors[&format!("mul_mat/{weight}/out")], &ours);
                assert!(error <= golden.limit("product_nmse_limit"), "{weight} {t} {isa}: {error:e}");
            }
            n += 1;
        }
        assert_eq!(n, 8, "seven products of a layer and the output");
    }
}
