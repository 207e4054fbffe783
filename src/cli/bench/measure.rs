//! The speeds of one kind of work, measured again and again.

use quipu::backends::measure::Reader;
use quipu::engine::{Engine, Logits, Session, StepInput};
use quipu::error::Result;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

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
    /// The measurements in slices, in order, if memory was read between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
}

/// Steps of a measurement between two readings of memory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Tokens of each sequence that lay in the cache before.
    pub behind: u32,
    /// Tokens of each sequence that it ran.
    pub tokens: u32,
    /// What they took.
    pub seconds: f64,
    /// How fast memory could be read before and after, in bytes per second.
    pub reads: [f64; 2],
}

/// How long a slice takes at least: a few tokens of most models, and far less than memory stays as fast as it is where its
/// speed changes.
const SLICE: Duration = Duration::from_millis(100);

impl Slice {
    /// Whether memory was as fast after as before, within 5 %.
    fn steady(&self) -> bool {
        let [a, b] = self.reads;
        a.max(b) <= 1.05 * a.min(b)
    }

    /// Of what could be read around it, what it used, in percent, where a token of each of `sequences` reads so many bytes
    /// of `weights` and `cell` bytes for each that lies in its cache, its own too.
    fn percent(&self, weights: f64, cell: f64, sequences: f64) -> f64 {
        let (behind, tokens) = (f64::from(self.behind), f64::from(self.tokens));
        let bytes = weights + cell * (behind + (tokens + 1.0) / 2.0);
        let mean = (self.reads[0] + self.reads[1]) / 2.0;
        tokens * sequences * bytes / self.seconds / mean * 100.0
    }
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
        let slices = Vec::new();
        Row { tokens, depth, sequences, median, min: at(0), max: at(last), per_sequence, samples, slices }
    }

    /// Of what could be read around them, what slices used, in percent, the median of those around which memory kept its
    /// speed; of all if there are none. A token reads so many bytes of `weights`, and `cell` bytes for each in its cache.
    pub fn percent_of_reads(&self, weights: f64, cell: f64) -> Option<f64> {
        let sequences = f64::from(self.sequences);
        let of = |all: &mut dyn Iterator<Item = &Slice>| {
            median(&all.map(|s| s.percent(weights, cell, sequences)).collect::<Vec<_>>())
        };
        of(&mut self.slices.iter().filter(|s| s.steady())).or_else(|| of(&mut self.slices.iter()))
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
    /// for no tokens. Between slices of each measurement memory is read by what `reader` makes after that round, which
    /// takes none of the time that counts.
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
        self.round(n, chunk, None)?;
        let reader = reader()?;
        let (mut samples, mut slices) = (Vec::new(), Vec::new());
        for _ in 0..repetitions {
            let round = self.round(n, chunk, reader.as_ref())?;
            samples.push(total / round.iter().map(|s| s.seconds).sum::<f64>());
            slices.extend(round);
        }
        if reader.is_none() {
            slices.clear();
        }
        Ok((Some(Row { slices, ..Row::new(n, self.depth, sequences, samples) }), reader))
    }

    /// Runs `n` tokens behind the filled ones, with logits for the last of each step: one slice, or as many as there are
    /// with readings between them.
    fn round(&mut self, n: u32, chunk: u32, reader: Option<&Reader>) -> Result<Vec<Slice>> {
        // What was filled stays in the cache.
        self.sessions.iter_mut().for_each(|s| s.truncate(self.depth));
        let least = reader.map_or(Duration::MAX, |_| SLICE);
        let read = || reader.map_or(0.0, Reader::glance);
        let (mut slices, mut done, mut before) = (Vec::new(), 0, read());
        while done < n {
            let (behind, start) = (self.depth + done, Instant::now());
            while done < n && start.elapsed() < least {
                let now = chunk.clamp(1, n - done);
                self.step(self.depth + done, now, Logits::Last)?;
                done += now;
            }
            let seconds = start.elapsed().as_secs_f64().max(1e-9);
            let after = read();
            let (tokens, reads) = (self.depth + done - behind, [before, after]);
            slices.push(Slice { behind, tokens, seconds, reads });
            before = after;
        }
        Ok(slices)
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
        assert_eq!(s.percent_of_reads(1.0, 0.0), None);
    }

    #[test]
    fn slices_count_where_memory_kept_its_speed() {
        let slice = |behind, seconds, reads| Slice { behind, tokens: 4, seconds, reads };
        let row = |slices: &[Slice]| Row { slices: slices.to_vec(), ..Row::new(4, 0, 2, vec![1.0]) };
        // Two sequences of four tokens in a second, each 10 bytes, are 80 bytes of 160 that could be read.
        let half = slice(0, 1.0, [158.0, 162.0]);
        assert_eq!(row(&[half]).percent_of_reads(10.0, 0.0), Some(50.0));
        // Cells: 0 to 3 lie before, and its own.
        assert_eq!(row(&[half]).percent_of_reads(0.0, 4.0), Some(50.0));
        let (slower, torn) = (slice(4, 2.0, [160.0, 160.0]), slice(8, 1.0, [80.0, 160.0]));
        assert_eq!(row(&[half, torn, slower]).percent_of_reads(10.0, 0.0), Some(37.5));
        assert_eq!(row(&[torn]).percent_of_reads(9.0, 0.0), Some(60.0));
    }
}
