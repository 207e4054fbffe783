//! `quipu quantize`: types by the rules, metadata kept, files whole or not there, exit codes.
#![allow(clippy::unwrap_used)]

mod common;

use quipu::loader::file_type::FILE_TYPES;
use quipu::loader::quantize::{Options, Plan};
use quipu::loader::synth::{Shape, synth, synth_header_shape};
use quipu::loader::{Bytes, FileType, Gguf, LoadMode, ParseOptions, Value, mix, write::GgufWriter};
use quipu::quant::DType;
use std::path::Path;
use std::process::{Command, Output};

fn parse(bytes: Vec<u8>) -> Gguf {
    Gguf::parse(Bytes::from(bytes), &ParseOptions::default()).unwrap()
}

fn nano(dtype: DType) -> Vec<u8> {
    let mut out = Vec::new();
    synth("nano-llama", dtype, 3, &mut out).unwrap();
    out
}

fn quipu(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quipu")).args(arguments).output().unwrap()
}

fn open(path: &Path) -> Gguf {
    Gguf::open(path, LoadMode::Auto, &ParseOptions::default()).unwrap()
}

fn elements(file: &Gguf, name: &str) -> Vec<f32> {
    let t = file.tensor(name).unwrap();
    let mut out = vec![0f32; t.elements() as usize];
    (t.dtype.codec().unwrap().decode)(file.data(t).unwrap(), &mut out);
    out
}

#[test]
fn every_file_type_keeps_metadata_and_weights() {
    let source = parse(nano(DType::F32));
    for file_type in FILE_TYPES {
        let plan = Plan::new(&source, *file_type, &Options::default()).unwrap();
        let mut bytes = Vec::new();
        plan.write(&mut bytes, &mut |_, _| {}).unwrap();
        assert_eq!(bytes.len() as u64, plan.file_bytes(), "{file_type}");
        let made = parse(bytes);
        for (key, value) in source.entries().filter(|(k, _)| *k != "general.file_type") {
            match (value, made.get(key).unwrap()) {
                (Value::Array(a), Value::Array(b)) => assert!(a.iter().eq(b.iter()), "{key}"),
                (a, b) => assert_eq!(a, b, "{key}"),
            }
        }
        assert_eq!(made.u32("general.file_type").unwrap(), Some(file_type.id));
        assert_eq!(made.u32("general.quantization_version").unwrap(), Some(2));
        assert_eq!(made.tensors().len(), source.tensors().len());
        for t in source.tensors() {
            let (a, b) = (elements(&source, &t.name), elements(&made, &t.name));
            let lost: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a - b) * f64::from(a - b)).sum();
            let size: f64 = a.iter().map(|a| f64::from(*a) * f64::from(*a)).sum();
            let bound = if t.dims.len() == 1 { 0.0 } else { 0.09 };
            assert!(lost <= bound * size, "{file_type} {}: {}", t.name, lost / size);
        }
    }
}

/// The shape of a model as published, but for the tokens, which no rule looks at.
fn published(name: &str) -> Option<Shape> {
    let like = |arch: &str, sizes: [u32; 5]| {
        let [n_layer, n_embd, n_ff, n_head, n_head_kv] = sizes;
        Shape { n_layer, n_embd, n_ff, n_head, n_head_kv, ..Shape::named(arch).unwrap().clone() }
    };
    let shape = match name {
        "llama-2-70b" => like("llama-2-7b", [80, 8192, 28672, 64, 8]),
        "llama-65b" => like("llama-2-7b", [80, 8192, 22016, 64, 64]),
        "qwen2.5-7b" => Shape { tied: false, ..like("qwen2.5-0.5b", [28, 3584, 18944, 28, 4]) },
        "qwen2.5-72b" => Shape { tied: false, ..like("qwen2.5-0.5b", [80, 8192, 29568, 64, 8]) },
        name => Shape::named(name).ok()?.clone(),
    };
    Some(Shape { n_vocab: 512, ..shape })
}

/// How many matrices have which type, as `tests/data/mixes.txt` says it.
fn matrices_by_type(plan: &Plan<'_>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for row in plan.rows().filter(|r| r.dims.len() == 2) {
        *counts.entry(row.to.name()).or_insert(0) += 1;
    }
    counts.iter().map(|(name, n)| format!(" {name}={n}")).collect()
}

