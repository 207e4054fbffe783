//! Blocks that more than one architecture uses, and what none of them supports yet.

use super::Hparams;
use crate::error::Problem;
use crate::graph::builder::Heads;
use crate::graph::{GraphBuilder, ValueId};
use std::ops::Range;

/// `1 / sqrt(head_dim)`, unless the file sets a scale. Source: `f_attention_scale` in llama.cpp.
pub fn attention_scale(hp: &Hparams) -> f32 {
    hp.attn_scale.unwrap_or(1.0 / (hp.head_dim_k as f32).sqrt())
}

/// Query, key and value heads of a block that has the same in every layer.
pub fn heads(hp: &Hparams) -> Heads {
    Heads { n_head: hp.n_head, n_head_kv: hp.n_head_kv, scale: attention_scale(hp) }
}

/// The products for Q, K and V, from one matrix `attn_qkv` or from three, with biases where the file has them:
/// `[T, n_head * head_dim_k]`, `[T, n_head_kv * head_dim_k]`, `[T, n_head_kv * head_dim_v]`.
#[track_caller]
pub fn qkv(g: &mut GraphBuilder<'_>, x: ValueId, hp: &Hparams) -> [ValueId; 3] {
    let (n_q, n_k, n_v) =
        (hp.n_head * hp.head_dim_k, hp.n_head_kv * hp.head_dim_k, hp.n_head_kv * hp.head_dim_v);
    if g.has("attn_qkv") {
        let (k, v, end) = (n_q, n_q + n_k, n_q + n_k + n_v);
        return [
            linear_rows(g, "Qcur_proj", x, "attn_qkv", 0..k, end),
            linear_rows(g, "Kcur_proj", x, "attn_qkv", k..v, end),
            linear_rows(g, "Vcur", x, "attn_qkv", v..end, end),
        ];
    }
    [
        linear(g, "Qcur_proj", x, "attn_q", n_q),
        linear(g, "Kcur_proj", x, "attn_k", n_k),
        linear(g, "Vcur", x, "attn_v", n_v),
    ]
}

/// A product with some rows of a matrix, with their bias if the file has one.
#[track_caller]
fn linear_rows(
    g: &mut GraphBuilder<'_>,
    name: &str,
    x: ValueId,
    weight: &str,
    rows: Range<u32>,
    n_out: u32,
) -> ValueId {
    // One matrix beside three biases is not supported: the bias that is missing is then named.
    if g.has_bias(weight) || g.has_bias("attn_q") {
        g.linear_rows_bias(name, x, weight, rows, n_out)
    } else {
        g.linear_rows(name, x, weight, rows, n_out)
    }
}

/// A product, with the bias if the file has one (some llama files do).
#[track_caller]
pub fn linear(g: &mut GraphBuilder<'_>, name: &str, x: ValueId, weight: &str, n_out: u32) -> ValueId {
    if g.has_bias(weight) { g.linear_bias(name, x, weight, n_out) } else { g.linear(name, x, weight, n_out) }
}

/// `down(silu(gate(x)) * up(x))`. Source: Shazeer, GLU Variants Improve Transformer, 2020.
#[track_caller]
pub fn swiglu_ffn(g: &mut GraphBuilder<'_>, x: ValueId, hp: &Hparams) -> ValueId {
    let gate = linear(g, "ffn_gate", x, "ffn_gate", hp.n_ff); // [T, n_ff]
    let up = linear(g, "ffn_up", x, "ffn_up", hp.n_ff);
    let cur = g.swiglu("ffn_swiglu", gate, up);
    linear(g, "ffn_out", cur, "ffn_down", hp.n_embd)
}

/// As [`swiglu_ffn`], with gate and up as one matrix `ffn_up`, the gate's rows first.
#[track_caller]
pub fn fused_swiglu_ffn(g: &mut GraphBuilder<'_>, x: ValueId, hp: &Hparams) -> ValueId {
    let (n, both) = (hp.n_ff, 2 * hp.n_ff);
    let gate = g.linear_rows("ffn_gate", x, "ffn_up", 0..n, both); // [T, n_ff]
    let up = g.linear_rows("ffn_up_half", x, "ffn_up", n..both, both); // llama.cpp names both halves ffn_up
    let cur = g.swiglu("ffn_swiglu", gate, up);
    linear(g, "ffn_out", cur, "ffn_down", hp.n_embd)
}

/// The last norm and the output matrix, for the rows that want logits; without `output.weight` the embedding table.
#[track_caller]
pub fn output_head(g: &mut GraphBuilder<'_>, x: ValueId, hp: &Hparams) {
    let cur = g.select_rows("result_rows", x); // [R, n_embd]
    let cur = g.rms_norm("result_norm", cur, "output_norm", hp.rms_eps);
    let output = if g.has("output") { "output" } else { "token_embd" };
    let logits = g.linear("result_output", cur, output, hp.n_vocab);
    g.output(logits);
}

/// What no architecture here supports: refused by name at load, never ignored.
pub fn refuse_common(hp: &Hparams) -> Vec<Problem> {
    refuse_except(hp, &[])
}

/// As [`refuse_common`], for an architecture that computes what the keys `handled` (without prefix) ask for.
pub fn refuse_except(hp: &Hparams, handled: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, found: String, expected: &str| {
        problems.push(
            Problem::new("Unsupported", format!("{}.{key}", hp.arch))
                .found(found)
                .expected(expected)
                .hint("this version does not run such a model"),
        );
    };
    if hp.head_dim_k < 8 || hp.head_dim_v < 8 {
        refuse(
            "attention.key_length",
            format!("heads of {} and {}", hp.head_dim_k, hp.head_dim_v),
            "at least 8",
        );
    }
    // Mistral and Phi files carry a sliding window that llama.cpp does not apply to these architectures either.
    let common = ["attention.scale", "attention.sliding_window"];
    problems.extend(hp.refuse_features(&[&common[..], handled].concat()));
    problems
}
