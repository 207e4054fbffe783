//! The plan as aligned text: what runs, where, and what it costs.

use super::{fusions, n_tensors, place, rule, source};
use crate::graph::{CmdId, Id};
use crate::plan::forecast::{Forecast, Limits};
use crate::plan::{Cmd, Operand, Plan, Region, Rows};
use std::fmt::Write;

/// Prints a plan.
pub fn print(p: &Plan) -> String {
    print_with(p, None)
}

/// Prints a plan, with the least time of each command on a machine with these limits.
pub fn print_with(p: &Plan, limits: Option<&Limits>) -> String {
    let forecast = limits.map(|l| p.forecast(l, p.sizes()));
    let mut s = String::new();
    header(&mut s, p);
    commands(&mut s, p, forecast.as_ref());
    footer(&mut s, p);
    if let (Some(f), Some(l)) = (&forecast, limits) {
        let _ = writeln!(
            s,
            "forecast  {} at best, {:.1} rows/s: {} threads, {:.1} GB/s, {:.0} and {:.0} Gop/s of f32 and of bytes",
            human_seconds(f.seconds),
            f.rows_per_second(),
            l.threads,
            l.read_bytes_per_second / 1e9,
            l.float_ops_per_second / 1e9,
            l.byte_ops_per_second / 1e9
        );
    }
    s
}

/// A time for people: `1.5 ms`.
pub fn human_seconds(t: f64) -> String {
    match t {
        t if t >= 1.0 => format!("{t:.2} s"),
        t if t >= 1e-3 => format!("{:.2} ms", t * 1e3),
        t => format!("{:.1} us", t * 1e6),
    }
}

/// A count for people: `1.5 M`.
fn human_count(n: u64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let (mut x, mut i) = (n as f64, 0);
    while x >= 1000.0 && i < units.len() - 1 {
        x /= 1000.0;
        i += 1;
    }
    if i == 0 { format!("{n} ") } else { format!("{x:.1} {}", units[i]) }
}

/// A number of bytes for people: `1.5 MiB`.
pub fn human_bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut x = n as f64;
    let mut i = 0;
    while x >= 1024.0 && i < units.len() - 1 {
        x /= 1024.0;
        i += 1;
    }
    if i == 0 { format!("{n} B") } else { format!("{x:.1} {}", units[i]) }
}

fn header(s: &mut String, p: &Plan) {
    let _ = writeln!(
        s,
        "plan {} {} isa={} rows<={} logits<={} ctx={} cache={}/{} format={} numerics={}",
        p.arch,
        p.phase,
        p.isa,
        p.max_rows,
        p.max_out_rows,
        p.kv.n_ctx,
        p.kv.type_k,
        p.kv.type_v,
        p.format,
        p.numerics
    );
}

/// Columns stay aligned up to this width; a longer list pushes its own line only.
const MOST_ALIGNED: usize = 56;

fn commands(s: &mut String, p: &Plan, forecast: Option<&Forecast>) {
    let kernel_width = p.kernels.iter().map(String::len).max().unwrap_or(0);
    let list = |range: std::ops::Range<usize>, show: fn(&Plan, &Operand) -> String| {
        p.operands[range].iter().map(|o| show(p, o)).collect::<Vec<_>>().join(", ")
    };
    let outs: Vec<String> = p.cmds.rows().iter().map(|c| list(c.outs(), result)).collect();
    let args: Vec<String> = p.cmds.rows().iter().map(|c| list(c.args(), operand)).collect();
    let width = |v: &[String]| v.iter().map(String::len).filter(|n| *n <= MOST_ALIGNED).max().unwrap_or(0);
    let (out_width, arg_width) = (width(&outs), width(&args));
    for (id, c) in p.cmds.iter() {
        let mark = if c.flags & Cmd::BARRIER != 0 { '|' } else { ' ' };
        let _ = writeln!(
            s,
            "{mark} {id:<5} {:kernel_width$}  {:out_width$} = {:arg_width$}  ; {}{}",
            p.kernels[usize::from(c.kernel)],
            outs[id.index()],
            args[id.index()],
            work(p, id, forecast),
            remarks(p, id, c)
        );
    }
}

