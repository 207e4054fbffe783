//! The merge list of byte-level BPE as a table from two neighbours to what they become.

use std::hash::{BuildHasher, RandomState};

use super::tables::{ByteTable, vec_bytes};
use super::vocab::Vocab;
use crate::error::{Class, Error, Problem, Result, escape};

/// Most merges a vocabulary may have; the largest real lists hold about half a million.
pub const MAX_MERGES: usize = 1 << 21;

const KEY: &str = "tokenizer.ggml.merges";
/// Low bits of a slot hold the rank plus one, the others a tag of the pair's hash.
const RANK_BITS: u32 = 22;
/// Most wrong merges named in one error.
const MAX_NAMED: usize = 20;

/// What two tokens become, and how early.
#[derive(Clone, Copy, Debug)]
pub struct Merge {
    pub left: u32,
    pub right: u32,
    pub result: u32,
}

/// The merges by rank, and where each pair is among them: open addressing, at most half full. The hash is randomly
/// keyed, because a file could otherwise be made to collide everywhere.
#[derive(Clone, Debug)]
pub struct Merges {
    list: Vec<Merge>,
    slots: Vec<u32>,
    keys: [u64; 2],
}

impl Merges {
    /// Reads `LEFT RIGHT` lines, best first. Of equal pairs the first counts. Merges of or into texts that are no
    /// tokens are left out; also returns their number.
    ///
    /// Errors: `TooManyMerges`, `BadMerge` for lines that are not two texts with one space between, `MissingKey` for
    /// no merges at all.
    pub fn new(lines: &ByteTable, vocab: &Vocab) -> Result<(Merges, usize)> {
        if lines.len() > MAX_MERGES {
            let p = Problem::new("TooManyMerges", KEY).found(format!("{} merges", lines.len()));
            return Err(Error::model(p.expected(format!("at most {MAX_MERGES}"))));
        }
        let random = RandomState::new();
        let mut merges = Merges {
            list: Vec::with_capacity(lines.len()),
            slots: vec![0; (lines.len() * 2).next_power_of_two()],
            keys: [random.hash_one(0), random.hash_one(1) | 1],
        };
        let (mut problems, mut unknown, mut joined) = (Vec::new(), 0, Vec::new());
        for (i, line) in lines.iter() {
            let Some((left, right)) = halves(line) else {
                if problems.len() < MAX_NAMED {
                    let found =
                        format!("\"{}\"", escape(&String::from_utf8_lossy(&line[..line.len().min(80)])));
                    let p = Problem::new("BadMerge", format!("{KEY}[{i}]")).found(found);
                    problems.push(p.expected("two texts with one space between"));
                }
                continue;
            };
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            match (vocab.id(left), vocab.id(right), vocab.id(&joined)) {
                (Some(left), Some(right), Some(result)) => merges.add(Merge { left, right, result }),
                _ => unknown += 1,
            }
        }
        Error::from_problems(Class::Model, problems)?;
        merges.list.shrink_to_fit();
        Ok((merges, unknown))
    }

    /// The rank of a pair, and with it [`Merges::at`].
    #[inline]
    pub fn rank(&self, left: u32, right: u32) -> Option<u32> {
        match self.slots[self.find(left, right).0] & RANK_MASK {
            0 => None,
            rank => Some(rank - 1),
        }
    }

    /// The merge of a rank.
    #[inline]
    pub fn at(&self, rank: u32) -> Merge {
        self.list[rank as usize]
    }

    /// Bytes of memory that the tables take.
    pub fn table_bytes(&self) -> u64 {
        vec_bytes(&self.list) + vec_bytes(&self.slots)
    }

    fn add(&mut self, merge: Merge) {
        let (slot, tag) = self.find(merge.left, merge.right);
        if self.slots[slot] == 0 {
            self.list.push(merge);
            self.slots[slot] = tag | self.list.len() as u32;
        }
    }

    /// The slot of a pair, or the empty one where it would go; and its tag.
    #[inline]
    fn find(&self, left: u32, right: u32) -> (usize, u32) {
        let pair = u128::from((u64::from(left) << 32 | u64::from(right)) ^ self.keys[0]);
        let product = pair * u128::from(self.keys[1]);
        let hash = product as u64 ^ (product >> 64) as u64;
        let tag = (hash >> 32) as u32 & !RANK_MASK;
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let entry = self.slots[slot];
            if entry == 0 {
                return (slot, tag);
            }
            if entry & !RANK_MASK == tag {
                let m = &self.list[(entry & RANK_MASK) as usize - 1];
                if (m.left, m.right) == (left, right) {
                    return (slot, tag);
                }
            }
            slot = (slot + 1) & mask;
        }
    }
}

const RANK_MASK: u32 = (1 << RANK_BITS) - 1;

/// The two sides of a line.
fn halves(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = line.iter().position(|&b| b == b' ')?;
    let (left, right) = (&line[..space], &line[space + 1..]);
    (!left.is_empty() && !right.is_empty() && !right.contains(&b' ')).then_some((left, right))
}
