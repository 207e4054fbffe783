//! One error type for the whole engine: a class (which becomes the exit code) and up to twenty problems.
//!
//! A problem is data, not prose: a stable code, the byte offset where one exists, the thing that is wrong, what
//! was found, what was expected and what to do. Programs match on [`Problem::code`]; people read the line.

use std::fmt;

/// What kind of failure this is; each class has one documented exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Class {
    /// Output not writable, port in use, an internal limit: exit 1.
    Runtime,
    /// The command line is wrong: exit 2.
    Usage,
    /// The model cannot be opened, is malformed, truncated or of an unknown kind: exit 3.
    Model,
    /// The prompt, template or schema is unusable: exit 4.
    Input,
    /// Not enough memory, no such device or instruction set: exit 5.
    Resources,
    /// Interrupted by the user: exit 130.
    Interrupted,
}

impl Class {
    /// The process exit code of this class.
    pub const fn exit_code(self) -> u8 {
        match self {
            Class::Runtime => 1,
            Class::Usage => 2,
            Class::Model => 3,
            Class::Input => 4,
            Class::Resources => 5,
            Class::Interrupted => 130,
        }
    }
}

/// One thing that is wrong, in parts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Stable identifier, for example `BadMagic`.
    pub code: &'static str,
    /// Byte offset in the file, where there is one.
    pub offset: Option<u64>,
    /// The key, tensor, flag or value that is wrong (already escaped).
    pub thing: String,
    /// What was found there.
    pub found: String,
    /// What would have been right.
    pub expected: String,
    /// What the user can do about it; empty if nothing is known.
    pub hint: String,
}

impl Problem {
    /// A problem with a code and the thing it is about; fill the rest with the builder methods.
    pub fn new(code: &'static str, thing: impl Into<String>) -> Self {
        Problem {
            code,
            offset: None,
            thing: thing.into(),
            found: String::new(),
            expected: String::new(),
            hint: String::new(),
        }
    }
    /// Sets the byte offset.
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
    /// Sets what was found.
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }
    /// Sets what was expected.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }
    /// Sets what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.thing)?;
        if let Some(o) = self.offset {
            write!(f, " at byte {o}")?;
        }
        let mut sep = ": ";
        if !self.found.is_empty() {
            write!(f, "{sep}found {}", self.found)?;
            sep = ", ";
        }
        if !self.expected.is_empty() {
            write!(f, "{sep}expected {}", self.expected)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// An error: its class and every problem that was found, in the order of discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    class: Class,
    problems: Vec<Problem>,
}

/// The result type of the whole crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many problems an error prints; the rest are counted.
pub const MAX_PRINTED: usize = 20;

impl Error {
    /// An error with one problem.
    pub fn new(class: Class, problem: Problem) -> Self {
        Error(Box::new(Inner { class, problems: vec![problem] }))
    }
    /// An error with all the problems of a list, or `Ok(())` if the list is empty.
    pub fn from_problems(class: Class, problems: Vec<Problem>) -> Result<()> {
        if problems.is_empty() { Ok(()) } else { Err(Error(Box::new(Inner { class, problems }))) }
    }
    /// A bad model (exit 3).
    pub fn model(problem: Problem) -> Self {
        Error::new(Class::Model, problem)
    }
    /// Bad input (exit 4).
    pub fn input(problem: Problem) -> Self {
        Error::new(Class::Input, problem)
    }
    /// A runtime failure (exit 1).
    pub fn runtime(problem: Problem) -> Self {
        Error::new(Class::Runtime, problem)
    }
    /// A usage error (exit 2).
    pub fn usage(problem: Problem) -> Self {
        Error::new(Class::Usage, problem)
    }
    /// Missing memory, device or instruction set (exit 5).
    pub fn resources(problem: Problem) -> Self {
        Error::new(Class::Resources, problem)
    }
    /// The class, which decides the exit code.
    pub fn class(&self) -> Class {
        self.0.class
    }
    /// Every problem found; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }
    /// The stable code of the first problem.
    pub fn code(&self) -> &'static str {
        self.0.problems.first().map_or("Unknown", |p| p.code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.0.problems;
        for (i, problem) in p.iter().take(MAX_PRINTED).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if p.len() > MAX_PRINTED {
            write!(f, "\n... and {} more", p.len() - MAX_PRINTED)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Escapes a string from a file for one line of a terminal: control characters, quotes and backslashes are
/// escaped, and anything past 80 characters is cut and marked.
pub fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len().min(84) + 2);
    for (i, c) in s.chars().enumerate() {
        if i == 80 {
            out.push_str("...");
            break;
        }
        if c.is_control() || c == '"' || c == '\\' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
