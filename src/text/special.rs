//! Cutting special tokens out of a text before the rest is split.
//!
//! The rule, which is llama.cpp's: the longest special text is cut out everywhere first, from left to right,
//! then the next longest from what is left, and so on; of equal lengths the lower id. A token may swallow the
//! white space beside it as it is cut out. Here this takes one pass over the text and a heap with at most one
//! candidate per position, so the work does not grow with the number of special tokens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::attrs::Attr;
use super::tables::vec_bytes;
use super::vocab::Vocab;

/// A part of a text, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes `start..end` of the text.
    Text(usize, usize),
    /// A special token.
    Token(u32),
}

/// The special tokens of a vocabulary, ready to be searched for.
#[derive(Clone, Debug)]
pub struct Specials {
    /// Ids in the order of their texts.
    sorted: Vec<u32>,
    /// Where in `sorted` the texts with a first byte begin; one more entry than there are bytes.
    first: Box<[u32; 257]>,
}

/// A candidate: longest first, then the lowest id, then the leftmost.
type Candidate = (u32, Reverse<u32>, Reverse<usize>);

impl Specials {
    /// Bytes of memory that the tables take.
    pub fn table_bytes(&self) -> u64 {
        size_of_val(&*self.first) as u64 + vec_bytes(&self.sorted)
    }
    /// The user-defined tokens of a vocabulary, and also the control and unknown ones if `all`.
    pub fn new(vocab: &Vocab, all: bool) -> Specials {
        let hidden = Attr::CONTROL.or(Attr::UNKNOWN);
        let wanted = |a: Attr| match all {
            true => a.any(hidden.or(Attr::USER_DEFINED)),
            false => a.any(Attr::USER_DEFINED) && !a.any(hidden),
        };
        let attrs = vocab.attrs().iter().zip(0u32..);
        let text = |id: u32| vocab.text(id).unwrap_or_default();
        // Of equal texts only the id that the text stands for.
        let named = |id: &u32| vocab.id(text(*id)) == Some(*id);
        let mut sorted: Vec<u32> =
            attrs.filter(|(a, _)| wanted(**a)).map(|(_, id)| id).filter(named).collect();
        sorted.sort_unstable_by_key(|&id| text(id));
        let mut first = Box::new([0u32; 257]);
        for (byte, slot) in first.iter_mut().enumerate() {
            let before = |&id: &u32| text(id).first().is_some_and(|&b| usize::from(b) < byte);
            *slot = sorted.partition_point(before) as u32;
        }
        Specials { sorted, first }
    }

    /// The longest special token at the beginning of `text`: its length and id.
    fn longest(&self, vocab: &Vocab, text: &[u8]) -> Option<(usize, u32)> {
        let byte = usize::from(*text.first()?);
        let (lo, hi) = (self.first[byte] as usize, self.first[byte + 1] as usize);
        let mut range = self.sorted.get(lo..hi)?;
        let mut best = None;
        // The texts left in `range` agree with `text` in their first `len` bytes; the one that ends there, if
        // any, sorts before the others.
        for len in 1.. {
            let word = vocab.text(*range.first()?).unwrap_or_default();
            if word.len() == len {
                best = Some((len, range[0]));
                range = &range[1..];
            }
            let Some(&next) = text.get(len) else { break };
            let at = |id: &u32| vocab.text(*id).and_then(|t| t.get(len)).copied();
            let start = range.partition_point(|id| at(id) < Some(next));
            let end = range.partition_point(|id| at(id) <= Some(next));
            range = &range[start..end];
            if range.is_empty() {
                break;
            }
        }
        best
    }

    /// Splits `text` into special tokens and what is between them. Empty parts are left out.
    pub fn split(&self, vocab: &Vocab, text: &[u8], parts: &mut Vec<Part>) {
        parts.clear();
        let mut heap: BinaryHeap<Candidate> = BinaryHeap::new();
        for at in 0..text.len() {
            if let Some((len, id)) = self.longest(vocab, &text[at..]) {
                heap.push((len as u32, Reverse(id), Reverse(at)));
            }
        }
        if heap.is_empty() {
            if !text.is_empty() {
                parts.push(Part::Text(0, text.len()));
            }
            return;
        }
        // Bytes that belong to a token or were swallowed by one. Whatever is taken is at least as long as the
        // candidates that follow, so a candidate is free if its two ends are.
        let mut taken = vec![false; text.len()];
        let mut found: Vec<(usize, u32)> = Vec::new();
        while let Some((len, Reverse(id), Reverse(at))) = heap.pop() {
            let end = at + len as usize;
            if taken[at] {
                continue;
            }
            if taken[end - 1] {
                let free = taken[at..end].iter().position(|&t| t).unwrap_or(0);
                if let Some((len, id)) = self.longest(vocab, &text[at..at + free]) {
                    heap.push((len as u32, Reverse(id), Reverse(at)));
                }
                continue;
            }
            taken[at..end].fill(true);
            found.push((at, id));
            let attr = vocab.attr(id).unwrap_or_default();
            if attr.any(Attr::RSTRIP) {
                let spaces = (end..text.len()).take_while(|&i| !taken[i] && is_space(text[i])).count();
                taken[end..end + spaces].fill(true);
            }
            if attr.any(Attr::LSTRIP) {
                let spaces = (0..at).rev().take_while(|&i| !taken[i] && is_space(text[i])).count();
                taken[at - spaces..at].fill(true);
            }
        }
        found.sort_unstable();
        let mut next = 0;
        for (at, id) in found {
            push_free(&taken, next, at, parts);
            parts.push(Part::Token(id));
            next = at;
        }
        push_free(&taken, next, text.len(), parts);
    }
}

/// The free bytes of `start..end`, which are one run because swallowed ones touch a token.
fn push_free(taken: &[bool], start: usize, end: usize, parts: &mut Vec<Part>) {
    let is_free = |i: &usize| !taken[*i];
    if let Some(first) = (start..end).find(is_free) {
        let last = (first..end).rev().find(is_free).unwrap_or(first);
        parts.push(Part::Text(first, last + 1));
    }
}

/// White space of the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r')
}
