//! Standard output, errors and exit codes.

use quipu::error::{Error, MAX_PRINTED, Problem, escape};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// Why a command stopped early.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong: printed, and its class is the exit code.
    Error(Error),
    /// Nobody reads the output any more: quiet, exit 0.
    ClosedPipe,
    /// Everything has been printed already; this is the exit code.
    Reported(u8),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Error(e)
    }
}

/// The exit code of a command, after printing what stopped it.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Reported(code)) => ExitCode::from(code),
        Err(Failure::Error(e)) => {
            print_error(&e);
            ExitCode::from(e.class().exit_code())
        }
    }
}

/// One line per problem on standard error, at most [`MAX_PRINTED`].
pub fn print_error(e: &Error) {
    print_problems("error", e.problems());
}

/// As [`print_error`], under another label. A closed standard error is ignored.
pub fn print_problems(label: &str, problems: &[Problem]) {
    let mut err = io::stderr().lock();
    for p in problems.iter().take(MAX_PRINTED) {
        let _ = writeln!(err, "{label}: {}", one_line(&p.to_string()));
    }
    if problems.len() > MAX_PRINTED {
        let _ = writeln!(err, "{label}: ... and {} more", problems.len() - MAX_PRINTED);
    }
}

/// Writes one line of information on standard error. A closed standard error is ignored.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A problem is one line whatever a file or a system message put into it.
fn one_line(text: &str) -> String {
    if text.contains(|c: char| c.is_control()) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect()
    } else {
        text.to_owned()
    }
}

/// Standard output, buffered; a closed pipe and a full disk become a [`Failure`].
pub struct Out(BufWriter<io::Stdout>);

impl Out {
    /// The standard output of this process.
    pub fn stdout() -> Self {
        Out(BufWriter::new(io::stdout()))
    }
    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(stdout_failed)
    }
    /// Writes text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }
    /// Writes text and a newline.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.0, "{text}").map_err(stdout_failed)
    }
    /// Writes a value as indented JSON and a newline.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        self.line(to_json(value)?)
    }
    /// Writes a value as one line of JSON.
    pub fn json_line(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        self.line(serde_json::to_string(value).map_err(|e| no_json(&e))?)
    }
    /// Ends the last line where a person reads, and nowhere else.
    pub fn final_newline(&mut self) -> Result<(), Failure> {
        if io::stdout().is_terminal() { self.text("\n") } else { Ok(()) }
    }
    /// Hands everything to the reader.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(stdout_failed)
    }
}

/// Indented JSON.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|e| no_json(&e))
}

/// A value as JSON to be looked into.
pub fn to_value(value: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(|e| no_json(&e))
}

fn no_json(e: &serde_json::Error) -> Failure {
    Error::runtime(Problem::new("Json", "output").found(e.to_string())).into()
}

fn stdout_failed(e: io::Error) -> Failure {
    match e.kind() {
        ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => not_writable("standard output", &e).into(),
    }
}

fn not_writable(thing: &str, e: &io::Error) -> Error {
    Error::runtime(Problem::new("OutputNotWritable", thing).found(e.to_string()))
}

/// The error for a file that cannot be written.
pub fn file_not_writable(path: &Path, e: &io::Error) -> Failure {
    not_writable(&escape(&path.to_string_lossy()), e).into()
}

/// Writes `text` to the file that `-o` names, or to standard output.
pub fn text_to(path: Option<&Path>, text: &str, out: &mut Out) -> Result<(), Failure> {
    match path {
        None => out.text(text),
        Some(p) if p == Path::new("-") => out.text(text),
        Some(p) => std::fs::write(p, text).map_err(|e| file_not_writable(p, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_stay_on_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(one_line("plain \u{e9}"), "plain \u{e9}");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        assert!(matches!(stdout_failed(ErrorKind::BrokenPipe.into()), Failure::ClosedPipe));
        let Failure::Error(e) = stdout_failed(ErrorKind::StorageFull.into()) else { panic!("an error") };
        assert_eq!((e.code(), e.class().exit_code()), ("OutputNotWritable", 1));
    }
}
