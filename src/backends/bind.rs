//! A plan bound to memory: kernel names become functions, offsets become addresses, once.
//!
//! [`Runner`] owns everything that addresses point into (the file's bytes, the arena, scratch, logits) and the
//! thread team, and runs bound plans. What is left to do per command and step is to put in the number of rows.

use super::alloc::{KvCache, StepMemory};
use super::check::{MAX_OPERANDS, check};
use super::movable::Movable;
use super::observe::{NAN_BYTE, Observe, Observed, Poison, Unobserved, Watched};
use super::probe::{NoProbe, Probe, Recorder};
use super::team::{Ended, Member, Team};
use super::{KernelCtx, KernelFn, KvSeq, Operand, StepRows};
use crate::error::{Class, Error, Problem, Result, escape};
use crate::graph::{CmdId, Id};
use crate::loader::Bytes;
use crate::plan::{Cmd, Plan, Region, Rows, WeightSlot};
use crate::quant::DType;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A command with its kernel resolved.
#[derive(Clone, Copy)]
struct BoundCmd {
    run: KernelFn,
    first: u32,
    op: u32,
    n_args: u8,
    n_outs: u8,
    barrier: bool,
    /// Every member does all of it, for itself.
    own: bool,
    /// All its results have the rows that want logits: nothing to do in a step that wants none.
    only_logits: bool,
}

/// An operand with its address resolved.
#[derive(Clone, Copy)]
struct BoundOperand {
    ptr: *mut u8,
    /// It lies this far into every member's scratch, instead of at `ptr`.
    own: Option<usize>,
    dtype: DType,
    rows: Rows,
    cols: u32,
    row_bytes: usize,
    /// Its first row in a step is the step's first row of logits.
    stacked: bool,
}

/// One plan of a [`Runner`].
struct Bound {
    plan: Plan,
    cmds: Vec<BoundCmd>,
    operands: Vec<BoundOperand>,
    /// The logits block holds rows of logits and nothing else, so steps can put theirs behind each other.
    stacks: bool,
}

/// Where a weight lies: a file by number, and the bytes in it.
pub type Place = (usize, Range<usize>);

/// Plans bound to one memory and one team.
pub struct Runner {
    plans: Vec<Bound>,
    memory: StepMemory,
    /// Keep the addresses of weights valid.
    files: Vec<Bytes>,
    movable: Movable,
    team: Team,
    /// The caches of the current step; kept for its capacity.
    seqs: Vec<KvSeq>,
    n_outputs: u32,
}

// SAFETY: the addresses in it point into the memory and the file it owns, and are used through `&mut self` only.
unsafe impl Send for Runner {}
// SAFETY: `&self` gives out plans and finished logits, which nobody writes while the runner is shared.
unsafe impl Sync for Runner {}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runner({} plans, {:?})", self.plans.len(), self.memory)
    }
}

