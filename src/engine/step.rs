//! One pass over the rows of several sessions.

use super::{Engine, Session};
use crate::backends::observe::Observed;
use crate::backends::team::Ended;
use crate::backends::{StepRows, alloc};
use crate::error::{Class, Error, Problem, Result};
use crate::plan::Phase;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// Which tokens of an input logits are wanted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logits {
    /// None: only the cache is filled.
    None,
    /// The last one.
    #[default]
    Last,
    /// Every one.
    All,
}

/// Tokens to append to one session.
#[derive(Debug)]
pub struct StepInput<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The tokens; at least one.
    pub tokens: &'a [u32],
    /// Which of them want logits.
    pub logits: Logits,
}

impl StepInput<'_> {
    fn wants(&self, token: usize) -> bool {
        match self.logits {
            Logits::None => false,
            Logits::Last => token + 1 == self.tokens.len(),
            Logits::All => true,
        }
    }
    fn n_wanted(&self) -> usize {
        match self.logits {
            Logits::None => 0,
            Logits::Last => 1,
            Logits::All => self.tokens.len(),
        }
    }
}

/// Where rows of logits go when a step takes several passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind those of the passes before: all can be read after the step.
    Behind,
    /// Over them: an observer has read them.
    Over,
}

/// The rows of a pass, with room for the most a pass can have.
#[derive(Debug, Default)]
pub(super) struct RowTable {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    seqs: Vec<u32>,
    out_rows: Vec<u32>,
}

/// How far a step has come in its inputs.
#[derive(Clone, Copy, Default)]
struct Cursor {
    input: usize,
    token: usize,
}

impl RowTable {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let new = || Vec::with_capacity(rows);
        RowTable { tokens: new(), positions: new(), seqs: new(), out_rows: new() }
    }

    /// Takes rows from the inputs, in order, up to the limits. Returns which inputs they are of.
    fn fill(&mut self, inputs: &[StepInput<'_>], at: &mut Cursor, rows: usize, outs: usize) -> Range<usize> {
        for column in [&mut self.tokens, &mut self.positions, &mut self.seqs, &mut self.out_rows] {
            column.clear();
        }
        let first = at.input;
        let mut end = first;
        'inputs: while let Some(input) = inputs.get(at.input) {
            // A session grows only after a pass, by what the pass took of it.
            let start = input.session.len() as usize - at.token.min(input.session.len() as usize);
            let base = if at.token == 0 { input.session.len() as usize } else { start };
            while at.token < input.tokens.len() {
                let wants = input.wants(at.token);
                if self.tokens.len() == rows || wants && self.out_rows.len() == outs {
                    break 'inputs;
                }
                if wants {
                    self.out_rows.push(self.tokens.len() as u32);
                }
                self.tokens.push(input.tokens[at.token]);
                self.positions.push((base + at.token) as u32);
                self.seqs.push((at.input - first) as u32);
                at.token += 1;
                end = at.input + 1;
            }
            *at = Cursor { input: at.input + 1, token: 0 };
        }
        first..end
    }

    fn step(&self) -> StepRows<'_> {
        StepRows {
            tokens: &self.tokens,
            positions: &self.positions,
            seqs: &self.seqs,
            out_rows: &self.out_rows,
        }
    }
}

