//! The header of a GGUF file: magic, counts, metadata entries, tensor table.
//!
//! A problem that leaves the position known is noted and parsing goes on; one that does not stops it. Either way
//! the first problem noted is the first in the file.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic
)]

use super::bytes::Bytes;
use super::cursor::{Cursor, as_u64, pad};
use super::gguf::{DEFAULT_ALIGNMENT, Entry, Gguf, Limits, ParseOptions, Raw, TensorInfo};
use super::layout;
use super::value::ValueType;
use crate::error::{Problem, escape};
use crate::quant::DType;
use smallvec::SmallVec;

/// Least bytes of an entry: an empty key, a type and a one-byte value, less what an empty key would save.
const KV_MIN_BYTES: u64 = 14;
/// Least bytes of a tensor's row in the table.
const TENSOR_MIN_BYTES: u64 = 33;
/// Tensor names are shorter than this, as in ggml.
const NAME_BYTES: usize = 64;
/// Dimensions of a tensor, at most.
const MAX_RANK: u32 = 4;

/// Parsing cannot go on; the reason has been noted.
struct Stop;

struct Parser<'a> {
    c: Cursor<'a>,
    limits: &'a Limits,
    problems: Vec<Problem>,
}

/// Parses what can be parsed of `bytes`.
pub(super) fn parse(bytes: Bytes, options: &ParseOptions) -> (Gguf, Vec<Problem>) {
    let mut g = Gguf {
        bytes: bytes.clone(),
        others: Vec::new(),
        n_files: 1,
        version: 0,
        alignment: DEFAULT_ALIGNMENT,
        entries: Vec::new(),
        by_key: Vec::new(),
        tensors: Vec::new(),
        by_name: Vec::new(),
        data_offset: 0,
        cut: false,
        overrides: Vec::new(),
    };
    let mut p = Parser { c: Cursor::new(&bytes), limits: &options.limits, problems: Vec::new() };
    let whole = p.header(&mut g).is_ok();
    // What was read is looked up by name even if the rest is damaged.
    g.by_key = p.index(&g.entries, "DuplicateKey", |e| &e.key, |e| e.at);
    let clean = p.problems.is_empty();
    if whole && clean {
        p.problems = layout::check(&mut g, options.header_only);
    }
    for t in &mut g.tensors {
        t.offset = t.offset.saturating_add(g.data_offset);
    }
    (g, p.problems)
}

impl<'a> Parser<'a> {
    fn note(&mut self, p: Problem) -> Result<(), Stop> {
        self.problems.push(p);
        if self.problems.len() < self.limits.problems { Ok(()) } else { Err(Stop) }
    }

    fn must<T>(&mut self, r: Result<T, Box<Problem>>) -> Result<T, Stop> {
        r.map_err(|p| {
            self.problems.push(*p);
            Stop
        })
    }

    fn stop<T>(&mut self, p: Problem) -> Result<T, Stop> {
        self.problems.push(p);
        Err(Stop)
    }

    fn header(&mut self, g: &mut Gguf) -> Result<(), Stop> {
        self.magic()?;
        g.version = self.version()?;
        let n_tensors = self.count("tensors", TENSOR_MIN_BYTES, self.limits.tensors)?;
        let n_kv = self.count("kv", KV_MIN_BYTES, self.limits.kv)?;
        for i in 0..n_kv {
            let entry = self.entry(i)?;
            g.entries.push(entry);
        }
        g.by_key = self.index(&g.entries, "", |e| &e.key, |e| e.at);
        self.alignment(g)?;
        let mut at = Vec::new();
        for i in 0..n_tensors {
            at.push(self.c.offset());
            if let Some(t) = self.tensor(i)? {
                g.tensors.push(t);
            } else {
                at.pop();
            }
        }
        let mut row_at = at.into_iter();
        let rows: Vec<_> = g.tensors.iter().map(|t| (&*t.name, row_at.next().unwrap_or(0))).collect();
        g.by_name = self.index(&rows, "DuplicateTensor", |r| r.0, |r| r.1);
        drop(rows);
        // A file without tensors may end before its padding.
        g.data_offset = pad(self.c.offset(), g.alignment).unwrap_or(u64::MAX);
        Ok(())
    }

