//! What must hold of a plan before its commands may touch memory.
//!
//! A plan is data: it may come from a file that someone wrote by hand. Kernels are unsafe functions that trust
//! types, sizes, attributes and barriers, so all of that is proved here, once, from the plan alone; what a step
//! brings (tokens, positions, sequences) is checked where it is run.

use super::{Case, Kernel, find};
use crate::error::{Class, Error, Problem, Result};
use crate::graph::{CmdId, Dim, ValueType};
use crate::ops::Op;
use crate::plan::{Cmd, Operand, PLAN_FORMAT, Plan, Region, Rows};
use crate::quant::DType;
use smallvec::SmallVec;

/// Most operands and results of one command.
pub const MAX_OPERANDS: usize = 16;

/// A span of bytes that a command touches: region, first byte, end.
type Span = (Region, u64, u64);

/// The kernels of a plan's commands, one per command, if the plan can be run.
///
/// Errors: `BadPlan` (input) with every command that is wrong; `NoSuchIsa` (resources) if this machine lacks what
/// its kernels need.
pub fn check(plan: &Plan) -> Result<Vec<&'static Kernel>> {
    let mut problems = Vec::new();
    if let Err(why) = check_head(plan) {
        problems.push(bad("the plan", why));
    }
    let mut kernels = Vec::with_capacity(plan.cmds.len());
    for (id, cmd) in plan.cmds.iter() {
        match check_cmd(plan, cmd) {
            Ok(k) => kernels.push(k),
            Err(why) => problems.push(bad(&format!("command {id}"), why)),
        }
    }
    if problems.is_empty() {
        check_barriers(plan, &mut problems);
    }
    Error::from_problems(Class::Input, problems)?;
    for k in &kernels {
        k.isa.require()?;
    }
    Ok(kernels)
}

fn bad(thing: &str, why: String) -> Problem {
    Problem::new("BadPlan", thing).found(why).hint("make the plan again with this version of quipu")
}

fn check_head(plan: &Plan) -> Result<(), String> {
    if plan.format != PLAN_FORMAT {
        return Err(format!("format {} (this is {PLAN_FORMAT})", plan.format));
    }
    if plan.numerics != crate::ops::NUMERICS_VERSION {
        return Err(format!("numerics {} (this is {})", plan.numerics, crate::ops::NUMERICS_VERSION));
    }
    if plan.max_rows == 0 || plan.max_out_rows > plan.max_rows {
        return Err(format!("{} rows of which {} want logits", plan.max_rows, plan.max_out_rows));
    }
    if !plan.totals.own_bytes.is_multiple_of(super::alloc::ALIGN as u64) {
        return Err(format!("{} bytes of every thread's own results", plan.totals.own_bytes));
    }
    let kv = &plan.kv;
    if kv.n_ctx == 0 || kv.total_bytes().is_none_or(|n| isize::try_from(n).is_err()) {
        return Err("a cache of impossible size".into());
    }
    Ok(())
}

