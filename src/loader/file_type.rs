//! File types: what `general.file_type` says of a whole file, by llama.cpp's names and numbers.
//!
//! Source: `llama_ftype` in `llama.h` and the names that `llama-quantize` takes.

use crate::error::{Error, Problem, Result, escape};
use crate::quant::DType;

/// One file type: a name, its number in the file, and the type of most matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileType {
    /// The name, upper case.
    pub name: &'static str,
    /// The value of `general.file_type`.
    pub id: u32,
    /// The type of matrices that no rule makes an exception of.
    pub dtype: DType,
}

const fn row(name: &'static str, id: u32, dtype: DType) -> FileType {
    FileType { name, id, dtype }
}

/// Every file type that can be written. Those that end in `_S`, `_M` or `_L`, Q2_K, IQ4_NL and IQ4_XS are mixes.
pub const FILE_TYPES: &[FileType] = &[
    row("F32", 0, DType::F32),
    row("F16", 1, DType::F16),
    row("BF16", 32, DType::BF16),
    row("Q8_0", 7, DType::Q8_0),
    row("Q4_0", 2, DType::Q4_0),
    row("Q4_1", 3, DType::Q4_1),
    row("Q5_0", 8, DType::Q5_0),
    row("Q5_1", 9, DType::Q5_1),
    row("Q2_K", 10, DType::Q2_K),
    row("Q2_K_S", 21, DType::Q2_K),
    row("Q3_K_S", 11, DType::Q3_K),
    row("Q3_K_M", 12, DType::Q3_K),
    row("Q3_K_L", 13, DType::Q3_K),
    row("Q4_K_S", 14, DType::Q4_K),
    row("Q4_K_M", 15, DType::Q4_K),
    row("Q5_K_S", 16, DType::Q5_K),
    row("Q5_K_M", 17, DType::Q5_K),
    row("Q6_K", 18, DType::Q6_K),
    row("IQ4_NL", 25, DType::IQ4_NL),
    row("IQ4_XS", 30, DType::IQ4_XS),
];

/// Names that stand for others.
const ALIASES: &[(&str, &str)] =
    &[("FP16", "F16"), ("FP32", "F32"), ("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M")];

impl FileType {
    /// The file type of this name in any case, or of this number.
    ///
    /// # Errors
    /// Usage, with the names there are.
    pub fn named(name: &str) -> Result<FileType> {
        let alias = ALIASES.iter().find(|a| a.0.eq_ignore_ascii_case(name)).map_or(name, |a| a.1);
        let found =
            FILE_TYPES.iter().find(|f| f.name.eq_ignore_ascii_case(alias) || f.id.to_string() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = FILE_TYPES.iter().map(|f| f.name).collect();
            let p = Problem::new("UnknownType", "file type").found(format!("\"{}\"", escape(name)));
            Error::usage(p.expected(format!("one of {}", names.join(", "))))
        })
    }

    /// The file type that a file has whose matrices all have this type.
    pub fn of(dtype: DType) -> Option<FileType> {
        let of = |f: &&FileType| f.dtype == dtype;
        // Of the mixes of a type, the one its plain name stands for.
        FILE_TYPES.iter().filter(of).find(|f| !f.name.ends_with("_S")).or(FILE_TYPES.iter().find(of)).copied()
    }
}

impl std::fmt::Display for FileType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_aliases_are_found() {
        for f in FILE_TYPES {
            assert_eq!(FileType::named(&f.name.to_lowercase()).unwrap(), *f);
            assert_eq!(FileType::named(&f.id.to_string()).unwrap(), *f);
            assert!(f.dtype.weight_codec().is_some(), "{f}");
        }
        assert_eq!(FileType::named("q4_k").unwrap().name, "Q4_K_M");
        assert_eq!(FileType::of(DType::Q3_K).unwrap().id, 12);
        assert_eq!(FileType::of(DType::Q6_K).unwrap().id, 18);
        assert_eq!(FileType::of(DType::IQ1_S), None);
        assert_eq!(FileType::named("Q4_K_XL").unwrap_err().code(), "UnknownType");
    }
}
