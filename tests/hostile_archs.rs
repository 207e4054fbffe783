//! Hostile models of the other architectures: joined matrices, norms of heads, and scaled rotary positions that do not
//! fit. Every case gives its code, never a panic.
#![allow(clippy::unwrap_used)]

mod common;

use common::hostile::load;
use common::{EMBD, F32, FF, HEADS, HEADS_KV, Model, STR, T_F32, Tensor, U32, str_bytes};

/// The base file under another architecture's name.
fn renamed(arch: &str) -> Model {
    let mut m = Model::base();
    m.key("general.architecture").value = str_bytes(arch.as_bytes());
    for kv in &mut m.kv {
        if let Some(rest) = kv.key.strip_prefix(b"llama.") {
            kv.key = [arch.as_bytes(), b".", rest].concat();
        }
    }
    m
}

/// Adds a tensor of zeros.
fn add(m: &mut Model, name: &str, dims: &[u64]) {
    let data = vec![0; 4 * dims.iter().product::<u64>() as usize];
    let (name, dims) = (name.as_bytes().to_vec(), dims.to_vec());
    m.tensors.push(Tensor { name_len: None, name, n_dims: None, dims, ty: T_F32, offset: None, data });
}

fn remove(m: &mut Model, ends: &[&str]) {
    m.tensors.retain(|t| !ends.iter().any(|e| t.name.ends_with(e.as_bytes())));
}

const HEAD: u64 = EMBD / HEADS;
const QKV: u64 = EMBD + 2 * HEADS_KV * HEAD;

/// Q, K and V as one matrix, gate and up as one.
fn phi3() -> Model {
    let mut m = renamed("phi3");
    remove(&mut m, &["attn_q.weight", "attn_k.weight", "attn_v.weight", "ffn_gate.weight", "ffn_up.weight"]);
    for i in 0..2 {
        add(&mut m, &format!("blk.{i}.attn_qkv.weight"), &[EMBD, QKV]);
        add(&mut m, &format!("blk.{i}.ffn_up.weight"), &[EMBD, 2 * FF]);
    }
    m
}

/// Norms of query and key heads.
fn qwen3() -> Model {
    let mut m = renamed("qwen3");
    for i in 0..2 {
        add(&mut m, &format!("blk.{i}.attn_q_norm.weight"), &[HEAD]);
        add(&mut m, &format!("blk.{i}.attn_k_norm.weight"), &[HEAD]);
    }
    m
}

fn rows(m: &mut Model, tensor: &str, rows: u64) {
    let t = m.tensor(tensor);
    t.dims = vec![EMBD, rows];
    t.data = vec![0; 4 * (EMBD * rows) as usize];
}

fn number(m: &mut Model, key: &str, n: u32) {
    m.add(key.as_bytes(), U32, n.to_le_bytes().to_vec());
}

fn float(m: &mut Model, key: &str, x: f32) {
    m.add(key.as_bytes(), F32, x.to_le_bytes().to_vec());
}

type Case = (&'static str, fn() -> Model, &'static str, fn(&mut Model));

