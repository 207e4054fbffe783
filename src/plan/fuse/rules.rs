//! The rules, in the order they are applied.

use super::{Fuser, Outcome, Rule};
use crate::graph::{OpId, OpNode, ValueId};
use crate::ops::{self, Op, OpKind};

/// All rules.
pub const RULES: &[Rule] = &[
    // Q, K and V as one product, with their biases
    Rule { name: "qkv", apply: qkv },
    // rope of Q and K, and the store of K and V
    Rule { name: "rope_kv", apply: rope_kv },
    // norms of the heads of Q and K before their rope
    Rule { name: "head_norm", apply: head_norm },
    // rope and store behind the product for Q, K and V
    Rule { name: "qkv_rope_kv", apply: qkv_rope_kv },
    // gate and up products with swiglu behind them
    Rule { name: "gate_up", apply: gate_up },
    // residual behind a product
    Rule { name: "product_add", apply: product_add },
    // residual-add with rms_norm
    Rule { name: "add_norm", apply: add_norm },
    // rms_norm (and its residual-add) with quantize
    Rule { name: "norm_quantize", apply: norm_quantize },
];

/// Returns from a rule with the reason when a condition does not hold.
macro_rules! decline_unless {
    ($cond:expr, $($why:tt)*) => {
        if !$cond {
            return Outcome::Declined(format!($($why)*));
        }
    };
}

/// The value of a `Result<_, String>`, or a return with its reason.
macro_rules! or_decline {
    ($e:expr) => {
        match $e {
            Ok(v) => v,
            Err(why) => return Outcome::Declined(why),
        }
    };
}

/// The linear that a value comes from, directly or through a norm and a rope.
fn product_behind(f: &Fuser, v: ValueId) -> Option<(OpId, OpNode)> {
    let (mut id, mut n) = f.def(v)?;
    for through in [OpKind::Rope, OpKind::RmsNorm] {
        if n.op.kind() == through {
            (id, n) = f.def(n.args[0])?;
        }
    }
    matches!(n.op, Op::Linear(_)).then(|| (id, n.clone()))
}

/// Anchor: attention. Its q, k and v come from products of the same activations.
fn qkv(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::Attention(_), args, .. }) = f.op(at).cloned() else { return Outcome::NoMatch };
    let Some((_, store)) = f.def(args[1]) else { return Outcome::NoMatch };
    let store = store.clone();
    let parts = [args[0], store.args[0], store.args[1]].map(|v| product_behind(f, v));
    let [Some((qi, q)), Some((ki, k)), Some((vi, v))] = parts else {
        return Outcome::Declined(
            "q, k and v are not products with at most a norm and a rope between".into(),
        );
    };
    decline_unless!(qi != ki && ki != vi && qi != vi, "q, k and v share a product");
    decline_unless!(
        q.args[0] == k.args[0] && k.args[0] == v.args[0],
        "the products read different activations"
    );
    let biases = [&q, &k, &v].iter().filter(|n| n.args.len() == 3).count();
    decline_unless!(biases == 0 || biases == 3, "{biases} of the three products have a bias");
    let mut list = smallvec::smallvec![q.args[0], q.args[1], k.args[1], v.args[1]];
    if biases == 3 {
        list.extend([q.args[2], k.args[2], v.args[2]]);
    }
    let outs = smallvec::smallvec![q.outs[0], k.outs[0], v.outs[0]];
    f.replace(&[qi, ki, vi], Op::LinearQkv(ops::linear_qkv::Attrs), list, outs)
}

/// Anchor: kv_append. Its k is a rope, and the attention that reads the cache has a rope as q.
fn rope_kv(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::KvAppend(kv), args, outs, .. }) = f.op(at).cloned() else {
        return Outcome::NoMatch;
    };
    let reader = f.readers(outs[0]);
    let attention = reader.iter().filter_map(|r| f.op(*r)).find(|n| matches!(n.op, Op::Attention(_)));
    let Some(q) = attention.map(|n| n.args[0]) else { return Outcome::NoMatch };
    let (Some((qi, qr)), Some((ki, kr))) = (f.def(q), f.def(args[0])) else { return Outcome::NoMatch };
    let (Op::Rope(qa), Op::Rope(ka)) = (qr.op, kr.op) else {
        return Outcome::Declined("q or k is not rotated".into());
    };
    decline_unless!(qa == ka && qr.args[1] == kr.args[1], "q and k are rotated differently");
    let list = smallvec::smallvec![qr.args[0], kr.args[0], args[1], qr.args[1]];
    let results = smallvec::smallvec![qr.outs[0], kr.outs[0], outs[0], outs[1]];
    f.replace(&[qi, ki, at], Op::RopeKv(ops::rope_kv::Attrs { rope: qa, kv, norm_eps: None }), list, results)
}

/// Anchor: rope_kv whose q and k are normed head by head.
fn head_norm(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::RopeKv(a), args, outs, .. }) = f.op(at).cloned() else {
        return Outcome::NoMatch;
    };
    let (Some((qi, q)), Some((ki, k))) = (f.def(args[0]), f.def(args[1])) else { return Outcome::NoMatch };
    let (Op::RmsNorm(qa), Op::RmsNorm(ka)) = (q.op, k.op) else { return Outcome::NoMatch };
    let (q, k) = (q.args.clone(), k.args.clone());
    decline_unless!(qa == ka, "q and k are normed with different epsilons");
    let of_heads = [q[1], k[1]].iter().all(|w| f.cols(*w) == a.rope.head_dim);
    decline_unless!(of_heads, "the norms are not of heads");
    or_decline!(f.only_reader(args[0]));
    or_decline!(f.only_reader(args[1]));
    let list = smallvec::smallvec![q[0], k[0], args[2], args[3], q[1], k[1]];
    f.replace(&[qi, ki, at], Op::RopeKv(ops::rope_kv::Attrs { norm_eps: Some(qa.eps), ..a }), list, outs)
}

