//! Ways to look at a plan: as aligned text, as a picture for Graphviz, as a page, and as the difference of two.
//!
//! JSON, from serde, is the form that is read back ([`PlanDocument::schema`](crate::engine::PlanDocument::schema) says
//! what is in it); everything here is for people.
//!
//! ```
//! use quipu::backends::Isa;
//! use quipu::graph::builder::CacheTypes;
//! use quipu::loader::{Bytes, Gguf, ParseOptions, synth::synth_header};
//! use quipu::models;
//! use quipu::plan::report::{PageOptions, diff, dot, page};
//! use quipu::plan::{self, Backend, FuseOptions, Phase, PlanOptions};
//! use quipu::quant::DType;
//!
//! let header = synth_header("nano-qwen2", DType::Q8_0)?; // no tensor data
//! let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
//! let file = Gguf::parse(Bytes::from(header), &parse)?;
//! let graph = models::declare(&file, &[], CacheTypes::default())?.graph;
//! let plan = |fuse| {
//!     plan::plan(&graph, &PlanOptions {
//!         phase: Phase::Decode,
//!         isa: Isa::Avx2, // need not be one of this machine
//!         backend: Backend::Cpu,
//!         max_rows: 1,
//!         max_out_rows: 1,
//!         n_ctx: 256,
//!         fuse,
//!     })
//! };
//! let fused = plan(FuseOptions::default())?;
//! assert!(fused.report(None).contains("cpu.linear_swiglu.q8_0.avx2"));
//! assert!(dot(&fused, Some(1)).starts_with("digraph"));
//! assert!(page(&[&fused], &PageOptions::default()).starts_with("<!doctype html>"));
//!
//! // What the rule for gate and up is good for: one command instead of three in each of two layers.
//! let plain = plan(FuseOptions::without(&["gate_up"])?)?;
//! assert_eq!(plain.cmds.len(), fused.cmds.len() + 2 * 2);
//! assert!(diff(&fused, &plain).to_string().contains("ffn_swiglu-0"));
//! # Ok::<(), quipu::Error>(())
//! ```

mod diff;
mod dot;
mod html;
pub mod text;

pub use diff::{Difference, diff};
pub use dot::dot;
pub use html::{PageOptions, page};
pub use text::{human_bytes, print, print_with};

use super::forecast::Limits;
use super::{Cmd, Operand, Plan, Region};
use std::collections::HashSet;

impl Plan {
    /// The plan as aligned text: a line per command, then totals and fusions; with limits of a machine, the least time of
    /// each command. [`text`] says what stands in a line.
    pub fn report(&self, limits: Option<&Limits>) -> String {
        print_with(self, limits)
    }
}

/// Where an operand is: `w3` a weight, `kv2` a layer's cache, `b7` a buffer of the arena, `own8` one of every thread's.
fn place(o: &Operand) -> String {
    match o.region {
        Region::Weights => format!("w{}", o.index),
        Region::Kv => format!("kv{}", o.index),
        Region::Arena => format!("b{}", o.index),
        Region::Scratch => format!("own{}", o.index),
        Region::Step => "step".into(),
    }
}

/// File and line of the architecture that asked for a command, without folders.
fn source(p: &Plan, c: &Cmd) -> String {
    let file = p.files.get(usize::from(c.file)).map_or("?", |f| f.rsplit('/').next().unwrap_or(f));
    format!("{file}:{}", c.line)
}

/// Tensors that weights are, or are parts of.
fn n_tensors(p: &Plan) -> usize {
    p.weights.rows().iter().map(|w| w.name.as_str()).collect::<HashSet<_>>().len()
}

/// The rule that made a command.
fn rule<'a>(p: &'a Plan, c: &Cmd) -> Option<&'a str> {
    usize::from(c.rule).checked_sub(1).and_then(|i| p.rules.get(i)).map(String::as_str)
}

/// The layer of a command, by the names of what it makes.
pub(crate) fn layer_of(p: &Plan, c: &Cmd) -> Option<u32> {
    let names = p.operands[c.outs()].iter().map(|o| p.names[o.name as usize].as_str());
    names.filter_map(layer_of_name).next()
}

/// `3` of `ffn_out-3` and of `attn_norm-3_q8_0`.
fn layer_of_name(name: &str) -> Option<u32> {
    let (_, tail) = name.rsplit_once('-')?;
    let digits = tail.split_once('_').map_or(tail, |(n, _)| n);
    digits.parse().ok()
}

/// A value's name without its layer: `attn_norm_q8_0` of `attn_norm-3_q8_0`.
fn without_layer(name: &str) -> String {
    match (layer_of_name(name), name.rsplit_once('-')) {
        (Some(_), Some((base, tail))) => {
            format!("{base}{}", tail.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        _ => name.to_string(),
    }
}

/// What a rule did over the whole plan.
struct RuleSum {
    rule: String,
    fired: usize,
    declined: usize,
    /// Where it was first declined and why; empty if never.
    why: String,
}

/// The rules that matched anywhere, in the order of their first note.
fn fusions(p: &Plan) -> Vec<RuleSum> {
    let mut sums: Vec<RuleSum> = Vec::new();
    for note in &p.report {
        let i = sums.iter().position(|s| s.rule == note.rule).unwrap_or_else(|| {
            sums.push(RuleSum { rule: note.rule.clone(), fired: 0, declined: 0, why: String::new() });
            sums.len() - 1
        });
        match &note.declined {
            None => sums[i].fired += 1,
            Some(why) => {
                if sums[i].declined == 0 {
                    sums[i].why = format!("{}: {why}", note.at);
                }
                sums[i].declined += 1;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_from_names() {
        for (name, layer, base) in [
            ("ffn_out-3", Some(3), "ffn_out"),
            ("attn_norm-12_q8_0", Some(12), "attn_norm_q8_0"),
            ("result_norm", None, "result_norm"),
            ("odd-name", None, "odd-name"),
        ] {
            assert_eq!((layer_of_name(name), without_layer(name).as_str()), (layer, base), "{name}");
        }
    }
}
