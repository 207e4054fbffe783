//! A parsed GGUF file: metadata entries, tensor table, and the bytes they describe.
//!
//! Versions 2 and 3, little-endian. Parsing reads the header only; arrays and tensor data stay in the file.
//! Source: the GGUF specification, and what llama.cpp's reader accepts.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic
)]

use super::bytes::{Bytes, LoadMode};
use super::overrides::OverrideValue;
use super::value::{ArrayView, Value, ValueType};
use super::{parse, split};
use crate::error::{Class, Error, Problem, Result, escape};
use crate::quant::DType;
use smallvec::SmallVec;
use std::path::Path;

/// Alignment of tensor data where the file does not say.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// What a file may ask for. The defaults are far above any real model; raise them for one that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of a string value.
    pub string_bytes: u64,
    /// Elements of an array.
    pub array_elems: u64,
    /// Metadata entries.
    pub kv: u64,
    /// Tensors.
    pub tensors: u64,
    /// Alignment of tensor data, in bytes.
    pub alignment: u64,
    /// Problems collected before parsing gives up.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes: 64 << 10,
            string_bytes: 64 << 20,
            array_elems: 1 << 26,
            kv: 1 << 16,
            tensors: 1 << 20,
            alignment: 1 << 20,
            problems: 64,
        }
    }
}

/// How to parse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Limits on what the file may ask for.
    pub limits: Limits,
    /// Accept a file that was cut after its header: tensor data is not looked for.
    pub header_only: bool,
}

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, for example `blk.0.attn_q.weight`; at most 63 bytes, no control characters.
    pub name: Box<str>,
    /// Element type.
    pub dtype: DType,
    /// Dimensions in file order: the first varies fastest (a row), so a matrix is `[cols, rows]`.
    pub dims: SmallVec<[u64; 4]>,
    /// Row of [`Gguf::files`]; 0 unless the model is split.
    pub file: u16,
    /// Offset of the data from the start of its file.
    pub offset: u64,
    /// Bytes of the data, without padding.
    pub bytes: u64,
}

impl TensorInfo {
    /// Number of elements; checked not to overflow when the file was parsed.
    pub fn elements(&self) -> u64 {
        self.dims.iter().fold(1u64, |n, d| n.saturating_mul(*d))
    }
}

/// A metadata entry as it was found.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    /// Offset of the value's type field.
    pub(super) at: u64,
    pub(super) raw: Raw,
}

/// A value as a place in the file.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Scalar(ValueType, [u8; 8]),
    Str { pos: usize, len: usize },
    Array { elem: ValueType, len: usize, pos: usize, bytes: usize },
}

/// A parsed GGUF file, or the files of a split model as one. Cheap to share behind an `Arc`; its bytes are shared by
/// clones.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub(super) bytes: Bytes,
    /// The files of a split model behind the first, those that could be opened.
    pub(super) others: Vec<Bytes>,
    /// Files the model should have.
    pub(super) n_files: usize,
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) entries: Vec<Entry>,
    /// Rows of `entries`, sorted by key.
    pub(super) by_key: Vec<u32>,
    pub(super) tensors: Vec<TensorInfo>,
    /// Rows of `tensors`, sorted by name.
    pub(super) by_name: Vec<u32>,
    pub(super) data_offset: u64,
    pub(super) cut: bool,
    pub(super) overrides: Vec<(Box<str>, OverrideValue)>,
}

impl Gguf {
    /// Opens and parses a file. With `header_only` and [`LoadMode::Auto`] it is mapped whatever its size. If it is
    /// the first of a split model (`NAME-00001-of-00003.gguf`), the others are opened beside it.
    ///
    /// # Errors
    /// As [`Bytes::open`] and [`Gguf::parse`]; `NotFirstShard`, `MissingShard` about a split model.
    pub fn open(path: &Path, mode: LoadMode, options: &ParseOptions) -> Result<Gguf> {
        Gguf::open_with(path, mode, options, &mut |_, _| {})
    }

    /// As [`Gguf::open`], calling `progress(bytes done, bytes in all)` while it reads; never called for maps.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn open_with(
        path: &Path,
        mode: LoadMode,
        options: &ParseOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Gguf> {
        let (gguf, problems) = Gguf::open_partly(path, mode, options, progress)?;
        Error::from_problems(Class::Model, problems).map(|()| gguf)
    }

