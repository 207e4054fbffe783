//! How long a step must take at least: each command's bytes and operations against what the machine can do.
//!
//! A roofline (Williams, Waterman, Patterson, 2009): a command lasts as long as the slower of its memory and its
//! arithmetic, and the team meets before it where the plan says so. Memory is what cannot lie in a cache: weights, and
//! keys and values read back. So a forecast is a bound that a run comes near, never a promise that it goes faster.

use super::{Cmd, Operand, Plan, Region, Rows};
use crate::backends::Isa;
use crate::graph::{CmdId, Id, ValueType};
use crate::ops::{Cost, OpKind, Sizes};
use crate::quant::DType;
use serde::{Deserialize, Serialize};

/// What a machine can do with one instruction set and a number of threads, as measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Instruction set.
    pub isa: Isa,
    /// Threads.
    pub threads: u32,
    /// Bytes per second that all threads together read from memory.
    pub read_bytes_per_second: f64,
    /// Operations per second of f32 multiply-adds (two each).
    pub float_ops_per_second: f64,
    /// Operations per second of exact byte products (a product and an addition are two).
    pub byte_ops_per_second: f64,
    /// Seconds that a meeting of the team costs.
    pub barrier_seconds: f64,
}

/// What a command's time is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Reading weights or the cache.
    Memory,
    /// Arithmetic.
    Compute,
    /// Meeting the others before it starts.
    Barrier,
}

/// The least time of one command.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CmdForecast {
    /// Bytes that come from memory.
    pub bytes: u64,
    /// Operations.
    pub ops: u64,
    /// Seconds, the meeting before it included.
    pub seconds: f64,
    /// What most of the time goes to.
    pub bound: Bound,
}

/// The least time of a step, command by command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Rows, rows that want logits, and cells of the cache that were assumed.
    pub sizes: Sizes,
    /// One per command of the plan.
    pub commands: Vec<CmdForecast>,
    /// Their sum in seconds.
    pub seconds: f64,
}

impl Forecast {
    /// Rows per second.
    pub fn rows_per_second(&self) -> f64 {
        f64::from(self.sizes.t) / self.seconds.max(f64::MIN_POSITIVE)
    }
    /// Seconds that go to `bound`.
    pub fn bound_by(&self, bound: Bound) -> f64 {
        self.commands.iter().filter(|c| c.bound == bound).map(|c| c.seconds).sum()
    }
}

impl Plan {
    /// Most rows and a full cache: what the plan's own costs and totals assume.
    pub fn sizes(&self) -> Sizes {
        Sizes { t: self.max_rows, r: self.max_out_rows, s: self.kv.n_ctx }
    }

    /// Work of a command in a step of `sizes`; nothing for a command that the plan does not have.
    pub fn cost(&self, id: CmdId, sizes: &Sizes) -> Cost {
        let Some(cmd) = self.cmds.rows().get(id.index()) else { return Cost::default() };
        let Some(op) = self.ops.get(cmd.op as usize) else { return Cost::default() };
        op.cost(&self.types(cmd.args()), &self.types(cmd.outs()), sizes)
    }

    /// Types of some operands, as the op sees them.
    pub(super) fn types(&self, range: std::ops::Range<usize>) -> Vec<ValueType> {
        let of = |o: &Operand| match (o.region, self.weights.rows().get(o.index as usize)) {
            (Region::Weights, Some(w)) => w.ty.clone(),
            _ => ValueType::matrix(o.dtype, o.rows.dim(), o.cols),
        };
        self.operands.get(range).unwrap_or_default().iter().map(of).collect()
    }

    /// The least time of a step of `sizes` on a machine with `limits`.
    pub fn forecast(&self, limits: &Limits, sizes: Sizes) -> Forecast {
        let commands: Vec<CmdForecast> =
            self.cmds.iter().map(|(id, cmd)| self.command_forecast(id, cmd, limits, &sizes)).collect();
        Forecast { sizes, seconds: commands.iter().map(|c| c.seconds).sum(), commands }
    }

    /// Bytes that come from memory and operations of a command in a step of `sizes`.
    pub fn work(&self, id: CmdId, sizes: &Sizes) -> (u64, u64) {
        // Without rows that want logits, what only they need is left out.
        let idle = sizes.r == 0 && self.cmds.rows().get(id.index()).is_some_and(|c| self.only_logits(c));
        let cost = if idle { Cost::default() } else { self.cost(id, sizes) };
        (cost.weight_bytes + self.cache_bytes(id, sizes), cost.ops)
    }

    /// The least time of one command in a step of `sizes`.
    pub fn command_forecast(&self, id: CmdId, cmd: &Cmd, limits: &Limits, sizes: &Sizes) -> CmdForecast {
        let (bytes, ops) = self.work(id, sizes);
        let rate =
            if self.is_byte_product(cmd) { limits.byte_ops_per_second } else { limits.float_ops_per_second };
        let memory = bytes as f64 / limits.read_bytes_per_second.max(1.0);
        let compute = ops as f64 / rate.max(1.0);
        let barrier = if cmd.flags & Cmd::BARRIER != 0 { limits.barrier_seconds } else { 0.0 };
        let work = memory.max(compute);
        let bound = match (barrier > work, memory >= compute) {
            (true, _) => Bound::Barrier,
            (_, true) => Bound::Memory,
            _ => Bound::Compute,
        };
        CmdForecast { bytes, ops, seconds: work + barrier, bound }
    }

