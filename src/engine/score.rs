//! How likely a model finds a given text: a log-probability per token, and the perplexity of a long text.

use super::logprobs::TokenScore;
use super::{CancelToken, Engine, Logits, Session, StepInput, step};
use crate::error::{Error, Problem, Result};
use crate::ops::math::exp64;
use crate::text::Role;
use std::ops::Range;

/// Bytes that rows of logits may take at a time where a whole text is scored.
const LOGITS_BYTES: u64 = 64 << 20;

/// A number of rows for [`EngineOptions::n_outputs`](super::EngineOptions::n_outputs) that scores texts quickly: as
/// many as a pass has, or as fit 64 MiB. The scores do not depend on it.
pub fn scored_rows(n_vocab: u32, n_ubatch: u32) -> u32 {
    let fit = LOGITS_BYTES / (4 * u64::from(n_vocab.max(1)));
    u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, n_ubatch.max(1))
}

/// How to score.
#[derive(Clone, Debug, Default)]
pub struct ScoreOptions {
    /// How many of the most likely tokens to report beside each.
    pub top: usize,
    /// Ends the scoring from elsewhere.
    pub cancel: Option<CancelToken>,
}

/// How to measure perplexity.
#[derive(Clone, Debug)]
pub struct PerplexityOptions {
    /// Tokens of a chunk; at least 4, at most the engine's context.
    pub n_ctx: u32,
    /// Chunks to measure at most; `None` for all.
    pub chunks: Option<usize>,
    /// Chunks that run side by side, each in a session of its own. The figure does not depend on it.
    pub n_seq: u32,
    /// Ends the measurement from elsewhere.
    pub cancel: Option<CancelToken>,
}

/// The perplexity of a text, or of its first chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Perplexity {
    /// `e^(mean negative log-likelihood)`.
    pub ppl: f64,
    /// One standard error of `ppl`, from the spread of the tokens' log-likelihoods.
    pub error: f64,
    /// Sum of negative log-likelihoods.
    pub nll: f64,
    /// Tokens that were scored.
    pub scored: u64,
    /// Chunks that were measured.
    pub chunks: usize,
    /// Chunks there are to measure.
    pub of: usize,
}

/// Sums over tokens.
#[derive(Default)]
struct Sums {
    nll: f64,
    nll2: f64,
    scored: u64,
}

impl Sums {
    fn take(&mut self, logprob: f64) {
        self.nll -= logprob;
        self.nll2 += logprob * logprob;
        self.scored += 1;
    }

    /// As llama.cpp reckons: the error of the mean of n figures whose variance is taken over n, by n - 1.
    fn figure(&self, chunks: usize, of: usize) -> Perplexity {
        let n = self.scored as f64;
        let mean = self.nll / n;
        let ppl = exp64(mean);
        let variance = self.nll2 / n - mean * mean;
        let error = if variance > 0.0 && self.scored > 1 { (variance / (n - 1.0)).sqrt() * ppl } else { 0.0 };
        Perplexity { ppl, error, nll: self.nll, scored: self.scored, chunks, of }
    }
}

