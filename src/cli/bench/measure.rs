//! The speeds of one kind of work, measured again and again.

use quipu::backends::measure::Reader;
use quipu::engine::{Engine, Logits, Session, StepInput};
use quipu::error::Result;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Speeds of one kind of work, in tokens per second of all sequences together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Tokens of each sequence that a measurement ran.
    pub tokens: u32,
    /// Tokens that lay in the cache of each sequence before.
    #[serde(default)]
    pub depth: u32,
    /// Sequences that went through each step together.
    #[serde(default = "one")]
    pub sequences: u32,
    /// The middle one of the samples.
    pub median: f64,
    /// The slowest.
    pub min: f64,
    /// The fastest.
    pub max: f64,
    /// The median over the number of sequences.
    #[serde(default)]
    pub per_sequence: f64,
    /// Every measurement, in order.
    pub samples: Vec<f64>,
    /// How fast memory could be read before each measurement and after the last, in bytes per second; none if nobody asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<f64>,
}

fn one() -> u32 {
    1
}

impl Row {
    fn new(tokens: u32, depth: u32, sequences: u32, samples: Vec<f64>) -> Row {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
        let last = sorted.len().saturating_sub(1);
        let median = median(&samples).unwrap_or(0.0);
        let per_sequence = median / f64::from(sequences.max(1));
        let reads = Vec::new();
        Row { tokens, depth, sequences, median, min: at(0), max: at(last), per_sequence, samples, reads }
    }

    /// Of what could be read around it, what a measurement that reads so many bytes for a token used, in percent: the
    /// median of all of them.
    pub fn percent_of_reads(&self, bytes: f64) -> Option<f64> {
        let around = self.reads.windows(2).map(|r| (r[0] + r[1]) / 2.0);
        let all: Vec<f64> = self.samples.iter().zip(around).map(|(s, r)| s * bytes / r * 100.0).collect();
        median(&all)
    }
}

/// The middle one, or the mean of the two in the middle; `None` of none.
fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    Some((sorted.get(n / 2)? + sorted.get(n.saturating_sub(1) / 2)?) / 2.0)
}

/// Sessions that go through every step together, all with the same tokens in the cache.
pub struct Bed<'a> {
    engine: &'a mut Engine,
    sessions: Vec<Session>,
    ids: Vec<u32>,
    depth: u32,
}

impl<'a> Bed<'a> {
    /// Makes `sequences` sessions and fills each with the first `depth` of `ids`, of which at least `depth` more than a
    /// measurement takes are there.
    pub fn new(engine: &'a mut Engine, sequences: u32, depth: u32, ids: Vec<u32>) -> Result<Bed<'a>> {
        let sessions = (0..sequences).map(|_| engine.new_session()).collect::<Result<_>>()?;
        let mut bed = Bed { engine, sessions, ids, depth };
        if depth > 0 {
            bed.step(0, depth, Logits::None)?;
        }
        Ok(bed)
    }

    /// Measures `n` tokens behind the filled ones, `chunk` of them in a step, after a round that does not count; `None`
    /// for no tokens. Around each measurement memory is read by what `reader` makes after that round.
    pub fn measure(
        &mut self,
        n: u32,
        chunk: u32,
        repetitions: u32,
        reader: impl FnOnce() -> Result<Option<Reader>>,
    ) -> Result<(Option<Row>, Option<Reader>)> {
        if n == 0 {
            return Ok((None, None));
        }
        let sequences = self.sessions.len() as u32;
        let total = f64::from(n) * f64::from(sequences);
        // Touches memory and wakes the team.
        self.seconds(n, chunk)?;
        let mut reader = reader()?;
        let mut reads: Vec<f64> = reader.iter_mut().map(Reader::now).collect();
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            samples.push(total / self.seconds(n, chunk)?);
            reads.extend(reader.iter_mut().map(Reader::now));
        }
        Ok((Some(Row { reads, ..Row::new(n, self.depth, sequences, samples) }), reader))
    }

    /// Time to run `n` tokens behind the filled ones, with logits for the last of each step.
    fn seconds(&mut self, n: u32, chunk: u32) -> Result<f64> {
        // What was filled stays in the cache.
        self.sessions.iter_mut().for_each(|s| s.truncate(self.depth));
        let start = Instant::now();
        let mut done = 0;
        while done < n {
            let now = chunk.clamp(1, n - done);
            self.step(self.depth + done, now, Logits::Last)?;
            done += now;
        }
        Ok(start.elapsed().as_secs_f64().max(1e-9))
    }

    /// One step of all sessions with `n` tokens each, from position `from` on.
    fn step(&mut self, from: u32, n: u32, logits: Logits) -> Result<()> {
        let tokens = &self.ids[from as usize..][..n as usize];
        let mut inputs: Vec<_> =
            self.sessions.iter_mut().map(|session| StepInput { session, tokens, logits }).collect();
        self.engine.step(&mut inputs).map(|_| ())
    }
}

/// Tokens in no order, the same every time, beginning with BOS where there is one.
pub fn some_tokens(engine: &Engine, n: u32) -> Vec<u32> {
    let vocab = engine.n_vocab().max(1);
    let bos = engine.tokenizer().vocab().role(quipu::text::Role::Bos);
    let arbitrary = (1..n).map(|i| i.wrapping_mul(2_654_435_761) % vocab);
    bos.or(Some(0)).into_iter().chain(arbitrary).take(n as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        let s = Row::new(1, 0, 1, vec![3.0, 1.0, 2.0]);
        assert_eq!((s.min, s.median, s.max), (1.0, 2.0, 3.0));
        let s = Row::new(1, 0, 2, vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((s.median, s.per_sequence), (2.5, 1.25));
        assert_eq!(s.percent_of_reads(1.0), None);
        // 40, 10, 20 and 30 % of what lies between two rates.
        let s = Row { reads: vec![8.0, 12.0, 8.0, 12.0, 8.0], ..s };
        assert_eq!(s.percent_of_reads(1.0), Some(25.0));
    }
}
