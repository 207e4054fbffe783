//! What a kernel sees: resolved operands, the step's rows, the caches of its sequences, its thread and scratch.
//!
//! Aliasing: the planner proves that no two live buffers overlap, commands are separated by barriers wherever
//! they touch the same bytes, and inside a command every kernel writes only the part of a result that its thread
//! owns (see `share`). A command that every thread does for itself has the kernel run as one of a single thread, on
//! results in that thread's scratch. That one argument is what the SAFETY lines of kernels cite.

use crate::ops::Op;
use crate::ops::attention::Cells;
use crate::quant::DType;

/// One operand or result of a bound command. Rows are dense: row r starts at `r * row_bytes`.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// First byte. Null for caches, which are found through the sequence table.
    pub ptr: *mut u8,
    /// Element type.
    pub dtype: DType,
    /// Rows in this step (weights: rows of the matrix, 1 for a vector).
    pub rows: u32,
    /// Elements of a row.
    pub cols: u32,
    /// Bytes of a row.
    pub row_bytes: usize,
}

impl Operand {
    /// All rows as f32; activations of the arena are 64-byte aligned.
    ///
    /// # Safety
    /// The operand is F32, aligned to 4, initialised for its rows, and nobody writes it during the command.
    pub unsafe fn f32s<'a>(&self) -> &'a [f32] {
        debug_assert_eq!(self.dtype, DType::F32);
        // SAFETY: the caller's promise, for rows * cols elements.
        unsafe { std::slice::from_raw_parts(self.ptr.cast::<f32>(), self.rows as usize * self.cols as usize) }
    }
    /// Row `r` as f32.
    ///
    /// # Safety
    /// As `f32s`, for that row.
    pub unsafe fn row_f32<'a>(&self, r: usize) -> &'a [f32] {
        debug_assert!(self.dtype == DType::F32 && r < self.rows as usize);
        // SAFETY: the caller's promise; r is a row of the operand.
        unsafe {
            std::slice::from_raw_parts(self.ptr.add(r * self.row_bytes).cast::<f32>(), self.cols as usize)
        }
    }
    /// Columns `cols` of row `r` as f32, to write.
    ///
    /// # Safety
    /// The operand is an F32 result, and only this thread touches these columns of this row during the command.
    pub unsafe fn row_f32_mut<'a>(&self, r: usize, cols: std::ops::Range<usize>) -> &'a mut [f32] {
        debug_assert!(self.dtype == DType::F32 && r < self.rows as usize && cols.end <= self.cols as usize);
        // SAFETY: the caller's promise; the columns lie inside the row.
        unsafe {
            let first = self.ptr.add(r * self.row_bytes).cast::<f32>().add(cols.start);
            std::slice::from_raw_parts_mut(first, cols.len())
        }
    }
    /// Elements `part` of all rows side by side as f32, to write.
    ///
    /// # Safety
    /// The operand is an F32 result, and only this thread touches these elements during the command.
    pub unsafe fn f32_part_mut<'a>(&self, part: std::ops::Range<usize>) -> &'a mut [f32] {
        debug_assert!(self.dtype == DType::F32 && part.end <= self.rows as usize * self.cols as usize);
        // SAFETY: the caller's promise; the part lies inside the rows, which are dense.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.cast::<f32>().add(part.start), part.len()) }
    }
    /// The bytes of row `r`.
    ///
    /// # Safety
    /// The row is initialised and nobody writes it during the command.
    pub unsafe fn row_bytes<'a>(&self, r: usize) -> &'a [u8] {
        debug_assert!(r < self.rows as usize);
        // SAFETY: the caller's promise; r is a row of the operand.
        unsafe { std::slice::from_raw_parts(self.ptr.add(r * self.row_bytes), self.row_bytes) }
    }
    /// Bytes `bytes` of row `r`, to write.
    ///
    /// # Safety
    /// Only this thread touches these bytes during the command.
    pub unsafe fn row_bytes_mut<'a>(&self, r: usize, bytes: std::ops::Range<usize>) -> &'a mut [u8] {
        debug_assert!(r < self.rows as usize && bytes.end <= self.row_bytes);
        // SAFETY: the caller's promise; the range lies inside the row.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(r * self.row_bytes + bytes.start), bytes.len()) }
    }
}

/// The rows of a step, as tables. Everything that changes from step to step is here and in [`KvSeq`].
#[derive(Clone, Copy, Debug)]
pub struct StepRows<'a> {
    /// Token of each row; always below the vocabulary size.
    pub tokens: &'a [u32],
    /// Position of each row in its sequence; always below n_ctx.
    pub positions: &'a [u32],
    /// Which sequence of the step each row belongs to: an index into [`KernelCtx::seqs`].
    pub seqs: &'a [u32],
    /// The rows that want logits, ascending.
    pub out_rows: &'a [u32],
}

