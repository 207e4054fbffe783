//! When each member of the team began and ended each command of a step.
//!
//! The executor is compiled for a probe type. `NoProbe` has no size and does nothing, so that a run without a profile
//! is the code it would be if there were none; [`Recorder`] takes one reading of the clock behind every command and
//! every meeting.

use super::StepRows;
use crate::ops::Sizes;
use std::cell::UnsafeCell;
use std::time::Instant;

/// Most marks that are kept of single passes: 256 MiB of them.
const MAX_MARKS: usize = 1 << 24;

/// What the members of a team say of their way through a step.
pub(super) trait Probe: Sync {
    /// The member starts.
    fn enter(&self, member: u32);
    /// The member is about to run the command; it has met the others if `met`.
    fn begin(&self, member: u32, cmd: usize, met: bool);
    /// The member is done with the command.
    fn end(&self, member: u32, cmd: usize);
}

/// Nobody looks.
pub(super) struct NoProbe;

const _: () = assert!(size_of::<NoProbe>() == 0);

impl Probe for NoProbe {
    #[inline(always)]
    fn enter(&self, _: u32) {}
    #[inline(always)]
    fn begin(&self, _: u32, _: usize, _: bool) {}
    #[inline(always)]
    fn end(&self, _: u32, _: usize) {}
}

/// When a member began and ended a command, in nanoseconds since the recorder was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// After meeting the others.
    pub begin: u64,
    /// When its share was done.
    pub end: u64,
}

/// The marks of one member in the pass that runs.
#[repr(align(128))]
struct Lane(UnsafeCell<Marks>);

struct Marks {
    entered: u64,
    /// When the last command ended, or the member entered.
    last: u64,
    cmds: Box<[Mark]>,
}

/// Sums of one member over all passes of a plan, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the kernel.
    pub busy: u64,
    /// At the meeting before it.
    pub wait: u64,
}

/// A pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Number of its plan.
    pub plan: usize,
    /// Its rows, those that wanted logits, and the cells that its mean row saw.
    pub sizes: Sizes,
    /// When it began, in nanoseconds since the recorder was made.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
    /// Where its marks are in [`Recorder::marks`]; `None` if they were not kept.
    marks: Option<usize>,
}

/// What a plan took.
#[derive(Clone, Debug)]
struct PlanSums {
    n_cmds: usize,
    /// Command after command, the members of each side by side.
    spent: Vec<Spent>,
    /// Per member: from the start of passes to its own, and from its end to theirs.
    outside: Vec<u64>,
}

/// Times of every command on every member over the passes of a profile.
pub struct Recorder {
    origin: Instant,
    lanes: Box<[Lane]>,
    plans: Vec<PlanSums>,
    passes: Vec<Pass>,
    marks: Vec<Mark>,
    /// Most marks to keep; 0 if single passes are not kept.
    most: usize,
}

// SAFETY: a lane is written by its member alone during a step, and read through `&mut self` after it.
unsafe impl Sync for Recorder {}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({} members, {} passes)", self.lanes.len(), self.passes.len())
    }
}

impl Recorder {
    /// A recorder for plans of so many commands and a team of so many members, with room for `passes` passes before
    /// it has to grow. It keeps the marks of single passes if `keep` says so.
    pub fn new(n_cmds: &[usize], members: u32, passes: usize, keep: bool) -> Recorder {
        let (longest, members) = (n_cmds.iter().copied().max().unwrap_or(0), members as usize);
        let lane = |_| {
            let cmds = vec![Mark::default(); longest].into_boxed_slice();
            Lane(UnsafeCell::new(Marks { entered: 0, last: 0, cmds }))
        };
        let most = if keep { MAX_MARKS } else { 0 };
        let sums = |n: &usize| PlanSums {
            n_cmds: *n,
            spent: vec![Spent::default(); n * members],
            outside: vec![0; members],
        };
        Recorder {
            origin: Instant::now(),
            lanes: (0..members).map(lane).collect(),
            plans: n_cmds.iter().map(sums).collect(),
            passes: Vec::with_capacity(passes),
            marks: Vec::with_capacity(passes.saturating_mul(longest * members).min(most)),
            most,
        }
    }

    /// Nanoseconds since it was made.
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
    /// Members of the team.
    pub fn members(&self) -> usize {
        self.lanes.len()
    }
    /// The passes that were finished.
    pub fn passes(&self) -> &[Pass] {
        &self.passes
    }
    /// What command `cmd` of plan `plan` took on each member.
    pub fn spent(&self, plan: usize, cmd: usize) -> &[Spent] {
        let n = self.members();
        self.plans.get(plan).and_then(|p| p.spent.get(cmd * n..(cmd + 1) * n)).unwrap_or_default()
    }
    /// Nanoseconds that each member was not among the commands while passes of plan `plan` ran.
    pub fn outside(&self, plan: usize) -> &[u64] {
        self.plans.get(plan).map_or(&[], |p| &p.outside)
    }
    /// The marks of a pass, one list per member, a mark per command; none if they were not kept.
    pub fn marks(&self, pass: &Pass) -> impl Iterator<Item = &[Mark]> {
        let n = self.plans.get(pass.plan).map_or(0, |p| p.n_cmds);
        let of_pass = pass.marks.and_then(|at| self.marks.get(at..at + n * self.members()));
        of_pass.unwrap_or_default().chunks(n.max(1))
    }

