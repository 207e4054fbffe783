//! A run held to its forecast: bytes that were planned beside bytes that were taken.

use super::{Engine, Memory, RunForecast, Session};
use crate::debug::machine::peak_memory;
use serde::Serialize;

/// Something that was planned, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What it is.
    pub what: &'static str,
    /// Bytes that were planned.
    pub planned: u64,
    /// Bytes that were found.
    pub found: u64,
    /// Fewest bytes that are as planned.
    pub least: u64,
    /// Most bytes that are as planned.
    pub most: u64,
    /// Whether it is as planned.
    pub holds: bool,
}

impl Held {
    fn new(what: &'static str, planned: u64, found: u64, least: u64, most: u64) -> Held {
        Held { what, planned, found, least, most, holds: (least..=most).contains(&found) }
    }
    fn exact(what: &'static str, planned: u64, found: u64) -> Held {
        Held::new(what, planned, found, planned, planned)
    }
}

impl RunForecast {
    /// Holds an engine and a session that have run to this forecast, which was made before they were loaded. What the
    /// engine allocates is as planned to the byte. The peak of this process is at most [`Memory::SLACK`] above the
    /// total, and as much below what must have been touched: of a mapped file and of a cache the system counts the
    /// pages that were. It is left out where the system does not tell.
    pub fn hold(&self, engine: &Engine, session: &Session) -> Vec<Held> {
        let mapped = engine.gguf().files().filter(|f| f.is_mapped()).map(|f| f.len() as u64).sum();
        let cells = session.len().min(session.n_ctx());
        let used = session.cache_bytes() / u64::from(session.n_ctx().max(1)) * u64::from(cells);
        let found = Memory { cache: session.cache_bytes(), ..engine.memory() };
        self.compare(&found, mapped, used, peak_memory())
    }

    /// `mapped` bytes of the file may be untouched, and `used` bytes of the cache are not.
    fn compare(&self, found: &Memory, mapped: u64, used: u64, peak: Option<u64>) -> Vec<Held> {
        let planned = self.memory();
        let mut held = vec![
            Held::exact("file", planned.file, found.file),
            Held::exact("tokenizer", planned.tokenizer, found.tokenizer),
            Held::exact("arena", planned.arena, found.arena),
            Held::exact("scratch", planned.scratch, found.scratch),
            Held::exact("logits", planned.logits, found.logits),
            Held::exact("cache", planned.cache, found.cache),
        ];
        if let Some(peak) = peak {
            let total = planned.total();
            let touched = Memory { cache: used, ..*planned }.total().saturating_sub(mapped);
            let (least, most) = (touched.saturating_sub(Memory::SLACK), total.saturating_add(Memory::SLACK));
            held.push(Held::new("peak", total, peak, least, most));
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineOptions;
    use crate::loader::synth::synth_header;
    use crate::loader::{Bytes, Gguf, ParseOptions};
    use crate::quant::DType;

    #[test]
    fn every_line_is_held() {
        let parse = ParseOptions { header_only: true, ..ParseOptions::default() };
        let header = synth_header("tinyllama-1.1b", DType::Q8_0).unwrap();
        let file = Gguf::parse(Bytes::from(header), &parse).unwrap();
        let forecast = RunForecast::new(&file, &EngineOptions::default()).unwrap();
        let m = *forecast.memory();
        let broken = |found: Memory, peak| {
            let held = forecast.compare(&found, 0, m.cache / 2, peak);
            held.iter().filter(|h| !h.holds).map(|h| h.what).collect::<Vec<_>>()
        };
        let total = m.total();
        assert!(broken(m, Some(total)).is_empty() && broken(m, None).is_empty());
        assert!(broken(m, Some(total - m.cache / 2)).is_empty(), "half of the cache was not touched");
        assert_eq!(broken(Memory { arena: m.arena + 1, ..m }, None), ["arena"]);
        assert_eq!(broken(Memory { cache: m.cache - 64, scratch: 0, ..m }, None), ["scratch", "cache"]);
        assert_eq!(broken(m, Some(total + Memory::SLACK + 1)), ["peak"]);
        assert_eq!(broken(m, Some(total - m.cache / 2 - Memory::SLACK - 1)), ["peak"]);
        // A mapped file that nobody has read is no difference.
        assert!(forecast.compare(&m, m.file, m.cache, Some(total - m.file)).iter().all(|h| h.holds));
    }
}
