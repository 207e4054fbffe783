//! Weights on demand: every tensor an architecture wants, by name, dimensions and allowed types, before anything
//! is computed; and a scan of weight data for values that are no numbers.

use super::gguf::{Gguf, TensorInfo};
use crate::error::{Class, Error, Problem, Result, escape};
use crate::quant::{DType, TYPES};
use rayon::prelude::*;
use smallvec::SmallVec;

/// Which element types a weight may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Any type that can be computed with.
    AnyWithCodec,
    /// One of these.
    Only(&'static [DType]),
}

/// A weight that an architecture wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Name in the file.
    pub name: String,
    /// Types it may have.
    pub allowed: Allowed,
    /// Dimensions in file order, a row first; trailing ones do not count.
    pub dims: SmallVec<[u64; 4]>,
    /// Whether a file without it is fine.
    pub optional: bool,
}

impl Want {
    /// A weight that must be there, of any type with a codec.
    pub fn new(name: impl Into<String>, dims: &[u64]) -> Self {
        Want { name: name.into(), allowed: Allowed::AnyWithCodec, dims: dims.into(), optional: false }
    }
    /// Restricts the types.
    pub fn only(mut self, types: &'static [DType]) -> Self {
        self.allowed = Allowed::Only(types);
        self
    }
    /// Lets a file be without it.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// Where a demanded weight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSlot {
    /// Row of [`Gguf::tensors`].
    pub row: usize,
    /// Element type.
    pub dtype: DType,
    /// Offset of the data from the start of its file.
    pub offset: u64,
    /// Bytes of the data.
    pub bytes: u64,
}

/// The answer to a demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demanded {
    /// One per want, in order; `None` only for optional ones.
    pub slots: Vec<Option<TensorSlot>>,
    /// Tensors of the file that nobody wanted: worth a warning.
    pub extra: Vec<String>,
}

/// Finds every wanted weight.
///
/// # Errors
/// All problems together: `MissingTensor`, `ShapeMismatch`, `TypeNotAllowed`, `UnsupportedType` (a ggml type that
/// nothing here computes with).
pub fn demand(gguf: &Gguf, wants: &[Want]) -> Result<Demanded> {
    let (demanded, problems) = demand_partly(gguf, wants);
    Error::from_problems(Class::Model, problems).map(|()| demanded)
}

/// As [`demand`], but returns what was found beside the problems.
pub fn demand_partly(gguf: &Gguf, wants: &[Want]) -> (Demanded, Vec<Problem>) {
    let tensors = gguf.tensors();
    let mut wanted = vec![false; tensors.len()];
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    let slots = wants
        .iter()
        .map(|want| {
            let Some(row) = gguf.tensor_row(&want.name) else {
                if !want.optional {
                    missing.push((problems.len(), want));
                    problems.push(Problem::new("MissingTensor", thing(&want.name)));
                }
                return None;
            };
            wanted[row] = true;
            let t = &tensors[row];
            let before = problems.len();
            check(gguf, want, t, &mut problems);
            (problems.len() == before).then_some(TensorSlot {
                row,
                dtype: t.dtype,
                offset: t.offset,
                bytes: t.bytes,
            })
        })
        .collect();
    let extra: Vec<String> =
        tensors.iter().zip(&wanted).filter(|(_, w)| !**w).map(|(t, _)| t.name.to_string()).collect();
    for (at, want) in missing.into_iter().take(crate::error::MAX_PRINTED) {
        let p = &mut problems[at];
        p.expected = format!("{:?} in this file", want.dims);
        if let Some(name) = nearest(&want.name, &extra) {
            p.hint = format!("the file has \"{}\", which nothing uses", escape(name));
        }
    }
    (Demanded { slots, extra }, problems)
}

fn thing(name: &str) -> String {
    format!("tensor {}", escape(name))
}

fn check(gguf: &Gguf, want: &Want, t: &TensorInfo, problems: &mut Vec<Problem>) {
    if trim(&want.dims) != trim(&t.dims) {
        problems.push(
            Problem::new("ShapeMismatch", gguf.thing(t))
                .at(t.offset)
                .found(format!("{:?}", t.dims))
                .expected(format!("{:?}", want.dims)),
        );
    }
    match want.allowed {
        Allowed::Only(types) if !types.contains(&t.dtype) => problems.push(
            Problem::new("TypeNotAllowed", gguf.thing(t))
                .at(t.offset)
                .found(t.dtype.name())
                .expected(types.iter().map(|t| t.name()).collect::<Vec<_>>().join(" or ")),
        ),
        _ if t.dtype.weight_codec().is_none() => {
            let known: Vec<&str> = TYPES.iter().filter(|t| t.codec.is_some()).map(|t| t.name).collect();
            problems.push(
                Problem::new("UnsupportedType", gguf.thing(t))
                    .at(t.offset)
                    .found(t.dtype.name())
                    .expected(format!("one of {}", known.join(", ")))
                    .hint("there are no kernels for this type yet: use another quantisation of the model"),
            );
        }
        _ => {}
    }
}

/// Dimensions without trailing ones.
fn trim(dims: &[u64]) -> &[u64] {
    let n = dims.iter().rposition(|d| *d != 1).map_or(0, |i| i + 1);
    &dims[..n]
}