#[test]
fn mixes_of_published_models_are_llama_cpps() {
    let facts = include_str!("data/mixes.txt");
    let (mut files, mut checked) = (std::collections::BTreeMap::new(), 0);
    for line in facts.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let (model, file_type) = (words.next().unwrap(), FileType::named(words.next().unwrap()).unwrap());
        let expected: String = words.flat_map(|w| [" ", w]).collect();
        let file = files.entry(model).or_insert_with(|| {
            let header = synth_header_shape(&published(model)?, DType::F16).unwrap();
            let options = ParseOptions { header_only: true, ..ParseOptions::default() };
            Some(Gguf::parse(Bytes::from(header), &options).unwrap())
        });
        let Some(file) = file else { continue };
        let plan = Plan::new(file, file_type, &Options::default()).unwrap();
        assert_eq!(matrices_by_type(&plan), expected, "{model} {file_type}");
        checked += 1;
    }
    assert!(checked >= 9 * FILE_TYPES.len(), "{checked}");
}

#[test]
fn a_small_qwen_in_q4_k_m_holds_four_types() {
    let shape = published("qwen2.5-0.5b").unwrap();
    let header = synth_header_shape(&shape, DType::F16).unwrap();
    let options = ParseOptions { header_only: true, ..ParseOptions::default() };
    let file = Gguf::parse(Bytes::from(header), &options).unwrap();
    let plan = Plan::new(&file, FileType::named("Q4_K_M").unwrap(), &Options::default()).unwrap();
    for row in plan.rows() {
        let layer = row.name.split('.').nth(1).and_then(|n| n.parse::<u32>().ok());
        let more = layer.is_some_and(|l| !(3..21).contains(&l) || (l - 3) % 3 == 2);
        // Rows of 896 hold no super-blocks, rows of 4864 do.
        let expected = match row.name.rsplit_once("attn_v.").or(row.name.rsplit_once("ffn_down.")) {
            _ if row.dims.len() == 1 => DType::F32,
            _ if row.name == "token_embd.weight" => DType::Q8_0,
            Some(_) if more && row.dims[0] == 4864 => DType::Q6_K,
            Some(_) if more => DType::Q8_0,
            Some(_) if row.dims[0] == 4864 => DType::Q4_K,
            _ => DType::Q5_0,
        };
        assert_eq!(row.to, expected, "{}", row.name);
        let fell = row.dims.len() == 2 && row.dims[0] == 896 && row.name != "token_embd.weight";
        assert_eq!(row.instead_of.is_some(), fell, "{}", row.name);
    }
}

#[test]
fn flags_make_exceptions() {
    let source = parse(nano(DType::F32));
    let types = |mix: mix::Options| {
        let options = Options { mix, ..Options::default() };
        let plan = Plan::new(&source, FileType::named("Q5_K_M").unwrap(), &options).unwrap();
        let of = |name: &str| plan.rows().find(|r| r.name == name).unwrap().to.name();
        ["output.weight", "token_embd.weight", "blk.1.ffn_down.weight"].map(of)
    };
    let none = mix::Options::default();
    assert_eq!(types(none), ["Q8_0", "Q5_1", "Q8_0"]);
    assert_eq!(types(mix::Options { pure: true, ..none }), ["Q5_1", "Q5_1", "Q5_1"]);
    assert_eq!(types(mix::Options { leave_output: true, ..none }), ["F32", "Q5_1", "Q8_0"]);
    let asked = mix::Options { output: Some(DType::F16), embedding: Some(DType::Q4_K), pure: true, ..none };
    // What is asked for falls back too where rows do not fit.
    assert_eq!(types(asked), ["F16", "Q5_0", "Q5_1"]);
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let source = parse(nano(DType::F32));
    for name in ["Q8_0", "Q4_K_M", "IQ4_NL"] {
        let plan = Plan::new(&source, FileType::named(name).unwrap(), &Options::default()).unwrap();
        let made = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut bytes = Vec::new();
            pool.install(|| plan.write(&mut bytes, &mut |_, _| {})).unwrap();
            bytes
        };
        let one = made(1);
        assert!(made(2) == one && made(5) == one, "{name}");
    }
}

#[test]
fn what_cannot_be_taken_is_named() {
    let quantised = parse(nano(DType::Q8_0));
    let q4 = FileType::named("Q4_0").unwrap();
    let e = Plan::new(&quantised, q4, &Options::default()).unwrap_err();
    assert_eq!((e.code(), e.class().exit_code()), ("Requantize", 2));
    assert!(e.problems().len() > 10, "every tensor is named");
    let options = Options { allow_requantize: true, ..Options::default() };
    Plan::new(&quantised, q4, &options).unwrap();
    // The same type again is a copy, and no loss.
    Plan::new(&quantised, FileType::named("Q8_0").unwrap(), &Options::default()).unwrap();

    for (value, to) in [(f32::NAN, "Q4_0"), (f32::INFINITY, "Q8_0"), (1e6, "F16")] {
        let mut w = GgufWriter::new();
        w.str("general.architecture", "llama");
        w.tensor("blk.0.ffn_up.weight", DType::F32, &[32, 2]).unwrap();
        let mut data = w.begin(Vec::new()).unwrap();
        let mut rows = [0.5f32; 64];
        rows[40] = value;
        data.write(&rows.map(f32::to_le_bytes).concat()).unwrap();
        let source = parse(data.finish().unwrap());
        let plan = Plan::new(&source, FileType::named(to).unwrap(), &Options::default()).unwrap();
        let e = plan.write(std::io::sink(), &mut |_, _| {}).unwrap_err();
        assert_eq!((e.code(), e.class().exit_code()), ("NonFiniteTensor", 3), "{value}");
    }
}