fn check_cmd(plan: &Plan, cmd: &Cmd) -> Result<&'static Kernel, String> {
    let n = usize::from(cmd.n_args) + usize::from(cmd.n_outs);
    if n > MAX_OPERANDS {
        return Err(format!("{n} operands (at most {MAX_OPERANDS})"));
    }
    let all = plan.operands.get(cmd.first as usize..cmd.outs().end).ok_or("operands outside the table")?;
    let op = plan.ops.get(cmd.op as usize).ok_or("an op outside the table")?;
    let name = plan.kernels.get(usize::from(cmd.kernel)).ok_or("a kernel outside the table")?;
    let name = crate::error::escape(name);
    let kernel = find(&name).ok_or_else(|| format!("no kernel is named {name:?}"))?;
    if kernel.op != op.kind() {
        return Err(format!("kernel {name} does not run {}", op.kind()));
    }
    let types: SmallVec<[ValueType; MAX_OPERANDS]> =
        all.iter().enumerate().map(|(i, o)| operand(plan, i, o)).collect::<Result<_, String>>()?;
    let (args, outs) = types.split_at(usize::from(cmd.n_args));
    attributes(plan, op, args)?;
    let inferred = op.infer(args)?;
    if inferred[..] != *outs {
        return Err(format!("{} gives other types than its results have", op.kind()));
    }
    let case = Case { op, args, outs, max_rows: plan.max_rows };
    (kernel.supports)(&case).map_err(|why| format!("kernel {name}: {why}"))?;
    let scratch = (kernel.scratch)(&case) as u64;
    let room = plan.totals.scratch_bytes.checked_sub(plan.totals.own_bytes);
    if scratch > u64::from(cmd.scratch) || room.is_none_or(|room| u64::from(cmd.scratch) > room) {
        return Err(format!("kernel {name} needs {scratch} bytes of scratch"));
    }
    let (read, written) = all.split_at(usize::from(cmd.n_args));
    let own = written.iter().filter(|o| o.region == Region::Scratch).count();
    if own != 0 && own != written.len() {
        return Err("results of which only some are every thread's own".into());
    }
    caches(plan, op, read, written)?;
    let spans = spans(plan, written);
    for (i, w) in spans.iter().enumerate() {
        let kv = w.0 == Region::Kv;
        let others = self::spans(plan, read);
        if others.iter().any(|r| overlap(r, w)) || !kv && spans[..i].iter().any(|o| overlap(o, w)) {
            return Err("a result lies on another operand".into());
        }
    }
    Ok(kernel)
}

/// The type of an operand whose bytes are where they must be.
fn operand(plan: &Plan, i: usize, o: &Operand) -> Result<ValueType, String> {
    let row = o.dtype.row_bytes(o.cols as usize).and_then(|b| u32::try_from(b).ok());
    if o.cols == 0 || row != Some(o.row_bytes) {
        return Err(format!("operand {i}: {} bytes are no row of {} {}", o.row_bytes, o.cols, o.dtype));
    }
    let dim = o.rows.dim();
    let ty = ValueType::matrix(o.dtype, dim, o.cols);
    if (o.region == Region::Kv) != (o.rows == Rows::S) {
        return Err(format!("operand {i}: rows of a cache outside the cache region"));
    }
    match o.region {
        Region::Weights => {
            let w = plan.weights.rows().get(o.index as usize);
            let w = w.ok_or_else(|| format!("operand {i}: weight {} does not exist", o.index))?;
            let rows = match o.rows {
                Rows::Fixed(n) => u64::from(n),
                _ => 0,
            };
            if w.span().is_none() {
                return Err(format!("operand {i}: {:?} of weight {:?}", w.part, w.name));
            }
            let fits = w.ty.dtype == ty.dtype
                && w.ty.cols() == o.cols
                && w.ty.rows() == dim
                && w.ty.shape.len() <= 2
                && rows.checked_mul(u64::from(o.row_bytes)) == Some(w.bytes);
            if fits { Ok(w.ty.clone()) } else { Err(format!("operand {i}: not like weight {:?}", w.name)) }
        }
        Region::Kv if o.index >= plan.kv.n_layer => Err(format!("operand {i}: no layer {}", o.index)),
        Region::Kv => Ok(ty),
        Region::Arena | Region::Scratch | Region::Step => {
            let room = match o.region {
                Region::Arena => plan.totals.arena_bytes,
                Region::Scratch => plan.totals.own_bytes,
                _ => plan.totals.logits_bytes,
            };
            if !o.offset.is_multiple_of(super::alloc::ALIGN as u64) || end(plan, o).is_none_or(|e| e > room) {
                return Err(format!("operand {i}: offset {} in {room} bytes", o.offset));
            }
            Ok(ty)
        }
    }
}

/// Where an operand of arena, scratch or step ends at the plan's most rows.
fn end(plan: &Plan, o: &Operand) -> Option<u64> {
    let rows = match o.rows {
        Rows::Fixed(n) => n,
        Rows::T => plan.max_rows,
        Rows::R => plan.max_out_rows,
        Rows::S => return None,
    };
    u64::from(rows).checked_mul(u64::from(o.row_bytes))?.checked_add(o.offset)
}

