//! Scores: against logits and f64 arithmetic, against what generation reports, bit for bit in every condition; and
//! perplexity against its definition.
// The standard library's exp and ln are the oracle.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use common::engines::{engine, file, nano, odd, one_thread, tokens};
use common::process::quipu;
use quipu::backends::Isa;
use quipu::engine::{
    Engine, EngineOptions, GenerateOptions, Logits, Perplexity, PerplexityOptions, SamplerParams,
    ScoreOptions, StepInput, TokenScore,
};
use quipu::loader::synth::Shape;
use quipu::plan::FuseOptions;
use quipu::quant::DType;
use std::path::PathBuf;

fn scored(e: &mut Engine, text: &[u32], top: usize) -> Vec<TokenScore> {
    let mut session = e.new_session().unwrap();
    let mut out = Vec::new();
    let options = ScoreOptions { top, cancel: None };
    assert!(e.score(&mut session, text, &options, &mut |s| out.push(s.clone())).unwrap());
    assert_eq!(session.tokens(), &text[..text.len() - 1]);
    out
}

/// Id, log-probability, rank, and the most likely tokens, as bits.
type Bits = (u32, u64, u32, Vec<(u32, u64)>);

fn bits(scores: &[TokenScore]) -> Vec<Bits> {
    let top = |s: &TokenScore| s.top.iter().map(|t| (t.id, t.logprob.to_bits())).collect();
    scores.iter().map(|s| (s.id, s.logprob.to_bits(), s.rank, top(s))).collect()
}

/// Every row of logits of a text.
fn logits(e: &mut Engine, text: &[u32]) -> Vec<Vec<f32>> {
    let mut session = e.new_session().unwrap();
    let row = |t: &u32| {
        e.step(&mut [StepInput { session: &mut session, tokens: &[*t], logits: Logits::Last }]).unwrap();
        e.logits(0).unwrap().to_vec()
    };
    text.iter().map(row).collect()
}

/// `ln softmax(logits)[id]` as a textbook has it, in f64.
fn textbook(logits: &[f32], id: u32) -> f64 {
    let max = logits.iter().fold(f64::MIN, |m, l| m.max(f64::from(*l)));
    let sum = logits.iter().map(|l| (f64::from(*l) - max).exp()).sum::<f64>().ln();
    f64::from(logits[id as usize]) - max - sum
}

