//! Which rotary frequency factors hold: a graph may name one set for short and one for long contexts, and how long a
//! context is, is known when a plan is made.

use crate::graph::{Graph, Id, OpId};
use crate::ops::Op;
use std::borrow::Cow;

/// The graph with every rope table reading the factors for a context of `n_ctx` cells.
///
/// llama.cpp rounds a context up to 256 cells before it compares, so this does too.
pub fn choose(graph: &Graph, n_ctx: u32) -> Cow<'_, Graph> {
    let mut chosen = Cow::Borrowed(graph);
    let cells = u64::from(n_ctx).next_multiple_of(256);
    for (i, node) in graph.ops.rows().iter().enumerate() {
        let Op::RopeTable(mut a) = node.op else { continue };
        let (Some(limit), [short, long]) = (a.second_above.take(), &node.args[..]) else { continue };
        let factors = if cells > u64::from(limit) { *long } else { *short };
        let node = &mut chosen.to_mut().ops[OpId::from_index(i)];
        (node.op, node.args) = (Op::RopeTable(a), smallvec::smallvec![factors]);
    }
    chosen
}
