//! petgraph's view of a graph: a dependency graph of op numbers, made when asked and thrown away.
//!
//! petgraph types stay inside this file: operand order lives in the tables, not on edges.

use super::{Def, Graph, Id, OpId, ValueId};
use petgraph::Direction::{Incoming, Outgoing};
use petgraph::algo::toposort;
use petgraph::dot::{Config, Dot};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, Reversed};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

fn dependencies(g: &Graph) -> DiGraph<OpId, ValueId> {
    let mut d = DiGraph::with_capacity(g.ops.len(), g.ops.len() * 3);
    for id in g.ops.ids() {
        d.add_node(id);
    }
    for (id, node) in g.ops.iter() {
        for v in &node.args {
            if let Def::Op(from, _) = g.values[*v].def {
                d.add_edge(NodeIndex::new(from.index()), NodeIndex::new(id.index()), *v);
            }
        }
    }
    d
}

/// The ops in an order that respects dependencies, and otherwise the order of definition; or an op on a cycle.
///
/// Data flows that no operand shows are none: a cache is an operand of the attention that reads it.
pub fn order(g: &Graph) -> Result<Vec<OpId>, OpId> {
    let d = dependencies(g);
    toposort(&d, None).map_err(|cycle| d[cycle.node_id()])?;
    let mut waiting: Vec<usize> = d.node_indices().map(|n| d.edges_directed(n, Incoming).count()).collect();
    let mut ready: BinaryHeap<_> =
        d.node_indices().filter(|n| waiting[n.index()] == 0).map(|n| Reverse(n.index())).collect();
    let mut out = Vec::with_capacity(g.ops.len());
    while let Some(Reverse(n)) = ready.pop() {
        out.push(OpId::from_index(n));
        for m in d.neighbors_directed(NodeIndex::new(n), Outgoing) {
            waiting[m.index()] -= 1;
            if waiting[m.index()] == 0 {
                ready.push(Reverse(m.index()));
            }
        }
    }
    Ok(out)
}

/// For every op, whether an output of the graph depends on it.
pub fn reachable(g: &Graph) -> Vec<bool> {
    let d = dependencies(g);
    let mut live = vec![false; g.ops.len()];
    for v in &g.outputs {
        if let Def::Op(op, _) = g.values[*v].def {
            let mut dfs = Dfs::new(Reversed(&d), NodeIndex::new(op.index()));
            while let Some(n) = dfs.next(Reversed(&d)) {
                live[n.index()] = true;
            }
        }
    }
    live
}

/// The graph in Graphviz' language: ops are boxes with their names, edges carry values and types.
pub fn dot(g: &Graph) -> String {
    let d = dependencies(g);
    let esc = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
    let node = |_: &DiGraph<OpId, ValueId>, (_, id): (NodeIndex, &OpId)| {
        let n = &g.ops[*id];
        let name = n.outs.first().map_or("", |v| g.values[*v].name.as_str());
        let weights: Vec<_> = n
            .args
            .iter()
            .filter(|v| matches!(g.values[**v].def, Def::Weight(_)))
            .map(|v| format!("\\n{} {}", esc(&g.values[*v].name), g.values[*v].ty))
            .collect();
        format!("shape=box label=\"{id} {}\\n{}{}\"", n.op.kind(), esc(name), weights.concat())
    };
    let edge = |_: &DiGraph<OpId, ValueId>, e: petgraph::graph::EdgeReference<'_, ValueId>| {
        format!("label=\"{} {}\"", e.weight(), g.values[*e.weight()].ty)
    };
    let config = [Config::NodeNoLabel, Config::EdgeNoLabel];
    format!("{:?}", Dot::with_attr_getters(&d, &config, &edge, &node))
}
