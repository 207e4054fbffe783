//! From logits to the next token.
//!
//! The filters, their order and their defaults are llama.cpp's: logit bias, penalties, top-k, top-p, min-p,
//! temperature, then one draw. Everything is computed with operations that give the same bits on every machine
//! ([`crate::ops::math::exp`], one order of summation), so a seed means the same text everywhere.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};

use crate::error::{Class, Error, Problem, Result};
use crate::ops::math::exp;

/// Below this temperature the most likely token is taken and nothing is drawn.
pub const GREEDY_BELOW: f32 = 1e-6;

/// Largest window of the penalties; longer texts use -1, which costs no memory.
const MAX_LAST_N: i32 = 1 << 20;

/// How to choose a token. The defaults are llama.cpp's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplerParams {
    /// Divides the logits; below [`GREEDY_BELOW`] (also below zero) the most likely token is taken.
    pub temp: f32,
    /// Keep this many of the most likely tokens; 0 or less keeps all.
    pub top_k: i32,
    /// Keep the most likely tokens that together reach this probability, with the one that crosses it; 1 keeps
    /// all.
    pub top_p: f32,
    /// Drop tokens less likely than this part of the most likely; 0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies other logits of tokens seen lately; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many tokens back the penalties look; 0 switches them off, -1 looks at all.
    pub repeat_last_n: i32,
    /// Subtracted once from the logit of each token seen lately.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time it was seen lately.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens; negative infinity bans one.
    #[serde(with = "biases")]
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the draws; without one it is taken from the system (see [`Sampler::seed`]).
    pub seed: Option<u64>,
    /// Never choose a token that ends the generation.
    pub ignore_eos: bool,
    /// How many draws of this seed were made before: a conversation goes on with the stream it began.
    pub draws: u64,
}

impl Default for SamplerParams {
    fn default() -> Self {
        SamplerParams {
            temp: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            ignore_eos: false,
            draws: 0,
        }
    }
}

impl SamplerParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        SamplerParams { temp: 0.0, ..Self::default() }
    }

    /// Whether nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temp < GREEDY_BELOW
    }

    /// Checks the ranges; every field that is wrong is named, code `OutOfRange`, class `Usage`.
    pub fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut demand = |ok: bool, field: &str, found: String, expected: &str| {
            if !ok {
                problems.push(Problem::new("OutOfRange", field).found(found).expected(expected));
            }
        };
        let part = |p: f32| (0.0..=1.0).contains(&p);
        demand(self.temp.is_finite(), "temp", self.temp.to_string(), "a finite number");
        demand(part(self.top_p), "top_p", self.top_p.to_string(), "0 to 1");
        demand(part(self.min_p), "min_p", self.min_p.to_string(), "0 to 1");
        let r = self.repeat_penalty;
        // A penalty whose inverse overflows would turn finite logits into infinite ones.
        let usable = r.is_finite() && r > 0.0 && (1.0 / r).is_finite();
        demand(usable, "repeat_penalty", r.to_string(), "a finite number above 0");
        let n = self.repeat_last_n;
        demand((-1..=MAX_LAST_N).contains(&n), "repeat_last_n", n.to_string(), "-1 to 1048576");
        for (field, p) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            demand(p.is_finite(), field, p.to_string(), "a finite number");
        }
        for (token, bias) in &self.logit_bias {
            let ok = bias.is_finite() || *bias == f32::NEG_INFINITY;
            demand(ok, &format!("logit_bias[{token}]"), bias.to_string(), "a finite number, or -inf to ban");
        }
        Error::from_problems(Class::Usage, problems)
    }

    /// Whether the penalties can change a logit.
    fn has_penalties(&self) -> bool {
        let neutral =
            self.repeat_penalty == 1.0 && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0;
        self.repeat_last_n != 0 && !neutral
    }
}

/// Biases as JSON has them: it knows no infinity, so a banned token is `[id, null]`.
mod biases {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(list: &[(u32, f32)], to: S) -> Result<S::Ok, S::Error> {
        let rows = list.iter().map(|(id, bias)| (*id, Some(*bias).filter(|b| *b != f32::NEG_INFINITY)));
        rows.collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u32, f32)>, D::Error> {
        let rows = Vec::<(u32, Option<f32>)>::deserialize(from)?;
        Ok(rows.into_iter().map(|(id, bias)| (id, bias.unwrap_or(f32::NEG_INFINITY))).collect())
    }
}

