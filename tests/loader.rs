//! Reads real files where they are at hand (skipped visibly where they are not), and files made by the writer.
#![allow(clippy::unwrap_used)]

use quipu::loader::{Bytes, Gguf, LoadMode, ParseOptions, Value};
use std::io::Write as _;
use std::path::PathBuf;

/// The folder with real vocabularies and models: `QUIPU_SHARED`, or `shared` beside the checkout.
fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("QUIPU_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    if dir.join("data").is_dir() {
        return Some(dir);
    }
    // Straight to stderr: what the print macros write in a passing test is swallowed.
    let _ = writeln!(std::io::stderr(), "skipped: no data folder at {} (set QUIPU_SHARED)", dir.display());
    None
}

#[test]
fn real_files_parse_in_both_modes() {
    let Some(shared) = shared() else { return };
    let mut seen = 0;
    for dir in ["data/vocab", "data/models"] {
        for file in std::fs::read_dir(shared.join(dir)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|e| e != "gguf") {
                continue;
            }
            seen += 1;
            let options = ParseOptions::default();
            let mapped = Gguf::open(&path, LoadMode::Mmap, &options).unwrap();
            let read = Gguf::open(&path, LoadMode::Read, &options).unwrap();
            assert!(mapped.bytes().is_mapped() && !read.bytes().is_mapped());
            assert!(!mapped.is_cut());
            assert!(mapped.architecture().is_ok());
            assert_eq!(mapped.tensors(), read.tensors());
            assert!(mapped.entries().eq(read.entries()));
            let tokens = mapped.array("tokenizer.ggml.tokens").unwrap().unwrap();
            assert_eq!(tokens.strings().unwrap().count(), tokens.len());
            for (key, value) in mapped.entries() {
                assert_eq!(mapped.get(key), Some(value));
            }
            for t in mapped.tensors() {
                assert_eq!(mapped.tensor(&t.name), Some(t));
                assert_eq!(mapped.data(t).unwrap().len() as u64, t.bytes);
            }
        }
    }
    assert!(seen >= 5, "{seen} files");
}

#[test]
fn stories_has_the_values_it_is_known_for() {
    let Some(shared) = shared() else { return };
    let path = shared.join("data/models/stories260K-f32.gguf");
    let g = Gguf::open(&path, LoadMode::Auto, &ParseOptions::default()).unwrap();
    assert_eq!(g.architecture().unwrap(), "llama");
    assert_eq!(g.get("llama.attention.head_count_kv"), Some(Value::U32(4)));
    let embd = g.tensor("token_embd.weight").unwrap();
    assert_eq!((embd.dtype.name(), &embd.dims[..]), ("F32", &[64, 512][..]));
    // A copy that ends with the header is refused, and accepted when only the header is asked for.
    let cut = &g.bytes()[..usize::try_from(g.data_offset()).unwrap()];
    assert_eq!(Gguf::parse(cut.into(), &ParseOptions::default()).unwrap_err().code(), "OutOfFile");
    let options = ParseOptions { header_only: true, ..ParseOptions::default() };
    let header = Gguf::parse(cut.into(), &options).unwrap();
    assert!(header.is_cut() && header.data(header.tensor("token_embd.weight").unwrap()).is_none());
    assert_eq!(header.tensors(), g.tensors());
}

/// A signal in a child process, which is this test binary running only the named test with `QUIPU_TEST_CHILD` set.
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
fn a_file_truncated_while_mapped_ends_the_process_with_a_line() {
    const TEST: &str = "a_file_truncated_while_mapped_ends_the_process_with_a_line";
    match std::env::var("QUIPU_TEST_CHILD").as_deref() {
        Err(_) => {}
        Ok(role) => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("model.gguf");
            let len = 1 << 20;
            std::fs::write(&path, vec![7u8; len]).unwrap();
            let mode = if role == "read" { LoadMode::Read } else { LoadMode::Mmap };
            let bytes = Bytes::open(&path, mode).unwrap();
            if role == "foreign" {
                // A SIGBUS that is none of ours goes to the standard library's handler, which was there first: it
                // lets the first one pass and restores the default action for the next.
                let me = std::process::id().to_string();
                for _ in 0..2 {
                    std::process::Command::new("kill").args(["-BUS", &me]).status().unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                return;
            }
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len as u64 / 2).unwrap();
            println!("sum {}", bytes.iter().map(|b| u64::from(*b)).sum::<u64>());
            return;
        }
    }
    use std::os::unix::process::ExitStatusExt;
    let mapped = child(TEST, "mapped");
    let stderr = String::from_utf8_lossy(&mapped.stderr);
    assert_eq!(mapped.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("[TruncatedWhileMapped]") && stderr.contains("model.gguf"), "{stderr}");
    let read = child(TEST, "read");
    assert!(read.status.success());
    assert!(String::from_utf8_lossy(&read.stdout).contains(&format!("sum {}", 7 << 20)));
    let foreign = child(TEST, "foreign");
    assert_eq!(foreign.status.code(), None);
    assert!(foreign.status.signal().is_some());
    assert!(!String::from_utf8_lossy(&foreign.stderr).contains("TruncatedWhileMapped"));
}
