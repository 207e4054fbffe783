//! The vocabulary as tables: texts in one blob, attributes, scores, and what each id means.
//!
//! Built from [`VocabParts`], plain data that a file's metadata or a test fills in. Everything a token of the
//! generation loop needs (its piece, whether it ends the text) is a lookup into a table made here once.

use super::attrs::{Attr, ROLES, Role, RoleIds};
use super::parts::{Model, VocabParts, check_lengths, name_empty};
use super::tables::{ByteTable, TextMap, vec_bytes};
use super::{alphabet, known};
use crate::error::{Error, Problem, Result, escape};

/// A checked vocabulary.
#[derive(Clone, Debug)]
pub struct Vocab {
    texts: ByteTable,
    pieces: ByteTable,
    map: TextMap,
    pub(super) scores: Vec<f32>,
    pub(super) attrs: Vec<Attr>,
    pub(super) roles: RoleIds,
    /// Sorted.
    pub(super) eog: Vec<u32>,
    suppressed: Vec<u32>,
    max_text_len: usize,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    clean_spaces: bool,
    pub(super) notes: Vec<Problem>,
}

impl Vocab {
    /// Checks the parts and builds the tables.
    ///
    /// Errors (all of them together): `ArrayLength`, `TokenTooLong`, `TooManyTokens`, `BadByteToken`,
    /// `TokenIdOutOfRange`, `OutOfRange` for a score that is no number, `Inconsistent` where BOS or EOS is
    /// demanded and not named.
    pub fn new(parts: VocabParts) -> Result<Vocab> {
        let mut problems = Vec::new();
        check_lengths(&parts, &mut problems);
        Error::from_problems(crate::Class::Model, std::mem::take(&mut problems))?;

        let VocabParts { model, texts, scores, types, roles: stated, suppressed, model_name, .. } = parts;
        let texts = name_empty(texts)?;
        let n = texts.len();
        let attrs = match types.is_empty() {
            true => vec![Attr::NORMAL; n],
            false => types.iter().take(n).map(|&t| Attr::from_gguf(t)).collect(),
        };
        // Adding +0 turns -0 into +0, so equal scores have equal bits and one integer order serves them.
        let scores = match scores.is_empty() {
            true => vec![0.0; n],
            false => scores.iter().take(n).map(|s| s + 0.0).collect::<Vec<f32>>(),
        };
        for (i, _) in scores.iter().enumerate().filter(|(_, s)| s.is_nan()) {
            let p = Problem::new("OutOfRange", format!("tokenizer.ggml.scores[{i}]"));
            problems.push(p.found("NaN").expected("a number"));
        }
        for (id, text) in texts.iter().filter(|(i, _)| attrs[*i as usize].any(Attr::BYTE)) {
            if byte_of(text).is_none() {
                let p = Problem::new("BadByteToken", format!("tokenizer.ggml.tokens[{id}]"));
                let found = escape(&String::from_utf8_lossy(text));
                problems.push(p.found(format!("\"{found}\"")).expected("<0x00> to <0xFF>"));
            }
        }
        let mut roles = default_roles(model).map(|id| id.filter(|&id| (id as usize) < n));
        for (role, id) in stated.iter().enumerate().filter_map(|(r, id)| id.map(|id| (r, id))) {
            if (id as usize) < n {
                roles[role] = Some(id);
            } else {
                let p = Problem::new("TokenIdOutOfRange", known::ROLE_KEYS[role].0).found(id.to_string());
                problems.push(p.expected(format!("an id below {n}")));
            }
        }
        // A default that names no token is switched off; a stated wish that cannot be met is an error.
        let wish =
            |wanted: Option<bool>, role: Role, key: &str, default: bool, problems: &mut Vec<Problem>| {
                if wanted == Some(true) && stated[role as usize].is_none() {
                    let name = known::ROLE_KEYS[role as usize].0;
                    let p = Problem::new("Inconsistent", key).found(format!("true without {name}"));
                    problems.push(p.expected("the id it adds").hint(format!("state {name}")));
                }
                wanted.unwrap_or(default) && roles[role as usize].is_some()
            };
        let (key_bos, key_eos) = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token");
        let (default_bos, space_prefix, clean_spaces) = match model {
            Model::Spm => (true, true, false),
            Model::Bpe(pre) => (pre.add_bos, false, pre.clean_spaces),
        };
        let add_bos = wish(parts.add_bos, Role::Bos, key_bos, default_bos, &mut problems);
        let add_eos = wish(parts.add_eos, Role::Eos, key_eos, false, &mut problems);
        Error::from_problems(crate::Class::Model, problems)?;

        let (map, duplicates) = TextMap::new(&texts);
        let mut notes = Vec::new();
        if duplicates > 0 {
            let p = Problem::new("DuplicateTokens", "tokenizer.ggml.tokens");
            notes.push(p.found(format!("{duplicates} texts again")).hint("the last id of a text is used"));
        }
        let max_text_len = texts.max_len();
        let mut vocab = Vocab {
            texts,
            pieces: ByteTable::default(),
            map,
            scores,
            attrs,
            roles,
            eog: Vec::new(),
            suppressed: suppressed.into_iter().filter(|&id| (id as usize) < n).collect(),
            max_text_len,
            add_bos,
            add_eos,
            add_space_prefix: parts.add_space_prefix.unwrap_or(space_prefix),
            clean_spaces,
            notes,
        };
        known::detect(&mut vocab);
        known::strip_by_name(&mut vocab, model, &model_name);
        vocab.pieces = vocab.write_pieces(model)?;
        Ok(vocab)
    }

