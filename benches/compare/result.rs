//! What was measured, and the figures that follow from it.

use serde::Serialize;

/// A kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A prompt of so many tokens.
    Prompt { tokens: u32 },
    /// Tokens one by one, from an empty cache.
    Generate { tokens: u32 },
    /// Tokens one by one, behind so many in the cache.
    Depth { behind: u32, tokens: u32 },
    /// Tokens of several sequences, one of each in a step.
    Parallel { sequences: u32, behind: u32, tokens: u32 },
    /// From the start of the process to its end after one token.
    Start,
    /// The same with the file out of the page cache.
    Cold,
    /// The largest resident size of a process that runs a prompt and some tokens.
    Memory { tokens: u32 },
}

impl Work {
    /// As rows of the table are called.
    pub fn label(&self) -> String {
        match *self {
            Work::Prompt { tokens } => format!("pp{tokens}"),
            Work::Generate { tokens } => format!("tg{tokens}"),
            Work::Depth { behind, tokens } => format!("tg{tokens} behind {behind}"),
            Work::Parallel { sequences, behind, tokens } => {
                format!("{sequences} x tg{tokens} behind {behind}")
            }
            Work::Start => "start to first token".into(),
            Work::Cold => "the same, file not in memory".into(),
            Work::Memory { tokens } => format!("peak memory, pp{tokens} and tg8"),
        }
    }

    /// Whether it is a speed, of which more is better; else a time or a size.
    pub fn is_speed(&self) -> bool {
        !matches!(self, Work::Start | Work::Cold | Work::Memory { .. })
    }

    /// Whether memory sets its speed, so that it matters when memory changes its own.
    pub fn is_watched(&self) -> bool {
        matches!(self, Work::Generate { .. } | Work::Depth { .. })
    }

    /// One figure with its unit, which is tokens per second, seconds or bytes.
    pub fn show(&self, x: f64) -> String {
        match self {
            Work::Memory { .. } => format!("{:.0} MiB", x / 1_048_576.0),
            Work::Start | Work::Cold => format!("{x:.3} s"),
            _ if x < 100.0 => format!("{x:.1}"),
            _ => format!("{x:.0}"),
        }
    }
}

/// One program in one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// `quipu` or a peer.
    pub program: String,
    /// What was set on purpose, `repack` or `no repack`; empty for defaults.
    pub setting: String,
    /// Not raced: what is lost on the way is more than a ratio may hide.
    pub shown_only: bool,
    /// One per turn that counts; none for a turn in which it was not run.
    pub samples: Vec<Option<f64>>,
    /// Those of the other turns.
    pub left_out: Vec<Option<f64>>,
    /// Why there are no samples, or no more.
    pub failure: Option<String>,
    /// The command line.
    pub command: String,
}

/// One measurement of one file by all programs, in turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    pub file: String,
    pub work: Work,
    pub entries: Vec<Entry>,
    /// Of the best read rate of the cell, what our median uses, in percent.
    pub percent_of_read: Option<f64>,
    /// Of what memory gave right before and after each of our runs, what it used, in percent.
    pub percent_of_own_read: Option<Spread>,
    /// The best read rate in bytes per second.
    pub read_bytes_per_second: Option<f64>,
    /// The turns, where memory was watched.
    pub turns: Vec<Turn>,
}

/// The programs in turn, once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turn {
    /// How fast memory could be read before each run and after the last, in bytes per second.
    pub reads: Vec<f64>,
    /// Whether its samples count.
    pub counts: bool,
}

impl Turn {
    /// Whether memory kept its speed, within 15 %: else programs did not race on the same machine.
    pub fn steady(&self) -> bool {
        let least = self.reads.iter().copied().fold(f64::INFINITY, f64::min);
        self.reads.iter().all(|r| *r <= 1.15 * least)
    }
}

/// Says which turns count: the steady ones, or all if fewer than half of those that were wanted are steady.
pub fn choose(turns: &mut [Turn], wanted: usize) {
    let steady = turns.iter().filter(|t| t.steady()).count();
    let all = 2 * steady < wanted;
    turns.iter_mut().for_each(|t| t.counts = all || t.steady());
}

/// The middle and the ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut v: Vec<f64> = figures.into_iter().collect();
        v.sort_by(f64::total_cmp);
        let (min, max) = (*v.first()?, *v.last()?);
        Some(Spread { median: (v[v.len() / 2] + v[(v.len() - 1) / 2]) / 2.0, min, max })
    }
}

impl Entry {
    /// Of its samples.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().flatten().copied())
    }

    /// Of the pairs' ratios of this one over another.
    pub fn over(&self, other: &Entry) -> Option<Spread> {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.filter_map(|(a, b)| Some((*a)? / (*b)?)))
    }
}

impl Cell {
    /// Of a program, the raced one.
    pub fn entry(&self, program: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.program == program && !e.shown_only)
    }

    /// The peer whose median is best.
    pub fn better_peer(&self) -> Option<&Entry> {
        let peers = self.entries.iter().filter(|e| e.program != "quipu" && !e.shown_only);
        let scored = peers.filter_map(|e| Some((e, e.spread()?.median)));
        let best = scored.max_by(|a, b| {
            let order = a.1.total_cmp(&b.1);
            if self.work.is_speed() { order } else { order.reverse() }
        });
        best.map(|(e, _)| e)
    }

    /// Ours over the better peer's, pair by pair.
    pub fn ratio(&self) -> Option<Spread> {
        self.entry("quipu")?.over(self.better_peer()?)
    }
}

/// How long planning takes.
#[derive(Clone, Debug, Serialize)]
pub struct PlanTime {
    pub shape: String,
    pub layers: u32,
    /// What is planned: `graph`, `decode`, `prefill`.
    pub what: &'static str,
    /// Milliseconds.
    pub milliseconds: Spread,
}

/// A program that was run.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    pub name: String,
    /// What it says its version is; empty where it says none.
    pub version: String,
    /// The variables that name it, or why it is left out.
    pub found: String,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub date: String,
    pub machine: String,
    pub memory: String,
    pub threads: usize,
    pub isa: String,
    pub pairs: usize,
    pub repetitions: usize,
    /// The arguments of the comparison.
    pub arguments: Vec<String>,
    pub programs: Vec<Program>,
    pub cells: Vec<Cell>,
    pub plan: Vec<PlanTime>,
}
