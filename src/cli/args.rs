//! Groups of flags that several commands take.

use super::size::Size;
use clap::{Args, ValueEnum};
use quipu::backends::Isa;
use quipu::error::{Error, Problem, Result, escape};
use quipu::graph::builder::CacheTypes;
use quipu::loader::{Gguf, LoadMode, OverrideValue, ParseOptions};
use quipu::plan::FuseOptions;
use quipu::quant::DType;
use quipu::text::Tokenizer;
use std::path::PathBuf;

/// Context where the user names none and the model allows it.
const DEFAULT_CTX: u32 = 4096;

/// The model file.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// GGUF file of the model
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
}

impl ModelArgs {
    /// Opens the file for its header alone: tensor data may be missing, as [`Gguf::is_cut`] tells.
    pub fn header(&self) -> Result<Gguf> {
        let options = ParseOptions { header_only: true, ..ParseOptions::default() };
        Gguf::open(&self.model, LoadMode::Auto, &options)
    }

    /// The tokenizer of the file, which may be one without tensors, but not a part of one with them.
    pub fn tokenizer(&self, overrides: &OverrideArgs) -> Result<Tokenizer> {
        let overrides = overrides.parse()?;
        let mut file = Gguf::open(&self.model, LoadMode::Mmap, &ParseOptions::default())?;
        for (key, value) in overrides {
            file.set_override(&key, value)?;
        }
        Tokenizer::from_gguf(&file)
    }
}

