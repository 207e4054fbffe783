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
    let table = g.rope_table("rope_table", rope_table::Attrs::plain(16, 10000.0), &[]);
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

/// Three products with the parts of one matrix, and norms of heads.
fn parts(rows: [std::ops::Range<u32>; 3], of: [u32; 3]) -> Result<Graph, quipu::Error> {
    let all = All(DType::F16);
    let mut g = GraphBuilder::new("toy", &all, CacheTypes::default());
    let x = g.embed("inp", "token_embd", 96, 64);
    let mut sum = x;
    for (i, (rows, of)) in rows.into_iter().zip(of).enumerate() {
        let y = g.linear_rows_bias(&format!("y{i}"), x, "joined", rows, of);
        let y = g.head_norm(&format!("n{i}"), y, &format!("norm{i}"), 16, 1e-5);
        sum = g.add(&format!("sum{i}"), sum, y);
    }
    g.output(sum);
    g.finish()
}

#[test]
fn parts_of_a_tensor_are_weights_of_their_own_and_one_demand() {
    let g = parts([0..64, 128..192, 64..128], [192; 3]).unwrap();
    assert_eq!(text::parse(&text::print(&g)).unwrap(), g);
    assert!(
        text::print(&g).contains("\"joined.weight\" F16 [64, 64] from 128 of 192"),
        "{}",
        text::print(&g)
    );
    assert!(g.find("joined.weight[128..192]").is_some() && g.find("joined.bias[0..64]").is_some());
    let wants = quipu::models::wants(&g);
    let joined: Vec<_> = wants.iter().filter(|w| w.name.starts_with("joined")).map(|w| &w.dims[..]).collect();
    assert_eq!(joined, [&[64, 192][..], &[192]]);
}

#[test]
fn parts_that_overlap_leave_the_tensor_or_disagree_are_errors() {
    let code = |rows, of| parts(rows, of).unwrap_err().code();
    assert_eq!(code([0..64, 63..127, 128..192], [192; 3]), "BadPart");
    assert_eq!(code([0..64, 64..128, 129..193], [192; 3]), "BadPart");
    assert_eq!(code([0..64, 64..128, 128..192], [192, 192, 193]), "BadPart");
    assert_eq!(code([0..64, 64..128, u32::MAX - 64..u32::MAX], [192; 3]), "BadPart");
    assert_eq!(
        code([0..64, 64..128, 0..192], [192; 3]),
        "BadOp",
        "the whole is too wide for its norm and sum"
    );
    assert!(parts([0..64, 64..64, 128..192], [192; 3]).is_err(), "no rows");
    let backwards = std::ops::Range { start: 128, end: 64 };
    assert!(parts([0..64, backwards, 128..192], [192; 3]).is_err(), "fewer than no rows");
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

/// Every number of a graph, and of the same graph with fused ops, replaced by numbers that sums, products and
/// divisions take badly, and every digit by every other.
#[test]
fn bad_numbers_anywhere_in_graph_text_are_errors_and_never_a_panic() {
    let plain = graph(DType::Q8_0);
    let (fused, _) = quipu::plan::fuse::fuse(&plain, &quipu::plan::fuse::FuseOptions::default()).unwrap();
    for printed in [text::print(&plain), text::print(&fused)] {
        let (mut refused, mut tried) = (0, 0);
        let mut parse = |s: &str| {
            tried += 1;
            refused += usize::from(text::parse(s).is_err());
        };
        let digit = |i: usize| printed.as_bytes().get(i).is_some_and(u8::is_ascii_digit);
        for at in (0..printed.len()).filter(|at| digit(*at)) {
            for d in '0'..='9' {
                parse(&format!("{}{d}{}", &printed[..at], &printed[at + 1..]));
            }
            if at > 0 && digit(at - 1) {
                continue;
            }
            let end = (at..).find(|i| !digit(*i)).unwrap();
            for n in ["", "0", "1", "-1", "2147483648", "4294967295", "4294967296", "1e39"] {
                parse(&format!("{}{n}{}", &printed[..at], &printed[end..]));
            }
        }
        assert!(refused > tried / 2, "{refused} of {tried}");
    }
}
