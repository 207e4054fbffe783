//! Hostile models, cases 66 to 80: sound containers whose hyper-parameters or weights are not.
#![allow(clippy::unwrap_used)]

mod common;

use common::hostile::{Case, T2, every_case_gives_its_code, inspect, load, refuses, run};
use common::process::quipu;
use common::{ARRAY, EMBD, Model, U32, VOCAB, array};
use quipu::loader::weights::check_tensors;
use quipu::models::hparams::Hparams;

const HEADS: &str = "llama.attention.head_count";
const HEADS_KV: &str = "llama.attention.head_count_kv";

const CASES: &[Case] = &[
    (66, "no blocks", "OutOfRange", |m| m.set_u32("llama.block_count", 0)),
    (66, "513 blocks", "OutOfRange", |m| m.set_u32("llama.block_count", 513)),
    (66, "2^32-1 blocks", "OutOfRange", |m| m.set_u32("llama.block_count", u32::MAX)),
    (67, "no heads", "OutOfRange", |m| m.set_u32(HEADS, 0)),
    (68, "no kv heads", "OutOfRange", |m| m.set_u32(HEADS_KV, 0)),
    (68, "3 kv heads for 4", "OutOfRange", |m| m.set_u32(HEADS_KV, 3)),
    (69, "65 over 4 heads", "Inconsistent", |m| m.set_u32("llama.embedding_length", 65)),
    (70, "odd rotary dimensions", "OutOfRange", |m| m.set_u32("llama.rope.dimension_count", 15)),
    (70, "rotary dimensions past the head", "OutOfRange", |m| m.set_u32("llama.rope.dimension_count", 18)),
    (71, "rope base 0", "OutOfRange", |m| m.set_f32("llama.rope.freq_base", 0.0)),
    (71, "rope base negative", "OutOfRange", |m| m.set_f32("llama.rope.freq_base", -1.0)),
    (71, "rope base NaN", "OutOfRange", |m| m.set_f32("llama.rope.freq_base", f32::NAN)),
    (72, "epsilon NaN", "OutOfRange", |m| m.set_f32("llama.attention.layer_norm_rms_epsilon", f32::NAN)),
    (72, "epsilon negative", "OutOfRange", |m| m.set_f32("llama.attention.layer_norm_rms_epsilon", -1e-5)),
    (74, "one head count for two blocks", "ArrayLength", |m| {
        (m.key(HEADS).ty, m.key(HEADS).value) = (ARRAY, array(U32, 1, &4u32.to_le_bytes()));
    }),
    (74, "head counts that differ", "Unsupported", |m| {
        (m.key(HEADS).ty, m.key(HEADS).value) = (ARRAY, array(U32, 2, &[4, 0, 0, 0, 2, 0, 0, 0]));
    }),
    (75, "3 of 2 experts", "OutOfRange", |m| {
        m.add(b"llama.expert_count", U32, vec![2, 0, 0, 0]);
        m.add(b"llama.expert_used_count", U32, vec![3, 0, 0, 0]);
    }),
    (75, "0 of 2 experts", "OutOfRange", |m| m.add(b"llama.expert_count", U32, vec![2, 0, 0, 0])),
    (76, "a weight is absent", "MissingTensor", |m| {
        m.tensor("blk.1.attn_q.weight").name = b"blk.1.attn_x.weight".to_vec()
    }),
    (77, "a weight is transposed", "ShapeMismatch", |m| m.tensor("blk.0.attn_k.weight").dims.reverse()),
    (78, "a norm of a block type", "TypeNotAllowed", |m| {
        let t = m.tensor(T2);
        (t.ty, t.data) = (common::T_Q8_0, vec![0; 68]);
    }),
];

#[test]
fn the_base_file_is_sound() {
    let g = load(&Model::base().build()).unwrap();
    assert!(check_tensors(&g, g.tensors()).is_ok());
    let h = Hparams::read(&g).unwrap();
    assert_eq!((h.n_embd, h.n_vocab, h.head_dim_k), (EMBD as u32, VOCAB as u32, 16));
    assert_eq!(Model::base().version, g.version());
    let v2 = Model { version: 2, ..Model::base() };
    assert_eq!(load(&v2.build()).unwrap().version(), 2);
}

