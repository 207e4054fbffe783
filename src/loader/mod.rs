//! GGUF files in: bytes, header, weights on demand. And out: a writer and synthetic models for tests and benches.
//!
//! Files are hostile until proven otherwise. The parser reads through one bounded cursor, sizes no allocation
//! from a count it has not checked against the bytes that are left, does all size arithmetic checked, and reports
//! problems by code. Rules:
//!
//! - a count is bounded by the limits *and* by the bytes that could hold it, before anything is reserved;
//! - arrays stay where they are: an entry keeps the byte range and the element type, and decodes while iterated;
//! - tensor data must lie in the file, aligned, without gap or overlap, checked before any byte of it is read;
//! - a weight is demanded by name, dimensions and allowed types ([`weights`]), all problems together.
//!
//! # Codes
//!
//! | code | what is wrong |
//! | --- | --- |
//! | `NotInTheBox` | `box:NAME` names no model of the program |
//! | `Io`, `NotARegularFile` | the path cannot be opened or read, or is a directory, pipe, socket or device |
//! | `Truncated` | the file ends inside a field |
//! | `BadMagic`, `BadVersion`, `UnsupportedVersion`, `BigEndian` | no GGUF v2 or v3 of little-endian order |
//! | `CountTooLarge`, `CountExceedsFile`, `LengthExceedsFile`, `StringTooLong` | a count or length that cannot be |
//! | `EmptyKey`, `KeyTooLong`, `KeyNotUtf8`, `BadKeyChar`, `DuplicateKey` | a metadata key |
//! | `BadValueType`, `BadBool`, `NestedArray` | a metadata value |
//! | `BadAlignment` | `general.alignment` is no power of two from 8 to the limit |
//! | `MissingKey`, `WrongType`, `NotUtf8`, `OutOfRange`, `ArrayLength`, `Inconsistent` | a value that is needed |
//! | `UnsupportedArch`, `Unsupported` | a model or a feature of it that is not implemented |
//! | `EmptyName`, `NameTooLong`, `NameNotUtf8`, `BadNameChar`, `DuplicateTensor` | a tensor's name |
//! | `BadRank`, `ZeroDim`, `DimTooLarge`, `ElementOverflow`, `SizeOverflow` | a tensor's shape |
//! | `BadTensorType`, `NotBlockMultiple` | a tensor's element type |
//! | `MisalignedOffset`, `OutOfFile`, `Overlap`, `UnexpectedGap` | where a tensor's data lies |
//! | `NotFirstShard`, `MissingShard` | a model in several files of which a wrong one was given, or one is missing |
//! | `Requantize`, `MissingData` | a tensor that is quantised already, or whose data is not in the file |
//! | `MissingTensor`, `ShapeMismatch`, `TypeNotAllowed`, `UnsupportedType`, `NonFiniteTensor` | a weight |

pub mod boxed;
pub mod bytes;
mod cursor;
pub mod file_type;
pub mod gguf;
pub mod inspect;
mod large_pages;
mod layout;
pub mod mix;
mod overrides;
mod parse;
pub mod quantize;
#[cfg(unix)]
mod sigbus;
mod split;
pub mod synth;
pub mod value;
pub mod weights;
pub mod write;

pub use bytes::{Bytes, LoadMode};
pub use file_type::FileType;
pub use gguf::{Gguf, Limits, ParseOptions, TensorInfo};
pub use overrides::OverrideValue;
pub use value::{ArrayView, Value, ValueType};
