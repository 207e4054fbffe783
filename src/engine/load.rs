//! From a file to an engine: everything that is looked up, built or allocated is, once, here.

use super::fit::Planner;
use super::{Engine, EngineOptions, RunForecast, Stats, step};
use crate::backends::Isa;
use crate::backends::alloc;
use crate::backends::bind::{Place, Runner};
use crate::backends::team::{Team, Workers, default_threads};
use crate::error::Result;
use crate::graph::builder::CacheTypes;
use crate::loader::{Bytes, Gguf, LoadMode, ParseOptions, weights};
use crate::models::{self, Declared};
use crate::plan::WeightSlot;
use crate::text::Tokenizer;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

impl Engine {
    /// Loads a model and makes its plans.
    ///
    /// Errors of class `Usage`: options out of range; of class `Model`: what the loader and the architecture find wrong
    /// with the file; of class `Resources`: `NoSuchIsa`, `NoThreads`, `InsufficientMemory` with what is needed, what
    /// there is and what would fit, before anything but the header is read.
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Engine> {
        let started = Instant::now();
        let path = path.as_ref();
        options.check()?;
        if options.load_mode == LoadMode::Read {
            // Later the whole file would be in memory already.
            RunForecast::open(path, &options)?.check()?;
        }
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
        let mut stats = Stats { graphs_built: 1, ..Stats::default() };
        let threads = options.threads.unwrap_or_else(default_threads);
        let planner = Planner { graph: &graph, options: &options, isa, threads: threads as u32 };
        let fitted = planner.fit(&gguf, hparams.n_ctx_train, tokenizer.table_bytes(), &mut stats)?;
        fitted.check()?;
        let (plans, limit) = (fitted.plans, fitted.limit);
        let kv = plans[0].kv;
        if options.check_tensors {
            workers.pool().install(|| weights::check_tensors(&gguf, gguf.tensors()))?;
        }
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
            recorder: None,
            gguf,
            hparams,
            tokenizer,
            isa,
            kv,
            limit,
            rows: step::RowTable::with_capacity(options.n_ubatch as usize),
            n_logits: 0,
            answered: false,
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
