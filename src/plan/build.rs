//! From a graph to a plan: fuse, order, place, pick kernels, find barriers, add up.

use super::schedule::Place;
use super::{
    Buffer, Cmd, FusionNote, Operand, PLAN_FORMAT, Phase, Plan, Region, Rows, Totals, WeightLayout,
    WeightSlot, arena, factors, fuse, schedule,
};
use crate::backends::{self, Case, Isa, KvLayout};
use crate::error::{Class, Error, Problem, Result};
use crate::graph::{BufferId, Dim, Graph, Id, OpId, Table, ValueId, ValueType, WeightId};
use crate::ops::{NUMERICS_VERSION, Op, OpKind, Sizes};
use crate::quant::DType;

/// Which kernel table a plan picks from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The processor.
    #[default]
    Cpu,
    /// Nothing: plans can be made, printed and compared, not run.
    Null,
}

/// What a plan depends on besides the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    /// Prefill or decode.
    pub phase: Phase,
    /// Instruction-set class; need not be of this machine.
    pub isa: Isa,
    /// Kernel table.
    pub backend: Backend,
    /// Most rows of a step; at least 1.
    pub max_rows: u32,
    /// Most rows that want logits; 1 to `max_rows`.
    pub max_out_rows: u32,
    /// Cells of a sequence's cache.
    pub n_ctx: u32,
    /// Fusion rules that are off.
    pub fuse: fuse::FuseOptions,
}

/// Makes the plan of a graph.
///
/// Errors: `NoKernel` for every op that no kernel of the table supports, all together; `PlanTooLarge` if a size
/// overflows.
pub fn plan(graph: &Graph, o: &PlanOptions) -> Result<Plan> {
    let (g, report) = fuse::fuse(&factors::choose(graph, o.n_ctx), &o.fuse)?;
    let mut s = schedule::schedule(&g)?;
    let sizes = Sizes { t: o.max_rows, r: o.max_out_rows, s: o.n_ctx };
    if o.phase == Phase::Decode {
        schedule::each_for_itself(&g, &mut s, |op| is_cheap(&g, op, &sizes));
    }
    let mut e = Emitter::new(&g, o, sizes, &s)?;
    for (i, op) in s.order.iter().enumerate() {
        e.emit(i as u32, *op);
    }
    e.finish(report, graph.ops.len())
}

/// Most elements of a result that every thread makes for itself. By a profile of Qwen2.5-0.5B on two threads, 4864 are
/// quantised in 3.5 microseconds, and a meeting takes 4 with the waiting for each other.
const OWN_ELEMENTS: u64 = 1 << 14;

/// Norms and quantisation of few elements.
fn is_cheap(g: &Graph, op: OpId, sizes: &Sizes) -> bool {
    let node = &g.ops[op];
    let elements =
        |v: &ValueId| u64::from(g.values[*v].ty.cols()).checked_mul(sizes.of(g.values[*v].ty.rows()));
    matches!(node.op.kind(), OpKind::Quantize | OpKind::RmsNorm | OpKind::RmsNormQuantize)
        && node.outs.iter().all(|v| elements(v).is_some_and(|n| n <= OWN_ELEMENTS))
}

struct Emitter<'a> {
    g: &'a Graph,
    o: &'a PlanOptions,
    sizes: Sizes,
    places: &'a [Place],
    /// Buffer number and offset of each arena value; name number and logits offset otherwise.
    slots: Vec<(u32, u64)>,
    plan: Plan,
    problems: Vec<Problem>,
}