impl Engine {
    /// Appends `tokens` to the session and calls `each` with the score of every one but the first, which nothing
    /// predicts, in order. Returns `false` if it was cancelled. The last token is not in the session afterwards:
    /// nothing has needed its keys and values.
    ///
    /// The scores are those that generation reports for the same tokens, bit for bit. Rows of logits are worked off
    /// in blocks of `n_outputs`; see [`scored_rows`].
    ///
    /// Errors of class `Input`: `TextTooShort` for less than two tokens, `PromptTooLong`, and those of
    /// [`Engine::step`].
    ///
    /// ```
    /// use quipu::engine::{Engine, EngineOptions, ScoreOptions};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.gguf");
    /// # let file = std::fs::File::create(&path).unwrap();
    /// # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::F32, 1, file)?;
    /// let mut engine = Engine::load(&path, EngineOptions { n_outputs: 64, ..EngineOptions::default() })?;
    /// let mut session = engine.new_session()?;
    /// let mut sum = 0.0;
    /// engine.score(&mut session, &[1, 5, 6, 7], &ScoreOptions::default(), &mut |t| sum += t.logprob)?;
    /// assert!(sum < 0.0);
    /// # Ok::<(), quipu::Error>(())
    /// ```
    pub fn score(
        &mut self,
        session: &mut Session,
        tokens: &[u32],
        options: &ScoreOptions,
        each: &mut dyn FnMut(&TokenScore),
    ) -> Result<bool> {
        let n = tokens.len().saturating_sub(1);
        if n == 0 {
            let p = Problem::new("TextTooShort", "the text").found(format!("{} tokens", tokens.len()));
            return Err(Error::input(p.expected("at least 2: nothing predicts the first")));
        }
        if n > session.room() as usize {
            let p = Problem::new("PromptTooLong", "the text").found(format!("{} tokens", tokens.len()));
            let room = format!("at most {} (context {})", session.room() + 1, session.n_ctx());
            return Err(Error::input(p.expected(room).hint("raise -c or shorten the text")));
        }
        let top = options.top.min(self.n_vocab() as usize);
        let mut score = TokenScore::with_capacity(top);
        let cancel = options.cancel.clone().unwrap_or_default();
        for start in (0..n).step_by(self.options.n_outputs as usize) {
            let end = n.min(start + self.options.n_outputs as usize);
            let input =
                StepInput { session: &mut *session, tokens: &tokens[start..end], logits: Logits::All };
            if !self.rows_of(&mut [input], &cancel)? {
                return Ok(false);
            }
            for (row, next) in tokens[start + 1..=end].iter().enumerate() {
                score.compute(self.isa, self.logits(row as u32).unwrap_or_default(), *next, top);
                each(&score);
            }
        }
        Ok(true)
    }

    /// The perplexity of a text by llama.cpp's method: the text is cut into chunks of `n_ctx` tokens, a rest is left
    /// out; each starts a context of its own, with BOS in the place of its first token where the vocabulary asks for
    /// it; the tokens behind the first half are scored. `each` sees the figure after every chunk; `None` is
    /// returned if it was cancelled.
    ///
    /// Source: `perplexity` of llama.cpp's tools/perplexity.
    ///
    /// Errors: `OutOfRange` (usage) for an `n_ctx` below 4 or past the engine's; `TextTooShort` (input) for less than
    /// `2 * n_ctx` tokens; those of [`Engine::step`] and [`Engine::new_session`].
    ///
    /// ```
    /// use quipu::engine::{Engine, EngineOptions, PerplexityOptions};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.gguf");
    /// # let file = std::fs::File::create(&path).unwrap();
    /// # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::F32, 1, file)?;
    /// let mut engine = Engine::load(&path, EngineOptions { n_ctx: Some(16), ..EngineOptions::default() })?;
    /// let tokens: Vec<u32> = (0..64).map(|i| 3 + i % 60).collect();
    /// let options = PerplexityOptions { n_ctx: 16, chunks: None, n_seq: 2, cancel: None };
    /// let figure = engine.perplexity(&tokens, &options, &mut |_| {})?;
    /// assert_eq!(figure.map(|f| (f.chunks, f.scored)), Some((4, 4 * 7)));
    /// # Ok::<(), quipu::Error>(())
    /// ```
    pub fn perplexity(
        &mut self,
        tokens: &[u32],
        options: &PerplexityOptions,
        each: &mut dyn FnMut(&Perplexity),
    ) -> Result<Option<Perplexity>> {
        let n_ctx = options.n_ctx as usize;
        if !(4..=self.n_ctx()).contains(&options.n_ctx) {
            let p = Problem::new("OutOfRange", "n_ctx of a chunk").found(n_ctx.to_string());
            return Err(Error::usage(p.expected(format!("4 to {}, the engine's", self.n_ctx()))));
        }
        if tokens.len() / 2 < n_ctx {
            let p = Problem::new("TextTooShort", "the text").found(format!("{} tokens", tokens.len()));
            let p = p.expected(format!("at least {}, two chunks of {n_ctx}", n_ctx.saturating_mul(2)));
            return Err(Error::input(p.hint("give a longer text or a smaller -c")));
        }
        let vocab = self.tokenizer.vocab();
        let bos = vocab.role(Role::Bos).filter(|_| vocab.add_bos());
        let mut chunks: Vec<Vec<u32>> = tokens.chunks_exact(n_ctx).map(<[u32]>::to_vec).collect();
        chunks.truncate(options.chunks.unwrap_or(usize::MAX));
        for chunk in &mut chunks {
            chunk[0] = bos.unwrap_or(chunk[0]);
        }
        let side = options.n_seq.clamp(1, self.options.n_outputs) as usize;
        let mut sessions =
            (0..side.min(chunks.len())).map(|_| self.new_session()).collect::<Result<Vec<_>>>()?;
        let cancel = options.cancel.clone().unwrap_or_default();
        let mut sums = Sums::default();
        let mut figure = None;
        for (g, group) in chunks.chunks(side).enumerate() {
            let Some(scores) = self.chunk_scores(&mut sessions, group, &cancel)? else { return Ok(None) };
            for (i, chunk) in scores.iter().enumerate() {
                chunk.iter().for_each(|logprob| sums.take(*logprob));
                let f = sums.figure(g * side + i + 1, chunks.len());
                each(&f);
                figure = Some(f);
            }
        }
        Ok(figure)
    }