impl Runner {
    /// Binds `plans` to the weights in `files`, where `find` says in which of them each lies and where, with room for
    /// `n_outputs` rows of logits per step.
    ///
    /// Errors: `BadPlan` (input) for a plan that could touch memory it does not own; `NoSuchIsa`,
    /// `InsufficientMemory` (resources); `MissingTensor` (model) if the file lacks a weight of the plan.
    pub fn new(
        plans: Vec<Plan>,
        files: Vec<Bytes>,
        find: &dyn Fn(&WeightSlot) -> Option<Place>,
        n_outputs: u32,
        team: Team,
    ) -> Result<Runner> {
        let kernels = plans.iter().map(check).collect::<Result<Vec<_>>>()?;
        let movable = Movable::find(&plans, &files, find);
        let memory = StepMemory::new(&plans.iter().collect::<Vec<_>>(), n_outputs, team.n_threads())?;
        let bound = plans.into_iter().zip(kernels).map(|(plan, kernels)| {
            let weights =
                plan.weights.rows().iter().map(|w| weight(w, &files, find)).collect::<Result<Vec<_>>>()?;
            let operands: Vec<BoundOperand> = plan
                .operands
                .iter()
                .map(|o| BoundOperand {
                    ptr: match o.region {
                        Region::Weights => weights.get(o.index as usize).copied().unwrap_or_default().0,
                        Region::Arena => memory.arena.ptr().wrapping_add(o.offset as usize),
                        Region::Step => memory.logits.ptr().wrapping_add(o.offset as usize),
                        Region::Kv | Region::Scratch => std::ptr::null_mut(),
                    },
                    own: (o.region == Region::Scratch).then_some(o.offset as usize),
                    dtype: o.dtype,
                    rows: o.rows,
                    cols: o.cols,
                    row_bytes: o.row_bytes as usize,
                    stacked: o.region == Region::Step,
                })
                .collect();
            let is_logits = |o: &crate::plan::Operand| {
                o.rows == Rows::R && o.cols == plan.n_vocab && o.offset == 0 && o.dtype == DType::F32
            };
            let stacks = plan.operands.iter().filter(|o| o.region == Region::Step).all(is_logits);
            let cmds = plan.cmds.rows().iter().zip(kernels).map(|(c, k)| BoundCmd {
                run: k.run,
                first: c.first,
                op: c.op,
                n_args: c.n_args,
                n_outs: c.n_outs,
                barrier: c.flags & Cmd::BARRIER != 0,
                own: plan.operands[c.outs()].iter().any(|o| o.region == Region::Scratch),
                only_logits: plan.only_logits(c),
            });
            Ok(Bound { cmds: cmds.collect(), operands, stacks, plan })
        });
        let plans = bound.collect::<Result<Vec<_>>>()?;
        Ok(Runner { plans, memory, files, movable, team, seqs: Vec::with_capacity(16), n_outputs })
    }

    /// The plan with this number.
    pub fn plan(&self, i: usize) -> Option<&Plan> {
        self.plans.get(i).map(|b| &b.plan)
    }
    /// Threads of the team.
    pub fn n_threads(&self) -> u32 {
        self.team.n_threads()
    }
    /// Bytes of the arena, of the scratch of all threads, and of the logits.
    pub fn memory_bytes(&self) -> [u64; 3] {
        [&self.memory.arena, &self.memory.scratch, &self.memory.logits].map(|b| b.len() as u64)
    }
    /// Bytes of weights that [`Runner::move_weights`] would move.
    pub fn movable_bytes(&self) -> u64 {
        self.movable.bytes()
    }
    /// Moves the weights that decoding reads over and over into large pages, on all threads, where the files can be and
    /// have not been. Returns the bytes that have moved. Addresses and contents stay.
    ///
    /// Errors: `WorkerPanicked` (runtime).
    pub fn move_weights(&mut self) -> Result<u64> {
        std::mem::take(&mut self.movable).move_all(&self.files, &mut self.team)
    }
    /// Leaves all weights where they are, from now on.
    pub fn leave_weights(&mut self) {
        self.movable = Movable::default();
    }
    /// Row `row` of the logits block: what the last step that wrote it left there. `None` past its end.
    pub fn logits(&self, row: u32) -> Option<&[f32]> {
        let n = self.plans.first()?.plan.n_vocab as usize;
        // SAFETY: steps write the block only under `&mut self`.
        let all: &[f32] = bytemuck::try_cast_slice(unsafe { self.memory.logits.bytes() }).ok()?;
        all.get((row as usize).checked_mul(n)?..)?.get(..n).filter(|_| row < self.n_outputs)
    }

