//! From one GGUF file to another with other element types, as a stream: a batch of rows is decoded, encoded and
//! written before the next is read.
//!
//! The types are those of [`super::mix`]; metadata is copied in its order, with `general.file_type` and
//! `general.quantization_version` set and what describes splits left out.

use super::file_type::FileType;
use super::gguf::{Gguf, TensorInfo};
use super::mix::{self, Assigned, Facts, Item};
use super::value::Value;
use super::write::GgufWriter;
use crate::error::{Class, Error, Problem, Result, escape};
use crate::quant::{Codec, DType};
use rayon::prelude::*;
use std::io::{self, Write};

/// What to make of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Exceptions from the rules.
    pub mix: mix::Options,
    /// Take tensors that are quantised already; what the first quantisation lost stays lost.
    pub allow_requantize: bool,
}

/// `general.quantization_version`: the layout of blocks, 2 since 2023.
const QUANTIZATION_VERSION: u32 = 2;

/// Elements decoded at a time, at most (and at least one row).
const BATCH: usize = 4 << 20;

/// A file to be written: every tensor's new type, and the header.
#[derive(Debug)]
pub struct Plan<'a> {
    file: &'a Gguf,
    assigned: Vec<Assigned>,
    header: GgufWriter,
}

/// One tensor of a plan.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row<'a> {
    /// Name.
    pub name: &'a str,
    /// Dimensions in file order, a row first.
    pub dims: &'a [u64],
    /// Type in the input.
    pub from: DType,
    /// Bytes in the input.
    pub from_bytes: u64,
    /// Type in the output.
    pub to: DType,
    /// Bytes in the output.
    pub to_bytes: u64,
    /// The type that the rules chose, where rows do not fit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<DType>,
}

impl<'a> Plan<'a> {
    /// Decides the type of every tensor of `file`.
    ///
    /// # Errors
    /// Usage: `Requantize` for tensors that are quantised already unless that is allowed. Model: `UnsupportedType`
    /// for tensors that must change and cannot be decoded, `SizeOverflow`; every such tensor is named.
    pub fn new(file: &'a Gguf, file_type: FileType, options: &Options) -> Result<Plan<'a>> {
        let tensors = file.tensors();
        let items: Vec<_> =
            tensors.iter().map(|t| Item { name: &t.name, dtype: t.dtype, dims: &t.dims }).collect();
        let assigned = mix::assign(&items, &Facts::of(file)?, file_type, &options.mix);
        let changed = || tensors.iter().zip(&assigned).filter(|(t, a)| t.dtype != a.to);
        let problem = |code, t: &TensorInfo| Problem::new(code, file.thing(t)).found(t.dtype.to_string());
        let unknown = changed().filter(|(t, _)| t.dtype.codec().is_none());
        let unknown =
            unknown.map(|(t, _)| problem("UnsupportedType", t).expected("a type that can be decoded"));
        Error::from_problems(Class::Model, unknown.collect())?;
        let twice = changed().filter(|(t, _)| t.dtype.block() > 1 && !options.allow_requantize);
        let twice = twice.map(|(t, a)| {
            problem("Requantize", t)
                .expected("F32, F16 or BF16")
                .hint(format!("--allow-requantize makes {} of it, with the loss of both", a.to))
        });
        Error::from_problems(Class::Usage, twice.collect())?;
        Ok(Plan { file, header: header(file, file_type, &assigned)?, assigned })
    }

    /// The tensors in the order of the file.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.file.tensors().iter().zip(&self.assigned).map(|(t, a)| Row {
            name: &t.name,
            dims: &t.dims,
            from: t.dtype,
            from_bytes: t.bytes,
            to: a.to,
            to_bytes: super::layout::tensor_bytes(a.to, &t.dims).unwrap_or(0),
            instead_of: a.instead_of,
        })
    }

    /// Writes the file. `progress` is told the row of every tensor when it begins, and the input bytes read so far.
    ///
    /// # Errors
    /// `Io` (runtime) if `out` fails; `NonFiniteTensor` (model) for a weight that is no finite number, or is none in
    /// its new type; `MissingData` (model) if the file has no data.
    pub fn write(&self, out: impl Write, progress: &mut dyn FnMut(usize, u64)) -> Result<()> {
        let failed = |e: io::Error| Error::runtime(Problem::new("Io", "model file").found(e.to_string()));
        let mut data = self.header.begin(out).map_err(failed)?;
        let mut done = 0u64;
        let mut rows = Rows::default();
        for (i, (t, a)) in self.file.tensors().iter().zip(&self.assigned).enumerate() {
            progress(i, done);
            let missing = || Error::model(Problem::new("MissingData", self.file.thing(t)));
            let bytes = self.file.data(t).ok_or_else(missing)?;
            if t.dtype == a.to {
                for part in bytes.chunks(16 << 20) {
                    data.write(part).map_err(failed)?;
                    self.release(part);
                    done += part.len() as u64;
                    progress(i, done);
                }
                continue;
            }
            let (Some(from), Some(to)) = (t.dtype.codec(), a.to.codec()) else {
                return Err(Error::runtime(Problem::new("UnsupportedType", escape(&t.name))));
            };
            let cols = usize::try_from(t.dims.first().copied().unwrap_or(1)).unwrap_or(usize::MAX);
            let (Some(row), Some(new_row)) = (t.dtype.row_bytes(cols), a.to.row_bytes(cols)) else {
                return Err(Error::runtime(Problem::new("SizeOverflow", escape(&t.name))));
            };
            let batch = row.saturating_mul((BATCH / cols.max(1)).max(1));
            for part in bytes.chunks(batch) {
                let new = rows
                    .convert(part, (from, row), (to, new_row), cols)
                    .ok_or_else(|| not_finite(self.file.thing(t), t, a.to))?;
                data.write(new).map_err(failed)?;
                self.release(part);
                done += part.len() as u64;
                progress(i, done);
            }
        }
        data.finish().map_err(failed)?;
        Ok(())
    }

    fn release(&self, part: &[u8]) {
        self.file.files().for_each(|f| f.release(part));
    }

    /// The bytes of the new file.
    pub fn file_bytes(&self) -> u64 {
        self.header.file_bytes()
    }
}

