//! The same bits whatever the conditions: one digest of all logits and ids per condition.
//!
//! A base run takes the prompt, with logits for every token of it, and goes on greedily; every other condition must
//! give the same digest. Where one does not, the first value that differs is named, if a trace can be taken under
//! that condition.

use super::compare::{First, compare};
use super::record::{hex, record};
use crate::backends::Isa;
use crate::engine::{
    Engine, EngineOptions, Logits, Sampler, SamplerParams, Session, StepInput, TraceOptions,
};
use crate::error::{Error, Problem, Result};
use crate::loader::LoadMode;
use crate::plan::FuseOptions;
use crate::plan::fuse::RULES;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// What to go through.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The prompt, as ids: at least 2. What the context has no room for is left out.
    pub tokens: Vec<u32>,
    /// Tokens to go on for.
    pub generate: u32,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Sizes of passes.
    pub chunks: Vec<u32>,
    /// How often the base is repeated on one engine.
    pub repetitions: u32,
    /// Seeds of sampled continuations.
    pub seeds: Vec<u64>,
}

impl VerifyOptions {
    /// Threads 1, 2, 3 and 5, passes of 1, 7 and 64, ten repetitions, seeds 42, 123 and 999, 16 tokens.
    pub fn new(tokens: Vec<u32>) -> VerifyOptions {
        VerifyOptions {
            tokens,
            generate: 16,
            threads: vec![1, 2, 3, 5],
            chunks: vec![1, 7, 64],
            repetitions: 10,
            seeds: vec![42, 123, 999],
        }
    }
}

/// One condition and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Condition {
    /// What is changed.
    pub name: String,
    /// Digest of all ids and the bits of all logits.
    pub sha256: String,
    /// Whether it is the digest it must be.
    pub same: bool,
    /// The first value that differs from the base, if it is not and a trace shows one.
    pub first: Option<First>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verification {
    /// In the order in which they ran; the base is the first.
    pub conditions: Vec<Condition>,
}

impl Verification {
    /// Whether every condition gave the digest it must give.
    pub fn is_same(&self) -> bool {
        !self.conditions.is_empty() && self.conditions.iter().all(|c| c.same)
    }
}

/// Loads an engine under options.
pub type Load<'a> = dyn Fn(EngineOptions) -> Result<Engine> + 'a;

/// Runs every condition; `seen` is told of each at once. `base` are the options that the base runs under.
///
/// Errors: `PromptTooShort` (usage), and whatever loading and steps fail with.
pub fn verify(
    load: &Load<'_>,
    base: &EngineOptions,
    options: &VerifyOptions,
    seen: &mut dyn FnMut(&Condition),
) -> Result<Verification> {
    if options.tokens.len() < 2 {
        let p =
            Problem::new("PromptTooShort", "the prompt").found(format!("{} tokens", options.tokens.len()));
        return Err(Error::usage(p.expected("at least 2, to be cut in two")));
    }
    let base = EngineOptions {
        n_outputs: u32::try_from(options.tokens.len()).unwrap_or(u32::MAX).max(4),
        n_seq_max: base.n_seq_max.max(4),
        ..base.clone()
    };
    let (tokens, done) = (options.tokens.clone(), Verification::default());
    let mut v = Verify { load, base, options, tokens, expected: String::new(), done, seen };
    v.all()?;
    Ok(v.done)
}

struct Verify<'a> {
    load: &'a Load<'a>,
    base: EngineOptions,
    options: &'a VerifyOptions,
    tokens: Vec<u32>,
    expected: String,
    done: Verification,
    seen: &'a mut dyn FnMut(&Condition),
}

