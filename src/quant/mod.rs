//! Element types: every ggml type by id, name and size, and one file per type that has a codec.
//!
//! The table knows all types, so that `inspect` can name anything; a type whose row has no [`Codec`] is refused
//! at load with its name. Source: the type table of `ggml.c` and the GGUF specification.

mod bits;
mod blocks;
mod floats;
mod iq4_nl;
mod iq4_xs;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod search;
mod search_k;

pub use bits::{scales_and_mins, signed_scales};
pub use blocks::{Block32, BlockK};
pub use iq4_nl::{BlockIQ4_NL, VALUES as IQ4_VALUES};
pub use iq4_xs::BlockIQ4_XS;
pub use q2_k::BlockQ2_K;
pub use q3_k::BlockQ3_K;
pub use q4_0::{BlockQ4_0, quantize_row as quantize_row_q4_0};
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4_K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5_K;
pub use q6_k::BlockQ6_K;
pub use q8_0::{BlockQ8_0, quantize_row as quantize_row_q8_0};
pub use q8_1::{BlockQ8_1, quantize_row as quantize_row_q8_1};
pub use q8_k::{BlockQ8_K, quantize_row as quantize_row_q8_k};

/// Bytes and elements of one block, and the codec if the type has one.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// The id in the file.
    pub id: u32,
    /// The name llama.cpp prints, upper case.
    pub name: &'static str,
    /// Elements in a block; 1 for plain types.
    pub block: u32,
    /// Bytes of a block.
    pub bytes: u32,
    /// Decoder and encoder, if this type can be computed with.
    pub codec: Option<&'static Codec>,
}

/// The product of a row of weights with a row of activations, whole blocks of both.
pub type DotFn = fn(weights: &[u8], activations: &[u8]) -> f32;

/// What a type can do: decode a row to f32, encode a row from f32, and how it meets activations.
#[derive(Debug)]
pub struct Codec {
    /// Decodes whole blocks; `out.len()` elements. This is the oracle of the type.
    pub decode: fn(bytes: &[u8], out: &mut [f32]),
    /// Encodes whole blocks from `src`; `out` holds exactly their bytes.
    pub encode: fn(src: &[f32], out: &mut [u8]),
    /// The type activations have when they meet weights of this type: `F32` or a block type.
    pub activation: DType,
    /// The product of a row of weights with a row of such activations, whole blocks of both, in the order of
    /// operations that NUMERICS.md documents. This is the oracle of every kernel.
    /// `None` for types that only activations have.
    pub dot: Option<DotFn>,
}

/// An element type, by its id in GGUF. Display is the upper-case ggml name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DType(u8);

