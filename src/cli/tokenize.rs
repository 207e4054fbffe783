//! `quipu tokenize` and `quipu detokenize`: text to ids and back, also with files that hold only a vocabulary.

use super::args::{ModelArgs, OverrideArgs, parse_ids};
use super::out::{Failure, Out};
use super::vectors;
use quipu::error::{Error, Problem, escape};
use quipu::text::{EncodeOptions, Tokenizer};
use serde::Deserialize;
use serde_json::json;
use std::fmt::Write;
use std::io::{BufRead, Read};
use std::path::PathBuf;

/// Print the token ids of a text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quipu tokenize -m model.gguf \"Once upon a time\"
  git log | quipu tokenize -m model.gguf - | wc -w
  quipu tokenize -m vocab.gguf --verify vocab.gguf.inp vocab.gguf.out")]
pub struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, or - for standard input
    #[arg(value_name = "TEXT", required_unless_present_any = ["verify", "lines_json"])]
    text: Option<String>,
    /// Compare with expected ids, in llama.cpp's format: texts separated by lines of __ggml_vocab_test__, and
    /// their ids, a line each, without special tokens. Exit code 0 if all are the same, 1 if not
    #[arg(long, num_args = 2, value_names = ["TEXTS", "IDS"], conflicts_with_all = ["text", "lines_json"])]
    verify: Option<Vec<PathBuf>>,
    /// Read many texts from standard input, each a line of JSON: a string, or an array of bytes. Print their ids, a
    /// line of JSON each
    #[arg(long, conflicts_with = "text")]
    lines_json: bool,
    /// Leave the model's begin-of-text and end-of-text tokens out
    #[arg(long)]
    no_bos: bool,
    /// Read the names of special tokens as those tokens, not as text
    #[arg(long)]
    parse_special: bool,
    /// Print an array of {id, piece, bytes}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// Print the text of token ids.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  quipu detokenize -m model.gguf 1,9038,2501")]
pub struct DetokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Ids, separated by commas or blanks; - for standard input
    #[arg(value_name = "IDS", required_unless_present = "lines_json")]
    ids: Vec<String>,
    /// Read many lists of ids from standard input, each a JSON array on a line. Print their texts, a line each: a
    /// JSON string, or an array of bytes if they are no UTF-8
    #[arg(long, conflicts_with = "ids")]
    lines_json: bool,
    /// Print the names of special tokens too
    #[arg(long)]
    special: bool,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// All of standard input.
pub fn read_stdin() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|e| Error::input(Problem::new("InputNotReadable", "standard input").found(e.to_string())))?;
    Ok(bytes)
}

/// Prints ids separated by spaces, or JSON.
pub fn tokenize(args: &TokenizeArgs, out: &mut Out) -> Result<(), Failure> {
    let tokenizer = args.model.tokenizer(&args.overrides)?;
    if let Some([texts, ids]) = args.verify.as_deref() {
        return vectors::verify(&tokenizer, texts, ids, args.parse_special, args.json, out);
    }
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: args.parse_special };
    if args.lines_json {
        return tokenize_lines(&tokenizer, options, out);
    }
    let text = match args.text.as_deref() {
        None | Some("-") => read_stdin()?,
        Some(text) => text.as_bytes().to_vec(),
    };
    let mut ids = Vec::new();
    tokenizer.encode(&text, options, &mut ids)?;
    if args.json {
        let rows: Vec<_> = ids
            .iter()
            .map(|&id| {
                let piece = tokenizer.piece(id, true).unwrap_or_default();
                json!({ "id": id, "piece": String::from_utf8_lossy(piece), "bytes": piece })
            })
            .collect();
        return out.line(serde_json::Value::from(rows));
    }
    let mut line = String::with_capacity(ids.len() * 6);
    for (i, id) in ids.iter().enumerate() {
        let _ = write!(line, "{}{id}", if i > 0 { " " } else { "" });
    }
    out.line(line)
}

/// Prints the text byte for byte.
pub fn detokenize(args: &DetokenizeArgs, out: &mut Out) -> Result<(), Failure> {
    let tokenizer = args.model.tokenizer(&args.overrides)?;
    if args.lines_json {
        return each_line(|ids: Vec<u32>| {
            let bytes = tokenizer.decode(&ids, args.special)?;
            match String::from_utf8(bytes) {
                Ok(text) => out.json_line(&text),
                Err(e) => out.json_line(&e.into_bytes()),
            }
        });
    }
    let ids = if args.ids == ["-"] {
        parse_ids(&[String::from_utf8_lossy(&read_stdin()?)])?
    } else {
        parse_ids(&args.ids)?
    };
    out.bytes(&tokenizer.decode(&ids, args.special)?)?;
    out.final_newline()
}

/// A text in a line of JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Str(String),
    Bytes(Vec<u8>),
}

fn tokenize_lines(tokenizer: &Tokenizer, options: EncodeOptions, out: &mut Out) -> Result<(), Failure> {
    let mut ids = Vec::new();
    each_line(|text: Text| {
        let bytes = match text {
            Text::Str(text) => text.into_bytes(),
            Text::Bytes(bytes) => bytes,
        };
        ids.clear();
        tokenizer.encode(&bytes, options, &mut ids)?;
        out.json_line(&ids)
    })
}

/// Calls `f` with the value in each line of standard input.
fn each_line<T: for<'a> Deserialize<'a>>(mut f: impl FnMut(T) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let bad = |code, found: String| {
            let p = Problem::new(code, format!("standard input, line {number}")).found(escape(&found));
            Error::input(p.expected("a value in JSON on each line"))
        };
        if input.read_until(b'\n', &mut line).map_err(|e| bad("InputNotReadable", e.to_string()))? == 0 {
            break;
        }
        f(serde_json::from_slice(&line).map_err(|e| bad("BadJson", e.to_string()))?)?;
    }
    Ok(())
}
