//! `quipu run --record` and `quipu replay`: the same digest under other threads and instruction sets, and what is said
//! when the model, the numerics or the output is another.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{engine, file, nano, one_thread, tokens};
use common::process::quipu;
use quipu::backends::Isa;
use quipu::debug::replay::{RunRecord, Watch};
use quipu::engine::{EngineOptions, GenerateOptions, SamplerParams, StopReason};
use quipu::loader::Bytes;
use quipu::quant::DType;
use serde_json::{Value, json};

fn record(model: &Bytes, options: &GenerateOptions, stop: StopReason) -> RunRecord {
    let mut engine = engine(model, one_thread());
    let mut session = engine.new_session().unwrap();
    let mut pieces = engine.generate_from(&mut session, tokens(9, 3), options).unwrap();
    let mut watch = Watch::default();
    while let Some(piece) = pieces.next() {
        piece.unwrap();
        watch.see(&pieces);
    }
    watch.see(&pieces);
    assert_eq!(pieces.stop_reason(), Some(stop));
    let record = RunRecord::new("m.gguf", &pieces, options, watch);
    // What a file would hold is what was recorded.
    let json = serde_json::to_vec(&record).unwrap();
    let read = RunRecord::from_json(&json, "record").unwrap();
    assert_eq!(read, record);
    read
}

fn sampled(n: i64) -> GenerateOptions {
    let logit_bias = vec![(5, f32::NEG_INFINITY), (7, 0.1)];
    let sampler = SamplerParams { logit_bias, ignore_eos: true, ..SamplerParams::default() };
    GenerateOptions { max_tokens: n, sampler, ..GenerateOptions::default() }
}

fn changed(replay: &quipu::debug::replay::Replay) -> Vec<&'static str> {
    replay.conditions.iter().filter(|c| !c.same).map(|c| c.name).collect()
}

#[test]
fn threads_and_instruction_sets_replay_to_the_same_digest_and_are_named() {
    let model = file(&nano(), DType::Q8_0);
    let record = record(&model, &sampled(20), StopReason::Length);
    assert_eq!((record.outcome.ids.len(), record.outcome.logits.len()), (20, 20));
    assert!(record.sampler.seed.is_some(), "the seed that was found is the one to draw with again");
    let options = record.engine_options().unwrap();
    let replay = record.replay(&mut engine(&model, options.clone())).unwrap();
    assert!(replay.same_output && replay.first.is_none() && changed(&replay).is_empty(), "{replay:?}");
    for isa in Isa::ALL.into_iter().filter(|i| i.available() && *i != record.conditions.isa) {
        let mut other = engine(&model, EngineOptions { threads: Some(3), isa: Some(isa), ..options.clone() });
        let replay = record.replay(&mut other).unwrap();
        assert!(replay.same_output, "{isa}");
        assert_eq!(changed(&replay), ["prefill plan", "decode plan", "instruction set", "threads"]);
    }
}

#[test]
fn runs_end_in_a_replay_as_they_ended() {
    let model = file(&nano(), DType::F32);
    let eos = engine(&model, one_thread()).tokenizer().vocab().eog()[0];
    let ended = GenerateOptions {
        sampler: SamplerParams { logit_bias: vec![(eos, 1e6)], ..SamplerParams::default() },
        ..GenerateOptions::default()
    };
    let run = record(&model, &ended, StopReason::Eos);
    assert_eq!(run.outcome.ids, [eos], "a token that ends the text was chosen from logits too");
    assert!(run.replay(&mut engine(&model, run.engine_options().unwrap())).unwrap().same_output);
    let mut twice = run.clone();
    twice.outcome.ids.push(eos);
    twice.outcome.logits.push("0123456789abcdef".into());
    twice.outcome.sha256 = "0".repeat(64);
    let replay = twice.replay(&mut engine(&model, one_thread())).unwrap();
    let first = replay.first.unwrap();
    assert_eq!((first.token, first.recorded, first.here, first.logits), (1, Some(eos), None, false));
}

#[test]
fn another_model_is_named_with_the_first_token() {
    let model = file(&nano(), DType::F32);
    let record = record(&model, &sampled(12), StopReason::Length);
    let mut bytes = model.to_vec();
    let gguf = quipu::loader::Gguf::parse(model.clone(), &Default::default()).unwrap();
    let gate = gguf.data(gguf.tensor("blk.1.ffn_gate.weight").unwrap()).unwrap();
    bytes[gate.as_ptr().addr() - gguf.bytes().as_ptr().addr() + 2] ^= 1;
    let other = Bytes::from(bytes);
    let replay = record.replay(&mut engine(&other, record.engine_options().unwrap())).unwrap();
    assert!(!replay.same_output);
    assert_eq!(changed(&replay), ["model"]);
    let first = replay.first.unwrap();
    assert!(first.token == 0 && first.logits, "{first:?}");
}

