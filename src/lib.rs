//! quipu runs language models from GGUF files: a model is declared as a graph, planned into a flat table of commands over
//! one arena, and run by kernels with the same bits whatever the instruction set, threads, batch or chunk.
//!
//! Most programs need [`engine`] alone. The other modules, in the order of processing:
//!
//! - [`loader`]: a file's bytes to a checked header, weights and synthetic models; [`quant`]: element types
//! - [`models`]: architectures and hyper-parameters; [`graph`]: the builder and the graph; [`ops`]: what a graph is made of
//! - [`plan`]: fusion, order, arena, kernel choice; [`backends`]: kernels, binding, the thread team
//! - [`engine`]: load, sessions, steps, generation; [`text`]: tokenizers; [`debug`]: traces and measurements
//!
//! A plan from a header alone, without weights or a machine to run it:
//!
//! ```
//! use quipu::backends::Isa;
//! use quipu::graph::builder::CacheTypes;
//! use quipu::loader::{Bytes, Gguf, ParseOptions, synth::synth_header};
//! use quipu::plan::{Backend, FuseOptions, Phase, PlanOptions, plan};
//! use quipu::quant::DType;
//!
//! let header = synth_header("llama-2-7b", DType::Q8_0)?;
//! let options = ParseOptions { header_only: true, ..ParseOptions::default() };
//! let gguf = Gguf::parse(Bytes::from(header), &options)?;
//! let declared = quipu::models::declare(&gguf, &[], CacheTypes::default())?;
//! let plan = plan(
//!     &declared.graph,
//!     &PlanOptions {
//!         phase: Phase::Decode,
//!         isa: Isa::Avx512,
//!         backend: Backend::Null,
//!         max_rows: 1,
//!         max_out_rows: 1,
//!         n_ctx: 4096,
//!         fuse: FuseOptions::default(),
//!     },
//! )?;
//! assert_eq!(plan.totals.weight_bytes, 7_160_348_672);
//! assert_eq!(plan.totals.kv_bytes, 2 << 30);
//! # Ok::<(), quipu::Error>(())
//! ```

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

/// README.md's program, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
