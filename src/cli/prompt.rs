//! Where the prompt comes from, and llama.cpp's escapes in it.

use super::argv::Given;
use super::tokenize::read_stdin;
use clap::Args;
use quipu::error::{Error, Problem, Result, escape};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The prompt.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Text to continue; without it and -f the prompt is read from a pipe
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// File to read the prompt from; one newline at its end is dropped
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read \n, \r, \t, \', \", \\ and \xHH in -p, -f and --stop as the characters they stand for [default]
    #[arg(short, long)]
    escape: bool,
    /// Read them as they are
    #[arg(long)]
    no_escape: bool,
}

impl PromptArgs {
    /// Whether escapes are read; a flag beats the environment.
    pub fn escapes(&self, given: Given<'_>) -> bool {
        if given.on_command_line("no_escape") {
            false
        } else {
            given.on_command_line("escape") || self.escape || !self.no_escape
        }
    }

    /// Whether there is a prompt that need not be asked for.
    pub fn is_given(&self) -> bool {
        self.prompt.is_some() || self.file.is_some()
    }

    /// The prompt's bytes.
    ///
    /// Errors: usage, if there is none or two; input, if it cannot be read.
    pub fn read(&self, given: Given<'_>) -> Result<Vec<u8>> {
        let (p, f) = (given.on_command_line("prompt"), given.on_command_line("file"));
        if p && f {
            return Err(Error::usage(Problem::new("TwoPrompts", "-p and -f").expected("one of them")));
        }
        let escapes = |bytes: Vec<u8>| if self.escapes(given) { unescape(&bytes) } else { bytes };
        match (&self.prompt, &self.file) {
            (Some(text), _) if !f => Ok(escapes(text.clone().into_bytes())),
            (_, Some(path)) => read_file(path).map(without_newline).map(escapes),
            _ if std::io::stdin().is_terminal() => Err(Error::usage(
                Problem::new("NoPrompt", "prompt")
                    .found("nothing, and standard input is a terminal")
                    .hint("give -p TEXT or -f FILE, or pipe a text in"),
            )),
            _ => read_stdin().map(without_newline),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        let thing = escape(&path.to_string_lossy());
        Error::input(Problem::new("InputNotReadable", thing).found(e.to_string()))
    })
}

/// The bytes of a text file, or of standard input for `-`; one newline at the end is dropped, as llama.cpp does.
pub fn read_text(path: &Path) -> Result<Vec<u8>> {
    let bytes = if path == Path::new("-") { read_stdin()? } else { read_file(path)? };
    Ok(without_newline(bytes))
}

/// Drops one newline at the end, as shells do with what a command prints.
fn without_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    bytes
}

/// llama.cpp's escapes; an unknown one stays as it is. Source: `string_process_escapes` of llama.cpp.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let (bytes, used): (&[u8], usize) = match (byte, tail) {
            (b'\\', [b'n', ..]) => (b"\n", 2),
            (b'\\', [b'r', ..]) => (b"\r", 2),
            (b'\\', [b't', ..]) => (b"\t", 2),
            (b'\\', [b'\'', ..]) => (b"'", 2),
            (b'\\', [b'"', ..]) => (b"\"", 2),
            (b'\\', [b'\\', ..]) => (b"\\", 2),
            (b'\\', [b'x', hi, lo, ..]) if hi.is_ascii_hexdigit() && lo.is_ascii_hexdigit() => {
                let digit = |d: u8| (d as char).to_digit(16).unwrap_or(0) as u8;
                out.push(digit(*hi) << 4 | digit(*lo));
                (b"", 4)
            }
            // Both characters stay, so that the second is not read as the start of another escape.
            (b'\\', [_, ..]) => (&rest[..2], 2),
            _ => (&rest[..1], 1),
        };
        out.extend_from_slice(bytes);
        rest = &rest[used..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_llama_cpps() {
        let cases: &[(&str, &[u8])] = &[
            (r"a\nb", b"a\nb"),
            (r#"\r\t\'\"\\"#, b"\r\t'\"\\"),
            (r"\x41\xe9", b"A\xe9"),
            (r"\x4", br"\x4"),
            (r"\xzz", br"\xzz"),
            (r"\\n", br"\n"),
            (r"\q\", br"\q\"),
            ("", b""),
        ];
        for (text, want) in cases {
            assert_eq!(unescape(text.as_bytes()), *want, "{text}");
        }
    }

    #[test]
    fn one_newline_is_dropped() {
        assert_eq!(without_newline(b"a\n\n".to_vec()), b"a\n");
        assert_eq!(without_newline(b"a".to_vec()), b"a");
    }
}
