//! The command line from outside: exit codes, environment, pipes, JSON, and what each command prints.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// One model for all tests.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-nano.gguf");
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
fn command(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_quipu"));
    let ours = |name: &str| name.starts_with("QUIPU_") || name == "NO_COLOR" || name.starts_with("CLICOLOR");
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_str().is_some_and(ours)) {
        c.env_remove(name);
    }
    c.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    c
}

fn quipu(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn quipu_with(env: &[(&str, &str)], args: &[&str]) -> Output {
    command(args).envs(env.iter().copied()).output().unwrap()
}

fn piped(input: &str, args: &[&str]) -> Output {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// `run` on the model with a fixed prompt and no draws, then these flags.
fn run(more: &[&str]) -> Vec<&'static str> {
    let fixed = ["run", "-m", model(), "-p", "Once upon a time", "--temp", "0"];
    let more: Vec<&'static str> = more.iter().map(|s| &*s.to_string().leak()).collect();
    [&fixed[..], &more].concat()
}

fn stdout(o: &Output) -> String {
    String::from_utf8(o.stdout.clone()).unwrap()
}

fn stderr(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

fn json(o: &Output) -> Value {
    assert!(o.status.success(), "{}", stderr(o));
    serde_json::from_slice(&o.stdout).unwrap()
}

/// Exit code and standard error hold what they should, and there is nothing on standard output.
#[track_caller]
fn fails(o: &Output, code: i32, parts: &[&str]) {
    let err = stderr(o);
    assert_eq!(o.status.code(), Some(code), "{err}");
    for part in parts {
        assert!(err.contains(part), "{part:?} in {err}");
    }
    assert!(!err.contains("panicked") && o.stdout.is_empty(), "{err}");
}

#[test]
fn usage_errors_exit_2_and_name_what_is_near() {
    fails(&quipu(&[]), 2, &["Usage: quipu <COMMAND>", "inspect", "completions"]);
    fails(&quipu(&["run", "--modell", "x"]), 2, &["--modell", "'--model'"]);
    fails(&quipu(&["inspekt"]), 2, &["inspekt", "'inspect'"]);
    fails(&quipu(&run(&["--top-p", "2"])), 2, &["[OutOfRange] top_p", "found 2", "0 to 1"]);
    fails(&quipu(&run(&["-f", "x"])), 2, &["[TwoPrompts]"]);
    fails(&quipu(&run(&["-t", "999"])), 2, &["[OutOfRange] --threads"]);
    fails(&quipu(&run(&["--isa", "sse9"])), 2, &["sse9", "scalar, avx2, avx512"]);
    fails(&quipu(&run(&["--override-kv", "a=b"])), 2, &["[BadOverride]"]);
    fails(&quipu(&run(&["--no-fuse=nothing"])), 2, &["[UnknownRule]", "gate_up"]);
    fails(&quipu(&["synth", "--shape", "huge", "x"]), 2, &["[UnknownShape]", "nano-llama"]);
    fails(&quipu(&["synth", "--type", "q9", "x"]), 2, &["[UnknownType]", "q8_0"]);
    fails(&quipu(&["trace", "-m", model(), "-o", "x"]), 2, &["[NoPrompt]", "--tokens"]);
    fails(&quipu(&["detokenize", "-m", model(), "1,x"]), 2, &["[BadTokenId]"]);
}

#[test]
fn outputs_that_cannot_be_written_exit_1() {
    let missing = "no-such-folder/out";
    fails(&quipu(&["plan", "-m", model(), "-o", missing]), 1, &["[OutputNotWritable] no-such-folder/out"]);
    fails(&quipu(&["synth", missing]), 1, &["[OutputNotWritable]"]);
    let trace = ["trace", "-m", model(), "-p", "x", "-o", missing];
    fails(&quipu(&trace), 1, &["[OutputNotWritable]"]);
    if Path::new("/dev/full").exists() {
        for args in [&["inspect", model()][..], &["completions", "bash"], &run(&["-n", "1"])] {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let o = command(args).stdout(full).output().unwrap();
            fails(&o, 1, &["[OutputNotWritable] standard output"]);
        }
        fails(
            &quipu(&["synth", "--shape", "nano-llama", "/dev/full"]),
            1,
            &["[OutputNotWritable] /dev/full"],
        );
    }
}

#[test]
fn bad_models_exit_3_on_one_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad\n\u{1b}[31m.gguf");
    for path in [dir.path(), &dir.path().join("missing"), &bad] {
        if path == bad {
            std::fs::write(path, b"no model").unwrap();
        }
        for args in [&["run", "-p", "x", "-m"][..], &["inspect"], &["plan", "-m"], &["bench", "-m"]] {
            let o = quipu(&[args, &[text(path)]].concat());
            assert_eq!(o.status.code(), Some(3), "{args:?}: {}", stderr(&o));
            assert!(stderr(&o).lines().all(|l| l.starts_with("error: [")), "{}", stderr(&o));
        }
    }
}

#[test]
fn an_architecture_that_is_not_there_is_one_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.gguf");
    assert!(quipu(&["synth", "--shape", "tiny-llama", text(&path)]).status.success());
    // Another name of the same length, for the architecture and before its keys; SPM vocabularies keep theirs.
    let mut bytes = std::fs::read(&path).unwrap();
    let model_key = b"tokenizer.ggml.model".len() + 12;
    let at: Vec<usize> = (0..bytes.len() - 5).filter(|i| bytes[*i..].starts_with(b"llama")).collect();
    for i in at {
        let before = &bytes[i.saturating_sub(model_key)..i];
        if !before.starts_with(b"tokenizer.ggml.model") {
            bytes[i..i + 5].copy_from_slice(b"mamba");
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let seen = quipu(&["inspect", text(&path)]);
    assert_eq!(seen.status.code(), Some(3));
    let bad: Vec<String> = stdout(&seen).lines().filter(|l| l.contains(" BAD ")).map(str::to_owned).collect();
    assert!(bad.len() == 1 && bad[0].contains("architecture"), "{bad:?}");
    assert_eq!(stderr(&seen).lines().count(), 1, "{}", stderr(&seen));
    assert!(!quipu(&["tokenize", "-m", text(&path), "Hi"]).stdout.is_empty(), "its vocabulary is fine");
}

#[test]
fn bad_input_exits_4_with_counts() {
    let o = quipu(&run(&["-c", "4"]));
    fails(&o, 4, &["[PromptTooLong]", "tokens", "at most 4", "-c"]);
    fails(&quipu(&["run", "-m", model(), "-f", "no-such-file"]), 4, &["[InputNotReadable] no-such-file"]);
    fails(&quipu(&["detokenize", "-m", model(), "99999999"]), 4, &["[TokenIdOutOfRange]"]);
    fails(&quipu(&["trace", "-m", model(), "--tokens", "384", "-o", "x"]), 4, &["[TokenIdOutOfRange]"]);
}

#[test]
fn too_little_memory_exits_5() {
    fails(
        &quipu(&run(&["-c", "2147483647", "-ctk", "f32", "-ctv", "f32"])),
        5,
        &["[InsufficientMemory]", "-c"],
    );
}

#[test]
fn text_alone_goes_to_standard_output() {
    let plain = quipu(&run(&["-n", "12"]));
    let object = json(&quipu(&run(&["-n", "12", "--json"])));
    assert_eq!(object["text"], stdout(&plain));
    assert!(!stdout(&plain).is_empty() && plain.status.success());
    let echoed = quipu(&run(&["-n", "12", "--echo"]));
    assert_eq!(stdout(&echoed), format!("Once upon a time{}", stdout(&plain)));
    for part in ["load", "prompt", "tok/s", "generated", "first token", "context 128 (the model's)", "seed"] {
        assert!(stderr(&plain).contains(part), "{part} in {}", stderr(&plain));
    }
    // The same text whatever the threads, chunks, cache of the file and fusion.
    for more in [
        &["-t", "1"][..],
        &["-t", "3"],
        &["-ub", "1"],
        &["--ubatch-size", "3"],
        &["--load-mode", "mmap"],
        &["-lm", "read"],
        &["--no-fuse"],
        &["--no-fuse=qkv,add_norm"],
        &["--isa", "scalar"],
        &["--check-tensors"],
    ] {
        let o = quipu(&[&run(&["-n", "12"])[..], more].concat());
        assert_eq!(stdout(&o), stdout(&plain), "{more:?}: {}", stderr(&o));
    }
}

#[test]
fn the_json_of_a_run_holds_what_happened() {
    let o = json(&quipu(&run(&["-n", "7", "--json", "--ignore-eos"])));
    assert_eq!((&o["stop_reason"], o["tokens"].as_array().unwrap().len()), (&"length".into(), 7));
    let t = &o["timings"];
    assert_eq!((&t["generated_tokens"], &o["prompt"]), (&7.into(), &"Once upon a time".into()));
    for time in ["load_ms", "prompt_ms", "generated_ms", "time_to_first_token_ms"] {
        assert!(t[time].as_f64().unwrap() > 0.0, "{time}");
    }
    assert_eq!((&o["model"]["architecture"], &o["model"]["context"]), (&"llama".into(), &128.into()));
    // The seed that was found gives the same text again.
    let drawn = ["run", "-m", model(), "-p", "Once", "-n", "9", "--json", "--temp", "2"];
    let first = json(&quipu(&drawn));
    let seed = first["seed"].to_string();
    let again = json(&quipu(&[&drawn[..], &["-s", &seed]].concat()));
    assert_eq!((&first["tokens"], &again["seed"]), (&again["tokens"], &first["seed"]));
    // A full context ends with length.
    let o = json(&quipu(&run(&["--json", "--ignore-eos", "-c", "32"])));
    assert_eq!((&o["stop_reason"], &o["model"]["context_limit"]), (&"length".into(), &"asked".into()));
    let n =
        o["timings"]["prompt_tokens"].as_u64().unwrap() + o["timings"]["generated_tokens"].as_u64().unwrap();
    assert_eq!(n, 33, "the last token needs no room");
}

#[test]
fn stop_strings_end_the_text_and_are_not_in_it() {
    let whole = stdout(&quipu(&run(&["-n", "30"])));
    let stop: String = whole.chars().skip(8).take(3).collect();
    let o = json(&quipu(&run(&["-n", "30", "--json", "--no-escape", "--stop", &stop])));
    let cut = whole.split(stop.as_str()).next().unwrap();
    assert_eq!((&o["text"], &o["stop_string"]), (&cut.into(), &stop.as_str().into()));
    assert_eq!(o["stop_reason"], "stop_string");
}

#[test]
fn prompts_come_from_flags_files_and_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.txt");
    std::fs::write(&file, "Once\\nupon\n").unwrap();
    let of = |args: &[&str]| {
        let base = ["run", "-m", model(), "-n", "0", "--json"];
        json(&quipu(&[&base[..], args].concat()))["prompt"].as_str().unwrap().to_owned()
    };
    assert_eq!(of(&["-p", "Once\\nupon"]), "Once\nupon");
    assert_eq!(of(&["-p", "Once\\nupon", "--no-escape"]), "Once\\nupon");
    assert_eq!(of(&["-p", "-ub"]), "-ub");
    assert_eq!(of(&["-f", text(&file)]), "Once\nupon");
    assert_eq!(of(&["--file", text(&file), "--no-escape"]), "Once\\nupon");
    let o = json(&piped("Once\\n \n\n", &["run", "-m", model(), "-n", "0", "--json"]));
    assert_eq!(o["prompt"], "Once\\n \n", "a pipe is read as it is, but for one newline");
    // A flag beats the variable, also another flag's.
    let o =
        quipu_with(&[("QUIPU_PROMPT", "x")], &["run", "-m", model(), "-n", "0", "--json", "-f", text(&file)]);
    assert_eq!(json(&o)["prompt"], "Once\nupon");
}

#[test]
fn variables_are_read_and_flags_beat_them() {
    let counted = |env: &[(&str, &str)], more: &[&str]| {
        let o = json(&quipu_with(env, &[&run(&["--ignore-eos"])[..], more].concat()));
        o["tokens"].as_array().unwrap().len()
    };
    let on = ("QUIPU_JSON", "1");
    assert_eq!(counted(&[on, ("QUIPU_PREDICT", "3")], &[]), 3);
    assert_eq!(counted(&[on, ("QUIPU_N_PREDICT", "4")], &[]), 4);
    assert_eq!(counted(&[on, ("QUIPU_PREDICT", "3")], &["-n", "2"]), 2);
    assert_eq!(counted(&[on, ("QUIPU_PREDICT", "")], &["-n", "5"]), 5);
    assert_eq!(counted(&[on, ("QUIPU_ISA", "")], &["-n", "1"]), 1);
    let o = quipu_with(&[("QUIPU_ISA", "scalar"), on], &run(&["-n", "1"]));
    assert_eq!(json(&o)["model"]["isa"], "scalar");
    let o = quipu_with(&[("QUIPU_MODEL", model()), ("QUIPU_STAGE", "graph")], &["plan"]);
    assert!(stdout(&o).starts_with("graph llama"), "{}", stderr(&o));
    fails(&quipu_with(&[("QUIPU_PREDICT", "many")], &run(&[])), 2, &["many", "--predict"]);
}

#[test]
fn a_closed_pipe_is_quiet() {
    for args in [&run(&["--ignore-eos", "-c", "100000"])[..], &["plan", "-m", model(), "--format", "json"]] {
        let mut child = command(args).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).unwrap();
        drop(out);
        let o = child.wait_with_output().unwrap();
        assert_eq!(o.status.code(), Some(0), "{}", stderr(&o));
        assert!(!stderr(&o).contains("error") && !stderr(&o).contains("panicked"), "{}", stderr(&o));
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_the_text_with_its_timings() {
    let mut child = command(&run(&["--ignore-eos", "-c", "1000000"])).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 8]).unwrap();
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    let o = child.wait_with_output().unwrap();
    assert_eq!(o.status.code(), Some(130), "{}", stderr(&o));
    assert!(stderr(&o).contains("generated") && stderr(&o).contains("interrupt"), "{}", stderr(&o));
}

#[test]
fn tokens_of_a_text_and_back() {
    let ids = |more: &[&str]| stdout(&quipu(&[&["tokenize", "-m", model()], more].concat()));
    let with_bos = ids(&["Hi there"]);
    let without = ids(&["--no-bos", "Hi there"]);
    assert_eq!(with_bos, format!("1 {without}"));
    assert!(without.ends_with('\n') && without.trim().split(' ').all(|w| w.parse::<u32>().is_ok()));
    assert_eq!(stdout(&piped("Hi there", &["tokenize", "-m", model(), "-"])), with_bos);
    assert_eq!(ids(&["--no-bos", "--parse-special", "</s>"]), "2\n");
    assert_ne!(ids(&["--no-bos", "</s>"]), "2\n");
    let o = json(&quipu(&["tokenize", "-m", model(), "--json", "Hi"]));
    assert_eq!((&o[0]["id"], &o[0]["piece"]), (&1.into(), &"<s>".into()));
    let back = |ids: &str| quipu(&["detokenize", "-m", model(), ids]).stdout;
    assert_eq!(back(without.trim()), b"Hi there");
    assert_eq!(back(&without.trim().replace(' ', ",")), b"Hi there");
    let all = quipu(&["detokenize", "-m", model(), "--special", "2"]);
    assert_eq!(all.stdout, b"</s>");
}

#[test]
fn a_cut_file_is_enough_for_a_plan_and_for_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.gguf");
    let bytes = std::fs::read(model()).unwrap();
    let data = json(&quipu(&["inspect", "--json", model()]))["file"]["data_offset"].as_u64().unwrap();
    std::fs::write(&cut, &bytes[..data as usize]).unwrap();
    let of = |path: &str| quipu(&["plan", "-m", path, "--phase", "decode", "--memory", "1G"]);
    let (whole, from_cut) = (of(model()), of(text(&cut)));
    assert!(from_cut.status.success() && !whole.stdout.is_empty());
    assert_eq!(stdout(&whole), stdout(&from_cut));
    assert!(stderr(&from_cut).contains("no tensor data") && stderr(&whole).is_empty());
    let seen = quipu(&["inspect", text(&cut)]);
    assert_eq!(seen.status.code(), Some(3));
    assert!(stdout(&seen).contains("nano-llama") && stdout(&seen).contains("runnable           no"));
    assert!(stderr(&seen).lines().count() <= 21 && stderr(&seen).starts_with("error: [OutOfFile]"));
    for args in
        [&["tokenize", "x", "-m"][..], &["run", "-p", "x", "-m"], &["trace", "-p", "x", "-o", "x", "-m"]]
    {
        fails(&quipu(&[args, &[text(&cut)]].concat()), 3, &["[OutOfFile]"]);
    }
}

