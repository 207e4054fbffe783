//! Writes GGUF v3: metadata of every type, a tensor table, then data as a stream, so that no file needs to fit in
//! memory.

use super::gguf::DEFAULT_ALIGNMENT;
use super::layout;
use super::value::{Value, ValueType};
use crate::quant::DType;
use std::io::{self, Write};

/// A file being described. Add entries and tensors, then [`GgufWriter::begin`] and write the data in order.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    alignment: u64,
    n_kv: u64,
    kv: Vec<u8>,
    n_tensors: u64,
    infos: Vec<u8>,
    /// Bytes of each tensor, without padding.
    sizes: Vec<u64>,
    data_bytes: u64,
}

impl Default for GgufWriter {
    fn default() -> Self {
        GgufWriter::new()
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl GgufWriter {
    /// An empty file with the default alignment of 32.
    pub fn new() -> Self {
        GgufWriter {
            alignment: DEFAULT_ALIGNMENT,
            n_kv: 0,
            kv: Vec::new(),
            n_tensors: 0,
            infos: Vec::new(),
            sizes: Vec::new(),
            data_bytes: 0,
        }
    }

    /// An empty file with another alignment (a power of two from 8), which is written as `general.alignment`.
    pub fn with_alignment(alignment: u32) -> Self {
        let mut w = GgufWriter { alignment: alignment.into(), ..GgufWriter::new() };
        w.kv("general.alignment", Value::U32(alignment));
        w
    }

    fn head(&mut self, key: &str, ty: ValueType) {
        self.n_kv += 1;
        put_str(&mut self.kv, key.as_bytes());
        self.kv.extend(ty.id().to_le_bytes());
    }

    /// Adds an entry. A key must not be added twice.
    pub fn kv(&mut self, key: &str, value: Value<'_>) -> &mut Self {
        self.head(key, value.value_type());
        if let Value::Array(a) = value {
            self.kv.extend(a.element_type().id().to_le_bytes());
            self.kv.extend((a.len() as u64).to_le_bytes());
            for v in a.iter() {
                put_scalar(&mut self.kv, &v);
            }
        } else {
            put_scalar(&mut self.kv, &value);
        }
        self
    }

    /// Adds a string entry.
    pub fn str(&mut self, key: &str, value: &str) -> &mut Self {
        self.kv(key, Value::Str(value.as_bytes()))
    }

    /// Adds a `u32` entry.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.kv(key, Value::U32(value))
    }

    /// Adds an `f32` entry.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.kv(key, Value::F32(value))
    }

    /// Adds a bool entry.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.kv(key, Value::Bool(value))
    }

    /// Adds an array entry whose elements all have type `elem` (never `Array`).
    pub fn array<'a>(
        &mut self,
        key: &str,
        elem: ValueType,
        values: impl ExactSizeIterator<Item = Value<'a>>,
    ) -> &mut Self {
        self.head(key, ValueType::Array);
        self.kv.extend(elem.id().to_le_bytes());
        self.kv.extend((values.len() as u64).to_le_bytes());
        for v in values {
            debug_assert_eq!(v.value_type(), elem);
            put_scalar(&mut self.kv, &v);
        }
        self
    }

    /// Adds an array of strings.
    pub fn strs<S: AsRef<[u8]>>(&mut self, key: &str, values: &[S]) -> &mut Self {
        self.array(key, ValueType::Str, values.iter().map(|s| Value::Str(s.as_ref())))
    }

    /// Adds an array of `f32`.
    pub fn f32s(&mut self, key: &str, values: &[f32]) -> &mut Self {
        self.array(key, ValueType::F32, values.iter().map(|v| Value::F32(*v)))
    }

    /// Adds an array of `i32`.
    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.array(key, ValueType::I32, values.iter().map(|v| Value::I32(*v)))
    }

    /// Describes a tensor; its data follows in the order of these calls. Dimensions in file order, a row first.
    ///
    /// # Errors
    /// If a row is no whole number of blocks, or the sizes overflow.
    pub fn tensor(&mut self, name: &str, dtype: DType, dims: &[u64]) -> io::Result<&mut Self> {
        let bytes = layout::tensor_bytes(dtype, dims).map_err(|(code, found, expected)| {
            invalid(format!("{code}: tensor {name}: {found}, not {expected}"))
        })?;
        let end = self.data_bytes.checked_add(bytes).and_then(|n| n.checked_next_multiple_of(self.alignment));
        let end = end.ok_or_else(|| invalid(format!("SizeOverflow: tensor {name}")))?;
        put_str(&mut self.infos, name.as_bytes());
        self.infos.extend((dims.len() as u32).to_le_bytes());
        for d in dims {
            self.infos.extend(d.to_le_bytes());
        }
        self.infos.extend(dtype.id().to_le_bytes());
        self.infos.extend(self.data_bytes.to_le_bytes());
        self.n_tensors += 1;
        self.sizes.push(bytes);
        self.data_bytes = end;
        Ok(self)
    }

    /// How long the whole file will be.
    pub fn file_bytes(&self) -> u64 {
        (self.header().len() as u64).saturating_add(self.data_bytes)
    }

    /// The header with the padding behind it: all there is before the data.
    pub fn header(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.kv.len() + self.infos.len() + self.alignment as usize);
        out.extend(b"GGUF");
        out.extend(3u32.to_le_bytes());
        out.extend(self.n_tensors.to_le_bytes());
        out.extend(self.n_kv.to_le_bytes());
        out.extend(&self.kv);
        out.extend(&self.infos);
        out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        out
    }

    /// Writes the header and returns the stream for the data.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin<W: Write>(&self, mut out: W) -> io::Result<DataWriter<'_, W>> {
        out.write_all(&self.header())?;
        Ok(DataWriter { file: self, out, tensor: 0, written: 0 })
    }
}

