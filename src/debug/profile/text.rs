//! A profile as a table.

use super::{PlanProfile, Profile, Work, percent};
use std::fmt::{Display, Formatter, Result};

impl Display for Profile {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for p in &self.plans {
            plan(f, p)?;
        }
        if self.limits.is_none() {
            writeln!(f, "no forecast: quipu calibrate measures what this machine can do")?;
        }
        write!(
            f,
            "sum       {} of commands and meetings, {:.1} % of {} wall ({} in passes), {} threads, {}",
            ms(self.command_seconds),
            self.percent_of_wall(),
            ms(self.wall_seconds),
            ms(self.pass_seconds),
            self.threads,
            self.isa
        )
    }
}

fn ms(seconds: f64) -> String {
    format!("{:.3} ms", seconds * 1e3)
}

fn plan(f: &mut Formatter<'_>, p: &PlanProfile) -> Result {
    let per_second = p.rows as f64 / p.seconds.max(f64::MIN_POSITIVE);
    writeln!(
        f,
        "{}: {} passes, {} tokens, {}, {per_second:.1} tok/s; kernels {:.1} %, meetings {:.1} %, between {:.1} %",
        p.phase,
        p.passes,
        p.rows,
        ms(p.seconds),
        percent(p.work.seconds, p.seconds),
        percent(p.work.wait_seconds, p.seconds),
        percent(p.outside_seconds, p.seconds)
    )?;
    let named = |n: &str, c: u32| (n.to_string(), c.to_string());
    table(f, p, "kind", "commands", p.kinds.iter().map(|g| (named(&g.name, g.commands), &g.work)))?;
    table(f, p, "layer", "commands", p.layers.iter().map(|g| (named(&g.name, g.commands), &g.work)))?;
    let commands = p.commands.iter().map(|c| ((c.id.clone() + " " + &c.name, c.kernel.clone()), &c.work));
    table(f, p, "command", "kernel", commands)?;
    writeln!(f, "  {:<10}{:>14}{:>14}{:>14}", "thread", "kernels", "meetings", "between")?;
    for t in &p.threads {
        let [busy, wait, outside] = [t.busy_seconds, t.wait_seconds, t.outside_seconds].map(ms);
        writeln!(f, "  {:<10}{busy:>14}{wait:>14}{outside:>14}", t.thread)?;
    }
    writeln!(f)
}

fn table<'a>(
    f: &mut Formatter<'_>,
    p: &PlanProfile,
    first: &str,
    second: &str,
    rows: impl Iterator<Item = ((String, String), &'a Work)>,
) -> Result {
    let rows: Vec<_> = rows.collect();
    let width = |of: fn(&(String, String)) -> &str, head: &str| {
        rows.iter().map(|(n, _)| of(n).len()).max().unwrap_or(0).max(head.len())
    };
    let (a, b) = (width(|n| &n.0, first), width(|n| &n.1, second));
    writeln!(
        f,
        "  {first:<a$}  {second:>b$}  {:>10}  {:>9}  {:>7}  {:>10}  {:>8}  {:>8}  {:>8}  {:>11}  {:>8}",
        "ms", "wait ms", "share", "MB", "Gop", "GB/s", "Gop/s", "forecast ms", "of limit"
    )?;
    for ((name, more), w) in &rows {
        let rate = |n: u64| n as f64 / w.seconds.max(1e-12) / 1e9;
        let forecast = w.forecast_seconds.map_or_else(|| "-".into(), |s| format!("{:.3}", s * 1e3));
        let limit = w.percent_of_limit.map_or_else(|| "-".into(), |p| format!("{p:.1} %"));
        writeln!(
            f,
            "  {name:<a$}  {more:>b$}  {:>10.3}  {:>9.3}  {:>5.1} %  {:>10.2}  {:>8.3}  {:>8.2}  {:>8.1}  {forecast:>11}  {limit:>8}",
            w.seconds * 1e3,
            w.wait_seconds * 1e3,
            percent(w.total_seconds(), p.seconds),
            w.bytes as f64 / 1e6,
            w.ops as f64 / 1e9,
            rate(w.bytes),
            rate(w.ops),
        )?;
    }
    Ok(())
}
