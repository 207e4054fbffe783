//! From flags to an engine.

use super::args::{ContextArgs, FuseArgs, LoadArgs, MemoryArgs, ModelArgs, PlanArgs, ThreadArgs, parse_ids};
use super::terminal;
use indicatif::ProgressBar;
use quipu::engine::{Engine, EngineOptions, RunForecast};
use quipu::error::Result;
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use quipu::models::Hparams;
use quipu::text::{EncodeOptions, Tokenizer};
use std::path::Path;
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
    memory: MemoryArgs,
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
            memory: self.memory.bytes(),
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

    /// The ids that are stated, or those of a text with its special tokens, without loading the model.
    pub fn ids(&self, stated: Option<&str>, text: &str) -> Result<Vec<u32>> {
        if let Some(ids) = stated {
            return parse_ids(&[ids]);
        }
        let mut ids = Vec::new();
        let special = EncodeOptions { add_special: true, parse_special: true };
        self.tokenizer()?.encode(text, special, &mut ids)?;
        Ok(ids)
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
        adjust: impl Fn(&Hparams, &mut EngineOptions),
    ) -> Result<(Engine, Duration)> {
        let started = Instant::now();
        if options.load_mode == LoadMode::Read {
            // Later the whole file would be in memory already.
            self.forecast_with(options.clone(), &adjust)?.check()?;
        }
        let mut file = open(&self.model.model, options.load_mode)?;
        self.settle(&mut file, &mut options, &adjust)?;
        Ok((engine(file, options)?, started.elapsed()))
    }

    /// What [`EngineArgs::load`] with these options would make, from the header of the file alone.
    pub fn forecast(&self, options: EngineOptions) -> Result<RunForecast> {
        self.forecast_with(options, &|_, _| {})
    }

    fn forecast_with(
        &self,
        mut options: EngineOptions,
        adjust: &impl Fn(&Hparams, &mut EngineOptions),
    ) -> Result<RunForecast> {
        let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
        let mut file = Gguf::open(&self.model.model, LoadMode::Mmap, &parse)?;
        self.settle(&mut file, &mut options, adjust)?;
        RunForecast::new(&file, &options)
    }

    /// Applies what depends on the file.
    fn settle(
        &self,
        file: &mut Gguf,
        options: &mut EngineOptions,
        adjust: &impl Fn(&Hparams, &mut EngineOptions),
    ) -> Result<()> {
        for (key, value) in options.overrides.drain(..) {
            file.set_override(&key, value)?;
        }
        match self.context.asked() {
            // A model may claim more than there are positions; that no memory holds so many is said later.
            Some(0) => options.n_ctx = Some(Hparams::read(file)?.n_ctx_train.min(i32::MAX as u32)),
            Some(n) => options.n_ctx = Some(n),
            None => {}
        }
        // What is wrong with them comes out when the model is declared, with all the rest.
        if let Ok(hparams) = Hparams::read(file) {
            adjust(&hparams, options);
        }
        Ok(())
    }
}

/// Opens a model, showing on a terminal how far it is.
fn open(path: &Path, mode: LoadMode) -> Result<Gguf> {
    let mut bar = None;
    let file = Gguf::open_with(path, mode, &ParseOptions::default(), &mut |done, all| {
        let bar = bar.get_or_insert_with(|| terminal::bytes_bar("reading", all));
        // The first file of a split model says how much there is in all.
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.inspect(ProgressBar::finish_and_clear);
    file
}

fn engine(file: Gguf, options: EngineOptions) -> Result<Engine> {
    let spinner = terminal::spinner("loading");
    let engine = Engine::from_gguf(file, options);
    spinner.finish_and_clear();
    engine
}

/// Loads a model with options that are whole already.
pub fn load_as_stated(path: &Path, options: EngineOptions) -> Result<Engine> {
    engine(open(path, options.load_mode)?, options)
}
