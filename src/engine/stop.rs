//! Finds stop strings in text that arrives in portions.
//!
//! Text that may turn out to be the beginning of a stop string is held back until that is decided, so no part of
//! a stop string ever gets out, whatever the portions. One Knuth-Morris-Pratt automaton per string: the work is
//! linear in the text.

use crate::error::{Class, Error, Problem, Result};

/// Most stop strings of one generation.
pub const MAX_STOPS: usize = 16;
/// Longest stop string in bytes.
pub const MAX_STOP_BYTES: usize = 4096;

/// One stop string and how far it has been matched.
#[derive(Clone, Debug)]
struct Stop {
    text: Box<str>,
    /// For each matched length above zero, the next shorter one that is still a match.
    shorter: Box<[u16]>,
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Stop {
        let bytes = text.as_bytes();
        let mut shorter = vec![0u16; bytes.len()];
        let mut len = 0;
        for i in 1..bytes.len() {
            while len > 0 && bytes[i] != bytes[len] {
                len = usize::from(shorter[len - 1]);
            }
            len += usize::from(bytes[i] == bytes[len]);
            shorter[i] = len as u16;
        }
        Stop { text: text.into(), shorter: shorter.into(), matched: 0 }
    }

    /// Takes a byte; true if the whole string has been seen.
    fn step(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = usize::from(self.shorter[self.matched - 1]);
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        self.matched == bytes.len()
    }
}

/// Passes text on until a stop string appears. Allocates nothing after it was made, if the output has room.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// The end of the text so far that begins a stop string.
    held: String,
    hit: Option<usize>,
}

impl StopMatcher {
    /// A matcher of these strings; none is allowed and never stops.
    ///
    /// Errors of class `Usage`, code `OutOfRange`: more than [`MAX_STOPS`], an empty one, or one longer than
    /// [`MAX_STOP_BYTES`].
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<StopMatcher> {
        let mut problems = Vec::new();
        if stops.len() > MAX_STOPS {
            let p = Problem::new("OutOfRange", "stop").found(format!("{} strings", stops.len()));
            problems.push(p.expected(format!("at most {MAX_STOPS}")));
        }
        for (i, len) in stops.iter().map(|s| s.as_ref().len()).enumerate() {
            if !(1..=MAX_STOP_BYTES).contains(&len) {
                let p = Problem::new("OutOfRange", format!("stop[{i}]")).found(format!("{len} bytes"));
                problems.push(p.expected(format!("1 to {MAX_STOP_BYTES} bytes")));
            }
        }
        Error::from_problems(Class::Usage, problems)?;
        let stops: Vec<Stop> = stops.iter().map(|s| Stop::new(s.as_ref())).collect();
        let longest = stops.iter().map(|s| s.text.len()).max().unwrap_or(0);
        Ok(StopMatcher { stops, held: String::with_capacity(longest), hit: None })
    }

    /// Takes a portion of text and appends to `out` what cannot belong to a stop string any more.
    ///
    /// Returns the index of the stop string that was found: the one that is complete first, of those the
    /// longest. Text from its first byte on is dropped, and so is everything fed later.
    pub fn feed(&mut self, text: &str, out: &mut String) -> Option<usize> {
        if self.hit.is_some() {
            return self.hit;
        }
        for (i, byte) in text.bytes().enumerate() {
            let mut found: Option<usize> = None;
            for s in 0..self.stops.len() {
                let longer = found.is_none_or(|f| self.stops[s].text.len() > self.stops[f].text.len());
                if self.stops[s].step(byte) && longer {
                    found = Some(s);
                }
            }
            if let Some(s) = found {
                let end = self.held.len() + i + 1;
                self.pass_on(text, end - self.stops[s].text.len(), out);
                self.held.clear();
                self.hit = found;
                return found;
            }
        }
        // What is held is shorter than the longest stop string, so its buffer never grows.
        let keep = self.stops.iter().map(|s| s.matched).max().unwrap_or(0);
        let count = self.held.len() + text.len() - keep;
        self.pass_on(text, count, out);
        let of_text = count.saturating_sub(self.held.len());
        self.held.drain(..count.min(self.held.len()));
        self.held.push_str(&text[of_text..]);
        None
    }

    /// Appends the first `count` bytes of what is held and of `text` to `out`.
    ///
    /// They end with a character: what follows begins like a stop string, and those begin with one.
    fn pass_on(&self, text: &str, count: usize, out: &mut String) {
        out.push_str(&self.held[..count.min(self.held.len())]);
        out.push_str(&text[..count.saturating_sub(self.held.len())]);
    }

    /// Ends the text: appends what was held back, unless a stop string was found.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        for stop in &mut self.stops {
            stop.matched = 0;
        }
    }

    /// Which stop string was found.
    pub fn hit(&self) -> Option<usize> {
        self.hit
    }

    /// Bytes held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Starts again with a new text.
    pub fn reset(&mut self) {
        self.held.clear();
        self.hit = None;
        for stop in &mut self.stops {
            stop.matched = 0;
        }
    }
}
