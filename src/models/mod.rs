//! Architectures: one file and one row each. A file reads as the paper does and holds nothing but the graph.
//!
//! An architecture from outside the crate is the same row, handed to the engine's options.

pub mod blocks;
pub mod hparams;
pub mod llama;
pub mod phi3;
pub mod qwen2;
pub mod qwen3;
pub mod rope;

use crate::error::{Class, Error, Problem, Result};
use crate::graph::Graph;
use crate::graph::builder::{CacheTypes, GraphBuilder, TensorTypes};
use crate::loader::Gguf;
use crate::loader::weights::{self, TensorSlot, Want};
use crate::quant::DType;
pub use hparams::Hparams;
use smallvec::SmallVec;
use std::collections::HashSet;

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
pub const ARCHITECTURES: &[Architecture] =
    &[llama::ARCHITECTURE, qwen2::ARCHITECTURE, qwen3::ARCHITECTURE, phi3::ARCHITECTURE];

/// The architecture that a file names, from `extra` first.
///
/// Errors: `MissingKey`, `WrongType`, or `UnsupportedArch` with the names there are.
pub fn find(gguf: &Gguf, extra: &[Architecture]) -> Result<Architecture> {
    let name = gguf.architecture()?;
    let all = || extra.iter().chain(ARCHITECTURES);
    all().find(|a| a.name == name).copied().ok_or_else(|| {
        let have: Vec<_> = all().map(|a| a.name).collect();
        Error::model(
            gguf.problem("UnsupportedArch", "general.architecture")
                .found(format!("\"{}\"", crate::error::escape(name)))
                .expected(format!("one of {}", have.join(", "))),
        )
    })
}

/// What a file declares: its hyper-parameters, its graph, and where every weight of the graph lies.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Hyper-parameters.
    pub hparams: Hparams,
    /// The graph.
    pub graph: Graph,
    /// Where each tensor lies, one slot per row of [`wants`].
    pub slots: Vec<TensorSlot>,
    /// Tensors of the file that the graph does not use: worth a warning.
    pub extra: Vec<String>,
}

/// Reads hyper-parameters, builds the graph and finds every weight, from the header alone.
///
/// Errors: what hyper-parameters, architecture, weights or graph find wrong; each stage reports all it finds.
/// `CacheTypeMisfit` (usage) for a cache whose blocks do not divide the model's heads.
pub fn declare(gguf: &Gguf, extra: &[Architecture], cache: CacheTypes) -> Result<Declared> {
    let arch = find(gguf, extra)?;
    let hparams = Hparams::read(gguf)?;
    Error::from_problems(Class::Model, (arch.refuse)(&hparams))?;
    Error::from_problems(Class::Usage, misfits(cache, &hparams))?;
    let mut g = GraphBuilder::new(arch.name, gguf, cache);
    (arch.build)(&mut g, &hparams);
    let (graph, problems) = g.finish_partly();
    if gguf.tensors().is_empty() {
        let p = Problem::new("MissingTensor", "the tensor table").found("no tensors, metadata alone");
        let p = p.expected(format!("{} tensors", graph.weights.len()));
        return Err(Error::model(p.hint("a vocabulary-only file serves tokenize and detokenize")));
    }
    // A missing or misshapen weight explains the graph's problems, so it is reported first.
    let demanded = weights::demand(gguf, &wants(&graph))?;
    Error::from_problems(Class::Model, problems)?;
    let slots = demanded.slots.into_iter().flatten().collect();
    Ok(Declared { hparams, graph, slots, extra: demanded.extra })
}

/// One problem for each type of a cache whose blocks do not divide a head of the model.
fn misfits(cache: CacheTypes, hp: &Hparams) -> Vec<Problem> {
    let parts = [
        ("--cache-type-k", "-ctk", "key", cache.k, hp.head_dim_k),
        ("--cache-type-v", "-ctv", "value", cache.v, hp.head_dim_v),
    ];
    let misfits = parts.into_iter().filter(|(.., t, dim)| t.row_bytes(*dim as usize).is_none());
    misfits
        .map(|(flag, short, what, t, dim)| {
            Problem::new("CacheTypeMisfit", flag)
                .found(format!("{t} for {what} heads of {dim} elements"))
                .expected(format!("heads of a multiple of {} elements", t.block()))
                .hint(format!("{short} f16 and {short} f32 fit heads of any size"))
        })
        .collect()
}

/// What a graph demands of a file: every tensor once, whole, in the order they are first named.
pub fn wants(graph: &Graph) -> Vec<Want> {
    let mut seen = HashSet::new();
    let weights = graph.weights.rows().iter().filter(|w| seen.insert(w.name.as_str()));
    weights
        .map(|w| {
            let dims: Vec<u64> = w.tensor_shape().iter().rev().map(|d| u64::from(*d)).collect();
            let want = Want::new(&w.name, &dims);
            if w.shape.len() == 1 { want.only(&[DType::F32]) } else { want }
        })
        .collect()
}

impl TensorTypes for Gguf {
    fn tensor_type(&self, name: &str) -> Option<(DType, SmallVec<[u64; 4]>)> {
        self.tensor(name).map(|t| (t.dtype, t.dims.clone()))
    }
}
