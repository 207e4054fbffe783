//! Synthetic models: real architectures and shapes with random weights, seeded and the same bytes everywhere.
//!
//! Weights are scaled so that activations keep about unit size. Every row of every tensor has a random stream of
//! its own, so that rows are made in parallel and still do not depend on the number of threads.

mod shapes;
mod vocab;

pub use shapes::{SHAPES, Shape};

use super::file_type::FileType;
use super::mix::{self, Facts, Item};
use super::write::GgufWriter;
use crate::error::{Error, Problem, Result};
use crate::quant::DType;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use std::io::{self, Write};

/// How a tensor is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    /// Random with this mean and standard deviation.
    Random { mean: f32, std: f32 },
    /// Llama-3's frequency factors.
    RopeFactors,
    /// Factors that grow from 1 by as much from each pair to the next.
    Growing(f32),
}

/// `sqrt(1 + ln 32 / ln 4096)`: what Phi-3 mini multiplies rotated values by for a context 32 times the original.
const LONG_ROPE_FACTOR: f32 = 1.190_238;

struct Tensor {
    name: String,
    dtype: DType,
    cols: u32,
    rows: u32,
    /// Number of dimensions in the file: 1 or 2.
    rank: usize,
    fill: Fill,
}

/// Writes a whole model. `out` need not seek; a buffer is not needed, writes are large.
///
/// # Errors
/// Usage for an unknown shape or a type that cannot be encoded; `Io` (runtime) if `out` fails.
pub fn synth(shape: &str, types: impl Into<Types>, seed: u64, out: impl Write) -> Result<()> {
    synth_shape(Shape::named(shape)?, types, seed, out)
}

/// As [`synth`], for a shape of one's own.
///
/// # Errors
/// As [`synth`].
pub fn synth_shape(shape: &Shape, types: impl Into<Types>, seed: u64, out: impl Write) -> Result<()> {
    let (writer, tensors) = plan(shape, types.into())?;
    write_data(&writer, &tensors, shape, seed, out)
        .map_err(|e| Error::runtime(Problem::new("Io", "model file").found(e.to_string())))
}

/// The header of such a model without any data, for planning. Parse it with `header_only`.
///
/// # Errors
/// As [`synth`].
pub fn synth_header(shape: &str, types: impl Into<Types>) -> Result<Vec<u8>> {
    synth_header_shape(Shape::named(shape)?, types)
}

/// As [`synth_header`], for a shape of one's own.
///
/// # Errors
/// As [`synth`].
pub fn synth_header_shape(shape: &Shape, types: impl Into<Types>) -> Result<Vec<u8>> {
    plan(shape, types.into()).map(|(writer, _)| writer.header())
}

/// The types of a synthetic model's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// All the same, where rows fit it.
    All(DType),
    /// By the rules of a mix.
    Mix(FileType),
}

impl From<DType> for Types {
    fn from(dtype: DType) -> Types {
        Types::All(dtype)
    }
}

impl From<FileType> for Types {
    fn from(file_type: FileType) -> Types {
        Types::Mix(file_type)
    }
}

impl std::fmt::Display for Types {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Types::All(t) => t.fmt(f),
            Types::Mix(t) => t.fmt(f),
        }
    }
}

