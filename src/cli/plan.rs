//! `quipu plan`: what would run, from the header of a file alone.

use super::args::{ContextArgs, FuseArgs, ModelArgs, OverrideArgs, PlanArgs};
use super::out::{Failure, Out, note, text_to, to_json};
use clap::ValueEnum;
use quipu::backends::Isa;
use quipu::error::escape;
use quipu::graph::Graph;
use quipu::models::{self, Declared};
use quipu::plan::{self, Backend, Phase, PlanOptions};
use std::path::PathBuf;

/// Print the graph or the plan of a model, from the header of its file alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file may be cut after its header. The instruction set need not be one of this machine. Examples:
  quipu plan -m model.gguf --phase decode
  quipu plan -m model.gguf --stage graph --format dot | dot -Tsvg > graph.svg
  quipu plan -m model.gguf --no-fuse=gate_up,qkv --isa avx2 --format json -o plan.json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The plan for prompts or the one for single tokens
    #[arg(long, value_name = "PHASE", default_value = "prefill")]
    phase: PhaseArg,
    /// How far to go: the graph as declared, after fusion, or the plan
    #[arg(long, value_name = "STAGE", default_value = "plan")]
    stage: Stage,
    /// Text for people, JSON for programs, or Graphviz (of the fused graph, if of a plan)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    fuse: FuseArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PhaseArg {
    /// Many tokens in one step
    Prefill,
    /// One token a step
    Decode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// As the architecture declares it
    Graph,
    /// After the fusion rules
    Fused,
    /// Commands, kernels and offsets
    Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs; a plan can be read back from it
    Json,
    /// For Graphviz
    Dot,
}

/// Prints the stage in the format.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let fuse = args.fuse.options()?;
    let mut file = args.model.header()?;
    for (key, value) in args.overrides.parse()? {
        file.set_override(&key, value)?;
    }
    if file.is_cut() {
        let path = escape(&args.model.model.to_string_lossy());
        note(format_args!(
            "note: {path} has no tensor data behind its header; the header is enough for a plan"
        ));
    }
    let Declared { graph, hparams, extra, .. } = models::declare(&file, &[], args.plan.cache())?;
    if !extra.is_empty() {
        note(format_args!("note: {} tensors of the file are not used", extra.len()));
    }
    let text = match (args.stage, args.format) {
        (Stage::Graph, format) => graph_as(&graph, format)?,
        (Stage::Fused, format) | (Stage::Plan, format @ Format::Dot) => {
            graph_as(&plan::fuse::fuse(&graph, &fuse)?.0, format)?
        }
        (Stage::Plan, format) => {
            let rows = match args.phase {
                PhaseArg::Prefill => args.plan.ubatch_size,
                PhaseArg::Decode => 1,
            };
            let plan = plan::plan(
                &graph,
                &PlanOptions {
                    phase: match args.phase {
                        PhaseArg::Prefill => Phase::Prefill,
                        PhaseArg::Decode => Phase::Decode,
                    },
                    isa: args.plan.isa.unwrap_or_else(Isa::best),
                    backend: Backend::Cpu,
                    max_rows: rows,
                    max_out_rows: 1,
                    n_ctx: args.context.for_plan(hparams.n_ctx_train),
                    fuse,
                },
            )?;
            if format == Format::Json { to_json(&plan)? + "\n" } else { plan::text::print(&plan) }
        }
    };
    text_to(args.output.as_deref(), &text, out)
}

fn graph_as(graph: &Graph, format: Format) -> Result<String, Failure> {
    Ok(match format {
        Format::Text => quipu::graph::text::print(graph),
        Format::Json => to_json(graph)? + "\n",
        Format::Dot => quipu::graph::view::dot(graph),
    })
}