    /// Runs plan `plan` on the rows of a step. Logits go to rows `first_output..` of the logits block. Allocates
    /// nothing once it has seen as many sequences. Ends early if `cancel` is set.
    ///
    /// Errors: `BadStep` (input) for rows that do not fit the plan or the caches; `WorkerPanicked` (runtime).
    pub fn run<'k>(
        &mut self,
        plan: usize,
        rows: StepRows<'_>,
        first_output: u32,
        caches: impl Iterator<Item = &'k mut KvCache>,
        cancel: Option<&AtomicBool>,
    ) -> Result<Ended> {
        let how = How { cancel, observer: Unobserved, probe: &NoProbe };
        self.run_with(plan, rows, first_output, caches, how)
    }

    /// As [`Runner::run`], taking the time of every command on every member.
    ///
    /// Errors: those of [`Runner::run`], and `BadStep` for a recorder that was made for other plans.
    pub fn run_recorded<'k>(
        &mut self,
        plan: usize,
        rows: StepRows<'_>,
        first_output: u32,
        caches: impl Iterator<Item = &'k mut KvCache>,
        cancel: Option<&AtomicBool>,
        recorder: &mut Recorder,
    ) -> Result<Ended> {
        let fits = |b: &Bound| recorder.fits(plan, b.cmds.len(), self.team.n_threads());
        if !self.plans.get(plan).is_some_and(fits) {
            return Err(bad_step("a recorder of other plans"));
        }
        let begin = recorder.now();
        let how = How { cancel, observer: Unobserved, probe: &*recorder };
        let ended = self.run_with(plan, rows, first_output, caches, how)?;
        let end = recorder.now();
        if ended == Ended::Done {
            recorder.take(plan, &rows, begin, end);
        }
        Ok(ended)
    }

    /// As [`Runner::run`]; the team stops after every command while `observer` looks at its results.
    pub fn run_observed<'k>(
        &mut self,
        plan: usize,
        rows: StepRows<'_>,
        first_output: u32,
        caches: impl Iterator<Item = &'k mut KvCache>,
        observer: &mut dyn FnMut(Observed<'_>),
    ) -> Result<Ended> {
        let how = How { cancel: None, observer: Watched(observer), probe: &NoProbe };
        self.run_with(plan, rows, first_output, caches, how)
    }

    /// As [`Runner::run`], with NaN in every byte of the arena that holds no live value: before the step in all of
    /// it, and in each buffer behind the last command that touches it. A plan whose lives are right gives the
    /// same bits.
    pub fn run_poisoned<'k>(
        &mut self,
        plan: usize,
        rows: StepRows<'_>,
        caches: impl Iterator<Item = &'k mut KvCache>,
    ) -> Result<Ended> {
        let (arena, len) = (self.memory.arena.ptr(), self.memory.arena.len());
        // SAFETY: the arena is the runner's own, and no step runs.
        unsafe { arena.write_bytes(NAN_BYTE, len) };
        let how = How { cancel: None, observer: Poison { arena, len }, probe: &NoProbe };
        self.run_with(plan, rows, 0, caches, how)
    }

    fn run_with<'k, O: Observe, P: Probe>(
        &mut self,
        plan: usize,
        rows: StepRows<'_>,
        first_output: u32,
        caches: impl Iterator<Item = &'k mut KvCache>,
        how: How<'_, O, P>,
    ) -> Result<Ended> {
        let How { cancel, observer, probe } = how;
        let Some(bound) = self.plans.get(plan) else { return Err(bad_step("a plan that does not exist")) };
        self.seqs.clear();
        for cache in caches {
            if *cache.layout() != bound.plan.kv {
                return Err(bad_step("the cache of another plan"));
            }
            self.seqs.push(KvSeq { base: cache.block.ptr() });
        }
        check_rows(&bound.plan, &rows, self.seqs.len())?;
        let end = u64::from(first_output) + rows.out_rows.len() as u64;
        if end > u64::from(self.n_outputs) || first_output > 0 && !bound.stacks {
            return Err(bad_step("more rows of logits than there is room for"));
        }
        let step = Step {
            bound,
            memory: &self.memory,
            rows,
            seqs: &self.seqs,
            first_output: first_output as usize,
            cancel,
            observer: UnsafeCell::new(observer),
            probe,
        };
        // The caches' borrows end with this call, so their addresses must not outlive it.
        let ended = self.team.run(&|member: &Member<'_>| step.run(member));
        self.seqs.clear();
        ended
    }
}

/// Where a weight's bytes lie.
#[derive(Clone, Copy)]
struct Address(*mut u8);

impl Default for Address {
    fn default() -> Self {
        Address(std::ptr::null_mut())
    }
}