fn not_finite(thing: String, t: &TensorInfo, to: DType) -> Error {
    let p = Problem::new("NonFiniteTensor", thing).at(t.offset);
    Error::model(
        p.found("an infinity or no number").expected(format!("finite weights within the range of {to}")),
    )
}

/// Room for a batch of rows.
#[derive(Default)]
struct Rows {
    new: Vec<u8>,
}

impl Rows {
    /// The rows of `part` in another type; `None` if one is not finite before or after.
    fn convert(
        &mut self,
        part: &[u8],
        (from, row): (&Codec, usize),
        (to, new_row): (&Codec, usize),
        cols: usize,
    ) -> Option<&[u8]> {
        self.new.resize(part.len() / row * new_row, 0);
        let rows = part.par_chunks_exact(row).zip(self.new.par_chunks_exact_mut(new_row));
        let finite = rows.map_init(
            || vec![0f32; cols],
            |values, (old, new)| {
                (from.decode)(old, values);
                let before = values.iter().all(|x| x.is_finite());
                (to.encode)(values, new);
                (to.decode)(new, values);
                before && values.iter().all(|x| x.is_finite())
            },
        );
        finite.reduce(|| true, |a, b| a && b).then_some(&self.new)
    }
}

/// The metadata of `file` and the new tensor table.
fn header(file: &Gguf, file_type: FileType, assigned: &[Assigned]) -> Result<GgufWriter> {
    let mut out = match u32::try_from(file.alignment()) {
        Ok(n) if file.get("general.alignment").is_some() => GgufWriter::with_alignment(n),
        _ => GgufWriter::new(),
    };
    let set = [("general.file_type", file_type.id), ("general.quantization_version", QUANTIZATION_VERSION)];
    let mut put = |key: &str, value: Value<'_>| {
        if key != "general.alignment" && !key.starts_with("split.") {
            let new = set.iter().find(|(k, _)| *k == key).map(|s| Value::U32(s.1));
            out.kv(key, new.unwrap_or(value));
        }
    };
    for (key, value) in file.entries() {
        put(key, file.get(key).unwrap_or(value));
    }
    let missing = |key: &str| !file.entries().any(|(k, _)| k == key);
    for (key, value) in file.overrides().filter(|(k, _)| missing(k)) {
        put(key, value.value());
    }
    for (key, value) in set {
        if missing(key) && !file.overrides().any(|(k, _)| k == key) {
            put(key, Value::U32(value));
        }
    }
    for (t, a) in file.tensors().iter().zip(assigned) {
        out.tensor(&t.name, a.to, &t.dims)
            .map_err(|e| Error::model(Problem::new("SizeOverflow", escape(&t.name)).found(e.to_string())))?;
    }
    Ok(out)
}
