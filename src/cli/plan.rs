//! `quipu plan`: what would run, from the header of a file alone.

use super::args::{ContextArgs, FuseArgs, MemoryArgs, ModelArgs, OverrideArgs, PlanArgs};
use super::limits::LimitsArgs;
use super::out::{Failure, Out, note, text_to, to_json};
use clap::ValueEnum;
use quipu::backends::Isa;
use quipu::backends::team::default_threads;
use quipu::engine::{EngineOptions, PlanDocument, RunForecast};
use quipu::error::{Error, Problem, escape};
use quipu::graph::Graph;
use quipu::models::{self, Declared};
use quipu::plan::report::{self, PageOptions};
use quipu::plan::{self, Phase, Plan};
use std::path::{Path, PathBuf};

/// Print the graph or the plan of a model, from the header of its file alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file may be cut after its header. The instruction set need not be one of this machine. Behind the plan stand the
memory of a run at its peak, the longest context that fits, and the speed of prompts and generation at best; times
need limits: see quipu calibrate. Examples:
  quipu plan -m model.gguf --phase decode
  quipu plan -m model.gguf -c 8192 --memory 16GiB
  quipu plan -m model.gguf --format html -o plan.html
  quipu plan -m model.gguf --format dot --open-layer 3 | dot -Tsvg > plan.svg
  quipu plan -m model.gguf --no-fuse=gate_up,qkv --isa avx2 --format json -o plan.json
  quipu plan --diff plan.json other.json
  quipu plan --schema -o plan.schema.json")]
pub struct Args {
    /// GGUF file of the model
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["diff", "schema"])]
    model: Option<PathBuf>,
    /// Compare two plans that were written with --format json
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    diff: Vec<PathBuf>,
    /// Print the JSON schema of what --format json writes
    #[arg(long, conflicts_with = "diff")]
    schema: bool,
    /// The plan for prompts or the one for single tokens [default: prefill, both on a page]
    #[arg(long, value_name = "PHASE")]
    phase: Option<PhaseArg>,
    /// How far to go: the graph as declared, after fusion, or the plan
    #[arg(long, value_name = "STAGE", default_value = "plan")]
    stage: Stage,
    /// Text or a page for people, JSON for programs, or Graphviz
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The layer that Graphviz shows command by command
    #[arg(long, value_name = "N", default_value_t = 0)]
    open_layer: u32,
    #[command(flatten)]
    limits: LimitsArgs,
    /// Number of threads that times and scratch are for [-t] [default: all of this machine]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    memory: MemoryArgs,
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
    /// One page for a browser, with pictures
    Html,
}

/// Prints the stage in the format, or the difference of two plans.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    if args.schema {
        return text_to(args.output.as_deref(), &(to_json(&PlanDocument::schema())? + "\n"), out);
    }
    if let [a, b] = &args.diff[..] {
        let difference = report::diff(&read(a)?, &read(b)?);
        let text = match args.format {
            Format::Json => to_json(&difference)? + "\n",
            Format::Text => format!("{difference}\n"),
            Format::Dot | Format::Html => {
                let p = Problem::new("BadFormat", "--format").found("dot or html with --diff");
                return Err(Error::usage(p.expected("text or json")).into());
            }
        };
        text_to(args.output.as_deref(), &text, out)?;
        return if difference.is_empty() { Ok(()) } else { Err(Failure::Reported(1)) };
    }
    let Some(path) = &args.model else {
        return Err(
            Error::usage(Problem::new("MissingArgument", "-m").expected("a model, or --diff A B")).into()
        );
    };
    let text = of_model(args, path)?;
    text_to(args.output.as_deref(), &text, out)
}

/// A plan from a file that this command wrote.
fn read(path: &Path) -> Result<Plan, Failure> {
    let bytes = std::fs::read(path).map_err(|e| {
        Error::usage(Problem::new("Io", escape(&path.to_string_lossy())).found(e.to_string()))
    })?;
    Plan::from_json(&bytes, &path.to_string_lossy()).map_err(Failure::from)
}