/// Chooses tokens, one after the other. Allocates nothing after it was made.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplerParams,
    n_vocab: usize,
    seed: u64,
    rng: ChaCha8Rng,
    draws: u64,
    /// Biases with the banned tokens; empty if there are none.
    biases: Vec<(u32, f32)>,
    /// How often each token was seen in the window; empty without penalties.
    counts: Vec<u32>,
    /// The window, and where its oldest token is once it is full.
    window: Vec<u32>,
    oldest: usize,
    /// Logits after bias and penalties; empty if neither applies.
    work: Vec<f32>,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler for logits of `n_vocab` tokens. `ends` are the tokens that end a generation, left out if
    /// [`SamplerParams::ignore_eos`]; `banned` are never chosen.
    ///
    /// Errors of class `Usage`: those of [`SamplerParams::check`], and `TokenIdOutOfRange`.
    pub fn new(params: &SamplerParams, n_vocab: usize, ends: &[u32], banned: &[u32]) -> Result<Sampler> {
        params.check()?;
        let never = ends.iter().filter(|_| params.ignore_eos).chain(banned);
        let never = never.map(|&id| (id, f32::NEG_INFINITY));
        let biases: Vec<(u32, f32)> = params.logit_bias.iter().copied().chain(never).collect();
        let outside = biases.iter().filter(|(id, _)| *id as usize >= n_vocab);
        let problems = outside.map(|(id, _)| {
            let p = Problem::new("TokenIdOutOfRange", "logit_bias").found(id.to_string());
            p.expected(format!("an id below {n_vocab}"))
        });
        Error::from_problems(Class::Usage, problems.collect())?;

        let seed = params.seed.unwrap_or_else(random_seed);
        let penalties = params.has_penalties();
        let changes = penalties || !biases.is_empty();
        let window = if penalties { usize::try_from(params.repeat_last_n).unwrap_or(0) } else { 0 };
        let candidates = match (params.is_greedy(), usize::try_from(params.top_k)) {
            (true, _) => 0,
            (false, Ok(k @ 1..)) => k.saturating_mul(OVERFILL).min(n_vocab),
            (false, _) => n_vocab,
        };
        Ok(Sampler {
            params: params.clone(),
            n_vocab,
            seed,
            rng: generator(seed, params.draws),
            draws: params.draws,
            biases,
            counts: vec![0; if penalties { n_vocab } else { 0 }],
            window: Vec::with_capacity(window),
            oldest: 0,
            work: Vec::with_capacity(if changes { n_vocab } else { 0 }),
            candidates: Candidates { keys: Vec::with_capacity(candidates), sorted: 0 },
        })
    }

    /// The seed in use, whether it was given or taken from the system.
    pub fn seed(&self) -> u64 {
        self.seed
    }
    /// Draws made with this seed, those before this sampler too.
    pub fn draws(&self) -> u64 {
        self.draws
    }
    /// What it was made with.
    pub fn params(&self) -> &SamplerParams {
        &self.params
    }

    /// Tells the penalties of a token of the text, prompt included. Ids outside the vocabulary are ignored.
    pub fn accept(&mut self, id: u32) {
        let Some(count) = self.counts.get_mut(id as usize) else { return };
        *count += 1;
        let Ok(n @ 1..) = usize::try_from(self.params.repeat_last_n) else { return };
        if self.window.len() < n {
            self.window.push(id);
            return;
        }
        let old = std::mem::replace(&mut self.window[self.oldest], id);
        self.counts[old as usize] -= 1;
        self.oldest = (self.oldest + 1) % n;
    }

    /// Forgets the text and starts the draws again from the same seed.
    pub fn reset(&mut self) {
        self.draws = self.params.draws;
        self.rng = generator(self.seed, self.draws);
        self.counts.fill(0);
        self.window.clear();
        self.oldest = 0;
    }

    /// Chooses a token; the caller passes it to [`Sampler::accept`].
    ///
    /// One number is drawn for each call unless greedy: the top 53 bits of a 64-bit output of ChaCha8 as a
    /// number in [0, 1), and the first token from the most likely on whose running sum exceeds it is taken.
    /// Equal logits are in order of their ids.
    ///
    /// Errors of class `Runtime`: `NonFiniteLogits` naming the token, `LogitsLength`, `NoCandidates` if every
    /// token is banned.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let (best, max) = self.filter(logits)?;
        if self.params.is_greedy() {
            return Ok(best);
        }
        self.draws += 1;
        let draw = (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        Ok(self.candidates.pick(max, self.params.temp, draw).unwrap_or(best))
    }

    /// The tokens [`Sampler::sample`] would choose from and their probabilities, the most likely first.
    /// Nothing is drawn. Errors as there.
    pub fn probabilities(&mut self, logits: &[f32], out: &mut Vec<(u32, f32)>) -> Result<()> {
        out.clear();
        let (best, max) = self.filter(logits)?;
        if self.params.is_greedy() {
            out.push((best, 1.0));
            return Ok(());
        }
        let sum = self.candidates.weigh(max, self.params.temp);
        let c = self.candidates.keys.iter().map(|&key| (key, weight(key, max, self.params.temp)));
        out.extend(c.map(|(key, w)| (key as u32, (w / sum) as f32)));
        Ok(())
    }

    /// Leaves the candidates behind all filters (none if greedy) and returns the most likely with its logit.
    fn filter(&mut self, logits: &[f32]) -> Result<(u32, f32)> {
        if logits.len() != self.n_vocab {
            let p = Problem::new("LogitsLength", "logits").found(logits.len().to_string());
            return Err(Error::runtime(p.expected(self.n_vocab.to_string())));
        }
        check_finite(logits)?;
        let logits = match self.work.capacity() {
            0 => logits,
            _ => {
                self.work.clear();
                self.work.extend_from_slice(logits);
                self.apply_bias_and_penalties();
                &self.work
            }
        };
        let (best, max) = argmax(logits)?;
        if !self.params.is_greedy() {
            let c = &mut self.candidates;
            match usize::try_from(self.params.top_k) {
                Ok(k @ 1..) if k < self.n_vocab => c.take_top(logits, k),
                _ => c.take_all(logits),
            }
            c.keep_top_p(max, self.params.top_p);
            c.keep_min_p(max, self.params.min_p);
        }
        Ok((best, max))
    }

    fn apply_bias_and_penalties(&mut self) {
        for (id, bias) in &self.biases {
            self.work[*id as usize] += bias;
        }
        let p = &self.params;
        for (logit, &count) in self.work.iter_mut().zip(&self.counts) {
            if count > 0 {
                let scaled =
                    if *logit <= 0.0 { *logit * p.repeat_penalty } else { *logit / p.repeat_penalty };
                *logit = scaled - (count as f32 * p.frequency_penalty + p.presence_penalty);
            }
        }
    }
}