#[test]
fn every_case_gives_its_code_and_offset() {
    every_case_gives_its_code(CASES, load);
}

#[test]
fn commands_refuse_every_case() {
    refuses(CASES, &[inspect, run]);
}

#[test]
fn a_context_that_no_memory_holds_is_clamped_or_refused_before_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("73.gguf");
    let mut m = Model::base();
    m.set_u32("llama.context_length", u32::MAX);
    std::fs::write(&path, m.build()).unwrap();
    let with = |more: &[&str]| {
        let got = quipu(&[&["run", "-m", path.to_str().unwrap(), "-p", "x", "-n", "1"], more].concat());
        assert!(got.peak_bytes.is_none_or(|p| p < 64 << 20), "{more:?} took {:?} bytes", got.peak_bytes);
        got
    };
    let clamped = with(&[]);
    assert_eq!(clamped.code, Some(0), "{}", clamped.stderr);
    assert!(clamped.stderr.contains("context 4096 (default, -c 0 for all"), "{}", clamped.stderr);
    for context in ["0", "2147483647"] {
        let refused = with(&["-c", context]);
        assert_eq!(refused.code, Some(5), "{}", refused.stderr);
        let said = &refused.stderr;
        assert!(said.contains("[InsufficientMemory]") && said.contains("expected"), "{said}");
    }
}

#[test]
fn weights_that_are_no_numbers_load_and_are_found_when_asked() {
    let mut m = Model::base();
    m.tensor(T2).data = f32::NAN.to_le_bytes().repeat(EMBD as usize);
    // An infinite scale in one block.
    m.tensor("blk.1.ffn_up.weight").data[34..36].copy_from_slice(&0x7c00u16.to_le_bytes());
    let g = load(&m.build()).unwrap();
    let e = check_tensors(&g, g.tensors()).unwrap_err();
    assert_eq!(e.problems().len(), 2, "{e}");
    assert!(e.problems().iter().all(|p| p.code == "NonFiniteTensor" && p.offset.is_some()));
}

#[test]
fn weights_that_are_no_numbers_end_a_run_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let nan: fn(&mut Model) = |m| m.tensor(T2).data = f32::NAN.to_le_bytes().repeat(EMBD as usize);
    // An infinite scale of a block that every token reads.
    let inf: fn(&mut Model) =
        |m| m.tensor("blk.1.ffn_up.weight").data[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    for (number, tensor, damage) in [("79", T2, nan), ("80", "blk.1.ffn_up.weight", inf)] {
        let path = dir.path().join(format!("{number}.gguf"));
        let mut m = Model::base();
        damage(&mut m);
        std::fs::write(&path, m.build()).unwrap();
        let file = path.to_str().unwrap();
        assert_eq!(quipu(&["inspect", file]).code, Some(0), "{number}: the file is sound");
        let arguments = ["run", "-m", file, "-p", "x", "-n", "4", "--temp", "0"];
        let computed = quipu(&arguments);
        assert_eq!((computed.code, computed.stdout.as_str()), (Some(1), ""), "{number}: {}", computed.stderr);
        assert!(computed.stderr.contains("[NonFiniteLogits]"), "{number}: {}", computed.stderr);
        let checked = quipu(&[&arguments[..], &["--check-tensors"]].concat());
        assert_eq!(checked.code, Some(3), "{number}: {}", checked.stderr);
        let line = format!("[NonFiniteTensor] tensor {tensor} at byte");
        assert!(checked.stderr.contains(&line), "{number}: {}", checked.stderr);
        let text = dir.path().join("text");
        std::fs::write(&text, "a text of some length, longer than eight").unwrap();
        for (verb, context) in [("score", "64"), ("perplexity", "8")] {
            let scored = quipu(&[verb, "-m", file, "-f", text.to_str().unwrap(), "-c", context]);
            assert_eq!(scored.code, Some(1), "{number}, {verb}: {}", scored.stderr);
            assert!(scored.stderr.contains("[NonFiniteLogits]"), "{number}, {verb}: {}", scored.stderr);
        }
    }
}
