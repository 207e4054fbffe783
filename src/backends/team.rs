//! The thread team of an engine: one entry per step, light meetings inside it, no fork and join per command.
//!
//! A team of n is the calling thread (member 0) and n - 1 workers of a rayon pool. The workers enter one resident
//! loop when the team is made (`spawn_broadcast`) and stay in it until the team is dropped: rayon's own
//! `broadcast` allocates and takes locks on both sides, and a token has room for neither. The pool is therefore
//! never used for anything else; loading makes a pool of its own, which is gone before the first step.
//!
//! A step is published as an epoch. Members wait for it, and for each other between commands, in three stages: a
//! bounded number of pauses, then yields, and (between steps only) then parked. A team larger than the machine
//! yields at once, so that more threads than cores are slow but do not collapse.
//!
//! A panic of any member marks the step as given up; every spin loop looks at that mark, so nobody waits for a
//! member that is gone, and the step returns an error. The team can be used again.

use crate::error::{Error, Problem, Result};
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};

/// Most threads of a team.
pub const MAX_THREADS: usize = 256;

/// Pauses before a waiting member yields: 20 to 60 microseconds, a few times the cost of a meeting and less than
/// a sampler needs.
const PAUSES: u32 = 2000;

/// Yields before a member that waits for the next step parks: with the pauses a few hundred microseconds, longer than
/// choosing a token from a large vocabulary takes, so that workers rarely park between tokens.
const YIELDS: u32 = 512;

/// Threads to use when the user names none: what the affinity mask and the cgroup quota of this process allow.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_THREADS)
}

/// Keeps counters that different members write on cache lines of their own (two, as processors fetch pairs).
#[repr(align(128))]
struct Line<T>(T);

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every member ran to its end.
    Done,
    /// A member gave up ([`Member::give_up`]).
    GivenUp,
}

const RUNNING: u32 = 0;
const GIVEN_UP: u32 = 1;
const PANICKED: u32 = 2;

/// The work of one step with its type erased.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), &Member<'_>),
}

/// Where a worker sleeps.
#[derive(Default)]
struct Bed {
    parked: AtomicBool,
    handle: OnceLock<Thread>,
}

struct Shared {
    n: u32,
    pauses: u32,
    /// Number of the step; bumped to publish a job.
    epoch: Line<AtomicU64>,
    /// Members that have come to the current meeting.
    arrived: Line<AtomicU32>,
    /// Number of the meeting; bumped by its last member.
    meeting: Line<AtomicU32>,
    /// Workers that are finished with the step.
    done: Line<AtomicU32>,
    /// Why the step was given up; read in every spin loop, written at most once a step.
    mark: Line<AtomicU32>,
    leave: AtomicBool,
    job: UnsafeCell<Job>,
    beds: Box<[Line<Bed>]>,
    message: Mutex<String>,
}

// SAFETY: `job` is written by `Team::run` alone, which has the team to itself, before the epoch is bumped (release)
// and while every worker waits for that epoch; workers read it after they saw the bump (acquire). The pointer in
// it is to a closure that is `Sync` and outlives the step, because `run` waits for all workers.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

/// One member of the team during a step.
pub struct Member<'a> {
    shared: &'a Shared,
    me: u32,
}

impl Member<'_> {
    /// Number of this member; the caller of [`Team::run`] is 0.
    pub fn index(&self) -> u32 {
        self.me
    }
    /// Members of the team.
    pub fn team(&self) -> u32 {
        self.shared.n
    }
    /// Waits until all members are here. `false` if the step was given up: the member must return at once.
    #[must_use]
    pub fn meet(&self) -> bool {
        let s = self.shared;
        if s.n > 1 {
            // Not stale: this member has seen every earlier meeting end, and this one cannot end without it.
            let now = s.meeting.0.load(Ordering::Relaxed);
            if s.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == s.n {
                s.arrived.0.store(0, Ordering::Relaxed);
                s.meeting.0.store(now.wrapping_add(1), Ordering::Release);
            } else {
                let mut wait = Patience(s.pauses);
                while s.meeting.0.load(Ordering::Acquire) == now {
                    if s.mark.0.load(Ordering::Relaxed) != RUNNING {
                        return false;
                    }
                    wait.a_little();
                }
            }
        }
        s.mark.0.load(Ordering::Relaxed) == RUNNING
    }
    /// Ends the step for everyone at their next meeting.
    pub fn give_up(&self) {
        self.shared.mark(GIVEN_UP);
    }
}

/// Pauses first, then yields the processor.
struct Patience(u32);

