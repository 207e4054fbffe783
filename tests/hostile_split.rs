//! Hostile models in several files, cases 110 to 116.
#![allow(clippy::unwrap_used)]

mod common;

use common::Model;
use common::hostile::{inspect, refusal, run};
use common::process::quipu;
use common::split::{name, write};
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use std::path::Path;

/// Number, what is done, the code, what the message must name, and how.
type Case = (u32, &'static str, &'static str, &'static str, fn(&mut Vec<Model>));

const CASES: &[Case] = &[
    (111, "65 535 files", "MissingShard", "NAME-00001-of-65535.gguf", |p| {
        p[0].key("split.count").value = u16::MAX.to_le_bytes().to_vec();
    }),
    (111, "more files than there can be", "OutOfRange", "split.count", |p| {
        (p[0].key("split.count").ty, p[0].key("split.count").value) = (4, u32::MAX.to_le_bytes().to_vec());
    }),
    (111, "a count that is text", "WrongType", "split.count", |p| {
        (p[0].key("split.count").ty, p[0].key("split.count").value) = (8, common::str_bytes(b"3"));
    }),
    (111, "no number in the first", "MissingKey", "split.no", |p| p[0].key("split.no").key = b"x".to_vec()),
    (111, "no number in the second", "MissingKey", "\"m-00002-of-00003.gguf\": key split.no", |p| {
        p[1].key("split.no").key = b"x".to_vec();
    }),
    (111, "the third says it is the second", "Inconsistent", "\"m-00003-of-00003.gguf\"", |p| {
        p[2].key("split.no").value = vec![1, 0];
    }),
    (111, "the third is of four", "Inconsistent", "\"m-00003-of-00003.gguf\"", |p| {
        p[2].key("split.count").value = vec![4, 0];
    }),
    (111, "fewer tensors than announced", "Inconsistent", "split.tensors.count", |p| {
        p[1].tensors.pop();
    }),
    (113, "a tensor in two files", "DuplicateTensor", "\"m-00003-of-00003.gguf\": tensor blk.0", |p| {
        let again = p[1].tensors[0].clone();
        p[2].tensors[0] = again;
    }),
    (113, "a tensor in the first and the last", "DuplicateTensor", "tensor token_embd.weight", |p| {
        let again = p[0].tensors[0].clone();
        p[2].tensors.push(again);
    }),
    (62, "one byte missing in the second", "OutOfFile", "\"m-00002-of-00003.gguf\": tensor", |p| {
        p[1].drop_tail = 33
    }),
    (1, "an empty third", "Truncated", "\"m-00003-of-00003.gguf\"", |p| p[2].cut = Some(0)),
    (3, "the second is something else", "BadMagic", "\"m-00002-of-00003.gguf\"", |p| {
        p[1].magic = b"GGML".to_vec()
    }),
    (9, "2^63 tensors in the third", "CountTooLarge", "\"m-00003-of-00003.gguf\"", |p| {
        p[2].n_tensors = Some(1 << 63);
    }),
    (33, "alignment 3 in the second", "BadAlignment", "\"m-00002-of-00003.gguf\"", |p| {
        p[1].add(b"general.alignment", 4, vec![3, 0, 0, 0]);
    }),
    (77, "a weight of the second is transposed", "ShapeMismatch", "\"m-00002-of-00003.gguf\": tensor", |p| {
        p[1].tensor("blk.0.ffn_down.weight").dims.reverse();
    }),
];

fn plan(file: &str) -> Vec<String> {
    ["plan", "-m", file].map(String::from).to_vec()
}

/// Holds every command to its refusal of the model whose first file this is, naming `what`.
fn refused(case: &str, first: &Path, code: &str, what: &str) {
    let path = first.to_str().unwrap();
    let bytes = std::fs::read_dir(first.parent().unwrap()).unwrap();
    let bytes: u64 = bytes.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    // `plan` takes files that end with their header.
    let commands: &[fn(&str) -> Vec<String>] =
        if code == "OutOfFile" { &[inspect, run] } else { &[inspect, run, plan] };
    for command in commands {
        let arguments = command(path);
        let wrong = refusal(&arguments, code, 3, bytes, false);
        assert!(wrong.is_empty(), "{case}, {}: {}", arguments[0], wrong.join("\n"));
        let said = quipu(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).stderr;
        assert!(said.contains(what), "{case}, {}: no {what} in {said}", arguments[0]);
    }
}

#[test]
fn every_case_is_refused_with_its_code() {
    for (number, what, code, names, damage) in CASES {
        let dir = tempfile::tempdir().unwrap();
        let mut parts = Model::base().split(3);
        damage(&mut parts);
        refused(&format!("{number} {what}"), &write(dir.path(), &parts), code, names);
    }
}

#[test]
fn the_first_file_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &Model::base().split(3));
    refused(
        "110",
        &dir.path().join(name(1, 3)),
        "NotFirstShard",
        "give the first file, \"m-00001-of-00003.gguf\"",
    );
    // Under another name it is still no first file.
    let other = dir.path().join("other.gguf");
    std::fs::rename(dir.path().join(name(2, 3)), &other).unwrap();
    refused("110 renamed", &other, "NotFirstShard", "found file 3 of 3");
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = write(dir.path(), &Model::base().split(3));
    std::fs::remove_file(dir.path().join(name(1, 3))).unwrap();
    refused("111", &first, "MissingShard", "file 2 of 3");
    refused("111", &first, "MissingShard", "m-00002-of-00003.gguf");
    let other = dir.path().join("model.gguf");
    std::fs::rename(&first, &other).unwrap();
    refused("111 renamed", &other, "MissingShard", "called \"model.gguf\"");
    // All that are missing are named, up to a limit, quickly.
    let many = dir.path().join("m-00001-of-65535.gguf");
    let mut m = Model::base().split(3).remove(0);
    m.key("split.count").value = u16::MAX.to_le_bytes().to_vec();
    std::fs::write(&many, m.build()).unwrap();
    refused("111 many", &many, "MissingShard", "m-00021-of-65535.gguf");
}