/// How the file is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Loading")]
pub struct LoadArgs {
    /// Map the file or read it into memory: mmap, read or auto (read below 16 MiB; else map, and once generation goes on
    /// move weights into large pages of this process)
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub load_mode: LoadMode,
    /// Refuse a model with a NaN or an infinity in a weight; reads the whole file
    #[arg(long)]
    pub check_tensors: bool,
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// `--override-kv`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Loading")]
pub struct OverrideArgs {
    /// Replace metadata; TYPE is int, float, bool or str. May be given several times
    #[arg(long, value_name = "KEY=TYPE:VALUE,...")]
    override_kv: Vec<String>,
}

impl OverrideArgs {
    /// The overrides in the order given.
    pub fn parse(&self) -> Result<Vec<(String, OverrideValue)>> {
        self.override_kv
            .iter()
            .flat_map(|list| split_overrides(list))
            .map(|one| OverrideValue::parse(&one))
            .collect()
    }
}

/// Splits at the commas that have a new `KEY=TYPE:` behind them, so that a text may hold commas.
fn split_overrides(list: &str) -> Vec<String> {
    let starts = |s: &str| {
        let typed = s.split_once('=').map(|(_, typed)| typed);
        typed.is_some_and(|t| ["int:", "float:", "bool:", "str:"].iter().any(|ty| t.starts_with(ty)))
    };
    let mut out: Vec<String> = Vec::new();
    for part in list.split(',') {
        match out.last_mut() {
            Some(last) if !starts(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => out.push(part.to_owned()),
        }
    }
    out
}

/// Element type of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CacheType {
    /// Four bytes an element
    F32,
    /// Two bytes an element
    F16,
    /// 34 bytes for 32 elements
    #[value(name = "q8_0")]
    Q8_0,
    /// 18 bytes for 32 elements
    #[value(name = "q4_0")]
    Q4_0,
}

impl CacheType {
    /// As an element type.
    pub fn dtype(self) -> DType {
        match self {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
            CacheType::Q8_0 => DType::Q8_0,
            CacheType::Q4_0 => DType::Q4_0,
        }
    }
}

/// What a plan depends on besides the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Planning")]
pub struct PlanArgs {
    /// Most tokens of a step, a longer prompt takes several [-ub]
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub ubatch_size: u32,
    /// Element type of cached keys [-ctk]
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type_k: CacheType,
    /// Element type of cached values [-ctv]
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type_v: CacheType,
    /// Instruction set: scalar, avx2, avx512 or amx [default: the best of this machine]
    #[arg(long, value_name = "ISA")]
    pub isa: Option<Isa>,
}

impl PlanArgs {
    /// Types of keys and values.
    pub fn cache(&self) -> CacheTypes {
        CacheTypes { k: self.cache_type_k.dtype(), v: self.cache_type_v.dtype() }
    }
}

/// `--no-fuse`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Planning")]
pub struct FuseArgs {
    /// Switch fusion off, or only these rules of it
    #[arg(long, value_name = "RULE,...", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    no_fuse: Option<String>,
}

impl FuseArgs {
    /// Which rules are on.
    pub fn options(&self) -> Result<FuseOptions> {
        match self.no_fuse.as_deref() {
            None => Ok(FuseOptions::default()),
            Some("all") => Ok(FuseOptions::none()),
            Some(rules) => FuseOptions::without(&rules.split(',').collect::<Vec<_>>()),
        }
    }
}

/// Context size.
#[derive(Debug, Args)]
#[command(next_help_heading = "Planning")]
pub struct ContextArgs {
    /// Tokens of context, 0 for the model's own [default: the least of the model's, 4096 and what fits]
    #[arg(short, long, value_name = "N")]
    ctx_size: Option<u32>,
}

impl ContextArgs {
    /// What was asked for: 0 for all the model was trained with.
    pub fn asked(&self) -> Option<u32> {
        self.ctx_size
    }
    /// For a plan, which does not depend on the memory of this machine.
    pub fn for_plan(&self, trained: u32) -> u32 {
        match self.ctx_size {
            None => trained.min(DEFAULT_CTX),
            Some(0) => trained,
            Some(n) => n,
        }
    }
}

/// `--memory`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Planning")]
pub struct MemoryArgs {
    /// Memory that model and context may take, such as 8GiB [default: what this machine has left]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
}

impl MemoryArgs {
    /// Bytes, if they are stated.
    pub fn bytes(&self) -> Option<u64> {
        self.memory.map(|s| s.0)
    }
}

/// Threads of the team.
#[derive(Debug, Args)]
pub struct ThreadArgs {
    /// Threads (default: the processors this process may use)
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<i64>,
}

impl ThreadArgs {
    /// The number asked for; `None` for the default, which 0 and less mean too.
    pub fn count(&self) -> Result<Option<usize>> {
        match self.threads {
            None | Some(i64::MIN..=0) => Ok(None),
            Some(n @ 1..=256) => Ok(Some(n as usize)),
            Some(n) => Err(Error::usage(
                Problem::new("OutOfRange", "--threads").found(n.to_string()).expected("at most 256"),
            )),
        }
    }
}

/// Reads the ids of `1,2,3` or `1 2 3`.
pub fn parse_ids<S: AsRef<str>>(parts: &[S]) -> Result<Vec<u32>> {
    let words = parts.iter().flat_map(|p| p.as_ref().split(|c: char| c == ',' || c.is_whitespace()));
    words
        .filter(|w| !w.is_empty())
        .map(|w| {
            w.parse().map_err(|_| {
                let p = Problem::new("BadTokenId", "token id").found(format!("\"{}\"", escape(w)));
                Error::usage(p.expected("a whole number from 0"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_split_where_a_new_one_begins() {
        assert_eq!(split_overrides("a=int:1,b=bool:true"), ["a=int:1", "b=bool:true"]);
        assert_eq!(split_overrides("a=str:x,y,b=int:2"), ["a=str:x,y", "b=int:2"]);
        assert_eq!(split_overrides("nonsense"), ["nonsense"]);
    }

    #[test]
    fn ids_are_separated_by_commas_or_blanks() {
        assert_eq!(parse_ids(&["1,2", " 3\n4"]).unwrap(), [1, 2, 3, 4]);
        assert_eq!(parse_ids(&["1,x"]).unwrap_err().code(), "BadTokenId");
        assert_eq!(parse_ids(&["-1"]).unwrap_err().code(), "BadTokenId");
    }
}