impl Patience {
    fn a_little(&mut self) {
        if self.0 > 0 {
            self.0 -= 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Shared {
    fn mark(&self, why: u32) {
        // The first reason stands.
        let _ = self.mark.0.compare_exchange(RUNNING, why, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn take_part(&self, job: Job, me: u32) {
        let member = Member { shared: self, me };
        // SAFETY: `data` is the closure that `call` was made for, alive until every member is done.
        let ran = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.data, &member) }));
        if let Err(payload) = ran {
            let what = payload.downcast_ref::<&str>().map(ToString::to_string);
            let what = what.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            // A payload that panics when dropped must not take the member with it.
            std::mem::forget(payload);
            if let Ok(mut m) = self.message.lock() {
                *m = what;
            }
            self.mark(PANICKED);
        }
    }

    /// A worker's life.
    fn live(&self, me: u32) {
        let bed = &self.beds[me as usize - 1].0;
        let _ = bed.handle.set(std::thread::current());
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen, bed);
            if self.leave.load(Ordering::Acquire) {
                return;
            }
            // SAFETY: the epoch was seen with acquire, so the job that was stored before it is visible, and it is
            // not written again before this member reports itself done.
            let job = unsafe { *self.job.get() };
            self.take_part(job, me);
            self.done.0.fetch_add(1, Ordering::Release);
        }
    }

    fn next_epoch(&self, seen: u64, bed: &Bed) -> u64 {
        let mut waited = 0;
        loop {
            let now = self.epoch.0.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            waited += 1;
            if waited <= self.pauses {
                std::hint::spin_loop();
            } else if waited <= self.pauses + YIELDS {
                std::thread::yield_now();
            } else {
                // Either the publisher sees the flag, or this load sees the new epoch: both sides write their
                // own word, fence, then read the other's.
                bed.parked.store(true, Ordering::Release);
                fence(Ordering::SeqCst);
                while self.epoch.0.load(Ordering::Acquire) == seen {
                    std::thread::park();
                }
                bed.parked.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Starts an epoch and wakes whoever is parked.
    fn publish(&self) {
        self.epoch.0.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        for bed in &self.beds {
            if bed.0.parked.load(Ordering::Acquire)
                && let Some(worker) = bed.0.handle.get()
            {
                worker.unpark();
            }
        }
    }
}

/// A rayon pool that is waited for when it is dropped, to the last destructor of its threads. Rayon itself only
/// tells them to end, and neither it nor `thread::scope` waits for destructors of thread-local state: those of
/// rayon's queues allocate, beside whatever comes next.
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Workers {
    /// `n` threads named after `name`.
    ///
    /// Errors: `NoThreads` (resources) if the system gives no more.
    pub fn new(n: usize, name: &str) -> Result<Workers> {
        let mut workers = Workers { pool: None, handles: Vec::with_capacity(n) };
        let spawn = |worker: rayon::ThreadBuilder| {
            let thread = std::thread::Builder::new().name(format!("{name}-{}", worker.index() + 1));
            workers.handles.push(thread.spawn(|| worker.run())?);
            Ok(())
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).spawn_handler(spawn).build();
        let pool = pool.map_err(|e| {
            let p = Problem::new("NoThreads", format!("{n} worker threads")).found(e.to_string());
            Error::resources(p.hint("use fewer threads (-t)"))
        })?;
        workers.pool = Some(pool);
        Ok(workers)
    }

    /// The pool.
    pub fn pool(&self) -> &rayon::ThreadPool {
        match &self.pool {
            Some(pool) => pool,
            None => unreachable!("taken by drop alone"),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.pool.take());
        for handle in self.handles.drain(..) {
            // Rayon reports a panic of its own threads itself.
            let _ = handle.join();
        }
    }
}

/// A team of threads that run steps together.
pub struct Team {
    shared: Arc<Shared>,
    /// The workers; `None` for a team of one.
    pool: Option<Workers>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team({})", self.shared.n)
    }
}

impl Team {
    /// A team of `n` members: this thread and `n - 1` workers, which wait parked until the first step.
    ///
    /// Errors: `BadThreadCount` (usage) for 0 or more than [`MAX_THREADS`]; `NoThreads` (resources) if the
    /// system gives no more threads.
    pub fn new(n: usize) -> Result<Team> {
        if n == 0 || n > MAX_THREADS {
            return Err(Error::usage(
                Problem::new("BadThreadCount", "threads")
                    .found(n.to_string())
                    .expected(format!("1 to {MAX_THREADS}")),
            ));
        }
        let crowded = n > default_threads();
        let shared = Arc::new(Shared {
            n: n as u32,
            pauses: if crowded { 16 } else { PAUSES },
            epoch: Line(AtomicU64::new(0)),
            arrived: Line(AtomicU32::new(0)),
            meeting: Line(AtomicU32::new(0)),
            done: Line(AtomicU32::new(0)),
            mark: Line(AtomicU32::new(RUNNING)),
            leave: AtomicBool::new(false),
            job: UnsafeCell::new(Job { data: std::ptr::null(), call: |_, _| () }),
            beds: (1..n).map(|_| Line(Bed::default())).collect(),
            message: Mutex::new(String::new()),
        });
        let mut team = Team { shared: Arc::clone(&shared), pool: None };
        if n > 1 {
            let workers = Workers::new(n - 1, "quipu")?;
            workers.pool().spawn_broadcast(move |worker| shared.live(worker.index() as u32 + 1));
            team.pool = Some(workers);
        }
        Ok(team)
    }

    /// Members, this thread included.
    pub fn n_threads(&self) -> u32 {
        self.shared.n
    }

    /// Runs `work` once on every member, this thread as member 0, and waits for all. Allocates nothing.
    ///
    /// Errors: `WorkerPanicked` (runtime) if a member panicked; the team can be used again.
    pub fn run<F: Fn(&Member<'_>) + Sync>(&mut self, work: &F) -> Result<Ended> {
        /// Calls the closure behind the pointer.
        ///
        /// # Safety
        /// `data` points at an `F` that is alive.
        unsafe fn call<F: Fn(&Member<'_>) + Sync>(data: *const (), member: &Member<'_>) {
            // SAFETY: the caller's promise.
            unsafe { (*data.cast::<F>())(member) }
        }
        let s = &*self.shared;
        let job = Job { data: std::ptr::from_ref(work).cast(), call: call::<F> };
        // Nobody else runs: the last step ended when all workers were done, and `self` is borrowed alone.
        s.mark.0.store(RUNNING, Ordering::Relaxed);
        s.arrived.0.store(0, Ordering::Relaxed);
        s.done.0.store(0, Ordering::Relaxed);
        if s.n > 1 {
            // SAFETY: every worker waits for the next epoch, and reads the job only after it.
            unsafe { *s.job.get() = job };
            s.publish();
        }
        s.take_part(job, 0);
        let mut wait = Patience(s.pauses);
        while s.done.0.load(Ordering::Acquire) + 1 < s.n {
            wait.a_little();
        }
        match s.mark.0.load(Ordering::Relaxed) {
            RUNNING => Ok(Ended::Done),
            GIVEN_UP => Ok(Ended::GivenUp),
            _ => {
                let what = s.message.lock().map(|m| m.clone()).unwrap_or_default();
                Err(Error::runtime(
                    Problem::new("WorkerPanicked", "a thread of the team")
                        .found(crate::error::escape(&what))
                        .hint("this is a bug of quipu; please report it"),
                ))
            }
        }
    }
}

impl Drop for Team {
    /// Ends the resident loop and waits for the workers, so that an engine that is gone leaves no threads behind.
    fn drop(&mut self) {
        self.shared.leave.store(true, Ordering::Release);
        self.shared.publish();
        drop(self.pool.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    /// Counters that each round must see at the same value on every member.
    fn rounds(team: &mut Team, n: usize) -> usize {
        let total = AtomicUsize::new(0);
        let ended = team.run(&|m: &Member<'_>| {
            for round in 0..n {
                total.fetch_add(1, Ordering::Relaxed);
                assert!(m.meet());
                assert_eq!(total.load(Ordering::Relaxed), (round + 1) * m.team() as usize);
                assert!(m.meet());
            }
        });
        assert_eq!(ended.unwrap(), Ended::Done);
        total.into_inner()
    }

    #[test]
    fn every_member_runs_and_meets() {
        for n in [1, 2, 3, 8] {
            let mut team = Team::new(n).unwrap();
            for _ in 0..3 {
                assert_eq!(rounds(&mut team, 50), 50 * n);
            }
            // Long enough for all workers to park.
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(rounds(&mut team, 5), 5 * n);
        }
    }

    #[test]
    fn more_threads_than_cores_do_not_collapse() {
        let start = Instant::now();
        for n in [3, 8] {
            rounds(&mut Team::new(n).unwrap(), 2000);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    }

    #[test]
    fn a_panic_ends_the_step_for_all_and_the_team_lives() {
        for n in [1, 2, 3, 8] {
            let mut team = Team::new(n).unwrap();
            for victim in 0..n as u32 {
                let err = team
                    .run(&|m: &Member<'_>| {
                        for i in 0..10 {
                            assert!(i != 5 || m.index() != victim, "kernel {i} failed on {victim}");
                            if !m.meet() {
                                return;
                            }
                        }
                    })
                    .unwrap_err();
                assert_eq!((err.code(), err.class()), ("WorkerPanicked", crate::Class::Runtime));
                assert!(err.to_string().contains(&format!("kernel 5 failed on {victim}")), "{err}");
                assert_eq!(rounds(&mut team, 10), 10 * n);
            }
        }
    }

    #[test]
    fn giving_up_is_seen_by_all() {
        for n in [1, 3] {
            let mut team = Team::new(n).unwrap();
            let after = AtomicUsize::new(0);
            let ended = team.run(&|m: &Member<'_>| {
                if m.index() == 0 {
                    m.give_up();
                }
                if m.meet() && m.meet() {
                    after.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!((ended.unwrap(), after.into_inner()), (Ended::GivenUp, 0));
            assert_eq!(rounds(&mut team, 10), 10 * n);
        }
    }

    #[test]
    fn dropping_the_team_ends_its_workers() {
        let team = Team::new(3).unwrap();
        let shared = Arc::downgrade(&team.shared);
        drop(team);
        assert!(shared.upgrade().is_none(), "a worker is still in its loop");
    }

    #[test]
    fn no_team_of_none() {
        assert_eq!(Team::new(0).unwrap_err().code(), "BadThreadCount");
        assert_eq!(Team::new(MAX_THREADS + 1).unwrap_err().code(), "BadThreadCount");
        assert!(default_threads() >= 1);
    }
}