/// Anchor: linear_qkv whose results only rope_kv reads.
fn qkv_rope_kv(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::LinearQkv(_), args, outs, .. }) = f.op(at).cloned() else {
        return Outcome::NoMatch;
    };
    let mut readers = Vec::new();
    for v in &outs {
        readers.push(or_decline!(f.only_reader(*v)));
    }
    decline_unless!(readers.iter().all(|r| *r == readers[0]), "q, k and v are read by different ops");
    let Some(OpNode { op: Op::RopeKv(a), args: rk, outs: ro, .. }) = f.op(readers[0]).cloned() else {
        return Outcome::Declined(format!("{} is not read by rope_kv", f.name(outs[0])));
    };
    let mut list = args;
    list.extend_from_slice(&rk[3..]);
    let results = smallvec::smallvec![ro[0], ro[1], outs[2], ro[2], ro[3]];
    f.replace(&[at, readers[0]], Op::LinearQkvRopeKv(a), list, results)
}

/// Anchor: swiglu of two products of the same activations.
fn gate_up(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::Swiglu(_), args, outs, .. }) = f.op(at).cloned() else {
        return Outcome::NoMatch;
    };
    let (Some((gi, g)), Some((ui, u))) = (f.def(args[0]), f.def(args[1])) else { return Outcome::NoMatch };
    decline_unless!(matches!((g.op, u.op), (Op::Linear(_), Op::Linear(_))), "gate or up is not a product");
    decline_unless!(g.args[0] == u.args[0], "gate and up read different activations");
    decline_unless!(g.args.len() == 2 && u.args.len() == 2, "gate or up has a bias");
    let list = smallvec::smallvec![g.args[0], g.args[1], u.args[1]];
    or_decline!(f.only_reader(args[0]));
    or_decline!(f.only_reader(args[1]));
    f.replace(&[gi, ui, at], Op::LinearSwiglu(ops::linear_swiglu::Attrs), list, outs)
}

/// Anchor: add, one of whose operands is a product read by nobody else.
fn product_add(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::Add(_), args, outs, .. }) = f.op(at).cloned() else { return Outcome::NoMatch };
    for (product, residual) in [(args[0], args[1]), (args[1], args[0])] {
        let Some((pi, OpNode { op: Op::Linear(_), args: p, .. })) = f.def(product) else { continue };
        let mut list = p.clone();
        if f.only_reader(product).is_err() || product == residual {
            continue;
        }
        list.push(residual);
        let op = Op::LinearAdd(ops::linear_add::Attrs);
        return f.replace(&[pi, at], op, list, outs);
    }
    Outcome::Declined("neither operand is a product that only this addition reads".into())
}

/// Anchor: rms_norm of a sum.
fn add_norm(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::RmsNorm(a), args, outs, .. }) = f.op(at).cloned() else {
        return Outcome::NoMatch;
    };
    let Some((ai, add)) = f.def(args[0]) else { return Outcome::NoMatch };
    match add.op {
        Op::Add(_) if f.cols(args[1]) != f.cols(args[0]) => {
            return Outcome::Declined("the norm is not of whole rows".into());
        }
        Op::Add(_) => {}
        Op::LinearAdd(_) => return Outcome::Declined("the addition is already behind a product".into()),
        _ => return Outcome::NoMatch,
    }
    let list = smallvec::smallvec![add.args[0], add.args[1], args[1]];
    let results = smallvec::smallvec![args[0], outs[0]];
    f.replace(&[ai, at], Op::AddRmsNorm(ops::add_rms_norm::Attrs { eps: a.eps }), list, results)
}

/// Anchor: quantize of a norm that nobody else reads.
fn norm_quantize(f: &mut Fuser, at: OpId) -> Outcome {
    let Some(OpNode { op: Op::Quantize(q), args, outs, .. }) = f.op(at).cloned() else {
        return Outcome::NoMatch;
    };
    let Some((ni, norm)) = f.def(args[0]) else { return Outcome::NoMatch };
    let norm = norm.clone();
    if let Op::RmsNorm(_) = norm.op {
        decline_unless!(f.cols(norm.args[1]) == f.cols(args[0]), "the norm is not of whole rows");
    }
    let (op, results) = match norm.op {
        Op::RmsNorm(a) => {
            let a = ops::rms_norm_quantize::Attrs { eps: a.eps, to: q.to };
            (Op::RmsNormQuantize(a), smallvec::smallvec![outs[0]])
        }
        Op::AddRmsNorm(a) if norm.outs[1] == args[0] => {
            let a = ops::rms_norm_quantize::Attrs { eps: a.eps, to: q.to };
            (Op::AddRmsNormQuantize(a), smallvec::smallvec![norm.outs[0], outs[0]])
        }
        _ => return Outcome::NoMatch,
    };
    or_decline!(f.only_reader(args[0]));
    f.replace(&[ni, at], op, norm.args, results)
}
