//! Text to token ids and back.
//!
//! [`Tokenizer`] holds a vocabulary and the rules of its family; [`StreamDecoder`] turns the pieces of
//! generated tokens into text that never ends inside a character.
//!
//! # Codes
//!
//! | code | what is wrong |
//! | --- | --- |
//! | `MissingKey`, `WrongType`, `ArrayLength` | a key of the vocabulary, or an array shorter than the tokens |
//! | `UnsupportedTokenizer` | a family that is not implemented |
//! | `UnsupportedPreTokenizer` | a way to split text that is not known; it is never guessed |
//! | `TooManyTokens`, `TokenTooLong`, `TooManyMerges`, `TooLarge` | more or longer tokens than any real vocabulary has |
//! | `BadMerge` | a merge that is not two texts with one space between |
//! | `BadByteToken` | a byte token that is not `<0x00>` to `<0xFF>` |
//! | `TokenIdOutOfRange` | an id in the file, or one to be decoded, that names no token |
//! | `OutOfRange` | a score that is no number |
//! | `Inconsistent` | BOS or EOS wanted without its id; no token for some byte; rows other than the tokens |
//! | `PromptTooLong` | a text of 4 GiB or more |
//!
//! Accepted, with a note ([`Vocab::notes`]) where it may surprise: equal texts (the last id is used), empty
//! texts, invalid UTF-8, unknown token types, merges of what is no token (left out), bytes without a token (lost).

mod alphabet;
mod attrs;
mod bpe;
pub mod chat;
mod clean;
mod detok;
mod from_gguf;
mod known;
mod merges;
mod parts;
mod pre;
mod special;
mod split;
mod spm;
mod tables;
mod vocab;

pub use attrs::{Attr, ROLES, Role, RoleIds};
pub use detok::{Piece, StreamDecoder};
pub use merges::MAX_MERGES;
pub use parts::{MAX_TOKEN_BYTES, MAX_TOKENS, Model, VocabParts};
pub use pre::PreTokenizer;
pub use tables::ByteTable;
pub use vocab::Vocab;

use crate::error::{Error, Problem, Result};
use bpe::Bpe;
use special::{Part, Specials};
use spm::Spm;

/// How a text is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put BOS before and EOS behind, where the vocabulary asks for it.
    pub add_special: bool,
    /// Read the texts of control tokens as those tokens; without it they are plain text. User-defined tokens
    /// are always cut out.
    pub parse_special: bool,
}

/// The splitting rules of each family.
#[derive(Clone, Debug)]
enum Rules {
    Spm(Spm),
    Bpe(Bpe),
}

/// A vocabulary and its splitting rules.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    rules: Rules,
    user_defined: Specials,
    specials: Specials,
}

