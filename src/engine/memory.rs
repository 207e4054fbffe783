//! What a run takes of memory, line by line, known before anything runs.

use super::Engine;
use serde::Serialize;

/// Bytes of everything an engine and one session of it hold. The peak of a run is the total, when the context is
/// full, and at most a few MiB beside it (the program, the header's tables, buffers of a call).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The model's file, mapped or read: pages that the system can take back if it is mapped.
    pub file: u64,
    /// Tables of the tokenizer.
    pub tokenizer: u64,
    /// Activations of the larger plan.
    pub arena: u64,
    /// Scratch of all threads.
    pub scratch: u64,
    /// Rows of logits.
    pub logits: u64,
    /// Keys and values of one session with a full context; pages come as tokens do.
    pub cache: u64,
}

impl Memory {
    /// The sum of all lines.
    pub fn total(&self) -> u64 {
        let lines = [self.file, self.tokenizer, self.arena, self.scratch, self.logits, self.cache];
        lines.into_iter().fold(0, u64::saturating_add)
    }
}

impl Engine {
    /// What this engine and one session of it hold.
    pub fn memory(&self) -> Memory {
        let [arena, scratch, logits] = self.runner.memory_bytes();
        Memory {
            file: self.gguf.bytes().len() as u64,
            tokenizer: self.tokenizer.table_bytes(),
            arena,
            scratch,
            logits,
            cache: self.session_bytes(),
        }
    }
}