fn weight(w: &WeightSlot, files: &[Bytes], find: &dyn Fn(&WeightSlot) -> Option<Place>) -> Result<Address> {
    let problem = |code| Problem::new(code, format!("tensor \"{}\"", escape(&w.name)));
    let (file, range) = find(w).ok_or_else(|| Error::model(problem("MissingTensor")))?;
    let (part, whole) = w.span().ok_or_else(|| bad_step("a part outside its tensor"))?;
    let bytes = files.get(file).and_then(|f| f.get(range.clone())).filter(|b| b.len() as u64 == whole);
    let bytes = bytes.ok_or_else(|| {
        let p = problem("OutOfFile").at(range.start as u64).found(format!("{} bytes", range.len()));
        Error::model(p.expected(format!("{whole} bytes inside the file")))
    })?;
    // Kernels read floats and block scales in place.
    if bytes.as_ptr().addr() % 4 != 0 {
        let p = problem("MisalignedOffset").at(range.start as u64);
        return Err(Error::model(p.expected("a multiple of 4").hint("use --load-mode read")));
    }
    // Inside: the span ends with the tensor at the latest.
    Ok(Address(bytes.as_ptr().wrapping_add(part.start as usize).cast_mut()))
}

#[cold]
fn bad_step(why: &str) -> Error {
    Error::new(Class::Input, Problem::new("BadStep", "a step").found(why))
}

/// What a step brings fits the plan: kernels index by all of it.
fn check_rows(plan: &Plan, s: &StepRows<'_>, n_seqs: usize) -> Result<()> {
    let t = s.tokens.len();
    if t == 0 || t > plan.max_rows as usize || s.positions.len() != t || s.seqs.len() != t {
        return Err(bad_step("a number of rows that the plan does not take"));
    }
    if s.out_rows.len() > plan.max_out_rows as usize || s.out_rows.windows(2).any(|w| w[0] >= w[1]) {
        return Err(bad_step("rows that want logits: too many, or not ascending"));
    }
    if s.out_rows.last().is_some_and(|r| *r as usize >= t) {
        return Err(bad_step("a row that wants logits and does not exist"));
    }
    if s.tokens.iter().any(|token| *token >= plan.n_vocab) {
        return Err(bad_step("a token outside the vocabulary"));
    }
    if s.positions.iter().any(|p| *p >= plan.kv.n_ctx) || s.seqs.iter().any(|q| *q as usize >= n_seqs) {
        return Err(bad_step("a position or sequence outside the caches"));
    }
    // No two rows store to the same cell.
    let follows = |i: usize| match s.seqs[i - 1].cmp(&s.seqs[i]) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => s.positions[i - 1].checked_add(1) == Some(s.positions[i]),
        std::cmp::Ordering::Greater => false,
    };
    if !(1..t).all(follows) {
        return Err(bad_step("rows that are not grouped by sequence with positions in order"));
    }
    Ok(())
}

/// How a step runs: what may end it, who looks at results, and who takes times.
struct How<'a, O, P> {
    cancel: Option<&'a AtomicBool>,
    observer: O,
    probe: &'a P,
}

/// Everything a member needs during a step.
struct Step<'a, O, P> {
    bound: &'a Bound,
    memory: &'a StepMemory,
    rows: StepRows<'a>,
    seqs: &'a [KvSeq],
    first_output: usize,
    cancel: Option<&'a AtomicBool>,
    observer: UnsafeCell<O>,
    probe: &'a P,
}

// SAFETY: members share addresses of memory that the runner and the caches' borrows keep alive for the step, and
// touch it as the argument in `view` says; `observer` is touched by member 0 alone.
unsafe impl<O, P: Probe> Sync for Step<'_, O, P> {}

