//! Cells: the programs in turn, again and again.

use super::args::Want;
use super::child::{self, Outcome};
use super::files::Model;
use super::programs::{Job, Sample, Who, command, sample};
use super::result::{Cell, Entry, Spread, Turn, Work, choose};
use quipu::backends::measure::Reader;
use quipu::loader::file_type::FileType;

/// One who takes part in a cell.
struct Racer {
    who: Who,
    repack: Option<bool>,
    entry: Entry,
    /// The best read rate it saw and the bytes a token reads.
    read: Option<(f64, f64)>,
    /// What each run used of what memory gave around it.
    percents: Vec<Option<f64>>,
    version: Option<String>,
}

/// What a cell gave beside its figures.
pub struct Measured {
    pub cell: Cell,
    /// What the programs say their versions are.
    pub versions: Vec<(&'static str, String)>,
}

/// Turns for each that is wanted, at most: those in which memory changed its speed are taken again.
const TRIES: usize = 3;

/// Measures one kind of work of one file. What memory limits is watched by `reader`.
pub fn measure(
    want: &Want,
    model: &Model,
    work: Work,
    prompt: &str,
    reader: Option<&mut Reader>,
) -> Measured {
    let run = Run { want, model, prompt };
    let mut racers = run.racers(work);
    // Memory does not move from run to run.
    let pairs = if matches!(work, Work::Memory { .. }) { 1 } else { want.pairs };
    if work == Work::Start {
        // Once for the page cache, for whoever is first.
        let _ =
            std::fs::File::open(&model.path).and_then(|mut f| std::io::copy(&mut f, &mut std::io::sink()));
    }
    let mut reader = reader.filter(|_| work.is_watched());
    let most = if reader.is_some() { TRIES * pairs } else { pairs };
    let mut turns: Vec<Turn> = Vec::new();
    while turns.len() < most && turns.iter().filter(|t| t.steady()).count() < pairs {
        let mut reads: Vec<f64> = reader.iter_mut().map(|r| r.now()).collect();
        for r in &mut racers {
            // A second failure would say no more, and could take as long as the first.
            let found = if r.entry.failure.is_some() { None } else { Some(run.once(r, work)) };
            match found {
                Some(Ok(s)) => r.take(s),
                Some(Err(why)) => match run.with_the_other_setting(r, work) {
                    Some(s) => r.take(s),
                    None => {
                        r.entry.failure = Some(why);
                        r.entry.samples.push(None);
                    }
                },
                None => r.entry.samples.push(None),
            }
            r.percents.resize(r.entry.samples.len(), None);
            reads.extend(reader.iter_mut().map(|r| r.now()));
        }
        turns.push(Turn { reads, counts: true });
    }
    choose(&mut turns, pairs);
    for r in &mut racers {
        r.set_aside(&turns);
    }
    let ours = racers.iter().find(|r| r.who == Who::Quipu);
    let read = ours.and_then(|r| r.read);
    let median = ours.and_then(|r| r.entry.spread()).map(|s| s.median);
    let percent = median.zip(read).map(|(m, (bytes, rate))| m * bytes / rate * 100.0);
    let own = ours.and_then(|r| Spread::of(r.percents.iter().flatten().copied()));
    let versions = racers.iter().filter_map(|r| Some((r.who.name(), r.version.clone()?))).collect();
    let cell = Cell {
        file: model.name(),
        work,
        entries: racers.into_iter().map(|r| r.entry).collect(),
        percent_of_read: percent,
        percent_of_own_read: own,
        read_bytes_per_second: read.map(|(_, rate)| rate),
        turns: if reader.is_some() { turns } else { vec![] },
    };
    Measured { cell, versions }
}

/// A setting as tables call it.
fn named(repack: Option<bool>) -> String {
    match repack {
        None => String::new(),
        Some(true) => "repack".into(),
        Some(false) => "no repack".into(),
    }
}

impl Racer {
    fn new(who: Who, repack: Option<bool>) -> Racer {
        let entry = Entry {
            program: who.name().into(),
            setting: named(repack),
            shown_only: false,
            samples: vec![],
            left_out: vec![],
            failure: None,
            command: String::new(),
        };
        Racer { who, repack, entry, read: None, percents: vec![], version: None }
    }

