//! Groups of flags that several commands take.

use clap::Args;
use quipu::error::{Error, Problem, Result, escape};
use quipu::loader::{Gguf, LoadMode, OverrideValue, ParseOptions};
use std::path::PathBuf;

/// The model file.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// GGUF file of the model
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
}

impl ModelArgs {
    /// Opens the file for its header alone: tensor data may be missing and is not looked at.
    pub fn header(&self) -> Result<Gguf> {
        let options = ParseOptions { header_only: true, ..ParseOptions::default() };
        Gguf::open(&self.model, LoadMode::Auto, &options)
    }
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