#[test]
fn scores_are_the_logarithm_of_the_softmax_of_the_logits() {
    for t in [DType::F32, DType::Q8_0] {
        let mut e = engine(&file(&nano(), t), one_thread());
        let text = tokens(70, 3);
        let rows = logits(&mut e, &text);
        let scores = scored(&mut e, &text, 5);
        assert_eq!(scores.len(), text.len() - 1);
        for (i, s) in scores.iter().enumerate() {
            assert_eq!(s.id, text[i + 1]);
            let want = textbook(&rows[i], s.id);
            assert!((s.logprob - want).abs() < 1e-6, "{t}, token {i}: {} and {want}", s.logprob);
            let mut order: Vec<u32> = (0..rows[i].len() as u32).collect();
            order.sort_by(|a, b| rows[i][*b as usize].total_cmp(&rows[i][*a as usize]).then(a.cmp(b)));
            assert_eq!(order[s.rank as usize - 1], s.id);
            assert_eq!(s.top.iter().map(|t| t.id).collect::<Vec<_>>(), order[..5]);
            for t in &s.top {
                assert!((t.logprob - textbook(&rows[i], t.id)).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn scores_are_those_of_generation_bit_for_bit_in_every_condition() {
    for (shape, t) in [(nano(), DType::Q8_0), (odd(), DType::F32)] {
        let file = file(&shape, t);
        let prompt = tokens(9, 1);
        let mut want = None;
        let options = |o: EngineOptions| EngineOptions { n_ctx: Some(128), ..o };
        let base = options(one_thread());
        let conditions = [
            base.clone(),
            EngineOptions { threads: Some(3), n_ubatch: 7, n_outputs: 64, ..base.clone() },
            EngineOptions { threads: Some(2), isa: Some(Isa::Scalar), n_outputs: 5, ..base.clone() },
            EngineOptions { isa: Isa::ALL.into_iter().rfind(|i| i.available()), n_ubatch: 1, ..base.clone() },
            EngineOptions { isa: Some(Isa::Avx2).filter(|i| i.available()), n_outputs: 1, ..base.clone() },
            EngineOptions { fuse: FuseOptions::none(), n_ubatch: 33, n_outputs: 33, ..base.clone() },
        ];
        for (c, condition) in conditions.into_iter().enumerate() {
            let mut e = engine(&file, condition);
            let (text, generated) = generated(&mut e, &prompt);
            let scores = scored(&mut e, &text, 3);
            let behind = &scores[prompt.len() - 1..];
            assert_eq!(bits(behind), bits(&generated), "{t}, condition {c}");
            let all = bits(&scores);
            let want = want.get_or_insert_with(|| all.clone());
            assert_eq!(*want, all, "{t}, condition {c} and the first");
        }
    }
}

/// 50 greedy tokens behind a prompt: all tokens, and the scores of the 50.
fn generated(e: &mut Engine, prompt: &[u32]) -> (Vec<u32>, Vec<TokenScore>) {
    let sampler = SamplerParams { ignore_eos: true, ..SamplerParams::greedy() };
    let options = GenerateOptions { max_tokens: 50, sampler, logprobs: Some(3), ..Default::default() };
    let mut session = e.new_session().unwrap();
    let mut g = e.generate_from(&mut session, prompt.to_vec(), &options).unwrap();
    assert!(g.score().is_none());
    let mut scores: Vec<TokenScore> = Vec::new();
    while let Some(piece) = g.next() {
        let piece = piece.unwrap();
        if g.timings().generated_tokens > scores.len() as u64 {
            scores.push(g.score().unwrap().clone());
            assert_eq!(scores.last().unwrap().id, piece.id);
        }
    }
    assert_eq!(scores.len(), 50);
    // A greedy token is the first but where an end of text was passed over.
    assert!(scores.iter().all(|s| s.rank <= 4));
    let text = prompt.iter().copied().chain(scores.iter().map(|s| s.id)).collect();
    (text, scores)
}

fn perplexity(e: &mut Engine, text: &[u32], n_ctx: u32, n_seq: u32) -> (Perplexity, Vec<Perplexity>) {
    let options = PerplexityOptions { n_ctx, chunks: None, n_seq, cancel: None };
    let mut each = Vec::new();
    let last = e.perplexity(text, &options, &mut |f| each.push(*f)).unwrap().unwrap();
    assert_eq!(each.last(), Some(&last));
    (last, each)
}

#[test]
fn perplexity_is_what_its_definition_says() {
    let file = file(&nano(), DType::F32);
    let text = tokens(5 * 32 + 7, 9);
    let mut e = engine(&file, EngineOptions { n_ctx: Some(32), ..one_thread() });
    let (got, each) = perplexity(&mut e, &text, 32, 1);
    let bos = e.tokenizer().vocab().role(quipu::text::Role::Bos).unwrap();
    let mut nll = Vec::new();
    for (i, chunk) in text.chunks_exact(32).enumerate() {
        let chunk = [&[bos], &chunk[1..]].concat();
        let rows = logits(&mut e, &chunk);
        nll.extend((16..31).map(|p| -textbook(&rows[p], chunk[p + 1])));
        let mean = nll.iter().sum::<f64>() / nll.len() as f64;
        assert!((each[i].ppl.ln() - mean).abs() < 1e-6, "chunk {i}: {} and {mean}", each[i].ppl.ln());
        assert_eq!((each[i].chunks, each[i].of, each[i].scored), (i + 1, 5, nll.len() as u64));
    }
    let n = nll.len() as f64;
    let mean = nll.iter().sum::<f64>() / n;
    let spread = nll.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let want = (spread / (n - 1.0)).sqrt() * mean.exp();
    assert!((got.error - want).abs() < 1e-5 * want, "{} and {want}", got.error);
    assert_eq!(each.len(), 5);
}

#[test]
fn the_figure_does_not_depend_on_how_it_is_measured() {
    for n_ctx in [32, 33] {
        let file = file(&Shape { n_ctx: 64, ..nano() }, DType::Q8_0);
        let text = tokens(7 * 33 + 5, 2);
        let base = EngineOptions { n_ctx: Some(n_ctx), ..one_thread() };
        let mut one = engine(&file, base.clone());
        let want = perplexity(&mut one, &text, n_ctx, 1);
        for (n_seq, n_ubatch, n_outputs) in [(4, 512, 64), (3, 7, 5), (16, 512, 8), (2, 1, 1)] {
            let mut e =
                engine(&file, EngineOptions { n_ubatch, n_outputs, threads: Some(2), ..base.clone() });
            assert_eq!(perplexity(&mut e, &text, n_ctx, n_seq), want, "{n_seq} {n_ubatch} {n_outputs}");
        }
        let options = PerplexityOptions { n_ctx, chunks: Some(2), n_seq: 4, cancel: None };
        let two = one.perplexity(&text, &options, &mut |_| {}).unwrap().unwrap();
        assert_eq!((two.chunks, two.of, two.ppl), (2, 2, want.1[1].ppl));
    }
}

#[test]
fn texts_that_cannot_be_scored_are_refused_with_the_counts() {
    let mut e = engine(&file(&nano(), DType::F32), EngineOptions { n_ctx: Some(32), ..one_thread() });
    let mut session = e.new_session().unwrap();
    let mut code = |text: &[u32]| {
        let err = e.score(&mut session, text, &ScoreOptions::default(), &mut |_| {}).unwrap_err();
        (err.code(), err.class().exit_code())
    };
    assert_eq!(code(&[]), ("TextTooShort", 4));
    assert_eq!(code(&[1]), ("TextTooShort", 4));
    assert_eq!(code(&tokens(34, 0)), ("PromptTooLong", 4));
    assert_eq!(code(&[1, 2, 1 << 30, 3]), ("TokenIdOutOfRange", 4));
    assert_eq!(scored(&mut e, &tokens(33, 0), 0).len(), 32, "the last token needs no cell");
    let mut ppl = |text: &[u32], n_ctx| {
        let options = PerplexityOptions { n_ctx, chunks: None, n_seq: 1, cancel: None };
        e.perplexity(text, &options, &mut |_| {}).unwrap_err()
    };
    let short = ppl(&tokens(63, 0), 32);
    assert_eq!((short.code(), short.class().exit_code()), ("TextTooShort", 4));
    assert!(short.to_string().contains("63 tokens") && short.to_string().contains("at least 64"), "{short}");
    assert_eq!(ppl(&tokens(64, 0), 3).code(), "OutOfRange");
    assert_eq!(ppl(&tokens(99, 0), 33).code(), "OutOfRange");
    let cancel = quipu::engine::CancelToken::new();
    cancel.cancel();
    let options = PerplexityOptions { n_ctx: 32, chunks: None, n_seq: 1, cancel: Some(cancel.clone()) };
    assert_eq!(e.perplexity(&tokens(64, 0), &options, &mut |_| {}).unwrap(), None);
    let mut session = e.new_session().unwrap();
    let options = ScoreOptions { top: 0, cancel: Some(cancel) };
    assert!(!e.score(&mut session, &[1, 5], &options, &mut |_| {}).unwrap());
}

struct Files {
    _dir: tempfile::TempDir,
    model: String,
    text: PathBuf,
}

fn files(text: &[u8]) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let (model, path) = (dir.path().join("m.gguf"), dir.path().join("text"));
    std::fs::write(&model, &file(&nano(), DType::F32)[..]).unwrap();
    std::fs::write(&path, text).unwrap();
    Files { model: model.to_str().unwrap().into(), text: path, _dir: dir }
}

#[test]
fn the_commands_agree_with_each_other() {
    let f = files(b"");
    let run = ["run", "-m", &f.model, "-p", "the cat", "-n", "12", "--temp", "0", "--ignore-eos"];
    let json = |arguments: &[&str]| {
        let got = quipu(arguments);
        assert_eq!(got.code, Some(0), "{}", got.stderr);
        serde_json::from_str::<serde_json::Value>(&got.stdout).unwrap()
    };
    let ran = json(&[&run[..], &["--json", "--logprobs", "2"]].concat());
    let logprobs = ran["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 12);
    for (row, id) in logprobs.iter().zip(ran["tokens"].as_array().unwrap()) {
        assert_eq!(row["id"], *id);
        assert_eq!(row["top"].as_array().unwrap().len(), 2);
    }
    assert!(json(&[&run[..], &["--json"]].concat())["logprobs"].is_null());
    // The first token again, by scoring the prompt and asking for alternatives.
    let s = json(&["score", "-m", &f.model, "-p", "the cat", "--top", "3", "--json"]);
    let rows = s["tokens"].as_array().unwrap();
    assert!(rows[0]["logprob"].is_null() && rows[0]["offset"] == 0, "BOS: {}", rows[0]);
    assert_eq!(s["summary"]["scored"].as_u64().unwrap() as usize, rows.len() - 1);
    let sum: f64 = rows.iter().filter_map(|r| r["logprob"].as_f64()).sum();
    assert_eq!(s["summary"]["logprob_sum"].as_f64().unwrap().to_bits(), sum.to_bits());
    let table = quipu(&["score", "-m", &f.model, "-p", "the cat"]);
    assert_eq!(table.stdout.lines().count(), rows.len() + 1, "{}", table.stdout);
    assert!(table.stderr.contains("perplexity"), "{}", table.stderr);
}

#[test]
fn offsets_are_those_of_the_text() {
    for text in ["the cat sat on the mat", " two  spaces", "a\u{e9}\u{4e2d}b", "x"] {
        let f = files(text.as_bytes());
        let got = quipu(&["score", "-m", &f.model, "-f", f.text.to_str().unwrap(), "--json"]);
        let json: serde_json::Value = serde_json::from_str(&got.stdout).unwrap();
        let rows = json["tokens"].as_array().unwrap();
        let mut at = 0;
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(row["offset"], at, "{text:?}: {row}");
            if i > 0 {
                let piece: Vec<u8> =
                    row["bytes"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8).collect();
                let piece = if i == 1 { piece.strip_prefix(b" ").unwrap().to_vec() } else { piece };
                assert!(text.as_bytes()[at..].starts_with(&piece), "{text:?}: {row}");
                at += piece.len();
            }
        }
        assert_eq!(at, text.len());
        assert_eq!(json["summary"]["bytes"], text.len());
    }
}

#[test]
fn any_bytes_are_a_text_and_none_are_too_short() {
    let bytes: Vec<u8> = (0..=255u8).cycle().skip(128).take(700).collect();
    let f = files(&bytes);
    let text = f.text.to_str().unwrap();
    let got = quipu(&["score", "-m", &f.model, "-f", text, "--no-escape", "--json"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    let json: serde_json::Value = serde_json::from_str(&got.stdout).unwrap();
    assert_eq!(json["summary"]["bytes"], 700);
    assert!(json["tokens"].as_array().unwrap().iter().all(|r| r["offset"].is_u64()));
    let got = quipu(&["perplexity", "-m", &f.model, "-f", text, "-c", "64"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    assert!(
        got.stdout.starts_with("Final estimate: PPL = ") && got.stdout.contains(" +/- "),
        "{}",
        got.stdout
    );
    assert!(got.stderr.contains("[1/") && got.stderr.contains("tok/s"), "{}", got.stderr);
    let plain = quipu(&["perplexity", "-m", &f.model, "-f", text, "-c", "64", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&plain.stdout).unwrap();
    let figure = format!("PPL = {:.4} +/-", json["ppl"].as_f64().unwrap());
    assert!(got.stdout.contains(&figure), "{figure} in {}", got.stdout);

    let empty = files(b"");
    let text = empty.text.to_str().unwrap();
    for (verb, expected) in [("score", "at least 2"), ("perplexity", "at least 1024")] {
        let got = quipu(&[verb, "-m", &empty.model, "-f", text]);
        assert_eq!(got.code, Some(4), "{}", got.stderr);
        assert!(got.stderr.contains("[TextTooShort]") && got.stderr.contains(expected), "{}", got.stderr);
    }
    let gone = quipu(&["perplexity", "-m", &empty.model, "-f", "/nonexistent/text"]);
    assert_eq!(gone.code, Some(4), "{}", gone.stderr);
}