    /// As [`Gguf::open_with`], but returns what could be read of damaged files beside their problems.
    ///
    /// # Errors
    /// As [`Bytes::open`] for the first file; `InsufficientMemory` for any.
    pub fn open_partly(
        path: &Path,
        mode: LoadMode,
        options: &ParseOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Gguf, Vec<Problem>)> {
        let mode = if options.header_only && mode == LoadMode::Auto { LoadMode::Mmap } else { mode };
        let (mut g, mut problems) = parse::parse(Bytes::open_with(path, mode, progress)?, options);
        if problems.is_empty() {
            problems = split::attach_beside(&mut g, path, mode, options, progress)?;
        }
        Ok((g, problems))
    }

    /// Parses the header of `bytes`.
    ///
    /// # Errors
    /// Class `Model`, with every problem found; the codes are listed in [`crate::loader`]. A file of a split model
    /// is refused: see [`Gguf::parse_files`].
    pub fn parse(bytes: Bytes, options: &ParseOptions) -> Result<Gguf> {
        let (gguf, problems) = Gguf::parse_partly(bytes, options);
        Error::from_problems(Class::Model, problems).map(|()| gguf)
    }

    /// As [`Gguf::parse`], but returns what could be read of a damaged file beside its problems.
    pub fn parse_partly(bytes: Bytes, options: &ParseOptions) -> (Gguf, Vec<Problem>) {
        Gguf::parse_files([bytes], options)
    }

    /// As [`Gguf::parse_partly`], for all files of a split model in their order.
    pub fn parse_files(
        files: impl IntoIterator<Item = Bytes>,
        options: &ParseOptions,
    ) -> (Gguf, Vec<Problem>) {
        let mut files = files.into_iter();
        let first = files.next().unwrap_or_else(|| Bytes::from(Vec::new()));
        let (mut g, mut problems) = parse::parse(first, options);
        if problems.is_empty() {
            problems = split::attach_given(&mut g, options, &mut files);
        }
        (g, problems)
    }

    /// Format version, 2 or 3 (0 if the file ended before it).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Offset of the data section, equal to the header's length rounded up to the alignment.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Whether the header was read to its end, those of all files if the model is split; otherwise entries and
    /// tensors behind the damage are not known.
    pub fn has_whole_header(&self) -> bool {
        self.data_offset != 0 && self.files().count() == self.n_files
    }