/// The cache of one sequence of the step.
#[derive(Clone, Copy, Debug)]
pub struct KvSeq {
    /// First byte of its cache: `KvLayout::total_bytes` bytes, 64-byte aligned.
    pub base: *mut u8,
}

impl KvSeq {
    /// The first `n` cells of keys and of values of one head.
    ///
    /// # Safety
    /// The cache has this layout, holds the layer and the head, its first `n` cells (at most n_ctx) are written, and
    /// nobody writes them while the result is in use.
    pub unsafe fn cells<'a>(&self, kv: &KvLayout, layer: u32, head: u32, n: usize) -> (Cells<'a>, Cells<'a>) {
        let part = |at: usize, dtype: DType, dim: u32| {
            let dim = dim as usize;
            let len = n * dtype.row_bytes(dim).unwrap_or(0);
            // SAFETY: cells of a head lie one after the other; the rest is the caller's promise.
            let bytes = unsafe { std::slice::from_raw_parts(self.base.add(at), len) };
            Cells { bytes, dtype, dim }
        };
        (
            part(kv.k_offset(layer, head, 0), kv.type_k, kv.head_dim_k),
            part(kv.v_offset(layer, head, 0), kv.type_v, kv.head_dim_v),
        )
    }
}

/// Where a layer's keys and values lie in a sequence's cache. Per layer: K `[n_head_kv][n_ctx][head_dim_k]`, then
/// V `[n_head_kv][n_ctx][head_dim_v]`, each part rounded up to 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct KvLayout {
    /// Layers.
    pub n_layer: u32,
    /// Cells of a sequence.
    pub n_ctx: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Dimensions of a key head.
    pub head_dim_k: u32,
    /// Dimensions of a value head.
    pub head_dim_v: u32,
    /// Type of cached keys.
    pub type_k: DType,
    /// Type of cached values.
    pub type_v: DType,
}

impl KvLayout {
    fn part(&self, dtype: DType, head_dim: u32) -> Option<u64> {
        let row = u64::try_from(dtype.row_bytes(head_dim as usize)?).ok()?;
        row.checked_mul(u64::from(self.n_head_kv))?
            .checked_mul(u64::from(self.n_ctx))?
            .checked_next_multiple_of(64)
    }
    /// Bytes of one sequence's cache; `None` if that overflows.
    pub fn total_bytes(&self) -> Option<u64> {
        let layer =
            self.part(self.type_k, self.head_dim_k)?.checked_add(self.part(self.type_v, self.head_dim_v)?)?;
        layer.checked_mul(u64::from(self.n_layer))
    }
    /// Byte offset of a layer's keys and of its values. The layout's total must not overflow.
    pub fn layer_offsets(&self, layer: u32) -> (usize, usize) {
        let k = self.part(self.type_k, self.head_dim_k).unwrap_or(0);
        let v = self.part(self.type_v, self.head_dim_v).unwrap_or(0);
        let start = u64::from(layer) * (k + v);
        (start as usize, (start + k) as usize)
    }
    /// Byte offset of the key of `cell` of `head` in `layer`.
    pub fn k_offset(&self, layer: u32, head: u32, cell: u32) -> usize {
        let row = self.type_k.row_bytes(self.head_dim_k as usize).unwrap_or(0);
        self.layer_offsets(layer).0 + (head as usize * self.n_ctx as usize + cell as usize) * row
    }
    /// Byte offset of the value of `cell` of `head` in `layer`.
    pub fn v_offset(&self, layer: u32, head: u32, cell: u32) -> usize {
        let row = self.type_v.row_bytes(self.head_dim_v as usize).unwrap_or(0);
        self.layer_offsets(layer).1 + (head as usize * self.n_ctx as usize + cell as usize) * row
    }
}

/// Everything a kernel gets. Built once per command and step, on the stack.
pub struct KernelCtx<'a> {
    /// Kind and attributes.
    pub op: &'a Op,
    /// Operands in the op's order.
    pub args: &'a [Operand],
    /// Results in the op's order.
    pub outs: &'a [Operand],
    /// The step's rows.
    pub step: StepRows<'a>,
    /// Caches of the step's sequences.
    pub seqs: &'a [KvSeq],
    /// Where layers lie in a cache.
    pub kv: &'a KvLayout,
    /// This thread's scratch, 64-byte aligned, at least what `Kernel::scratch` asked for.
    pub scratch: *mut u8,
    /// This thread's number.
    pub thread: u32,
    /// Threads of the team.
    pub n_threads: u32,
}

impl KernelCtx<'_> {
    /// This thread's share of `n` items cut in units of `unit`: contiguous, disjoint, covering, sizes within one
    /// unit of each other. Depends on nothing but its arguments and the thread.
    pub fn share(&self, n: usize, unit: usize) -> std::ops::Range<usize> {
        let units = n.div_ceil(unit);
        let (i, t) = (self.thread as usize, self.n_threads as usize);
        (units * i / t * unit).min(n)..(units * (i + 1) / t * unit).min(n)
    }
}
