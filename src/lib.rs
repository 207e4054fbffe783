//! quipu runs language models from GGUF files.

pub mod backends;
pub mod debug;
pub mod engine;
pub mod error;
pub mod graph;
pub mod loader;
pub mod models;
pub mod ops;
pub mod plan;
pub mod quant;
pub mod text;

pub use error::{Class, Error, Problem, Result};

/// CONTRIBUTING.md's recipes, compiled and run as doc-tests.
#[cfg(doctest)]
#[doc = include_str!("../CONTRIBUTING.md")]
pub struct Contributing;
