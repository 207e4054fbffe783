//! quipu beside llama.cpp and ik_llama.cpp, run in turn on the same files: the tables of `benches/results`.
//!
//! `cargo bench --bench compare -- [files=SHAPE:TYPE,...] [rows=pp,tg,depth,np,start,cold,mem,plan] [pairs=5] ...`
//!
//! The programs of the peers are named by variables and never built: `LLAMA_BENCH`, `LLAMA_BATCHED_BENCH`, `LLAMA_CLI`, and
//! the same with `IK_` before them. `benches/README.md` says more. Nothing else should run meanwhile.

mod args;
mod cells;
mod child;
mod files;
mod parse;
mod plan_time;
mod programs;
mod result;
mod table;

use args::Want;
use files::Model;
use quipu::backends::Isa;
use quipu::backends::measure::Reader;
use quipu::debug::machine::processor;
use quipu::error::Result;
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use quipu::text::{EncodeOptions, Tokenizer};
use result::{Report, Work};
use std::process::ExitCode;

/// Tokens of the prompt that a start is measured with.
const START_TOKENS: usize = 16;

fn main() -> ExitCode {
    if child::is_child() {
        return ExitCode::SUCCESS;
    }
    let want = match Want::read() {
        Ok(want) => want,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    match compare(&want) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn compare(want: &Want) -> Result<()> {
    let isa = want.isa.unwrap_or_else(Isa::best);
    let mut report = Report {
        date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z").to_string(),
        machine: processor(),
        memory: memory(),
        threads: want.threads,
        isa: isa.to_string(),
        pairs: want.pairs,
        repetitions: want.repetitions,
        arguments: want.given.clone(),
        programs: programs::known(&want.quipu),
        cells: vec![],
        plan: vec![],
    };
    for p in &report.programs {
        eprintln!("{} {}: {}", p.name, p.version, p.found);
    }
    let models = files::wanted(want)?;
    let cells: Vec<(&Model, Work)> =
        models.iter().flat_map(|m| m.works(want).into_iter().map(move |w| (m, w))).collect();
    let racing = 1 + report.programs.iter().skip(1).filter(|p| !p.found.starts_with("left out")).count();
    let seconds: f64 = cells.iter().map(|(m, w)| cells::estimate(want, m, *w, racing)).sum();
    eprintln!(
        "{} cells, roughly {:.0} minutes, beside writing files that are missing",
        cells.len(),
        seconds / 60.0
    );
    if want.row("plan") {
        report.plan = plan_time::measure(isa)?;
        keep(want, &report);
    }
    if !cells.is_empty() {
        std::fs::create_dir_all(&want.dir).expect("a folder that can be written: dir=");
    }
    let mut reader =
        if cells.iter().any(|(_, w)| w.is_watched()) { Some(Reader::new(want.threads)?) } else { None };
    for (i, (model, work)) in cells.iter().enumerate() {
        let done = match model.make().and_then(|()| prompt(model)) {
            Ok(prompt) => cells::measure(want, model, *work, &prompt, reader.as_mut()),
            Err(e) => {
                eprintln!("{}: {e}", model.name());
                continue;
            }
        };
        for (name, version) in done.versions {
            if let Some(p) = report.programs.iter_mut().skip(1).find(|p| p.name == name) {
                p.version = version;
            }
        }
        let figures: Vec<String> = done.cell.entries.iter().map(|e| progress(*work, e)).collect();
        let ratio = done.cell.ratio().map_or_else(String::new, |r| format!("; ratio {:.2}", r.median));
        let label = work.label();
        eprintln!("[{}/{}] {}, {label}: {}{ratio}", i + 1, cells.len(), model.name(), figures.join(", "));
        report.cells.push(done.cell);
        // Whatever comes later, this much is kept.
        keep(want, &report);
    }
    println!("{}", table::markdown(&report));
    Ok(())
}

fn progress(work: Work, e: &result::Entry) -> String {
    let figure = e.spread().map_or_else(String::new, |s| format!(" {}", work.show(s.median)));
    let why = e.failure.as_ref().map_or_else(String::new, |f| format!(" ({f})"));
    format!("{}{figure}{why}", e.program)
}

/// Writes the report so far to the files that were named.
fn keep(want: &Want, report: &Report) {
    let json = || serde_json::to_string_pretty(report).expect("text and numbers are JSON");
    let files = [(&want.json, json()), (&want.out, table::markdown(report))];
    for (path, text) in files {
        let Some(path) = path else { continue };
        if let Err(e) = std::fs::write(path, text) {
            eprintln!("{}: {e}", path.display());
        }
    }
}

/// A text of [`START_TOKENS`] tokens, the first of the sequence included.
fn prompt(model: &Model) -> Result<String> {
    const WORDS: [&str; 8] = [" the", " little", " girl", " was", " happy", " and", " saw", " water"];
    let file = Gguf::open(
        &model.path,
        LoadMode::Mmap,
        &ParseOptions { header_only: true, ..ParseOptions::default() },
    )?;
    let tokenizer = Tokenizer::from_gguf(&file)?;
    let mut text = String::from("Once upon a time");
    let mut ids = Vec::new();
    for i in 0.. {
        ids.clear();
        tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: true }, &mut ids)?;
        if ids.len() >= START_TOKENS {
            break;
        }
        text.push_str(WORDS[i % WORDS.len()]);
    }
    Ok(text)
}

/// The machine's memory, for people.
fn memory() -> String {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or_else(|| "memory unknown".into(), |k: f64| format!("{:.0} GiB of memory", k / 1_048_576.0))
}
