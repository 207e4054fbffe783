//! An architecture from outside the crate: declared, written to a file, loaded, planned, traced and run.
//!
//! `cargo run --example custom_arch [MODEL.gguf]` writes a model of random weights, registers the architecture, prints
//! its plan and some text. `tests/custom_arch.rs` runs it too, and holds CONTRIBUTING.md to the code below.

use quipu::engine::{Engine, EngineOptions, GenerateOptions, Trace, TraceOptions};
use quipu::graph::GraphBuilder;
use quipu::loader::write::GgufWriter;
use quipu::models::{Architecture, Hparams, blocks, rope};
use quipu::ops::rope::Pairing;
use quipu::plan::report::text;
use quipu::plan::{FuseOptions, Phase};
use quipu::quant::DType;
use quipu::{Error, Problem};
use std::path::{Path, PathBuf};

// recipe
/// Attention and feed-forward side by side, as in GPT-NeoX, each behind a norm of its own:
/// `x + attention(norm(x)) + ffn(norm(x))`.
pub const PARALLEL: Architecture = Architecture { name: "parallel", refuse, build };

/// One problem for every key of the file that asks for what the graph below does not do.
fn refuse(hp: &Hparams) -> Vec<Problem> {
    blocks::refuse_except(hp, &["use_parallel_residual"])
}

fn build(g: &mut GraphBuilder<'_>, hp: &Hparams) {
    let mut x = g.embed("embd", "token_embd", hp.n_vocab, hp.n_embd); // [T, n_embd]
    let rope = rope::table(g, hp); // [T, n_rot]
    for il in 0..hp.n_layer {
        g.layer(il);
        let cur = g.rms_norm("attn_norm", x, "attn_norm", hp.rms_eps);
        let [q, k, v] = blocks::qkv(g, cur, hp);
        let q = g.rope("Qcur", q, rope, Pairing::HalfSplit, hp.head_dim_k);
        let k = g.rope("Kcur", k, rope, Pairing::HalfSplit, hp.head_dim_k);
        let cur = g.attention("kqv_out", q, k, v, blocks::heads(hp));
        let attn = blocks::linear(g, "attn_out", cur, "attn_output", hp.n_embd);

        let cur = g.rms_norm("ffn_norm", x, "ffn_norm", hp.rms_eps);
        let ffn = blocks::swiglu_ffn(g, cur, hp);
        let both = g.add("attn_ffn", attn, ffn);
        x = g.add("l_out", both, x);
    }
    g.end_layers();
    blocks::output_head(g, x, hp);
}
// end of the recipe

const N_EMBD: u32 = 64;
const N_FF: u32 = 96;
const N_LAYER: u32 = 2;
const N_HEAD: u32 = 4;
/// A quarter of a head is rotated.
const N_ROT: u32 = 4;

fn main() -> Result<(), Error> {
    let path = match std::env::args().nth(1) {
        Some(path) => PathBuf::from(path),
        None => std::env::temp_dir().join(format!("quipu-parallel-{}.gguf", std::process::id())),
    };
    write_model(&path)?;
    let shown = show(&path);
    if std::env::args().len() == 1 {
        let _ = std::fs::remove_file(&path);
    }
    print!("{}", shown?);
    Ok(())
}

/// Loads the model, and returns its plan and a text; an error if anything is not as it should be.
pub fn show(path: &Path) -> Result<String, Error> {
    // The crate alone does not know it, and says so.
    let unknown = Engine::load(path, EngineOptions::default()).err();
    check(unknown.is_some_and(|e| e.code() == "UnsupportedArch"), "an unknown architecture is refused")?;

    let options = |fuse| EngineOptions {
        architectures: vec![PARALLEL],
        threads: Some(1),
        n_outputs: 64,
        fuse,
        ..EngineOptions::default()
    };
    let mut fused = Engine::load(path, options(FuseOptions::default()))?;
    let mut plain = Engine::load(path, options(FuseOptions::none()))?;

    // Every value of a run by name. Each block adds its two branches and what went in.
    let tokens: Vec<u32> = "quipu".bytes().map(|b| u32::from(b) + 3).collect();
    let trace = plain.trace(&tokens, &TraceOptions::default())?;
    for il in 0..N_LAYER {
        let input = if il == 0 { "embd".to_string() } else { format!("l_out-{}", il - 1) };
        let branches = values(&trace, &format!("attn_out-{il}"))?;
        let branches = branches.iter().zip(values(&trace, &format!("ffn_out-{il}"))?).map(|(a, f)| a + f);
        let sum = branches.zip(values(&trace, &input)?).map(|(b, x)| b + x);
        check(
            sum.eq(values(&trace, &format!("l_out-{il}"))?.iter().copied()),
            "a block is the sum of its parts",
        )?;
    }

    // Fused or not, the same bits.
    let again = fused.trace(&tokens, &TraceOptions::default())?;
    check(
        values(&again, "result_output")? == values(&trace, "result_output")?,
        "fused and unfused logits are the same",
    )?;

    let plan = fused.plan(Phase::Decode).map(text::print).unwrap_or_default();
    let mut session = fused.new_session()?;
    let greedy = GenerateOptions { max_tokens: 16, ..GenerateOptions::greedy() };
    let mut said = String::new();
    for piece in fused.generate(&mut session, "quipu", &greedy)? {
        said.push_str(piece?.as_str());
    }
    check(session.len() > 5, "tokens are generated")?;
    Ok(format!("{plan}\nquipu {}\n", said.escape_debug()))
}

