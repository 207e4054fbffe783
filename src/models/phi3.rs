//! phi3: Phi 3, 3.5 and 4 (mini and medium).
//!
//! Abdin et al., Phi-3 Technical Report, 2024: as llama with half-split rotation pairs; Q, K and V are one matrix, and
//! so are gate and up, the gate first. Long-context models bring LongRoPE's factors. Some files carry a sliding window;
//! llama.cpp reads it and attends to everything all the same, and so does this.

use super::{Architecture, Hparams, blocks, rope};
use crate::graph::GraphBuilder;
use crate::ops::rope::Pairing;

/// The row of the architecture table.
pub const ARCHITECTURE: Architecture = Architecture { name: "phi3", refuse: blocks::refuse_common, build };

fn build(g: &mut GraphBuilder<'_>, hp: &Hparams) {
    let mut inp = g.embed("embd", "token_embd", hp.n_vocab, hp.n_embd); // [T, n_embd]
    let rope = rope::table(g, hp); // [T, n_rot]

    for il in 0..hp.n_layer {
        g.layer(il);
        let cur = g.rms_norm("attn_norm", inp, "attn_norm", hp.rms_eps);
        let [q, k, v] = blocks::qkv(g, cur, hp);
        let q = g.rope("Qcur", q, rope, Pairing::HalfSplit, hp.head_dim_k);
        let k = g.rope("Kcur", k, rope, Pairing::HalfSplit, hp.head_dim_k);
        let cur = g.attention("kqv_out", q, k, v, blocks::heads(hp));
        let cur = blocks::linear(g, "attn_out", cur, "attn_output", hp.n_embd);
        let ffn_inp = g.add("ffn_inp", cur, inp);

        let cur = g.rms_norm("ffn_norm", ffn_inp, "ffn_norm", hp.rms_eps);
        let cur = blocks::fused_swiglu_ffn(g, cur, hp);
        inp = g.add("l_out", cur, ffn_inp);
    }
    g.end_layers();
    blocks::output_head(g, inp, hp);
}
