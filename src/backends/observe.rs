//! Looking at the results of commands while a step runs. Nothing of this is in a step that nobody watches.

use super::{KvSeq, Operand, StepRows};
use crate::graph::CmdId;
use crate::plan::{Buffer, Cmd, Plan, Region};
use crate::quant::DType;

/// Whether and how results are looked at. Without, the executor has no trace of it.
pub(super) trait Observe {
    const ON: bool;
    fn look(&mut self, seen: Observed<'_>);
}

pub(super) struct Unobserved;
impl Observe for Unobserved {
    const ON: bool = false;
    fn look(&mut self, _: Observed<'_>) {}
}

pub(super) struct Watched<'a>(pub &'a mut dyn FnMut(Observed<'_>));
impl Observe for Watched<'_> {
    const ON: bool = true;
    fn look(&mut self, seen: Observed<'_>) {
        (self.0)(seen);
    }
}

/// Four of them are a NaN of f32, two of them a NaN of f16.
pub(super) const NAN_BYTE: u8 = 0xff;

/// Writes NaN over every buffer of the arena behind the last command that touches it.
pub(super) struct Poison {
    pub arena: *mut u8,
    pub len: usize,
}
impl Observe for Poison {
    const ON: bool = true;
    fn look(&mut self, seen: Observed<'_>) {
        let done = |b: &&Buffer| b.region == Region::Arena && b.last == seen.cmd;
        for b in seen.plan.buffers.rows().iter().filter(done) {
            let inside = b.offset.checked_add(b.bytes).is_some_and(|end| end <= self.len as u64);
            assert!(inside, "buffer {} leaves the arena", b.name);
            // SAFETY: the bytes lie inside the arena, and the team waits for the observer.
            unsafe { self.arena.add(b.offset as usize).write_bytes(NAN_BYTE, b.bytes as usize) };
        }
    }
}

/// What an observer sees after each command: the command's results, on member 0, while the team waits.
pub struct Observed<'a> {
    /// The plan that runs.
    pub plan: &'a Plan,
    /// The command that has just run.
    pub cmd: CmdId,
    outs: &'a [Operand],
    step: StepRows<'a>,
    seqs: &'a [KvSeq],
}

/// One result of a command.
pub struct Seen<'a> {
    /// Its name in the graph.
    pub name: &'a str,
    /// Its element type.
    pub dtype: DType,
    /// Elements of a row.
    pub cols: u32,
    /// Its rows in this step; of a cache, the cells that this step stored, head by head in each row.
    pub bytes: Pieces<'a>,
}

/// Where a result lies.
pub enum Pieces<'a> {
    /// In one piece.
    Whole(&'a mut [u8]),
    /// In cells of caches.
    Cells(Vec<&'a mut [u8]>),
}

impl<'a> Pieces<'a> {
    /// Every piece, in order.
    pub fn pieces(&mut self) -> &mut [&'a mut [u8]] {
        match self {
            Pieces::Whole(b) => std::slice::from_mut(b),
            Pieces::Cells(c) => c,
        }
    }
}

impl<'a> Observed<'a> {
    /// What a step shows after a command.
    ///
    /// # Safety
    /// The operands are the results of command `cmd` of `plan` in a step of `step` and `seqs` that satisfies the
    /// checks of [`Runner::run`](super::bind::Runner::run), the command has run, and until the result is gone nobody
    /// else touches their memory.
    pub(super) unsafe fn new(
        plan: &'a Plan,
        cmd: CmdId,
        outs: &'a [Operand],
        step: StepRows<'a>,
        seqs: &'a [KvSeq],
    ) -> Observed<'a> {
        Observed { plan, cmd, outs, step, seqs }
    }

    /// The command.
    pub fn command(&self) -> &'a Cmd {
        &self.plan.cmds[self.cmd]
    }

    /// Every result, to be read, or changed before the next command reads it.
    pub fn results(&mut self) -> impl Iterator<Item = Seen<'_>> {
        let command = &self.plan.cmds[self.cmd];
        let store = self.plan.ops.get(command.op as usize).and_then(crate::ops::Op::store);
        let mut caches = 0;
        let me = &*self;
        me.plan.operands[command.outs()].iter().zip(me.outs).filter_map(move |(planned, o)| {
            let name = me.plan.names.get(planned.name as usize).map_or("", String::as_str);
            let bytes = if planned.region == Region::Kv {
                caches += 1;
                // The caches are the last two results: keys, then values.
                let (cells, len) = me.cells(store?.layer, store?.n_head_kv, caches == 1);
                // SAFETY: the step's checks hold positions below n_ctx and sequences below their number, the plan's
                // check the layer and the heads; the command has stored the cells, and no two rows share one.
                let slice = |p| unsafe { std::slice::from_raw_parts_mut(p, len) };
                Pieces::Cells(cells.into_iter().map(slice).collect())
            } else {
                // SAFETY: what `new` was promised: initialised rows, which nobody else touches; results of a command
                // do not overlap, and `&mut self` gives each of them out once.
                Pieces::Whole(unsafe { std::slice::from_raw_parts_mut(o.ptr, o.rows as usize * o.row_bytes) })
            };
            Some(Seen { name, dtype: o.dtype, cols: o.cols, bytes })
        })
    }

    /// Where the cells of keys or values are that the rows of this step have stored in a layer, and their bytes.
    fn cells(&self, layer: u32, heads: u32, keys: bool) -> (Vec<*mut u8>, usize) {
        let kv = &self.plan.kv;
        let (dtype, dim) = if keys { (kv.type_k, kv.head_dim_k) } else { (kv.type_v, kv.head_dim_v) };
        let rows = self.step.positions.iter().zip(self.step.seqs);
        let cell = |(position, seq, head): (u32, u32, u32)| {
            let at =
                if keys { kv.k_offset(layer, head, position) } else { kv.v_offset(layer, head, position) };
            self.seqs[seq as usize].base.wrapping_add(at)
        };
        let all = rows.flat_map(|(position, seq)| (0..heads).map(|head| (*position, *seq, head)));
        (all.map(cell).collect(), dtype.row_bytes(dim as usize).unwrap_or(0))
    }
}
