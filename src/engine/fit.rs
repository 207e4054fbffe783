//! Plans for a context that fits: the one that was asked for, or the longest sensible one.

use super::memory::{Budget, cells_that_fit, shortfall, whole_file_bytes};
use super::options::DEFAULT_N_CTX;
use super::{ContextLimit, EngineOptions, Memory, Stats};
use crate::backends::Isa;
use crate::error::{Error, Problem, Result};
use crate::graph::Graph;
use crate::loader::Gguf;
use crate::plan::{Backend, Phase, Plan, PlanOptions, plan};

/// The plans of an engine, by number.
const PHASES: [Phase; 2] = [Phase::Decode, Phase::Prefill];

/// The number of a phase's plan.
pub(super) fn number_of(phase: Phase) -> usize {
    usize::from(phase == Phase::Prefill)
}

/// A context that memory limits is a multiple of this many cells, and no smaller: below, a model is of no use.
const N_CTX_UNIT: u32 = 256;

/// Passes of so many tokens are what a user who has no memory could do with.
const SMALL_PASS: u32 = 32;

/// Makes the plans of a graph.
pub(super) struct Planner<'a> {
    pub graph: &'a Graph,
    pub options: &'a EngineOptions,
    pub isa: Isa,
    pub threads: u32,
}

/// Plans, and what they need of what there is.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    pub plans: Vec<Plan>,
    pub limit: ContextLimit,
    pub memory: Memory,
    pub budget: Option<Budget>,
    /// What is wrong if they need more than there is.
    pub shortfall: Option<Problem>,
}

impl Fitted {
    /// Errors: `InsufficientMemory` (resources).
    pub fn check(&self) -> Result<()> {
        self.shortfall.clone().map_or(Ok(()), |p| Err(Error::resources(p)))
    }

    /// The longest context that fits; `None` if none does, or if nobody knows how much memory there is.
    pub fn longest(&self) -> Option<u32> {
        let room = self.budget?.bytes.checked_sub(self.memory.without_cache())?;
        cells_that_fit(&self.plans.first()?.kv, room)
    }
}

impl Planner<'_> {
    fn plans(&self, n_ctx: u32, n_ubatch: u32, stats: &mut Stats) -> Result<Vec<Plan>> {
        let o = self.options;
        let make = |phase| {
            stats.plans_built += 1;
            let max_rows = if phase == Phase::Prefill { n_ubatch } else { o.n_seq_max.min(n_ubatch) };
            let max_out_rows = max_rows.min(o.n_outputs);
            let fuse = o.fuse.clone();
            let backend = Backend::Cpu;
            plan(
                self.graph,
                &PlanOptions { phase, isa: self.isa, backend, max_rows, max_out_rows, n_ctx, fuse },
            )
        };
        PHASES.into_iter().map(make).collect()
    }

    /// Plans for the context that was asked for, or for the longest sensible one that fits beside the file, the
    /// tokenizer's tables and the program.
    pub fn fit(&self, gguf: &Gguf, n_ctx_train: u32, tokenizer: u64, stats: &mut Stats) -> Result<Fitted> {
        let (n_ctx, limit) = match self.options.n_ctx {
            Some(n) => (n, ContextLimit::Asked),
            None if n_ctx_train < DEFAULT_N_CTX => (n_ctx_train.max(1), ContextLimit::Model),
            None => (DEFAULT_N_CTX, ContextLimit::Default),
        };
        let read = gguf.files().filter(|f| !f.is_mapped()).map(|f| f.len() as u64).sum::<u64>();
        let budget = Budget::find(self.options, read.saturating_add(tokenizer));
        let file = whole_file_bytes(gguf);
        let beside = Memory { file, tokenizer, program: Memory::PROGRAM, ..Memory::default() };
        let (outputs, threads) = (self.options.n_outputs, self.threads);
        let fitted = |limit, mut plans: Vec<Plan>| {
            plans.iter_mut().for_each(|p| p.totals.tokenizer_bytes = tokenizer);
            let memory = beside.with_plans(&plans, outputs, threads);
            Fitted { plans, limit, memory, budget, shortfall: None }
        };
        let mut found = fitted(limit, self.plans(n_ctx, self.options.n_ubatch, stats)?);
        let Some(have) = budget.filter(|b| found.memory.total() > b.bytes) else { return Ok(found) };
        if limit != ContextLimit::Asked {
            let room = have.cautious().saturating_sub(found.memory.without_cache());
            let cells = cells_that_fit(&found.plans[0].kv, room).map_or(0, |n| n / N_CTX_UNIT * N_CTX_UNIT);
            if cells > 0 && cells < n_ctx {
                let plans = self.plans(cells, self.options.n_ubatch, stats)?;
                return Ok(fitted(ContextLimit::Memory, plans));
            }
        }
        let smaller = (self.options.n_ubatch > SMALL_PASS)
            .then(|| self.plans(n_ctx, SMALL_PASS, stats))
            .transpose()?
            .map(|plans| (SMALL_PASS, beside.with_plans(&plans, outputs, threads).total()));
        found.shortfall = Some(shortfall(&found.memory, have, &found.plans[0].kv, smaller));
        Ok(found)
    }
}
