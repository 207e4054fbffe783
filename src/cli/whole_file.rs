//! Output files that are whole or not there.

use super::interrupt;
use super::out::{Failure, file_not_writable};
use indicatif::ProgressBar;
use quipu::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes a file under another name beside `path` and renames it when it is whole and on the disk; Ctrl-C and errors
/// remove it. What is there under `path` is replaced. Devices and pipes are written as they are.
///
/// # Errors
/// Those of `write`, and `OutputNotWritable`.
pub fn write(path: &Path, write: impl FnOnce(File) -> Result<File, Failure>) -> Result<(), Failure> {
    let special = path.exists() && !path.is_file();
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    let part = if special { path.to_owned() } else { PathBuf::from(part) };
    let file = File::create(&part).map_err(|e| file_not_writable(path, &e))?;
    interrupt::unfinished((!special).then_some(&part));
    let result = write(file).and_then(|file| {
        if special {
            return Ok(());
        }
        let moved = file.sync_all().and_then(|()| std::fs::rename(&part, path));
        moved.map_err(|e| file_not_writable(path, &e))
    });
    if result.is_err() {
        interrupt::remove_unfinished();
    }
    interrupt::unfinished(None);
    result
}

/// The failure of a library call that writes `path`: its `Io` is about that file.
pub fn failed(path: &Path, e: Error) -> Failure {
    match e.problems() {
        [p] if p.code == "Io" => file_not_writable(path, &io::Error::other(p.found.clone())),
        _ => e.into(),
    }
}

/// A file whose bar moves as it is written.
#[derive(Debug)]
pub struct Counted<'a> {
    /// Where the bytes go.
    pub file: &'a File,
    /// What shows them.
    pub bar: ProgressBar,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.bar.inc(n as u64);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
