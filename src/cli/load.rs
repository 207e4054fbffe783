//! From flags to an engine.

use super::args::{ContextArgs, FuseArgs, LoadArgs, ModelArgs, PlanArgs, ThreadArgs};
use super::terminal;
use indicatif::ProgressBar;
use quipu::engine::{Engine, EngineOptions};
use quipu::error::Result;
use quipu::loader::{Gguf, ParseOptions};
use quipu::models::Hparams;
use quipu::text::Tokenizer;
use std::time::{Duration, Instant};

/// Everything that decides how a model is loaded and planned.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    fuse: FuseArgs,
    #[command(flatten)]
    load: LoadArgs,
}

impl EngineArgs {
    /// As the engine takes them, for one session and one row of logits; the context is left to
    /// [`EngineArgs::load`].
    pub fn options(&self) -> Result<EngineOptions> {
        let cache = self.plan.cache();
        Ok(EngineOptions {
            threads: self.threads.count()?,
            n_ubatch: self.plan.ubatch_size,
            n_seq_max: 1,
            n_outputs: 1,
            type_k: cache.k,
            type_v: cache.v,
            isa: self.plan.isa,
            load_mode: self.load.load_mode,
            check_tensors: self.load.check_tensors,
            fuse: self.fuse.options()?,
            overrides: self.load.overrides.parse()?,
            ..EngineOptions::default()
        })
    }

    /// The tokenizer of the model, without loading it.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        self.model.tokenizer(&self.load.overrides)
    }

    /// Most tokens of a pass.
    pub fn ubatch(&self) -> u32 {
        self.plan.ubatch_size
    }

    /// Loads with these options, showing on a terminal how far it is. Returns how long it took from opening the
    /// file.
    pub fn load(&self, options: EngineOptions) -> Result<(Engine, Duration)> {
        self.load_with(options, |_, _| {})
    }

    /// As [`EngineArgs::load`], with options that depend on the model.
    pub fn load_with(
        &self,
        mut options: EngineOptions,
        adjust: impl FnOnce(&Hparams, &mut EngineOptions),
    ) -> Result<(Engine, Duration)> {
        let started = Instant::now();
        let mut bar = None;
        let parse = ParseOptions::default();
        let file = Gguf::open_with(&self.model.model, options.load_mode, &parse, &mut |done, all| {
            let bar = bar.get_or_insert_with(|| terminal::bytes_bar("reading", all));
            // The first file of a split model says how much there is in all.
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.inspect(ProgressBar::finish_and_clear);
        let mut file = file?;
        for (key, value) in options.overrides.drain(..) {
            file.set_override(&key, value)?;
        }
        match self.context.asked() {
            // A model may claim more than there are positions; that no memory holds so many is said below.
            Some(0) => options.n_ctx = Some(Hparams::read(&file)?.n_ctx_train.min(i32::MAX as u32)),
            Some(n) => options.n_ctx = Some(n),
            None => {}
        }
        // What is wrong with them comes out below, with all the rest.
        if let Ok(hparams) = Hparams::read(&file) {
            adjust(&hparams, &mut options);
        }
        let spinner = terminal::spinner("loading");
        let engine = Engine::from_gguf(file, options);
        spinner.finish_and_clear();
        Ok((engine?, started.elapsed()))
    }
}
