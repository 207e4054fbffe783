//! Architectures: one file and one row each. A file reads as the paper does and holds nothing but the graph.
//!
//! An architecture from outside the crate is the same row, handed to the engine's options.

pub mod blocks;
pub mod hparams;
pub mod llama;
pub mod qwen2;

use crate::error::{Class, Error, Problem, Result};
use crate::graph::Graph;
use crate::graph::builder::{CacheTypes, GraphBuilder, TensorTypes};
pub use hparams::Hparams;

/// An architecture: its name in `general.architecture`, what it does not support, and its graph.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// One problem for every property of the file that the graph cannot express.
    pub refuse: fn(&Hparams) -> Vec<Problem>,
    /// Writes the graph.
    pub build: fn(&mut GraphBuilder<'_>, &Hparams),
}

/// The architectures that ship with the crate.
pub const ARCHITECTURES: &[Architecture] = &[llama::ARCHITECTURE, qwen2::ARCHITECTURE];

/// The architecture with this name, from `extra` first.
///
/// Errors: `UnsupportedArch` with the names there are.
pub fn find(name: &str, extra: &[Architecture]) -> Result<Architecture> {
    let all = || extra.iter().chain(ARCHITECTURES);
    all().find(|a| a.name == name).copied().ok_or_else(|| {
        let have: Vec<_> = all().map(|a| a.name).collect();
        Error::model(
            Problem::new("UnsupportedArch", "general.architecture")
                .found(format!("\"{}\"", crate::error::escape(name)))
                .expected(format!("one of {}", have.join(", "))),
        )
    })
}

/// Builds the graph of a file.
///
/// Errors: what the architecture refuses, or what the builder and verification find, all together.
pub fn build(
    arch: &Architecture,
    tensors: &dyn TensorTypes,
    hp: &Hparams,
    cache: CacheTypes,
) -> Result<Graph> {
    Error::from_problems(Class::Model, (arch.refuse)(hp))?;
    let mut g = GraphBuilder::new(arch.name, tensors, cache);
    (arch.build)(&mut g, hp);
    g.finish()
}
