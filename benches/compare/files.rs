//! The model files: real shapes with random weights, made where they are missing.

use super::args::Want;
use super::result::Work;
use quipu::error::{Error, Problem, Result};
use quipu::loader::file_type::FileType;
use quipu::loader::synth::{Shape, synth, synth_header};
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// The usual files.
const USUAL: &[(&str, &str)] = &[
    ("qwen2.5-0.5b", "Q8_0"),
    ("qwen2.5-0.5b", "Q4_K_M"),
    ("qwen2.5-0.5b", "F16"),
    ("qwen2.5-0.5b", "BF16"),
    ("tinyllama-1.1b", "Q8_0"),
    ("tinyllama-1.1b", "Q4_K_M"),
    ("phi-3-mini-4k", "Q4_K_M"),
    ("llama-2-7b", "Q8_0"),
];

/// Width from which a model counts as large: it gets fewer tokens.
const LARGE: u32 = 3072;

/// Tokens in the cache of each sequence before several are decoded together.
const BEHIND: u32 = 128;

/// A file to measure.
#[derive(Clone, Debug)]
pub struct Model {
    pub shape: &'static Shape,
    pub file_type: FileType,
    pub path: PathBuf,
    /// Bytes of the whole file.
    pub bytes: u64,
}

impl Model {
    fn new(shape: &str, file_type: &str, dir: &Path) -> Result<Model> {
        let (shape, file_type) = (Shape::named(shape)?, FileType::named(file_type)?);
        let header = synth_header(shape.name, file_type)?;
        let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
        let gguf = Gguf::parse(header.into(), &parse)?;
        let bytes = gguf.tensors().iter().map(|t| t.offset.saturating_add(t.bytes)).max().unwrap_or(0);
        let path = dir.join(format!("{}-{}.gguf", shape.name, file_type.name));
        Ok(Model { shape, file_type, path, bytes })
    }

    /// As tables call it.
    pub fn name(&self) -> String {
        format!("{} {}", self.shape.name, self.file_type.name)
    }

    /// Parameters, about.
    pub fn parameters(&self) -> f64 {
        let s = self.shape;
        let [d, ff, layers, vocab] = [s.n_embd, s.n_ff, s.n_layer, s.n_vocab].map(f64::from);
        let heads = f64::from(s.head_dim) * f64::from(2 * s.n_head + 2 * s.n_head_kv);
        layers * (d * heads + 3.0 * d * ff) + vocab * d * if s.tied { 1.0 } else { 2.0 }
    }

    /// What is measured of it.
    pub fn works(&self, want: &Want) -> Vec<Work> {
        let s = self.shape;
        let large = s.n_embd >= LARGE;
        let prompt = want.prompt.unwrap_or(if large { 256 } else { 512 });
        let generate = want.generate.unwrap_or(if large { 24 } else { 64 });
        let deep = want.generate.unwrap_or(if large { 24 } else { 32 });
        // The cache of models that share no keys is the larger part of what a token reads.
        let depths = match (s.name, self.file_type.name) {
            _ if !want.depths.is_empty() => want.depths.as_slice(),
            ("qwen2.5-0.5b", "Q8_0") => &[4096, 8192],
            ("phi-3-mini-4k", _) => &[2048],
            _ => &[],
        };
        let mut works = Vec::new();
        for row in &want.rows {
            match row.as_str() {
                "pp" => works.push(Work::Prompt { tokens: prompt }),
                "tg" => works.push(Work::Generate { tokens: generate }),
                "depth" => works.extend(depths.iter().map(|d| Work::Depth { behind: *d, tokens: deep })),
                "np" if !large => {
                    works.push(Work::Parallel { sequences: want.sequences, behind: BEHIND, tokens: deep });
                }
                "start" => works.push(Work::Start),
                "cold" => works.push(Work::Cold),
                "mem" => works.push(Work::Memory { tokens: prompt }),
                _ => {}
            }
        }
        works
    }

    /// Whether the file is there, whole, with a header that can be read.
    fn is_there(&self) -> bool {
        let whole = |g: &Gguf| !g.is_cut() && g.tensors().len() > 1;
        Gguf::open(&self.path, LoadMode::Mmap, &ParseOptions::default()).is_ok_and(|g| whole(&g))
    }

    /// Makes the file unless it is there.
    pub fn make(&self) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        eprintln!("writing {} ({:.1} GB)", self.path.display(), self.bytes as f64 / 1e9);
        let io = |e: std::io::Error| {
            Error::runtime(Problem::new("Io", self.path.display().to_string()).found(e.to_string()))
        };
        let part = self.path.with_extension("part");
        let file = File::create(&part).map_err(io)?;
        synth(self.shape.name, self.file_type, 1, BufWriter::new(&file))?;
        // Pages that are not on the disk yet could not be dropped for a cold start.
        file.sync_all().map_err(io)?;
        std::fs::rename(&part, &self.path).map_err(io)
    }

    /// Drops the file from the page cache, as far as nobody has it mapped.
    #[cfg(target_os = "linux")]
    pub fn drop_from_cache(&self) -> std::result::Result<(), String> {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        let file = File::open(&self.path).map_err(|e| e.to_string())?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(|e| e.to_string())
    }

    /// As above.
    #[cfg(not(target_os = "linux"))]
    pub fn drop_from_cache(&self) -> std::result::Result<(), String> {
        Err("this system cannot drop a file from the page cache".into())
    }
}

/// The files that are wanted: the usual ones, or those of `files=`.
pub fn wanted(want: &Want) -> Result<Vec<Model>> {
    if want.files.is_empty() {
        return USUAL.iter().map(|(shape, ty)| Model::new(shape, ty, &want.dir)).collect();
    }
    let mut models = Vec::new();
    for name in &want.files {
        match name.split_once(':') {
            Some((shape, ty)) => models.push(Model::new(shape, ty, &want.dir)?),
            None => {
                Shape::named(name)?;
                for (shape, ty) in USUAL.iter().filter(|(shape, _)| shape == name) {
                    models.push(Model::new(shape, ty, &want.dir)?);
                }
            }
        }
    }
    Ok(models)
}
