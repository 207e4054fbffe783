//! The one place where bytes of a file become numbers: every read is bounded, and says where it stood.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic
)]

use crate::error::Problem;

/// A position in the bytes of a file. Never past their end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, pos: 0 }
    }

    /// Where the next read starts.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// The same as a file offset.
    pub(super) fn offset(&self) -> u64 {
        as_u64(self.pos)
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        as_u64(self.bytes.len().saturating_sub(self.pos))
    }

    /// The next `n` bytes, or `Truncated` about `thing`; the position stays where it was then.
    pub(super) fn take(&mut self, n: usize, thing: &dyn Fn() -> String) -> Result<&'a [u8], Box<Problem>> {
        let end = self.pos.checked_add(n);
        match end.and_then(|end| self.bytes.get(self.pos..end).map(|b| (b, end))) {
            Some((bytes, end)) => {
                self.pos = end;
                Ok(bytes)
            }
            None => Err(Box::new(
                Problem::new("Truncated", thing())
                    .at(self.offset())
                    .found(format!("{} bytes to the end of the file", self.left()))
                    .expected(format!("{n} bytes"))
                    .hint("the file is incomplete: download it again?"),
            )),
        }
    }

    /// Up to `n` of the next bytes, without moving.
    pub(super) fn peek(&self, n: usize) -> &'a [u8] {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        rest.get(..n).unwrap_or(rest)
    }

    fn array<const N: usize>(&mut self, thing: &dyn Fn() -> String) -> Result<[u8; N], Box<Problem>> {
        let mut out = [0; N];
        // `take` returned exactly N bytes.
        out.copy_from_slice(self.take(N, thing)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, thing: &dyn Fn() -> String) -> Result<u32, Box<Problem>> {
        self.array(thing).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, thing: &dyn Fn() -> String) -> Result<u64, Box<Problem>> {
        self.array(thing).map(u64::from_le_bytes)
    }

    /// A length-prefixed string that must lie in the file; `LengthExceedsFile` otherwise.
    pub(super) fn string(&mut self, thing: &dyn Fn() -> String) -> Result<&'a [u8], Box<Problem>> {
        let at = self.offset();
        let len = self.u64(thing)?;
        match usize::try_from(len) {
            Ok(n) if len <= self.left() => self.take(n, thing),
            _ => Err(Box::new(
                Problem::new("LengthExceedsFile", thing())
                    .at(at)
                    .found(format!("{len} bytes"))
                    .expected(format!("at most the {} bytes left", self.left())),
            )),
        }
    }
}

/// A `usize` as `u64`: never loses anything on a target Rust supports.
pub(super) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// `n` rounded up to a multiple of `align` (a power of two), or `None` past `u64`.
pub(super) fn pad(n: u64, align: u64) -> Option<u64> {
    n.checked_next_multiple_of(align)
}
