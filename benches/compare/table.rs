//! The report as Markdown.

use super::result::{Cell, Entry, Report, Spread, Work};
use std::fmt::Write;

/// Programs in the order of the columns.
const PROGRAMS: [&str; 3] = ["quipu", "llama.cpp", "ik_llama.cpp"];

/// The whole document.
pub fn markdown(r: &Report) -> String {
    let mut s = String::new();
    let date = r.date.get(..10).unwrap_or(&r.date);
    let _ = writeln!(s, "# quipu beside llama.cpp and ik_llama.cpp, {date}\n");
    let _ = writeln!(s, "- {}, {}, {} threads, {}; {}", r.machine, r.memory, r.threads, r.isa, r.date);
    for p in &r.programs {
        let version = if p.version.is_empty() { String::new() } else { format!(" {}", p.version) };
        let _ = writeln!(s, "- {}{version}: {}", p.name, p.found);
    }
    let _ = writeln!(s, "- Command: `cargo bench --bench compare -- {}`", r.arguments.join(" "));
    let _ = writeln!(
        s,
        "- Random weights in real shapes. The programs run in turn, {} times each; figures are medians, ratios medians of \
         the ratios of each turn, with their smallest and largest. The better peer is the one whose median is better.",
        r.pairs
    );
    if r.cells.iter().any(|c| !c.turns.is_empty()) {
        let _ = writeln!(
            s,
            "- Where memory sets the speed, it was read between all runs. Turns in which it changed by more than 15 % were \
             taken again, up to three times as many; where fewer than half were steady in the end, all count. \"Of each run's \
             own\" is of what memory gave right before and after tenths of a second of it."
        );
    }
    main_table(&mut s, r);
    by_row(&mut s, r, "Behind a filled cache, tokens per second", |w| matches!(w, Work::Depth { .. }));
    by_row(&mut s, r, "Several sequences in one step, tokens per second of all together", |w| {
        matches!(w, Work::Parallel { .. })
    });
    by_row(
        &mut s,
        r,
        "Start of the process to its end after one token (prompt of 16); smaller is better",
        |w| matches!(w, Work::Start | Work::Cold),
    );
    by_row(&mut s, r, "Largest resident size; smaller is better", |w| matches!(w, Work::Memory { .. }));
    plan_table(&mut s, r);
    commands(&mut s, r);
    s
}

/// Files in the order of the cells.
fn files(r: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for c in &r.cells {
        if !names.contains(&c.file.as_str()) {
            names.push(&c.file);
        }
    }
    names
}

/// Prompt, generation and memory of each file.
fn main_table(s: &mut String, r: &Report) {
    let of = |file: &str, is: fn(&Work) -> bool| r.cells.iter().find(|c| c.file == file && is(&c.work));
    let prompt: fn(&Work) -> bool = |w| matches!(w, Work::Prompt { .. });
    let generate: fn(&Work) -> bool = |w| matches!(w, Work::Generate { .. });
    let memory: fn(&Work) -> bool = |w| matches!(w, Work::Memory { .. });
    if !r.cells.iter().any(|c| prompt(&c.work) || generate(&c.work)) {
        return;
    }
    let _ = writeln!(s, "\n## Prompt and generation, tokens per second\n");
    let _ = writeln!(
        s,
        "| file | pp: quipu / llama.cpp / ik_llama.cpp | to the better peer | tg: quipu / llama.cpp / ik_llama.cpp | to the \
         better peer | of the read limit (of each run's own) | peak memory |"
    );
    let _ = writeln!(s, "| --- | --- | --- | --- | --- | --- | --- |");
    for file in files(r) {
        let (pp, tg) = (of(file, prompt), of(file, generate));
        if pp.is_none() && tg.is_none() {
            continue;
        }
        let percent = tg.map_or_else(dash, percent);
        let _ = writeln!(
            s,
            "| {file} | {} | {} | {} | {} | {percent} | {} |",
            pp.map_or_else(dash, three),
            pp.map_or_else(dash, |c| ratio(c.ratio())),
            tg.map_or_else(dash, three),
            tg.map_or_else(dash, |c| ratio(c.ratio())),
            of(file, memory).map_or_else(dash, three),
        );
    }
    let _ = writeln!(
        s,
        "\nIn brackets the peer's repack setting that a short trial found faster for the cell. \"As BF16\" turns F16 into \
         BF16 while loading, which loses precision: it is shown, not raced."
    );
}

fn dash() -> String {
    "-".into()
}

/// The medians of all programs.
fn three(c: &Cell) -> String {
    let one = |program| c.entry(program).map_or_else(dash, |e| figure(c, e));
    let mut text = PROGRAMS.map(one).join(" / ");
    for e in c.entries.iter().filter(|e| e.shown_only) {
        let _ = write!(text, " ({}: {})", e.setting, e.spread().map_or_else(dash, |s| c.work.show(s.median)));
    }
    text
}