#[test]
fn another_choice_from_the_same_logits_is_told_from_other_logits() {
    let model = file(&nano(), DType::F32);
    let mut record = record(&model, &sampled(12), StopReason::Length);
    record.conditions.numerics += 1;
    let options = record.engine_options().unwrap();
    let replay = record.replay(&mut engine(&model, options.clone())).unwrap();
    assert!(replay.same_output && changed(&replay) == ["numerics"]);
    record.sampler.seed = record.sampler.seed.map(|s| s ^ 1);
    let replay = record.replay(&mut engine(&model, options)).unwrap();
    let first = replay.first.unwrap();
    assert!(!replay.same_output && !first.logits && first.here != first.recorded, "{first:?}");
}

#[test]
fn files_that_are_no_records_are_refused() {
    let model = file(&nano(), DType::F32);
    let good = serde_json::to_value(record(&model, &sampled(4), StopReason::Length)).unwrap();
    let edit = |at: &str, v: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = v;
        bad.to_string()
    };
    for (text, part) in [
        (String::new(), "EOF"),
        ("[]".into(), "expected struct"),
        (edit("/format", json!(9)), "format 9"),
        (edit("/conditions/isa", json!("sse")), "sse"),
        (edit("/options/type_k", json!("Q9")), "Q9"),
        (edit("/outcome/ids", json!([1])), "1 ids of 4 rows"),
        (edit("/prompt/0", json!(-1)), "-1"),
        ("[".repeat(5000), "expected u32"),
    ] {
        let e = RunRecord::from_json(text.as_bytes(), "r\n").unwrap_err();
        assert_eq!((e.code(), e.class().exit_code()), ("BadRecord", 4));
        assert!(e.to_string().contains(part) && !e.to_string().contains('\n'), "{e}");
    }
    // Values that are none only for this model, or out of range, are errors of the run.
    for (at, value, code) in [
        ("/prompt/0", json!(60000), "TokenIdOutOfRange"),
        ("/options/n_ubatch", json!(0), "OutOfRange"),
        ("/options/no_fuse", json!(["nothing"]), "UnknownRule"),
        ("/sampler/top_p", json!(7.0), "OutOfRange"),
    ] {
        let record = RunRecord::from_json(edit(at, value).as_bytes(), "r").unwrap();
        let e = record.engine_options().and_then(|o| {
            let gguf = quipu::loader::Gguf::parse(model.clone(), &Default::default())?;
            record.replay(&mut quipu::engine::Engine::from_gguf(gguf, o)?)
        });
        assert_eq!(e.unwrap_err().code(), code, "{at}");
    }
}

#[test]
fn the_commands_record_and_replay() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (model, run) = (path("m.gguf"), path("run.json"));
    std::fs::write(&model, &file(&nano(), DType::Q8_0)[..]).unwrap();
    let made =
        quipu(&["run", "-m", &model, "-p", "Once upon", "-n", "9", "--record", &run, "--no-fuse=gate_up"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let again = quipu(&["replay", &run]);
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert!(again.stdout.lines().all(|l| l.contains(" same ")), "{}", again.stdout);
    assert_eq!(again.stdout.lines().count(), 9, "{}", again.stdout);
    let scalar = quipu(&["replay", &run, "--isa", "scalar", "-t", "2", "--json"]);
    assert_eq!(scalar.code, Some(0), "{}", scalar.stderr);
    let v: Value = serde_json::from_str(&scalar.stdout).unwrap();
    assert_eq!((&v["same_output"], &v["conditions"][0]["same"]), (&json!(true), &json!(true)));

    let mut text = std::fs::read_to_string(&run).unwrap();
    let at = text.find("\"seed\": ").unwrap() + 8;
    text.replace_range(at..at + 1, if &text[at..at + 1] == "1" { "2" } else { "1" });
    let edited = path("edited.json");
    std::fs::write(&edited, text).unwrap();
    let other = quipu(&["replay", &edited]);
    assert_eq!(other.code, Some(1), "{}{}", other.stdout, other.stderr);
    assert!(other.stdout.contains("first difference: generated token "), "{}", other.stdout);
    assert!(other.stderr.contains("under the same conditions"), "{}", other.stderr);
    let gone = quipu(&["replay", &run, "-m", &path("none.gguf")]);
    assert_eq!(gone.code, Some(3), "{}", gone.stderr);
    assert_eq!(quipu(&["replay", &model]).code, Some(4));
    assert_eq!(quipu(&["replay", &path("none.json")]).code, Some(2));
}