impl<O: Observe, P: Probe> Step<'_, O, P> {
    /// A member's scratch.
    fn scratch(&self, member: u32) -> *mut u8 {
        self.memory.scratch.ptr().wrapping_add(self.memory.scratch_stride * member as usize)
    }

    /// Gives all members the results that member 0 has made for itself, as the observer left them. `first` is the first
    /// of them among the plan's operands. The team waits.
    fn share_own(&self, first: usize, outs: &[Operand], team: u32) {
        for (planned, out) in self.bound.operands[first..].iter().zip(outs) {
            let Some(offset) = planned.own else { continue };
            for other in 1..team {
                let to = self.scratch(other).wrapping_add(offset);
                // SAFETY: the same bytes of another member's scratch, which `check` proved to have room; the other
                // members wait, and scratches do not overlap.
                unsafe { std::ptr::copy_nonoverlapping(out.ptr, to, out.rows as usize * out.row_bytes) }
            }
        }
    }

    /// A member's walk over the commands. Returns early when the step is given up.
    fn run(&self, member: &Member<'_>) {
        let (t, r) = (self.rows.tokens.len() as u32, self.rows.out_rows.len() as u32);
        let scratch = self.scratch(member.index());
        let own_bytes = self.bound.plan.totals.own_bytes as usize;
        self.probe.enter(member.index());
        for (i, cmd) in self.bound.cmds.iter().enumerate() {
            if cmd.barrier {
                if member.index() == 0 && self.cancel.is_some_and(|c| c.load(Ordering::Relaxed)) {
                    member.give_up();
                }
                if !member.meet() {
                    return;
                }
            }
            self.probe.begin(member.index(), i, cmd.barrier);
            if cmd.only_logits && r == 0 {
                self.probe.end(member.index(), i);
                continue;
            }
            let (first, n_args) = (cmd.first as usize, usize::from(cmd.n_args));
            let n = n_args + usize::from(cmd.n_outs);
            let mut operands = [NOWHERE; MAX_OPERANDS];
            for (to, from) in operands.iter_mut().zip(&self.bound.operands[first..first + n]) {
                *to = from.at(t, r, self.bound.plan.kv.n_ctx, self.first_output, scratch);
            }
            let (args, outs) = operands[..n].split_at(n_args);
            let (thread, n_threads) = if cmd.own { (0, 1) } else { (member.index(), member.team()) };
            let ctx = KernelCtx {
                op: &self.bound.plan.ops[cmd.op as usize],
                args,
                outs,
                step: self.rows,
                seqs: self.seqs,
                kv: &self.bound.plan.kv,
                scratch: scratch.wrapping_add(own_bytes),
                thread,
                n_threads,
            };
            // SAFETY: `check` proved for the plan, and `check_rows` for the step, that operands hold the types and
            // sizes the op infers, results overlap nothing, and commands that touch the same bytes are separated
            // by a meeting; every member runs this loop with the same rows. What every member does for itself it writes
            // to its own scratch, where the kernel's own scratch begins behind the plan's results.
            unsafe { (cmd.run)(&ctx) };
            self.probe.end(member.index(), i);
            if O::ON {
                if !member.meet() {
                    return;
                }
                if member.index() == 0 {
                    // SAFETY: only member 0 comes here.
                    let observer = unsafe { &mut *self.observer.get() };
                    let (plan, id) = (&self.bound.plan, CmdId::from_index(i));
                    // SAFETY: the command has run with these, and the team waits for the observer.
                    observer.look(unsafe { Observed::new(plan, id, outs, self.rows, self.seqs) });
                    if cmd.own {
                        self.share_own(first + n_args, outs, member.team());
                    }
                }
                if !member.meet() {
                    return;
                }
            }
        }
    }
}

const NOWHERE: Operand =
    Operand { ptr: std::ptr::null_mut(), dtype: DType::F32, rows: 0, cols: 0, row_bytes: 0 };

impl BoundOperand {
    fn at(&self, t: u32, r: u32, n_ctx: u32, first_output: usize, scratch: *mut u8) -> Operand {
        let rows = match self.rows {
            Rows::Fixed(n) => n,
            Rows::T => t,
            Rows::R => r,
            Rows::S => n_ctx,
        };
        let skip = if self.stacked { first_output * self.row_bytes } else { 0 };
        Operand {
            ptr: self.own.map_or(self.ptr.wrapping_add(skip), |at| scratch.wrapping_add(at)),
            dtype: self.dtype,
            rows,
            cols: self.cols,
            row_bytes: self.row_bytes,
        }
    }
}