#[test]
fn odd_files_are_taken_as_they_are() {
    let mut w = GgufWriter::new();
    w.str("general.architecture", "no-such-model").u32("general.file_type", 7).u32("split.count", 1);
    w.u32("no-such-model.attention.head_count_kv", 0);
    let shapes: &[(&str, DType, &[u64])] = &[
        ("blk.99999999999999999999.attn_v.weight", DType::F32, &[32, 2]),
        ("blk..ffn_down.weight", DType::BF16, &[64, 3, 2]),
        ("weight", DType::F16, &[33, 1, 1, 2]),
        ("blk.0.ffn_up.bias", DType::F16, &[32, 2]),
        ("blk.0.attn_norm.weight", DType::F16, &[32, 2]),
        ("indices.weight", DType::I32, &[7]),
        ("output.weight", DType::F32, &[1, 1]),
    ];
    for (name, dtype, dims) in shapes {
        w.tensor(name, *dtype, dims).unwrap();
    }
    let mut data = w.begin(Vec::new()).unwrap();
    for (_, dtype, dims) in shapes {
        let n = dims.iter().product::<u64>() as usize * dtype.info().bytes as usize;
        data.write(&vec![0x11; n]).unwrap();
    }
    let source = parse(data.finish().unwrap());
    let options = Options::default();
    for file_type in FILE_TYPES.iter().filter(|f| f.dtype.block() > 1) {
        let plan = Plan::new(&source, *file_type, &options).unwrap();
        let mut bytes = Vec::new();
        plan.write(&mut bytes, &mut |_, _| {}).unwrap();
        let made = parse(bytes);
        assert_eq!(made.u32("general.file_type").unwrap(), Some(file_type.id));
        assert!(made.get("split.count").is_none());
        let types: Vec<_> = made.tensors().iter().map(|t| t.dtype).collect();
        let kept = [DType::F16, DType::F16, DType::F16, DType::I32, DType::F32];
        assert_eq!(types[2..], kept, "{file_type}: rows of 33, a bias, a norm, whole numbers, one element");
        assert!(types[0].block() == 32 && types[1].block() == 32, "{file_type} {types:?}");
        for (old, new) in source.tensors().iter().zip(made.tensors()).skip(3) {
            assert_eq!(source.data(old), made.data(new));
        }
    }
    // A type without a decoder is copied where it may stay, and named where it may not.
    let mut w = GgufWriter::new();
    w.str("general.architecture", "llama").tensor("blk.0.ffn_up.weight", DType::IQ2_S, &[256, 2]).unwrap();
    let mut data = w.begin(Vec::new()).unwrap();
    data.write(&[0; 164]).unwrap();
    let source = parse(data.finish().unwrap());
    let options = Options { allow_requantize: true, ..options };
    let e = Plan::new(&source, FileType::named("F16").unwrap(), &options).unwrap_err();
    assert_eq!((e.code(), e.class().exit_code()), ("UnsupportedType", 3));
    assert!(e.to_string().contains("blk.0.ffn_up.weight") && e.to_string().contains("IQ2_S"), "{e}");
}