/// The extra tensor whose name is closest, if it is close. Bounded work: names are short and few are compared.
fn nearest<'a>(name: &str, extra: &'a [String]) -> Option<&'a str> {
    const FAR: usize = 4;
    extra
        .iter()
        .filter(|e| e.len().abs_diff(name.len()) < FAR)
        .take(512)
        .map(|e| (distance(name.as_bytes(), e.as_bytes()), e.as_str()))
        .min()
        .filter(|(d, _)| *d < FAR)
        .map(|(_, e)| e)
}

/// Edits between two short strings.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Scans the data of tensors for infinities and NaN, on all threads of rayon's pool. Types without codec are
/// passed over.
///
/// # Errors
/// One `NonFiniteTensor` per tensor, naming its first such element; `OutOfFile` for data that is missing.
pub fn check_tensors<'a>(gguf: &Gguf, tensors: impl IntoIterator<Item = &'a TensorInfo>) -> Result<()> {
    let problems = tensors.into_iter().filter_map(|t| check_finite(gguf, t)).collect();
    Error::from_problems(Class::Model, problems)
}

fn check_finite(gguf: &Gguf, t: &TensorInfo) -> Option<Problem> {
    const BLOCKS: usize = 1 << 12;
    let codec = t.dtype.codec()?;
    let Some(data) = gguf.data(t) else {
        return Some(
            Problem::new("OutOfFile", gguf.thing(t)).at(t.offset).expected(format!("{} bytes", t.bytes)),
        );
    };
    let (block, block_bytes) = (t.dtype.block(), t.dtype.info().bytes as usize);
    let (index, value) = data.par_chunks(block_bytes * BLOCKS).enumerate().find_map_first(|(i, bytes)| {
        let mut values = vec![0f32; bytes.len() / block_bytes * block];
        (codec.decode)(bytes, &mut values);
        values.iter().position(|v| !v.is_finite()).map(|at| (i * BLOCKS * block + at, values[at]))
    })?;
    let at = t.offset + (index / block * block_bytes) as u64;
    Some(
        Problem::new("NonFiniteTensor", gguf.thing(t))
            .at(at)
            .found(format!("{value} in element {index}"))
            .expected("finite weights")
            .hint("the file is damaged or was converted from a broken checkpoint"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::ParseOptions;
    use crate::loader::write::GgufWriter;

    /// F32 `a` of 2 x 3, Q8_0 `b` of 32 x 2, IQ1_S `c` of 256.
    fn file(edit: impl Fn(&mut [u8])) -> Gguf {
        let mut w = GgufWriter::new();
        w.tensor("a", DType::F32, &[2, 3]).unwrap();
        w.tensor("blk.0.b", DType::Q8_0, &[32, 2]).unwrap();
        w.tensor("c", DType::IQ1_S, &[256]).unwrap();
        let mut d = w.begin(Vec::new()).unwrap();
        for n in [24, 68, 50] {
            d.write(&vec![0; n]).unwrap();
        }
        let mut bytes = d.finish().unwrap();
        edit(&mut bytes);
        Gguf::parse(bytes.into(), &ParseOptions::default()).unwrap()
    }

    #[test]
    fn finds_what_is_wanted_and_names_the_rest() {
        let g = file(|_| {});
        let wants = [
            Want::new("blk.0.b", &[32, 2]),
            Want::new("none", &[1]).optional(),
            Want::new("a", &[2, 3, 1]).only(&[DType::F32]),
        ];
        let d = demand(&g, &wants).unwrap();
        assert_eq!(d.extra, ["c"]);
        let b = d.slots[0].unwrap();
        assert_eq!((b.dtype, b.bytes, &*g.tensors()[b.row].name), (DType::Q8_0, 68, "blk.0.b"));
        assert!(d.slots[1].is_none() && d.slots[2].is_some());
    }

    #[test]
    fn all_problems_together() {
        let g = file(|_| {});
        let wants = [
            Want::new("blk.0.bb", &[32, 2]),
            Want::new("a", &[3, 2]).only(&[DType::F16]),
            Want::new("c", &[256]),
        ];
        let e = demand(&g, &wants).unwrap_err();
        let codes: Vec<_> = e.problems().iter().map(|p| p.code).collect();
        assert_eq!(codes, ["MissingTensor", "ShapeMismatch", "TypeNotAllowed", "UnsupportedType"]);
        assert!(e.problems()[0].hint.contains("blk.0.b"), "{e}");
        assert_eq!((e.problems()[1].found.as_str(), e.problems()[1].expected.as_str()), ("[2, 3]", "[3, 2]"));
        assert!(e.problems()[3].found == "IQ1_S", "{e}");
    }

    #[test]
    fn non_finite_weights_are_named() {
        let clean = file(|_| {});
        assert!(check_tensors(&clean, clean.tensors()).is_ok());
        let (a, b) = (clean.tensors()[0].offset as usize, clean.tensors()[1].offset as usize);
        let g = file(|f| {
            f[a + 8..a + 12].copy_from_slice(&f32::NAN.to_le_bytes());
            // The scale of the second block, infinite in f16; a quant that is not 0 makes its element infinite.
            f[b + 34..b + 36].copy_from_slice(&0x7c00u16.to_le_bytes());
            f[b + 36..b + 68].fill(1);
        });
        let e = check_tensors(&g, g.tensors()).unwrap_err();
        let found: Vec<_> = e.problems().iter().map(|p| (p.code, p.found.as_str(), p.offset)).collect();
        assert_eq!(
            found,
            [
                ("NonFiniteTensor", "NaN in element 2", Some(a as u64 + 8)),
                ("NonFiniteTensor", "inf in element 32", Some(b as u64 + 34)),
            ]
        );
    }
}
