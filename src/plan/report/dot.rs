//! The plan for Graphviz: layers folded to one box each, one layer opened.

use super::{layer_of, place, rule, without_layer};
use crate::graph::Id;
use crate::plan::report::human_bytes;
use crate::plan::{Cmd, Plan, Region};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A node of the picture: a command, or a whole layer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Cmd(usize),
    Layer(u32),
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Cmd(i) => write!(f, "c{i}"),
            Node::Layer(l) => write!(f, "layer{l}"),
        }
    }
}

/// The plan in Graphviz' language, with layer `open` shown command by command.
pub fn dot(p: &Plan, open: Option<u32>) -> String {
    let node_of = |i: usize, c: &Cmd| match layer_of(p, c) {
        Some(l) if Some(l) != open => Node::Layer(l),
        _ => Node::Cmd(i),
    };
    let nodes: Vec<Node> = p.cmds.rows().iter().enumerate().map(|(i, c)| node_of(i, c)).collect();
    let mut s = String::from(
        "digraph plan {\n  node [shape=box fontname=\"sans-serif\" fontsize=10]\n  edge [fontsize=9]\n",
    );
    let mut layers: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
    for (i, c) in p.cmds.rows().iter().enumerate() {
        let cost = p.costs.get(i).copied().unwrap_or_default();
        if let Node::Layer(l) = nodes[i] {
            let sum = layers.entry(l).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(cost.weight_bytes));
            continue;
        }
        let names =
            p.operands[c.outs()].iter().map(|o| p.names[o.name as usize].as_str()).collect::<Vec<_>>();
        let by = rule(p, c).map(|r| format!("\\nby {}", escape(r))).unwrap_or_default();
        let _ = writeln!(
            s,
            "  c{i} [label=\"c{i} {}\\n{}\\n{} of weights{by}\"]",
            escape(&p.kernels[usize::from(c.kernel)]),
            escape(&names.join(", ")),
            human_bytes(cost.weight_bytes)
        );
    }
    for (l, (n, bytes)) in layers {
        let _ = writeln!(
            s,
            "  layer{l} [label=\"layer {l}\\n{n} commands\\n{} of weights\" style=bold]",
            human_bytes(bytes)
        );
    }
    for (from, to, label) in edges(p, &nodes) {
        let _ = writeln!(s, "  {from} -> {to} [label=\"{}\"]", escape(&label));
    }
    s.push_str("}\n");
    s
}

/// One edge per pair of nodes, labelled with the values it carries.
fn edges(p: &Plan, nodes: &[Node]) -> Vec<(Node, Node, String)> {
    let mut edges: BTreeMap<(Node, Node), Vec<String>> = BTreeMap::new();
    for (i, c) in p.cmds.rows().iter().enumerate() {
        for o in p.operands[c.args()].iter().filter(|o| matches!(o.region, Region::Arena | Region::Scratch)) {
            let Some(from) = p.buffers.rows().get(o.index as usize).map(|b| nodes[b.first.index()]) else {
                continue;
            };
            if from == nodes[i] {
                continue;
            }
            let label = format!("{} {}", place(o), without_layer(&p.names[o.name as usize]));
            let labels = edges.entry((from, nodes[i])).or_default();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    edges.into_iter().map(|((from, to), labels)| (from, to, labels.join(", "))).collect()
}

fn escape(s: &str) -> String {
    s.replace('\\', "\\\\").replace('"', "\\\"")
}