#[test]
fn a_split_model_becomes_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    std::fs::write(path("whole.gguf"), common::Model::base().build()).unwrap();
    let first = common::split::write(dir.path(), &common::Model::base().split(3)).display().to_string();
    for (input, output) in [(text("whole.gguf"), text("a.gguf")), (first.clone(), text("b.gguf"))] {
        let done = quipu(&["quantize", "--allow-requantize", &input, &output, "Q5_1"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let (a, b) = (open(&path("a.gguf")), open(&path("b.gguf")));
    assert!(a.tensors().iter().any(|t| t.dtype == DType::Q5_1) && !b.is_split());
    assert!(b.entries().all(|(key, _)| a.get(key).is_some() && !key.starts_with("split.")));
    assert_eq!(a.tensors().len(), b.tensors().len());
    for t in a.tensors() {
        assert_eq!(a.data(t), b.data(b.tensor(&t.name).unwrap()), "{}", t.name);
    }
    // Not over one of the files that are read.
    let second = text(&common::split::name(1, 3));
    let before = std::fs::read(&second).unwrap();
    let refused = quipu(&["quantize", "--allow-requantize", &first, &second, "Q5_1"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(std::fs::read(&second).unwrap() == before);
}

#[test]
fn the_command_writes_whole_files_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (input, output) = (path("in.gguf"), path("out.gguf"));
    std::fs::write(&input, nano(DType::F16)).unwrap();
    std::fs::write(&output, "replaced").unwrap();

    let done = quipu(&["quantize", "--json", &input, &output, "q5_k_m"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let made = open(Path::new(&output));
    assert_eq!(report["file_bytes"], std::fs::metadata(&output).unwrap().len());
    assert_eq!(report["tensors"].as_array().unwrap().len(), made.tensors().len());
    for (row, t) in report["tensors"].as_array().unwrap().iter().zip(made.tensors()) {
        assert_eq!((row["name"].as_str(), row["to"].as_str()), (Some(&*t.name), Some(t.dtype.name())));
        assert_eq!(row["to_bytes"], t.bytes);
    }
    // The model runs.
    let text = quipu(&["run", "-m", &output, "-p", "Once", "-n", "4", "--temp", "0"]);
    assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));

    let dry = quipu(&["quantize", "--dry-run", &input, "Q4_0"]);
    let table = String::from_utf8(dry.stdout).unwrap();
    assert!(
        dry.status.success() && table.contains("F16 -> Q4_0") && table.contains("bits per weight"),
        "{table}"
    );
    let asked = [
        "quantize",
        "--output-tensor-type",
        "q5_1",
        "--token-embedding-type",
        "q4_1",
        &input,
        &output,
        "Q8_0",
    ];
    assert!(quipu(&asked).status.success());
    assert_eq!(open(Path::new(&output)).tensor("token_embd.weight").unwrap().dtype, DType::Q4_1);

    let threads = quipu(&["quantize", &input, &output, "7", "2"]);
    assert!(threads.status.success(), "a file type by number, and threads");
    assert_eq!(open(Path::new(&output)).u32("general.file_type").unwrap(), Some(7));
    let dry = quipu(&["quantize", "--dry-run", &input, "7", "2", "--json"]);
    let dry: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&dry["file_type"], &dry["output"]), (&"Q8_0".into(), &serde_json::Value::Null));
    let set = ["quantize", &input, &output, "F32", "--override-kv", "llama.rope.freq_base=float:5000"];
    assert!(quipu(&set).status.success());
    assert_eq!(open(Path::new(&output)).f32("llama.rope.freq_base").unwrap(), Some(5000.0));
    assert!(quipu(&["quantize", &input, &output, "Q8_0"]).status.success());

    let code = |arguments: &[&str]| quipu(arguments).status.code();
    assert_eq!(code(&["quantize", &input, &output, "Q8_0", "many"]), Some(2), "threads");
    assert_eq!(code(&["quantize", &input, &input, "Q8_0"]), Some(2), "the input itself");
    assert_eq!(code(&["quantize", &input, "Q8_0"]), Some(2), "nothing to write");
    assert_eq!(code(&["quantize", &input, &output, "Q9"]), Some(2));
    assert_eq!(code(&["quantize", &output, &path("x.gguf"), "Q4_0"]), Some(2), "quantised already");
    assert_eq!(code(&["quantize", &path("none.gguf"), &output, "Q4_0"]), Some(3));
    assert_eq!(code(&["quantize", &input, &path("no/folder.gguf"), "Q4_0"]), Some(1));
    if Path::new("/dev/full").exists() {
        assert_eq!(code(&["quantize", &input, "/dev/full", "Q4_0"]), Some(1), "a full disk");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing else is left behind: {left:?}");
}

#[test]
fn synth_takes_every_type_and_mix() {
    for name in FILE_TYPES.iter().map(|f| f.name) {
        let file_type = FileType::named(name).unwrap();
        let mut bytes = Vec::new();
        synth("nano-llama", file_type, 3, &mut bytes).unwrap();
        assert_eq!(parse(bytes).u32("general.file_type").unwrap(), Some(file_type.id));
    }
    let mut bytes = Vec::new();
    synth("tiny-llama", DType::Q4_K, 3, &mut bytes).unwrap();
    let all = parse(bytes);
    assert!(all.tensors().iter().filter(|t| t.dims.len() == 2).all(|t| t.dtype == DType::Q4_K));
    let mut bytes = Vec::new();
    synth("tiny-llama", FileType::named("Q4_K_M").unwrap(), 3, &mut bytes).unwrap();
    let mix = parse(bytes);
    let of = |name: &str| mix.tensor(name).unwrap().dtype;
    assert_eq!([of("output.weight"), of("blk.0.attn_q.weight")], [DType::Q6_K, DType::Q4_K]);
}
