//! Tools to look at a run from outside: profiles, traces and their comparison, faults on purpose, attention scores, and what the
//! process and the machine did.
//!
//! Two runs that should agree and do not are told apart by the first value that differs:
//!
//! ```
//! use quipu::debug::{compare::compare, record::record};
//! use quipu::engine::{Engine, EngineOptions, TraceOptions};
//! use quipu::loader::{Gguf, ParseOptions, synth::synth};
//! use quipu::plan::FuseOptions;
//! use quipu::quant::DType;
//!
//! let mut file = Vec::new();
//! synth("nano-llama", DType::Q8_0, 7, &mut file)?;
//! let load = |fuse| {
//!     let gguf = Gguf::parse(file.as_slice().into(), &ParseOptions::default())?;
//!     Engine::from_gguf(gguf, EngineOptions { fuse, n_outputs: 64, ..EngineOptions::default() })
//! };
//! let tokens = [1, 5, 9, 200, 7, 30, 31, 32, 33];
//!
//! // Fused or not: the same bits, wherever both store a value.
//! let mut engine = load(FuseOptions::default())?;
//! let trace = engine.trace(&tokens, &TraceOptions::default())?;
//! let fused = record(&engine, &tokens, trace);
//! let mut engine = load(FuseOptions::none())?;
//! let trace = engine.trace(&tokens, &TraceOptions::default())?;
//! let plain = record(&engine, &tokens, trace);
//! assert!(compare(&plain, &fused, 0.0).is_same());
//!
//! // An error made on purpose is found where it is made.
//! let inject = Some("ulp@ffn_out-1".parse()?);
//! let wrong = engine.trace(&tokens, &TraceOptions { inject, ..TraceOptions::default() })?;
//! let first = compare(&plain, &record(&engine, &tokens, wrong), 0.0).first.unwrap();
//! assert!(first.name == "ffn_out-1" && first.made_here);
//! # Ok::<(), quipu::Error>(())
//! ```

pub mod checkpoint;
pub mod compare;
pub mod fault;
pub mod machine;
pub mod profile;
pub mod proof;
pub mod record;
pub mod replay;
pub mod scores;
pub mod trace_file;
pub mod verify;
