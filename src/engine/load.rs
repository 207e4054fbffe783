//! From a file to an engine: everything that is looked up, built or allocated is, once, here.

use super::options::DEFAULT_N_CTX;
use super::{ContextLimit, Engine, EngineOptions, Stats, step};
use crate::backends::alloc::{self, StepMemory};
use crate::backends::bind::{Place, Runner};
use crate::backends::team::{Team, Workers, default_threads};
use crate::backends::{Isa, KvLayout};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::builder::CacheTypes;
use crate::loader::{Bytes, Gguf, ParseOptions, weights};
use crate::models::{self, Declared};
use crate::plan::{Backend, Phase, Plan, PlanOptions, WeightSlot, plan};
use crate::text::Tokenizer;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The plans of an engine, by number.
const PHASES: [Phase; 2] = [Phase::Decode, Phase::Prefill];

/// The number of a phase's plan.
pub(super) fn number_of(phase: Phase) -> usize {
    usize::from(phase == Phase::Prefill)
}

/// A context that memory limits is a multiple of this many cells, and no smaller: below, a model is of no use.
const N_CTX_UNIT: u64 = 256;

impl Engine {
    /// Loads a model and makes its plans.
    ///
    /// Errors of class `Usage`: options out of range; of class `Model`: what the loader and the architecture find wrong
    /// with the file; of class `Resources`: `NoSuchIsa`, `NoThreads`, `InsufficientMemory` with what is needed and
    /// what there is.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Engine> {
        let started = Instant::now();
        let path = path.as_ref();
        options.check()?;
        let workers = loading_pool(&options)?;
        let open = || Gguf::open(path, options.load_mode, &ParseOptions::default());
        let gguf = workers.pool().install(open)?;
        Engine::build(gguf, options, workers, started)
    }

    /// As [`Engine::load`], for a file that has been parsed already.
    pub fn from_gguf(gguf: Gguf, options: EngineOptions) -> Result<Engine> {
        let started = Instant::now();
        options.check()?;
        let workers = loading_pool(&options)?;
        Engine::build(gguf, options, workers, started)
    }

    fn build(mut gguf: Gguf, options: EngineOptions, workers: Workers, started: Instant) -> Result<Engine> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let isa = options.isa.map_or_else(|| Ok(Isa::best()), Isa::require)?;
        for (key, value) in &options.overrides {
            gguf.set_override(key, value.clone())?;
        }
        let cache = CacheTypes { k: options.type_k, v: options.type_v };
        let Declared { hparams, graph, .. } = models::declare(&gguf, &options.architectures, cache)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        tokenizer.check_embedding_rows(u64::from(hparams.n_vocab))?;
        if options.check_tensors {
            workers.pool().install(|| weights::check_tensors(&gguf, gguf.tensors()))?;
        }
        let mut stats = Stats { graphs_built: 1, ..Stats::default() };
        let threads = options.threads.unwrap_or_else(default_threads);
        let planner = Planner { graph: &graph, options: &options, isa, threads: threads as u32 };
        let (mut plans, limit) = planner.fit(hparams.n_ctx_train, &mut stats)?;
        plans.iter_mut().for_each(|p| p.totals.tokenizer_bytes = tokenizer.table_bytes());
        let kv = plans[0].kv;
        if options.prefault && alloc::memory_available().is_none_or(|have| gguf.file_bytes() <= have) {
            workers.pool().install(|| gguf.files().for_each(Bytes::prefault));
        }
        drop(workers);
        let find = |w: &WeightSlot| where_is(&gguf, w);
        let files = gguf.files().cloned().collect();
        let runner = Runner::new(plans, files, &find, options.n_outputs, Team::new(threads)?)?;
        stats.load = started.elapsed();
        Ok(Engine {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            runner,
            gguf,
            hparams,
            tokenizer,
            isa,
            kv,
            limit,
            rows: step::RowTable::with_capacity(options.n_ubatch as usize),
            n_logits: 0,
            stats,
            options,
        })
    }
}

/// Threads for reading and checking, gone when it is dropped: the team has threads of its own.
fn loading_pool(options: &EngineOptions) -> Result<Workers> {
    Workers::new(options.threads.unwrap_or_else(default_threads), "quipu-load")
}