fn plan(shape: &Shape, types: Types) -> Result<(GgufWriter, Vec<Tensor>)> {
    let (file_type, pure) = match types {
        Types::All(t) => (t.weight_codec().and_then(|_| FileType::of(t)), true),
        Types::Mix(t) => (Some(t), false),
    };
    let Some(file_type) = file_type else {
        return Err(Error::usage(
            Problem::new("UnsupportedType", format!("type {types}")).hint("no encoder for it here"),
        ));
    };
    let s = shape;
    let mut w = GgufWriter::new();
    let key = |suffix: &str| format!("{}.{suffix}", s.arch);
    w.str("general.architecture", s.arch);
    w.str("general.name", &format!("{} (random weights)", s.name));
    w.u32(&key("context_length"), s.n_ctx);
    w.u32(&key("embedding_length"), s.n_embd);
    w.u32(&key("block_count"), s.n_layer);
    w.u32(&key("feed_forward_length"), s.n_ff);
    w.u32(&key("attention.head_count"), s.n_head);
    w.u32(&key("attention.head_count_kv"), s.n_head_kv);
    w.f32(&key("attention.layer_norm_rms_epsilon"), s.eps);
    w.f32(&key("rope.freq_base"), s.rope_base);
    w.u32(&key("rope.dimension_count"), s.head_dim);
    w.u32(&key("vocab_size"), s.n_vocab);
    if s.head_dim * s.n_head != s.n_embd {
        w.u32(&key("attention.key_length"), s.head_dim);
        w.u32(&key("attention.value_length"), s.head_dim);
    }
    if s.arch == "phi3" {
        let original = if s.long_rope > 0 { s.long_rope } else { s.n_ctx };
        w.u32(&key("rope.scaling.original_context_length"), original);
        if s.long_rope > 0 {
            w.f32(&key("rope.scaling.attn_factor"), LONG_ROPE_FACTOR);
        }
        w.u32(&key("attention.sliding_window"), 2047);
    }
    w.u32("general.file_type", file_type.id);
    // llama.cpp looks these up in any model whose name says Phi-3.
    let extra: &[&str] = if s.arch == "phi3" { &["<|endoftext|>", "<|end|>"] } else { &[] };
    vocab::add(&mut w, s.n_vocab.max(vocab::MIN_TOKENS), extra);
    let tensors = tensors(s, file_type, pure);
    for t in &tensors {
        let (cols, rows) = (u64::from(t.cols), u64::from(t.rows));
        w.tensor(&t.name, t.dtype, &[cols, rows][..t.rank])
            .map_err(|e| Error::usage(Problem::new("BadShape", s.name).found(e.to_string())))?;
    }
    Ok((w, tensors))
}

/// Every tensor of the shape with its type.
fn tensors(s: &Shape, file_type: FileType, pure: bool) -> Vec<Tensor> {
    let mut list = shaped(s);
    let dims: Vec<_> = list.iter().map(|t| [u64::from(t.cols), u64::from(t.rows)]).collect();
    let items: Vec<_> = list
        .iter()
        .zip(&dims)
        .map(|(t, dims)| Item { name: &t.name, dtype: t.dtype, dims: &dims[..t.rank] })
        .collect();
    let facts = Facts {
        arch: s.arch.to_string(),
        n_layer: s.n_layer.into(),
        n_gqa: u64::from(s.n_head.checked_div(s.n_head_kv).unwrap_or(0)),
        n_expert: 0,
    };
    let options = mix::Options { pure, ..mix::Options::default() };
    let assigned = mix::assign(&items, &facts, file_type, &options);
    for (t, a) in list.iter_mut().zip(assigned) {
        t.dtype = a.to;
    }
    list
}

/// Every tensor of the shape, as F32.
fn shaped(s: &Shape) -> Vec<Tensor> {
    let mut list = Vec::new();
    let matrix = |list: &mut Vec<Tensor>, name: String, rows: u32, cols: u32, gain: f32| {
        let std = gain / (cols as f32).sqrt();
        list.push(Tensor {
            name,
            dtype: DType::F32,
            cols,
            rows,
            rank: 2,
            fill: Fill::Random { mean: 0.0, std },
        });
    };
    let vector = |list: &mut Vec<Tensor>, name: String, n: u32, mean: f32, std: f32| {
        list.push(Tensor {
            name,
            dtype: DType::F32,
            cols: n,
            rows: 1,
            rank: 1,
            fill: Fill::Random { mean, std },
        });
    };
    let (q, kv, d, ff) = (s.n_head * s.head_dim, s.n_head_kv * s.head_dim, s.n_embd, s.n_ff);
    // Unit rows: the gain undoes the scaling by the row's length.
    matrix(&mut list, "token_embd.weight".into(), s.n_vocab.max(vocab::MIN_TOKENS), d, (d as f32).sqrt());
    if s.rope_factors {
        let (name, cols) = ("rope_freqs.weight".into(), s.head_dim / 2);
        list.push(Tensor { name, dtype: DType::F32, cols, rows: 1, rank: 1, fill: Fill::RopeFactors });
    }
    for (name, by) in [("short", 0.05), ("long", 0.8)].iter().filter(|_| s.long_rope > 0) {
        let (name, cols, fill) = (format!("rope_factors_{name}.weight"), s.head_dim / 2, Fill::Growing(*by));
        list.push(Tensor { name, dtype: DType::F32, cols, rows: 1, rank: 1, fill });
    }
    for i in 0..s.n_layer {
        let name = |n: &str| format!("blk.{i}.{n}");
        vector(&mut list, name("attn_norm.weight"), d, 1.0, 0.1);
        if s.arch == "phi3" {
            matrix(&mut list, name("attn_qkv.weight"), q + 2 * kv, d, 1.0);
        } else {
            matrix(&mut list, name("attn_q.weight"), q, d, 2.0);
            matrix(&mut list, name("attn_k.weight"), kv, d, 2.0);
            matrix(&mut list, name("attn_v.weight"), kv, d, 1.0);
        }
        if s.arch == "qwen3" {
            vector(&mut list, name("attn_q_norm.weight"), s.head_dim, 1.0, 0.1);
            vector(&mut list, name("attn_k_norm.weight"), s.head_dim, 1.0, 0.1);
        }
        if s.arch == "qwen2" {
            vector(&mut list, name("attn_q.bias"), q, 0.0, 0.5);
            vector(&mut list, name("attn_k.bias"), kv, 0.0, 0.5);
            vector(&mut list, name("attn_v.bias"), kv, 0.0, 0.5);
        }
        matrix(&mut list, name("attn_output.weight"), d, q, 1.0);
        vector(&mut list, name("ffn_norm.weight"), d, 1.0, 0.1);
        if s.arch == "phi3" {
            matrix(&mut list, name("ffn_up.weight"), 2 * ff, d, 1.0);
        } else {
            matrix(&mut list, name("ffn_gate.weight"), ff, d, 1.0);
            matrix(&mut list, name("ffn_up.weight"), ff, d, 1.0);
        }
        matrix(&mut list, name("ffn_down.weight"), d, ff, 1.0);
    }
    vector(&mut list, "output_norm.weight".into(), d, 1.0, 0.1);
    if !s.tied {
        matrix(&mut list, "output.weight".into(), s.n_vocab.max(vocab::MIN_TOKENS), d, 4.0);
    }
    list
}

