//! What is computed: ids and tables, shapes with symbolic rows, ops over values.
//!
//! A [`Graph`] is a definition, not an order: every op names its operands by id, and the planner decides when
//! each runs. It knows nothing of weights' bytes, kernels, threads or offsets.
//!
//! - [`ids`]: typed ids and the tables they index
//! - [`builder`]: how an architecture writes a graph
//! - [`verify`]: the invariants, checked after building and after every pass
//! - [`text`]: the canonical text form, which can be read back
//! - [`view`]: petgraph's view of a graph: order, reachability, DOT

pub mod builder;
pub mod ids;
pub mod text;
pub mod verify;
pub mod view;

use crate::ops::Op;
use crate::quant::DType;

pub use builder::GraphBuilder;
pub use ids::{BufferId, CmdId, Id, OpId, Table, ValueId, WeightId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// One dimension: a number, or a symbol whose number every step brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Dim {
    /// A number known when the graph is built.
    Fixed(u32),
    /// Rows of the step: the tokens decoded together.
    T,
    /// Rows of the step that want logits.
    R,
    /// Cells of the KV cache in use, per sequence.
    S,
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::T => f.write_str("T"),
            Dim::R => f.write_str("R"),
            Dim::S => f.write_str("S"),
        }
    }
}

/// Dimensions, slowest first (row-major): an activation is `[T, cols]`, a weight `[rows, cols]`.
/// GGUF lists dimensions the other way round; only the loader speaks that order.
pub type Shape = SmallVec<[Dim; 4]>;

/// Type and shape of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValueType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, slowest first.
    pub shape: Shape,
}

impl ValueType {
    /// `[rows, cols]`.
    pub fn matrix(dtype: DType, rows: Dim, cols: u32) -> Self {
        ValueType { dtype, shape: SmallVec::from_slice(&[rows, Dim::Fixed(cols)]) }
    }
    /// `[n]`.
    pub fn vector(dtype: DType, n: u32) -> Self {
        ValueType { dtype, shape: SmallVec::from_slice(&[Dim::Fixed(n)]) }
    }
    /// Elements of a row: the last dimension (0 if it is not a number).
    pub fn cols(&self) -> u32 {
        match self.shape.last() {
            Some(Dim::Fixed(n)) => *n,
            _ => 0,
        }
    }
    /// The first dimension of a matrix; one row for a vector.
    pub fn rows(&self) -> Dim {
        if self.shape.len() < 2 { Dim::Fixed(1) } else { self.shape[0] }
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Def {
    /// Output `.1` of op `.0`.
    Op(OpId, u8),
    /// A weight of the file.
    Weight(WeightId),
}

/// One value: its name in dumps and traces, its type, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// llama.cpp's name (`attn_norm-0`), or the GGUF name of a weight. Unique in a graph.
    pub name: String,
    /// Element type and shape.
    pub ty: ValueType,
    /// Its one definition.
    pub def: Def,
}

/// Which part of a tensor a weight is: `shape[0]` rows (elements of a vector) from `first` on. Files that store Q, K
/// and V as one matrix become three weights that way, and ops need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// First row.
    pub first: u32,
    /// Rows of the whole tensor.
    pub of: u32,
}

/// A weight the architecture demands of the file: a tensor, or some rows of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// GGUF tensor name.
    pub name: String,
    /// Type in the file.
    pub dtype: DType,
    /// `[rows, cols]`, or `[n]` for a vector.
    pub shape: SmallVec<[u32; 2]>,
    /// The rows, if it is not the whole tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The value that stands for it.
    pub value: ValueId,
}

impl Weight {
    /// The name of its value: the tensor's, and the rows of a part: `blk.0.attn_qkv.weight[64..96]`.
    pub fn value_name(&self) -> String {
        match self.part {
            None => self.name.clone(),
            Some(_) => {
                let rows = self.rows();
                format!("{}[{}..{}]", self.name, rows.start, rows.end)
            }
        }
    }
    /// Its rows in the tensor. May reach past the tensor's end in a graph that was not verified.
    pub fn rows(&self) -> std::ops::Range<u64> {
        let first = u64::from(self.part.map_or(0, |p| p.first));
        first..first + u64::from(self.shape.first().copied().unwrap_or(0))
    }
    /// Dimensions of the whole tensor, slowest first.
    pub fn tensor_shape(&self) -> SmallVec<[u32; 2]> {
        let mut shape = self.shape.clone();
        if let (Some(p), Some(rows)) = (self.part, shape.first_mut()) {
            *rows = p.of;
        }
        shape
    }
}

/// Operand lists are short: four inline covers the unfused ops.
pub type ValueList = SmallVec<[ValueId; 4]>;

/// One op: what to do, with which values, and the line of the architecture file that asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpNode {
    /// Kind and attributes.
    pub op: Op,
    /// Operands in the order the op documents.
    pub args: ValueList,
    /// Results in the order the op documents.
    pub outs: ValueList,
    /// Index into [`Graph::files`] and line.
    pub src: (u16, u32),
    /// The fusion rule that made this op, if one did.
    pub rule: Option<String>,
}

/// A whole model as a static graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// `general.architecture` of the file it was built for.
    pub arch: String,
    /// Architecture files that ops point at.
    pub files: Vec<String>,
    /// All weights, in the order they were first named.
    pub weights: Table<WeightId, Weight>,
    /// All values.
    pub values: Table<ValueId, Value>,
    /// All ops; order carries no meaning beyond readability.
    pub ops: Table<OpId, OpNode>,
    /// The results, by the name people use: logits as `result_output`.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The value with this name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().find(|(_, v)| v.name == name).map(|(id, _)| id)
    }
    /// How many ops read each value; a graph output counts as one reader.
    pub fn uses(&self) -> Vec<u32> {
        let mut n = vec![0; self.values.len()];
        for op in self.ops.rows() {
            for v in &op.args {
                n[v.index()] += 1;
            }
        }
        for v in &self.outputs {
            n[v.index()] += 1;
        }
        n
    }
}