/// Attributes that inference divides or multiplies by, and those that index what is not an operand.
fn attributes(plan: &Plan, op: &Op, args: &[ValueType]) -> Result<(), String> {
    match op {
        Op::Attention(a) => {
            let heads = u64::from(a.n_head) * u64::from(args.get(2).map_or(0, ValueType::cols));
            if a.n_head == 0 || heads > u64::from(u32::MAX) {
                return Err(format!("{} heads", a.n_head));
            }
        }
        Op::Embed(_)
            if !args.first().is_some_and(|w| matches!(w.rows(), Dim::Fixed(n) if n >= plan.n_vocab)) =>
        {
            return Err("an embedding table with fewer rows than the vocabulary".into());
        }
        _ => {}
    }
    Ok(())
}

/// Caches are where the attributes say, and of the shape that the plan's layout has.
fn caches(plan: &Plan, op: &Op, args: &[Operand], outs: &[Operand]) -> Result<(), String> {
    let (layer, heads, caches) = match (op, op.store()) {
        (_, Some(a)) => (a.layer, a.n_head_kv, &outs[outs.len().saturating_sub(2)..]),
        (Op::Attention(a), _) => (a.layer, a.n_head_kv, &args[1..]),
        _ => {
            let any = args.iter().chain(outs).any(|o| o.region == Region::Kv);
            return if any { Err(format!("{} takes no cache", op.kind())) } else { Ok(()) };
        }
    };
    let kv = &plan.kv;
    let all = args.iter().chain(outs).filter(|o| o.region == Region::Kv).count();
    let fits = |o: &Operand, dtype: DType, dim: u32| {
        o.region == Region::Kv
            && o.index == layer
            && o.dtype == dtype
            && u64::from(o.cols) == u64::from(dim) * u64::from(kv.n_head_kv)
    };
    let ok = all == 2
        && caches.len() == 2
        && heads == kv.n_head_kv
        && fits(&caches[0], kv.type_k, kv.head_dim_k)
        && fits(&caches[1], kv.type_v, kv.head_dim_v);
    if ok { Ok(()) } else { Err(format!("the caches of layer {layer} do not fit {kv:?}")) }
}

fn overlap(a: &Span, b: &Span) -> bool {
    a.0 == b.0 && a.1 < b.2 && b.1 < a.2
}

/// The bytes of operands that anything writes; a layer's cache counts as one byte.
fn spans(plan: &Plan, operands: &[Operand]) -> SmallVec<[Span; MAX_OPERANDS]> {
    operands
        .iter()
        .filter_map(|o| match o.region {
            Region::Weights => None,
            Region::Kv => Some((Region::Kv, u64::from(o.index), u64::from(o.index) + 1)),
            // Rows of logits can be put anywhere in their block.
            Region::Step => Some((Region::Step, o.offset, u64::MAX)),
            Region::Arena | Region::Scratch => Some((o.region, o.offset, end(plan, o).unwrap_or(u64::MAX))),
        })
        .collect()
}

/// A command that starts without a meeting touches nothing that an earlier one since the last meeting writes, and
/// writes nothing that one touches. A thread's own copies are nobody else's.
fn check_barriers(plan: &Plan, problems: &mut Vec<Problem>) {
    let (mut read, mut written) = (Vec::<Span>::new(), Vec::<Span>::new());
    for (id, cmd) in plan.cmds.iter() {
        if cmd.flags & Cmd::BARRIER != 0 {
            read.clear();
            written.clear();
        }
        let [r, w] = [cmd.args(), cmd.outs()].map(|range| {
            let mut shared = spans(plan, &plan.operands[range]);
            shared.retain(|s| s.0 != Region::Scratch);
            shared
        });
        let clash = r.iter().any(|a| written.iter().any(|b| overlap(a, b)))
            || w.iter().any(|a| read.iter().chain(&written).any(|b| overlap(a, b)));
        if clash {
            problems.push(missing_barrier(id));
        }
        read.extend(r);
        written.extend(w);
    }
}

fn missing_barrier(id: CmdId) -> Problem {
    bad(&format!("command {id}"), "no barrier before bytes that an earlier command touches".into())
}
