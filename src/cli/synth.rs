//! `quipu synth`: a model of random weights, for tests, benches and first tries.

use super::out::{Failure, file_not_writable, note};
use super::{interrupt, terminal};
use indicatif::ProgressBar;
use quipu::error::{Error, Problem, escape};
use quipu::loader::synth::{SHAPES, synth, synth_header};
use quipu::loader::{Gguf, ParseOptions};
use quipu::quant::{DType, TYPES};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Write a GGUF file of random weights in a known shape.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// Name of the shape
    #[arg(long, value_name = "NAME", default_value = "tiny-llama")]
    shape: String,
    /// Element type of the matrices: f32, f16, bf16 or q8_0
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
        "Shapes: {}\n\nExample:\n  quipu synth --shape nano-llama --type q8_0 nano.gguf",
        names.join(", ")
    )
}

/// Writes the file under another name first, so that a file of the wanted name is always whole.
pub fn run(args: &Args) -> Result<(), Failure> {
    let dtype = type_named(&args.dtype)?;
    let bytes = file_bytes(&args.shape, dtype)?;
    let special = args.out.exists() && !args.out.is_file();
    let mut part = args.out.clone().into_os_string();
    part.push(".part");
    let part = if special { args.out.clone() } else { PathBuf::from(part) };
    let file = File::create(&part).map_err(|e| file_not_writable(&args.out, &e))?;
    interrupt::unfinished((!special).then_some(&part));
    let result = write(args, dtype, file, bytes).and_then(|()| {
        if special {
            Ok(())
        } else {
            std::fs::rename(&part, &args.out).map_err(|e| file_not_writable(&args.out, &e))
        }
    });
    if result.is_err() {
        interrupt::remove_unfinished();
    }
    interrupt::unfinished(None);
    result?;
    note(format_args!("{}: {} {dtype}, {bytes} bytes", shown(&args.out), args.shape));
    Ok(())
}

fn write(args: &Args, dtype: DType, file: File, bytes: u64) -> Result<(), Failure> {
    let bar = terminal::bytes_bar("writing", bytes);
    let result = synth(&args.shape, dtype, args.seed, Counted { file, bar: bar.clone() });
    bar.finish_and_clear();
    result.map_err(|e| match e.problems() {
        [p] if p.code == "Io" => file_not_writable(&args.out, &io::Error::other(p.found.clone())),
        _ => e.into(),
    })
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// The type with a codec of this name.
fn type_named(name: &str) -> Result<DType, Error> {
    DType::from_name(name).filter(|t| t.weight_codec().is_some()).ok_or_else(|| {
        let have: Vec<_> =
            TYPES.iter().filter(|t| t.codec.is_some()).map(|t| t.name.to_ascii_lowercase()).collect();
        let p = Problem::new("UnknownType", "--type").found(format!("\"{}\"", escape(name)));
        Error::usage(p.expected(format!("one of {}", have.join(", "))))
    })
}

/// How long the file will be.
fn file_bytes(shape: &str, dtype: DType) -> Result<u64, Error> {
    let header = synth_header(shape, dtype)?;
    let options = ParseOptions { header_only: true, ..ParseOptions::default() };
    let file = Gguf::parse(header.as_slice().into(), &options)?;
    Ok(file.tensors().iter().map(|t| t.offset.saturating_add(t.bytes)).max().unwrap_or(header.len() as u64))
}

/// A file whose bar moves.
struct Counted {
    file: File,
    bar: ProgressBar,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.bar.inc(n as u64);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
