//! The limits of the machine, for forecasts.

use clap::Args;
use quipu::backends::Isa;
use quipu::backends::calibrate::Machine;
use quipu::error::Result;
use quipu::plan::forecast::Limits;
use std::path::PathBuf;

/// `--limits`.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// File of limits for times [default: what quipu calibrate kept for this machine]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

impl LimitsArgs {
    /// Limits of this machine, or of the file given, for an instruction set and a number of threads; and the
    /// processor's name. `None` if nothing was measured.
    ///
    /// Errors: those of [`Machine::load`] about a file that was given.
    pub fn find(&self, isa: Isa, threads: u32) -> Result<Option<(Limits, String)>> {
        let machine = match &self.limits {
            Some(path) => Some(Machine::load(path)?),
            None => Machine::kept(),
        };
        Ok(machine.and_then(|m| m.find(isa, threads).cloned().map(|l| (l, m.processor.clone()))))
    }
}