    /// The log-probabilities of the tokens behind the first half of each chunk; `None` if cancelled.
    fn chunk_scores(
        &mut self,
        sessions: &mut [Session],
        chunks: &[Vec<u32>],
        cancel: &CancelToken,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        let n_ctx = chunks.first().map_or(0, Vec::len);
        let first = n_ctx / 2;
        sessions.iter_mut().for_each(Session::reset);
        if !self.side_by_side(sessions, chunks, 0..first, Logits::None, cancel)? {
            return Ok(None);
        }
        let mut out = vec![Vec::with_capacity(n_ctx - first); chunks.len()];
        let mut score = TokenScore::default();
        let mut start = first;
        // The last token predicts nothing that is scored.
        while start + 1 < n_ctx {
            let end = (n_ctx - 1).min(start + (self.options.n_outputs as usize / chunks.len()).max(1));
            if !self.side_by_side(sessions, chunks, start..end, Logits::All, cancel)? {
                return Ok(None);
            }
            for (i, (out, chunk)) in out.iter_mut().zip(chunks).enumerate() {
                for (j, next) in chunk[start + 1..=end].iter().enumerate() {
                    let row = i * (end - start) + j;
                    score.compute(self.isa, self.logits(row as u32).unwrap_or_default(), *next, 0);
                    out.push(score.logprob);
                }
            }
            start = end;
        }
        Ok(Some(out))
    }

    /// Appends the same range of each chunk to its session; whether it was finished.
    fn side_by_side(
        &mut self,
        sessions: &mut [Session],
        chunks: &[Vec<u32>],
        range: Range<usize>,
        logits: Logits,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let pairs = sessions.iter_mut().zip(chunks);
        let inputs = pairs.map(|(session, c)| StepInput { session, tokens: &c[range.clone()], logits });
        self.rows_of(&mut inputs.collect::<Vec<_>>(), cancel)
    }

    /// A step that can be cancelled; whether it was finished.
    fn rows_of(&mut self, inputs: &mut [StepInput<'_>], cancel: &CancelToken) -> Result<bool> {
        Ok(self.pass(inputs, Some(cancel.flag()), step::Place::Behind, None)?.is_some())
    }
}
