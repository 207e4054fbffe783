//! What every table of hostile files is held to: the code, one escaped line with an offset, exit 3, quick and small.

use super::Model;
use super::process::quipu;
use quipu::graph::builder::CacheTypes;
use quipu::loader::{Gguf, ParseOptions};
use quipu::models::declare;
use quipu::{Error, Result};
use std::sync::Mutex;
use std::time::Duration;

/// Number in the table, what is done, the code it must give, and how.
pub type Case = (u32, &'static str, &'static str, fn(&mut Model));

/// The embedding and the first norm of [`Model::base`].
pub const T1: &str = "token_embd.weight";
pub const T2: &str = "blk.0.attn_norm.weight";

/// Held while a damaged file is in the memory of the tests, or the memory of a process is looked at.
static BIG: Mutex<()> = Mutex::new(());

/// Memory beside the file that a refusal may take.
const REFUSAL_BYTES: u64 = 64 << 20;
/// Time of processors that a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Time by the clock: other tests run beside.
const REFUSAL_WAIT: Duration = Duration::from_secs(10);

/// Everything about the container, hyper-parameters and weights that is checked before a model computes.
pub fn load(bytes: &[u8]) -> Result<Gguf> {
    let g = Gguf::parse(bytes.into(), &ParseOptions::default())?;
    declare(&g, &[], CacheTypes::default())?;
    Ok(g)
}

/// The file of a case.
pub fn damaged(case: &Case) -> Vec<u8> {
    let mut m = Model::base();
    (case.3)(&mut m);
    m.build()
}

/// Whether a problem of this code may be without a place: what is absent, or two values that do not agree, has none.
fn has_no_place(number: u32, code: &str) -> bool {
    code.starts_with("Missing") || number == 75
}

/// Checks in this process: `load` gives the code first, with an offset, in escaped lines, as a bad model.
pub fn every_case_gives_its_code(cases: &[Case], load: fn(&[u8]) -> Result<Gguf>) {
    let mut wrong = Vec::new();
    for case in cases {
        let (number, what, code, _) = case;
        let _alone = BIG.lock().unwrap();
        match load(&damaged(case)) {
            Ok(_) => wrong.push(format!("{number} {what}: loads")),
            Err(e) if e.code() != *code => wrong.push(format!("{number} {what}: {e}, not {code}")),
            Err(e) if e.problems()[0].offset.is_none() && !has_no_place(*number, code) => {
                wrong.push(format!("{number} {what}: no offset in {e}"));
            }
            Err(e) => is_clean(&e),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_clean(e: &Error) {
    let line = e.to_string();
    assert!(!line.chars().any(|c| c.is_control() && c != '\n'), "{line:?}");
    assert_eq!(e.class().exit_code(), 3, "{line}");
}

/// `quipu inspect FILE`.
pub fn inspect(file: &str) -> Vec<String> {
    ["inspect", file].map(String::from).to_vec()
}

/// `quipu run`, two tokens.
pub fn run(file: &str) -> Vec<String> {
    ["run", "-m", file, "-p", "x", "-n", "2", "--seed", "1"].map(String::from).to_vec()
}

fn outcome(arguments: &[String]) -> super::process::Outcome {
    quipu(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs commands on every damaged file: exit 3, the code and offset on stderr, quick, small, no panic. They take the
/// base file.
pub fn refuses(cases: &[Case], commands: &[fn(&str) -> Vec<String>]) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.gguf");
    std::fs::write(&base, Model::base().build()).unwrap();
    for command in commands {
        let sound = outcome(&command(base.to_str().unwrap()));
        assert_eq!(sound.code, Some(0), "{}{}", sound.stdout, sound.stderr);
    }
    let mut wrong = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let (number, what, code, _) = case;
        let path = dir.path().join(format!("{i}.gguf"));
        // What this process holds while it starts another counts as the other's: nothing is held.
        let _alone = BIG.lock().unwrap();
        let bytes = damaged(case);
        let len = bytes.len() as u64;
        std::fs::write(&path, bytes).unwrap();
        for command in commands {
            let arguments = command(path.to_str().unwrap());
            let place = !has_no_place(*number, code);
            for why in refusal(&arguments, code, 3, len, place) {
                wrong.push(format!("{number} {what}, {}: {why}", arguments[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with how a command refuses a file of `file_bytes` with a code; nothing if all is well.
pub fn refusal(
    arguments: &[String],
    code: &str,
    exit: i32,
    file_bytes: u64,
    has_offset: bool,
) -> Vec<String> {
    let got = outcome(arguments);
    let first = got.stderr.lines().find(|l| l.contains('[')).unwrap_or_default();
    let mut wrong = Vec::new();
    let mut no = |why: String| wrong.push(format!("{why}: {}", got.stderr.trim_end()));
    if got.code != Some(exit) {
        no(format!("exit {:?}", got.code));
    }
    if !first.contains(&format!("[{code}]")) {
        no(format!("no {code} first"));
    }
    if has_offset && !first.contains("at byte") {
        no("no offset".into());
    }
    if got.stderr.contains("panicked") || got.stderr.chars().any(|c| c.is_control() && c != '\n') {
        no("a panic or a control character".into());
    }
    if got.cpu.is_some_and(|t| t > REFUSAL_TIME) || got.wall > REFUSAL_WAIT {
        no(format!("took {:?}, {:?} of processors", got.wall, got.cpu));
    }
    if got.peak_bytes.is_some_and(|p| p > REFUSAL_BYTES + file_bytes) {
        no(format!("took {:?} bytes", got.peak_bytes));
    }
    wrong
}
