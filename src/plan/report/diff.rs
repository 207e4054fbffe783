//! What differs between two plans: of two models, contexts, instruction sets, or fusions on and off.

use super::{human_bytes, source};
use crate::plan::{Cmd, Plan};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;

/// The difference of two plans.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Facts of the head and totals that differ: name, first, second.
    pub facts: Vec<(String, String, String)>,
    /// Fusion rules that fired or declined differently: rule, first, second.
    pub fusions: Vec<(String, String, String)>,
    /// Weights that differ in type or size, or that one plan lacks: name, first, second.
    pub weights: Vec<(String, String, String)>,
    /// Commands in order: `-` only in the first, `+` only in the second, `!` made by another kernel or shape.
    pub commands: Vec<(char, String)>,
    /// Commands that are the same in both.
    pub same: usize,
}

impl Difference {
    /// Whether the plans are the same in everything compared.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
            && self.fusions.is_empty()
            && self.weights.is_empty()
            && self.commands.is_empty()
    }
}

/// Compares two plans. Commands are matched by the values they make, in order.
pub fn diff(a: &Plan, b: &Plan) -> Difference {
    let mut d = Difference::default();
    for ((name, x), (_, y)) in facts(a).into_iter().zip(facts(b)) {
        if x != y {
            d.facts.push((name.to_string(), x, y));
        }
    }
    d.fusions = tables(&rules(a), &rules(b));
    d.weights = tables(&weights(a), &weights(b));
    commands(a, b, &mut d);
    d
}

fn facts(p: &Plan) -> Vec<(&'static str, String)> {
    let t = &p.totals;
    vec![
        ("architecture", p.arch.clone()),
        ("phase", p.phase.to_string()),
        ("isa", p.isa.to_string()),
        ("format", p.format.to_string()),
        ("numerics", p.numerics.to_string()),
        ("rows", p.max_rows.to_string()),
        ("rows with logits", p.max_out_rows.to_string()),
        ("vocabulary", p.n_vocab.to_string()),
        ("context", p.kv.n_ctx.to_string()),
        ("cache types", format!("{}/{}", p.kv.type_k, p.kv.type_v)),
        ("weights", size(t.weight_bytes)),
        ("cache", size(t.kv_bytes)),
        ("arena", size(t.arena_bytes)),
        ("scratch per thread", size(t.scratch_bytes)),
        ("logits", size(t.logits_bytes)),
        ("tokenizer", size(t.tokenizer_bytes)),
        ("operations", t.work.ops.to_string()),
        ("commands", t.ops_after.to_string()),
        ("barriers", t.barriers.to_string()),
    ]
}

fn size(n: u64) -> String {
    format!("{n} B ({})", human_bytes(n))
}

type Rows = Vec<(String, String)>;

fn rules(p: &Plan) -> Rows {
    let line = |f: super::RuleSum| (f.rule, format!("fired {}, declined {}", f.fired, f.declined));
    super::fusions(p).into_iter().map(line).collect()
}

fn weights(p: &Plan) -> Rows {
    p.weights.rows().iter().map(|w| (w.label(), format!("{} {}", w.ty, size(w.bytes)))).collect()
}

/// Rows that differ or that one table lacks, in the order of the first table, then of the second.
fn tables(a: &Rows, b: &Rows) -> Vec<(String, String, String)> {
    let find: HashMap<&str, &str> = b.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let known: HashMap<&str, ()> = a.iter().map(|(k, _)| (k.as_str(), ())).collect();
    let mut rows = Vec::new();
    for (k, v) in a {
        let other = find.get(k.as_str()).copied().unwrap_or("none");
        if v != other {
            rows.push((k.clone(), v.clone(), other.to_string()));
        }
    }
    for (k, v) in b.iter().filter(|(k, _)| !known.contains_key(k.as_str())) {
        rows.push((k.clone(), "none".to_string(), v.clone()));
    }
    rows
}

/// Walks both lists; where they part, goes on at the next command that makes the same values.
fn commands(a: &Plan, b: &Plan, d: &mut Difference) {
    let (left, right) = (keys(a), keys(b));
    let place: HashMap<&str, usize> = right.iter().enumerate().map(|(i, k)| (k.as_str(), i)).collect();
    let mut next = 0;
    for (i, key) in left.iter().enumerate() {
        match place.get(key.as_str()) {
            Some(&j) if j >= next => {
                d.commands.extend((next..j).map(|j| ('+', line(b, j))));
                next = j + 1;
                let (x, y) = (shape(a, i), shape(b, j));
                if x == y {
                    d.same += 1;
                } else {
                    d.commands.push(('!', format!("{} {x}  ->  {y}", made(a, i))));
                }
            }
            _ => d.commands.push(('-', line(a, i))),
        }
    }
    d.commands.extend((next..right.len()).map(|j| ('+', line(b, j))));
}

/// What identifies a command: the values it makes.
fn keys(p: &Plan) -> Vec<String> {
    (0..p.cmds.len()).map(|i| made(p, i)).collect()
}

fn cmd(p: &Plan, i: usize) -> &Cmd {
    &p.cmds.rows()[i]
}

fn made(p: &Plan, i: usize) -> String {
    let names = p.operands[cmd(p, i).outs()].iter().map(|o| p.names[o.name as usize].as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// Kernel and types: offsets and source lines are not part of what is compared.
fn shape(p: &Plan, i: usize) -> String {
    let c = cmd(p, i);
    let mut s = p.kernels[usize::from(c.kernel)].clone();
    for o in &p.operands[c.args().start..c.outs().end] {
        let _ = write!(s, " {}[{}]", o.dtype, o.cols);
    }
    s
}

fn line(p: &Plan, i: usize) -> String {
    let c = cmd(p, i);
    format!("{} {}  ; {}", p.kernels[usize::from(c.kernel)], made(p, i), source(p, c))
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return write!(f, "no difference in {} commands", self.same);
        }
        for (title, rows) in [("", &self.facts), ("fusion ", &self.fusions), ("weight ", &self.weights)] {
            for (name, a, b) in rows {
                writeln!(f, "{title}{name}: {a}  ->  {b}")?;
            }
        }
        for (mark, line) in &self.commands {
            writeln!(f, "{mark} {line}")?;
        }
        write!(f, "{} commands are the same", self.same)
    }
}