#[test]
fn only_the_directory_of_the_first_file_is_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, outer) = (dir.path().join("inner"), dir.path().join("outer"));
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::create_dir_all(&outer).unwrap();
    let parts = Model::base().split(2);
    // A name of dots is a name; the decoys have what would complete the model.
    for decoy in [dir.path(), &outer] {
        write(decoy, &parts);
        for (i, part) in parts.iter().enumerate() {
            std::fs::write(decoy.join(format!("..{}", &name(i, 2)[1..])), part.build()).unwrap();
        }
    }
    let dots = inner.join("..-00001-of-00002.gguf");
    std::fs::write(&dots, parts[0].build()).unwrap();
    refused("112", &dots, "MissingShard", "inner/..-00002-of-00002.gguf");
    let through = inner.join("../outer/../inner/..-00001-of-00002.gguf");
    refused("112 through", &through, "MissingShard", "inner/..-00002-of-00002.gguf");
    std::fs::write(inner.join("..-00002-of-00002.gguf"), parts[1].build()).unwrap();
    let sound = quipu(&["inspect", through.to_str().unwrap()]);
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
    // A link to the first file is as good as the file, in its own directory.
    #[cfg(unix)]
    {
        let links = dir.path().join("links");
        std::fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(outer.join(name(0, 2)), links.join(name(0, 2))).unwrap();
        refused("112 link", &links.join(name(0, 2)), "MissingShard", "links/m-00002");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_without_waiting() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let parts = Model::base().split(2);
    let first = write(dir.path(), &parts);
    let second = dir.path().join(name(1, 2));
    let check = |what: &str, code: &str, make: &dyn Fn(&Path)| {
        std::fs::remove_file(&second).unwrap();
        make(&second);
        let arguments = run(first.to_str().unwrap());
        let wrong = refusal(&arguments, code, 3, 1 << 20, false);
        assert!(wrong.is_empty(), "114, the second is {what}: {}", wrong.join("\n"));
        let alone = run(second.to_str().unwrap());
        let wrong = refusal(&alone, code, 3, 1 << 20, false);
        assert!(wrong.is_empty(), "114, {what}: {}", wrong.join("\n"));
        if second.is_dir() {
            std::fs::remove_dir(&second).unwrap();
            std::fs::write(&second, b"").unwrap();
        }
    };
    check("a directory", "NotARegularFile", &|p| std::fs::create_dir(p).unwrap());
    check("a pipe", "NotARegularFile", &|p| {
        assert!(std::process::Command::new("mkfifo").arg(p).status().unwrap().success());
    });
    check("/dev/zero", "NotARegularFile", &|p| std::os::unix::fs::symlink("/dev/zero", p).unwrap());
    let locked = |p: &Path| {
        std::fs::write(p, parts[1].build()).unwrap();
        std::fs::set_permissions(p, std::fs::Permissions::from_mode(0o0)).unwrap();
    };
    let probe = dir.path().join("probe");
    locked(&probe);
    if std::fs::File::open(&probe).is_ok() {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "skipped: files without permission (this user reads them all)");
        return;
    }
    check("not permitted", "Io", &locked);
}

/// This test binary running only the named test, with a role.
#[cfg(unix)]
fn child(test: &str, role: &str) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("QUIPU_TEST_CHILD", role)
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn any_file_truncated_while_mapped_ends_the_process_with_its_name() {
    const TEST: &str = "any_file_truncated_while_mapped_ends_the_process_with_its_name";
    const N: usize = 100;
    if let Ok(role) = std::env::var("QUIPU_TEST_CHILD") {
        let dir = tempfile::tempdir().unwrap();
        let mut parts = Model::base().split(N);
        // The weights of the last file that has any, in the very last.
        let moved = parts.iter().position(|p| p.tensors.is_empty()).unwrap() - 1;
        let tensor = parts[moved].tensors.pop().unwrap();
        parts.last_mut().unwrap().tensors.push(tensor);
        let first = write(dir.path(), &parts);
        let mode = if role == "read" { LoadMode::Read } else { LoadMode::Mmap };
        let g = Gguf::open(&first, mode, &ParseOptions::default()).unwrap();
        let t = g.tensors().last().unwrap();
        assert_eq!(usize::from(t.file), N - 1);
        let path = dir.path().join(name(N - 1, N));
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        println!("sum {}", g.data(t).unwrap().iter().map(|b| u64::from(*b)).sum::<u64>());
        return;
    }
    let mapped = child(TEST, "mapped");
    let stderr = String::from_utf8_lossy(&mapped.stderr);
    assert_eq!(mapped.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("[TruncatedWhileMapped]") && stderr.contains(&name(N - 1, N)), "{stderr}");
    let read = child(TEST, "read");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let sum: u64 = Model::base().tensors.last().unwrap().data.iter().map(|b| u64::from(*b)).sum();
    assert!(String::from_utf8_lossy(&read.stdout).contains(&format!("sum {sum}")));
}