/// Operations, bytes of weights and of data, and the least time.
fn work(p: &Plan, id: CmdId, forecast: Option<&Forecast>) -> String {
    let cost = p.costs.get(id.index()).copied().unwrap_or_default();
    let time = forecast.and_then(|f| f.commands.get(id.index()));
    let time = time.map(|f| format!(" {:>9}", human_seconds(f.seconds))).unwrap_or_default();
    format!(
        "{:>8}op {:>10} + {:>10}{time}  ",
        human_count(cost.ops),
        human_bytes(cost.weight_bytes),
        human_bytes(cost.data_bytes)
    )
}

fn remarks(p: &Plan, id: CmdId, c: &Cmd) -> String {
    let mut r = source(p, c);
    let last = p.operands[c.outs()]
        .iter()
        .filter(|o| matches!(o.region, Region::Arena | Region::Scratch))
        .map(|o| p.buffers.rows().get(o.index as usize).map_or(0, |b| b.last.index()));
    if let Some(last) = last.max() {
        let _ = write!(r, " live {id}..c{last}");
    }
    if let Some(rule) = rule(p, c) {
        let _ = write!(r, " by {rule}");
    }
    if c.scratch > 0 {
        let _ = write!(r, " scratch {}", human_bytes(u64::from(c.scratch)));
    }
    r
}

/// An operand: where it is and its name; its type stands where it is made.
fn operand(p: &Plan, o: &Operand) -> String {
    format!("{} {}", place(o), p.names[o.name as usize])
}

/// A result: place and offset, name, type.
fn result(p: &Plan, o: &Operand) -> String {
    let name = &p.names[o.name as usize];
    let rows = match o.rows {
        Rows::Fixed(n) => n.to_string(),
        Rows::T => "T".into(),
        Rows::R => "R".into(),
        Rows::S => "S".into(),
    };
    match o.region {
        Region::Kv => operand(p, o),
        _ => format!("{}@{:#x} {name} {}[{rows},{}]", place(o), o.offset, o.dtype, o.cols),
    }
}

fn footer(s: &mut String, p: &Plan) {
    let t = &p.totals;
    let over =
        if t.arena_bound > 0 { 100.0 * (t.arena_bytes as f64 / t.arena_bound as f64 - 1.0) } else { 0.0 };
    let mut row = |name: &str, bytes: u64, note: &str| {
        let _ = writeln!(s, "{name:<10}{bytes:>16} B {:>11}  {note}", human_bytes(bytes));
    };
    row("weights", t.weight_bytes, &format!("{} tensors", n_tensors(p)));
    row("kv", t.kv_bytes, "per sequence");
    let note = format!(
        "bound {} (+{over:.1} %), unshared {}",
        human_bytes(t.arena_bound),
        human_bytes(t.arena_naive)
    );
    row("arena", t.arena_bytes, &note);
    row("scratch", t.scratch_bytes, "per thread");
    row("logits", t.logits_bytes, &format!("{} rows of {}", p.max_out_rows, p.n_vocab));
    if t.tokenizer_bytes > 0 {
        row("tokenizer", t.tokenizer_bytes, "tables of the vocabulary");
    }
    let _ = writeln!(
        s,
        "work      {:.3} Gop, {} of weights, {} of activations and cache, at {} rows and a full cache",
        t.work.ops as f64 / 1e9,
        human_bytes(t.work.weight_bytes),
        human_bytes(t.work.data_bytes),
        p.max_rows
    );
    let _ = writeln!(
        s,
        "ops       {} before fusion, {} commands, {} barriers",
        t.ops_before, t.ops_after, t.barriers
    );
    for f in fusions(p) {
        let mut line = format!("fused     {}: {} times", f.rule, f.fired);
        if f.declined > 0 {
            let _ = write!(line, ", declined {} (first at {})", f.declined, f.why);
        }
        let _ = writeln!(s, "{line}");
    }
}
