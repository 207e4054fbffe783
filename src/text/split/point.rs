//! Code points with their classes.

use super::table::RUNS;

/// Class of white space: property `White_Space`.
pub const S: u8 = 1 << 6;
/// Class of letters, `\p{L}`.
pub const L: u8 = 1 << 1;
/// Class of numbers, `\p{N}`.
pub const N: u8 = 1 << 2;
/// Class of marks, `\p{M}`.
pub const M: u8 = 1 << 3;
/// Class of punctuation, `\p{P}`.
pub const P: u8 = 1 << 4;
/// Class of symbols, `\p{S}`.
pub const SYM: u8 = 1 << 5;

/// Classes of ASCII, which most texts consist of.
const ASCII: [u8; 128] = {
    let mut classes = [0; 128];
    let (mut code, mut run) = (0, 0);
    while code < 128 {
        while RUNS[run + 1] >> 3 <= code {
            run += 1;
        }
        classes[code as usize] = 1 << (RUNS[run] & 7);
        code += 1;
    }
    classes
};

/// A code point and its class, one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point(u32);

impl Point {
    /// The code point with its class looked up.
    #[inline]
    pub fn new(code: u32) -> Point {
        let class = match ASCII.get(code as usize) {
            Some(&class) => class,
            None => 1 << (RUNS[RUNS.partition_point(|&run| run >> 3 <= code) - 1] & 7),
        };
        Point(code << 8 | u32::from(class))
    }
    /// The number of the code point; at most U+10FFFF, surrogates among them.
    #[inline]
    pub fn code(self) -> u32 {
        self.0 >> 8
    }
    /// Whether its class is one of these.
    #[inline]
    pub fn is(self, classes: u8) -> bool {
        self.0 as u8 & classes != 0
    }
    /// Whether it is this character.
    #[inline]
    pub fn is_char(self, c: char) -> bool {
        self.code() == c as u32
    }
    /// Whether it lies in one of these ranges, both ends included. White space outside ASCII lies in none, since
    /// llama.cpp compares it as if it were a vertical tab.
    #[inline]
    pub fn within(self, ranges: &[(char, char)]) -> bool {
        let code = self.code();
        let found = ranges.iter().any(|&(first, last)| (first as u32..=last as u32).contains(&code));
        found && (code < 0x80 || !self.is(S))
    }
    /// Appends its UTF-8 form; surrogates become three bytes like their neighbours.
    #[inline]
    pub fn push_utf8(self, out: &mut Vec<u8>) {
        let c = self.code();
        let tail = |shift: u32| 0x80 | (c >> shift & 0x3F) as u8;
        match c {
            0..=0x7F => out.push(c as u8),
            0x80..=0x7FF => out.extend([0xC0 | (c >> 6) as u8, tail(0)]),
            0x800..=0xFFFF => out.extend([0xE0 | (c >> 12) as u8, tail(6), tail(0)]),
            _ => out.extend([0xF0 | (c >> 18) as u8, tail(12), tail(6), tail(0)]),
        }
    }
}

/// Appends the code points of `text`, which may be any bytes.
///
/// As in llama.cpp, a lead byte with the right number of continuation bytes counts even where UTF-8 forbids it
/// (overlong forms, surrogates), and every other byte is one U+FFFD. Beyond U+10FFFF, where llama.cpp gives up, the
/// four bytes are one U+FFFD.
pub fn decode(text: &[u8], out: &mut Vec<Point>) {
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let (len, bits) = match first {
            0..=0x7F => (0, u32::from(first)),
            0xC0..=0xDF => (1, u32::from(first & 0x1F)),
            0xE0..=0xEF => (2, u32::from(first & 0x0F)),
            0xF0..=0xF7 => (3, u32::from(first & 0x07)),
            _ => (usize::MAX, 0),
        };
        let more = tail.get(..len).filter(|more| more.iter().all(|b| b & 0xC0 == 0x80));
        let code = more.map(|more| more.iter().fold(bits, |code, b| code << 6 | u32::from(b & 0x3F)));
        rest = &tail[more.map_or(0, <[u8]>::len)..];
        out.push(Point::new(code.filter(|&c| c <= 0x10_FFFF).unwrap_or(0xFFFD)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &[u8]) -> Vec<u32> {
        let mut out = Vec::new();
        decode(text, &mut out);
        out.into_iter().map(Point::code).collect()
    }

    #[test]
    fn classes_are_those_of_unicode() {
        let class = |c: char| Point::new(c as u32).0 as u8;
        for (c, want) in [
            ('a', L),
            ('Z', L),
            ('0', N),
            (' ', S),
            ('\t', S),
            ('\n', S),
            ('.', P),
            ('_', P),
            ('$', SYM),
            ('`', SYM),
            ('\u{1F}', 1),
            ('\u{7F}', 1),
            ('é', L),
            ('½', N),
            ('٣', N),
            ('\u{301}', M),
            ('\u{85}', S),
            ('\u{A0}', S),
            ('\u{200B}', 1),
            ('\u{3000}', S),
            ('一', L),
            ('、', P),
            ('😀', SYM),
            ('\u{10FFFF}', 1),
            ('\u{2EBF0}', L),
        ] {
            assert_eq!(class(c), want, "{c:?}");
        }
        // Every letter of the standard library that is not newer than this table.
        let odd = (0..0x11_0000)
            .filter_map(char::from_u32)
            .filter(|c| class(*c) == L && !c.is_alphabetic())
            .count();
        assert_eq!(odd, 0);
        let white = (0..0x11_0000)
            .filter_map(char::from_u32)
            .filter(|c| (class(*c) == S) != c.is_whitespace())
            .count();
        assert_eq!(white, 0);
    }

    #[test]
    fn any_bytes_decode() {
        assert_eq!(codes("aé一😀".as_bytes()), [0x61, 0xE9, 0x4E00, 0x1F600]);
        assert_eq!(codes(b"\xFFa\x80"), [0xFFFD, 0x61, 0xFFFD]);
        assert_eq!(codes(b"\xE4\xB8"), [0xFFFD, 0xFFFD], "each byte of a cut character");
        assert_eq!(codes(b"\xC1\x81\xED\xA0\x80"), [0x41, 0xD800]);
        assert_eq!(codes(b"\xF4\x90\x80\x80x"), [0xFFFD, 0x78]);
    }

    #[test]
    fn code_points_are_written_as_utf8() {
        let mut out = Vec::new();
        for c in "a\u{7F}\u{80}\u{7FF}\u{800}\u{FFFF}\u{10000}\u{10FFFF}".chars() {
            out.clear();
            Point::new(c as u32).push_utf8(&mut out);
            assert_eq!(out, c.to_string().as_bytes());
        }
    }
}
