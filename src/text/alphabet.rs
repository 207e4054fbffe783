//! The alphabet of byte-level BPE: one printable character for each byte.
//!
//! Printable Latin-1 stands for itself, and the other 68 bytes, in order, for U+0100 and what follows.

use super::split::decode;

/// Whether a byte stands for itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Number of the character of each byte.
const LETTERS: [u16; 256] = {
    let mut letters = [0; 256];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 256 {
        letters[byte] = if is_plain(byte as u8) { byte as u16 } else { next };
        next += !is_plain(byte as u8) as u16;
        byte += 1;
    }
    letters
};

/// The character of a byte.
#[inline]
pub fn letter(byte: u8) -> char {
    char::from_u32(u32::from(LETTERS[usize::from(byte)])).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character, if it is one of the alphabet.
pub fn byte(c: char) -> Option<u8> {
    match u8::try_from(c) {
        Ok(byte) => is_plain(byte).then_some(byte),
        Err(_) => LETTERS.iter().position(|&l| u32::from(l) == c as u32).map(|byte| byte as u8),
    }
}

/// Writes bytes in the alphabet.
pub fn write(bytes: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for &byte in bytes {
        out.extend_from_slice(letter(byte).encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Appends what a token of this text prints. A character that is not in the alphabet is named, with the text it came
/// in, as llama.cpp does.
pub fn read(text: &[u8], out: &mut Vec<u8>) {
    let mut points = Vec::new();
    decode(text, &mut points);
    for point in points {
        match char::from_u32(point.code()).and_then(byte) {
            Some(byte) => out.push(byte),
            None => {
                let mut utf8 = Vec::new();
                point.push_utf8(&mut utf8);
                out.extend_from_slice(b"[UNK_BYTE_0x");
                utf8.iter().for_each(|b| out.extend_from_slice(format!("{b:02x}").as_bytes()));
                out.extend_from_slice(text);
                out.push(b']');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_letter() {
        let letters: std::collections::BTreeSet<char> = (0..=255).map(letter).collect();
        assert_eq!(letters.len(), 256);
        assert_eq!((letter(b' '), letter(b'\n'), letter(0), letter(b'a')), ('Ġ', 'Ċ', 'Ā', 'a'));
        assert_eq!((letter(0x7F), letter(0xA0), letter(0xAD)), ('ġ', 'ł', 'Ń'));
        assert!((0..=255).all(|b| byte(letter(b)) == Some(b)));
        assert_eq!(
            (byte(' '), byte('\u{A0}'), byte('Ń'), byte('ń'), byte('一')),
            (None, None, Some(0xAD), None, None)
        );
    }

    #[test]
    fn tokens_print_their_bytes() {
        let print = |text: &[u8]| {
            let mut out = Vec::new();
            read(text, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(print("ĠæľŁ".as_bytes()), " 期");
        assert_eq!(print("a b".as_bytes()), "a[UNK_BYTE_0x20a b]b");
        assert_eq!(print("▁".as_bytes()), "[UNK_BYTE_0xe29681▁]");
        let mut out = Vec::new();
        write(" é".as_bytes(), &mut out);
        assert_eq!(out, "ĠÃ©".as_bytes());
    }
}
