//! `quipu run --assert-plan`: what a run took beside what was forecast before it.

use quipu::engine::{Engine, Held, Pace, RunForecast, Session, Timings};
use quipu::error::{Error, Problem};
use quipu::plan::forecast::Limits;
use quipu::plan::report::human_bytes;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A speed beside its forecast.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    tokens_per_second: f64,
    forecast_tokens_per_second: f64,
    /// Measured over forecast.
    ratio: f64,
}

impl Speed {
    fn new(forecast: Pace, time: Duration) -> Option<Speed> {
        let measured = f64::from(forecast.tokens) / time.as_secs_f64();
        (forecast.tokens > 0 && !time.is_zero()).then(|| Speed {
            tokens_per_second: measured,
            forecast_tokens_per_second: forecast.tokens_per_second,
            ratio: measured / forecast.tokens_per_second,
        })
    }
}

/// What was planned and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct PlanCheck {
    /// Whether all bytes are as planned. Speeds are reported, not held.
    holds: bool,
    memory: Vec<Held>,
    prompt: Option<Speed>,
    generated: Option<Speed>,
}

impl PlanCheck {
    /// Of a run of `decoded` passes of one token behind its prompt; the speeds only with limits.
    pub fn new(
        forecast: &RunForecast,
        limits: Option<&Limits>,
        (engine, session): (&Engine, &Session),
        (t, decoded): (Timings, usize),
    ) -> PlanCheck {
        let memory = forecast.hold(engine, session);
        let (prompt, decoded) = (t.prompt_tokens as u32, decoded as u32);
        PlanCheck {
            holds: memory.iter().all(|h| h.holds),
            prompt: limits.and_then(|l| Speed::new(forecast.prompt(l, 0, prompt), t.prompt)),
            generated: limits.and_then(|l| Speed::new(forecast.generation(l, prompt, decoded), t.generated)),
            memory,
        }
    }

    /// Errors: `PlanNotHeld` (runtime) for every line that is not as planned.
    pub fn result(&self) -> Result<(), Error> {
        let range = |h: &Held| match h.least == h.most {
            true => format!("{} bytes", h.planned),
            false => format!("{} to {} bytes", h.least, h.most),
        };
        let broken = self.memory.iter().filter(|h| !h.holds).map(|h| {
            Problem::new("PlanNotHeld", h.what).found(format!("{} bytes", h.found)).expected(range(h))
        });
        Error::from_problems(quipu::Class::Runtime, broken.collect())
    }
}

impl fmt::Display for PlanCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for h in &self.memory {
            let verdict = if h.holds { "ok" } else { "DIFFERS" };
            let slack = if h.least == h.most { "" } else { ", within the slack" };
            let (planned, found) = (human_bytes(h.planned), human_bytes(h.found));
            let slack = if h.holds { slack } else { "" };
            writeln!(f, "{:<12} {planned:>13}  planned, {found} found: {verdict}{slack}", h.what)?;
        }
        for (what, speed) in [("prompt", &self.prompt), ("generated", &self.generated)] {
            let Some(s) = speed else { continue };
            let percent = 100.0 * s.ratio;
            let (measured, forecast) = (s.tokens_per_second, s.forecast_tokens_per_second);
            writeln!(f, "{what:<12} {measured:>7.1} tok/s  {percent:.1} % of the forecast {forecast:.1}")?;
        }
        write!(f, "the plan {}", if self.holds { "held" } else { "did not hold" })
    }
}
