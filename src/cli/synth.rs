//! `quipu synth`: a model of random weights, for tests, benches and first tries.

use super::out::{Failure, note};
use super::terminal;
use super::whole_file::{self, Counted};
use quipu::error::{Error, Problem, escape};
use quipu::loader::file_type::FILE_TYPES;
use quipu::loader::synth::{SHAPES, Types, synth, synth_header};
use quipu::loader::{Gguf, ParseOptions};
use quipu::quant::{DType, TYPES};
use std::path::{Path, PathBuf};

/// Write a GGUF file of random weights in a known shape.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// Name of the shape
    #[arg(long, value_name = "NAME", default_value = "tiny-llama")]
    shape: String,
    /// Element type of the matrices, or a mix such as q4_k_m; see below
    #[arg(long = "type", value_name = "T", default_value = "f16")]
    dtype: String,
    /// Seed of the weights; the same seed gives the same file everywhere
    #[arg(short, long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// The file to write
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

fn after_help() -> String {
    let names: Vec<_> = SHAPES.iter().map(|s| s.name).collect();
    format!(
        "Shapes: {}\n\nTypes: {}\n\nExample:\n  quipu synth --shape nano-llama --type q8_0 nano.gguf",
        names.join(", "),
        type_names().join(", ")
    )
}

/// Writes the file.
pub fn run(args: &Args) -> Result<(), Failure> {
    let types = types_named(&args.dtype)?;
    let bytes = file_bytes(&args.shape, types)?;
    whole_file::write(&args.out, |file| {
        let bar = terminal::bytes_bar("writing", bytes);
        let result = synth(&args.shape, types, args.seed, Counted { file: &file, bar: bar.clone() });
        bar.finish_and_clear();
        result.map(|()| file).map_err(|e| whole_file::failed(&args.out, e))
    })?;
    note(format_args!("{}: {} {types}, {bytes} bytes", shown(&args.out), args.shape));
    Ok(())
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// The type with a codec of this name, or the mix.
fn types_named(name: &str) -> Result<Types, Error> {
    if let Some(dtype) = DType::from_name(name).filter(|t| t.weight_codec().is_some()) {
        return Ok(dtype.into());
    }
    // Numbers are file types to `quantize` alone.
    FILE_TYPES.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| (*f).into()).ok_or_else(|| {
        let p = Problem::new("UnknownType", "--type").found(format!("\"{}\"", escape(name)));
        Error::usage(p.expected(format!("one of {}", type_names().join(", "))))
    })
}

/// Types, then mixes.
fn type_names() -> Vec<String> {
    let types = TYPES.iter().filter(|t| t.codec.is_some_and(|c| c.dot.is_some())).map(|t| t.name);
    let mixes = FILE_TYPES.iter().map(|f| f.name).filter(|n| DType::from_name(n).is_none());
    types.chain(mixes).map(str::to_ascii_lowercase).collect()
}

/// How long the file will be.
fn file_bytes(shape: &str, types: Types) -> Result<u64, Error> {
    let header = synth_header(shape, types)?;
    let options = ParseOptions { header_only: true, ..ParseOptions::default() };
    let file = Gguf::parse(header.as_slice().into(), &options)?;
    Ok(file.tensors().iter().map(|t| t.offset.saturating_add(t.bytes)).max().unwrap_or(header.len() as u64))
}