    fn take(&mut self, s: Sample) {
        self.entry.samples.push(Some(s.value));
        self.version = s.version.or(self.version.take());
        self.percents.push(s.percent);
        if let Some((bytes, rate)) = s.read {
            // The limit is the best rate that was seen.
            self.read = Some((bytes, self.read.map_or(rate, |(_, old)| old.max(rate))));
        }
    }

    /// Sets aside what it did in turns that do not count.
    fn set_aside(&mut self, turns: &[Turn]) {
        let samples = std::mem::take(&mut self.entry.samples);
        let percents = std::mem::take(&mut self.percents);
        for ((sample, percent), turn) in samples.into_iter().zip(percents).zip(turns) {
            if turn.counts {
                self.entry.samples.push(sample);
                self.percents.push(percent);
            } else {
                self.entry.left_out.push(sample);
            }
        }
    }
}

/// What does not change within a cell.
struct Run<'a> {
    want: &'a Want,
    model: &'a Model,
    prompt: &'a str,
}

impl Run<'_> {
    fn job(&self, work: Work, repack: Option<bool>) -> Job<'_> {
        let (want, model) = (self.want, self.model);
        Job {
            work,
            path: &model.path,
            threads: want.threads,
            repetitions: want.repetitions,
            prompt: self.prompt,
            repack,
        }
    }

    /// Those who take part, with the settings that short trials found best.
    fn racers(&self, work: Work) -> Vec<Racer> {
        let mut racers = Vec::new();
        let f16 = FileType::named("F16").is_ok_and(|t| t == self.model.file_type);
        for who in Who::ALL {
            if let Err(why) = command(who, &self.want.quipu, &self.job(work, None)) {
                let mut r = Racer::new(who, None);
                r.entry.failure = Some(why);
                racers.push(r);
                continue;
            }
            // Start and memory are those of the defaults.
            let repack = match who {
                Who::Llama if work.is_speed() => Some(self.better_setting(who, work)),
                // Its repacking makes BF16 of F16.
                Who::Ik if work.is_speed() && f16 => Some(false),
                Who::Ik if work.is_speed() => Some(self.better_setting(who, work)),
                _ => None,
            };
            racers.push(Racer::new(who, repack));
            if who == Who::Ik && work.is_speed() && f16 {
                let mut r = Racer::new(who, Some(true));
                r.entry.shown_only = true;
                r.entry.setting = "as BF16".into();
                racers.push(r);
            }
        }
        for r in &mut racers {
            if let Ok(line) = command(r.who, &self.want.quipu, &self.job(work, r.repack)) {
                let set =
                    variables(r.who, self.want).into_iter().map(|(name, value)| format!("{name}={value} "));
                r.entry.command = set.collect::<String>() + &shown(&line, self.want);
            }
        }
        racers
    }

    /// Whether a peer is faster with repacked weights, by one short run of each.
    fn better_setting(&self, who: Who, work: Work) -> bool {
        let short = match work {
            Work::Prompt { tokens } => Work::Prompt { tokens: (tokens / 4).max(64).min(tokens) },
            Work::Parallel { sequences, .. } => Work::Parallel { sequences, behind: 16, tokens: 8 },
            Work::Depth { behind, .. } => Work::Depth { behind: behind.min(128), tokens: 16 },
            _ => Work::Generate { tokens: 16 },
        };
        let speed = |repack| {
            let line = command(who, &self.want.quipu, &self.job(short, Some(repack))).ok()?;
            sample(who, short, &child::run(&line, &[], self.want.timeout, &self.want.dir))
                .ok()
                .map(|s| s.value)
        };
        // A setting that fails loses.
        speed(true).unwrap_or(0.0) >= speed(false).unwrap_or(0.0)
    }

    /// A peer that fails before it has a figure, perhaps only in the setting it has, gets another chance without
    /// repacking.
    fn with_the_other_setting(&self, r: &mut Racer, work: Work) -> Option<Sample> {
        let tried = r.repack == Some(false) || r.entry.shown_only || !r.entry.samples.is_empty();
        if r.who != Who::Llama || tried {
            return None;
        }
        let job = self.job(work, Some(false));
        let line = command(r.who, &self.want.quipu, &job).ok()?;
        let s = sample(r.who, work, &child::run(&line, &[], self.want.timeout, &self.want.dir)).ok()?;
        r.repack = Some(false);
        r.entry.setting = format!("{}, as repacking failed", named(r.repack));
        r.entry.command = shown(&line, self.want);
        Some(s)
    }

    fn once(&self, r: &Racer, work: Work) -> Result<Sample, String> {
        let line = command(r.who, &self.want.quipu, &self.job(work, r.repack))?;
        if work == Work::Cold {
            self.model.drop_from_cache()?;
        }
        let outcome: Outcome =
            child::run(&line, &variables(r.who, self.want), self.want.timeout, &self.want.dir);
        let disk = outcome.disk_bytes.unwrap_or(0);
        if work == Work::Cold && outcome.failure.is_none() && disk < self.model.bytes / 2 {
            let [disk, file] = [disk, self.model.bytes].map(|b| b >> 20);
            return Err(format!("the file stayed in memory: {disk} of {file} MiB came from a disk"));
        }
        sample(r.who, work, &outcome)
    }
}

