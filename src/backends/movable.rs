//! Weights that are worth moving into large pages: which parts of the files, and moving them on all threads.

use super::bind::Place;
use super::team::{Member, Team};
use crate::error::Result;
use crate::loader::Bytes;
use crate::ops::OpKind;
use crate::plan::{Phase, Plan, Region, WeightSlot};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Chunks of files that decoding reads over and over and that can still be moved ([`Bytes::move_chunk`]).
#[derive(Debug, Default)]
pub(super) struct Movable(Vec<(usize, Range<usize>)>);

impl Movable {
    /// The chunks with weights that a decode plan reads whole: all but tables of which it takes single rows. The plans have
    /// passed [`super::check::check`].
    pub fn find(plans: &[Plan], files: &[Bytes], find: &dyn Fn(&WeightSlot) -> Option<Place>) -> Movable {
        let mut places: Vec<Place> = Vec::new();
        for plan in plans.iter().filter(|p| p.phase == Phase::Decode) {
            let cmds = plan.cmds.rows().iter();
            for cmd in cmds.filter(|c| plan.ops[c.op as usize].kind() != OpKind::Embed) {
                let weights = plan.operands[cmd.args()].iter().filter(|o| o.region == Region::Weights);
                places.extend(weights.filter_map(|o| find(&plan.weights.rows()[o.index as usize])));
            }
        }
        let of = |i: usize| places.iter().filter(move |(f, _)| *f == i).map(|(_, range)| range.clone());
        let chunks =
            files.iter().enumerate().flat_map(|(i, f)| f.chunks(of(i)).into_iter().map(move |c| (i, c)));
        Movable(chunks.collect())
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, chunk)| chunk.len() as u64).sum()
    }

    /// Moves them on all threads, and returns the bytes for which there was memory.
    ///
    /// Errors: `WorkerPanicked` (runtime).
    pub fn move_all(self, files: &[Bytes], team: &mut Team) -> Result<u64> {
        let (next, moved) = (AtomicUsize::new(0), AtomicU64::new(0));
        team.run(&|_: &Member<'_>| {
            while let Some((file, chunk)) = self.0.get(next.fetch_add(1, Ordering::Relaxed)) {
                if files.get(*file).is_some_and(|f| f.move_chunk(chunk)) {
                    moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
            }
        })?;
        Ok(moved.into_inner())
    }
}
