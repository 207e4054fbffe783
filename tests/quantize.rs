//! `quipu quantize`: types by the rules, metadata kept, files whole or not there, exit codes.
#![allow(clippy::unwrap_used)]

use quipu::loader::file_type::FILE_TYPES;
use quipu::loader::quantize::{Options, Plan};
use quipu::loader::synth::synth;
use quipu::loader::{Bytes, FileType, Gguf, LoadMode, ParseOptions, Value, write::GgufWriter};
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

#[test]
fn rows_that_do_not_fit_fall_back_and_say_so() {
    let source = parse(nano(DType::F32));
    let plan = Plan::new(&source, FileType::named("Q4_K_M").unwrap(), &Options::default()).unwrap();
    for row in plan.rows().filter(|r| r.dims.len() == 2) {
        // Rows of 64 and 96: no super-blocks.
        let to =
            if row.name == "output.weight" || row.name == "token_embd.weight" { row.to } else { DType::Q5_0 };
        assert!(row.to == to || row.to == DType::Q8_0, "{} {}", row.name, row.to);
        assert!(row.to.block() == 32);
    }
    assert!(plan.rows().any(|r| r.instead_of == Some(DType::Q4_K)));
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

    let code = |arguments: &[&str]| quipu(arguments).status.code();
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
