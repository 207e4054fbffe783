//! Order and live ranges: which command writes each value, and the last that touches it.

use crate::error::{Error, Problem, Result};
use crate::graph::{Def, Graph, Id, OpId, ValueId, view};

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A weight.
    Weight,
    /// The cache of a layer.
    Cache(u32),
    /// The arena, from command `first` to command `last`.
    Arena {
        /// The command that writes it.
        first: u32,
        /// The last command that touches it.
        last: u32,
    },
    /// Every thread's scratch, from command `first` to command `last`.
    Own {
        /// The command that writes it.
        first: u32,
        /// The last command that touches it.
        last: u32,
    },
    /// A result of the graph: outside the arena.
    Output,
}

/// Ops in order, and the place of every value.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Ops in the order of execution; ops that no output needs are left out.
    pub order: Vec<OpId>,
    /// One place per value; values of ops left out have an empty arena life.
    pub places: Vec<Place>,
}

/// Orders a graph and finds live ranges.
///
/// Errors: `Cycle`, for graphs that were not verified.
pub fn schedule(g: &Graph) -> Result<Schedule> {
    let needed = view::reachable(g);
    let order = view::order(g).map_err(|op| Error::input(Problem::new("Cycle", op.to_string())))?;
    let order: Vec<OpId> = order.into_iter().filter(|op| needed[op.index()]).collect();
    let mut at = vec![u32::MAX; g.ops.len()];
    for (i, op) in order.iter().enumerate() {
        at[op.index()] = i as u32;
    }
    let mut places: Vec<Place> = g.values.iter().map(|(id, v)| first_place(g, id, v.def, &at)).collect();
    for (i, op) in order.iter().enumerate() {
        for v in &g.ops[*op].args {
            if let Place::Arena { last, .. } = &mut places[v.index()] {
                *last = (*last).max(i as u32);
            }
        }
    }
    Ok(Schedule { order, places })
}

/// Lets every thread make the results of the ops that `cheap` names for itself, where they lie in the arena. What such an
/// op reads is kept until its results have been used: others may still be reading it, and if its bytes were written
/// again at once, the team would have to meet first.
pub fn each_for_itself(g: &Graph, s: &mut Schedule, cheap: impl Fn(OpId) -> bool) {
    for op in s.order.iter().filter(|op| cheap(**op)) {
        let node = &g.ops[*op];
        let end = |v: &ValueId| match s.places[v.index()] {
            Place::Arena { last, .. } => Some(last),
            _ => None,
        };
        let ends: Option<Vec<u32>> = node.outs.iter().map(end).collect();
        let Some(until) = ends.and_then(|ends| ends.into_iter().max()) else { continue };
        for v in &node.outs {
            let place = &mut s.places[v.index()];
            if let Place::Arena { first, last } = *place {
                *place = Place::Own { first, last };
            }
        }
        for v in &node.args {
            if let Place::Arena { last, .. } = &mut s.places[v.index()] {
                *last = (*last).max(until);
            }
        }
    }
}

fn first_place(g: &Graph, id: ValueId, def: Def, at: &[u32]) -> Place {
    let Def::Op(op, i) = def else { return Place::Weight };
    let node = &g.ops[op];
    match node.op.store() {
        Some(store) if usize::from(i) + 2 >= node.outs.len() => Place::Cache(store.layer),
        _ if g.outputs.contains(&id) => Place::Output,
        _ => Place::Arena { first: at[op.index()], last: at[op.index()] },
    }
}
