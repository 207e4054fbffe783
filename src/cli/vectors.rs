//! `quipu tokenize --verify`: llama.cpp's test vectors of tokenizers.

use super::out::{Failure, Out};
use quipu::error::{Error, Problem, escape};
use quipu::text::{EncodeOptions, Tokenizer};
use serde::Serialize;
use std::path::Path;

/// Between two texts.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// A text whose ids are not the expected ones.
#[derive(Serialize)]
struct Mismatch<'a> {
    text: &'a str,
    expected: &'a [u32],
    found: Vec<u32>,
}

/// What was compared.
#[derive(Serialize)]
struct Report<'a> {
    texts: usize,
    different: usize,
    mismatches: Vec<Mismatch<'a>>,
}

/// Encodes every text and compares. Prints a line per difference and a summary, or JSON; ends with 1 if any differs.
pub fn verify(
    tokenizer: &Tokenizer,
    texts: &Path,
    ids: &Path,
    parse_special: bool,
    json: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let (text_file, id_file) = (read(texts)?, read(ids)?);
    // A separator ends the last text too.
    let ended = text_file.strip_suffix(SEPARATOR).unwrap_or(&text_file);
    let texts: Vec<&str> = ended.split(SEPARATOR).collect();
    let expected = id_file.lines().zip(1..).map(|(l, n)| parse(l, n, ids)).collect::<Result<Vec<_>, _>>()?;
    if texts.len() != expected.len() {
        let p = Problem::new("Inconsistent", escape(&ids.to_string_lossy()));
        let p = p.found(format!("{} lines of ids", expected.len()));
        return Err(Error::input(p.expected(format!("{}, one per text", texts.len()))).into());
    }
    let options = EncodeOptions { add_special: false, parse_special };
    let mut mismatches = Vec::new();
    for (text, expected) in texts.iter().copied().zip(&expected) {
        let mut found = Vec::new();
        tokenizer.encode(text, options, &mut found)?;
        if found != *expected {
            mismatches.push(Mismatch { text, expected, found });
        }
    }
    let report = Report { texts: texts.len(), different: mismatches.len(), mismatches };
    if json {
        out.json(&report)?;
    } else {
        for m in &report.mismatches {
            out.line(format_args!("{:?}: expected {}, found {}", m.text, list(m.expected), list(&m.found)))?;
        }
        out.line(format_args!(
            "{} of {} texts have the expected ids",
            texts.len() - report.different,
            texts.len()
        ))?;
    }
    match report.different {
        0 => Ok(()),
        _ => out.flush().and(Err(Failure::Reported(1))),
    }
}

fn list(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| {
        let p = Problem::new("InputNotReadable", escape(&path.to_string_lossy())).found(e.to_string());
        Error::input(p.expected("a text file in UTF-8"))
    })
}

fn parse(line: &str, number: usize, file: &Path) -> Result<Vec<u32>, Error> {
    let bad = |word: &str| {
        let p = Problem::new("BadTokenId", format!("{}, line {number}", escape(&file.to_string_lossy())));
        Error::input(p.found(format!("\"{}\"", escape(word))).expected("whole numbers from 0"))
    };
    line.split_whitespace().map(|word| word.parse().map_err(|_| bad(word))).collect()
}
