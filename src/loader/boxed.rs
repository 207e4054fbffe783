//! The models in the box: small trained models that are part of the program, so that something runs without any file.
//!
//! A path of the form `box:NAME` opens it wherever a path opens a model. Where they come from, and how they were made:
//! `tools/box/README.md`.

use super::bytes::Bytes;
use crate::error::{Error, Problem, Result, escape};
use std::path::Path;

/// The model that runs where none is named.
pub const DEFAULT: &str = "box:llama";

/// What a path to a model in the box begins with.
const PREFIX: &str = "box:";

/// Bytes at the alignment of kernels and of a file that was read.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static LLAMA: &Aligned<[u8]> = &Aligned(*include_bytes!("../../box/box-llama.gguf"));
static QWEN2: &Aligned<[u8]> = &Aligned(*include_bytes!("../../box/box-qwen2.gguf"));
static PHI3: &Aligned<[u8]> = &Aligned(*include_bytes!("../../box/box-phi3.gguf"));

/// Name and file of every model, the default first.
static MODELS: &[(&str, &Aligned<[u8]>)] = &[("llama", LLAMA), ("qwen2", QWEN2), ("phi3", PHI3)];

/// The names behind `box:`.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|m| m.0)
}

/// The file of a model in the box, if the path names one.
///
/// # Errors
/// `NotInTheBox` (model) for a name that is not there.
pub fn find(path: &Path) -> Result<Option<Bytes>> {
    let Some(name) = path.to_str().and_then(|p| p.strip_prefix(PREFIX)) else { return Ok(None) };
    match MODELS.iter().find(|m| m.0 == name) {
        Some((_, file)) => Ok(Some(Bytes::built_in(&file.0, path))),
        None => {
            let have: Vec<String> = names().map(|n| format!("{PREFIX}{n}")).collect();
            let p = Problem::new("NotInTheBox", format!("\"{PREFIX}{}\"", escape(name)));
            Err(Error::model(p.found("no such model in the program").expected(have.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::{Gguf, LoadMode, ParseOptions};

    #[test]
    fn every_model_is_aligned_small_and_whole() {
        for name in names() {
            let path = format!("{PREFIX}{name}");
            for mode in [LoadMode::Auto, LoadMode::Mmap, LoadMode::Read] {
                let file = Gguf::open(Path::new(&path), mode, &ParseOptions::default()).unwrap();
                assert_eq!(file.bytes().as_ptr().addr() % 64, 0, "{name}");
                assert!(file.bytes().len() < 3_000_000, "{name}: {} bytes", file.bytes().len());
                assert!(!file.is_cut() && file.str("general.architecture").unwrap() == Some(name));
            }
        }
        assert!(names().any(|n| DEFAULT == format!("{PREFIX}{n}")));
    }

    #[test]
    fn names_that_are_not_there_are_errors_and_other_paths_are_files() {
        let e = find(Path::new("box:\u{1b}gpt")).unwrap_err();
        assert_eq!((e.code(), e.class().exit_code()), ("NotInTheBox", 3));
        assert!(e.to_string().contains("box:llama"), "{e}");
        for path in ["model.gguf", "./box:llama", "box", "BOX:llama"] {
            assert!(find(Path::new(path)).unwrap().is_none(), "{path}");
        }
    }
}