/// Takes the data of the tensors one after another, in pieces of any size.
#[derive(Debug)]
pub struct DataWriter<'a, W> {
    file: &'a GgufWriter,
    out: W,
    tensor: usize,
    written: u64,
}

impl<W: Write> DataWriter<'_, W> {
    /// Appends bytes to the current tensor; the next one begins when this one is full. Bytes of two tensors must
    /// not come in one call.
    ///
    /// # Errors
    /// More bytes than the tensor has, or those of the output.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = self.file.sizes.get(self.tensor).copied().unwrap_or(0);
        let written = self.written + bytes.len() as u64;
        if written > size {
            return Err(invalid(format!("tensor {} has {size} bytes, not {written}", self.tensor)));
        }
        self.out.write_all(bytes)?;
        self.written = written;
        if written == size {
            let padding = size.next_multiple_of(self.file.alignment) - size;
            io::copy(&mut io::Read::take(io::repeat(0), padding), &mut self.out)?;
            self.tensor += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Ends the file and returns the output, flushed.
    ///
    /// # Errors
    /// If data is missing, or those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        if self.tensor < self.file.sizes.len() {
            return Err(invalid(format!("data ends in tensor {} of {}", self.tensor, self.file.sizes.len())));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn put_str(out: &mut Vec<u8>, s: &[u8]) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s);
}

/// The bytes of a value that is no array (an array inside an array has no place in GGUF here).
fn put_scalar(out: &mut Vec<u8>, v: &Value<'_>) {
    match *v {
        Value::U8(v) => out.push(v),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(v.into()),
        Value::Str(s) => put_str(out, s),
        Value::Array(_) => debug_assert!(false, "arrays are not nested"),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::{Gguf, ParseOptions};

    #[test]
    fn every_type_comes_back() {
        let values = [
            Value::U8(200),
            Value::I8(-3),
            Value::U16(60000),
            Value::I16(-300),
            Value::U32(4_000_000_000),
            Value::I32(-5),
            Value::F32(0.5),
            Value::Bool(true),
            Value::Str(b"a\xffb"),
            Value::U64(u64::MAX),
            Value::I64(i64::MIN),
            Value::F64(-1e300),
        ];
        let mut w = GgufWriter::with_alignment(64);
        for v in &values {
            w.kv(v.value_type().name(), *v);
            w.array(&format!("{}s", v.value_type()), v.value_type(), [*v, *v, *v].into_iter());
            w.array(&format!("no {}s", v.value_type()), v.value_type(), [].into_iter());
        }
        w.tensor("a", DType::F32, &[3]).unwrap().tensor("b", DType::Q8_0, &[64, 2]).unwrap();
        let mut d = w.begin(Vec::new()).unwrap();
        d.write(&[1; 12]).unwrap();
        d.write(&[2; 100]).unwrap();
        assert!(d.write(&[2; 37]).is_err(), "one byte too many");
        d.write(&[3; 36]).unwrap();
        let file = d.finish().unwrap();

        let g = Gguf::parse(file.into(), &ParseOptions::default()).unwrap();
        assert_eq!((g.version(), g.alignment(), g.data_offset() % 64), (3, 64, 0));
        for v in &values {
            assert_eq!(g.get(v.value_type().name()), Some(*v));
            let a = g.array(&format!("{}s", v.value_type())).unwrap().unwrap();
            assert_eq!(a.iter().collect::<Vec<_>>(), [*v, *v, *v]);
            assert!(g.array(&format!("no {}s", v.value_type())).unwrap().unwrap().is_empty());
        }
        assert_eq!(g.data(g.tensor("a").unwrap()), Some(&[1u8; 12][..]));
        let b = g.tensor("b").unwrap();
        assert_eq!((&b.dims[..], g.data(b).unwrap()[99], g.data(b).unwrap()[100]), (&[64, 2][..], 2, 3));
        assert_eq!(b.offset % 64, 0);
    }

    #[test]
    fn wrong_use_is_an_error() {
        let mut w = GgufWriter::new();
        assert!(w.tensor("x", DType::Q8_0, &[33]).is_err());
        assert!(w.tensor("x", DType::F32, &[1 << 40, 1 << 40]).is_err());
        w.tensor("x", DType::F32, &[2]).unwrap();
        assert!(w.begin(Vec::new()).unwrap().finish().is_err(), "data is missing");
    }
}
