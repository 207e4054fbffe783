//! SentencePiece-style splitting: characters are merged pairwise, best score first.
//!
//! Of equal scores the leftmost pair merges first. What stays without a token falls back to its bytes, and a
//! byte without a token to the unknown token. Time is n log n in the length of the text.

use std::collections::BinaryHeap;

use super::attrs::Role;
use super::tables::vec_bytes;
use super::vocab::{SPACE, Vocab, byte_of};
use crate::error::{Error, Problem, Result};

/// Marks the end of the chain of symbols.
const NONE: u32 = u32::MAX;

/// Tables of the splitter.
#[derive(Clone, Debug)]
pub struct Spm {
    /// Token of each byte.
    bytes: Box<[u32; 256]>,
    /// Scores as integers of the same order.
    ranks: Vec<u32>,
}

/// Buffers of one call, kept for its fragments.
#[derive(Default)]
pub struct Scratch {
    text: Vec<u8>,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

/// A run of the text and its neighbours; a run of length 0 was merged away.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
}

/// A pair that would make a token. Derived order: score, then leftmost, since `left` is stored inverted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    rank: u32,
    not_left: u32,
    right: u32,
    /// Length of the token; the pair is stale if its symbols no longer add up to it.
    len: u32,
}

impl Spm {
    /// Bytes of memory that the tables take.
    pub fn table_bytes(&self) -> u64 {
        size_of_val(&*self.bytes) as u64 + vec_bytes(&self.ranks)
    }
    /// Prepares the tables. Every byte has `<0xHH>`, or the byte itself as a token, or falls to the unknown
    /// token; a vocabulary with none of them for some byte is `Inconsistent`.
    pub fn new(vocab: &Vocab) -> Result<Spm> {
        let mut bytes = Box::new([NONE; 256]);
        for (byte, slot) in (0u8..=255).zip(bytes.iter_mut()) {
            let name = format!("<0x{byte:02X}>");
            let named = vocab.id(name.as_bytes()).or_else(|| vocab.id(&[byte]));
            *slot = named.or(vocab.role(Role::Unk)).ok_or_else(|| {
                let p = Problem::new("Inconsistent", "tokenizer.ggml.tokens").found(format!("no {name}"));
                Error::model(p.expected("tokens for all bytes, or an unknown token"))
            })?;
            debug_assert_eq!(byte_of(name.as_bytes()), Some(byte));
        }
        let ranks = vocab.scores().iter().map(|s| ordered(*s)).collect();
        Ok(Spm { bytes, ranks })
    }

    /// Appends the tokens of a fragment; `prefix` puts a space before it. Fails with `PromptTooLong` beyond
    /// 4 GiB of escaped text.
    pub fn encode(
        &self,
        vocab: &Vocab,
        fragment: &[u8],
        prefix: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let Scratch { text, symbols, queue } = scratch;
        escape_spaces(fragment, prefix, text);
        if u32::try_from(text.len()).is_err() {
            let p = Problem::new("PromptTooLong", "text").found(format!("{} bytes", text.len()));
            return Err(Error::input(p.expected("less than 4 GiB")));
        }
        split_characters(text, symbols);
        queue.clear();
        for left in 1..symbols.len() as u32 {
            self.push_pair(vocab, text, symbols, left - 1, left, queue);
        }
        while let Some(pair) = queue.pop() {
            let (left, right) = (!pair.not_left, pair.right);
            let (l, r) = (symbols[left as usize], symbols[right as usize]);
            if l.len == 0 || r.len == 0 || l.len + r.len != pair.len {
                continue;
            }
            symbols[right as usize].len = 0;
            symbols[left as usize] = Symbol { len: pair.len, next: r.next, ..l };
            if r.next != NONE {
                symbols[r.next as usize].prev = left;
                self.push_pair(vocab, text, symbols, left, r.next, queue);
            }
            if l.prev != NONE {
                self.push_pair(vocab, text, symbols, l.prev, left, queue);
            }
        }
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = symbols[at as usize];
            let bytes = &text[symbol.start as usize..][..symbol.len as usize];
            match vocab.id(bytes) {
                Some(id) => out.push(id),
                None => out.extend(bytes.iter().map(|&b| self.bytes[usize::from(b)])),
            }
            at = symbol.next;
        }
        Ok(())
    }

    /// Queues two neighbours if together they are a token.
    #[inline]
    fn push_pair(
        &self,
        vocab: &Vocab,
        text: &[u8],
        symbols: &[Symbol],
        left: u32,
        right: u32,
        queue: &mut BinaryHeap<Pair>,
    ) {
        let (l, r) = (symbols[left as usize], symbols[right as usize]);
        let len = l.len + r.len;
        // Bounds the work per pair by the vocabulary instead of by the text.
        if len as usize > vocab.max_text_len() {
            return;
        }
        if let Some(id) = vocab.id(&text[l.start as usize..][..len as usize]) {
            queue.push(Pair { rank: self.ranks[id as usize], not_left: !left, right, len });
        }
    }
}

/// The bits of a number that is not NaN as an integer of the same order (+0 and -0 must already be one).
fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn escape_spaces(fragment: &[u8], prefix: bool, out: &mut Vec<u8>) {
    out.clear();
    if prefix {
        out.extend_from_slice(SPACE);
    }
    for &byte in fragment {
        match byte {
            b' ' => out.extend_from_slice(SPACE),
            _ => out.push(byte),
        }
    }
}

/// One symbol per character. The length is what the first byte says, cut at the end, so that any bytes split.
fn split_characters(text: &[u8], symbols: &mut Vec<Symbol>) {
    symbols.clear();
    let mut start = 0;
    while start < text.len() {
        let len = match text[start] >> 4 {
            0..=11 => 1,
            12 | 13 => 2,
            14 => 3,
            _ => 4,
        };
        let len = len.min(text.len() - start);
        let i = symbols.len() as u32;
        symbols.push(Symbol { start: start as u32, len: len as u32, prev: i.wrapping_sub(1), next: i + 1 });
        start += len;
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
}