    fn magic(&mut self) -> Result<(), Stop> {
        let start = self.c.peek(16);
        let magic = self.c.take(4, &|| "magic".into());
        let magic = self.must(magic)?;
        if magic != b"GGUF" {
            let hint = match start {
                _ if legacy(magic) => "a legacy GGML file: convert it to GGUF",
                [b'F', b'U', b'G', b'G', ..] => "a GGUF file with its bytes swapped",
                [b'P', b'K', 3, 4, ..] => "looks like a zip archive or a PyTorch checkpoint",
                [0x80, ..] => "looks like a Python pickle",
                [b'<', ..] => "looks like HTML: failed download?",
                [b'v', b'e', b'r', b's', ..] => "looks like a Git LFS pointer: fetch the file itself",
                [_, _, _, _, _, _, _, _, b'{', ..] => "looks like safetensors: convert it to GGUF",
                [b'{', ..] => "looks like JSON: failed download?",
                _ => "not a GGUF file",
            };
            let found = format!("\"{}\"", magic.escape_ascii());
            return self
                .stop(Problem::new("BadMagic", "magic").at(0).found(found).expected("\"GGUF\"").hint(hint));
        }
        Ok(())
    }

    fn version(&mut self) -> Result<u32, Stop> {
        let at = self.c.offset();
        let version = self.c.u32(&|| "version".into());
        let version = self.must(version)?;
        let problem =
            |code| Problem::new(code, "version").at(at).found(version.to_string()).expected("2 or 3");
        match version {
            2 | 3 => Ok(version),
            0 => self.stop(problem("BadVersion")),
            v if v.trailing_zeros() >= 16 => {
                self.stop(problem("BigEndian").hint("the file was written for a big-endian machine"))
            }
            _ => self.stop(problem("UnsupportedVersion")),
        }
    }

    /// A count of the header. A plausible one that the file is too short for shows as `Truncated` where it ends.
    fn count(&mut self, what: &str, min_bytes: u64, limit: u64) -> Result<u64, Stop> {
        let at = self.c.offset();
        let thing = || format!("number of {what}");
        let n = self.c.u64(&thing);
        let n = self.must(n)?;
        if n <= limit {
            return Ok(n);
        }
        let problem = |code| Problem::new(code, thing()).at(at).found(n.to_string());
        match n.checked_mul(min_bytes).filter(|b| i64::try_from(*b).is_ok()) {
            Some(bytes) if bytes > self.c.left() => {
                let left = format!("as many as fit {} bytes", self.c.left());
                self.stop(problem("CountExceedsFile").expected(left))
            }
            _ => self.stop(problem("CountTooLarge").expected(format!("at most {limit}"))),
        }
    }

    fn entry(&mut self, i: u64) -> Result<Entry, Stop> {
        let key_at = self.c.offset();
        let key = self.c.string(&|| format!("key of entry {i}"));
        let key = self.must(key)?;
        let text = String::from_utf8_lossy(key);
        let problem = |code| Problem::new(code, format!("key of entry {i}")).at(key_at);
        if key.is_empty() {
            self.note(problem("EmptyKey"))?;
        } else if as_u64(key.len()) > self.limits.key_bytes {
            let most = format!("at most {}", self.limits.key_bytes);
            self.note(problem("KeyTooLong").found(format!("{} bytes", key.len())).expected(most))?;
        } else if std::str::from_utf8(key).is_err() {
            self.note(problem("KeyNotUtf8").found(format!("\"{}\"", escape(&text))))?;
        } else if text.chars().any(char::is_control) {
            self.note(problem("BadKeyChar").found(format!("\"{}\"", escape(&text))))?;
        }
        let at = self.c.offset();
        let thing = || format!("key {}", escape(&text));
        let ty = self.value_type(&thing)?;
        let raw = match ty {
            ValueType::Array => self.array(&thing)?,
            ValueType::Str => {
                let len_at = self.c.offset();
                let s = self.c.string(&thing);
                let s = self.must(s)?;
                if as_u64(s.len()) > self.limits.string_bytes {
                    let most = format!("at most {}", self.limits.string_bytes);
                    let p = Problem::new("StringTooLong", thing()).at(len_at);
                    self.note(p.found(format!("{} bytes", s.len())).expected(most))?;
                }
                Raw::Str { pos: self.c.pos().saturating_sub(s.len()), len: s.len() }
            }
            scalar => {
                let value_at = self.c.offset();
                let b = self.c.take(scalar.min_bytes(), &thing);
                let b = self.must(b)?;
                if scalar == ValueType::Bool {
                    self.bools(b, value_at, &thing)?;
                }
                let mut bits = [0u8; 8];
                bits.iter_mut().zip(b).for_each(|(to, from)| *to = *from);
                Raw::Scalar(scalar, bits)
            }
        };
        Ok(Entry { key: text.as_ref().into(), at, raw })
    }