#[test]
fn plans_come_in_every_stage_and_format() {
    let of = |more: &[&str]| {
        let o = quipu(&[&["plan", "-m", model()], more].concat());
        assert!(o.status.success(), "{more:?}: {}", stderr(&o));
        stdout(&o)
    };
    for stage in ["graph", "fused", "plan"] {
        let json: Value = serde_json::from_str(&of(&["--stage", stage, "--format", "json"])).unwrap();
        assert_eq!(json["arch"], "llama");
        assert!(of(&["--stage", stage, "--format", "dot"]).starts_with("digraph"));
        assert!(of(&["--stage", stage]).contains("l_out-1"));
    }
    let plan: quipu::plan::Plan = serde_json::from_str(&of(&["--format", "json", "-ub", "7"])).unwrap();
    assert_eq!((plan.max_rows, plan.kv.n_ctx), (7, 128));
    for isa in ["scalar", "avx2", "avx512", "amx"] {
        assert!(of(&["--isa", isa]).contains(&format!("isa={isa}")), "plans are for any machine");
    }
    assert!(of(&[]).contains("linear_swiglu") && !of(&["--no-fuse"]).contains("linear_swiglu"));
    assert!(of(&["-ctk", "f32"]).contains("cache=F32/F16"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.txt");
    assert_eq!(of(&["-o", text(&file)]), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), of(&[]));
}

#[test]
fn traces_hold_the_same_bits_however_they_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, more: &[&str]| {
        let path = dir.path().join(name);
        let fixed = ["trace", "-m", model(), "-o", text(&path)];
        let o = quipu(&[&fixed[..], more].concat());
        assert!(o.status.success(), "{more:?}: {}", stderr(&o));
        std::fs::read(&path).unwrap()
    };
    let from_text = |name: &str, more: &[&str]| made(name, &[&["-p", "Once upon a time"], more].concat());
    let fused = from_text("fused", &[]);
    let others = [
        from_text("unfused", &["--no-fuse"]),
        from_text("chunks", &["-ub", "2", "-t", "1"]),
        from_text("reference", &["--reference"]),
    ];
    let read = |bytes| safetensors::SafeTensors::deserialize(bytes).unwrap();
    let meta = |bytes| {
        let (_, m) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
        m.metadata().clone().unwrap()
    };
    let tokens: Vec<u32> = serde_json::from_str(&meta(&fused)["tokens"]).unwrap();
    let base = read(&fused);
    assert_eq!(base.tensor("result_output").unwrap().shape(), [tokens.len(), 384]);
    for other in &others {
        let other = read(other);
        for (name, tensor) in base.tensors() {
            assert_eq!(tensor.data(), other.tensor(&name).unwrap().data(), "{name}");
        }
    }
    let gone: Vec<String> = serde_json::from_str(&meta(&fused)["gone"]).unwrap();
    assert!(gone.contains(&"ffn_gate-0".to_owned()) && base.tensor("ffn_gate-0").is_err());
    let unfused = read(&others[0]);
    assert!(gone.iter().all(|name| unfused.tensor(name).is_ok()) && meta(&others[0])["gone"] == "[]");
    // The oracle's scores: rows that sum to one, and the values that the plan computed too.
    let reference = read(&others[2]);
    let soft = reference.tensor("kq_soft_max-1").unwrap();
    assert_eq!(soft.shape(), [tokens.len(), 4, tokens.len()]);
    let floats: Vec<f32> =
        soft.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert!(floats.chunks_exact(tokens.len()).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    assert_eq!(reference.tensor("kqv-1").unwrap().data(), reference.tensor("kqv_out-1").unwrap().data());
    let by_id = made("by-id", &["--tokens", &meta(&fused)["tokens"].replace(['[', ']'], "")]);
    assert!(by_id == fused, "ids give the bytes that the text gave");
}

#[test]
fn synthetic_models_depend_on_the_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, seed: &str| {
        let path = dir.path().join(name);
        let o = quipu(&["synth", "--shape", "nano-llama", "--type", "q8_0", "--seed", seed, text(&path)]);
        assert!(o.status.success() && o.stdout.is_empty(), "{}", stderr(&o));
        std::fs::read(&path).unwrap()
    };
    assert!(made("a", "1") == made("b", "1") && made("c", "2") != made("a", "1"));
    let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(names.into_iter().all(|n| n.len() == 1), "nothing unfinished is left");
}

#[test]
fn colour_only_where_it_is_wanted() {
    let colored = |env: &[(&str, &str)], more: &[&str]| {
        stdout(&quipu_with(env, &[&run(&["-n", "1", "--echo"])[..], more].concat())).contains('\u{1b}')
    };
    assert!(!colored(&[], &[]), "a pipe");
    assert!(colored(&[], &["--color", "on"]) && colored(&[], &["-co"]));
    assert!(colored(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!colored(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]));
    assert!(colored(&[("NO_COLOR", "1")], &["--color", "on"]), "a flag beats the environment");
    assert!(!colored(&[("QUIPU_COLOR", "on")], &["--color", "off"]));
}

#[test]
fn completions_version_and_help() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let o = quipu(&["completions", shell]);
        assert!(stdout(&o).contains("ubatch-size"), "{shell}");
    }
    let version = stdout(&quipu(&["--version"]));
    assert!(version.starts_with(concat!("quipu ", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(version.contains("instruction sets: scalar") && version.contains("numerics: "), "{version}");
    for args in [&["--help"][..], &["run", "--help"], &["help", "bench"]] {
        let o = quipu(args);
        assert!(o.status.success() && stdout(&o).contains("Usage: quipu"), "{args:?}");
    }
}
