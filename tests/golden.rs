//! Our numbers against llama.cpp's, for the tiny random models that this test writes itself.
//!
//! Every file of `tests/data/golden` is taken; its metadata says of which model. Conditions and limits:
//! `tests/data/golden/README.md`. Tolerances appear here and nowhere else in the tests, because llama.cpp adds in
//! another order than we do.
#![allow(clippy::unwrap_used)]

use quipu::backends::Isa;
use quipu::backends::cpu::product::matmul;
use quipu::debug::scores::attention_scores;
use quipu::engine::{Engine, EngineOptions, Trace, TraceOptions};
use quipu::loader::synth::synth;
use quipu::loader::{Bytes, Gguf, ParseOptions};
use quipu::plan::{FuseOptions, Phase};
use quipu::quant::DType;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// The file of products of every type, which belongs to no model.
const PRODUCTS: &str = "products";

/// Rows of its activations.
const PRODUCT_INPUTS: usize = 3;

struct Golden {
    name: String,
    meta: HashMap<String, String>,
    tensors: BTreeMap<String, Vec<f32>>,
    /// Tensors of bytes.
    packed: BTreeMap<String, Vec<u8>>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

impl Golden {
    fn read(name: &str) -> Golden {
        let bytes = std::fs::read(directory().join(format!("{name}.safetensors"))).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut golden = Golden {
            name: name.into(),
            meta: header.metadata().clone().unwrap(),
            tensors: BTreeMap::new(),
            packed: BTreeMap::new(),
        };
        for (name, t) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            match t.dtype() {
                safetensors::Dtype::U8 => drop(golden.packed.insert(name.into(), t.data().to_vec())),
                _ => drop(golden.tensors.insert(name.into(), floats(t.data()))),
            }
        }
        golden
    }
    /// Every golden of a model.
    fn models() -> Vec<Golden> {
        let files = std::fs::read_dir(directory()).unwrap().map(|f| f.unwrap().path());
        let mut names: Vec<String> = files
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
            .map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|n| n != PRODUCTS)
            .collect();
        names.sort();
        assert!(names.iter().any(|n| n == "nano-llama-f32"), "the goldens are in {}", directory().display());
        names.iter().map(|n| Golden::read(n)).collect()
    }
    fn dtype(&self) -> DType {
        DType::from_name(&self.meta["type"]).unwrap()
    }
    /// The bytes of the model.
    fn model(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        synth(&self.meta["shape"], self.dtype(), self.meta["seed"].parse().unwrap(), &mut bytes).unwrap();
        bytes
    }
    fn gguf(&self) -> Gguf {
        Gguf::parse(Bytes::from(self.model()), &ParseOptions::default()).unwrap()
    }
    fn tokens(&self) -> Vec<u32> {
        serde_json::from_str(&self.meta["tokens"]).unwrap()
    }
    fn limit(&self, key: &str) -> f64 {
        self.meta[key].parse().unwrap()
    }
    /// Our trace of the same tokens, with the engine that made it.
    fn ours(&self, isa: Isa, fuse: FuseOptions) -> (Engine, Trace) {
        let options = EngineOptions {
            isa: Some(isa),
            fuse,
            type_k: DType::F32,
            type_v: DType::F32,
            n_outputs: 64,
            threads: Some(1),
            ..EngineOptions::default()
        };
        let mut engine = Engine::from_gguf(self.gguf(), options).unwrap();
        let trace = engine.trace(&self.tokens(), &TraceOptions::default()).unwrap();
        (engine, trace)
    }
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
fn the_models_are_those_the_goldens_were_made_for() {
    for golden in Golden::models() {
        let sum = format!("{:016x}", fnv1a64(&golden.model()));
        let hint = "make the goldens anew, note it in CHANGELOG";
        assert_eq!(sum, golden.meta["model_fnv1a64"], "{}: {hint}", golden.name);
    }
}

#[test]
fn logits_and_layers_are_within_the_limits() {
    for golden in Golden::models() {
        let limit = golden.limit("nmse_limit");
        for (isa, fuse) in isas().flat_map(|i| [(i, FuseOptions::default()), (i, FuseOptions::none())]) {
            let (_, trace) = golden.ours(isa, fuse);
            let logits = &trace.find("result_output").unwrap().data;
            let error = nmse(&golden.tensors["result_output"], logits);
            assert!(error <= limit, "{} {isa}: {error:e}", golden.name);

            let mut worst = (0.0, String::new());
            for v in &trace.values {
                let Some(g) = golden.tensors.get(&v.name) else { continue };
                let error = nmse(g, &v.data);
                if error >= worst.0 {
                    worst = (error, v.name.clone());
                }
            }
            let name = &golden.name;
            println!("{name} {isa}: logits {error:.1e}, worst of all {:.1e} at {}", worst.0, worst.1);
            assert!(worst.0 <= limit, "{name} {isa}: {worst:?}");
        }
    }
}

