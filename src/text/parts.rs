//! A vocabulary as plain data, which a file's metadata or a test fills in, and the checks of its sizes.

use super::attrs::{ROLES, RoleIds};
use super::pre::PreTokenizer;
use super::tables::ByteTable;
use crate::error::{Problem, Result};

/// Longest token text in bytes; real vocabularies stay below a few hundred.
pub const MAX_TOKEN_BYTES: usize = 8192;
/// Most tokens a vocabulary may have; the largest real ones hold about 262 thousand.
pub const MAX_TOKENS: usize = 1 << 20;

/// The tokenizer families; each has its file with the splitting rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// SentencePiece-style merges by score (`tokenizer.ggml.model` = `llama`).
    Spm,
    /// Byte-level BPE by a list of merges (`tokenizer.ggml.model` = `gpt2`), and how it splits text.
    Bpe(&'static PreTokenizer),
}

/// A vocabulary as plain data, before it is checked.
#[derive(Clone, Debug)]
pub struct VocabParts {
    /// The tokenizer family, which decides defaults and how pieces are written.
    pub model: Model,
    /// Token texts by id.
    pub texts: ByteTable,
    /// Scores by id; empty means all zero.
    pub scores: Vec<f32>,
    /// GGUF token types by id; empty means all normal.
    pub types: Vec<i32>,
    /// Merges of byte-level BPE, best first, each two texts with a space between.
    pub merges: ByteTable,
    /// Ids that were stated.
    pub roles: RoleIds,
    /// Whether a text starts with BOS, if stated.
    pub add_bos: Option<bool>,
    /// Whether a text ends with EOS, if stated.
    pub add_eos: Option<bool>,
    /// Whether a space is put before text, if stated.
    pub add_space_prefix: Option<bool>,
    /// Ids never to be sampled.
    pub suppressed: Vec<u32>,
    /// `general.name`: some models have rules that no metadata states.
    pub model_name: String,
}

impl VocabParts {
    /// An empty vocabulary of a model.
    pub fn new(model: Model) -> Self {
        VocabParts {
            model,
            texts: ByteTable::default(),
            scores: Vec::new(),
            types: Vec::new(),
            merges: ByteTable::default(),
            roles: [None; ROLES],
            add_bos: None,
            add_eos: None,
            add_space_prefix: None,
            suppressed: Vec::new(),
            model_name: String::new(),
        }
    }
    /// Appends one token. Fails with `TooLarge` beyond 4 GiB of text.
    pub fn push(&mut self, text: &[u8], score: f32, kind: i32) -> Result<()> {
        self.scores.push(score);
        self.types.push(kind);
        self.texts.push(text)
    }
}

/// Adds what is wrong with the number and the lengths of the arrays.
pub(super) fn check_lengths(parts: &VocabParts, problems: &mut Vec<Problem>) {
    let n = parts.texts.len();
    if n == 0 {
        let p = Problem::new("ArrayLength", "tokenizer.ggml.tokens");
        problems.push(p.found("0 tokens").expected("at least 1"));
    }
    if n > MAX_TOKENS {
        let p = Problem::new("TooManyTokens", "tokenizer.ggml.tokens");
        problems.push(p.found(format!("{n} tokens")).expected(format!("at most {MAX_TOKENS}")));
    }
    for (key, len) in [("scores", parts.scores.len()), ("token_type", parts.types.len())] {
        if len != 0 && len < n {
            let p = Problem::new("ArrayLength", format!("tokenizer.ggml.{key}"));
            problems.push(p.found(format!("{len} elements")).expected(format!("{n}, one per token")));
        }
    }
    for (id, text) in parts.texts.iter().filter(|(_, t)| t.len() > MAX_TOKEN_BYTES) {
        let p = Problem::new("TokenTooLong", format!("tokenizer.ggml.tokens[{id}]"));
        let found = format!("{} bytes", text.len());
        problems.push(p.found(found).expected(format!("at most {MAX_TOKEN_BYTES} bytes")));
    }
}

/// Gives empty texts a name, as llama.cpp does, so that every id has a text.
pub(super) fn name_empty(texts: ByteTable) -> Result<ByteTable> {
    if texts.iter().all(|(_, t)| !t.is_empty()) {
        return Ok(texts);
    }
    let mut named = ByteTable::with_capacity(texts.len(), texts.bytes());
    for (id, text) in texts.iter() {
        match text {
            [] => named.push(format!("[EMPTY_{id}]").as_bytes())?,
            _ => named.push(text)?,
        }
    }
    Ok(named)
}