fn where_is(gguf: &Gguf, w: &WeightSlot) -> Option<Place> {
    let t = gguf.tensor(&w.name)?;
    let start = usize::try_from(t.offset).ok()?;
    Some((t.file.into(), start..start.checked_add(usize::try_from(t.bytes).ok()?)?))
}

/// Makes the plans of a graph for a context length, and finds the length.
struct Planner<'a> {
    graph: &'a Graph,
    options: &'a EngineOptions,
    isa: Isa,
    threads: u32,
}

impl Planner<'_> {
    fn plans(&self, n_ctx: u32, stats: &mut Stats) -> Result<Vec<Plan>> {
        let o = self.options;
        let make = |phase| {
            stats.plans_built += 1;
            let max_rows = if phase == Phase::Prefill { o.n_ubatch } else { o.n_seq_max.min(o.n_ubatch) };
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

    /// Plans for the context that was asked for, or for the longest sensible one that fits beside one session.
    fn fit(&self, n_ctx_train: u32, stats: &mut Stats) -> Result<(Vec<Plan>, ContextLimit)> {
        let (n_ctx, limit) = match self.options.n_ctx {
            Some(n) => (n, ContextLimit::Asked),
            None if n_ctx_train < DEFAULT_N_CTX => (n_ctx_train.max(1), ContextLimit::Model),
            None => (DEFAULT_N_CTX, ContextLimit::Default),
        };
        let plans = self.plans(n_ctx, stats)?;
        let step = self.step_bytes(&plans);
        let need = plans[0].kv.total_bytes().unwrap_or(u64::MAX).saturating_add(step);
        let Some(have) = alloc::memory_available() else { return Ok((plans, limit)) };
        if need <= have {
            return Ok((plans, limit));
        }
        let refuse = |flag| {
            Err(Error::resources(alloc::insufficient("the context and the arena", need, Some(have), flag)))
        };
        if limit == ContextLimit::Asked {
            return refuse("-c");
        }
        match cells_that_fit(have, step, cell_bytes(&plans[0].kv)) {
            Some(n) if n < n_ctx => Ok((self.plans(n, stats)?, ContextLimit::Memory)),
            _ => refuse("-ub"),
        }
    }

    fn step_bytes(&self, plans: &[Plan]) -> u64 {
        let all: Vec<&Plan> = plans.iter().collect();
        StepMemory::need(&all, self.options.n_outputs, self.threads).unwrap_or(u64::MAX)
    }
}

/// The longest context beside `step` bytes in `have`; `None` if that is too short to be of use. A tenth stays free:
/// other processes live too.
fn cells_that_fit(have: u64, step: u64, cell: u64) -> Option<u32> {
    let room = (have - have / 10).saturating_sub(step);
    let cells = room / cell.max(1) / N_CTX_UNIT * N_CTX_UNIT;
    u32::try_from(cells).ok().filter(|n| *n > 0)
}

/// Bytes that one more token takes in a session's cache, rounded up to what parts are rounded to.
fn cell_bytes(kv: &KvLayout) -> u64 {
    KvLayout { n_ctx: N_CTX_UNIT as u32, ..*kv }.total_bytes().map_or(u64::MAX, |b| b.div_ceil(N_CTX_UNIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_gives_whole_units_of_cells_or_none() {
        assert_eq!(cells_that_fit(1000 << 20, 100 << 20, 1 << 20), Some(768));
        assert_eq!(cells_that_fit(1000 << 20, 700 << 20, 1 << 20), None);
        assert_eq!(cells_that_fit(1 << 20, u64::MAX, 1), None);
        assert_eq!(cells_that_fit(u64::MAX, 0, 1), None, "more cells than positions");
    }

    #[test]
    fn cells_cost_what_the_layout_says() {
        let kv = KvLayout {
            n_layer: 3,
            n_ctx: 4096,
            n_head_kv: 2,
            head_dim_k: 64,
            head_dim_v: 48,
            type_k: crate::quant::DType::F16,
            type_v: crate::quant::DType::F32,
        };
        assert_eq!(cell_bytes(&kv) * 4096, kv.total_bytes().unwrap());
        assert_eq!(cell_bytes(&kv), 3 * 2 * (64 * 2 + 48 * 4));
    }
}
