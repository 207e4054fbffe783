//! The plan as aligned text: what runs, where, and what it costs. (JSON, from serde, is the form that is read back.)

use super::{Cmd, Operand, Plan, Region, Rows};
use crate::graph::{CmdId, Id};
use std::fmt::Write;

/// Prints a plan.
pub fn print(p: &Plan) -> String {
    let mut s = String::new();
    header(&mut s, p);
    commands(&mut s, p);
    footer(&mut s, p);
    s
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

fn commands(s: &mut String, p: &Plan) {
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
            "{mark} {id:<5} {:kernel_width$}  {:out_width$} = {:arg_width$}  ; {}",
            p.kernels[usize::from(c.kernel)],
            outs[id.index()],
            args[id.index()],
            remarks(p, id, c)
        );
    }
}

fn remarks(p: &Plan, id: CmdId, c: &Cmd) -> String {
    let file = p.files.get(usize::from(c.file)).map_or("?", |f| f.rsplit('/').next().unwrap_or(f));
    let mut r = format!("{file}:{}", c.line);
    let last = p.operands[c.outs()]
        .iter()
        .filter(|o| o.region == Region::Arena)
        .map(|o| p.buffers.rows().get(o.index as usize).map_or(0, |b| b.last.index()));
    if let Some(last) = last.max() {
        let _ = write!(r, " live {id}..c{last}");
    }
    if c.rule > 0 {
        let _ = write!(r, " by {}", p.rules[usize::from(c.rule) - 1]);
    }
    if c.scratch > 0 {
        let _ = write!(r, " scratch {}", human_bytes(u64::from(c.scratch)));
    }
    r
}

fn place(o: &Operand) -> String {
    match o.region {
        Region::Weights => format!("w{}", o.index),
        Region::Kv => format!("kv{}", o.index),
        Region::Arena => format!("b{}", o.index),
        Region::Scratch => "scratch".into(),
        Region::Step => "step".into(),
    }
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
    row("weights", t.weight_bytes, &format!("{} tensors", p.weights.len()));
    row("kv", t.kv_bytes, "per sequence");
    let note = format!(
        "bound {} (+{over:.1} %), unshared {}",
        human_bytes(t.arena_bound),
        human_bytes(t.arena_naive)
    );
    row("arena", t.arena_bytes, &note);
    row("scratch", t.scratch_bytes, "per thread");
    row("logits", t.logits_bytes, &format!("{} rows of {}", p.max_out_rows, p.n_vocab));
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
    let mut rules: Vec<&str> = Vec::new();
    for n in &p.report {
        if !rules.contains(&n.rule.as_str()) {
            rules.push(&n.rule);
        }
    }
    for rule in rules {
        let here = || p.report.iter().filter(|n| n.rule == rule);
        let fired = here().filter(|n| n.declined.is_none()).count();
        let mut line = format!("fused     {rule}: {fired} times");
        if let Some(d) = here().find_map(|n| n.declined.as_ref().map(|why| (n, why))) {
            let declined = here().count() - fired;
            let _ = write!(line, ", declined {declined} (first at {}: {})", d.0.at, d.1);
        }
        let _ = writeln!(s, "{line}");
    }
}
