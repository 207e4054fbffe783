//! The plan as a page for people: one file, no network, drawn by the script in it from the data in it.

use super::fusions;
use crate::backends::Isa;
use crate::graph::{CmdId, Id};
use crate::plan::forecast::{Bound, Forecast, Limits};
use crate::plan::{Cmd, Operand, Plan, Region, Rows, Totals};
use serde::Serialize;

/// What a page shows besides the plans.
#[derive(Clone, Debug, Default)]
pub struct PageOptions {
    /// Headline: the model's name or file.
    pub title: String,
    /// Line below it.
    pub subtitle: String,
    /// Threads that scratch is counted for; at least 1.
    pub threads: u32,
    /// Limits of a machine for times and the roofline, and that machine's processor.
    pub limits: Option<(Limits, String)>,
}

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    subtitle: &'a str,
    processor: &'a str,
    limits: Option<&'a Limits>,
    plans: Vec<PlanView<'a>>,
}

#[derive(Serialize)]
struct PlanView<'a> {
    name: String,
    isa: Isa,
    max_rows: u32,
    n_ctx: u32,
    n_layer: u32,
    n_weights: usize,
    threads: u32,
    totals: &'a Totals,
    by_type: Vec<(&'static str, u64)>,
    cmds: Vec<CmdView<'a>>,
    /// Name, offset, bytes, first and last command.
    buffers: Vec<(&'a str, u64, u64, u32, u32)>,
    fusions: Vec<(String, usize, usize, String)>,
    forecast: Option<ForecastView>,
}

#[derive(Serialize)]
struct ForecastView {
    rows_per_second: f64,
    what: String,
}

#[derive(Serialize)]
struct CmdView<'a> {
    kernel: &'a str,
    op: &'static str,
    attrs: String,
    /// The layer, or -1 outside of all.
    layer: i64,
    args: Vec<OperandView<'a>>,
    outs: Vec<OperandView<'a>>,
    src: String,
    rule: &'a str,
    barrier: bool,
    scratch: u32,
    ops: u64,
    w: u64,
    d: u64,
    /// Bytes from memory, seconds and what they go to, if limits are known.
    mem: u64,
    s: f64,
    bound: &'static str,
}

/// Place, name, type, rows, columns, offset, region, and the command that makes it.
#[derive(Serialize)]
struct OperandView<'a> {
    p: String,
    n: &'a str,
    t: &'static str,
    r: String,
    c: u32,
    o: u64,
    g: Region,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u32>,
}

/// The page of some plans of one model, usually prefill and decode.
pub fn page(plans: &[&Plan], options: &PageOptions) -> String {
    let data = Page {
        title: &options.title,
        subtitle: &options.subtitle,
        processor: options.limits.as_ref().map_or("", |l| &l.1),
        limits: options.limits.as_ref().map(|l| &l.0),
        plans: plans.iter().map(|p| view(p, options)).collect(),
    };
    // Without "<" nothing in the data can end its script element; in JSON it may be written by number.
    let json = serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c");
    let parts: [(&str, &str); 4] = [
        ("%TITLE%", &text(&options.title)),
        ("%CSS%", include_str!("page/page.css")),
        ("%DATA%", &json),
        ("%JS%", include_str!("page/page.js")),
    ];
    // Cut at the marks one after the other, so that no part is searched for marks.
    let mut rest = include_str!("page/page.html");
    let mut out = String::with_capacity(rest.len() + parts.iter().map(|p| p.1.len()).sum::<usize>());
    for (mark, part) in parts {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        out.push_str(before);
        out.push_str(part);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Text between tags.
fn text(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn view<'a>(p: &'a Plan, options: &PageOptions) -> PlanView<'a> {
    let forecast = options.limits.as_ref().map(|(limits, _)| p.forecast(limits, p.sizes()));
    let made_by = makers(p);
    PlanView {
        name: p.phase.to_string(),
        isa: p.isa,
        max_rows: p.max_rows,
        n_ctx: p.kv.n_ctx,
        n_layer: p.kv.n_layer,
        n_weights: super::n_tensors(p),
        threads: options.threads.max(1),
        totals: &p.totals,
        by_type: p.weights_by_type().into_iter().map(|(t, n)| (t.name(), n)).collect(),
        cmds: p.cmds.iter().map(|(id, c)| command(p, id, c, forecast.as_ref(), &made_by)).collect(),
        buffers: p
            .buffers
            .rows()
            .iter()
            .filter(|b| b.region == Region::Arena)
            .map(|b| (b.name.as_str(), b.offset, b.bytes, b.first.0, b.last.0))
            .collect(),
        fusions: fusions(p).into_iter().map(|f| (f.rule, f.fired, f.declined, f.why)).collect(),
        forecast: forecast.map(|f| ForecastView {
            rows_per_second: f.rows_per_second(),
            what: format!(
                "{} row{} at {} tokens",
                p.max_rows,
                if p.max_rows == 1 { "" } else { "s" },
                p.kv.n_ctx
            ),
        }),
    }
}

/// For every buffer the command that writes it.
fn makers(p: &Plan) -> Vec<u32> {
    p.buffers.rows().iter().map(|b| b.first.0).collect()
}

fn command<'a>(p: &'a Plan, id: CmdId, c: &Cmd, f: Option<&Forecast>, made_by: &[u32]) -> CmdView<'a> {
    let operands = |range: std::ops::Range<usize>, read: bool| -> Vec<OperandView<'a>> {
        p.operands[range].iter().map(|o| operand(p, o, read.then_some(made_by))).collect()
    };
    let cost = p.costs.get(id.index()).copied().unwrap_or_default();
    let forecast = f.and_then(|f| f.commands.get(id.index()));
    let op = &p.ops[c.op as usize];
    CmdView {
        kernel: &p.kernels[usize::from(c.kernel)],
        op: op.kind().name(),
        attrs: op.attrs_json(),
        layer: super::layer_of(p, c).map_or(-1, i64::from),
        args: operands(c.args(), true),
        outs: operands(c.outs(), false),
        src: super::source(p, c),
        rule: super::rule(p, c).unwrap_or_default(),
        barrier: c.flags & Cmd::BARRIER != 0,
        scratch: c.scratch,
        ops: cost.ops,
        w: cost.weight_bytes,
        d: cost.data_bytes,
        mem: forecast.map_or(0, |f| f.bytes),
        s: forecast.map_or(0.0, |f| f.seconds),
        bound: forecast.map_or("", |f| match f.bound {
            Bound::Memory => "memory",
            Bound::Compute => "arithmetic",
            Bound::Barrier => "the meeting",
        }),
    }
}

fn operand<'a>(p: &'a Plan, o: &Operand, made_by: Option<&[u32]>) -> OperandView<'a> {
    OperandView {
        p: super::place(o),
        n: &p.names[o.name as usize],
        t: o.dtype.name(),
        r: match o.rows {
            Rows::Fixed(n) => n.to_string(),
            Rows::T => "T".into(),
            Rows::R => "R".into(),
            Rows::S => "S".into(),
        },
        c: o.cols,
        o: o.offset,
        g: o.region,
        from: made_by
            .filter(|_| matches!(o.region, Region::Arena | Region::Scratch))
            .and_then(|m| m.get(o.index as usize))
            .copied(),
    }
}