/// How many times k candidates are collected before the worst are dropped.
const OVERFILL: usize = 8;

/// Tokens still in the race, as integers that sort from the most likely on and by id where equal: the inverted
/// order-preserving bits of the logit above, the id below.
#[derive(Clone, Debug)]
struct Candidates {
    keys: Vec<u64>,
    /// How many at the beginning are in their final order; all others come after these.
    sorted: usize,
}

fn key(logit: f32, id: usize) -> u64 {
    let bits = (logit + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ordered) << 32 | id as u64
}

fn logit_of(key: u64) -> f32 {
    let ordered = !((key >> 32) as u32);
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

impl Candidates {
    fn take_all(&mut self, logits: &[f32]) {
        self.keys.clear();
        self.sorted = 0;
        let open = logits.iter().enumerate().filter(|(_, l)| **l > f32::NEG_INFINITY);
        self.keys.extend(open.map(|(id, &l)| key(l, id)));
    }

    /// The `k` most likely, sorted: one pass that keeps what beats the worst of the best so far.
    fn take_top(&mut self, logits: &[f32], k: usize) {
        self.keys.clear();
        let full = self.keys.capacity();
        let mut bar = f32::NEG_INFINITY;
        for (id, &logit) in logits.iter().enumerate() {
            // Ids only grow, so one that equals the worst of the best k comes after it.
            if logit > bar {
                if self.keys.len() == full {
                    bar = logit_of(*self.keys.select_nth_unstable(k - 1).1);
                    self.keys.truncate(k);
                }
                self.keys.push(key(logit, id));
            }
        }
        self.keys.sort_unstable();
        self.keys.truncate(k);
        self.sorted = self.keys.len();
    }

    /// Puts at least the first `n` in order, in growing portions.
    fn sort_to(&mut self, n: usize) {
        if n <= self.sorted {
            return;
        }
        let end = n.max(self.sorted * 4).max(64).min(self.keys.len());
        let rest = &mut self.keys[self.sorted..];
        let count = end - self.sorted;
        if count < rest.len() {
            rest.select_nth_unstable(count);
        }
        rest[..count].sort_unstable();
        self.sorted = end;
    }

    fn keep_top_p(&mut self, max: f32, p: f32) {
        if p >= 1.0 {
            return;
        }
        let goal = f64::from(p) * self.keys.iter().map(|&k| weight(k, max, 1.0)).sum::<f64>();
        let mut sum = 0.0;
        for i in 0..self.keys.len() {
            self.sort_to(i + 1);
            sum += weight(self.keys[i], max, 1.0);
            if sum >= goal {
                self.keys.truncate(i + 1);
                break;
            }
        }
        self.sorted = self.sorted.min(self.keys.len());
    }

    fn keep_min_p(&mut self, max: f32, p: f32) {
        if p > 0.0 {
            // The most likely has weight 1 and always stays. Order is kept, so what was sorted still is.
            let sorted = self.sorted == self.keys.len();
            self.keys.retain(|&key| weight(key, max, 1.0) >= f64::from(p));
            self.sorted = if sorted { self.keys.len() } else { 0 };
        }
    }

    /// Sorts what is left and sums its weights in that order.
    fn weigh(&mut self, max: f32, temp: f32) -> f64 {
        self.sort_to(self.keys.len());
        self.keys.iter().map(|&k| weight(k, max, temp)).sum()
    }

    /// The first candidate whose running sum of weights exceeds `draw` of the whole.
    fn pick(&mut self, max: f32, temp: f32, draw: f64) -> Option<u32> {
        let all = self.weigh(max, temp);
        // The product can round up to the whole, which no running sum exceeds.
        let goal = (draw * all).min(all.next_down());
        let mut sum = 0.0;
        let mut over = |key: u64| {
            sum += weight(key, max, temp);
            sum > goal
        };
        self.keys.iter().find(|&&key| over(key)).map(|&key| key as u32)
    }
}

/// Probability before division by the sum of all: 1 for the most likely.
fn weight(key: u64, max: f32, temp: f32) -> f64 {
    f64::from(exp((logit_of(key) - max) / temp))
}

/// Names the first logit that is no finite number.
fn check_finite(logits: &[f32]) -> Result<()> {
    // Without their signs the bits of floats are integers of the same order, infinities and NaN the largest: a
    // maximum of integers is a vector loop everywhere.
    let size = |l: &f32| (l.to_bits() & 0x7FFF_FFFF) as i32;
    if logits.iter().map(size).fold(0, i32::max) < size(&f32::INFINITY) {
        return Ok(());
    }
    let bad = logits.iter().position(|l| !l.is_finite()).unwrap_or(0);
    Err(non_finite(bad, logits[bad]))
}

fn non_finite(id: usize, found: f32) -> Error {
    let p = Problem::new("NonFiniteLogits", format!("logit of token {id}")).found(found.to_string());
    Error::runtime(p.expected("a finite number").hint("the weights may be damaged: try --check-tensors"))
}

/// The largest logit and its token, of equals the lowest id.
fn argmax(logits: &[f32]) -> Result<(u32, f32)> {
    // The maximum first, in lanes, then where it is: two vector loops instead of one that depends on itself.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = logits.as_chunks::<16>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(m, &l)| *m = larger(*m, l));
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &l| larger(m, l));
    let id = logits.iter().position(|&l| l == max).unwrap_or(0);
    if max == f32::NEG_INFINITY {
        let p = Problem::new("NoCandidates", "logits").found("every token banned");
        return Err(Error::runtime(p.hint("remove a logit bias of -inf")));
    }
    // Bias and penalties can overflow.
    if max == f32::INFINITY { Err(non_finite(id, max)) } else { Ok((id as u32, max)) }
}

/// ChaCha8 keyed with the seed: its eight little-endian bytes, then zeros; behind so many draws of 64 bits.
fn generator(seed: u64, draws: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(bytes);
    rng.set_word_pos(u128::from(draws) * 2);
    rng
}

/// A seed from the system's randomness, of 32 bits so that every JSON reader keeps it exactly.
fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}
