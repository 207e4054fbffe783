//! Fusion: named rules that replace a few ops by one, each of which can be switched off.
//!
//! A rule looks at one op as its anchor, states its conditions as early returns with a reason, and replaces. Fused
//! equals unfused bit for bit, because a fused op's reference is the composition of its parts' references. What a
//! rule did, and what it declined and why, goes into the report of the plan.

mod rules;

use super::FusionNote;
use crate::error::{Error, Problem, Result};
use crate::graph::{Def, Graph, Id, OpId, OpNode, Table, Value, ValueId, ValueList, verify, view};
use crate::ops::Op;

pub use rules::RULES;

/// A fusion rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Name in reports and in `--no-fuse=NAME`.
    pub name: &'static str,
    /// Tries the rule with this op as its anchor.
    apply: fn(&mut Fuser, OpId) -> Outcome,
}

/// What became of a rule at one op.
enum Outcome {
    /// The op is no anchor of the rule.
    NoMatch,
    /// It is, but a condition fails.
    Declined(String),
    /// Replaced.
    Fused,
}

/// Which rules are off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FuseOptions {
    off: Vec<&'static str>,
}

impl FuseOptions {
    /// No rule at all.
    pub fn none() -> Self {
        FuseOptions { off: RULES.iter().map(|r| r.name).collect() }
    }
    /// All rules but these.
    ///
    /// Errors: `UnknownRule` with the rules there are.
    pub fn without<S: AsRef<str>>(names: &[S]) -> Result<Self> {
        let mut off = Vec::new();
        for n in names.iter().map(AsRef::as_ref) {
            match RULES.iter().find(|r| r.name == n) {
                Some(r) => off.push(r.name),
                None => {
                    let have: Vec<_> = RULES.iter().map(|r| r.name).collect();
                    let p = Problem::new("UnknownRule", format!("fusion rule {:?}", crate::error::escape(n)));
                    return Err(Error::usage(p.expected(format!("one of {}", have.join(", ")))));
                }
            }
        }
        Ok(FuseOptions { off })
    }
    /// The rules that are off.
    pub fn off(&self) -> &[&'static str] {
        &self.off
    }
    /// Whether a rule is on.
    pub fn is_on(&self, rule: &str) -> bool {
        !self.off.contains(&rule)
    }
}

/// Applies each rule to every op, rule after rule in their order, and returns the new graph and the report.
///
/// Errors: `FusionBroke` if the result breaks an invariant of graphs, which is a defect of a rule.
pub fn fuse(graph: &Graph, options: &FuseOptions) -> Result<(Graph, Vec<FusionNote>)> {
    let mut f = Fuser::new(graph);
    for rule in RULES.iter().filter(|r| options.is_on(r.name)) {
        for i in 0..f.ops.len() {
            if f.ops[i].is_none() {
                continue;
            }
            f.rule = rule.name;
            match (rule.apply)(&mut f, OpId::from_index(i)) {
                Outcome::NoMatch | Outcome::Fused => {}
                Outcome::Declined(why) => f.note(OpId::from_index(i), Some(why)),
            }
        }
    }
    let (g, report) = f.finish();
    let problems = verify::verify(&g);
    if let Some(p) = problems.first() {
        return Err(Error::runtime(Problem::new("FusionBroke", "fused graph").found(p.to_string())));
    }
    Ok((g, report))
}

/// A graph being rewritten: ops keep their slots, so that the order of definition stays meaningful.
struct Fuser {
    g: Graph,
    ops: Vec<Option<OpNode>>,
    report: Vec<FusionNote>,
    rule: &'static str,
}

impl Fuser {
    fn new(graph: &Graph) -> Self {
        let ops = graph.ops.rows().iter().cloned().map(Some).collect();
        Fuser { g: graph.clone(), ops, report: Vec::new(), rule: "" }
    }

    /// The op in a slot, if it is still there.
    fn op(&self, id: OpId) -> Option<&OpNode> {
        self.ops[id.index()].as_ref()
    }

    /// The op that makes a value.
    fn def(&self, v: ValueId) -> Option<(OpId, &OpNode)> {
        match self.g.values[v].def {
            Def::Op(op, _) => self.op(op).map(|n| (op, n)),
            Def::Weight(_) => None,
        }
    }

    fn name(&self, v: ValueId) -> &str {
        &self.g.values[v].name
    }

    fn cols(&self, v: ValueId) -> u32 {
        self.g.values[v].ty.cols()
    }

    /// Ops that read `v`.
    fn readers(&self, v: ValueId) -> Vec<OpId> {
        let live = self.ops.iter().enumerate().filter_map(|(i, n)| n.as_ref().map(|n| (i, n)));
        live.filter(|(_, n)| n.args.contains(&v)).map(|(i, _)| OpId::from_index(i)).collect()
    }