    fn value_type(&mut self, thing: &dyn Fn() -> String) -> Result<ValueType, Stop> {
        let at = self.c.offset();
        let id = self.c.u32(thing);
        let id = self.must(id)?;
        match ValueType::from_id(id) {
            Some(ty) => Ok(ty),
            None => {
                let p = Problem::new("BadValueType", thing()).at(at).found(id.to_string());
                self.stop(p.expected("0 to 12"))
            }
        }
    }

    fn bools(&mut self, bytes: &[u8], at: u64, thing: &dyn Fn() -> String) -> Result<(), Stop> {
        match bytes.iter().position(|b| *b > 1) {
            None => Ok(()),
            Some(i) => {
                let found = bytes.get(i).map_or_else(String::new, u8::to_string);
                let p = Problem::new("BadBool", thing()).at(at.saturating_add(as_u64(i)));
                self.note(p.found(found).expected("0 or 1"))
            }
        }
    }

    /// An array: its end is found (by walking, for strings), its elements are not decoded.
    fn array(&mut self, thing: &dyn Fn() -> String) -> Result<Raw, Stop> {
        let elem_at = self.c.offset();
        let elem = self.value_type(thing)?;
        if elem == ValueType::Array {
            let p = Problem::new("NestedArray", thing()).at(elem_at);
            return self.stop(p.found("an array of arrays").expected("an array of scalars or strings"));
        }
        let count_at = self.c.offset();
        let n = self.c.u64(thing);
        let n = self.must(n)?;
        let need = n.checked_mul(as_u64(elem.min_bytes())).filter(|b| *b <= self.c.left());
        let (Some(need), Ok(len)) = (need.and_then(|b| usize::try_from(b).ok()), usize::try_from(n)) else {
            let p = Problem::new("CountExceedsFile", thing()).at(count_at).found(format!("{n} elements"));
            let left = format!("as many as fit {} bytes", self.c.left());
            return self.stop(p.expected(left));
        };
        if n > self.limits.array_elems {
            let p = Problem::new("CountTooLarge", thing()).at(count_at).found(format!("{n} elements"));
            let most = format!("at most {}", self.limits.array_elems);
            return self.stop(p.expected(most));
        }
        let pos = self.c.pos();
        if elem == ValueType::Str {
            for i in 0..n {
                let at = self.c.offset();
                let string = self.c.string(&|| format!("{}, element {i}", thing()));
                // The count was plausible, so a string that runs over the end means that the end is missing.
                if let Err(p) = string {
                    return self.stop(Problem { code: "Truncated", offset: Some(at), ..*p });
                }
            }
        } else {
            let b = self.c.take(need, thing);
            let b = self.must(b)?;
            if elem == ValueType::Bool {
                self.bools(b, as_u64(pos), thing)?;
            }
        }
        Ok(Raw::Array { elem, len, pos, bytes: self.c.pos().saturating_sub(pos) })
    }

    fn alignment(&mut self, g: &mut Gguf) -> Result<(), Stop> {
        const KEY: &str = "general.alignment";
        let limit = self.limits.alignment;
        let problem = |code| g.problem(code, KEY);
        match g.get(KEY) {
            None => Ok(()),
            Some(super::value::Value::U32(n)) => {
                let n = u64::from(n);
                if n.is_power_of_two() && (8..=limit).contains(&n) {
                    g.alignment = n;
                    return Ok(());
                }
                let expected = format!("a power of two from 8 to {limit}");
                self.note(problem("BadAlignment").found(n.to_string()).expected(expected))
            }
            Some(v) => {
                let found = format!("type {}", v.value_type());
                self.note(problem("WrongType").found(found).expected("u32"))
            }
        }
    }

