//! llama: Llama 2, Llama 3, Mistral, TinyLlama and everything else that writes this architecture.
//!
//! Touvron et al., Llama 2: Open Foundation and Fine-Tuned Chat Models, 2023: a pre-norm transformer with RMSNorm,
//! rotary positions, grouped-query attention (Ainslie et al., 2023) and a SwiGLU feed-forward. Converters permute
//! the rows of Q and K, so rotation pairs adjacent dimensions. Llama 3's frequency factors are `rope_freqs.weight`.

use super::{Architecture, Hparams, blocks, rope};
use crate::graph::GraphBuilder;
use crate::ops::rope::Pairing;

/// The row of the architecture table.
pub const ARCHITECTURE: Architecture = Architecture { name: "llama", refuse: blocks::refuse_common, build };

fn build(g: &mut GraphBuilder<'_>, hp: &Hparams) {
    let mut inp = g.embed("embd", "token_embd", hp.n_vocab, hp.n_embd); // [T, n_embd]
    let rope = rope::table(g, hp); // [T, n_rot]

    for il in 0..hp.n_layer {
        g.layer(il);
        let cur = g.rms_norm("attn_norm", inp, "attn_norm", hp.rms_eps);
        let [q, k, v] = blocks::qkv(g, cur, hp);
        let q = g.rope("Qcur", q, rope, Pairing::Adjacent, hp.head_dim_k);
        let k = g.rope("Kcur", k, rope, Pairing::Adjacent, hp.head_dim_k);
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