/// A median with the setting, or why there is none.
fn figure(c: &Cell, e: &Entry) -> String {
    let setting = if e.setting.is_empty() { String::new() } else { format!(" ({})", e.setting) };
    match (e.spread(), &e.failure) {
        (Some(s), None) => format!("{}{setting}", c.work.show(s.median)),
        (Some(s), Some(why)) => format!("{}{setting}, then {why}", c.work.show(s.median)),
        (None, Some(why)) => why.clone(),
        (None, None) => dash(),
    }
}

/// A ratio with its ends.
fn ratio(s: Option<Spread>) -> String {
    s.map_or_else(dash, |s| format!("{:.2} ({:.2} to {:.2})", s.median, s.min, s.max))
}

/// A table of some of the cells with the ratio to each peer.
fn by_row(s: &mut String, r: &Report, title: &str, is: fn(&Work) -> bool) {
    let cells: Vec<&Cell> = r.cells.iter().filter(|c| is(&c.work)).collect();
    if cells.is_empty() {
        return;
    }
    let _ = writeln!(s, "\n## {title}\n");
    let _ = writeln!(
        s,
        "| file | | quipu | llama.cpp | ik_llama.cpp | quipu over llama.cpp | over ik_llama.cpp | of the read limit (of each run's own) |"
    );
    let _ = writeln!(s, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    for c in cells {
        let figures = PROGRAMS.map(|p| c.entry(p).map_or_else(dash, |e| figure(c, e)));
        let over = |p| c.entry("quipu").zip(c.entry(p)).and_then(|(a, b)| a.over(b));
        let percent = percent(c);
        let (llama, ik) = (ratio(over(PROGRAMS[1])), ratio(over(PROGRAMS[2])));
        let [a, b, d] = figures;
        let _ =
            writeln!(s, "| {} | {} | {a} | {b} | {d} | {llama} | {ik} | {percent} |", c.file, c.work.label());
    }
}

/// Of the read limit, and in brackets the median of what each run used of what memory gave around it.
fn percent(c: &Cell) -> String {
    let Some(of_best) = c.percent_of_read else { return dash() };
    let own = c.percent_of_own_read.map_or_else(String::new, |s| format!(" ({:.0} %)", s.median));
    format!("{of_best:.0} %{own}")
}

fn plan_table(s: &mut String, r: &Report) {
    if r.plan.is_empty() {
        return;
    }
    let _ = writeln!(s, "\n## Planning, milliseconds\n\n| shape | layers | what | median | from | to |");
    let _ = writeln!(s, "| --- | --- | --- | --- | --- | --- |");
    for p in &r.plan {
        let Spread { median, min, max } = p.milliseconds;
        let _ =
            writeln!(s, "| {} | {} | {} | {median:.2} | {min:.2} | {max:.2} |", p.shape, p.layers, p.what);
    }
}

/// How many turns count of how many, and how fast memory was in them.
fn turns(c: &Cell) -> String {
    let counting = || c.turns.iter().filter(|t| t.counts);
    let reads = Spread::of(counting().flat_map(|t| t.reads.iter().map(|r| r / 1e9)));
    reads.map_or_else(String::new, |r| {
        let kind = if counting().all(|t| t.steady()) { "steady ones" } else { "all" };
        let (n, of) = (counting().count(), c.turns.len());
        format!(", {n} of {of} turns ({kind}) at {:.1} GB/s ({:.1} to {:.1})", r.median, r.min, r.max)
    })
}

/// Every command with the ends of its samples.
fn commands(s: &mut String, r: &Report) {
    if r.cells.is_empty() {
        return;
    }
    let _ = writeln!(s, "\n## Commands and samples\n");
    for c in &r.cells {
        let read =
            c.read_bytes_per_second.map_or_else(String::new, |b| format!(", read limit {:.1} GB/s", b / 1e9));
        let _ = writeln!(s, "{}, {}{read}{}:\n", c.file, c.work.label(), turns(c));
        for e in &c.entries {
            let spread = e.spread().map_or_else(dash, |x| {
                let show = |v| c.work.show(v);
                format!("{} ({} to {})", show(x.median), show(x.min), show(x.max))
            });
            let failure = e.failure.as_ref().map_or_else(String::new, |f| format!("; {f}"));
            let command = if e.command.is_empty() { String::new() } else { format!(": `{}`", e.command) };
            let _ = writeln!(s, "- {} {spread}{failure}{command}", e.program);
        }
        let _ = writeln!(s);
    }
}