    /// Whether it was made for a plan of so many commands under this number, and for a team of so many members.
    pub(super) fn fits(&self, plan: usize, n_cmds: usize, members: u32) -> bool {
        self.plans.get(plan).is_some_and(|p| p.n_cmds == n_cmds) && self.members() == members as usize
    }

    /// Adds a pass that has just been finished.
    pub(super) fn take(&mut self, plan: usize, rows: &StepRows<'_>, begin: u64, end: u64) {
        let Some(sums) = self.plans.get_mut(plan) else { return };
        let (members, n) = (self.lanes.len(), sums.n_cmds);
        let keep = self.marks.len() + n * members <= self.most;
        let marks = keep.then_some(self.marks.len());
        for (member, lane) in self.lanes.iter_mut().enumerate() {
            let lane = lane.0.get_mut();
            sums.outside[member] += lane.entered.saturating_sub(begin) + end.saturating_sub(lane.last);
            let mut before = lane.entered;
            for (cmd, m) in lane.cmds[..n].iter().enumerate() {
                let spent = &mut sums.spent[cmd * members + member];
                spent.wait += m.begin - before;
                spent.busy += m.end - m.begin;
                before = m.end;
            }
            if keep {
                self.marks.extend_from_slice(&lane.cmds[..n]);
            }
        }
        let cells: u64 = rows.positions.iter().map(|p| u64::from(*p) + 1).sum();
        let t = rows.tokens.len() as u64;
        let sizes = Sizes {
            t: t as u32,
            r: rows.out_rows.len() as u32,
            s: u32::try_from(cells.div_ceil(t.max(1))).unwrap_or(u32::MAX),
        };
        self.passes.push(Pass { plan, sizes, begin, end, marks });
    }

    /// The lane of a member.
    #[inline(always)]
    fn lane(&self, member: u32) -> *mut Marks {
        self.lanes[member as usize].0.get()
    }
}

impl Probe for Recorder {
    #[inline(always)]
    fn enter(&self, member: u32) {
        let now = self.now();
        // SAFETY: a member comes here with its own number only, and nobody reads lanes during a step.
        let lane = unsafe { &mut *self.lane(member) };
        (lane.entered, lane.last) = (now, now);
    }
    #[inline(always)]
    fn begin(&self, member: u32, cmd: usize, met: bool) {
        // SAFETY: as in `enter`.
        let lane = unsafe { &mut *self.lane(member) };
        // Without a meeting nothing lies between two commands.
        lane.cmds[cmd].begin = if met { self.now() } else { lane.last };
    }
    #[inline(always)]
    fn end(&self, member: u32, cmd: usize) {
        let now = self.now();
        // SAFETY: as in `enter`.
        let lane = unsafe { &mut *self.lane(member) };
        lane.cmds[cmd].end = now;
        lane.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_pass_add_up_on_every_member() {
        let mut r = Recorder::new(&[3, 2], 2, 4, true);
        let rows = StepRows { tokens: &[5, 6], positions: &[8, 9], seqs: &[0, 0], out_rows: &[1] };
        assert!(r.fits(0, 3, 2) && !r.fits(1, 3, 2) && !r.fits(0, 3, 1) && !r.fits(2, 3, 2));
        let mut walls = 0;
        for _ in 0..5 {
            let begin = r.now();
            for member in 0..2 {
                r.enter(member);
                for cmd in 0..3 {
                    r.begin(member, cmd, cmd != 1);
                    std::thread::sleep(std::time::Duration::from_micros(50));
                    r.end(member, cmd);
                }
            }
            let end = r.now();
            r.take(0, &rows, begin, end);
            walls += end - begin;
        }
        assert_eq!((r.passes().len(), r.passes()[0].sizes), (5, Sizes { t: 2, r: 1, s: 10 }));
        for member in 0..2 {
            let spent = |cmd| r.spent(0, cmd)[member];
            let sum: u64 = (0..3).map(|c| spent(c).busy + spent(c).wait).sum();
            assert_eq!(sum + r.outside(0)[member], walls);
            assert!((0..3).all(|c| spent(c).busy >= 5 * 50_000));
            assert_eq!(spent(1).wait, 0, "nobody was waited for");
        }
        let pass = r.passes()[4];
        let marks: Vec<&[Mark]> = r.marks(&pass).collect();
        assert_eq!((marks.len(), marks[0].len()), (2, 3));
        assert!(marks[1][0].begin >= marks[0][2].end, "one after the other here");
        assert_eq!(r.spent(1, 0), [Spent::default(); 2]);
        let mut none = Recorder::new(&[3], 2, 1, false);
        none.take(0, &rows, 0, 0);
        assert_eq!(none.marks(&none.passes()[0]).count(), 0);
    }
}