impl<'a> Emitter<'a> {
    fn new(g: &'a Graph, o: &'a PlanOptions, sizes: Sizes, s: &'a schedule::Schedule) -> Result<Self> {
        let too_large = || {
            Error::resources(
                Problem::new("PlanTooLarge", "sizes of the plan")
                    .found("more than 2^64 bytes")
                    .hint("lower -c or -ub"),
            )
        };
        let mut buffers = Table::default();
        let mut slots = vec![(0, 0); g.values.len()];
        for (v, value) in g.values.iter() {
            let (region, first, last) = match s.places[v.index()] {
                Place::Arena { first, last } if first != u32::MAX => (Region::Arena, first, last),
                Place::Own { first, last } => (Region::Scratch, first, last),
                _ => continue,
            };
            let id: BufferId = buffers.push(Buffer {
                name: value.name.clone(),
                region,
                offset: 0,
                bytes: bytes(&value.ty, &sizes).ok_or_else(too_large)?,
                first: Id::from_index(first as usize),
                last: Id::from_index(last as usize),
            });
            slots[v.index()].0 = id.0;
        }
        let layout = place(&mut buffers, Region::Arena).ok_or_else(too_large)?;
        let own = place(&mut buffers, Region::Scratch).ok_or_else(too_large)?;
        let mut logits = 0u64;
        for v in &g.outputs {
            slots[v.index()] = (0, logits);
            let n = bytes(&g.values[*v].ty, &sizes).and_then(|b| b.checked_next_multiple_of(arena::ALIGN));
            logits = n.and_then(|n| logits.checked_add(n)).ok_or_else(too_large)?;
        }
        let weights: Table<WeightId, WeightSlot> = g
            .weights
            .rows()
            .iter()
            .map(|w| {
                let ty = g.values[w.value].ty.clone();
                let bytes = bytes(&ty, &sizes)?;
                let (name, layout) = (w.name.clone(), WeightLayout::AsInFile);
                Some(WeightSlot { name, ty, part: w.part, bytes, layout })
            })
            .collect::<Option<_>>()
            .ok_or_else(too_large)?;
        let kv = kv_layout(g, o.n_ctx)?;
        let totals = Totals {
            weight_bytes: weights.rows().iter().map(|w| w.bytes).sum(),
            kv_bytes: kv.total_bytes().ok_or_else(too_large)?,
            arena_bytes: layout.total,
            arena_bound: layout.bound,
            arena_naive: layout.naive,
            own_bytes: own.total,
            logits_bytes: logits,
            ..Totals::default()
        };
        let plan = Plan {
            format: PLAN_FORMAT,
            numerics: NUMERICS_VERSION,
            arch: g.arch.clone(),
            phase: o.phase,
            isa: o.isa,
            max_rows: o.max_rows,
            max_out_rows: o.max_out_rows,
            n_vocab: g.outputs.first().map_or(0, |v| g.values[*v].ty.cols()),
            kv,
            kernels: Vec::new(),
            ops: Vec::new(),
            cmds: Table::default(),
            costs: Vec::new(),
            operands: Vec::new(),
            names: g.values.rows().iter().map(|v| v.name.clone()).collect(),
            files: g.files.clone(),
            rules: Vec::new(),
            weights,
            buffers,
            report: Vec::new(),
            totals,
        };
        let places = &s.places;
        Ok(Emitter { g, o, sizes, places, slots, plan, problems: Vec::new() })
    }

    fn emit(&mut self, at: u32, id: OpId) {
        let node = &self.g.ops[id];
        let ty = |v: &ValueId| self.g.values[*v].ty.clone();
        let args: Vec<ValueType> = node.args.iter().map(ty).collect();
        let outs: Vec<ValueType> = node.outs.iter().map(ty).collect();
        let case = Case { op: &node.op, args: &args, outs: &outs, max_rows: self.o.max_rows };
        let (kernel, scratch) = match self.kernel(&case) {
            Ok(k) => k,
            Err(why) => {
                let shown: Vec<_> = args.iter().map(ToString::to_string).collect();
                let thing = format!(
                    "{} {:?}({})",
                    node.op.kind(),
                    self.g.values[node.outs[0]].name,
                    shown.join(", ")
                );
                self.problems
                    .push(Problem::new("NoKernel", thing).found(why).expected("a kernel that supports it"));
                return;
            }
        };
        self.plan.costs.push(node.op.cost(&args, &outs, &self.sizes));
        let first = self.plan.operands.len() as u32;
        for v in node.args.iter().chain(&node.outs) {
            let operand = self.operand(*v);
            self.plan.operands.push(operand);
        }
        let rule = node.rule.as_ref().map_or(0, |r| 1 + intern(&mut self.plan.rules, r));
        let op = position_or_push(&mut self.plan.ops, node.op);
        debug_assert_eq!(at as usize, self.plan.cmds.len() + self.problems.len());
        self.plan.cmds.push(Cmd {
            kernel: intern(&mut self.plan.kernels, &kernel),
            n_args: node.args.len() as u8,
            n_outs: node.outs.len() as u8,
            first,
            op,
            scratch,
            file: node.src.0,
            rule,
            line: node.src.1,
            flags: 0,
        });
    }

