//! `quipu tokenize` and `quipu detokenize`: text to ids and back, also with files that hold only a vocabulary.

use super::args::{ModelArgs, OverrideArgs, parse_ids};
use super::out::{Failure, Out};
use quipu::error::{Error, Problem};
use quipu::text::EncodeOptions;
use serde_json::json;
use std::fmt::Write;
use std::io::Read;

/// Print the token ids of a text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quipu tokenize -m model.gguf \"Once upon a time\"
  git log | quipu tokenize -m model.gguf - | wc -w")]
pub struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, or - for standard input
    #[arg(value_name = "TEXT", required = true)]
    text: String,
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
    #[arg(value_name = "IDS", required = true)]
    ids: Vec<String>,
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
    let text = if args.text == "-" { read_stdin()? } else { args.text.clone().into_bytes() };
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: args.parse_special };
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
    let ids = if args.ids == ["-"] {
        parse_ids(&[String::from_utf8_lossy(&read_stdin()?)])?
    } else {
        parse_ids(&args.ids)?
    };
    out.bytes(&tokenizer.decode(&ids, args.special)?)?;
    out.final_newline()
}
