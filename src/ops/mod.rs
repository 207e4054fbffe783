//! The op table. An op is one file and one row here; nothing else names it.
//!
//! A file holds, in this order: the equation, shapes, numerics and source as module docs; `Attrs` (plain data);
//! `infer`, the types of the results from the types of the operands; `cost`, operations and bytes; `reference`,
//! the scalar oracle in the order of operations that NUMERICS.md states; and the tests of these.
//! A fused op is an ordinary op whose reference is the composition of its parts' references.

pub mod math;

use crate::graph::{Dim, ValueType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Version of the order of operations (NUMERICS.md). A change that moves any bit of any result raises it.
pub const NUMERICS_VERSION: u32 = 1;

/// Result types of an op.
pub type Types = SmallVec<[ValueType; 4]>;

/// Work of one op for a given number of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Arithmetic operations (a multiply-add counts two).
    pub ops: u64,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of activations and cache read and written.
    pub data_bytes: u64,
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |a, c| Cost {
            ops: a.ops + c.ops,
            weight_bytes: a.weight_bytes + c.weight_bytes,
            data_bytes: a.data_bytes + c.data_bytes,
        })
    }
}

/// The numbers that symbolic dimensions stand for when a cost is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Rows of the step.
    pub t: u32,
    /// Rows that want logits.
    pub r: u32,
    /// Cells of the cache that each row reads.
    pub s: u32,
}

impl Sizes {
    /// Of a pass of `t` rows behind `behind` tokens of one session, `r` of which want logits. A row sees itself and
    /// what is before it: the cells are those of the mean row.
    pub fn of_pass(behind: u32, t: u32, r: u32) -> Sizes {
        Sizes { t, r, s: behind.saturating_add(t.saturating_add(1) / 2) }
    }
    /// The number a dimension stands for.
    pub fn of(&self, d: Dim) -> u64 {
        u64::from(match d {
            Dim::Fixed(n) => n,
            Dim::T => self.t,
            Dim::R => self.r,
            Dim::S => self.s,
        })
    }
    /// Elements of a value.
    pub fn elems(&self, ty: &ValueType) -> u64 {
        ty.shape.iter().map(|d| self.of(*d)).product()
    }
    /// Bytes of a value.
    pub fn bytes(&self, ty: &ValueType) -> u64 {
        let info = ty.dtype.info();
        self.elems(ty) / u64::from(info.block) * u64::from(info.bytes)
    }
}

macro_rules! op_table {
    ($($module:ident :: $kind:ident = $doc:literal;)*) => {
        $(pub mod $module;)*

        /// An op: its kind and its attributes. One variant per row of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Op {
            $(#[doc = $doc] $kind($module::Attrs),)*
        }

        /// The kind of an op, without its attributes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum OpKind {
            $(#[doc = $doc] $kind,)*
        }

        impl OpKind {
            /// All kinds, in the order of the table.
            pub const ALL: &[OpKind] = &[$(OpKind::$kind,)*];
            /// The name in dumps.
            pub fn name(self) -> &'static str {
                match self { $(OpKind::$kind => stringify!($module),)* }
            }
        }

        impl Op {
            /// The kind.
            pub fn kind(&self) -> OpKind {
                match self { $(Op::$kind(_) => OpKind::$kind,)* }
            }
            /// Types of the results, or why the operands do not fit.
            pub fn infer(&self, args: &[ValueType]) -> Result<Types, String> {
                match self { $(Op::$kind(a) => $module::infer(a, args),)* }
            }
            /// Work for the given sizes.
            pub fn cost(&self, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
                match self { $(Op::$kind(a) => $module::cost(a, args, outs, n),)* }
            }
            /// Attributes as compact JSON, `null` if there are none.
            pub fn attrs_json(&self) -> String {
                match self { $(Op::$kind(a) => serde_json::to_string(a).unwrap_or_default(),)* }
            }
            /// An op from the name and the JSON of its attributes, as dumps print them.
            pub fn from_parts(name: &str, attrs: &str) -> Result<Op, String> {
                match name {
                    $(stringify!($module) => serde_json::from_str(attrs).map(Op::$kind).map_err(|e| format!("{name}: {e}")),)*
                    _ => Err(format!("no op is named {name:?}")),
                }
            }
        }
    };
}

op_table! {
    embed::Embed = "Rows of the embedding table for the step's tokens.";
    rms_norm::RmsNorm = "Root-mean-square norm with a weight.";
    quantize::Quantize = "Activations to a block type.";
    linear::Linear = "Product with a weight matrix, optional bias.";
    rope_table::RopeTable = "Cosines and sines for the step's positions.";
    rope::Rope = "Rotary position embedding.";
    kv_append::KvAppend = "Keys and values into the cache.";
    attention::Attention = "Causal attention over the cache.";
    swiglu::Swiglu = "silu(gate) * up.";
    add::Add = "Sum of two activations.";
    select_rows::SelectRows = "The rows that want logits.";
    rms_norm_quantize::RmsNormQuantize = "Fused: rms_norm, quantize.";
    add_rms_norm::AddRmsNorm = "Fused: add, rms_norm.";
    add_rms_norm_quantize::AddRmsNormQuantize = "Fused: add, rms_norm, quantize.";
    linear_qkv::LinearQkv = "Fused: the products for Q, K and V as one.";
    rope_kv::RopeKv = "Fused: rope of Q and K, kv_append.";
    linear_qkv_rope_kv::LinearQkvRopeKv = "Fused: linear_qkv, rope_kv.";
    linear_swiglu::LinearSwiglu = "Fused: gate and up products, swiglu.";
    linear_add::LinearAdd = "Fused: linear, add.";
}

impl Op {
    /// The store into a cache that this op does, alone or fused. The caches are then its last two results.
    pub fn store(&self) -> Option<kv_append::Attrs> {
        match self {
            Op::KvAppend(a) => Some(*a),
            Op::RopeKv(a) | Op::LinearQkvRopeKv(a) => Some(a.kv),
            _ => None,
        }
    }
}

impl std::fmt::Display for OpKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Checks the number of operands; part of every `infer`.
pub(crate) fn arity(args: &[ValueType], allowed: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    if allowed.contains(&args.len()) {
        Ok(())
    } else {
        Err(format!("takes {} to {} operands, not {}", allowed.start(), allowed.end(), args.len()))
    }
}

/// Checks that an operand is an f32 activation; part of most `infer`s.
pub(crate) fn f32_rows(what: &str, ty: &ValueType) -> Result<(), String> {
    if ty.dtype == crate::quant::DType::F32 && ty.shape.len() == 2 {
        Ok(())
    } else {
        Err(format!("{what} must be F32 [rows, cols], not {ty}"))
    }
}

/// Bytes of all operands that are not weights and of all results: the data traffic of an element-wise op.
pub(crate) fn traffic(args: &[ValueType], outs: &[ValueType], n: &Sizes) -> u64 {
    args.iter().chain(outs).map(|t| n.bytes(t)).sum()
}