fn of_model(args: &Args, path: &Path) -> Result<String, Failure> {
    let fuse = args.fuse.options()?;
    let mut file = ModelArgs { model: path.to_owned() }.header()?;
    for (key, value) in args.overrides.parse()? {
        file.set_override(&key, value)?;
    }
    let shown = escape(&path.to_string_lossy());
    if file.is_cut() {
        note(format_args!(
            "note: {shown} has no tensor data behind its header; the header is enough for a plan"
        ));
    }
    let Declared { graph, hparams, extra, .. } = models::declare(&file, &[], args.plan.cache())?;
    if !extra.is_empty() {
        note(format_args!("note: {} tensors of the file are not used", extra.len()));
    }
    match args.stage {
        Stage::Graph => return graph_as(&graph, args.format),
        Stage::Fused => return graph_as(&plan::fuse::fuse(&graph, &fuse)?.0, args.format),
        Stage::Plan => {}
    }
    let isa = args.plan.isa.unwrap_or_else(Isa::best);
    let phase = match args.phase {
        Some(PhaseArg::Decode) => Phase::Decode,
        _ => Phase::Prefill,
    };
    let threads = args.threads.unwrap_or(default_threads() as u32);
    let options = EngineOptions {
        threads: Some(threads as usize),
        n_ctx: Some(args.context.for_plan(hparams.n_ctx_train).clamp(1, i32::MAX as u32)),
        n_ubatch: args.plan.ubatch_size,
        n_seq_max: 1,
        n_outputs: 1,
        type_k: args.plan.cache().k,
        type_v: args.plan.cache().v,
        isa: Some(isa),
        memory: args.memory.bytes(),
        fuse,
        ..EngineOptions::default()
    };
    let forecast = RunForecast::new(&file, &options)?;
    let plan_for =
        |phase| forecast.plan(phase).ok_or_else(|| Error::runtime(Problem::new("NoPlan", phase.to_string())));
    let limits = args.limits.find(isa, threads)?;
    Ok(match args.format {
        Format::Text => {
            let limits = limits.as_ref().map(|l| &l.0);
            let speeds = limits.map(|l| format!("{}\n", forecast.speeds(l))).unwrap_or_default();
            // What is available is no part of the plan.
            if let Some(line) = forecast.verdict().filter(|_| args.memory.bytes().is_none()) {
                note(line);
            }
            format!("{}{forecast}\n{speeds}", plan_for(phase)?.report(limits))
        }
        Format::Json => {
            let forecast = forecast.facts(limits.as_ref().map(|l| &l.0));
            to_json(&PlanDocument { plan: plan_for(phase)?, forecast })? + "\n"
        }
        Format::Dot => report::dot(plan_for(phase)?, Some(args.open_layer)),
        Format::Html => {
            let phases = match args.phase {
                Some(_) => vec![phase],
                None => vec![Phase::Prefill, Phase::Decode],
            };
            let plans = phases.into_iter().map(plan_for).collect::<Result<Vec<_>, _>>()?;
            let name = path.file_name().map_or(shown, |n| n.to_string_lossy().into_owned());
            let subtitle = format!(
                "{} with {} layers, {isa}, cache {}/{}, planned by quipu {}",
                hparams.arch,
                hparams.n_layer,
                plans[0].kv.type_k,
                plans[0].kv.type_v,
                env!("CARGO_PKG_VERSION")
            );
            let title = match &hparams.name {
                Some(model) => format!("{model} ({name})"),
                None => name,
            };
            report::page(&plans, &PageOptions { title, subtitle, threads, limits })
        }
    })
}

fn graph_as(graph: &Graph, format: Format) -> Result<String, Failure> {
    Ok(match format {
        Format::Text => quipu::graph::text::print(graph),
        Format::Json => to_json(graph)? + "\n",
        Format::Dot => quipu::graph::view::dot(graph),
        Format::Html => {
            let p =
                Problem::new("BadFormat", "--format").found("html of a graph").expected("text, json or dot");
            return Err(Error::usage(p.hint("a page shows a plan: leave --stage out")).into());
        }
    })
}