/// Bytes of rows made between two writes.
const BATCH_BYTES: usize = 16 << 20;

fn write_data(w: &GgufWriter, tensors: &[Tensor], s: &Shape, seed: u64, out: impl Write) -> io::Result<()> {
    let mut data = w.begin(out)?;
    let mut buf = Vec::new();
    for (index, t) in tensors.iter().enumerate() {
        let (Some(row_bytes), Some(codec)) = (t.dtype.row_bytes(t.cols as usize), t.dtype.codec()) else {
            return Err(io::Error::other("a planned tensor has whole rows and a codec"));
        };
        let batch = (BATCH_BYTES / row_bytes).max(1);
        let mut row = 0usize;
        while row < t.rows as usize {
            let n = batch.min(t.rows as usize - row);
            buf.resize(n * row_bytes, 0);
            buf.par_chunks_mut(row_bytes).enumerate().for_each_init(
                || (Vec::new(), Vec::new()),
                |(values, raw), (i, bytes)| {
                    fill_row(t, s, seed, index, row + i, values, raw);
                    (codec.encode)(values, bytes);
                },
            );
            data.write(&buf)?;
            row += n;
        }
    }
    data.finish().map(|_| ())
}

/// The values of one row, from its own stream: `raw` is scratch.
fn fill_row(
    t: &Tensor,
    s: &Shape,
    seed: u64,
    tensor: usize,
    row: usize,
    values: &mut Vec<f32>,
    raw: &mut Vec<u8>,
) {
    values.clear();
    match t.fill {
        Fill::RopeFactors => values.extend(rope_factors(s)),
        Fill::Growing(by) => values.extend((0..t.cols).map(|i| 1.0 + by * i as f32)),
        Fill::Random { mean, std } => {
            let mut key = [0u8; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let mut rng = ChaCha8Rng::from_seed(key);
            rng.set_stream((tensor as u64) << 32 | row as u64);
            raw.resize(t.cols as usize * 4, 0);
            rng.fill_bytes(raw);
            // The sum of four bytes is close enough to a normal distribution, exact in f32, and needs no logarithm.
            // Its mean is 510 and its variance 4 * (256^2 - 1) / 12 = 21845.
            let scale = std / 21845f32.sqrt();
            values.extend(raw.as_chunks::<4>().0.iter().map(|b| {
                let sum: i32 = b.iter().map(|b| i32::from(*b)).sum();
                mean + scale * (sum - 510) as f32
            }));
        }
    }
}

/// Llama-3.1's factors (factor 32, low 1, high 4, 8192 original positions), one per pair of dimensions: rotations
/// slower than the original context are divided by 32, those faster than a quarter of it are kept, those between
/// are blended.
fn rope_factors(s: &Shape) -> Vec<f32> {
    const FACTOR: f64 = 32.0;
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIG: f64 = 8192.0;
    let pairs = (s.head_dim / 2) as usize;
    // base^(1/pairs) by square roots, exact the same everywhere; the shapes that use it have 2^n pairs.
    let mut step = f64::from(s.rope_base);
    for _ in 0..pairs.trailing_zeros() {
        step = step.sqrt();
    }
    let mut wavelength = 2.0 * std::f64::consts::PI;
    let mut out = Vec::with_capacity(pairs);
    for _ in 0..pairs {
        let turns = ORIG / wavelength;
        out.push(if turns > HIGH {
            1.0
        } else if turns < LOW {
            FACTOR as f32
        } else {
            let smooth = (turns - LOW) / (HIGH - LOW);
            (1.0 / ((1.0 - smooth) / FACTOR + smooth)) as f32
        });
        wavelength *= step;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::{Gguf, ParseOptions};

    fn bytes(shape: &str, dtype: DType, seed: u64) -> Vec<u8> {
        let mut out = Vec::new();
        synth(shape, dtype, seed, &mut out).unwrap();
        out
    }

    #[test]
    fn the_same_bytes_with_any_number_of_threads() {
        let want = bytes("nano-llama", DType::Q8_0, 7);
        for n in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            assert!(pool.install(|| bytes("nano-llama", DType::Q8_0, 7)) == want);
        }
        assert!(bytes("nano-llama", DType::Q8_0, 8) != want);
    }

    #[test]
    fn a_published_value_stays() {
        // Changes only with the generator: then every golden made from these files changes too.
        let g = Gguf::parse(bytes("nano-llama", DType::F32, 0).into(), &ParseOptions::default()).unwrap();
        let data = g.data(g.tensor("token_embd.weight").unwrap()).unwrap();
        let first: Vec<f32> =
            data.as_chunks::<4>().0.iter().take(4).map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(first, [-1.0960718, 0.0, 0.8389686, -0.9742861]);
    }

    #[test]
    fn values_have_the_spread_they_should() {
        let g = Gguf::parse(bytes("tiny-llama", DType::F32, 1).into(), &ParseOptions::default()).unwrap();
        let spread = |name: &str| {
            let data = g.data(g.tensor(name).unwrap()).unwrap();
            let v: Vec<f64> =
                data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            (mean, (v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / v.len() as f64).sqrt())
        };
        let (mean, std) = spread("token_embd.weight");
        assert!(mean.abs() < 0.01 && (std - 1.0).abs() < 0.01, "{mean} {std}");
        let (mean, std) = spread("blk.1.ffn_down.weight");
        assert!(mean.abs() < 0.01 && (std * 768f64.sqrt() - 1.0).abs() < 0.01, "{mean} {std}");
        let (mean, std) = spread("blk.0.attn_norm.weight");
        assert!((mean - 1.0).abs() < 0.02 && (std - 0.1).abs() < 0.02, "{mean} {std}");
    }

    #[test]
    fn headers_have_the_published_counts() {
        let counts = |shape: &str| {
            let options = ParseOptions { header_only: true, ..ParseOptions::default() };
            let g = Gguf::parse(synth_header(shape, DType::F16).unwrap().into(), &options).unwrap();
            assert!(g.is_cut());
            (g.tensors().len(), g.tensors().iter().map(|t| t.elements()).sum::<u64>())
        };
        assert_eq!(counts("llama-2-7b"), (291, 6_738_415_616));
        assert_eq!(counts("tinyllama-1.1b"), (201, 1_100_048_384));
        assert_eq!(counts("qwen2.5-0.5b"), (290, 494_032_768));
        assert_eq!(counts("phi-3-mini-4k"), (195, 3_821_079_552));
        // Its published 1 235 814 400, and 32 frequency factors.
        assert_eq!(counts("llama-3.2-1b"), (147, 1_235_814_432));
    }

    #[test]
    fn narrow_rows_fall_back_and_others_do_not() {
        let shape = Shape { n_ff: 100, ..Shape::named("nano-llama").unwrap().clone() };
        let mut out = Vec::new();
        synth_shape(&shape, DType::Q8_0, 0, &mut out).unwrap();
        let g = Gguf::parse(out.into(), &ParseOptions::default()).unwrap();
        assert_eq!(g.tensor("blk.0.ffn_down.weight").unwrap().dtype, DType::F16);
        assert_eq!(g.tensor("blk.0.ffn_up.weight").unwrap().dtype, DType::Q8_0);
        assert_eq!(synth("nano-llama", DType::IQ1_S, 0, io::sink()).unwrap_err().code(), "UnsupportedType");
        assert_eq!(synth("mega", DType::F16, 0, io::sink()).unwrap_err().code(), "UnknownShape");
    }
}