    fn kernel(&self, case: &Case<'_>) -> Result<(String, u32), String> {
        match self.o.backend {
            Backend::Null => Ok((format!("null.{}", case.op.kind()), 0)),
            Backend::Cpu => {
                let k = backends::select(case, self.o.isa)?;
                let scratch =
                    u32::try_from((k.scratch)(case)).map_err(|_| "scratch over 4 GiB".to_string())?;
                Ok((k.name.to_string(), scratch))
            }
        }
    }

    fn operand(&self, v: ValueId) -> Operand {
        let value = &self.g.values[v];
        let (index, offset) = self.slots[v.index()];
        let (region, index, offset) = match self.places[v.index()] {
            Place::Weight => {
                let crate::graph::Def::Weight(w) = value.def else {
                    unreachable!("a weight is defined by its row")
                };
                (Region::Weights, w.0, 0)
            }
            Place::Cache(layer) => (Region::Kv, layer, 0),
            Place::Arena { .. } | Place::Own { .. } => {
                let b = &self.plan.buffers.rows()[index as usize];
                (b.region, index, b.offset)
            }
            Place::Output => (Region::Step, 0, offset),
        };
        let cols = value.ty.cols();
        let row_bytes =
            value.ty.dtype.row_bytes(cols as usize).and_then(|b| u32::try_from(b).ok()).unwrap_or(0);
        let rows = match value.ty.rows() {
            Dim::Fixed(n) => Rows::Fixed(n),
            Dim::T => Rows::T,
            Dim::R => Rows::R,
            Dim::S => Rows::S,
        };
        Operand { region, dtype: value.ty.dtype, rows, cols, row_bytes, index, offset, name: v.0 }
    }

    fn finish(mut self, report: Vec<FusionNote>, ops_before: usize) -> Result<Plan> {
        Error::from_problems(Class::Model, self.problems)?;
        let barriers = mark_barriers(&mut self.plan);
        let t = &mut self.plan.totals;
        let most = self.plan.cmds.rows().iter().map(|c| u64::from(c.scratch)).max().unwrap_or(0);
        t.scratch_bytes = t.own_bytes + most;
        t.work = self.plan.costs.iter().copied().sum();
        t.ops_before = ops_before as u32;
        t.ops_after = self.plan.cmds.len() as u32;
        t.barriers = barriers;
        self.plan.report = report;
        Ok(self.plan)
    }
}

/// Gives the buffers of a region their offsets; `None` if a size overflows.
fn place(buffers: &mut Table<BufferId, Buffer>, region: Region) -> Option<arena::Layout> {
    let mine: Vec<BufferId> = buffers.ids().filter(|id| buffers[*id].region == region).collect();
    let request = |id: &BufferId| {
        let b = &buffers[*id];
        arena::Request { bytes: b.bytes, first: b.first.0, last: b.last.0 }
    };
    let layout = arena::place(&mine.iter().map(request).collect::<Vec<_>>())?;
    for (id, offset) in mine.into_iter().zip(&layout.offsets) {
        buffers[id].offset = *offset;
    }
    Some(layout)
}