impl Tokenizer {
    /// Builds a tokenizer from plain data. Errors as [`Vocab::new`]; `Inconsistent` for a SentencePiece vocabulary
    /// that has neither byte tokens nor an unknown token; `BadMerge` and `TooManyMerges` for merges.
    pub fn new(mut parts: VocabParts) -> Result<Tokenizer> {
        let (model, merges) = (parts.model, std::mem::take(&mut parts.merges));
        let mut vocab = Vocab::new(parts)?;
        let rules = match model {
            Model::Spm => Rules::Spm(Spm::new(&vocab)?),
            Model::Bpe(pre) => {
                let (bpe, notes) = Bpe::new(&merges, pre.splitter, pre.whole_words, &vocab)?;
                vocab.notes.extend(notes);
                Rules::Bpe(bpe)
            }
        };
        let (user_defined, specials) = (Specials::new(&vocab, false), Specials::new(&vocab, true));
        Ok(Tokenizer { vocab, rules, user_defined, specials })
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }
    /// Bytes of memory that the tables take.
    pub fn table_bytes(&self) -> u64 {
        let rules = match &self.rules {
            Rules::Spm(spm) => spm.table_bytes(),
            Rules::Bpe(bpe) => bpe.table_bytes(),
        };
        self.vocab.table_bytes() + rules + self.user_defined.table_bytes() + self.specials.table_bytes()
    }
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.vocab.len()
    }
    /// Whether there are no tokens (never so).
    pub fn is_empty(&self) -> bool {
        self.vocab.is_empty()
    }

    /// Appends the ids of `text`, which may be any bytes. Fails with `PromptTooLong` beyond 4 GiB.
    pub fn encode(&self, text: impl AsRef<[u8]>, options: EncodeOptions, out: &mut Vec<u32>) -> Result<()> {
        let text = text.as_ref();
        let vocab = &self.vocab;
        let specials = if options.parse_special { &self.specials } else { &self.user_defined };
        let mut parts = Vec::new();
        specials.split(vocab, text, &mut parts);
        if options.add_special && vocab.add_bos() {
            out.extend(vocab.role(Role::Bos));
        }
        match &self.rules {
            Rules::Spm(spm) => {
                let mut scratch = spm::Scratch::default();
                let mut after_special = true;
                for part in parts {
                    match part {
                        Part::Text(start, end) => {
                            let prefix = after_special && self.puts_space_first();
                            spm.encode(vocab, &text[start..end], prefix, &mut scratch, out)?;
                            after_special = false;
                        }
                        Part::Token(id) => {
                            out.push(id);
                            after_special = true;
                        }
                    }
                }
            }
            Rules::Bpe(bpe) => {
                let mut scratch = bpe::Scratch::default();
                for part in parts {
                    match part {
                        Part::Text(start, end) => bpe.encode(vocab, &text[start..end], &mut scratch, out)?,
                        Part::Token(id) => out.push(id),
                    }
                }
            }
        }
        if options.add_special && vocab.add_eos() {
            out.extend(vocab.role(Role::Eos));
        }
        Ok(())
    }

    /// Whether encoding puts a space before a text and before what follows a special token.
    pub fn puts_space_first(&self) -> bool {
        matches!(self.rules, Rules::Spm(_)) && self.vocab.add_space_prefix()
    }

    /// What a token prints, or `None` if there is no such id. Control and unknown tokens print nothing unless
    /// `special`. The bytes need not be whole characters: see [`StreamDecoder`].
    #[inline]
    pub fn piece(&self, id: u32, special: bool) -> Option<&[u8]> {
        self.vocab.piece(id, special)
    }

    /// The bytes of all tokens together; control tokens are written only if `unparse_special`. One space at
    /// the very beginning is dropped where encoding would have put one there, and spaces before punctuation
    /// where the vocabulary says so ([`Vocab::clean_spaces`]), as llama.cpp's `detokenize` does. Fails with
    /// `TokenIdOutOfRange`.
    pub fn decode(&self, ids: &[u32], unparse_special: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            let piece = self.piece(id, unparse_special).ok_or_else(|| {
                let p = Problem::new("TokenIdOutOfRange", format!("ids[{i}]")).found(id.to_string());
                Error::input(p.expected(format!("an id below {}", self.len())))
            })?;
            let drop_space = i == 0 && self.vocab.add_space_prefix();
            let stripped = if drop_space { piece.strip_prefix(b" ") } else { None };
            out.extend_from_slice(stripped.unwrap_or(piece));
        }
        if self.vocab.clean_spaces() {
            clean::clean_spaces(&mut out);
        }
        Ok(out)
    }

    /// Whether a token ends the generation.
    #[inline]
    pub fn is_eog(&self, id: u32) -> bool {
        self.vocab.is_eog(id)
    }

    /// Checks that a model's embedding has one row per token; fails with `Inconsistent`.
    pub fn check_embedding_rows(&self, rows: u64) -> Result<()> {
        if rows == self.len() as u64 {
            return Ok(());
        }
        let p = Problem::new("Inconsistent", "token_embd.weight").found(format!("{rows} rows"));
        Err(Error::model(p.expected(format!("{}, the number of tokens", self.len()))))
    }
}
