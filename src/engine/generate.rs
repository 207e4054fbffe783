//! Text out of a session: prefill, then one token after the other, as an iterator of pieces.

use super::{
    Engine, Logits, Sampler, SamplerParams, Session, StepInput, TokenScore, step, stop::StopMatcher,
};
use crate::error::{Error, Problem, Result};
use crate::text::{EncodeOptions, Piece, StreamDecoder};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Ends a generation from another thread. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }
    /// Ends whatever watches this token, within a few commands of a pass.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// How to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens to generate; negative: until the model ends the text or the context is full.
    pub max_tokens: i64,
    /// How tokens are chosen; `ignore_eos` is one of its fields.
    pub sampler: SamplerParams,
    /// Texts that end the generation; they are not part of the output.
    pub stop: Vec<String>,
    /// Put BOS before the prompt of an empty session where the vocabulary asks for it.
    pub add_special: bool,
    /// Read the texts of control tokens in the prompt as those tokens.
    pub parse_special: bool,
    /// Score each token and report this many of the most likely ones beside it; see [`Generator::score`].
    pub logprobs: Option<usize>,
    /// Ends the generation from elsewhere.
    pub cancel: Option<CancelToken>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_tokens: -1,
            sampler: SamplerParams::default(),
            stop: Vec::new(),
            add_special: true,
            parse_special: true,
            logprobs: None,
            cancel: None,
        }
    }
}

impl GenerateOptions {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        GenerateOptions { sampler: SamplerParams::greedy(), ..Self::default() }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model chose a token that ends the text.
    Eos,
    /// `max_tokens` are generated, or the context is full.
    Length,
    /// One of the stop strings came up.
    StopString,
    /// [`CancelToken::cancel`] was called.
    Cancelled,
}

/// Counts and times of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Time of their passes.
    pub prompt: Duration,
    /// Tokens generated, without one that ended the text.
    pub generated_tokens: u64,
    /// Time of all passes and choices after the prompt.
    pub generated: Duration,
    /// From the first call of the iterator to the first token; zero until then.
    pub first_token: Duration,
}

/// What happens at the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Prefill,
    Sample,
    Decode(u32),
    End,
}

/// Generates text piece by piece. Every token gives at least one piece, empty if its text is held back (an
/// unfinished character, the beginning of a stop string). Allocates nothing after the first token.
#[derive(Debug)]
pub struct Generator<'a> {
    engine: &'a mut Engine,
    session: &'a mut Session,
    prompt: Vec<u32>,
    sampler: Sampler,
    stops: StopMatcher,
    decoder: StreamDecoder,
    /// Text of one token, before stop strings are looked for.
    text: String,
    /// Text that may go out, and how much of it has.
    out: String,
    sent: usize,
    id: u32,
    /// Of the last token, if scores are asked for, with how many alternatives.
    score: Option<(TokenScore, usize)>,
    next: Next,
    left: u64,
    reason: Option<StopReason>,
    cancel: CancelToken,
    timings: Timings,
}

impl Engine {
    /// Generates behind `prompt`, which is appended to the session.
    ///
    /// Errors of class `Input`: `EmptyPrompt`, `PromptTooLong`, `ForeignSession`; of class `Usage`: options that are
    /// out of range. What goes wrong later comes out of the iterator, which then ends.
    pub fn generate<'a>(
        &'a mut self,
        session: &'a mut Session,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<Generator<'a>> {
        let special = options.add_special && session.is_empty();
        let encode = EncodeOptions { add_special: special, parse_special: options.parse_special };
        let mut tokens = Vec::new();
        self.tokenizer.encode(prompt, encode, &mut tokens)?;
        self.generate_from(session, tokens, options)
    }

    /// As [`Engine::generate`], with a prompt in tokens.
    pub fn generate_from<'a>(
        &'a mut self,
        session: &'a mut Session,
        prompt: Vec<u32>,
        options: &GenerateOptions,
    ) -> Result<Generator<'a>> {
        if prompt.is_empty() {
            return Err(Error::input(
                Problem::new("EmptyPrompt", "the prompt").expected("at least one token"),
            ));
        }
        if prompt.len() > session.room() as usize {
            let p = Problem::new("PromptTooLong", "the prompt").found(format!("{} tokens", prompt.len()));
            let room = format!("at most {} (context {})", session.room(), session.n_ctx());
            return Err(Error::input(p.expected(room).hint("raise -c or shorten the prompt")));
        }
        let vocab = self.tokenizer.vocab();
        let mut sampler =
            Sampler::new(&options.sampler, self.n_vocab() as usize, vocab.eog(), vocab.suppressed())?;
        for token in session.tokens().iter().chain(&prompt) {
            sampler.accept(*token);
        }
        // Three bytes for each byte of a token and of a held character: what bytes that are no text become.
        let text = 3 * (vocab.max_piece_len() + 4);
        let held = options.stop.iter().map(String::len).max().unwrap_or(0);
        let top = options.logprobs.map(|n| n.min(self.n_vocab() as usize));
        Ok(Generator {
            engine: self,
            session,
            prompt,
            sampler,
            stops: StopMatcher::new(&options.stop)?,
            decoder: StreamDecoder::new(),
            text: String::with_capacity(text),
            out: String::with_capacity(2 * text + held),
            sent: 0,
            id: 0,
            score: top.map(|top| (TokenScore::with_capacity(top), top)),
            next: Next::Prefill,
            left: u64::try_from(options.max_tokens).unwrap_or(u64::MAX),
            reason: None,
            cancel: options.cancel.clone().unwrap_or_default(),
            timings: Timings::default(),
        })
    }
}

