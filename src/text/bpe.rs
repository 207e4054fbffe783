//! Byte-level BPE: each word's bytes are merged pairwise, best rank first.
//!
//! Of equal ranks the leftmost pair merges first. Time is n log n in the length of the longest word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::alphabet;
use super::merges::Merges;
use super::split::{Splitter, Words};
use super::tables::ByteTable;
use super::vocab::Vocab;
use crate::error::{Error, Problem, Result};

/// Marks a byte without a token, a symbol that was merged away, and the end of the chain.
const NONE: u32 = u32::MAX;

/// Tables of the family.
#[derive(Clone, Debug)]
pub struct Bpe {
    merges: Merges,
    splitter: Splitter,
    /// A word that is a token needs no merges.
    whole_words: bool,
    /// Token of each byte.
    bytes: Box<[u32; 256]>,
}

/// Buffers of one call, kept for its fragments.
#[derive(Default)]
pub struct Scratch {
    words: Words,
    word: Vec<u8>,
    letters: Vec<u8>,
    symbols: Vec<Symbol>,
    /// Rank and left symbol of the pairs that merge.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

/// A token of the word and its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
}

impl Bpe {
    /// Prepares the tables, and says what was odd and accepted. Errors of [`Merges::new`].
    pub fn new(
        merges: &ByteTable,
        splitter: Splitter,
        whole_words: bool,
        vocab: &Vocab,
    ) -> Result<(Bpe, Vec<Problem>)> {
        let (merges, unknown) = Merges::new(merges, vocab)?;
        let mut notes = Vec::new();
        if unknown > 0 {
            let p = Problem::new("UnknownMerges", "tokenizer.ggml.merges").found(format!("{unknown} merges"));
            notes.push(p.expected("merges of tokens into tokens").hint("they are left out"));
        }
        let mut bytes = Box::new([NONE; 256]);
        for (byte, slot) in (0u8..=255).zip(bytes.iter_mut()) {
            *slot = vocab.id(alphabet::letter(byte).encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or(NONE);
        }
        let without = bytes.iter().filter(|&&id| id == NONE).count();
        if without > 0 {
            let p = Problem::new("MissingBytes", "tokenizer.ggml.tokens")
                .found(format!("{without} bytes without token"));
            notes.push(p.hint("text with these bytes loses them"));
        }
        Ok((Bpe { merges, splitter, whole_words, bytes }, notes))
    }

    /// Bytes of memory that the tables take.
    pub fn table_bytes(&self) -> u64 {
        self.merges.table_bytes() + size_of_val(&*self.bytes) as u64
    }

    /// Appends the tokens of a fragment. Fails with `PromptTooLong` for 4 GiB and more.
    pub fn encode(
        &self,
        vocab: &Vocab,
        fragment: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        if u32::try_from(fragment.len()).is_err() {
            let p = Problem::new("PromptTooLong", "text").found(format!("{} bytes", fragment.len()));
            return Err(Error::input(p.expected("less than 4 GiB")));
        }
        let Scratch { words, word, letters, symbols, queue } = scratch;
        words.cut(fragment, self.splitter);
        for i in 0..words.len() {
            words.write(i, word);
            // A letter has at least as many bytes as what it stands for.
            if self.whole_words && word.len() <= vocab.max_text_len() {
                alphabet::write(word, letters);
                if let Some(id) = vocab.id(letters) {
                    out.push(id);
                    continue;
                }
            }
            self.merge(word, symbols, queue);
            let mut at = 0;
            while let Some(symbol) = symbols.get(at as usize) {
                match symbol.id {
                    NONE => self.lone_byte(vocab, word[at as usize], out),
                    id => out.push(id),
                }
                at = symbol.next;
            }
        }
        Ok(())
    }

    /// Leaves the chain of tokens of a word in `symbols`; its first is the first.
    fn merge(&self, word: &[u8], symbols: &mut Vec<Symbol>, queue: &mut BinaryHeap<Reverse<(u32, u32)>>) {
        symbols.clear();
        queue.clear();
        for (&byte, i) in word.iter().zip(0u32..) {
            let id = self.bytes[usize::from(byte)];
            let next = if i as usize + 1 < word.len() { i + 1 } else { NONE };
            symbols.push(Symbol { id, prev: i.wrapping_sub(1), next });
        }
        for left in 1..symbols.len() as u32 {
            self.push_pair(symbols, left - 1, queue);
        }
        while let Some(Reverse((rank, left))) = queue.pop() {
            let merge = self.merges.at(rank);
            let l = symbols[left as usize];
            // Stale if one of the two has become something else.
            let Some(&r) = symbols.get(l.next as usize).filter(|r| (l.id, r.id) == (merge.left, merge.right))
            else {
                continue;
            };
            symbols[l.next as usize].id = NONE;
            symbols[left as usize] = Symbol { id: merge.result, next: r.next, ..l };
            if let Some(after) = symbols.get_mut(r.next as usize) {
                after.prev = left;
                self.push_pair(symbols, left, queue);
            }
            if l.prev != NONE {
                self.push_pair(symbols, l.prev, queue);
            }
        }
    }

    /// Queues a symbol with its right neighbour if they merge.
    #[inline]
    fn push_pair(&self, symbols: &[Symbol], left: u32, queue: &mut BinaryHeap<Reverse<(u32, u32)>>) {
        let l = symbols[left as usize];
        let r = symbols[l.next as usize];
        if let Some(rank) = self.merges.rank(l.id, r.id) {
            queue.push(Reverse((rank, left)));
        }
    }

    /// A byte whose letter is no token: as in llama.cpp the bytes of the letter are tried, which mostly gives nothing.
    fn lone_byte(&self, vocab: &Vocab, byte: u8, out: &mut Vec<u32>) {
        let mut letter = [0; 4];
        let letter = alphabet::letter(byte).encode_utf8(&mut letter).as_bytes();
        out.extend(letter.iter().filter_map(|b| vocab.id(&[*b])));
    }
}