    /// One row of the tensor table; `None` if it is wrong in a way that was noted.
    fn tensor(&mut self, i: u64) -> Result<Option<TensorInfo>, Stop> {
        let before = self.problems.len();
        let name_at = self.c.offset();
        let name = self.c.string(&|| format!("name of tensor {i}"));
        let name = self.must(name)?;
        let text = String::from_utf8_lossy(name);
        let problem = |code| Problem::new(code, format!("name of tensor {i}")).at(name_at);
        if name.is_empty() {
            self.note(problem("EmptyName"))?;
        } else if name.len() >= NAME_BYTES {
            let p = problem("NameTooLong").found(format!("{} bytes", name.len()));
            self.note(p.expected(format!("at most {}", NAME_BYTES.saturating_sub(1))))?;
        } else if std::str::from_utf8(name).is_err() {
            self.note(problem("NameNotUtf8").found(format!("\"{}\"", escape(&text))))?;
        } else if text.chars().any(char::is_control) {
            self.note(problem("BadNameChar").found(format!("\"{}\"", escape(&text))))?;
        }
        let thing = || format!("tensor {}", escape(&text));
        let dims = self.dims(&thing)?;
        let type_at = self.c.offset();
        let id = self.c.u32(&thing);
        let id = self.must(id)?;
        let offset_at = self.c.offset();
        let offset = self.c.u64(&thing);
        let offset = self.must(offset)?;
        let Some(dtype) = DType::from_id(id) else {
            let p = Problem::new("BadTensorType", thing()).at(type_at).found(format!("type {id}"));
            self.note(p.expected("the id of a ggml type in use"))?;
            return Ok(None);
        };
        if self.problems.len() > before {
            return Ok(None);
        }
        match layout::tensor_bytes(dtype, &dims) {
            Ok(bytes) => {
                let name = text.as_ref().into();
                Ok(Some(TensorInfo { name, dtype, dims, file: 0, offset, bytes }))
            }
            Err((code, found, expected)) => {
                let at = if code == "NotBlockMultiple" { type_at } else { offset_at };
                self.note(Problem::new(code, thing()).at(at).found(found).expected(expected))?;
                Ok(None)
            }
        }
    }

    fn dims(&mut self, thing: &dyn Fn() -> String) -> Result<SmallVec<[u64; 4]>, Stop> {
        let at = self.c.offset();
        let rank = self.c.u32(thing);
        let rank = self.must(rank)?;
        if !(1..=MAX_RANK).contains(&rank) {
            let p = Problem::new("BadRank", thing()).at(at).found(format!("{rank} dimensions"));
            return self.stop(p.expected("1 to 4"));
        }
        let mut dims = SmallVec::new();
        let mut elements = Some(1u64);
        for i in 0..rank {
            let at = self.c.offset();
            let dim = self.c.u64(thing);
            let dim = self.must(dim)?;
            let problem = |code| Problem::new(code, format!("{}, dimension {i}", thing())).at(at);
            if dim == 0 {
                self.note(problem("ZeroDim"))?;
            } else if i64::try_from(dim).is_err() {
                self.note(problem("DimTooLarge").found(dim.to_string()))?;
            } else {
                // Once past the limit it stays past it: the factors are at least 1.
                elements = elements.and_then(|n| n.checked_mul(dim)).filter(|n| i64::try_from(*n).is_ok());
                if elements.is_none() {
                    self.note(problem("ElementOverflow").found(format!("dimensions up to {dim}")))?;
                    elements = Some(1);
                }
            }
            dims.push(dim);
        }
        Ok(dims)
    }

    /// Rows sorted by name. Equal names are noted under `code`, unless it is empty.
    fn index<T>(
        &mut self,
        rows: &[T],
        code: &'static str,
        name_of: impl Fn(&T) -> &str,
        at: impl Fn(&T) -> u64,
    ) -> Vec<u32> {
        let row = |i: &u32| usize::try_from(*i).ok().and_then(|i| rows.get(i));
        let name = |i: &u32| row(i).map_or("", &name_of);
        let mut index: Vec<u32> = (0..).take(rows.len()).collect();
        // Equal names stay in file order, so that the second is the one reported.
        index.sort_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
        for pair in index.windows(2) {
            if let [a, b] = pair
                && name(a) == name(b)
                && !code.is_empty()
            {
                let what = if code == "DuplicateKey" { "key" } else { "tensor" };
                let p = Problem::new(code, format!("{what} {}", escape(name(b))));
                let first = row(a).map_or(0, &at);
                let p = p.at(row(b).map_or(0, &at)).found(format!("a second one, the first at byte {first}"));
                if self.note(p).is_err() {
                    break;
                }
            }
        }
        index
    }
}

/// Whether these are the first bytes of a file from before GGUF (`ggml`, `ggmf`, `ggjt`, `ggla`, either byte order).
fn legacy(magic: &[u8]) -> bool {
    [*b"ggml", *b"GGML", *b"ggmf", *b"ggjt", *b"ggla"].iter().any(|m| {
        let mut swapped = *m;
        swapped.reverse();
        magic == m || magic == swapped
    })
}
