//! The house style, where a machine can check it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this extension.
fn files(folder: &str, ext: &str) -> Vec<PathBuf> {
    let mut todo = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == ext) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty() || folder == "examples", "no .{ext} files under {folder}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn files_stay_under_500_lines() {
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for f in files(folder, "rs") {
            let n = read(&f).lines().count();
            if n > 500 {
                long.push(format!("{}: {n}", name(&f)));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests"] {
        for f in files(folder, "rs") {
            assert!(read(&f).starts_with("//!"), "{} has no module docs", name(&f));
        }
    }
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    for f in files("src", "rs") {
        let here = name(&f);
        let allowed = here.starts_with("src/backends/") || here.starts_with("src/loader/");
        for (i, line) in read(&f).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let word = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
            assert!(allowed || !word, "{here}:{}", i + 1);
        }
    }
}

#[test]
fn every_op_says_shape_numerics_and_source() {
    for f in files("src/ops", "rs") {
        let here = name(&f);
        if here.ends_with("mod.rs") || here.contains("math") {
            continue;
        }
        let text = read(&f);
        if !text.contains("pub fn infer(") {
            continue; // a part of an op's file, such as its reference
        }
        for line in ["//! Shape:", "//! Numerics:", "//! Source:"] {
            assert!(text.lines().any(|l| l.starts_with(line)), "{here} lacks `{line}`");
        }
        assert!(text.contains("reference"), "{here} has no reference");
    }
}

#[test]
fn architectures_fit_on_two_screens() {
    for f in files("src/models", "rs") {
        let here = name(&f);
        if here.contains("hparams") || here.ends_with("mod.rs") {
            continue;
        }
        let n = read(&f).lines().count();
        assert!(n <= 120, "{here}: {n} lines");
    }
}

#[test]
fn kernel_names_say_backend_op_type_and_instruction_set() {
    let mut seen = std::collections::HashSet::new();
    for k in quipu::backends::cpu::kernels() {
        let parts: Vec<_> = k.name.split('.').collect();
        assert_eq!(parts.len(), 4, "{}", k.name);
        assert_eq!((parts[0], parts[1], parts[3]), ("cpu", k.op.name(), k.isa.name()), "{}", k.name);
        assert!(seen.insert(k.name), "{} twice", k.name);
    }
    for op in quipu::ops::OpKind::ALL {
        let scalar =
            quipu::backends::cpu::kernels().any(|k| k.op == *op && k.isa == quipu::backends::Isa::Scalar);
        assert!(scalar, "{op} has no scalar kernel");
    }
}

#[test]
fn the_documents_name_every_room_and_op() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert!(
                architecture.contains(&format!("`{}`", name(&path))),
                "ARCHITECTURE.md lacks {}",
                name(&path)
            );
        }
    }
    let numerics = read(&root().join("NUMERICS.md"));
    for op in quipu::ops::OpKind::ALL {
        assert!(numerics.contains(op.name()), "NUMERICS.md lacks {op}");
    }
}
