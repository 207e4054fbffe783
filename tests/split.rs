//! Models in several files are the models they were in one.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{all_bits, one_thread};
use common::process::quipu;
use common::split::{name, write};
use common::{Model, U16};
use quipu::engine::{Engine, EngineOptions};
use quipu::loader::{Bytes, Gguf, LoadMode, ParseOptions};
use std::path::Path;

const TOKENS: [u32; 6] = [1, 260, 261, 262, 270, 9];

fn options(load_mode: LoadMode) -> EngineOptions {
    EngineOptions { load_mode, ..one_thread() }
}

fn bits_of(path: &Path, mode: LoadMode) -> Vec<Vec<u32>> {
    let mut engine = Engine::load(path, options(mode)).unwrap();
    let mut session = engine.new_session().unwrap();
    all_bits(&mut engine, &mut session, &TOKENS)
}

#[test]
fn several_files_are_the_model_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.gguf");
    std::fs::write(&whole, Model::base().build()).unwrap();
    let want = bits_of(&whole, LoadMode::Read);
    // The files differ in size, and so does the memory of a run; the plan is the same.
    let plan_of = |path: &Path| {
        let plan = quipu(&["plan", "-m", path.to_str().unwrap(), "--format", "json"]);
        assert_eq!(plan.code, Some(0), "{}", plan.stderr);
        let mut json: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
        assert!(json.as_object_mut().unwrap().remove("forecast").is_some());
        json
    };
    let plan = plan_of(&whole);
    for n in [2, 3, 7, Model::base().tensors.len()] {
        let first = write(dir.path(), &Model::base().split(n));
        for mode in [LoadMode::Mmap, LoadMode::Read, LoadMode::Auto] {
            let g = Gguf::open(&first, mode, &ParseOptions::default()).unwrap();
            assert_eq!((g.files().count(), g.tensors().len()), (n, Model::base().tensors.len()));
            assert!(g.is_split() && g.files().all(|f| f.is_mapped() == (mode == LoadMode::Mmap)));
            for t in &Model::base().tensors {
                let info = g.tensor(std::str::from_utf8(&t.name).unwrap()).unwrap();
                assert_eq!(g.data(info).unwrap(), t.data);
            }
            assert_eq!(bits_of(&first, mode), want, "{n} files, {mode}");
        }
        assert_eq!(plan_of(&first), plan, "{n} files");
        let seen = quipu(&["inspect", "--json", first.to_str().unwrap()]);
        assert_eq!(seen.code, Some(0), "{}", seen.stderr);
        let json: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
        assert_eq!(json["file"]["split"].as_array().unwrap().len(), n);
        assert_eq!(json["file"]["split"][1]["name"], name(1, n));
    }
}

#[test]
fn files_in_memory_are_given_in_their_order() {
    let parts: Vec<Bytes> = Model::base().split(3).iter().map(|m| Bytes::from(m.build())).collect();
    let parse = |files: &[Bytes]| Gguf::parse_files(files.to_vec(), &ParseOptions::default());
    let (g, problems) = parse(&parts);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(g.tensors().len(), Model::base().tensors.len());
    let codes = |files: &[Bytes]| parse(files).1.iter().map(|p| p.code).collect::<Vec<_>>();
    assert_eq!(codes(&parts[..1]), ["MissingShard", "MissingShard"]);
    assert_eq!(codes(&[parts[0].clone(), parts[2].clone(), parts[1].clone()]), ["Inconsistent"; 2]);
    assert_eq!(codes(&parts[1..]), ["NotFirstShard"]);
    assert_eq!(Gguf::parse(parts[0].clone(), &ParseOptions::default()).unwrap_err().code(), "MissingShard");
}

#[test]
fn a_plan_needs_headers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut parts = Model::base().split(3);
    let first = write(dir.path(), &parts);
    // Of a stated memory: what there is changes from moment to moment.
    let plan = ["plan", "-m", first.to_str().unwrap(), "--memory", "1GiB"];
    let whole = quipu(&plan);
    for part in &mut parts {
        part.cut = Some(part.header().1);
    }
    write(dir.path(), &parts);
    let cut = quipu(&plan);
    assert_eq!((cut.code, &cut.stdout), (Some(0), &whole.stdout), "{}", cut.stderr);
    assert!(cut.stderr.contains("no tensor data"), "{}", cut.stderr);
    let run = quipu(&["run", "-m", first.to_str().unwrap(), "-p", "x", "-n", "1"]);
    assert_eq!(run.code, Some(3));
    assert!(run.stderr.contains("[OutOfFile]"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn files_replaced_by_rename_keep_serving() {
    let dir = tempfile::tempdir().unwrap();
    let parts = Model::base().split(2);
    let first = write(dir.path(), &parts);
    let mut engine = Engine::load(&first, options(LoadMode::Mmap)).unwrap();
    let mut session = engine.new_session().unwrap();
    let before = all_bits(&mut engine, &mut session, &TOKENS);
    for i in 0..2 {
        let new = dir.path().join("new");
        std::fs::write(&new, b"GGUF, but another one").unwrap();
        std::fs::rename(&new, dir.path().join(name(i, 2))).unwrap();
    }
    session.reset();
    assert_eq!(all_bits(&mut engine, &mut session, &TOKENS), before);
    assert_eq!(Engine::load(&first, options(LoadMode::Mmap)).unwrap_err().class().exit_code(), 3);
}

#[test]
fn keys_of_other_widths_count_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut parts = Model::base().split(2);
    for part in &mut parts {
        for key in ["split.no", "split.count"] {
            assert_eq!(part.key(key).ty, U16);
            part.key(key).ty = common::U32;
            part.key(key).value.extend([0, 0]);
        }
    }
    let first = write(dir.path(), &parts);
    assert!(Gguf::open(&first, LoadMode::Auto, &ParseOptions::default()).is_ok());
    // One file of one is no split model, whatever it is called.
    let mut one = Model::base();
    one.add(b"split.count", U16, vec![1, 0]);
    std::fs::write(dir.path().join("one.gguf"), one.build()).unwrap();
    let g = Gguf::open(&dir.path().join("one.gguf"), LoadMode::Auto, &ParseOptions::default()).unwrap();
    assert!(!g.is_split());
}
