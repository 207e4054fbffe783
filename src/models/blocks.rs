//! Blocks that more than one architecture uses, and what none of them supports yet.

use super::Hparams;
use super::hparams::RopeScaling;
use crate::error::Problem;
use crate::graph::{GraphBuilder, ValueId};
use crate::ops::rope_table;

/// `1 / sqrt(head_dim)`, unless the file sets a scale. Source: `f_attention_scale` in llama.cpp.
pub fn attention_scale(hp: &Hparams) -> f32 {
    hp.attn_scale.unwrap_or(1.0 / (hp.head_dim_k as f32).sqrt())
}

/// Attributes of the rope table: base, rotated dimensions, linear scale.
pub fn rope_attrs(hp: &Hparams) -> rope_table::Attrs {
    let freq_scale = match hp.rope_scaling {
        RopeScaling::Linear { factor } => 1.0 / factor,
        _ => 1.0,
    };
    rope_table::Attrs { n_rot: hp.n_rot, freq_base: hp.rope_freq_base, freq_scale }
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
    let mut problems = Vec::new();
    let mut refuse = |key: &str, found: String, expected: &str| {
        problems.push(
            Problem::new("Unsupported", format!("{}.{key}", hp.arch))
                .found(found)
                .expected(expected)
                .hint("this version does not run such a model"),
        );
    };
    match &hp.rope_scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => {}
        other => refuse("rope.scaling.type", format!("{other:?}"), "none or linear"),
    }
    if hp.head_dim_k < 8 || hp.head_dim_v < 8 {
        refuse(
            "attention.key_length",
            format!("heads of {} and {}", hp.head_dim_k, hp.head_dim_v),
            "at least 8",
        );
    }
    // Mistral files carry a sliding window that llama.cpp does not read for this architecture either.
    problems.extend(hp.refuse_features(&["attention.scale", "attention.sliding_window"]));
    problems
}
