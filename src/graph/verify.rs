//! The invariants of a graph. Checked after building, after every fusion rule, and after reading one from text.
//!
//! - V1 every operand, result and output id is a row of its table
//! - V2 every value has one definition, and it points back at the value
//! - V3 names of values are unique and not empty
//! - V4 operand types fit the op, and result types are what the op infers
//! - V5 no cycles
//! - V6 there is an output, and outputs are results of ops
//! - V7 a weight's value has the weight's name, type and shape
//! - V8 weights of one tensor are parts of it that agree on its type and size, lie inside it and do not overlap

use super::{Def, Dim, Graph, Id, OpId, ValueId, WeightId, view};
use crate::error::Problem;
use std::collections::{HashMap, HashSet};

/// Every broken invariant; empty for a sound graph.
pub fn verify(g: &Graph) -> Vec<Problem> {
    let mut problems = Vec::new();
    ids_in_range(g, &mut problems);
    if !problems.is_empty() {
        return problems; // The other checks index tables.
    }
    definitions(g, &mut problems);
    parts(g, &mut problems);
    types(g, &mut problems);
    if let Err(op) = view::order(g) {
        problems.push(broken("Cycle", g, op).found("a cycle through this op"));
    }
    if g.outputs.is_empty() {
        problems.push(
            Problem::new("NoOutput", "graph").found("no output").expected("the architecture calls output()"),
        );
    }
    problems
}

fn broken(code: &'static str, g: &Graph, op: OpId) -> Problem {
    let node = &g.ops[op];
    let name = node.outs.first().and_then(|v| g.values.get(*v)).map_or("", |v| v.name.as_str());
    let file = g.files.get(usize::from(node.src.0)).map_or("?", |f| f.as_str());
    Problem::new(code, format!("{op} {} {name:?}", node.op.kind())).hint(format!("see {file}:{}", node.src.1))
}

fn ids_in_range(g: &Graph, problems: &mut Vec<Problem>) {
    for (id, node) in g.ops.iter() {
        for v in node.args.iter().chain(&node.outs) {
            if g.values.get(*v).is_none() {
                problems.push(
                    broken("BadId", g, id)
                        .found(v.to_string())
                        .expected(format!("below v{}", g.values.len())),
                );
            }
        }
    }
    for v in g.outputs.iter().copied().chain(g.weights.rows().iter().map(|w| w.value)) {
        if g.values.get(v).is_none() {
            problems.push(Problem::new("BadId", "outputs and weights").found(v.to_string()));
        }
    }
    for (id, v) in g.values.iter() {
        let ok = match v.def {
            Def::Op(op, _) => g.ops.get(op).is_some(),
            Def::Weight(w) => g.weights.get(w).is_some(),
        };
        if !ok {
            problems.push(Problem::new("BadId", format!("{id} {:?}", v.name)).found(format!("{:?}", v.def)));
        }
    }
}

fn definitions(g: &Graph, problems: &mut Vec<Problem>) {
    let mut names = HashSet::new();
    for (id, v) in g.values.iter() {
        if v.name.is_empty() || !names.insert(v.name.as_str()) {
            problems.push(
                Problem::new("DuplicateName", format!("{id} {:?}", v.name)).expected("unique, not empty"),
            );
        }
        let points_back = match v.def {
            Def::Op(op, i) => g.ops[op].outs.get(usize::from(i)) == Some(&id),
            Def::Weight(w) => g.weights[w].value == id,
        };
        if !points_back {
            problems.push(Problem::new("BadDef", format!("{id} {:?}", v.name)).found(format!("{:?}", v.def)));
        }
    }
    let defined = |v: &ValueId, op: OpId| matches!(g.values[*v].def, Def::Op(o, _) if o == op);
    for (id, node) in g.ops.iter() {
        if !node.outs.iter().all(|v| defined(v, id)) {
            problems.push(broken("BadDef", g, id).found("a result defined elsewhere"));
        }
    }
    for v in &g.outputs {
        if matches!(g.values[*v].def, Def::Weight(_)) {
            problems.push(
                Problem::new("BadOutput", format!("{v}")).found("a weight").expected("the result of an op"),
            );
        }
    }
    for (id, w) in g.weights.iter() {
        let v = &g.values[w.value];
        let same = v.name == w.value_name()
            && v.ty.dtype == w.dtype
            && v.ty.shape.len() == w.shape.len()
            && v.ty.shape.iter().zip(&w.shape).all(|(a, b)| *a == Dim::Fixed(*b))
            && v.def == Def::Weight(WeightId::from_index(id.index()));
        if !same {
            problems.push(Problem::new("BadWeight", format!("{id} {:?}", w.name)).found(v.ty.to_string()));
        }
    }
}

/// Every byte of a tensor belongs to at most one weight, so that sums over weights count it once.
fn parts(g: &Graph, problems: &mut Vec<Problem>) {
    let mut tensors: HashMap<&str, Vec<WeightId>> = HashMap::new();
    for (id, w) in g.weights.iter() {
        tensors.entry(&w.name).or_default().push(id);
    }
    for (id, w) in g.weights.iter() {
        let mut bad = |found: String, expected: &str| {
            let p = Problem::new("BadPart", format!("{id} {:?}", w.value_name()));
            problems.push(p.found(found).expected(expected));
        };
        if w.part.is_some_and(|p| w.rows().end > u64::from(p.of) || w.rows().is_empty()) {
            bad(format!("rows {:?}", w.rows()), "rows of the tensor");
        }
        for other in tensors[w.name.as_str()].iter().take_while(|o| **o < id).map(|o| &g.weights[*o]) {
            if other.rows().start < w.rows().end && w.rows().start < other.rows().end {
                bad(format!("rows of {:?} too", other.value_name()), "rows that no other weight has");
            }
            if other.dtype != w.dtype || other.tensor_shape() != w.tensor_shape() {
                let whole = |w: &super::Weight| format!("{} {:?}", w.dtype, w.tensor_shape());
                bad(format!("{} and {}", whole(w), whole(other)), "one type and size of the tensor");
            }
        }
    }
}

fn types(g: &Graph, problems: &mut Vec<Problem>) {
    for (id, node) in g.ops.iter() {
        let args: Vec<_> = node.args.iter().map(|v| g.values[*v].ty.clone()).collect();
        match node.op.infer(&args) {
            Err(why) => problems.push(broken("BadOp", g, id).found(why)),
            Ok(types) => {
                let have: Vec<_> = node.outs.iter().map(|v| g.values[*v].ty.clone()).collect();
                if have[..] != types[..] {
                    let show = |t: &[super::ValueType]| {
                        t.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ")
                    };
                    problems.push(broken("BadType", g, id).found(show(&have)).expected(show(&types)));
                }
            }
        }
    }
}
