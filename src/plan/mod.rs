//! How and when: a graph fused, ordered, laid out in one arena, with a kernel for every step; flat and serialisable.
//!
//! In the order of processing: [`factors`] picks what the context length decides, [`fuse`] rewrites by named rules,
//! [`schedule`] orders and finds live ranges, [`arena`] gives offsets, [`build`] picks kernels and emits the [`Plan`],
//! [`forecast`] says how long it must take at least, [`report`] shows it: as text, as a picture, as a page, beside
//! another plan.
//!
//! A plan depends on the file's header, the options and the instruction-set class, never on thread count, time or
//! address: two runs give the same bytes. No command holds a position, a length or a pointer.

pub mod arena;
pub mod build;
pub mod factors;
pub mod forecast;
pub mod fuse;
mod read;
pub mod report;
pub mod schedule;

use crate::backends::{Isa, KvLayout};
use crate::graph::{BufferId, CmdId, Dim, Part, Table, ValueType, WeightId};
use crate::ops::{Cost, Op};
use crate::quant::DType;
pub use build::{Backend, PlanOptions, plan};
pub use fuse::FuseOptions;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the plan format; a plan of another version is refused.
pub const PLAN_FORMAT: u32 = 3;

/// What a plan is for. The same graph gives both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Many rows of few sequences.
    Prefill,
    /// One row of each of a few sequences.
    Decode,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
        })
    }
}

/// The five kinds of memory an operand can lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Region {
    /// The mapped file: `offset` is zero, the weight's row says where it lies.
    Weights,
    /// The sequence's cache, addressed through the sequence table and [`KvLayout`].
    Kv,
    /// The arena: `offset` bytes from its start.
    Arena,
    /// Per-thread scratch, `offset` bytes from its start: every thread has its own copy. A command whose results lie
    /// here is done by every thread for itself, so nobody has to wait for them.
    Scratch,
    /// The step state: rows in, logits out (`offset` from the start of the logits block).
    Step,
}

/// How many rows an operand has in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// A number fixed in the plan.
    Fixed(u32),
    /// Rows of the step.
    T,
    /// Rows that want logits.
    R,
    /// Cells of a cache: found through the sequence table.
    S,
}

impl Rows {
    /// The dimension that they are.
    pub fn dim(self) -> Dim {
        match self {
            Rows::Fixed(n) => Dim::Fixed(n),
            Rows::T => Dim::T,
            Rows::R => Dim::R,
            Rows::S => Dim::S,
        }
    }
}

/// One operand or result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operand {
    /// Kind of memory.
    pub region: Region,
    /// Element type.
    pub dtype: DType,
    /// Rows.
    pub rows: Rows,
    /// Elements of a row.
    pub cols: u32,
    /// Bytes of a row.
    pub row_bytes: u32,
    /// Weight number ([`WeightId`]), buffer number ([`BufferId`]; arena and scratch), or layer of a cache.
    pub index: u32,
    /// Byte offset in the region.
    pub offset: u64,
    /// Index into [`Plan::names`].
    pub name: u32,
}

/// One command: fixed size, no pointer, no position, no length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[repr(C)]
pub struct Cmd {
    /// Index into [`Plan::kernels`].
    pub kernel: u16,
    /// Operands in [`Plan::operands`]: `first..first + n_args` are read, the next `n_outs` written.
    pub n_args: u8,
    /// Results.
    pub n_outs: u8,
    /// First operand.
    pub first: u32,
    /// Index into [`Plan::ops`]: kind and attributes.
    pub op: u32,
    /// Scratch bytes per thread.
    pub scratch: u32,
    /// Index into [`Plan::files`].
    pub file: u16,
    /// Index into [`Plan::rules`] plus one; zero if no fusion made this command.
    pub rule: u16,
    /// Line of the architecture file that asked for it.
    pub line: u32,
    /// [`Cmd::BARRIER`].
    pub flags: u32,
}

const _: () = assert!(size_of::<Cmd>() == 28);

impl Cmd {
    /// The team meets before this command starts: it touches bytes that an earlier command since the last
    /// meeting touches.
    pub const BARRIER: u32 = 1;

    /// The range of operands read, then written.
    pub fn args(&self) -> std::ops::Range<usize> {
        self.first as usize..self.first as usize + usize::from(self.n_args)
    }
    /// The range of results.
    pub fn outs(&self) -> std::ops::Range<usize> {
        self.args().end..self.args().end + usize::from(self.n_outs)
    }
}

/// How a weight's bytes are arranged for the kernels that read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightLayout {
    /// Read where it lies in the file.
    AsInFile,
}