fn bytes(ty: &ValueType, n: &Sizes) -> Option<u64> {
    let row = ty.dtype.row_bytes(ty.cols() as usize)? as u64;
    u32::try_from(row).ok()?;
    row.checked_mul(n.of(ty.rows()))
}

fn intern(list: &mut Vec<String>, s: &str) -> u16 {
    let i = list.iter().position(|x| x == s).unwrap_or_else(|| {
        list.push(s.to_string());
        list.len() - 1
    });
    i as u16
}

fn position_or_push(list: &mut Vec<Op>, op: Op) -> u32 {
    let i = list.iter().rposition(|x| *x == op).unwrap_or_else(|| {
        list.push(op);
        list.len() - 1
    });
    i as u32
}

/// Every layer has the same heads and types; a graph without attention has an empty cache.
fn kv_layout(g: &Graph, n_ctx: u32) -> Result<KvLayout> {
    let mut layout = KvLayout {
        n_layer: 0,
        n_ctx,
        n_head_kv: 1,
        head_dim_k: 0,
        head_dim_v: 0,
        type_k: DType::F16,
        type_v: DType::F16,
    };
    for node in g.ops.rows() {
        let (Some(a), [.., k, v]) = (node.op.store(), &node.outs[..]) else { continue };
        let here = KvLayout {
            n_layer: layout.n_layer.max(a.layer + 1),
            n_ctx,
            n_head_kv: a.n_head_kv,
            head_dim_k: g.values[*k].ty.cols() / a.n_head_kv,
            head_dim_v: g.values[*v].ty.cols() / a.n_head_kv,
            type_k: a.type_k,
            type_v: a.type_v,
        };
        if layout.n_layer > 0 && (KvLayout { n_layer: layout.n_layer, ..here }) != layout {
            let p = Problem::new("MixedCaches", format!("cache of layer {}", a.layer));
            return Err(Error::model(
                p.found(format!("{here:?}")).expected("the same heads and types in all layers"),
            ));
        }
        layout = here;
    }
    Ok(layout)
}

/// Sets [`Cmd::BARRIER`] where a command touches bytes that a command since the last barrier writes, or writes bytes
/// that one touches. Returns how many there are.
fn mark_barriers(plan: &mut Plan) -> u32 {
    /// Bytes of a region as `(region, first, end)`; a cache is one address per layer.
    type Span = (u8, u64, u64);
    let span = |o: &Operand, buffers: &Table<BufferId, Buffer>, logits: u64| -> Option<Span> {
        match o.region {
            // A thread's own copies are nobody else's.
            Region::Weights | Region::Scratch => None,
            Region::Kv => Some((Region::Kv as u8, u64::from(o.index), u64::from(o.index) + 1)),
            Region::Arena => {
                Some((Region::Arena as u8, o.offset, o.offset + buffers.rows()[o.index as usize].bytes))
            }
            Region::Step => Some((Region::Step as u8, o.offset, logits)),
        }
    };
    let meet = |a: &Span, list: &[Span]| list.iter().any(|b| a.0 == b.0 && a.1 < b.2 && b.1 < a.2);
    let (mut reads, mut writes): (Vec<Span>, Vec<Span>) = (Vec::new(), Vec::new());
    let mut n = 0;
    for id in plan.cmds.ids() {
        let cmd = plan.cmds[id];
        let spans = |r: std::ops::Range<usize>| -> Vec<Span> {
            plan.operands[r].iter().filter_map(|o| span(o, &plan.buffers, plan.totals.logits_bytes)).collect()
        };
        let (r, w) = (spans(cmd.args()), spans(cmd.outs()));
        if r.iter().any(|s| meet(s, &writes)) || w.iter().any(|s| meet(s, &writes) || meet(s, &reads)) {
            plan.cmds[id].flags |= Cmd::BARRIER;
            n += 1;
            reads.clear();
            writes.clear();
        }
        reads.extend(r);
        writes.extend(w);
    }
    n
}
