//! `quipu bench` from outside.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// One model for all tests.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-nano.gguf");
    let made = quipu(&["synth", "--shape", "nano-llama", "--type", "f32", "--seed", "1", text(&path)]);
    assert!(made.status.success(), "{}", stderr(&made));
    path
});

fn model() -> &'static str {
    text(&MODEL)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The binary without the caller's variables.
fn quipu_with(env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut c = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("QUIPU_")) {
        c.env_remove(name);
    }
    c.args(args).envs(env.iter().copied()).output().unwrap()
}

fn quipu(args: &[&str]) -> Output {
    quipu_with(&[], args)
}

fn stdout(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned()
}

fn stderr(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

fn json(o: &Output) -> Value {
    assert!(o.status.success(), "{}", stderr(o));
    serde_json::from_slice(&o.stdout).unwrap()
}

#[test]
fn a_bench_counts_and_measures() {
    let env = [("QUIPU_BENCH_N_GEN", "3"), ("QUIPU_N_GEN", "100"), ("QUIPU_ISA", "scalar")];
    let args = ["bench", "-m", model(), "-p", "5", "-r", "2", "-t", "1", "--json"];
    let o = json(&quipu_with(&env, &args));
    assert_eq!((&o["prompt"]["tokens"], &o["generation"]["tokens"]), (&5.into(), &3.into()));
    for kind in ["prompt", "generation"] {
        let at = |what: &str| o[kind][what].as_f64().unwrap();
        assert!(at("min") > 0.0 && at("min") <= at("median") && at("median") <= at("max"), "{kind}");
        assert_eq!(o[kind]["samples"].as_array().unwrap().len(), 2);
    }
    assert_eq!(o["model"]["isa"], "scalar");
    assert!(o["read"]["bytes_per_second"].as_f64().unwrap() > 1e8);
    assert!(o["weight_bytes_per_token"].as_u64().unwrap() > 100_000);
    assert!(o["generation_percent_of_read"].as_f64().unwrap() > 0.0);
    assert!(o["generation_percent_of_reads_around"].as_f64().unwrap() > 0.0);
    // A measurement is one slice or more, and what slices took is what it took.
    let slices = o["generation"]["slices"].as_array().unwrap();
    let sum = |what: &str| slices.iter().map(|s| s[what].as_f64().unwrap()).sum::<f64>();
    assert!(slices.len() >= 2 && slices.iter().all(|s| s["reads"][1].as_f64().unwrap() > 1e8));
    let samples = o["generation"]["samples"].as_array().unwrap().iter().map(|s| 3.0 / s.as_f64().unwrap());
    assert_eq!(sum("tokens"), 6.0);
    assert!((sum("seconds") / samples.sum::<f64>() - 1.0).abs() < 1e-6);
}

#[test]
fn a_bench_of_several_sequences_behind_a_filled_cache() {
    let bench = |more: &[&str]| {
        let fixed = ["bench", "-m", model(), "-p", "5", "-n", "4", "-r", "1", "-t", "1", "--no-read-rate"];
        quipu(&[&fixed[..], more].concat())
    };
    let plain = json(&bench(&["--json"]));
    let o = json(&bench(&["-d", "20", "-np", "3", "--json"]));
    for kind in ["prompt", "generation"] {
        assert_eq!((&plain[kind]["depth"], &plain[kind]["sequences"]), (&0.into(), &1.into()));
        assert_eq!((&o[kind]["depth"], &o[kind]["sequences"]), (&20.into(), &3.into()));
        let of = |what: &str| o[kind][what].as_f64().unwrap();
        assert!((of("per_sequence") * 3.0 - of("median")).abs() < 1e-6 * of("median"), "{kind}");
    }
    // Four tokens read two cells on average; behind twenty they read those too. Three sequences share the weights.
    let of = |o: &Value, what: &str| o[what].as_u64().unwrap();
    assert_eq!(of(&o, "cache_bytes_per_token"), of(&plain, "cache_bytes_per_token") * 11);
    // Each has an embedding of its own.
    let of_step = of(&plain, "weight_bytes_per_token") + 2 * 64 * 4;
    assert_eq!(of(&o, "weight_bytes_per_token"), of_step / 3);
    assert_eq!(of(&o, "weight_bytes"), of(&plain, "weight_bytes"));
    assert_eq!((&o["model"]["context"], &o["read"]), (&25.into(), &Value::Null));
    let shown = stdout(&bench(&["-d", "20", "--parallel", "3"]));
    assert!(shown.contains("3 sequences") && shown.contains("behind 20"), "{shown}");
}

#[test]
fn a_bench_beside_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("before.json");
    let bench = |more: &[&str]| {
        let fixed = ["bench", "-m", model(), "-p", "0", "-n", "2", "-r", "1", "--no-read-rate"];
        quipu(&[&fixed[..], more].concat())
    };
    std::fs::write(&before, bench(&["-t", "1", "--json"]).stdout).unwrap();
    let o = json(&bench(&["-t", "1", "--json", "--vs", text(&before)]));
    assert_eq!(o["vs"]["differences"], serde_json::json!([]));
    let (ratio, old) = (&o["vs"]["ratios"][0], &o["vs"]["ratios"][0]["before"]);
    assert_eq!((&ratio["row"], o["vs"]["ratios"].as_array().unwrap().len()), (&"generation".into(), 1));
    let want = o["generation"]["median"].as_f64().unwrap() / old.as_f64().unwrap();
    assert!((ratio["ratio"].as_f64().unwrap() - want).abs() < 1e-9 * want);
    let shown =
        stdout(&bench(&["-t", "2", "-d", "3", "--isa", "scalar", "-ctk", "f32", "--vs", text(&before)]));
    for part in
        ["threads: 1 before, 2 now", "depth of the generation: 0 before, 3 now", "instruction set", "keys"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    std::fs::write(&before, "{}").unwrap();
    let refused = bench(&["--vs", text(&before)]);
    assert!(stderr(&refused).contains("[BadBench]"), "{}", stderr(&refused));
    assert_eq!((refused.status.code(), bench(&["--vs", "no/such/file"]).status.code()), (Some(4), Some(2)));
}
