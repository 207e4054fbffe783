//! Texts by id and ids by text.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Problem, Result};

/// Bytes that a vector has asked for.
pub(super) fn vec_bytes<T>(v: &Vec<T>) -> u64 {
    (v.capacity() * size_of::<T>()) as u64
}

/// Rows of bytes, one after the other in a single allocation.
#[derive(Clone, Debug, Default)]
pub struct ByteTable {
    blob: Vec<u8>,
    ends: Vec<u32>,
}

impl ByteTable {
    /// An empty table with room for `rows` rows of together `bytes` bytes.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        ByteTable { blob: Vec::with_capacity(bytes), ends: Vec::with_capacity(rows) }
    }
    /// Appends a row. Fails with `TooLarge` beyond 4 GiB in all.
    pub fn push(&mut self, row: &[u8]) -> Result<()> {
        let end = self.blob.len().checked_add(row.len()).and_then(|e| u32::try_from(e).ok());
        let end = end.ok_or_else(|| {
            let p = Problem::new("TooLarge", "tokenizer.ggml.tokens").expected("at most 4 GiB of token text");
            Error::model(p)
        })?;
        self.blob.extend_from_slice(row);
        self.ends.push(end);
        Ok(())
    }
    /// Row `i`, if there is one.
    #[inline]
    pub fn get(&self, i: u32) -> Option<&[u8]> {
        let i = i as usize;
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        Some(&self.blob[start..end])
    }
    /// Length of all rows together.
    pub fn bytes(&self) -> usize {
        self.blob.len()
    }
    /// Bytes of memory that the table takes.
    pub fn table_bytes(&self) -> u64 {
        self.blob.capacity() as u64 + vec_bytes(&self.ends)
    }
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    /// All rows with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0u32..).zip(self.ends.iter().scan(0usize, |start, &end| {
            let row = &self.blob[*start..end as usize];
            *start = end as usize;
            Some(row)
        }))
    }
    /// Length of the longest row in bytes.
    pub fn max_len(&self) -> usize {
        self.iter().map(|(_, t)| t.len()).max().unwrap_or(0)
    }
}

/// From text to id: open addressing over the blob, so a lookup allocates nothing. The last id of equal texts
/// wins. The hash is randomly keyed, because a file could otherwise be made to collide everywhere.
#[derive(Clone, Debug)]
pub(super) struct TextMap {
    hasher: RandomState,
    /// Hash tag and id; `NO_ID` marks an empty slot. Length is a power of two, at most half full.
    slots: Vec<(u32, u32)>,
}

const NO_ID: u32 = u32::MAX;

impl TextMap {
    /// Indexes a table; also counts the texts that appeared before.
    pub(super) fn new(texts: &ByteTable) -> (Self, usize) {
        let size = (texts.len() * 2).next_power_of_two();
        let mut map = TextMap { hasher: RandomState::new(), slots: vec![(0, NO_ID); size] };
        let mut duplicates = 0;
        for (id, text) in texts.iter() {
            let (slot, tag) = map.find(texts, text);
            duplicates += usize::from(map.slots[slot].1 != NO_ID);
            map.slots[slot] = (tag, id);
        }
        (map, duplicates)
    }
    /// Bytes of memory that the map takes.
    pub(super) fn table_bytes(&self) -> u64 {
        vec_bytes(&self.slots)
    }
    /// The id of `text`.
    #[inline]
    pub(super) fn get(&self, texts: &ByteTable, text: &[u8]) -> Option<u32> {
        let id = self.slots[self.find(texts, text).0].1;
        (id != NO_ID).then_some(id)
    }
    /// The slot that holds `text`, or the empty one where it would go; and its tag.
    #[inline]
    fn find(&self, texts: &ByteTable, text: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(text);
        let mask = self.slots.len() - 1;
        let tag = (hash >> 32) as u32;
        let mut slot = hash as usize & mask;
        loop {
            let (t, id) = self.slots[slot];
            if id == NO_ID || (t == tag && texts.get(id) == Some(text)) {
                return (slot, tag);
            }
            slot = (slot + 1) & mask;
        }
    }
}