#[test]
fn attention_scores_are_theirs() {
    for golden in Golden::models() {
        let wanted = golden.tensors.keys().filter(|n| n.starts_with("kq-") || n.starts_with("kq_soft_max-"));
        if wanted.clone().count() == 0 {
            continue;
        }
        let n = golden.tokens().len();
        let (engine, trace) = golden.ours(Isa::Scalar, FuseOptions::none());
        let scores = attention_scores(engine.plan(Phase::Prefill).unwrap(), &trace);
        for name in wanted {
            let (theirs, ours) = (&golden.tensors[name], scores.iter().find(|s| s.name == *name).unwrap());
            // [tokens, heads, cached tokens]; what the causal mask hides means nothing in theirs and is 0 in ours.
            let seen = |i: &usize| i % n <= i / (ours.cols as usize);
            let (a, b): (Vec<f32>, Vec<f32>) =
                (0..theirs.len()).filter(seen).map(|i| (theirs[i], ours.data[i])).unzip();
            let error = nmse(&a, &b);
            assert!(error <= golden.limit("nmse_limit"), "{} {name}: {error:e}", golden.name);
        }
    }
}

#[test]
fn every_product_fed_with_their_input_gives_their_output() {
    for golden in Golden::models() {
        let gguf = golden.gguf();
        for (name, input) in &golden.tensors {
            let Some(weight) = name.strip_prefix("mul_mat/").and_then(|n| n.strip_suffix("/in")) else {
                continue;
            };
            let info = gguf.tensor(weight).unwrap();
            let theirs = &golden.tensors[&format!("mul_mat/{weight}/out")];
            let rows = info.dims[1] as usize;
            check_product(&golden, weight, info.dtype, gguf.data(info).unwrap(), rows, input, theirs);
        }
    }
}

#[test]
fn products_of_every_type_are_theirs() {
    let golden = Golden::read(PRODUCTS);
    let x = &golden.tensors["x"];
    let cols = x.len() / PRODUCT_INPUTS;
    assert_eq!(golden.packed.len(), 15);
    for (name, bytes) in &golden.packed {
        let dtype = DType::from_name(name.strip_suffix("/weight").unwrap()).unwrap();
        let theirs = &golden.tensors[&format!("{dtype}/out")];
        let rows = theirs.len() / PRODUCT_INPUTS;
        let error = nmse(theirs, &product_of_the_codec(dtype, bytes, rows, cols, x));
        assert!(error <= golden.limit("product_nmse_limit"), "{dtype}, the oracle: {error:e}");
        if let Err(e) = matmul(dtype, Isa::Scalar, bytes, rows, cols, x) {
            println!("skipped: {dtype}: {e}");
            continue;
        }
        check_product(&golden, name, dtype, bytes, rows, x, theirs);
    }
}

/// `x` times the weight by the oracle of the type: its activations and its dot product.
fn product_of_the_codec(dtype: DType, bytes: &[u8], rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let codec = dtype.weight_codec().unwrap();
    let (activation, dot) = (codec.activation, codec.dot.unwrap());
    let mut packed = vec![0u8; activation.row_bytes(cols).unwrap()];
    let mut out = Vec::new();
    for row in x.chunks_exact(cols) {
        (activation.codec().unwrap().encode)(row, &mut packed);
        out.extend(bytes.chunks_exact(bytes.len() / rows).map(|w| dot(w, &packed)));
    }
    out
}

/// One product on every instruction set, its input rounded as llama.cpp rounds it.
fn check_product(
    golden: &Golden,
    weight: &str,
    dtype: DType,
    bytes: &[u8],
    rows: usize,
    input: &[f32],
    theirs: &[f32],
) {
    let round = |x: &f32| match dtype {
        DType::F16 => half::f16::from_f32(*x).to_f32(),
        DType::BF16 => half::bf16::from_f32(*x).to_f32(),
        _ => *x,
    };
    let x: Vec<f32> = input.iter().map(round).collect();
    let cols = x.len() * rows / theirs.len();
    for isa in isas() {
        let ours = matmul(dtype, isa, bytes, rows, cols, &x).unwrap();
        let (error, limit) = (nmse(theirs, &ours), golden.limit("product_nmse_limit"));
        assert!(error <= limit, "{} {weight} {dtype} {isa}: {error:e}", golden.name);
    }
}