fn variables(who: Who, want: &Want) -> Vec<(String, String)> {
    let isa = want.isa.filter(|_| who == Who::Quipu);
    isa.map(|isa| ("QUIPU_ISA".to_string(), isa.to_string())).into_iter().collect()
}

/// A command line for people: programs and the file without their folders, the prompt in quotes.
fn shown(line: &[String], want: &Want) -> String {
    let folder = want.dir.to_string_lossy();
    let words = line.iter().enumerate().map(|(i, word)| {
        let word = word.strip_prefix(&*folder).map_or(word.as_str(), |w| w.trim_start_matches('/'));
        let word = if i == 0 { word.rsplit('/').next().unwrap_or(word) } else { word };
        if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Seconds that a cell will take, roughly, on two cores: so that nobody waits without knowing.
pub fn estimate(want: &Want, model: &Model, work: Work, programs: usize) -> f64 {
    let prefill = |tokens: u32| f64::from(tokens) * 2.0 * model.parameters() / 250e9;
    let decode = |tokens: u32| f64::from(tokens) * model.bytes as f64 / 25e9;
    let load = 0.3 + model.bytes as f64 / 2e9;
    let reps = want.repetitions as f64;
    let (pairs, n) = (want.pairs as f64, programs as f64);
    // Ours warms up with a whole round and measures how fast memory can be read.
    let (one, ours) = match work {
        Work::Prompt { tokens } => ((reps + 1.0) * prefill(tokens), 0.0),
        Work::Generate { tokens } => (reps * decode(tokens), decode(tokens) + 6.0),
        Work::Depth { behind, tokens } => {
            (1.5 * prefill(behind) + reps * decode(tokens), decode(tokens) + 6.0)
        }
        Work::Parallel { sequences, behind, tokens } => {
            (prefill(sequences * behind) + reps * decode(tokens) * 3.0, 6.0)
        }
        Work::Start => (prefill(16), 0.0),
        Work::Cold => (prefill(16) + model.bytes as f64 / 0.5e9, 0.0),
        Work::Memory { tokens } => return n * (load + 2.0 * prefill(tokens) + decode(8)),
    };
    let trials = if work.is_speed() { 2.0 * (n - 1.0) * (load + one / 4.0) } else { 0.0 };
    pairs * (n * (load + one) + ours) + trials
}
