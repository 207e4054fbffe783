//! Small random models in memory, and engines of them.

use quipu::engine::{Engine, EngineOptions, Logits, Session, StepInput};
use quipu::loader::synth::{Shape, synth_shape};
use quipu::loader::write::GgufWriter;
use quipu::loader::{Bytes, Gguf, ParseOptions};
use quipu::quant::DType;

/// The nano shape with room for several chunks of attention.
pub fn nano() -> Shape {
    Shape { n_ctx: 1024, ..Shape::named("nano-llama").unwrap().clone() }
}

/// Sizes that no vector length, block or number of threads divides.
pub fn odd() -> Shape {
    Shape { n_embd: 72, n_head: 9, n_head_kv: 3, head_dim: 8, n_ff: 106, n_layer: 3, n_vocab: 391, ..nano() }
}

/// Rows of whole blocks of 256.
pub fn wide() -> Shape {
    Shape { n_embd: 256, n_head: 8, n_head_kv: 4, head_dim: 32, n_ff: 512, n_layer: 2, ..nano() }
}

/// The file of a shape.
pub fn file(shape: &Shape, dtype: DType) -> Bytes {
    let mut out = Vec::new();
    synth_shape(shape, dtype, 7, &mut out).unwrap();
    Bytes::from(out)
}

/// The file of a shape whose matrices take these types in turn; rows that are no whole number of blocks stay F16.
pub fn mixed(shape: &Shape, types: &[DType]) -> Bytes {
    let source = Gguf::parse(file(shape, DType::F32), &ParseOptions::default()).unwrap();
    let mut turn = types.iter().cycle();
    encoded(&source, |cols| {
        Some(*turn.next().unwrap()).filter(|d| d.row_bytes(cols).is_some()).unwrap_or(DType::F16)
    })
}

/// A model with its matrices in other types, by the elements of their rows; vectors become F32.
pub fn encoded(source: &Gguf, mut matrix: impl FnMut(usize) -> DType) -> Bytes {
    let mut writer = GgufWriter::new();
    for (key, value) in source.entries() {
        writer.kv(key, value);
    }
    let mut parts = Vec::new();
    for t in source.tensors() {
        let cols = t.dims[0] as usize;
        let to = if t.dims.len() > 1 { matrix(cols) } else { DType::F32 };
        writer.tensor(&t.name, to, &t.dims).unwrap();
        let mut x = vec![0.0; t.dims.iter().product::<u64>() as usize];
        (t.dtype.codec().unwrap().decode)(source.data(t).unwrap(), &mut x);
        let mut bytes = vec![0; x.len() / cols * to.row_bytes(cols).unwrap()];
        (to.codec().unwrap().encode)(&x, &mut bytes);
        parts.push(bytes);
    }
    let mut data = writer.begin(Vec::new()).unwrap();
    for p in parts {
        data.write(&p).unwrap();
    }
    Bytes::from(data.finish().unwrap())
}

/// An engine of a file.
pub fn engine(file: &Bytes, options: EngineOptions) -> Engine {
    let gguf = Gguf::parse(file.clone(), &ParseOptions::default()).unwrap();
    Engine::from_gguf(gguf, options).unwrap()
}

/// Options for one thread, so that tests that run beside each other do not fight for cores.
pub fn one_thread() -> EngineOptions {
    EngineOptions { threads: Some(1), ..EngineOptions::default() }
}

/// `n` tokens without a pattern; the same for the same salt.
pub fn tokens(n: usize, salt: u32) -> Vec<u32> {
    let mut x = salt.wrapping_mul(2654435761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            x = x.wrapping_mul(1664525).wrapping_add(1013904223);
            3 + (x >> 16) % 380
        })
        .collect()
}

/// Appends tokens and returns the bits of the logits of every one.
pub fn all_bits(engine: &mut Engine, session: &mut Session, tokens: &[u32]) -> Vec<Vec<u32>> {
    let n = engine.step(&mut [StepInput { session, tokens, logits: Logits::All }]).unwrap();
    assert_eq!(n as usize, tokens.len());
    (0..n).map(|i| bits(engine, i)).collect()
}

/// The bits of a row of logits.
pub fn bits(engine: &Engine, row: u32) -> Vec<u32> {
    engine.logits(row).unwrap().iter().map(|x| x.to_bits()).collect()
}
