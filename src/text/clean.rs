//! Taking out spaces that some tokenizers were published to take out of decoded text.
//!
//! Three rounds, as in llama.cpp: the space before `?`, `!`, `.` and `,`; both spaces around a lone apostrophe; the
//! space before `'s`, `'m`, `'re` and `'ve`.

/// Takes them out of `text`.
pub fn clean_spaces(text: &mut Vec<u8>) {
    join(text, |rest| matches!(rest[0], b'?' | b'!' | b'.' | b','));
    join_quotes(text);
    join(text, |rest| matches!(rest, [b'\'', b's' | b'm', ..] | [b'\'', b'r' | b'v', b'e', ..]));
}

/// Takes out each space that has something behind it for which `joins` holds.
fn join(text: &mut Vec<u8>, joins: fn(&[u8]) -> bool) {
    let mut kept = 0;
    for i in 0..text.len() {
        // Writes stay behind reads: the byte before is the one last kept.
        if i > 0 && text[i - 1] == b' ' && joins(&text[i..]) {
            kept -= 1;
        }
        text[kept] = text[i];
        kept += 1;
    }
    text.truncate(kept);
}

/// Takes out both spaces around apostrophes; a space counts for one of them only.
fn join_quotes(text: &mut Vec<u8>) {
    let (mut kept, mut i, mut free) = (0, 0, 1);
    while i < text.len() {
        let byte = text[i];
        if byte == b'\'' && i >= free && text[i - 1] == b' ' && text.get(i + 1) == Some(&b' ') {
            kept -= 1;
            i += 1;
            free = i + 2;
        }
        text[kept] = byte;
        kept += 1;
        i += 1;
    }
    text.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        clean_spaces(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn spaces_before_punctuation_go() {
        assert_eq!(clean("a , b . c ! d ?"), "a, b. c! d?");
        assert_eq!(clean(" . x  ."), ". x .");
        assert_eq!(clean("a ; b : c"), "a ; b : c");
        assert_eq!(clean(""), "");
    }

    #[test]
    fn apostrophes_join() {
        assert_eq!(clean("a ' b"), "a'b");
        assert_eq!(clean("a ' ' b"), "a'' b");
        assert_eq!(clean("it 's, I 'm, we 're, I 've"), "it's, I'm, we're, I've");
        assert_eq!(clean("I 'll, he 'd, can 't 'r"), "I 'll, he 'd, can 't 'r");
        assert_eq!(clean(" '"), " '");
    }
}