impl Verify<'_> {
    fn all(&mut self) -> Result<()> {
        let mut engine = (self.load)(self.base.clone())?;
        let room = engine.n_ctx().saturating_sub(self.options.generate).max(2);
        self.tokens.truncate(room as usize);
        let named = format!("base: {}, {} threads", engine.isa(), engine.n_threads());
        self.expected = self.alone(&mut engine)?;
        self.say(named, self.expected.clone(), None);
        self.of_one_engine(&mut engine)?;
        let seeds = self.sampled(&mut engine)?;
        let again = self.sampled(&mut engine)?;
        let name = format!("seeds {:?}, twice", self.options.seeds);
        self.say_against(name, again, &seeds, None);
        drop(engine);
        for (name, o) in self.other_engines()? {
            let mut engine = (self.load)(o)?;
            let digest = self.alone(&mut engine)?;
            let first = if digest == self.expected { None } else { self.first(&mut engine)? };
            self.say(name.clone(), digest, first);
            if name.starts_with("threads") {
                let sampled = self.sampled(&mut engine)?;
                self.say_against(format!("{name}, seeds"), sampled, &seeds, None);
            }
        }
        Ok(())
    }

    /// Everything that is decided when an engine is loaded.
    fn other_engines(&self) -> Result<Vec<(String, EngineOptions)>> {
        let base = || self.base.clone();
        let mut list = Vec::new();
        for &n in &self.options.threads {
            list.push((format!("threads {n}"), EngineOptions { threads: Some(n), ..base() }));
        }
        for &n in &self.options.chunks {
            list.push((format!("passes of {n}"), EngineOptions { n_ubatch: n, ..base() }));
        }
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            list.push((format!("instruction set {isa}"), EngineOptions { isa: Some(isa), ..base() }));
        }
        list.push(("no fusion".into(), EngineOptions { fuse: FuseOptions::none(), ..base() }));
        for rule in RULES {
            let fuse = FuseOptions::without(&[rule.name])?;
            list.push((format!("fusion without {}", rule.name), EngineOptions { fuse, ..base() }));
        }
        for (name, load_mode) in [("mapped", LoadMode::Mmap), ("read", LoadMode::Read)] {
            list.push((format!("file {name}"), EngineOptions { load_mode, ..base() }));
        }
        Ok(list)
    }

    /// Repetitions, a used cache, a cache cut in two, and other sequences in the step.
    fn of_one_engine(&mut self, engine: &mut Engine) -> Result<()> {
        for i in 2..=self.options.repetitions {
            let digest = self.alone(engine)?;
            self.say(format!("repetition {i}"), digest, None);
        }
        let tokens = self.tokens.clone();
        let fill = |engine: &mut Engine, session: &mut Session, tokens: &[u32]| {
            engine.step(&mut [StepInput { session, tokens, logits: Logits::Last }]).map(drop)
        };
        // A session that has held something else.
        let mut session = engine.new_session()?;
        let other: Vec<u32> = tokens.iter().rev().copied().collect();
        fill(engine, &mut session, &other)?;
        session.reset();
        let digest = self.run(engine, &mut session, 0, 0)?;
        self.say("a used cache".into(), digest, None);
        // What a conversation does: go back and go on.
        let half = tokens.len() / 2;
        let mut session = engine.new_session()?;
        let whole = self.run(engine, &mut session, 0, half)?;
        session.truncate(half as u32);
        let warm = self.run(engine, &mut session, half, 0)?;
        let mut session = engine.new_session()?;
        fill(engine, &mut session, &tokens[..half])?;
        let parts = self.run(engine, &mut session, half, 0)?;
        self.say_against("a warm cache".into(), warm, &whole, None);
        self.say_against("a prompt in two steps".into(), parts, &whole, None);
        let digest = self.beside(engine)?;
        self.say("beside 2 other sequences".into(), digest, None);
        Ok(())
    }

    /// The whole run in a session of its own.
    fn alone(&self, engine: &mut Engine) -> Result<String> {
        let mut session = engine.new_session()?;
        self.run(engine, &mut session, 0, 0)
    }

    /// Digest of the logits of the prompt from token `from` on, where the session is, without the first `skip` rows,
    /// and of what follows greedily.
    fn run(&self, engine: &mut Engine, session: &mut Session, from: usize, skip: usize) -> Result<String> {
        let mut sum = Sha256::new();
        let tokens = &self.tokens[from..];
        let rows = engine.step(&mut [StepInput { session, tokens, logits: Logits::All }])?;
        take(&mut sum, engine, skip as u32..rows);
        let mut sampler = self.greedy(engine)?;
        let mut row = rows.saturating_sub(1);
        for _ in 0..self.options.generate.min(session.room()) {
            let id = sampler.sample(engine.logits(row).unwrap_or_default())?;
            sum.update(id.to_le_bytes());
            engine.step(&mut [StepInput { session, tokens: &[id], logits: Logits::Last }])?;
            take(&mut sum, engine, 0..1);
            row = 0;
        }
        Ok(hex(sum))
    }

    fn greedy(&self, engine: &Engine) -> Result<Sampler> {
        Sampler::new(&SamplerParams::greedy(), engine.n_vocab() as usize, &[], &[])
    }

    /// The run with two other sessions in every step.
    fn beside(&self, engine: &mut Engine) -> Result<String> {
        let mut sum = Sha256::new();
        let [mut mine, mut one, mut two] =
            [engine.new_session()?, engine.new_session()?, engine.new_session()?];
        let tokens = &self.tokens;
        let others: Vec<u32> = tokens.iter().rev().copied().collect();
        let few = &others[..others.len().div_ceil(2)];
        let rows = engine.step(&mut [
            StepInput { session: &mut one, tokens: &others, logits: Logits::None },
            StepInput { session: &mut mine, tokens, logits: Logits::All },
            StepInput { session: &mut two, tokens: few, logits: Logits::None },
        ])?;
        take(&mut sum, engine, 0..rows);
        let mut sampler = self.greedy(engine)?;
        let mut row = rows.saturating_sub(1);
        for i in 0..self.options.generate.min(one.room()) as usize {
            let id = sampler.sample(engine.logits(row).unwrap_or_default())?;
            sum.update(id.to_le_bytes());
            let other = [others[i % others.len()]];
            engine.step(&mut [
                StepInput { session: &mut one, tokens: &other, logits: Logits::None },
                StepInput { session: &mut mine, tokens: &[id], logits: Logits::Last },
                StepInput { session: &mut two, tokens: &other, logits: Logits::None },
            ])?;
            take(&mut sum, engine, 0..1);
            row = 0;
        }
        Ok(hex(sum))
    }

    /// Digest of a sampled continuation for each seed.
    fn sampled(&self, engine: &mut Engine) -> Result<String> {
        let mut sum = Sha256::new();
        for &seed in &self.options.seeds {
            let params = SamplerParams { seed: Some(seed), ..SamplerParams::default() };
            let mut sampler = Sampler::new(&params, engine.n_vocab() as usize, &[], &[])?;
            let mut session = engine.new_session()?;
            let tokens = &self.tokens;
            engine.step(&mut [StepInput { session: &mut session, tokens, logits: Logits::Last }])?;
            for _ in 0..self.options.generate.min(session.room()) {
                let id = sampler.sample(engine.logits(0).unwrap_or_default())?;
                sampler.accept(id);
                sum.update(id.to_le_bytes());
                engine.step(&mut [StepInput {
                    session: &mut session,
                    tokens: &[id],
                    logits: Logits::Last,
                }])?;
            }
        }
        Ok(hex(sum))
    }

    /// The first value in which this engine and one of the base differ.
    fn first(&self, engine: &mut Engine) -> Result<Option<First>> {
        let tokens = &self.tokens;
        let theirs = engine.trace(tokens, &TraceOptions::default())?;
        let theirs = record(engine, tokens, theirs);
        let mut base = (self.load)(self.base.clone())?;
        let ours = base.trace(tokens, &TraceOptions::default())?;
        Ok(compare(&record(&base, tokens, ours), &theirs, 0.0).first)
    }

    fn say(&mut self, name: String, sha256: String, first: Option<First>) {
        let expected = self.expected.clone();
        self.say_against(name, sha256, &expected, first);
    }

    fn say_against(&mut self, name: String, sha256: String, expected: &str, first: Option<First>) {
        let condition = Condition { name, same: sha256 == expected, sha256, first };
        (self.seen)(&condition);
        self.done.conditions.push(condition);
    }
}

fn take(sum: &mut Sha256, engine: &Engine, rows: std::ops::Range<u32>) {
    for row in rows {
        for x in engine.logits(row).unwrap_or_default() {
            sum.update(x.to_le_bytes());
        }
    }
}
