//! What happens inside attention, for traces: no plan stores scores, so they are computed once more from what it does
//! store, by the oracle.

use crate::engine::{Trace, TraceValue};
use crate::ops::Op;
use crate::ops::attention::{Attrs, Cells, reference_scores};
use crate::ops::kv_append;
use crate::plan::{Cmd, Plan};
use crate::quant::DType;

/// `kq-L`, `kq_soft_max-L` (both `[tokens, heads, tokens]`, zero where a token does not look) and `kqv-L`
/// (`[tokens, heads * head_dim_v]`) of every layer of one sequence from its start. `plan` is the unfused plan that
/// made `trace`; a layer whose queries, keys or values are not in the trace is left out.
pub fn attention_scores(plan: &Plan, trace: &Trace) -> Vec<TraceValue> {
    let stores: Vec<(kv_append::Attrs, &Cmd)> = commands(plan, |op| match op {
        Op::KvAppend(a) => Some(*a),
        _ => None,
    });
    let mut out = Vec::new();
    for (attrs, cmd) in commands(plan, |op| match op {
        Op::Attention(a) => Some(*a),
        _ => None,
    }) {
        let Some((store, append)) = stores.iter().find(|(s, _)| s.layer == attrs.layer) else { continue };
        let operand = |cmd: &Cmd, i: usize| {
            let name = plan.operands.get(cmd.args()).and_then(|a| a.get(i)).map(|o| o.name as usize)?;
            trace.find(plan.names.get(name)?)
        };
        if let (Some(q), Some(k), Some(v)) = (operand(cmd, 0), operand(append, 0), operand(append, 1)) {
            out.extend(layer(&attrs, store, q, k, v));
        }
    }
    out
}

fn commands<A>(plan: &Plan, pick: impl Fn(&Op) -> Option<A>) -> Vec<(A, &Cmd)> {
    let cmds = plan.cmds.rows().iter();
    cmds.filter_map(|c| plan.ops.get(c.op as usize).and_then(&pick).map(|a| (a, c))).collect()
}

fn layer(
    a: &Attrs,
    store: &kv_append::Attrs,
    q: &TraceValue,
    k: &TraceValue,
    v: &TraceValue,
) -> [TraceValue; 3] {
    let heads = store.n_head_kv.max(1) as usize;
    let keys = Cache::new(k, heads, store.type_k);
    let values = Cache::new(v, heads, store.type_v);
    let n = q.data.len() / q.cols.max(1) as usize;
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (t, row) in q.data.chunks_exact(q.cols.max(1) as usize).enumerate() {
        let s = reference_scores(a, row, n, |head| (keys.cells(head, t + 1), values.cells(head, t + 1)));
        for (part, row) in parts.iter_mut().zip([s.kq, s.kq_soft_max, s.kqv]) {
            part.extend(row);
        }
    }
    let width = a.n_head * n as u32;
    let [kq, soft, kqv] = parts;
    let named = |name: &str, cols, data| TraceValue { name: format!("{name}-{}", a.layer), cols, data };
    let kqv_cols = (kqv.len() / n.max(1)) as u32;
    [named("kq", width, kq), named("kq_soft_max", width, soft), named("kqv", kqv_cols, kqv)]
}

/// Keys or values as a cache of their type holds them: head by head, cell after cell.
struct Cache {
    bytes: Vec<u8>,
    dtype: DType,
    dim: usize,
    cell_bytes: usize,
    head_bytes: usize,
}

impl Cache {
    fn new(rows: &TraceValue, heads: usize, dtype: DType) -> Cache {
        let cols = rows.cols as usize;
        let dim = cols / heads;
        let cell_bytes = dtype.row_bytes(dim).unwrap_or(0);
        let n = rows.data.len() / cols.max(1);
        let mut bytes = vec![0u8; heads * n * cell_bytes];
        if cell_bytes > 0 {
            for (i, cell) in bytes.chunks_exact_mut(cell_bytes).enumerate() {
                let from = i % n * cols + i / n * dim;
                kv_append::reference(dtype, &rows.data[from..from + dim], cell);
            }
        }
        Cache { bytes, dtype, dim, cell_bytes, head_bytes: n * cell_bytes }
    }

    /// The first `n` cells of a head.
    fn cells(&self, head: u32, n: usize) -> Cells<'_> {
        let from = head as usize * self.head_bytes;
        Cells { bytes: &self.bytes[from..from + n * self.cell_bytes], dtype: self.dtype, dim: self.dim }
    }
}
