//! Bytes of generated tokens to text, piece by piece.

use std::fmt;

/// How many bytes of text a [`Piece`] holds.
pub const PIECE_BYTES: usize = 59;

/// A token and the text it completed: small, and copied rather than allocated.
///
/// Text that does not fit continues in further pieces of the same id. A piece always ends at the end of a
/// character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The token that completed this text.
    pub id: u32,
    len: u8,
    bytes: [u8; PIECE_BYTES],
}

impl Piece {
    /// A piece without text: the token printed nothing, or the text is held back.
    pub const fn empty(id: u32) -> Piece {
        Piece { id, len: 0, bytes: [0; PIECE_BYTES] }
    }

    /// The first piece of `text`, with as many whole characters as fit, and the text that is left.
    pub fn cut(id: u32, text: &str) -> (Piece, &str) {
        let fits = |end: &usize| text.is_char_boundary(*end);
        let end = (0..=PIECE_BYTES.min(text.len())).rev().find(fits).unwrap_or(0);
        let (head, rest) = text.split_at(end);
        let mut piece = Piece::empty(id);
        piece.bytes[..end].copy_from_slice(head.as_bytes());
        piece.len = end as u8;
        (piece, rest)
    }

    /// All pieces of `text`; one empty piece if there is none.
    pub fn all(id: u32, text: &str) -> impl Iterator<Item = Piece> + '_ {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let (piece, left) = Piece::cut(id, rest?);
            rest = (!left.is_empty()).then_some(left);
            Some(piece)
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({}, {:?})", self.id, self.as_str())
    }
}

/// Turns bytes that arrive in any portions into text: whole characters only, and U+FFFD for what is none.
///
/// A sequence that can still become a character is held back. Each maximal part of a character that was
/// begun and not finished, and each byte that begins none, becomes one U+FFFD, so the text is that of
/// `String::from_utf8_lossy` over all bytes together.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamDecoder {
    held: [u8; 4],
    len: u8,
}

impl StreamDecoder {
    /// A decoder that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to `out` the text that `bytes` complete. Allocates only if `out` has to grow; three bytes for
    /// each byte fed and held are always enough.
    pub fn feed(&mut self, bytes: &[u8], out: &mut String) {
        let mut rest = bytes;
        while let (true, Some((&byte, tail))) = (self.len > 0, rest.split_first()) {
            // Held bytes are the beginning of a character, so there is room for one more.
            self.held[usize::from(self.len)] = byte;
            let with = self.held;
            let with = &with[..usize::from(self.len) + 1];
            match std::str::from_utf8(with) {
                Ok(text) => {
                    out.push_str(text);
                    self.len = 0;
                    rest = tail;
                }
                Err(e) if e.error_len().is_none() => {
                    self.len += 1;
                    rest = tail;
                }
                // `byte` does not continue the character; it may begin the next, so it is looked at again.
                Err(_) => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.len = 0;
                }
            }
        }
        while let Err(e) = std::str::from_utf8(rest) {
            let (good, bad) = rest.split_at(e.valid_up_to());
            out.push_str(std::str::from_utf8(good).unwrap_or_default());
            match e.error_len() {
                Some(n) => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = &bad[n..];
                }
                None => {
                    self.held[..bad.len()].copy_from_slice(bad);
                    self.len = bad.len() as u8;
                    return;
                }
            }
        }
        out.push_str(std::str::from_utf8(rest).unwrap_or_default());
    }

    /// Ends the text: a character that was not finished becomes one U+FFFD. The decoder can be used again.
    pub fn finish(&mut self, out: &mut String) {
        if self.len > 0 {
            out.push(char::REPLACEMENT_CHARACTER);
            self.len = 0;
        }
    }

    /// Whether a character is unfinished.
    pub fn is_holding(&self) -> bool {
        self.len > 0
    }
}
