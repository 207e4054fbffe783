//! Random graphs of every unfused op, for property tests of plans.

use quipu::graph::builder::{CacheTypes, Heads, TensorTypes};
use quipu::graph::{Graph, GraphBuilder, ValueId};
use quipu::ops::{rope::Pairing, rope_table};
use quipu::quant::DType;
use smallvec::SmallVec;

/// A file that has every tensor asked for, in one type; vectors are F32.
pub struct All(pub DType);

impl TensorTypes for All {
    fn tensor_type(&self, _: &str) -> Option<(DType, SmallVec<[u64; 4]>)> {
        Some((self.0, SmallVec::new()))
    }
}

/// A random graph: each step picks an op and earlier values of the right width.
pub fn random_graph(dtype: DType, steps: &[(u8, u16, u16)]) -> Graph {
    let all = All(dtype);
    let mut g = GraphBuilder::new("random", &all, CacheTypes::default());
    let x = g.embed("inp", "token_embd", 96, 64);
    let table = g.rope_table("rope_table", rope_table::Attrs::plain(16, 10000.0), &[]);
    let mut values = vec![x];
    for (i, &(kind, a, b)) in steps.iter().enumerate() {
        g.layer(i as u32);
        let pick = |n: u16| values[usize::from(n) % values.len()];
        let (a, b): (ValueId, ValueId) = (pick(a), pick(b));
        let v = match kind % 8 {
            0 => g.add("sum", a, b),
            1 => g.rms_norm("norm", a, "norm", 1e-5),
            2 => g.linear("product", a, "w", 64),
            3 => g.swiglu("swiglu", a, b),
            4 => {
                let (gate, up) = (g.linear("gate", a, "gate", 64), g.linear("up", a, "up", 64));
                g.swiglu("glu", gate, up)
            }
            5 => {
                let y = g.linear("out", a, "wo", 64);
                g.add("residual", y, b)
            }
            6 => {
                // One matrix for the three products, and norms of heads.
                let q = g.linear_rows("q", a, "qkv", 0..64, 128);
                let k = g.linear_rows("k", a, "qkv", 64..96, 128);
                let v = g.linear_rows("v", a, "qkv", 96..128, 128);
                let q = g.head_norm("qn", q, "qn", 16, 1e-5);
                let k = g.head_norm("kn", k, "kn", 16, 1e-5);
                let q = g.rope("qr", q, table, Pairing::HalfSplit, 16);
                let k = g.rope("kr", k, table, Pairing::HalfSplit, 16);
                g.attention("kqv", q, k, v, Heads { n_head: 4, n_head_kv: 2, scale: 0.25 })
            }
            _ => {
                let (q, k, v) =
                    (g.linear("q", a, "q", 64), g.linear("k", a, "k", 32), g.linear("v", a, "v", 32));
                let q = g.rope("qr", q, table, Pairing::HalfSplit, 16);
                let k = g.rope("kr", k, table, Pairing::HalfSplit, 16);
                g.attention("kqv", q, k, v, Heads { n_head: 4, n_head_kv: 2, scale: 0.25 })
            }
        };
        values.push(v);
    }
    g.end_layers();
    let last = g.add("last", values[values.len() - 1], values[values.len() / 2]);
    let rows = g.select_rows("rows", last);
    g.output(rows);
    g.finish().unwrap()
}
