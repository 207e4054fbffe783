//! What this machine can do, measured once and kept in a file: the limits that forecasts hold runs against.
//!
//! One row per instruction set and number of threads. The file is JSON, lies in the user's cache folder
//! ([`Machine::path`]), and counts only on the processor it was measured on.

use super::Isa;
use super::cpu::limits::{peak_bytes, peak_fma};
use super::measure::{ReadRate, barrier_seconds, read_rate};
use super::team::{MAX_THREADS, default_threads};
use crate::error::{Class, Error, Problem, Result, escape};
use crate::plan::forecast::Limits;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the file.
pub const FORMAT: u32 = 1;

/// Runs of each arithmetic measurement; the best counts.
const RUNS: usize = 7;

/// Most bytes a file of limits may have.
const MAX_BYTES: u64 = 1 << 20;

/// The limits of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// [`FORMAT`].
    pub format: u32,
    /// The processor's name.
    pub processor: String,
    /// One per instruction set and number of threads.
    pub limits: Vec<Limits>,
    /// How memory was read fastest, by number of threads.
    pub reads: Vec<ReadRate>,
}

/// 1, 2, 4, ... and all threads of this process.
pub fn thread_counts() -> Vec<usize> {
    let all = default_threads();
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < all).collect();
    counts.push(all);
    counts
}