    /// Bytes of memory that the tables take.
    pub fn table_bytes(&self) -> u64 {
        let texts = self.texts.table_bytes() + self.pieces.table_bytes() + self.map.table_bytes();
        let ids = vec_bytes(&self.eog) + vec_bytes(&self.suppressed);
        texts + vec_bytes(&self.scores) + vec_bytes(&self.attrs) + ids
    }
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.texts.len()
    }
    /// Whether there are no tokens (never so after [`Vocab::new`]).
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
    /// The text of a token as the file writes it (with U+2581 for spaces, or in the alphabet of byte-level BPE).
    pub fn text(&self, id: u32) -> Option<&[u8]> {
        self.texts.get(id)
    }
    /// What a token prints, or `None` if there is no such id. Control and unknown tokens print nothing unless
    /// `special`.
    #[inline]
    pub fn piece(&self, id: u32, special: bool) -> Option<&[u8]> {
        let piece = self.pieces.get(id)?;
        let hidden = !special && self.attrs[id as usize].any(Attr::CONTROL.or(Attr::UNKNOWN));
        Some(if hidden { &[] } else { piece })
    }
    /// Length in bytes of the longest piece.
    pub fn max_piece_len(&self) -> usize {
        self.pieces.max_len()
    }
    /// Length in bytes of the longest text; no longer text can be a token.
    pub fn max_text_len(&self) -> usize {
        self.max_text_len
    }
    /// The id of a text; of equal texts the last.
    #[inline]
    pub fn id(&self, text: &[u8]) -> Option<u32> {
        self.map.get(&self.texts, text)
    }
    /// Attributes of a token.
    pub fn attr(&self, id: u32) -> Option<Attr> {
        self.attrs.get(id as usize).copied()
    }
    /// Attributes of all tokens.
    pub fn attrs(&self) -> &[Attr] {
        &self.attrs
    }
    /// Scores of all tokens; never NaN, never -0.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }
    /// The token of a role.
    pub fn role(&self, role: Role) -> Option<u32> {
        self.roles[role as usize]
    }
    /// Whether a token ends the generation.
    #[inline]
    pub fn is_eog(&self, id: u32) -> bool {
        self.eog.binary_search(&id).is_ok()
    }
    /// All tokens that end the generation, ascending.
    pub fn eog(&self) -> &[u32] {
        &self.eog
    }
    /// Tokens the file says are never to be sampled.
    pub fn suppressed(&self) -> &[u32] {
        &self.suppressed
    }
    /// Whether a text starts with BOS.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }
    /// Whether a text ends with EOS.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }
    /// Whether a space is put before text; byte-level BPE only takes one away when it decodes.
    pub fn add_space_prefix(&self) -> bool {
        self.add_space_prefix
    }
    /// Whether decoding takes out spaces before punctuation.
    pub fn clean_spaces(&self) -> bool {
        self.clean_spaces
    }
    /// What was odd in the file and accepted.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// What each token prints, by the attributes it ended up with.
    fn write_pieces(&self, model: Model) -> Result<ByteTable> {
        let mut pieces = ByteTable::with_capacity(self.len(), self.texts.bytes());
        let verbatim = Attr::UNKNOWN.or(Attr::CONTROL).or(Attr::USER_DEFINED);
        let mut buf = Vec::new();
        for (id, text) in self.texts.iter() {
            let attr = self.attrs[id as usize];
            buf.clear();
            if attr.any(verbatim) {
                buf.extend_from_slice(text);
            } else if attr.any(Attr::NORMAL) {
                match model {
                    Model::Spm => unescape_spaces(text, &mut buf),
                    Model::Bpe(_) => alphabet::read(text, &mut buf),
                }
            } else if attr.any(Attr::BYTE) {
                buf.extend(byte_of(text));
            }
            pieces.push(&buf)?;
        }
        Ok(pieces)
    }
}

/// U+2581, which stands for a space in SentencePiece texts.
pub const SPACE: &[u8] = "\u{2581}".as_bytes();

fn unescape_spaces(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(SPACE) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
}

/// The byte that `<0xHH>` names.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', hi, lo, b'>'] = text else { return None };
    let digit = |c: &u8| char::from(*c).to_digit(16);
    u8::try_from(digit(hi)? * 16 + digit(lo)?).ok()
}

/// Ids a family uses where the file names none.
fn default_roles(model: Model) -> RoleIds {
    let mut roles = [None; ROLES];
    match model {
        Model::Spm => {
            roles[Role::Bos as usize] = Some(1);
            roles[Role::Eos as usize] = Some(2);
            roles[Role::Unk as usize] = Some(0);
        }
        // The end-of-text token of the first models of this family.
        Model::Bpe(pre) => {
            roles[Role::Bos as usize] = pre.default_bos.then_some(11);
            roles[Role::Eos as usize] = Some(11);
        }
    }
    roles
}
