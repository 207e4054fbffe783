//! What a rendering may cost. A template comes from a file, and a file is not trusted.
//!
//! The template engine counts instructions; here the work behind them is counted, in units of one value or
//! sixteen bytes, before it is done. What a rendering can hold in memory is bounded by the same count.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Longest template in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Units of work beside what the conversation itself allows.
const WORK: u64 = 2 << 20;
/// Bytes of output beside what the conversation itself allows.
const OUTPUT: u64 = 8 << 20;
/// Instructions beside what the conversation itself allows.
const FUEL: u64 = 1 << 20;
/// Deepest nesting of lists and maps.
const MAX_DEPTH: u32 = 64;
/// Bytes that count as one unit.
const BYTES: u64 = 16;

/// Which limit was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    Budget = 1,
    Output = 2,
    Depth = 3,
    Raised = 4,
}

/// Size of what a template is rendered with.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputSize {
    pub bytes: u64,
    pub values: u64,
    pub messages: u64,
}

/// The account of one rendering; clones share it.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Account>);

#[derive(Debug)]
struct Account {
    work: AtomicU64,
    output: AtomicU64,
    fuel: u64,
    tripped: AtomicU8,
}

impl Meter {
    /// Limits that grow with the conversation: templates look through all of it for every message.
    pub fn new(input: InputSize) -> Meter {
        let units = (input.bytes / BYTES).saturating_add(input.values);
        let square = input.messages.saturating_mul(input.messages);
        let work = WORK.saturating_add(units.saturating_mul(256)).saturating_add(square.saturating_mul(16));
        let fuel = input.messages.saturating_mul(2048).saturating_add(square.saturating_mul(64));
        Meter(Arc::new(Account {
            work: AtomicU64::new(work),
            output: AtomicU64::new(OUTPUT.saturating_add(input.bytes.saturating_mul(8))),
            fuel: FUEL.saturating_add(fuel),
            tripped: AtomicU8::new(0),
        }))
    }

    /// Instructions that may be run.
    pub fn fuel(&self) -> u64 {
        self.0.fuel
    }

    /// The limit that ended the rendering.
    pub fn tripped(&self) -> Option<Trip> {
        [Trip::Budget, Trip::Output, Trip::Depth, Trip::Raised]
            .into_iter()
            .find(|t| *t as u8 == self.0.tripped.load(Relaxed))
    }

    /// Records why the rendering ends and makes the error that ends it.
    pub fn trip(&self, why: Trip, text: impl Into<String>) -> Error {
        self.0.tripped.store(why as u8, Relaxed);
        Error::new(ErrorKind::InvalidOperation, text.into())
    }

    /// Pays for work.
    pub fn charge(&self, units: u64) -> Result<(), Error> {
        let left = self.0.work.load(Relaxed);
        if units > left {
            return Err(self.trip(Trip::Budget, "the template does too much work"));
        }
        self.0.work.store(left - units, Relaxed);
        Ok(())
    }

    /// Pays for text.
    pub fn charge_bytes(&self, bytes: usize) -> Result<(), Error> {
        self.charge(1 + bytes as u64 / BYTES)
    }

    /// Pays for text that goes out.
    pub fn charge_output(&self, bytes: usize) -> Result<(), Error> {
        let left = self.0.output.load(Relaxed);
        if bytes as u64 > left {
            return Err(self.trip(Trip::Output, "the template writes too much"));
        }
        self.0.output.store(left - bytes as u64, Relaxed);
        Ok(())
    }

    /// Pays for a value that is looked at without what is in it.
    pub fn shallow(&self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.charge_bytes(value.as_str().map_or(0, str::len)),
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
                self.charge(1 + value.len().unwrap_or(0) as u64)
            }
            _ => self.charge(1),
        }
    }

    /// Pays for a value and everything in it. Values that are nested too deeply end the rendering: the engine
    /// walks them by recursion.
    pub fn deep(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, MAX_DEPTH)
    }

    fn walk(&self, value: &Value, depth: u32) -> Result<(), Error> {
        self.shallow(value)?;
        // An iterable without a length can be one that is used up by looking at it.
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
            || value.len().is_none()
        {
            return Ok(());
        }
        if depth == 0 {
            return Err(self.trip(Trip::Depth, "values are nested too deeply"));
        }
        let map = value.kind() == ValueKind::Map;
        for item in value.try_iter()? {
            let inner = if map { value.get_item(&item)? } else { item };
            self.walk(&inner, depth - 1)?;
        }
        Ok(())
    }
}
