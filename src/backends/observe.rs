//! Looking at a step while it runs: the results of every command, or NaN behind every life.

use super::Operand;
use crate::graph::CmdId;
use crate::plan::{Plan, Region};
use crate::quant::DType;

/// What an observer sees after each command: the command's results, on member 0, while the team waits.
pub struct Observed<'a> {
    /// The plan that runs.
    pub plan: &'a Plan,
    /// The command that has just run.
    pub cmd: CmdId,
    pub(super) outs: &'a [Operand],
}

impl<'a> Observed<'a> {
    /// Name, element type, elements of a row and bytes of each result that lies in memory of the step (caches do
    /// not).
    pub fn results(&self) -> impl Iterator<Item = (&'a str, DType, u32, &'a [u8])> + '_ {
        let planned = &self.plan.operands[self.plan.cmds[self.cmd].outs()];
        planned.iter().zip(self.outs).filter(|(p, _)| p.region != Region::Kv).map(|(p, o)| {
            let name = self.plan.names.get(p.name as usize).map_or("", String::as_str);
            // SAFETY: the operand's rows are initialised memory of the runner, and the team waits for the
            // observer, so that nobody writes them.
            let bytes = unsafe { std::slice::from_raw_parts(o.ptr, o.rows as usize * o.row_bytes) };
            (name, o.dtype, o.cols, bytes)
        })
    }
}

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

pub(super) struct Poison {
    pub arena: *mut u8,
    pub len: usize,
}
impl Observe for Poison {
    const ON: bool = true;
    fn look(&mut self, seen: Observed<'_>) {
        for b in seen.plan.buffers.rows().iter().filter(|b| b.last == seen.cmd) {
            let inside = b.offset.checked_add(b.bytes).is_some_and(|end| end <= self.len as u64);
            assert!(inside, "buffer {} leaves the arena", b.name);
            // SAFETY: the bytes lie inside the arena, and the team waits for the observer.
            unsafe { self.arena.add(b.offset as usize).write_bytes(NAN_BYTE, b.bytes as usize) };
        }
    }
}
