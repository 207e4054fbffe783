//! Runs are held to what was forecast from the header alone, and refused before anything is loaded if it is too much.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // not every test takes the time
#[path = "common/process.rs"]
mod process;

use process::{Outcome, quipu};
use quipu::engine::{Engine, EngineOptions, RunForecast};
use quipu::loader::LoadMode;
use quipu::loader::synth::{Shape, synth_shape};
use quipu::quant::DType;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model file in a folder that goes with it.
struct Model(tempfile::TempDir);

impl Model {
    fn new(shape: &str, dtype: DType) -> Model {
        Model::of(Shape::named(shape).unwrap(), dtype)
    }
    fn of(shape: &Shape, dtype: DType) -> Model {
        let dir = tempfile::tempdir().unwrap();
        synth_shape(shape, dtype, 1, std::fs::File::create(dir.path().join("model.gguf")).unwrap()).unwrap();
        Model(dir)
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("model.gguf")
    }
    fn limits(&self) -> PathBuf {
        let path = self.0.path().join("limits.json");
        let row = |isa: &str| {
            serde_json::json!({
                "isa": isa, "threads": 1, "read_bytes_per_second": 1e10, "float_ops_per_second": 1e11,
                "byte_ops_per_second": 2e11, "barrier_seconds": 1e-6,
            })
        };
        let limits: Vec<Value> = ["scalar", "avx2", "avx512", "amx"].map(row).into();
        let file = serde_json::json!({"format": 1, "processor": "any", "limits": limits, "reads": []});
        std::fs::write(&path, file.to_string()).unwrap();
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(o: &Outcome) -> Value {
    serde_json::from_str(&o.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", o.stdout, o.stderr))
}

fn held(shape: &str, dtype: DType, more: &[&str]) {
    let model = Model::new(shape, dtype);
    let (path, limits) = (model.path(), model.limits());
    let base = ["run", "-m", text(&path), "-p", "Once upon a time", "-n", "20", "--ignore-eos", "--json"];
    let check = ["--assert-plan", "-t", "2", "--limits", text(&limits)];
    let o = quipu(&[&base[..], &check, more].concat());
    assert_eq!(o.code, Some(0), "{shape} {dtype}: {}", o.stderr);
    let report = json(&o);
    let check = &report["plan_check"];
    assert_eq!(check["holds"], true);
    let lines = check["memory"].as_array().unwrap();
    for what in ["file", "tokenizer", "arena", "scratch", "logits", "cache"] {
        let line = lines.iter().find(|l| l["what"] == what).unwrap();
        assert_eq!(line["planned"], line["found"], "{shape} {what}");
        assert!(line["found"].as_u64() > Some(0), "{shape} {what}");
    }
    assert!(lines.iter().any(|l| l["what"] == "peak") || !cfg!(target_os = "linux"));
    for what in ["prompt", "generated"] {
        let ratio = check[what]["ratio"].as_f64().unwrap();
        assert!(ratio > 0.0, "{what}");
        println!("{shape} {dtype} {what}: {} of its forecast", ratio);
    }
}

#[test]
fn six_shapes_hold() {
    held("tiny-llama", DType::Q8_0, &[]);
    held("tiny-llama", DType::F16, &["-ctk", "f32", "-ctv", "f32", "-lm", "mmap"]);
    held("tiny-qwen2", DType::Q4_K, &["-ub", "4"]);
    held("tiny-qwen3", DType::Q6_K, &["-c", "77", "-lm", "read"]);
    held("tiny-phi3", DType::Q4_0, &["--no-fuse"]);
    held("nano-phi3-long", DType::BF16, &["-c", "300", "--isa", "scalar"]);
}

/// A token of tiny-llama has 2 layers of 4 heads of one block each, of 34 and of 18 bytes.
#[test]
fn caches_of_blocks_hold() {
    held("tiny-llama", DType::Q8_0, &["-ctk", "q8_0", "-ctv", "q4_0"]);
    held("tiny-qwen3", DType::Q4_K, &["-ctk", "q4_0", "-ctv", "q8_0", "-c", "96", "-lm", "read"]);
    let model = Model::new("tiny-llama", DType::Q8_0);
    let cache = |k, v| {
        let types = ["--cache-type-k", k, "--cache-type-v", v, "-c", "512", "--format", "json"];
        let o = quipu(&[&["plan", "-m", text(&model.path())][..], &types].concat());
        json(&o)["totals"]["kv_bytes"].as_u64().unwrap()
    };
    assert_eq!(cache("q8_0", "q4_0"), 512 * 2 * 4 * (34 + 18));
    assert_eq!(cache("q8_0", "f16"), 512 * 2 * 4 * (34 + 64));
    assert_eq!(cache("f16", "f16"), 512 * 2 * 4 * (64 + 64));
}

#[test]
fn heads_that_are_no_whole_blocks_are_refused_before_loading() {
    let model = Model::new("nano-phi3", DType::F32);
    let m = model.path();
    for command in [&["run", "-p", "x", "-lm", "read"][..], &["plan"], &["bench", "-p", "8", "-n", "2"]] {
        let o = quipu(&[command, &["-m", text(&m), "-ctk", "q8_0", "-ctv", "q4_0"]].concat());
        assert_eq!(o.code, Some(2), "{command:?}: {}", o.stderr);
        let [k, v] = o.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{}", o.stderr) };
        for (line, parts) in [
            (k, ["--cache-type-k", "Q8_0 for key heads of 24 elements", "-ctk f16"]),
            (v, ["--cache-type-v", "Q4_0 for value heads of 24 elements", "-ctv f16"]),
        ] {
            assert!(line.contains("[CacheTypeMisfit]") && line.contains("a multiple of 32"), "{line}");
            assert!(parts.iter().all(|p| line.contains(p)), "{line}");
        }
        assert!(o.stdout.is_empty());
    }
    // One that fits is no excuse for the other; what has no kernels is no cache type at all.
    let one = quipu(&["run", "-m", text(&m), "-p", "x", "-ctv", "q8_0"]);
    assert!(one.code == Some(2) && !one.stderr.contains("--cache-type-k"), "{}", one.stderr);
    assert_eq!(quipu(&["run", "-m", text(&m), "-p", "x", "-ctk", "q6_k"]).code, Some(2));
    let e = Engine::load(&m, EngineOptions { type_v: DType::Q6_K, ..EngineOptions::default() }).unwrap_err();
    assert!(e.class() == quipu::Class::Usage && e.to_string().contains("F32, F16, Q8_0, Q4_0"), "{e}");
}

/// Likelihoods of a whole vocabulary for each token are memory that no plan states.
#[test]
fn a_peak_that_was_not_planned_is_found() {
    let shape = Shape { n_vocab: 40_000, ..Shape::named("nano-llama").unwrap().clone() };
    let model = Model::of(&shape, DType::Q8_0);
    let base = ["run", "-m", text(&model.path()), "-p", "Once", "-n", "24", "--ignore-eos", "--json"]
        .map(String::from);
    let run = |more: &[&str]| {
        let args: Vec<&str> = base.iter().map(String::as_str).chain(more.iter().copied()).collect();
        quipu(&args)
    };
    let fine = run(&["--assert-plan"]);
    if fine.peak_bytes.is_none() {
        return println!("skipped: no peak size on this system");
    }
    assert_eq!(fine.code, Some(0), "{}", fine.stderr);
    let o = run(&["--assert-plan", "--logprobs", "40000"]);
    assert_eq!(o.code, Some(1), "{}", o.stderr);
    assert!(o.stderr.contains("[PlanNotHeld] peak"), "{}", o.stderr);
    assert_eq!(json(&o)["plan_check"]["holds"], false);
    assert_eq!(run(&["--logprobs", "40000"]).code, Some(0), "only if asked for");
}

#[test]
fn too_little_memory_is_said_before_loading() {
    let model = Model::new("nano-llama", DType::F32);
    let path = model.path();
    let m = text(&path);
    let stated = ["-c", "100000", "--memory", "20MiB"];
    for command in [
        &["run", "-m", m, "-p", "x"][..],
        &["chat", "-m", m, "-p", "x", "-st"],
        &["bench", "-m", m, "-p", "8", "-n", "2"],
        &["score", "-m", m, "-p", "x y z"],
        &["run", "-m", m, "-p", "x", "-lm", "read"],
        &["run", "-m", m, "-p", "x", "--assert-plan"],
    ] {
        let o = quipu(&[command, &stated].concat());
        assert_eq!(o.code, Some(5), "{command:?}: {}", o.stderr);
        for part in ["[InsufficientMemory]", "20.0 MiB) stated", "cache 24.4 MiB", "-c ", " fits"] {
            assert!(o.stderr.contains(part), "{command:?}: {part} in {}", o.stderr);
        }
        assert!(o.stdout.is_empty());
    }
    // What the hint says fits, one token more does not.
    let o = quipu(&[&["run", "-m", m, "-p", "x", "-n", "1"][..], &stated].concat());
    let hint = o.stderr.split("-c ").nth(1).unwrap().split(' ').next().unwrap().parse::<u32>().unwrap();
    for (n, code) in [(hint, 0), (hint + 1, 5)] {
        let o = quipu(&["run", "-m", m, "-p", "x", "-n", "1", "-c", &n.to_string(), "--memory", "20MiB"]);
        assert_eq!(o.code, Some(code), "{n}: {}", o.stderr);
    }
    // The plan says the same of the header alone, without an error.
    let plan = quipu(&["plan", "-m", m, "-c", "100000", "--memory", "20MiB"]);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(plan.stdout.contains("does not fit in 20.0 MiB stated"), "{}", plan.stdout);
    assert!(plan.stdout.contains(&format!("the longest context that fits is {hint}")), "{}", plan.stdout);
}

#[test]
fn the_library_says_the_same_before_reading() {
    let model = Model::new("nano-llama", DType::F32);
    for load_mode in [LoadMode::Mmap, LoadMode::Read] {
        let options = EngineOptions { memory: Some(4 << 20), load_mode, ..EngineOptions::default() };
        let e = Engine::load(model.path(), options.clone()).unwrap_err();
        assert_eq!((e.code(), e.class()), ("InsufficientMemory", quipu::Class::Resources));
        let forecast = RunForecast::open(&model.path(), &options).unwrap();
        assert_eq!(forecast.check().unwrap_err().to_string(), e.to_string());
    }
}

#[test]
fn a_cut_file_has_the_forecast_of_the_whole() {
    let model = Model::new("tiny-qwen2", DType::Q8_0);
    let (whole, limits) = (model.path(), model.limits());
    let cut = model.0.path().join("cut.gguf");
    let facts = |path: &Path| {
        let base = ["plan", "-m", text(path), "--format", "json", "--limits", text(&limits), "-t", "2"];
        let o = quipu(&[&base[..], &["--memory", "1GiB"]].concat());
        assert_eq!(o.code, Some(0), "{}", o.stderr);
        json(&o)["forecast"].take()
    };
    let expected = facts(&whole);
    let header = quipu(&["inspect", "--json", text(&whole)]);
    let data = json(&header)["file"]["data_offset"].as_u64().unwrap() as usize;
    std::fs::write(&cut, &std::fs::read(&whole).unwrap()[..data]).unwrap();
    assert_eq!(facts(&cut), expected);
    assert_eq!(expected["memory"]["file"].as_u64(), Some(std::fs::metadata(&whole).unwrap().len()));
    assert_eq!((&expected["fits"], &expected["budget"]), (&true.into(), &(1u64 << 30).into()));
    let speed = |what: &str| expected["speeds"][what]["tokens_per_second"].as_f64().unwrap();
    assert!(speed("prompt") > speed("first") && speed("first") > speed("last"));
}