impl Engine {
    /// Appends tokens to one or several sessions and computes the logits that are wanted. Returns how many rows
    /// of logits there are; they are in the order of the inputs and their tokens, see [`Engine::logits`].
    ///
    /// Inputs may be long prompts, single tokens or both; rows beyond `n_ubatch` take several passes. After an
    /// error each session holds the tokens of the passes that were finished.
    ///
    /// Errors of class `Input`: `NoTokens`, `TokenIdOutOfRange`, `ContextFull`, `ForeignSession`, all of them before
    /// anything is computed; of class `Usage`: `TooManyOutputs`; of class `Runtime`: `NonFiniteLogits`.
    ///
    /// ```
    /// use quipu::engine::{Engine, EngineOptions, Logits, StepInput};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.gguf");
    /// # let file = std::fs::File::create(&path).unwrap();
    /// # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::F32, 1, file)?;
    /// let mut engine = Engine::load(&path, EngineOptions::default())?;
    /// let (mut a, mut b) = (engine.new_session()?, engine.new_session()?);
    /// let rows = engine.step(&mut [
    ///     StepInput { session: &mut a, tokens: &[1, 5, 6], logits: Logits::Last },
    ///     StepInput { session: &mut b, tokens: &[1], logits: Logits::Last },
    /// ])?;
    /// assert_eq!((rows, a.len(), b.len()), (2, 3, 1));
    /// assert_eq!(engine.logits(1).map(<[f32]>::len), Some(engine.n_vocab() as usize));
    /// # Ok::<(), quipu::Error>(())
    /// ```
    pub fn step(&mut self, inputs: &mut [StepInput<'_>]) -> Result<u32> {
        Ok(self.pass(inputs, None, Place::Behind, None)?.unwrap_or(0))
    }

    /// As [`Engine::step`], unless `cancel` is or becomes true: then `None`, with the passes that were finished
    /// in the sessions.
    pub fn step_unless(
        &mut self,
        inputs: &mut [StepInput<'_>],
        cancel: &super::CancelToken,
    ) -> Result<Option<u32>> {
        self.pass(inputs, Some(cancel.flag()), Place::Behind, None)
    }

    /// Row `row` of the logits of the last step; `None` if it had fewer.
    pub fn logits(&self, row: u32) -> Option<&[f32]> {
        if row < self.n_logits { self.runner.logits(row) } else { None }
    }

    pub(super) fn pass(
        &mut self,
        inputs: &mut [StepInput<'_>],
        cancel: Option<&AtomicBool>,
        place: Place,
        mut observer: Option<&mut dyn FnMut(Observed<'_>)>,
    ) -> Result<Option<u32>> {
        self.n_logits = 0;
        self.check_inputs(inputs, place)?;
        let outs = self.options.n_outputs.min(self.options.n_ubatch) as usize;
        let mut rows_out = 0;
        let mut at = Cursor::default();
        while at.input < inputs.len() {
            let of = self.rows.fill(inputs, &mut at, self.options.n_ubatch as usize, outs);
            let n = self.rows.tokens.len();
            let phase = self.phase_of(n);
            if phase == Phase::Decode && self.answered && self.runner.movable_bytes() > 0 {
                self.move_weights()?;
            }
            let rows = self.rows.step();
            let plan = super::fit::number_of(phase);
            let first = if place == Place::Behind { rows_out } else { 0 };
            let caches = inputs[of.clone()].iter_mut().map(|i| &mut i.session.cache);
            let ended = match (&mut observer, &mut self.recorder) {
                (None, None) => self.runner.run(plan, rows, first, caches, cancel)?,
                (None, Some(r)) => self.runner.run_recorded(plan, rows, first, caches, cancel, r)?,
                (Some(o), _) => self.runner.run_observed(plan, rows, first, caches, &mut **o)?,
            };
            if ended == Ended::GivenUp {
                return Ok(None);
            }
            self.check_logits(first)?;
            for (token, seq) in self.rows.tokens.iter().zip(&self.rows.seqs) {
                inputs[of.start + *seq as usize].session.tokens.push(*token);
            }
            rows_out = first + self.rows.out_rows.len() as u32;
            self.answered |= !self.rows.out_rows.is_empty();
            self.stats.passes += 1;
            self.stats.rows += n as u64;
        }
        self.n_logits = rows_out;
        Ok(Some(rows_out))
    }

    /// Moves weights into large pages: once, when the first token is out and others follow. It takes about as long as
    /// reading the weights from memory three times, and what follows reads them every token.
    #[cold]
    fn move_weights(&mut self) -> Result<()> {
        let bytes = self.runner.movable_bytes();
        // The file's own pages count as available. A quarter of what there is stays for others.
        if alloc::memory_available().is_some_and(|have| bytes > have / 4 * 3) {
            self.runner.leave_weights();
            return Ok(());
        }
        self.stats.moved_bytes = self.runner.move_weights()?;
        Ok(())
    }

    /// The phase whose plan runs a pass of so many rows.
    pub fn phase_of(&self, rows: usize) -> Phase {
        let decode = self.options.n_seq_max.min(self.options.n_ubatch) as usize;
        if rows <= decode { Phase::Decode } else { Phase::Prefill }
    }

    fn check_inputs(&self, inputs: &[StepInput<'_>], place: Place) -> Result<()> {
        let input = |code| Problem::new(code, "a step");
        for i in inputs {
            if i.session.engine != self.id {
                let hint = "make sessions with the engine that runs them";
                return Err(Error::input(
                    input("ForeignSession").found("the session of another engine").hint(hint),
                ));
            }
            if i.tokens.is_empty() {
                return Err(Error::input(input("NoTokens").expected("at least one token")));
            }
            if i.tokens.len() > i.session.room() as usize {
                return Err(context_full(i.session, i.tokens.len()));
            }
            if let Some(t) = i.tokens.iter().find(|t| **t >= self.n_vocab()) {
                let p = input("TokenIdOutOfRange").found(t.to_string());
                return Err(Error::input(p.expected(format!("an id below {}", self.n_vocab()))));
            }
        }
        let wanted: usize = inputs.iter().map(StepInput::n_wanted).sum();
        if place == Place::Behind && wanted > self.options.n_outputs as usize {
            let p = input("TooManyOutputs").found(format!("{wanted} rows of logits"));
            return Err(Error::usage(p.expected(format!("at most n_outputs = {}", self.options.n_outputs))));
        }
        Ok(())
    }

    /// The logits of the pass that has just run are finite.
    fn check_logits(&self, first: u32) -> Result<()> {
        for (i, row) in self.rows.out_rows.iter().enumerate() {
            let logits = self.runner.logits(first + i as u32).unwrap_or_default();
            // One vector loop without an early exit: this is on the path of every token.
            if !logits.iter().fold(true, |ok, l| ok & l.is_finite()) {
                return Err(self.non_finite(*row as usize, logits));
            }
        }
        Ok(())
    }

    #[cold]
    fn non_finite(&self, row: usize, logits: &[f32]) -> Error {
        let entry = logits.iter().position(|l| !l.is_finite()).unwrap_or(0);
        let (token, position) = (self.rows.tokens[row], self.rows.positions[row]);
        let p =
            Problem::new("NonFiniteLogits", format!("the logits of token {token} at position {position}"));
        let found = format!("{} for vocabulary entry {entry}", logits[entry]);
        Error::runtime(
            p.found(found).expected("finite numbers").hint("look for damaged weights with --check-tensors"),
        )
    }
}

#[cold]
pub(super) fn context_full(session: &Session, more: usize) -> Error {
    let p = Problem::new("ContextFull", "the context of a session")
        .found(format!("{} tokens and {more} more", session.len()))
        .expected(format!("at most {}", session.n_ctx()));
    Error::new(Class::Input, p.hint("raise -c or shorten the text"))
}
