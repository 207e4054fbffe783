//! The activations of a pass, taken from the plan that really runs.

use super::step::Place;
use super::{Engine, Logits, StepInput};
use crate::backends::observe::Observed;
use crate::debug::fault::Fault;
use crate::error::Result;
use std::collections::HashMap;

/// What to trace.
#[derive(Clone, Debug, Default)]
pub struct TraceOptions {
    /// Names of values, with their layer (`l_out-3`) or without (`l_out`); empty for all.
    pub names: Vec<String>,
    /// An error made on purpose, to show that it is found.
    pub inject: Option<Fault>,
}

impl TraceOptions {
    fn wants(&self, name: &str) -> bool {
        let base = name.rsplit_once('-').map_or(name, |(base, _)| base);
        self.names.is_empty() || self.names.iter().any(|n| n == name || n == base)
    }
}

/// One value, row by row as f32.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceValue {
    /// Its name in the graph.
    pub name: String,
    /// Elements of a row.
    pub cols: u32,
    /// Rows times `cols` elements; block types decoded.
    pub data: Vec<f32>,
}

/// The values of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// In the order in which commands make them.
    pub values: Vec<TraceValue>,
    /// Values of the graph that fusion left out of the plan.
    pub gone: Vec<String>,
}

impl Trace {
    /// The value with this name.
    pub fn find(&self, name: &str) -> Option<&TraceValue> {
        self.values.iter().find(|v| v.name == name)
    }
}

/// Gathers rows over the passes of a text.
#[derive(Default)]
struct Collector {
    values: Vec<TraceValue>,
    index: HashMap<String, usize>,
}

impl Collector {
    fn take(&mut self, options: &TraceOptions, seen: &mut Observed<'_>) {
        for mut result in seen.results() {
            let (name, info) = (result.name, result.dtype.info());
            let (true, Some(codec)) = (options.wants(name), result.dtype.codec()) else { continue };
            let i = match self.index.get(name) {
                Some(i) => *i,
                None => {
                    self.values.push(TraceValue { name: name.into(), cols: result.cols, data: Vec::new() });
                    self.index.insert(name.into(), self.values.len() - 1);
                    self.values.len() - 1
                }
            };
            let data = &mut self.values[i].data;
            for piece in result.bytes.pieces() {
                let start = data.len();
                data.resize(start + piece.len() / info.bytes as usize * info.block as usize, 0.0);
                (codec.decode)(piece, &mut data[start..]);
            }
        }
    }
}

impl Engine {
    /// Runs `tokens` through a session of its own, with logits for every one, and copies what the commands of the plan
    /// write. A value that fusion left out is listed in [`Trace::gone`]. A pass has at most `n_outputs` rows here, so
    /// an engine for tracing is best loaded with as many outputs as rows.
    ///
    /// Errors: those of [`Engine::step`] and [`Engine::new_session`]; `NoSuchValue` (usage) if the plan has no value to
    /// inject an error into.
    pub fn trace(&mut self, tokens: &[u32], options: &TraceOptions) -> Result<Trace> {
        let mut session = self.new_session()?;
        let mut collector = Collector::default();
        let mut injected = false;
        let mut observe = |mut seen: Observed<'_>| {
            if let Some(fault) = &options.inject {
                injected |= fault.apply(&mut seen);
            }
            collector.take(options, &mut seen);
        };
        let mut inputs = [StepInput { session: &mut session, tokens, logits: Logits::All }];
        self.pass(&mut inputs, None, Place::Over, Some(&mut observe))?;
        if let Some(fault) = options.inject.as_ref().filter(|_| !injected) {
            return Err(fault.missed(&collector.values));
        }
        // The rows of the last pass are all that is left: not what `logits` promises.
        self.n_logits = 0;
        let report = self.plan(self.phase_of(tokens.len())).map_or(&[][..], |p| &p.report);
        let mut gone: Vec<String> = Vec::new();
        for name in report.iter().filter(|n| n.declined.is_none()).flat_map(|n| &n.gone) {
            if options.wants(name) && !gone.contains(name) && !collector.index.contains_key(name) {
                gone.push(name.clone());
            }
        }
        Ok(Trace { values: collector.values, gone })
    }
}