impl Machine {
    /// Measures every instruction set of this machine at these numbers of threads, and calls `progress` before each
    /// measurement with what comes and how many of how many are done. Takes some ten seconds per number of threads.
    ///
    /// Errors: `OutOfRange` (usage) for a number of threads that no team can have; those of
    /// [`read_rate`] and [`barrier_seconds`].
    pub fn measure(threads: &[usize], mut progress: impl FnMut(&str, usize, usize)) -> Result<Machine> {
        let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|i| i.available()).collect();
        let total = threads.len() * (2 + isas.len());
        let mut done = 0;
        let mut step = |what: String| {
            progress(&what, done, total);
            done += 1;
        };
        let mut machine = Machine {
            format: FORMAT,
            processor: crate::debug::machine::processor(),
            limits: vec![],
            reads: vec![],
        };
        for &n in threads {
            if n == 0 || n > MAX_THREADS {
                let p = Problem::new("OutOfRange", "threads").found(n.to_string());
                return Err(Error::usage(p.expected(format!("1 to {MAX_THREADS}"))));
            }
            step(format!("memory, {n} threads"));
            let read = read_rate(n)?;
            step(format!("meetings, {n} threads"));
            let barrier = barrier_seconds(n)?;
            for &isa in &isas {
                step(format!("arithmetic, {isa}, {n} threads"));
                machine.limits.push(Limits {
                    isa,
                    threads: n as u32,
                    read_bytes_per_second: read.bytes_per_second,
                    float_ops_per_second: peak_fma(isa, n, RUNS),
                    byte_ops_per_second: peak_bytes(isa, n, RUNS),
                    barrier_seconds: barrier,
                });
            }
            machine.reads.push(read);
        }
        Ok(machine)
    }

    /// The limits for an instruction set and a number of threads; of the nearest lower number if it was not measured.
    pub fn find(&self, isa: Isa, threads: u32) -> Option<&Limits> {
        let of_isa = || self.limits.iter().filter(|l| l.isa == isa);
        of_isa()
            .filter(|l| l.threads <= threads)
            .max_by_key(|l| l.threads)
            .or_else(|| of_isa().min_by_key(|l| l.threads))
    }

    /// Where limits are kept: `QUIPU_LIMITS`, or `quipu/limits.json` in `XDG_CACHE_HOME` or `~/.cache`; `None` where
    /// none of them is set.
    pub fn path() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        set("QUIPU_LIMITS").or_else(|| cache().map(|dir| dir.join("quipu").join("limits.json")))
    }

    /// Reads a file of limits.
    ///
    /// Errors: `Io` (usage) if it cannot be read, `BadLimits` (input) if it holds something else or values that no
    /// machine has.
    pub fn load(path: &Path) -> Result<Machine> {
        let name = || escape(&path.to_string_lossy());
        let io = |e: std::io::Error| {
            let p = Problem::new("Io", name()).found(e.to_string());
            Error::usage(p.hint("measure this machine with quipu calibrate"))
        };
        let bad = |why: String| {
            let p =
                Problem::new("BadLimits", name()).found(escape(&why)).expected("what quipu calibrate writes");
            Error::new(Class::Input, p.hint("measure this machine again with quipu calibrate"))
        };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
            return Err(bad("a large file".into()));
        }
        let text = std::fs::read(path).map_err(io)?;
        let machine: Machine = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if machine.format != FORMAT {
            return Err(bad(format!("format {}", machine.format)));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let sane = |l: &Limits| {
            l.threads > 0
                && [l.read_bytes_per_second, l.float_ops_per_second, l.byte_ops_per_second]
                    .into_iter()
                    .all(positive)
                && l.barrier_seconds.is_finite()
                && l.barrier_seconds >= 0.0
        };
        match machine.limits.iter().find(|l| !sane(l)) {
            Some(l) => Err(bad(format!("limits of {} threads that no machine has", l.threads))),
            None => Ok(machine),
        }
    }

    /// The limits kept for this machine, if there are any and they were measured on this processor.
    pub fn kept() -> Option<Machine> {
        let machine = Machine::load(&Machine::path()?).ok()?;
        (machine.processor == crate::debug::machine::processor()).then_some(machine)
    }

    /// Writes a file of limits, and the folder for it.
    ///
    /// Errors: `Io` (runtime).
    pub fn save(&self, path: &Path) -> Result<()> {
        let io = |e: std::io::Error| {
            Error::runtime(Problem::new("Io", escape(&path.to_string_lossy())).found(e.to_string()))
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let json = serde_json::to_string_pretty(self).map_err(|e| io(e.into()))?;
        std::fs::write(path, json + "\n").map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(isa: Isa, threads: u32) -> Limits {
        Limits {
            isa,
            threads,
            read_bytes_per_second: 1e10,
            float_ops_per_second: 1e11,
            byte_ops_per_second: 2e11,
            barrier_seconds: 1e-6,
        }
    }

    fn machine() -> Machine {
        let limits = [1, 2, 4].into_iter().map(|n| limits(Isa::Avx2, n)).collect();
        Machine { format: FORMAT, processor: "a processor".into(), limits, reads: vec![] }
    }

    #[test]
    fn the_nearest_lower_number_of_threads_stands_in() {
        let m = machine();
        let threads = |n| m.find(Isa::Avx2, n).map(|l| l.threads);
        assert_eq!([1, 2, 3, 4, 64].map(threads), [Some(1), Some(2), Some(2), Some(4), Some(4)]);
        assert_eq!(m.find(Isa::Avx512, 2), None);
    }

    #[test]
    fn files_are_read_back_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("limits.json");
        assert_eq!(Machine::load(&path).unwrap_err().code(), "Io");
        machine().save(&path).unwrap();
        assert_eq!(Machine::load(&path).unwrap(), machine());
        for damage in ["", "{}", "[1]", "\u{1b}[2J"] {
            std::fs::write(&path, damage).unwrap();
            assert_eq!(Machine::load(&path).unwrap_err().code(), "BadLimits", "{damage:?}");
        }
        let mut none = machine();
        none.limits[0].read_bytes_per_second = 0.0;
        none.save(&path).unwrap();
        assert_eq!(Machine::load(&path).unwrap_err().code(), "BadLimits");
        let old = Machine { format: 0, ..machine() };
        old.save(&path).unwrap();
        assert_eq!(Machine::load(&path).unwrap_err().code(), "BadLimits");
    }
}
