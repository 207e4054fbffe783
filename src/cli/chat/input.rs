//! Where messages come from: a line editor at a terminal, lines of a pipe otherwise.

use super::super::terminal::Color;
use super::commands;
use quipu::error::{Error, Problem, Result};
use rustyline::completion::Completer;
use rustyline::config::{Behavior, Configurer};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, EventContext, EventHandler,
    Helper, KeyEvent, Movement, RepeatCount,
};
use std::borrow::Cow;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

/// What the user did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Wrote a message or a command.
    Text(String),
    /// Pressed Ctrl-C.
    Interrupt,
    /// There is nothing more.
    End,
}

/// A source of messages.
pub enum Input {
    /// A terminal, and the file of its history.
    Terminal(Box<Editor<Lines, FileHistory>>, Option<PathBuf>),
    /// Anything else.
    Pipe,
}

const PROMPT: &str = "> ";
const QUOTES: &str = "\"\"\"";
/// Green and bold, as llama.cpp shows what users write.
const INPUT_COLOR: &str = "\x1b[1;32m";
const PLAIN: &str = "\x1b[0m";

impl Input {
    /// The source of this process.
    pub fn new(color: Color, history: bool) -> Result<Input> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        // Prompts and what is typed go to the terminal itself: standard output is for answers.
        let config = Config::builder()
            .behavior(Behavior::PreferTerm)
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .build();
        let mut editor = Editor::with_config(config).map_err(|e| failed(&e))?;
        editor.set_max_history_size(1000).map_err(|e| failed(&e))?;
        editor.set_helper(Some(Lines { color: color.stdout() }));
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(DropLine)));
        let path = if history { history_path() } else { None };
        if let Some(path) = &path {
            // None yet, or none that can be read: this one begins empty.
            let _ = editor.load_history(path);
        }
        Ok(Input::Terminal(Box::new(editor), path))
    }

    /// Whether a person writes.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(..))
    }

    /// The next message, with its continuation lines.
    pub fn next(&mut self) -> Result<Event> {
        match self {
            Input::Terminal(editor, path) => match editor.readline(PROMPT) {
                Ok(line) => {
                    if !line.trim().is_empty() {
                        let _ = editor.add_history_entry(&line);
                        if let Some(path) = path {
                            let _ = editor.append_history(path);
                        }
                    }
                    Ok(Event::Text(unfold(&line)))
                }
                Err(ReadlineError::Interrupted) => Ok(Event::Interrupt),
                Err(ReadlineError::Eof) => Ok(Event::End),
                Err(e) => Err(failed(&e)),
            },
            Input::Pipe => {
                let mut text = String::new();
                let mut stdin = std::io::stdin().lock();
                loop {
                    let mut line = Vec::new();
                    let n = stdin.read_until(b'\n', &mut line).map_err(|e| {
                        Error::input(Problem::new("InputNotReadable", "standard input").found(e.to_string()))
                    })?;
                    if n == 0 {
                        let end = if text.is_empty() { Event::End } else { Event::Text(unfold(&text)) };
                        return Ok(end);
                    }
                    if line.last() == Some(&b'\n') {
                        line.pop();
                        if line.last() == Some(&b'\r') {
                            line.pop();
                        }
                    }
                    text.push_str(&String::from_utf8_lossy(&line));
                    if !is_open(&text) {
                        return Ok(Event::Text(unfold(&text)));
                    }
                    text.push('\n');
                }
            }
        }
    }
}

fn failed(e: &ReadlineError) -> Error {
    Error::runtime(Problem::new("Terminal", "the line editor").found(e.to_string()))
}

/// The file of the history; none where there is no home. Its folder is made.
fn history_path() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")))?;
    let folder = state.join("quipu");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Whether a message goes on on the next line.
fn is_open(text: &str) -> bool {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(rest) => !rest.trim_end().ends_with(QUOTES),
        None => text.ends_with('\\') && !text.ends_with("\\\\"),
    }
}

/// The message that was meant: without the quotes around it or the backslashes at the ends of lines.
fn unfold(text: &str) -> String {
    let trimmed = text.trim();
    match trimmed.strip_prefix(QUOTES) {
        Some(rest) => {
            let inner = rest.strip_suffix(QUOTES).unwrap_or(rest);
            inner.strip_prefix('\n').unwrap_or(inner).strip_suffix('\n').unwrap_or(inner).to_owned()
        }
        None => {
            // Two backslashes at the end are two backslashes.
            let text = if is_open(text) { text.strip_suffix('\\').unwrap_or(text) } else { text };
            text.replace("\\\n", "\n")
        }
    }
}

/// Ctrl-C: takes back what is being written, and interrupts only if there is nothing.
struct DropLine;

impl ConditionalEventHandler for DropLine {
    fn handle(&self, _: &rustyline::Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        Some(if ctx.line().is_empty() { Cmd::Interrupt } else { Cmd::Kill(Movement::WholeBuffer) })
    }
}

/// How lines look, end and are completed.
pub struct Lines {
    color: bool,
}

impl Validator for Lines {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_open(ctx.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Highlighter for Lines {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.color { Cow::Owned(format!("{INPUT_COLOR}{line}{PLAIN}")) } else { Cow::Borrowed(line) }
    }
    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.color
    }
}

impl Completer for Lines {
    type Candidate = String;
    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let start = line.get(..at).unwrap_or(line);
        let names = commands::names()
            .map(|n| format!("/{n}"))
            .filter(|n| start.starts_with('/') && n.starts_with(start));
        Ok((0, names.collect()))
    }
}

impl Hinter for Lines {
    type Hint = String;
}

impl Helper for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_several_lines() {
        for (text, open) in [
            ("a", false),
            ("a\\", true),
            ("a\\\\", false),
            ("a\\\nb", false),
            ("\"\"\"a", true),
            ("\"\"\"", true),
            ("\"\"\"a\nb\"\"\"", false),
            ("", false),
        ] {
            assert_eq!(is_open(text), open, "{text:?}");
        }
        for (text, want) in [
            ("a", "a"),
            ("a\\\nb", "a\nb"),
            ("a\\", "a"),
            (" a ", " a "),
            ("\"\"\"a\nb\"\"\"", "a\nb"),
            ("\"\"\"\na\nb\n\"\"\"", "a\nb"),
            ("C:\\\\", "C:\\\\"),
        ] {
            assert_eq!(unfold(text), want, "{text:?}");
        }
    }
}