    /// Whether tensor data is missing from the file (possible only with [`ParseOptions::header_only`]).
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The bytes of the file; of a split model, of the first.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All files of the model: one, unless it is split.
    pub fn files(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.bytes).chain(&self.others)
    }

    /// Whether the model is split over several files.
    pub fn is_split(&self) -> bool {
        self.n_files > 1
    }

    /// Bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.files().fold(0, |n, f| n.saturating_add(super::cursor::as_u64(f.len())))
    }

    /// The name of the file with a tensor's data, quoted and escaped.
    pub fn file_name(&self, tensor: &TensorInfo) -> String {
        let i = usize::from(tensor.file);
        self.files().nth(i).map_or_else(String::new, |f| f.name(i))
    }

    /// A tensor in a message: its name, behind that of its file if it is not in the first.
    pub fn thing(&self, tensor: &TensorInfo) -> String {
        let name = escape(&tensor.name);
        match tensor.file {
            0 => format!("tensor {name}"),
            _ => format!("{}: tensor {name}", self.file_name(tensor)),
        }
    }

    /// The value of a key, overrides first.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        if let Some((_, v)) = self.overrides.iter().rev().find(|(k, _)| &**k == key) {
            return Some(v.value());
        }
        self.entry(key).and_then(|e| self.value(e))
    }

    /// Every entry of the file in its order, without overrides.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|e| self.value(e).map(|v| (&*e.key, v)))
    }

    /// The overrides set so far.
    pub fn overrides(&self) -> impl Iterator<Item = (&str, &OverrideValue)> {
        self.overrides.iter().map(|(k, v)| (&**k, v))
    }

    /// Where in the file the value of a key is described (not for an overridden key).
    pub fn offset_of(&self, key: &str) -> Option<u64> {
        if self.overrides.iter().any(|(k, _)| &**k == key) {
            return None;
        }
        self.entry(key).map(|e| e.at)
    }

    /// Replaces or adds a value, as `--override-kv` does. The last one set for a key holds.
    ///
    /// # Errors
    /// Usage, for `general.alignment`: it decides where tensors lie, and they have been found already.
    pub fn set_override(&mut self, key: &str, value: OverrideValue) -> Result<()> {
        if key == "general.alignment" {
            return Err(Error::usage(
                Problem::new("BadOverride", key).hint("the alignment of a file cannot be overridden"),
            ));
        }
        self.overrides.push((key.into(), value));
        Ok(())
    }

    /// An integer of any width that fits `u32`; `None` if the key is absent.
    ///
    /// # Errors
    /// `WrongType` or `OutOfRange`, naming the key.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.get(key).map(|v| self.as_u32(key, &v)).transpose()
    }

    fn as_u32(&self, key: &str, v: &Value<'_>) -> Result<u32> {
        if !v.is_integer() {
            return Err(self.wrong_type(key, v, "an integer"));
        }
        v.as_i64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
            Error::model(
                self.problem("OutOfRange", key).found(v.to_string()).expected(format!("0 to {}", u32::MAX)),
            )
        })
    }

    /// A float of either width; `None` if the key is absent.
    ///
    /// # Errors
    /// `WrongType`, naming the key.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        #[allow(clippy::cast_possible_truncation)] // to the nearest f32, which is what is asked for
        let narrow = |v: f64| v as f32;
        self.get(key)
            .map(|v| v.as_f64().map(narrow).ok_or_else(|| self.wrong_type(key, &v, "a float")))
            .transpose()
    }

    /// A string; `None` if the key is absent.
    ///
    /// # Errors
    /// `WrongType` or `NotUtf8`, naming the key.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Str(s)) => match std::str::from_utf8(s) {
                Ok(s) => Ok(Some(s)),
                Err(_) => Err(Error::model(self.problem("NotUtf8", key).found(Value::Str(s).to_string()))),
            },
            Some(v) => Err(self.wrong_type(key, &v, "a string")),
        }
    }

    /// A boolean; `None` if the key is absent.
    ///
    /// # Errors
    /// `WrongType`, naming the key.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(v) => Err(self.wrong_type(key, &v, "a bool")),
        }
    }

    /// An array of any element type; `None` if the key is absent.
    ///
    /// # Errors
    /// `WrongType`, naming the key.
    pub fn array(&self, key: &str) -> Result<Option<ArrayView<'_>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(a)) => Ok(Some(a)),
            Some(v) => Err(self.wrong_type(key, &v, "an array")),
        }
    }

    /// `general.architecture`.
    ///
    /// # Errors
    /// `MissingKey`, `WrongType` or `NotUtf8`.
    pub fn architecture(&self) -> Result<&str> {
        const KEY: &str = "general.architecture";
        self.str(KEY)?.ok_or_else(|| Error::model(self.problem("MissingKey", KEY).expected("a string")))
    }

    /// The tensors in file order, file after file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(self.tensor_row(name)?)
    }

    /// The row of [`Gguf::tensors`] with this name.
    pub fn tensor_row(&self, name: &str) -> Option<usize> {
        lookup(&self.by_name, &self.tensors, |t| &t.name, name)
    }

    /// The data of a tensor of this model; `None` if its file was cut before its end.
    pub fn data(&self, tensor: &TensorInfo) -> Option<&[u8]> {
        let start = usize::try_from(tensor.offset).ok()?;
        let end = start.checked_add(usize::try_from(tensor.bytes).ok()?)?;
        self.files().nth(usize::from(tensor.file))?.get(start..end)
    }

    /// A `WrongType` error about a key, with its offset.
    pub fn wrong_type(&self, key: &str, found: &Value<'_>, expected: &str) -> Error {
        let found = match found {
            Value::Array(a) => format!("an array of {}", a.element_type()),
            v => format!("type {}", v.value_type()),
        };
        Error::model(self.problem("WrongType", key).found(found).expected(expected))
    }

    /// A problem about a key: escaped, with its offset if it is in the file.
    pub fn problem(&self, code: &'static str, key: &str) -> Problem {
        let p = Problem::new(code, format!("key {}", escape(key)));
        match self.offset_of(key) {
            Some(at) => p.at(at),
            None => p,
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(lookup(&self.by_key, &self.entries, |e| &e.key, key)?)
    }

    fn value(&self, e: &Entry) -> Option<Value<'_>> {
        let range = |pos: usize, len: usize| self.bytes.get(pos..pos.checked_add(len)?);
        match e.raw {
            Raw::Scalar(ty, bits) => Value::scalar(ty, bits),
            Raw::Str { pos, len } => range(pos, len).map(Value::Str),
            Raw::Array { elem, len, pos, bytes } => {
                range(pos, bytes).map(|data| Value::Array(ArrayView::new(elem, len, data)))
            }
        }
    }
}

/// Finds the row called `name` through `index`, which is sorted by name.
fn lookup<T>(index: &[u32], rows: &[T], name_of: impl Fn(&T) -> &str, name: &str) -> Option<usize> {
    let row = |i: &u32| usize::try_from(*i).ok();
    let at =
        index.binary_search_by(|i| row(i).and_then(|i| rows.get(i)).map_or("", &name_of).cmp(name)).ok()?;
    index.get(at).and_then(row)
}
