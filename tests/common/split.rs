//! Writes a model as several files.

use super::Model;
use std::path::{Path, PathBuf};

/// The name of file `i` of `n`.
pub fn name(i: usize, n: usize) -> String {
    format!("m-{:05}-of-{n:05}.gguf", i + 1)
}

/// Writes the files into a directory and returns the path of the first.
pub fn write(dir: &Path, parts: &[Model]) -> PathBuf {
    for (i, part) in parts.iter().enumerate() {
        std::fs::write(dir.join(name(i, parts.len())), part.build()).unwrap();
    }
    dir.join(name(0, parts.len()))
}
