//! Metadata values: scalars, strings as bytes, and arrays that decode while they are iterated.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic
)]

use crate::error::escape;
use std::fmt;

/// The 13 value types of GGUF, by their id in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ValueType {
    /// Unsigned, 1 byte.
    U8 = 0,
    /// Signed, 1 byte.
    I8 = 1,
    /// Unsigned, 2 bytes.
    U16 = 2,
    /// Signed, 2 bytes.
    I16 = 3,
    /// Unsigned, 4 bytes.
    U32 = 4,
    /// Signed, 4 bytes.
    I32 = 5,
    /// Float, 4 bytes.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// A 64-bit length and that many bytes.
    Str = 8,
    /// An element type, a 64-bit count and the elements.
    Array = 9,
    /// Unsigned, 8 bytes.
    U64 = 10,
    /// Signed, 8 bytes.
    I64 = 11,
    /// Float, 8 bytes.
    F64 = 12,
}

impl ValueType {
    /// All types, in order of their ids.
    pub const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with this id in a file.
    pub fn from_id(id: u32) -> Option<ValueType> {
        usize::try_from(id).ok().and_then(|i| ValueType::ALL.get(i)).copied()
    }

    /// The id in a file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Least bytes of one value: its size, or the length field of an empty string.
    pub const fn min_bytes(self) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::Str | ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
            ValueType::Array => 12,
        }
    }

    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "str",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A metadata value. Strings are bytes: files hold invalid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // one variant per value type, named alike
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a [u8]),
    Array(ArrayView<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The type of this value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// Any integer type, if the value fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => i64::try_from(v).ok(),
            Value::I64(v) => Some(v),
            _ => None,
        }
    }

    /// Whether this is one of the eight integer types.
    pub fn is_integer(&self) -> bool {
        !matches!(
            self.value_type(),
            ValueType::F32 | ValueType::F64 | ValueType::Bool | ValueType::Str | ValueType::Array
        )
    }

    /// Either float type, as f64.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }

    /// A scalar of type `ty` from the low bytes of `bits`; strings and arrays have none.
    pub(super) fn scalar(ty: ValueType, bits: [u8; 8]) -> Option<Value<'static>> {
        let [a, b, c, d, ..] = bits;
        Some(match ty {
            ValueType::U8 => Value::U8(a),
            ValueType::I8 => Value::I8(i8::from_le_bytes([a])),
            ValueType::U16 => Value::U16(u16::from_le_bytes([a, b])),
            ValueType::I16 => Value::I16(i16::from_le_bytes([a, b])),
            ValueType::U32 => Value::U32(u32::from_le_bytes([a, b, c, d])),
            ValueType::I32 => Value::I32(i32::from_le_bytes([a, b, c, d])),
            ValueType::F32 => Value::F32(f32::from_le_bytes([a, b, c, d])),
            ValueType::Bool => Value::Bool(a != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(bits)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(bits)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bits)),
            ValueType::Str | ValueType::Array => return None,
        })
    }
}

impl fmt::Display for Value<'_> {
    /// One line: strings escaped and cut, arrays as type, count and first elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(v) => v.fmt(f),
            Value::I8(v) => v.fmt(f),
            Value::U16(v) => v.fmt(f),
            Value::I16(v) => v.fmt(f),
            Value::U32(v) => v.fmt(f),
            Value::I32(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
            Value::U64(v) => v.fmt(f),
            Value::I64(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
            Value::Str(s) => write!(f, "\"{}\"", escape(&String::from_utf8_lossy(s))),
            Value::Array(a) => {
                const SHOWN: usize = 6;
                write!(f, "{}[{}] = [", a.element_type(), a.len())?;
                for (i, v) in a.iter().take(SHOWN).enumerate() {
                    write!(f, "{}{v}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(if a.len() > SHOWN { ", ...]" } else { "]" })
            }
        }
    }
}

/// An array in the file: element type, count and bytes, already checked to be whole. Nothing is copied.
#[derive(Clone, Copy, PartialEq)]
pub struct ArrayView<'a> {
    elem: ValueType,
    len: usize,
    data: &'a [u8],
}

impl fmt::Debug for ArrayView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.elem, self.len)
    }
}

impl<'a> ArrayView<'a> {
    pub(super) fn new(elem: ValueType, len: usize, data: &'a [u8]) -> Self {
        ArrayView { elem, len, data }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Type of the elements; never `Array`.
    pub fn element_type(&self) -> ValueType {
        self.elem
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let elem = self.elem;
        let width = elem.min_bytes();
        let mut data = self.data;
        (0..self.len).map_while(move |_| {
            if elem == ValueType::Str {
                return next_str(&mut data).map(Value::Str);
            }
            let (head, tail) = data.split_at_checked(width)?;
            data = tail;
            let mut bits = [0u8; 8];
            bits.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
            Value::scalar(elem, bits)
        })
    }

    /// The strings of a string array, as bytes; `None` for any other element type.
    pub fn strings(&self) -> Option<Strings<'a>> {
        (self.elem == ValueType::Str).then_some(Strings { left: self.len, data: self.data })
    }

    /// The elements of an `f32` array; `None` for any other element type.
    pub fn f32s(&self) -> Option<impl ExactSizeIterator<Item = f32> + use<'a>> {
        self.words(ValueType::F32).map(|w| w.map(f32::from_le_bytes))
    }

    /// The elements of an `i32` array; `None` for any other element type.
    pub fn i32s(&self) -> Option<impl ExactSizeIterator<Item = i32> + use<'a>> {
        self.words(ValueType::I32).map(|w| w.map(i32::from_le_bytes))
    }

    /// The bytes of a `u8` or `i8` array; `None` for any other element type.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        matches!(self.elem, ValueType::U8 | ValueType::I8).then_some(self.data)
    }

    fn words(&self, want: ValueType) -> Option<impl ExactSizeIterator<Item = [u8; 4]> + use<'a>> {
        (self.elem == want).then(|| self.data.as_chunks::<4>().0.iter().copied())
    }
}

/// Iterates the strings of an array as bytes.
#[derive(Clone)]
pub struct Strings<'a> {
    left: usize,
    data: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        next_str(&mut self.data)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// Splits one length-prefixed string off `data`.
fn next_str<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = data.split_first_chunk::<8>()?;
    let (s, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    *data = rest;
    Some(s)
}