    /// Bytes of keys and values that a command reads back, for one sequence.
    pub fn cache_bytes(&self, id: CmdId, sizes: &Sizes) -> u64 {
        let Some(cmd) = self.cmds.rows().get(id.index()) else { return 0 };
        let read = self.operands.get(cmd.args()).unwrap_or_default();
        let cells = read.iter().filter(|o| o.region == Region::Kv);
        cells.map(|o| u64::from(o.row_bytes) * u64::from(sizes.s)).sum()
    }

    /// Whether a command only makes rows that want logits.
    pub fn only_logits(&self, cmd: &Cmd) -> bool {
        self.operands.get(cmd.outs()).unwrap_or_default().iter().all(|o| o.rows == Rows::R)
    }

    /// Whether a command multiplies bytes: a product whose activations are blocks.
    pub fn is_byte_product(&self, cmd: &Cmd) -> bool {
        let blocks = |o: &super::Operand| o.dtype.block() > 1 && o.region != Region::Weights;
        let reads_blocks = self.operands.get(cmd.args()).unwrap_or_default().first().is_some_and(blocks);
        reads_blocks && self.ops.get(cmd.op as usize).is_some_and(|op| is_product(op.kind()))
    }

    /// Bytes of weights by element type, most first.
    pub fn weights_by_type(&self) -> Vec<(DType, u64)> {
        let mut sums: Vec<(DType, u64)> = Vec::new();
        for w in self.weights.rows() {
            match sums.iter_mut().find(|(t, _)| *t == w.ty.dtype) {
                Some((_, n)) => *n = n.saturating_add(w.bytes),
                None => sums.push((w.ty.dtype, w.bytes)),
            }
        }
        sums.sort_by_key(|(t, n)| (std::cmp::Reverse(*n), *t));
        sums
    }
}

/// Whether an op multiplies activations with weight matrices.
pub fn is_product(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Linear
            | OpKind::LinearAdd
            | OpKind::LinearQkv
            | OpKind::LinearQkvRopeKv
            | OpKind::LinearSwiglu
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::builder::CacheTypes;
    use crate::loader::{Bytes, Gguf, ParseOptions, synth::synth_header};
    use crate::plan::{Backend, FuseOptions, Phase, PlanOptions};

    fn plan(phase: Phase, rows: u32) -> Plan {
        let header = synth_header("tiny-llama", DType::Q8_0).unwrap();
        let options = ParseOptions { header_only: true, ..ParseOptions::default() };
        let file = Gguf::parse(Bytes::from(header), &options).unwrap();
        let graph = crate::models::declare(&file, &[], CacheTypes::default()).unwrap().graph;
        let fuse = FuseOptions::default();
        let options = PlanOptions {
            phase,
            isa: Isa::Avx512,
            backend: Backend::Null,
            max_rows: rows,
            max_out_rows: 1,
            n_ctx: 512,
            fuse,
        };
        crate::plan::plan(&graph, &options).unwrap()
    }

    const LIMITS: Limits = Limits {
        isa: Isa::Avx512,
        threads: 2,
        read_bytes_per_second: 30e9,
        float_ops_per_second: 300e9,
        byte_ops_per_second: 1e12,
        barrier_seconds: 1e-6,
    };

    #[test]
    fn costs_can_be_made_again_from_the_plan() {
        for (phase, rows) in [(Phase::Prefill, 64), (Phase::Decode, 1)] {
            let p = plan(phase, rows);
            let again: Vec<Cost> = p.cmds.ids().map(|id| p.cost(id, &p.sizes())).collect();
            assert_eq!(again, p.costs);
            assert_eq!(again.into_iter().sum::<Cost>(), p.totals.work);
        }
    }

    #[test]
    fn one_token_is_bound_by_memory_and_many_by_arithmetic() {
        let p = plan(Phase::Decode, 1);
        let f = p.forecast(&LIMITS, Sizes { t: 1, r: 1, s: 1 });
        let product = |c: &CmdForecast| c.ops > 100_000;
        assert!(f.commands.iter().filter(|c| product(c)).all(|c| c.bound == Bound::Memory), "{f:?}");
        // Every weight that a token reads, and a meeting per barrier, and nothing else that counts.
        let least = p.totals.work.weight_bytes as f64 / LIMITS.read_bytes_per_second;
        let barriers = f64::from(p.totals.barriers) * LIMITS.barrier_seconds;
        assert!(f.seconds >= least + barriers && f.seconds < 1.2 * (least + barriers), "{}", f.seconds);

        let p = plan(Phase::Prefill, 512);
        let f = p.forecast(&LIMITS, p.sizes());
        // Not the embedding's 512 rows, nor the output's one.
        let product = |c: &CmdForecast| c.ops > 10_000_000;
        assert!(f.commands.iter().filter(|c| product(c)).count() >= 8);
        assert!(f.commands.iter().filter(|c| product(c)).all(|c| c.bound == Bound::Compute), "{f:?}");
    }

    #[test]
    fn more_context_takes_longer_and_a_faster_machine_less_time() {
        let p = plan(Phase::Decode, 1);
        let at = |s| p.forecast(&LIMITS, Sizes { t: 1, r: 1, s }).seconds;
        assert!(at(1) < at(256) && at(256) < at(512));
        let fast = Limits { read_bytes_per_second: 60e9, ..LIMITS };
        let sizes = Sizes { t: 1, r: 1, s: 512 };
        assert!(p.forecast(&fast, sizes).seconds < p.forecast(&LIMITS, sizes).seconds);
    }

    #[test]
    fn weights_by_type_sum_to_the_total() {
        let p = plan(Phase::Decode, 1);
        let by_type = p.weights_by_type();
        assert_eq!(by_type.iter().map(|(_, n)| n).sum::<u64>(), p.totals.weight_bytes);
        assert_eq!(by_type[0].0, DType::Q8_0);
    }
}