    /// The only reader of a value, if there is exactly one and the value is no output.
    fn only_reader(&self, v: ValueId) -> Result<OpId, String> {
        if self.g.outputs.contains(&v) {
            return Err(format!("{} is an output", self.name(v)));
        }
        match self.readers(v)[..] {
            [one] => Ok(one),
            ref many => Err(format!("{} is read by {} ops", self.name(v), many.len())),
        }
    }

    /// Whether a value is computed from any of the given ops.
    fn depends(&self, v: ValueId, on: &[OpId]) -> bool {
        let first = on.iter().map(|o| o.index()).min().unwrap_or(0);
        let mut stack = vec![v];
        let mut seen = std::collections::HashSet::new();
        while let Some(v) = stack.pop() {
            let Some((op, n)) = self.def(v) else { continue };
            if on.contains(&op) {
                return true;
            }
            if op.index() >= first && seen.insert(op) {
                stack.extend(&n.args);
            }
        }
        false
    }

    /// Replaces `members` by one op in the last member's slot. Results that are not in `outs` are gone.
    fn replace(&mut self, members: &[OpId], op: Op, args: ValueList, outs: ValueList) -> Outcome {
        let slot = members.iter().copied().max().unwrap_or(OpId(0));
        // An operand made from a result would be a cycle once they are one op.
        let inner: Vec<ValueId> =
            members.iter().filter_map(|m| self.op(*m)).flat_map(|n| n.outs.to_vec()).collect();
        for a in &args {
            let through = self.def(*a).is_some_and(|(op, n)| {
                !members.contains(&op) && n.args.iter().any(|x| self.depends(*x, members))
            });
            if through {
                return Outcome::Declined(format!("{} is computed from what would be fused", self.name(*a)));
            }
        }
        let src = self.op(slot).map_or((0, 0), |n| n.src);
        for m in members {
            self.ops[m.index()] = None;
        }
        for (i, v) in outs.iter().enumerate() {
            self.g.values[*v].def = Def::Op(slot, i as u8);
        }
        let gone =
            inner.iter().filter(|v| !outs.contains(v)).map(|v| self.g.values[*v].name.clone()).collect();
        let at = outs.first().map_or(String::new(), |v| self.name(*v).to_string());
        self.report.push(FusionNote { rule: self.rule.into(), at, gone, declined: None });
        self.ops[slot.index()] = Some(OpNode { op, args, outs, src, rule: Some(self.rule.into()) });
        Outcome::Fused
    }

    fn note(&mut self, at: OpId, declined: Option<String>) {
        let at =
            self.op(at).and_then(|n| n.outs.first()).map_or(String::new(), |v| self.name(*v).to_string());
        self.report.push(FusionNote { rule: self.rule.into(), at, gone: Vec::new(), declined });
    }

    /// Compacts the tables: ops in an order that respects dependencies, values that still exist, in old order; weights
    /// that nothing reads any more are gone.
    fn finish(self) -> (Graph, Vec<FusionNote>) {
        let mut kept = vec![false; self.g.values.len()];
        for n in self.ops.iter().flatten() {
            for v in n.args.iter().chain(&n.outs) {
                kept[v.index()] = true;
            }
        }
        let mut renamed = vec![ValueId(0); kept.len()];
        let mut values: Table<ValueId, Value> = Table::default();
        for (id, v) in self.g.values.iter().filter(|(id, _)| kept[id.index()]) {
            renamed[id.index()] = values.push(v.clone());
        }
        let map = |l: &ValueList| l.iter().map(|v| renamed[v.index()]).collect::<ValueList>();
        let mut g = Graph { values, ..self.g.clone() };
        g.ops = self
            .ops
            .iter()
            .flatten()
            .map(|n| OpNode { args: map(&n.args), outs: map(&n.outs), ..n.clone() })
            .collect();
        g.outputs = self.g.outputs.iter().map(|v| renamed[v.index()]).collect();
        g.weights = self.g.weights.rows().iter().filter(|w| kept[w.value.index()]).cloned().collect();
        for id in g.weights.ids() {
            let value = renamed[g.weights[id].value.index()];
            g.weights[id].value = value;
            g.values[value].def = Def::Weight(id);
        }
        relink(&mut g);
        if let Ok(order) = view::order(&g) {
            g.ops = order.iter().map(|id| g.ops[*id].clone()).collect();
            relink(&mut g);
        }
        (g, self.report)
    }
}

/// Points every value at the op that lists it as a result.
fn relink(g: &mut Graph) {
    for id in g.ops.ids() {
        for (i, v) in g.ops[id].outs.clone().into_iter().enumerate() {
            g.values[v].def = Def::Op(id, i as u8);
        }
    }
}
