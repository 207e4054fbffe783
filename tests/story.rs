//! The main job, end to end: a real trained model tells its published story, whatever the conditions.
//!
//! The model is not part of the repository: it is looked for under `QUIPU_SHARED`, then beside the checkout.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

const PUBLISHED: &str = ", there was a little girl named Lily. She loved to play outside in the park. One day, she \
saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the \
park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"";

fn model() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("QUIPU_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join("data/models/stories260K-f32.gguf");
    if !path.exists() {
        eprintln!("skipped: no {} (set QUIPU_SHARED)", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_story_is_the_published_one_under_all_conditions() {
    let Some(model) = model() else { return };
    let conditions: &[&[&str]] = &[
        &[],
        &["-t", "1"],
        &["-t", "2"],
        &["-t", "3"],
        &["-ub", "1"],
        &["-ub", "7"],
        &["--isa", "scalar"],
        &["--isa", "avx2"],
        &["--isa", "avx512"],
        &["--isa", "amx"],
        &["--load-mode", "read"],
        &["--load-mode", "mmap"],
        &["--no-fuse"],
    ];
    let mut first: Option<Vec<u8>> = None;
    for extra in conditions {
        if let ["--isa", isa] = extra
            && !isa.parse::<quipu::backends::Isa>().unwrap().available()
        {
            eprintln!("skipped: {isa}, this machine lacks it");
            continue;
        }
        let run = Command::new(env!("CARGO_BIN_EXE_quipu"))
            .args(["run", "-p", "Once upon a time", "-n", "200", "--temp", "0", "-m"])
            .arg(&model)
            .args(*extra)
            .output()
            .unwrap();
        assert!(run.status.success(), "{extra:?}: {}", String::from_utf8_lossy(&run.stderr));
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(text.starts_with(PUBLISHED), "{extra:?}: {text}");
        assert_eq!(first.get_or_insert_with(|| run.stdout.clone()), &run.stdout, "{extra:?}");
    }
}
