//! qwen3: the dense Qwen 3.
//!
//! Yang et al., Qwen3 Technical Report, 2025: as qwen2 without biases, with an RMSNorm of every query and key head
//! before its rotation, and heads whose size is apart from the width of the residual stream.

use super::{Architecture, Hparams, blocks, rope};
use crate::graph::GraphBuilder;
use crate::ops::rope::Pairing;

/// The row of the architecture table.
pub const ARCHITECTURE: Architecture = Architecture { name: "qwen3", refuse: blocks::refuse_common, build };

fn build(g: &mut GraphBuilder<'_>, hp: &Hparams) {
    let mut inp = g.embed("embd", "token_embd", hp.n_vocab, hp.n_embd); // [T, n_embd]
    let rope = rope::table(g, hp); // [T, n_rot]

    for il in 0..hp.n_layer {
        g.layer(il);
        let cur = g.rms_norm("attn_norm", inp, "attn_norm", hp.rms_eps);
        let [q, k, v] = blocks::qkv(g, cur, hp);
        let q = g.head_norm("Qcur_normed", q, "attn_q_norm", hp.head_dim_k, hp.rms_eps);
        let k = g.head_norm("Kcur_normed", k, "attn_k_norm", hp.head_dim_k, hp.rms_eps);
        let q = g.rope("Qcur", q, rope, Pairing::HalfSplit, hp.head_dim_k);
        let k = g.rope("Kcur", k, rope, Pairing::HalfSplit, hp.head_dim_k);
        let cur = g.attention("kqv_out", q, k, v, blocks::heads(hp));
        let cur = blocks::linear(g, "attn_out", cur, "attn_output", hp.n_embd);
        let ffn_inp = g.add("ffn_inp", cur, inp);

        let cur = g.rms_norm("ffn_norm", ffn_inp, "ffn_norm", hp.rms_eps);
        let cur = blocks::swiglu_ffn(g, cur, hp);
        inp = g.add("l_out", cur, ffn_inp);
    }
    g.end_layers();
    blocks::output_head(g, inp, hp);
}