const CASES: &[Case] = &[
    ("joined heads one row short", phi3, "ShapeMismatch", |m| rows(m, "blk.0.attn_qkv.weight", QKV - 1)),
    ("joined heads one row long", phi3, "ShapeMismatch", |m| rows(m, "blk.1.attn_qkv.weight", QKV + 1)),
    ("only one half of gate and up", phi3, "ShapeMismatch", |m| rows(m, "blk.0.ffn_up.weight", FF)),
    ("no heads at all", phi3, "MissingTensor", |m| remove(m, &["blk.1.attn_qkv.weight"])),
    ("biases of single matrices beside the joined one", phi3, "MissingTensor", |m| {
        add(m, "blk.0.attn_q.bias", &[EMBD]);
    }),
    ("a joined bias that is too short", phi3, "ShapeMismatch", |m| {
        add(m, "blk.0.attn_qkv.bias", &[QKV - 1]);
    }),
    ("head counts that make other parts", phi3, "ShapeMismatch", |m| {
        m.set_u32("phi3.attention.head_count_kv", 4);
    }),
    ("2^16 heads of 2^16", phi3, "OutOfRange", |m| {
        m.set_u32("phi3.attention.head_count", 1 << 16);
        m.set_u32("phi3.attention.head_count_kv", 1 << 16);
        number(m, "phi3.attention.key_length", 1 << 16);
        number(m, "phi3.attention.value_length", 1 << 16);
    }),
    ("2^24 wide inside", phi3, "ShapeMismatch", |m| m.set_u32("phi3.feed_forward_length", 1 << 24)),
    ("long factors without short ones", phi3, "MissingTensor", |m| {
        add(m, "rope_factors_long.weight", &[HEAD / 2]);
    }),
    ("factors of another length", phi3, "ShapeMismatch", |m| {
        add(m, "rope_factors_long.weight", &[HEAD / 2]);
        add(m, "rope_factors_short.weight", &[HEAD]);
    }),
    ("LongRoPE without factors", phi3, "MissingTensor", |m| {
        m.add(b"phi3.rope.scaling.type", STR, str_bytes(b"longrope"));
    }),
    ("an original context of 0", phi3, "OutOfRange", |m| {
        number(m, "phi3.rope.scaling.original_context_length", 0);
    }),
    ("an attention factor of 0", phi3, "OutOfRange", |m| float(m, "phi3.rope.scaling.attn_factor", 0.0)),
    ("a scaling nobody knows", qwen3, "Unsupported", |m| {
        m.add(b"qwen3.rope.scaling.type", STR, str_bytes(b"spiral"));
    }),
    ("YaRN with a ramp of its own", qwen3, "Unsupported", |m| {
        m.add(b"qwen3.rope.scaling.type", STR, str_bytes(b"yarn"));
        float(m, "qwen3.rope.scaling.yarn_beta_fast", 16.0);
    }),
    ("YaRN with a logarithm of its own", qwen3, "Unsupported", |m| {
        float(m, "qwen3.rope.scaling.yarn_log_multiplier", 0.1);
    }),
    ("norms of whole rows", qwen3, "ShapeMismatch", |m| {
        let t = m.tensor("blk.0.attn_q_norm.weight");
        (t.dims, t.data) = (vec![EMBD], vec![0; 4 * EMBD as usize]);
    }),
    ("one norm is absent", qwen3, "MissingTensor", |m| remove(m, &["blk.1.attn_k_norm.weight"])),
    ("heads of another size", qwen3, "ShapeMismatch", |m| {
        number(m, "qwen3.attention.key_length", 24);
        number(m, "qwen3.attention.value_length", 24);
    }),
    ("heads of 1", qwen3, "OutOfRange", |m| number(m, "qwen3.attention.key_length", 1)),
];

#[test]
fn the_models_without_damage_load() {
    for m in [phi3(), qwen3()] {
        load(&m.build()).unwrap();
    }
    // Scalings that nothing is wrong with.
    let mut m = qwen3();
    m.add(b"qwen3.rope.scaling.type", STR, str_bytes(b"yarn"));
    float(&mut m, "qwen3.rope.scaling.factor", 4.0);
    float(&mut m, "qwen3.rope.scaling.yarn_beta_fast", 32.0);
    load(&m.build()).unwrap();
}

#[test]
fn every_case_gives_its_code() {
    let mut wrong = Vec::new();
    for (what, base, code, damage) in CASES {
        let mut m = base();
        damage(&mut m);
        match load(&m.build()) {
            Ok(_) => wrong.push(format!("{what}: loads")),
            Err(e) if e.code() != *code => wrong.push(format!("{what}: {e}, not {code}")),
            Err(e) => assert_eq!(e.class().exit_code(), 3, "{what}: {e}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
