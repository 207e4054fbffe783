//! Models cut into several files, as llama.cpp's `gguf-split` writes them: `NAME-00001-of-00003.gguf` holds the
//! metadata, every file a part of the tensors, and each is a GGUF file with a header of its own.
//!
//! The first file says how many there are (`split.count`); the others are looked for beside it, under its name with
//! another number, and nowhere else: nothing a file holds becomes part of a path. The result is one [`Gguf`] with
//! one tensor table, whose rows say which file their data lies in.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic
)]

use super::bytes::{Bytes, LoadMode};
use super::cursor::as_u64;
use super::gguf::{Gguf, Limits, ParseOptions};
use super::parse;
use crate::error::{Class, Error, Problem, Result, escape};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Files of a model, at most: llama.cpp keeps the number in 16 bits.
const MAX_FILES: u32 = 65_535;

/// Gives file `i` of `n`; called in order, from 1.
type Opener<'a> = dyn FnMut(usize, usize) -> Result<Bytes> + 'a;

/// How many files the model of `first` has: 1 if it is not split.
///
/// # Errors
/// `NotFirstShard`, `OutOfRange`, `WrongType`, `MissingKey`.
fn count(first: &Gguf) -> Result<usize> {
    let n = first.u32(COUNT)?.unwrap_or(1);
    if n <= 1 {
        return Ok(1);
    }
    if n > MAX_FILES {
        let p = first.problem("OutOfRange", COUNT).found(n.to_string());
        return Err(Error::model(p.expected(format!("at most {MAX_FILES}"))));
    }
    let no = first.u32(NO)?;
    let no = no.ok_or_else(|| Error::model(first.problem("MissingKey", NO).expected("an integer")))?;
    if no != 0 {
        let p = first
            .problem("NotFirstShard", NO)
            .found(format!("file {} of {n}", u64::from(no).saturating_add(1)));
        let name = first.bytes().path().and_then(|path| name_of(path, u64::from(no), u64::from(n), 0));
        let hint = name.map_or_else(
            || "load the first file of the model".to_owned(),
            |name| format!("give the first file, \"{}\"", escape(&name.to_string_lossy())),
        );
        return Err(Error::model(p.expected("the first file").hint(hint)));
    }
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// What `gguf-split` puts behind the name of file `i` (from 0) of `n`.
fn suffix(i: u64, n: u64) -> String {
    format!("-{:05}-of-{n:05}.gguf", i.saturating_add(1))
}

/// The name of file `i`, by the path of file `known`; `None` if that is not named as one of `n` files.
fn name_of(path: &Path, known: u64, n: u64, i: u64) -> Option<OsString> {
    let name = path.file_name()?;
    let stem = name.as_encoded_bytes().strip_suffix(suffix(known, n).as_bytes()).filter(|s| !s.is_empty())?;
    // SAFETY: the bytes come from `as_encoded_bytes` of this very string, cut before a '-', which is ASCII.
    #[allow(unsafe_code)]
    let mut out = unsafe { OsStr::from_encoded_bytes_unchecked(stem) }.to_owned();
    out.push(suffix(i, n));
    Some(out)
}

/// The path of file `i` (from 0) of `n`, beside the first.
///
/// # Errors
/// `MissingShard` if the first is not named as the first of so many.
fn beside(first: &Path, i: usize, n: usize) -> Result<PathBuf> {
    let name = name_of(first, 0, as_u64(n), as_u64(i));
    name.map(|name| first.with_file_name(name)).ok_or_else(|| {
        let found = first.file_name().unwrap_or_default().to_string_lossy();
        let p = missing(i, n).found(format!("the first file is called \"{}\"", escape(&found)));
        Error::model(
            p.expected(format!("NAME{}", suffix(0, as_u64(n))))
                .hint("the other files are found by that name: give the file its own name back"),
        )
    })
}

/// File `i` of `n` is not there.
fn missing(i: usize, n: usize) -> Problem {
    Problem::new("MissingShard", format!("file {} of {n} of a split model", i.saturating_add(1)))
}

/// Opens the other files of a model beside its first, at `path`.
///
/// # Errors
/// As [`attach`].
pub(super) fn attach_beside(
    g: &mut Gguf,
    path: &Path,
    mode: LoadMode,
    options: &ParseOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Problem>> {
    let mut done = as_u64(g.bytes.len());
    // The size of the rest, once the number of files is known.
    let mut all = None;
    attach(g, options, &mut |i, n| {
        let path_of = |i| beside(path, i, n);
        let len = |i| path_of(i).ok().and_then(|p| std::fs::metadata(p).ok()).map_or(0, |m| m.len());
        let all = *all.get_or_insert_with(|| (1..n).fold(done, |sum, i| sum.saturating_add(len(i))));
        let file = path_of(i)?;
        if std::fs::metadata(&file).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            let p = missing(i, n).found(format!("no \"{}\"", escape(&file.to_string_lossy())));
            return Err(Error::model(p.hint("a split model needs all its files in one directory")));
        }
        let bytes = Bytes::open_with(&file, mode, &mut |now, _| progress(done.saturating_add(now), all))?;
        done = done.saturating_add(as_u64(bytes.len()));
        Ok(bytes)
    })
}

/// Takes the other files of a model from `files`.
pub(super) fn attach_given(
    g: &mut Gguf,
    options: &ParseOptions,
    files: &mut dyn Iterator<Item = Bytes>,
) -> Vec<Problem> {
    let attached = attach(g, options, &mut |i, n| {
        let gone = || Error::model(missing(i, n).hint("open the first file by its path, or give all files"));
        files.next().ok_or_else(gone)
    });
    attached.unwrap_or_else(|e| e.problems().to_vec())
}

/// Adds the other files of a model to its first, which has been parsed without problems. What is wrong with them is
/// returned; what could be read of them is in `g`.
///
/// # Errors
/// Those of `open` that are not about the model, for example `InsufficientMemory`.
fn attach(g: &mut Gguf, options: &ParseOptions, open: &mut Opener<'_>) -> Result<Vec<Problem>> {
    let n = match count(g) {
        Ok(n) => n,
        Err(e) => return Ok(e.problems().to_vec()),
    };
    g.n_files = n;
    let mut problems = Vec::new();
    for i in 1..n {
        if problems.len() >= options.limits.problems {
            break;
        }
        match open(i, n) {
            Ok(bytes) => problems.extend(add(g, bytes, i, options)),
            Err(e) if e.class() == Class::Model => problems.extend_from_slice(e.problems()),
            Err(e) => return Err(e),
        }
    }
    problems.extend(index(g, &options.limits));
    if let (true, Ok(Some(want))) = (problems.is_empty(), g.u32(TENSORS))
        && g.tensors.len() != usize::try_from(want).unwrap_or(usize::MAX)
    {
        let found = format!("{} tensors in {n} files", g.tensors.len());
        problems.push(g.problem("Inconsistent", TENSORS).found(found).expected(want.to_string()));
    }
    problems.truncate(options.limits.problems.max(1));
    Ok(problems)
}

/// Parses file `i` and adds its tensors. Returns its problems, with its name.
fn add(g: &mut Gguf, bytes: Bytes, i: usize, options: &ParseOptions) -> Vec<Problem> {
    let (part, mut problems) = parse::parse(bytes, options);
    if problems.is_empty() {
        problems = header(g, &part, i);
    }
    let name = part.bytes().name(i);
    for p in &mut problems {
        p.thing = format!("{name}: {}", p.thing);
    }
    g.cut |= part.cut;
    g.others.push(part.bytes.clone());
    let row = u16::try_from(g.others.len()).unwrap_or(u16::MAX);
    g.tensors.extend(part.tensors.into_iter().map(|mut t| {
        t.file = row;
        t
    }));
    problems
}

/// What the header of file `i` must say.
fn header(first: &Gguf, part: &Gguf, i: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut demand = |key: &str, want: Option<u32>, needed: bool| match part.u32(key) {
        Ok(None) if needed => problems.push(part.problem("MissingKey", key).expected("an integer")),
        Ok(Some(found)) if want.is_some_and(|w| w != found) => {
            let want = want.unwrap_or_default().to_string();
            let p = part.problem("Inconsistent", key).found(found.to_string()).expected(want);
            problems.push(p.hint("the files are not all of one model"));
        }
        Ok(_) => {}
        Err(e) => problems.extend_from_slice(e.problems()),
    };
    // The number alone is required: what llama.cpp asks for.
    demand(NO, u32::try_from(i).ok(), true);
    demand(COUNT, first.u32(COUNT).ok().flatten(), false);
    demand(TENSORS, first.u32(TENSORS).ok().flatten(), false);
    problems
}

/// Sorts the table of all files by name, and finds names that come twice, and too many of them.
fn index(g: &mut Gguf, limits: &Limits) -> Vec<Problem> {
    if g.others.is_empty() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let total = as_u64(g.tensors.len());
    if total > limits.tensors {
        let p = Problem::new("CountTooLarge", "number of tensors of all files").found(total.to_string());
        problems.push(p.expected(format!("at most {}", limits.tensors)));
    }
    let tensor = |row: &u32| usize::try_from(*row).ok().and_then(|row| g.tensors.get(row));
    let name = |row: &u32| tensor(row).map_or("", |t| &*t.name);
    let mut rows: Vec<u32> = (0..).take(g.tensors.len()).collect();
    rows.sort_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
    for pair in rows.windows(2) {
        if let [a, b] = pair
            && let (Some(first), Some(second)) = (tensor(a), tensor(b))
            && first.name == second.name
            // Twice in one file was found when that was parsed.
            && first.file != second.file
            && problems.len() < limits.problems
        {
            let p = Problem::new("DuplicateTensor", g.thing(second)).at(second.offset);
            problems.push(p.found(format!("a second one, the first in {}", g.file_name(first))));
        }
    }
    g.by_name = rows;
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        let at =
            |path: &str, known, n, i| name_of(Path::new(path), known, n, i).map(|n| n.into_string().unwrap());
        assert_eq!(at("a/m-00001-of-00003.gguf", 0, 3, 2).unwrap(), "m-00003-of-00003.gguf");
        assert_eq!(at("m-00002-of-00003.gguf", 1, 3, 0).unwrap(), "m-00001-of-00003.gguf");
        assert_eq!(at("..-00001-of-00002.gguf", 0, 2, 1).unwrap(), "..-00002-of-00002.gguf");
        assert_eq!(at("m-00001-of-65535.gguf", 0, 65535, 65534).unwrap(), "m-65535-of-65535.gguf");
        for other in ["m-00001-of-00004.gguf", "m-00002-of-00003.gguf", "-00001-of-00003.gguf", "m.gguf", ""]
        {
            assert_eq!(at(other, 0, 3, 1), None, "{other}");
        }
        let path = beside(Path::new("x/../m-00001-of-00002.gguf"), 1, 2).unwrap();
        assert_eq!(path, Path::new("x/../m-00002-of-00002.gguf"));
        assert_eq!(beside(Path::new("m.gguf"), 1, 2).unwrap_err().code(), "MissingShard");
    }

    #[cfg(unix)]
    #[test]
    fn names_need_not_be_text() {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let first = OsStr::from_bytes(b"d/\xff-00001-of-00002.gguf");
        let second = beside(Path::new(first), 1, 2).unwrap().into_os_string().into_vec();
        assert_eq!(second, b"d/\xff-00002-of-00002.gguf");
    }
}
