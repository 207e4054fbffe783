//! How long it takes to plan a model of 32 layers, in this process.

use super::result::{PlanTime, Spread};
use quipu::backends::Isa;
use quipu::error::Result;
use quipu::graph::builder::CacheTypes;
use quipu::loader::synth::{Shape, synth_header};
use quipu::loader::{Gguf, ParseOptions};
use quipu::models;
use quipu::plan::{Backend, FuseOptions, Phase, PlanOptions, plan};
use quipu::quant::DType;
use std::time::Instant;

/// Runs of each, after one that does not count.
const RUNS: usize = 31;

/// The graph from the header, and the plans of both phases.
pub fn measure(isa: Isa) -> Result<Vec<PlanTime>> {
    let mut times = Vec::new();
    for name in ["llama-2-7b", "phi-3-mini-4k"] {
        let shape = Shape::named(name)?;
        let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
        let gguf = Gguf::parse(synth_header(name, DType::Q8_0)?.into(), &parse)?;
        let declare = || models::declare(&gguf, &[], CacheTypes::default());
        let graph = declare()?.graph;
        let planned = |phase, max_rows| {
            let (fuse, backend) = (FuseOptions::default(), Backend::Cpu);
            plan(&graph, &PlanOptions { phase, isa, backend, max_rows, max_out_rows: 1, n_ctx: 4096, fuse })
        };
        let mut add = |what, milliseconds| {
            times.push(PlanTime { shape: name.into(), layers: shape.n_layer, what, milliseconds });
        };
        add("graph", timed(|| declare().map(drop))?);
        add("decode", timed(|| planned(Phase::Decode, 1).map(drop))?);
        add("prefill", timed(|| planned(Phase::Prefill, 512).map(drop))?);
    }
    Ok(times)
}

fn timed(mut call: impl FnMut() -> Result<()>) -> Result<Spread> {
    call()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Spread::of(times).expect("there are times"))
}