fn values<'a>(trace: &'a Trace, name: &str) -> Result<&'a [f32], Error> {
    let value = trace.find(name).map(|v| &v.data[..]);
    value.ok_or_else(|| Error::runtime(Problem::new("NoValue", format!("value {name}"))))
}

fn check(holds: bool, what: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::runtime(Problem::new("CheckFailed", what))) }
}

/// Writes a model of random weights with a vocabulary of bytes.
pub fn write_model(path: &Path) -> Result<(), Error> {
    let mut w = GgufWriter::new();
    w.str("general.architecture", PARALLEL.name);
    let mut key = |suffix: &str, n: u32| {
        w.u32(&format!("{}.{suffix}", PARALLEL.name), n);
    };
    key("context_length", 128);
    key("embedding_length", N_EMBD);
    key("block_count", N_LAYER);
    key("feed_forward_length", N_FF);
    key("attention.head_count", N_HEAD);
    key("rope.dimension_count", N_ROT);
    w.f32("parallel.attention.layer_norm_rms_epsilon", 1e-5);
    w.bool("parallel.use_parallel_residual", true);
    let names: Vec<String> = ["<unk>", "<s>", "</s>"]
        .map(String::from)
        .into_iter()
        .chain((0..256).map(|b| format!("<0x{b:02X}>")))
        .collect();
    let kinds = [2, 3, 3].into_iter().chain(std::iter::repeat_n(6, 256));
    w.str("tokenizer.ggml.model", "llama");
    w.strs("tokenizer.ggml.tokens", &names.iter().map(String::as_str).collect::<Vec<_>>());
    w.f32s("tokenizer.ggml.scores", &[0.0; 259]);
    w.i32s("tokenizer.ggml.token_type", &kinds.collect::<Vec<i32>>());
    w.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);

    let (d, ff, vocab) = (u64::from(N_EMBD), u64::from(N_FF), names.len() as u64);
    let mut tensors = vec![("token_embd".to_string(), vec![d, vocab])];
    for il in 0..N_LAYER {
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{il}.{name}"), vec![d]));
        }
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            tensors.push((format!("blk.{il}.{name}"), vec![d, d]));
        }
        for (name, dims) in [("ffn_gate", [d, ff]), ("ffn_up", [d, ff]), ("ffn_down", [ff, d])] {
            tensors.push((format!("blk.{il}.{name}"), dims.to_vec()));
        }
    }
    tensors.push(("output_norm".to_string(), vec![d]));
    let io = |e: std::io::Error| {
        Error::runtime(Problem::new("Io", path.display().to_string()).found(e.to_string()))
    };
    for (name, dims) in &tensors {
        w.tensor(&format!("{name}.weight"), DType::F32, dims).map_err(io)?;
    }
    let mut data = w.begin(std::fs::File::create(path).map_err(io)?).map_err(io)?;
    let mut state = 1u32;
    for (_, dims) in &tensors {
        let (mean, spread) = if dims.len() == 1 { (1.0, 0.1) } else { (0.0, 2.0 / (dims[0] as f32).sqrt()) };
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            mean + spread * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        let bytes: Vec<u8> = (0..dims.iter().product::<u64>()).flat_map(|_| next().to_le_bytes()).collect();
        data.write(&bytes).map_err(io)?;
    }
    data.finish().map_err(io)?;
    Ok(())
}