/// A weight of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightSlot {
    /// GGUF tensor name.
    pub name: String,
    /// Type and shape.
    pub ty: ValueType,
    /// The rows, if it is not the whole tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Bytes, of the part alone if it is one.
    pub bytes: u64,
    /// Arrangement.
    pub layout: WeightLayout,
}

impl WeightSlot {
    /// The tensor's name, and the rows of a part: `blk.0.attn_qkv.weight[64..96]`.
    pub fn label(&self) -> String {
        match (self.part, self.ty.shape.first()) {
            (Some(Part { first, .. }), Some(Dim::Fixed(n))) => {
                format!("{}[{first}..{}]", self.name, u64::from(first) + u64::from(*n))
            }
            _ => self.name.clone(),
        }
    }
    /// The part's bytes in the tensor, and how many the tensor has; `None` if that cannot be.
    pub fn span(&self) -> Option<(std::ops::Range<u64>, u64)> {
        let Some(Part { first, of }) = self.part else { return Some((0..self.bytes, self.bytes)) };
        let Some(Dim::Fixed(rows)) = self.ty.shape.first() else { return None };
        let row = self.bytes.checked_div(u64::from(*rows))?;
        let start = row.checked_mul(u64::from(first))?;
        let whole = row.checked_mul(u64::from(of))?;
        let end = start.checked_add(self.bytes)?;
        (end <= whole).then_some((start..end, whole))
    }
}

/// A buffer of the arena, or of every thread's scratch, and its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Buffer {
    /// Name of the value it holds.
    pub name: String,
    /// Arena or scratch.
    pub region: Region,
    /// Offset in the region, a multiple of [`arena::ALIGN`].
    pub offset: u64,
    /// Bytes at the plan's most rows.
    pub bytes: u64,
    /// The command that writes it.
    pub first: CmdId,
    /// The last command that touches it.
    pub last: CmdId,
}

/// Memory and work in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Bytes of all weights read.
    pub weight_bytes: u64,
    /// Bytes of one sequence's cache.
    pub kv_bytes: u64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// The largest sum of bytes alive at once: no arena can be smaller.
    pub arena_bound: u64,
    /// Bytes of all intermediates if none shared memory.
    pub arena_naive: u64,
    /// Scratch bytes per thread.
    pub scratch_bytes: u64,
    /// Of these, the first ones, which hold results that every thread makes for itself.
    pub own_bytes: u64,
    /// Bytes of the logits block.
    pub logits_bytes: u64,
    /// Bytes of the tokenizer's tables; 0 for a plan made from a graph alone.
    #[serde(default)]
    pub tokenizer_bytes: u64,
    /// Work of a step of the most rows at full context.
    pub work: Cost,
    /// Ops of the graph before fusion.
    pub ops_before: u32,
    /// Commands.
    pub ops_after: u32,
    /// Meetings of the team in a step.
    pub barriers: u32,
}

/// What fusion did, or declined and why, at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusionNote {
    /// Rule name.
    pub rule: String,
    /// The value it is about.
    pub at: String,
    /// Values that are no longer stored.
    pub gone: Vec<String>,
    /// Why the rule was declined; `None` if it fired.
    pub declined: Option<String>,
}

/// The plan: flat tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Version of this format: [`PLAN_FORMAT`]; readers refuse others.
    pub format: u32,
    /// Version of the numeric rules it was made under.
    pub numerics: u32,
    /// Architecture.
    pub arch: String,
    /// Prefill or decode.
    pub phase: Phase,
    /// Instruction-set class.
    pub isa: Isa,
    /// Most rows of a step.
    pub max_rows: u32,
    /// Most rows that want logits.
    pub max_out_rows: u32,
    /// Vocabulary size: columns of the logits.
    pub n_vocab: u32,
    /// Where keys and values lie in a sequence's cache.
    pub kv: KvLayout,
    /// Kernel names.
    pub kernels: Vec<String>,
    /// Kinds and attributes of commands.
    pub ops: Vec<Op>,
    /// The commands, in order.
    pub cmds: Table<CmdId, Cmd>,
    /// Work of each command in a step of the most rows at full context.
    pub costs: Vec<Cost>,
    /// Operands of all commands.
    pub operands: Vec<Operand>,
    /// Names of operands.
    pub names: Vec<String>,
    /// Architecture files.
    pub files: Vec<String>,
    /// Fusion rules that made commands.
    pub rules: Vec<String>,
    /// Weights.
    pub weights: Table<WeightId, WeightSlot>,
    /// Buffers of the arena and of scratch.
    pub buffers: Table<BufferId, Buffer>,
    /// Fusion report.
    pub report: Vec<FusionNote>,
    /// Totals.
    pub totals: Totals,
}
