//! The builder, the invariants and the text form of graphs.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use quipu::graph::builder::{CacheTypes, Heads, TensorTypes};
use quipu::graph::{Dim, Graph, GraphBuilder, OpId, ValueId, ValueType, text, verify, view};
use quipu::ops::rope::Pairing;
use quipu::ops::rope_table;
use quipu::quant::DType;
use smallvec::SmallVec;

/// A file that has every tensor asked for, in one type; vectors are F32.
struct All(DType);

impl TensorTypes for All {
    fn tensor_type(&self, _: &str) -> Option<(DType, SmallVec<[u64; 4]>)> {
        Some((self.0, SmallVec::new()))
    }
}

fn block(g: &mut GraphBuilder<'_>) {
    let x = g.embed("embd", "token_embd", 300, 64);
    let table = g.rope_table(rope_table::Attrs { n_rot: 16, freq_base: 10000.0, freq_scale: 1.0 }, None);
    g.layer(0);
    let cur = g.rms_norm("attn_norm", x, "attn_norm", 1e-5);
    let q = g.linear("Qcur_proj", cur, "attn_q", 64);
    let k = g.linear("Kcur_proj", cur, "attn_k", 32);
    let v = g.linear("Vcur", cur, "attn_v", 32);
    let q = g.rope("Qcur", q, table, Pairing::Adjacent, 16);
    let k = g.rope("Kcur", k, table, Pairing::Adjacent, 16);
    let a = g.attention("kqv_out", q, k, v, Heads { n_head: 4, n_head_kv: 2, scale: 0.25 });
    let a = g.linear("attn_out", a, "attn_output", 64);
    let x = g.add("ffn_inp", a, x);
    g.end_layers();
    let x = g.select_rows("result_rows", x);
    let logits = g.linear("result_output", x, "output", 300);
    g.output(logits);
}

fn graph(dtype: DType) -> Graph {
    let all = All(dtype);
    let mut g = GraphBuilder::new("toy", &all, CacheTypes::default());
    block(&mut g);
    g.finish().unwrap()
}

#[test]
fn activations_are_quantised_once_for_all_products_that_read_them() {
    let count = |g: &Graph| g.ops.rows().iter().filter(|n| n.op.kind().name() == "quantize").count();
    assert_eq!(count(&graph(DType::F16)), 0);
    let g = graph(DType::Q8_0);
    assert_eq!(count(&g), 3); // attn_norm for Q, K and V; kqv_out; result_rows
    assert!(g.find("attn_norm-0_q8_0").is_some());
}

#[test]
fn a_graph_read_back_from_its_text_is_the_same_graph() {
    for t in [DType::F32, DType::Q8_0] {
        let g = graph(t);
        let printed = text::print(&g);
        let read = text::parse(&printed).unwrap();
        assert_eq!(read, g);
        assert_eq!(text::print(&read), printed);
    }
}

#[test]
fn a_graph_read_back_from_json_is_the_same_graph() {
    let g = graph(DType::Q8_0);
    let json = serde_json::to_string(&g).unwrap();
    assert_eq!(serde_json::from_str::<Graph>(&json).unwrap(), g);
}

#[test]
fn mistakes_are_reported_together_with_file_and_line() {
    let all = All(DType::F16);
    let mut g = GraphBuilder::new("toy", &all, CacheTypes::default());
    let x = g.embed("embd", "token_embd", 300, 64);
    let line = line!() + 1;
    let a = g.swiglu("wrong", x, ValueId(0)); // a weight as `up`
    let b = g.rope("wronger", x, x, Pairing::Adjacent, 7);
    let y = g.add("sum", a, b);
    g.output(y);
    let err = g.finish().unwrap_err();
    assert_eq!(err.problems().len(), 2, "{err}");
    assert!(err.to_string().contains(&format!("tests/graph.rs:{line}")), "{err}");
    assert!(err.to_string().contains(&format!("tests/graph.rs:{}", line + 1)), "{err}");
}

#[test]
fn every_invariant_is_checked() {
    let g = graph(DType::F16);
    assert_eq!(verify::verify(&g), []);
    let code = |change: &dyn Fn(&mut Graph)| {
        let mut bad = g.clone();
        change(&mut bad);
        verify::verify(&bad).first().map_or("sound", |p| p.code)
    };
    assert_eq!(code(&|g| g.outputs.clear()), "NoOutput");
    assert_eq!(code(&|g| g.outputs = vec![ValueId(9999)]), "BadId");
    assert_eq!(code(&|g| g.ops[OpId(3)].args[0] = ValueId(9999)), "BadId");
    assert_eq!(code(&|g| g.values[ValueId(5)].name = g.values[ValueId(6)].name.clone()), "DuplicateName");
    assert_eq!(code(&|g| g.ops[OpId(3)].outs = g.ops[OpId(4)].outs.clone()), "BadDef");
    assert_eq!(code(&|g| g.outputs[0] = ValueId(0)), "BadOutput");
    assert_eq!(code(&|g| g.weights[quipu::graph::WeightId(0)].dtype = DType::BF16), "BadWeight");
    let last = g.ops.len() as u32 - 1;
    let logits = g.outputs[0];
    assert_eq!(code(&|g| g.values[logits].ty = ValueType::matrix(DType::F32, Dim::T, 300)), "BadType");
    let add = (0..=last).map(OpId).find(|i| g.ops[*i].op.kind().name() == "add").unwrap();
    let own = g.ops[add].outs[0];
    assert_eq!(code(&|g| g.ops[add].args[0] = own), "Cycle");
}

#[test]
fn the_order_follows_dependencies_and_dot_names_every_op() {
    let g = graph(DType::F16);
    let order = view::order(&g).unwrap();
    assert_eq!(order.len(), g.ops.len());
    let dot = view::dot(&g);
    assert!(dot.starts_with("digraph"), "{dot}");
    for (id, n) in g.ops.iter() {
        assert!(dot.contains(&format!("{id} {}", n.op.kind())), "{id}");
    }
}

proptest! {
    #[test]
    fn damaged_graph_text_is_an_error_and_never_a_panic(at in 0usize..4000, with in any::<u8>()) {
        let printed = text::print(&graph(DType::F16));
        let mut bytes = printed.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(s) = String::from_utf8(bytes) {
            let _ = text::parse(&s);
        }
        let cut = (0..=at).rev().find(|i| printed.is_char_boundary(*i)).unwrap_or(0);
        let _ = text::parse(&printed[..cut]);
    }
}