macro_rules! types {
    ($($konst:ident = $id:literal $name:literal $block:literal $bytes:literal $codec:expr;)*) => {
        impl DType {
            $(#[doc = concat!("ggml type `", $name, "`.")] pub const $konst: DType = DType($id);)*
        }
        /// Every type in use, ordered by id; removed ids are absent.
        pub const TYPES: &[TypeInfo] = &[
            $(TypeInfo { id: $id, name: $name, block: $block, bytes: $bytes, codec: $codec },)*
        ];
    };
}

types! {
    F32     = 0  "F32"     1   4   Some(&floats::F32);
    F16     = 1  "F16"     1   2   Some(&floats::F16);
    Q4_0    = 2  "Q4_0"    32  18  Some(&q4_0::CODEC);
    Q4_1    = 3  "Q4_1"    32  20  Some(&q4_1::CODEC);
    Q5_0    = 6  "Q5_0"    32  22  Some(&q5_0::CODEC);
    Q5_1    = 7  "Q5_1"    32  24  Some(&q5_1::CODEC);
    Q8_0    = 8  "Q8_0"    32  34  Some(&q8_0::CODEC);
    Q8_1    = 9  "Q8_1"    32  36  Some(&q8_1::CODEC);
    Q2_K    = 10 "Q2_K"    256 84  Some(&q2_k::CODEC);
    Q3_K    = 11 "Q3_K"    256 110 Some(&q3_k::CODEC);
    Q4_K    = 12 "Q4_K"    256 144 Some(&q4_k::CODEC);
    Q5_K    = 13 "Q5_K"    256 176 Some(&q5_k::CODEC);
    Q6_K    = 14 "Q6_K"    256 210 Some(&q6_k::CODEC);
    Q8_K    = 15 "Q8_K"    256 292 Some(&q8_k::CODEC);
    IQ2_XXS = 16 "IQ2_XXS" 256 66  None;
    IQ2_XS  = 17 "IQ2_XS"  256 74  None;
    IQ3_XXS = 18 "IQ3_XXS" 256 98  None;
    IQ1_S   = 19 "IQ1_S"   256 50  None;
    IQ4_NL  = 20 "IQ4_NL"  32  18  Some(&iq4_nl::CODEC);
    IQ3_S   = 21 "IQ3_S"   256 110 None;
    IQ2_S   = 22 "IQ2_S"   256 82  None;
    IQ4_XS  = 23 "IQ4_XS"  256 136 Some(&iq4_xs::CODEC);
    I8      = 24 "I8"      1   1   None;
    I16     = 25 "I16"     1   2   None;
    I32     = 26 "I32"     1   4   None;
    I64     = 27 "I64"     1   8   None;
    F64     = 28 "F64"     1   8   None;
    IQ1_M   = 29 "IQ1_M"   256 56  None;
    BF16    = 30 "BF16"    1   2   Some(&floats::BF16);
    TQ1_0   = 34 "TQ1_0"   256 54  None;
    TQ2_0   = 35 "TQ2_0"   256 66  None;
    MXFP4   = 39 "MXFP4"   32  17  None;
    NVFP4   = 40 "NVFP4"   64  36  None;
    Q1_0    = 41 "Q1_0"    128 18  None;
    Q2_0    = 42 "Q2_0"    64  18  None;
}

impl DType {
    /// The type with this id in the file, if it is one in use.
    pub fn from_id(id: u32) -> Option<DType> {
        TYPES.binary_search_by_key(&id, |t| t.id).ok().and_then(|_| u8::try_from(id).ok()).map(DType)
    }
    /// The type with this name, in any case.
    pub fn from_name(name: &str) -> Option<DType> {
        TYPES.iter().find(|t| t.name.eq_ignore_ascii_case(name)).and_then(|t| DType::from_id(t.id))
    }
    /// The row of the type table.
    pub fn info(self) -> &'static TypeInfo {
        match TYPES.binary_search_by_key(&u32::from(self.0), |t| t.id) {
            Ok(i) => &TYPES[i],
            Err(_) => unreachable!("a DType is only made from a row of TYPES"),
        }
    }
    /// The id in the file.
    pub fn id(self) -> u32 {
        u32::from(self.0)
    }
    /// The upper-case name.
    pub fn name(self) -> &'static str {
        self.info().name
    }
    /// The codec, if this type can be computed with.
    pub fn codec(self) -> Option<&'static Codec> {
        self.info().codec
    }
    /// The codec, if weights of this type can be computed with.
    pub fn weight_codec(self) -> Option<&'static Codec> {
        self.codec().filter(|c| c.dot.is_some())
    }
    /// Elements in a block.
    pub fn block(self) -> usize {
        self.info().block as usize
    }
    /// Bytes of a row of `cols` elements; `None` if it is no whole number of blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let t = self.info();
        if !cols.is_multiple_of(t.block as usize) {
            return None;
        }
        (cols / t.block as usize).checked_mul(t.bytes as usize)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::fmt::Debug for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl From<DType> for String {
    fn from(t: DType) -> String {
        t.name().to_string()
    }
}

impl TryFrom<String> for DType {
    type Error = String;
    fn try_from(s: String) -> Result<DType, String> {
        DType::from_name(&s).ok_or_else(|| format!("unknown element type {s:?}"))
    }
}

impl schemars::JsonSchema for DType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DType".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = TYPES.iter().map(|t| t.name).collect();
        schemars::json_schema!({ "description": "Element type, as ggml names it.", "type": "string", "enum": names })
    }
}

#[cfg(test)]
mod facts;
#[cfg(test)]
mod quality;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_found_by_id_and_name() {
        assert!(TYPES.windows(2).all(|w| w[0].id < w[1].id));
        for t in TYPES {
            let d = DType::from_id(t.id).unwrap();
            assert_eq!((d.name(), d.id(), d.block()), (t.name, t.id, t.block as usize));
            assert_eq!(DType::from_name(&t.name.to_lowercase()), Some(d));
            assert!(t.bytes > 0 && t.block > 0);
            let json = serde_json::to_string(&d).unwrap();
            assert_eq!(serde_json::from_str::<DType>(&json).unwrap(), d);
        }
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 43, 255, 256, 264, u32::MAX] {
            assert_eq!(DType::from_id(removed), None, "{removed}");
        }
        assert!(serde_json::from_str::<DType>("\"Q4_2\"").is_err());
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(DType::Q8_0.row_bytes(64), Some(68));
        assert_eq!(DType::Q8_0.row_bytes(33), None);
        assert_eq!(DType::F64.row_bytes(usize::MAX), None);
    }

    #[test]
    fn codecs_meet_an_activation_type_with_a_codec() {
        for t in TYPES {
            if let Some(c) = t.codec {
                assert!(c.activation.codec().is_some(), "{}", t.name);
                // One block, there and back, through every function of the table.
                let src: Vec<f32> = (0..t.block).map(|i| i as f32 - 3.0).collect();
                let mut bytes = vec![0u8; t.bytes as usize];
                (c.encode)(&src, &mut bytes);
                let mut back = vec![f32::NAN; t.block as usize];
                (c.decode)(&bytes, &mut back);
                let amax = t.block as f32;
                assert!(src.iter().zip(&back).all(|(a, b)| (a - b).abs() <= amax / 8.0), "{}", t.name);
            }
        }
    }
}