impl Generator<'_> {
    /// Why it ended; `None` before that, and if it ended with an error.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.reason
    }
    /// Which of the stop strings came up.
    pub fn stop_string(&self) -> Option<usize> {
        self.stops.hit()
    }
    /// How likely the model found the last token, before bias, penalties, filters and temperature; `None` unless
    /// [`GenerateOptions::logprobs`] asks for it, and before the first token.
    pub fn score(&self) -> Option<&TokenScore> {
        self.score.as_ref().map(|s| &s.0).filter(|_| self.timings.generated_tokens > 0)
    }
    /// Counts and times so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }
    /// The seed that tokens are drawn with, given or found.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }
    /// Draws made with the seed, those of earlier generations that were continued too.
    pub fn draws(&self) -> u64 {
        self.sampler.draws()
    }
    /// The token chosen last, also one that ended the text; 0 before the first.
    pub fn last_id(&self) -> u32 {
        self.id
    }
    /// Tokens of the prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }
    /// The engine.
    pub fn engine(&self) -> &Engine {
        self.engine
    }
    /// The session. The last token generated is not in it yet: nothing has needed its keys and values.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Goes on until there is something to give: a token, or the end.
    fn advance(&mut self) -> Result<()> {
        loop {
            let started = Instant::now();
            match self.next {
                Next::Prefill => {
                    let logits = if self.left == 0 { Logits::None } else { Logits::Last };
                    let done = self.run(logits, None)?;
                    self.timings.prompt = started.elapsed();
                    self.timings.prompt_tokens = self.prompt.len() as u64;
                    match (done, self.left) {
                        (false, _) => return self.end(StopReason::Cancelled),
                        (true, 0) => return self.end(StopReason::Length),
                        (true, _) => self.next = Next::Sample,
                    }
                }
                Next::Sample => {
                    let first = self.timings.generated_tokens == 0;
                    self.sample()?;
                    self.timings.generated += started.elapsed();
                    if first {
                        self.timings.first_token = self.timings.prompt + self.timings.generated;
                    }
                    return Ok(());
                }
                Next::Decode(token) => {
                    if self.session.room() == 0 {
                        return self.end(StopReason::Length);
                    }
                    let done = self.run(Logits::Last, Some(token))?;
                    self.timings.generated += started.elapsed();
                    if !done {
                        return self.end(StopReason::Cancelled);
                    }
                    self.next = Next::Sample;
                }
                Next::End => return Ok(()),
            }
        }
    }

    /// Appends the prompt or a token to the session. `false` if cancelled.
    fn run(&mut self, logits: Logits, token: Option<u32>) -> Result<bool> {
        if self.cancel.is_cancelled() {
            return Ok(false);
        }
        let tokens = token.as_ref().map_or(&self.prompt[..], std::slice::from_ref);
        let mut inputs = [StepInput { session: &mut *self.session, tokens, logits }];
        let done = self.engine.pass(&mut inputs, Some(self.cancel.flag()), step::Place::Behind, None)?;
        Ok(done.is_some())
    }

    /// Chooses a token and takes its text.
    fn sample(&mut self) -> Result<()> {
        let logits = self.engine.logits(0).unwrap_or_default();
        let token = self.sampler.sample(logits)?;
        self.sampler.accept(token);
        self.id = token;
        if self.engine.tokenizer.is_eog(token) {
            return self.end(StopReason::Eos);
        }
        if let Some((score, top)) = &mut self.score {
            score.compute(self.engine.isa, self.engine.logits(0).unwrap_or_default(), token, *top);
        }
        self.timings.generated_tokens += 1;
        self.left -= 1;
        self.text.clear();
        let bytes = self.engine.tokenizer.piece(token, false).unwrap_or_default();
        self.decoder.feed(bytes, &mut self.text);
        if self.stops.feed(&self.text, &mut self.out).is_some() {
            return self.end(StopReason::StopString);
        }
        self.next = Next::Decode(token);
        if self.left == 0 { self.end(StopReason::Length) } else { Ok(()) }
    }

    /// Lets go of held text and ends.
    fn end(&mut self, reason: StopReason) -> Result<()> {
        if reason != StopReason::StopString {
            self.text.clear();
            self.decoder.finish(&mut self.text);
            if self.stops.feed(&self.text, &mut self.out).is_none() {
                self.stops.finish(&mut self.out);
            }
        }
        self.reason = Some(reason);
        self.next = Next::End;
        Ok(())
    }

    /// The next piece of text that may go out.
    fn cut(&mut self) -> Piece {
        let (piece, rest) = Piece::cut(self.id, &self.out[self.sent..]);
        self.sent = self.out.len() - rest.len();
        if rest.is_empty() {
            self.out.clear();
            self.sent = 0;
        }
        piece
    }
}

impl Iterator for Generator<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if !self.out.is_empty() {
            return Some(Ok(self.cut()));
        }
        if self.next == Next::End {
            return None;
        }
        let before = self.timings.generated_tokens;
        if let Err(e) = self.advance() {
            self.next = Next::End;
            return Some(Err(e));
        }
        // A token without text gives an empty piece; an end without text gives none.
        let token = self.timings.generated_tokens > before;
        (token || !self.out.is_empty()).then(|| Ok(self.cut()))
    }
}
