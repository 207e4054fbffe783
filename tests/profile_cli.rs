//! `quipu profile` from outside: text, JSON, and a trace file.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // not every test takes the time
#[path = "common/process.rs"]
mod process;

use process::quipu;
use serde_json::Value;

#[test]
fn a_profile_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let (model, trace) = (dir.path().join("model.gguf"), dir.path().join("trace.json"));
    let (m, t) = (model.to_str().unwrap(), trace.to_str().unwrap());
    assert_eq!(quipu(&["synth", "--shape", "nano-llama", "--type", "q8_0", m]).code, Some(0));
    let text = quipu(&["profile", "-m", m, "-p", "Once upon a time", "-n", "5", "-t", "2"]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    for part in [
        "prefill:",
        "decode: 4 passes",
        "linear_swiglu",
        "l_out-1",
        "cpu.",
        "thread",
        "of commands and meetings",
    ] {
        assert!(text.stdout.contains(part), "{part} in {}", text.stdout);
    }
    // Without a prompt, arbitrary tokens that leave room for what is generated.
    let o = quipu(&["profile", "-m", m, "-n", "9", "--json", "--trace-file", t]);
    assert_eq!(o.code, Some(0), "{}", o.stderr);
    let report: Value = serde_json::from_str(&o.stdout).unwrap();
    let passes = |i: usize| (report["plans"][i]["phase"].clone(), report["plans"][i]["passes"].as_u64());
    assert_eq!(passes(0), ("decode".into(), Some(8)));
    assert_eq!((passes(1), &report["plans"][1]["rows"]), (("prefill".into(), Some(1)), &119.into()));
    assert!(report["command_seconds"].as_f64() <= report["wall_seconds"].as_f64());
    let events: Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let passes = events["traceEvents"].as_array().unwrap().iter().filter(|e| e["cat"] == "pass").count();
    assert_eq!(passes, 9);
}
