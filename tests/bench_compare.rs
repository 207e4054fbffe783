//! The parts of `benches/compare` that need no peer: what programs print, the figures that follow, the tables.
#![allow(clippy::unwrap_used)]

#[path = "../benches/compare/parse.rs"]
mod parse;
#[allow(dead_code)] // the measurement itself uses the rest
#[path = "../benches/compare/result.rs"]
mod result;
#[path = "../benches/compare/table.rs"]
mod table;

use result::{Cell, Entry, PlanTime, Program, Report, Spread, Turn, Work, choose};

/// As `llama-bench -o json` prints, with lines of a library around it.
const LLAMA: &str = r#"load_backend: loaded [CPU] backend
[
  {
    "build_commit": "abc1234",
    "build_number": 9999,
    "model_type": "qwen2 [1B]",
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 0,
    "avg_ts": 366.0,
    "samples_ns": [ 1, 2 ],
    "samples_ts": [ 360.0, 380.0, 362.0 ]
  },
  {
    "build_commit": "abc1234",
    "build_number": 9999,
    "n_prompt": 0,
    "n_gen": 64,
    "samples_ts": [ 60.5 ]
  }
]
llama_perf: done
"#;

#[test]
fn llama_bench_is_read_by_its_tokens() {
    let pp = parse::llama_bench(LLAMA, 512, 0).unwrap();
    assert_eq!((pp.speed, pp.build.as_str()), (362.0, "abc1234 (9999)"));
    assert_eq!(parse::llama_bench(LLAMA, 0, 64).unwrap().speed, 60.5);
    assert!(parse::llama_bench(LLAMA, 256, 0).unwrap_err().contains("no test of 256"));
    for (text, why) in [
        ("", "no JSON"),
        ("]\n[\n", "no JSON"),
        ("[\n  {\n", "no JSON"),
        ("[\n {]", "cannot be read"),
        ("[\n {\"n_prompt\": 5, \"n_gen\": 0, \"samples_ts\": []} ]", "no samples"),
        ("[\n {\"n_prompt\": 5, \"n_gen\": 0, \"samples_ts\": [0.0]} ]", "no samples"),
    ] {
        let e = parse::llama_bench(text, 5, 0).unwrap_err();
        assert!(e.contains(why), "{text}: {e}");
    }
}

#[test]
fn batched_bench_as_lines_of_json_and_as_a_table() {
    let lines = "noise\n{\"pp\": 128, \"tg\": 32, \"pl\": 1, \"speed_tg\": 60.0}\n{\"pp\": 128, \"tg\": 32, \"pl\": 8, \
                 \"speed_tg\": 118.5}\n";
    assert_eq!(parse::batched_bench(lines, 8), Ok(118.5));
    let table = "\
|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|   128 |     32 |    1 |    160 |    0.400 |   320.00 |    0.500 |    64.00 |    0.900 |   177.00 |
|   128 |     32 |    8 |   1280 |    3.000 |   341.33 |    2.160 |   118.52 |    5.160 |   248.06 |
";
    assert_eq!(parse::batched_bench(table, 8), Ok(118.52));
    assert!(parse::batched_bench(table, 4).unwrap_err().contains("4 sequences"));
}

#[test]
fn our_own_output_is_read() {
    let text = r#"{"model": {"isa": "avx2"}, "prompt": null, "generation": {"median": 50.0},
        "weight_bytes_per_token": 100, "cache_bytes_per_token": 20, "read": {"bytes_per_second": 6e9}}"#;
    let ours = parse::quipu_bench(text, "generation").unwrap();
    assert_eq!((ours.speed, ours.read, ours.isa.as_str()), (50.0, Some((120.0, 6e9)), "avx2"));
    assert!(parse::quipu_bench(text, "prompt").unwrap_err().contains("no prompt"));
    assert!(parse::quipu_bench("", "prompt").is_err());
    assert_eq!(ours.percent, None);
    let around = text.replace("\"cache_bytes", "\"generation_percent_of_reads_around\": 96.5, \"cache_bytes");
    assert_eq!(parse::quipu_bench(&around, "generation").unwrap().percent, Some(96.5));
    let around = around.replace("null", "{\"median\": 9.0}");
    assert_eq!(parse::quipu_bench(&around, "prompt").unwrap().percent, None);
    let unread = text.replace(r#"{"bytes_per_second": 6e9}"#, "null");
    assert_eq!(parse::quipu_bench(&unread, "generation").unwrap().read, None);
}

#[test]
fn last_words_fit_into_a_cell() {
    assert_eq!(parse::last_words("a\n  failed | to load \n\n"), "failed  to load");
    assert_eq!(parse::last_words("Error: no such flag\n\nFor more, try '--help'.\n"), "Error: no such flag");
    assert_eq!(parse::last_words(""), "");
    assert_eq!(parse::last_words(&"x".repeat(500)).len(), 160);
}

fn entry(program: &str, samples: &[f64]) -> Entry {
    Entry {
        program: program.into(),
        setting: String::new(),
        shown_only: false,
        samples: samples.iter().map(|s| Some(*s)).collect(),
        left_out: vec![],
        failure: None,
        command: format!("{program} -m x"),
    }
}

fn cell(work: Work, entries: Vec<Entry>) -> Cell {
    Cell {
        file: "m Q8_0".into(),
        work,
        entries,
        percent_of_read: None,
        percent_of_own_read: None,
        read_bytes_per_second: None,
        turns: vec![],
    }
}

#[test]
fn ratios_are_medians_of_pairs_to_the_better_peer() {
    let prompt = Work::Prompt { tokens: 512 };
    let mut c = cell(
        prompt,
        vec![
            entry("quipu", &[10.0, 30.0, 20.0]),
            entry("llama.cpp", &[5.0, 10.0, 5.0]),
            entry("ik_llama.cpp", &[8.0, 8.0, 8.0]),
        ],
    );
    assert_eq!(c.better_peer().unwrap().program, "ik_llama.cpp");
    assert_eq!(c.ratio(), Some(Spread { median: 2.5, min: 1.25, max: 3.75 }));
    // What is only shown is not raced, and who failed is not compared with.
    c.entries[2].shown_only = true;
    assert_eq!(c.better_peer().unwrap().program, "llama.cpp");
    assert_eq!(c.ratio().unwrap().median, 3.0);
    c.entries[1].samples = vec![None, Some(10.0), None];
    assert_eq!(c.ratio(), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
    c.entries[1].samples.clear();
    assert_eq!((c.better_peer(), c.ratio()), (None, None));
    // Of times the least is best.
    let c = cell(
        Work::Start,
        vec![entry("quipu", &[0.1]), entry("llama.cpp", &[0.4]), entry("ik_llama.cpp", &[0.2])],
    );
    assert_eq!(c.better_peer().unwrap().program, "ik_llama.cpp");
    assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    assert_eq!(Spread::of([]), None);
}

#[test]
fn the_tables_hold_what_was_measured() {
    let mut generate = cell(
        Work::Generate { tokens: 64 },
        vec![entry("quipu", &[80.0, 90.0]), entry("llama.cpp", &[60.0, 60.0]), entry("ik_llama.cpp", &[])],
    );
    generate.percent_of_read = Some(73.4);
    generate.percent_of_own_read = Spread::of([96.0, 94.8]);
    generate.entries[1].setting = "no repack".into();
    generate.entries[2].failure = Some("IK_LLAMA_BENCH is not set".into());
    let mut f16 = entry("ik_llama.cpp", &[900.0]);
    (f16.shown_only, f16.setting) = (true, "as BF16".into());
    let prompt = cell(
        Work::Prompt { tokens: 512 },
        vec![entry("quipu", &[1000.0]), entry("llama.cpp", &[500.0]), f16],
    );
    let depth = cell(
        Work::Depth { behind: 4096, tokens: 32 },
        vec![entry("quipu", &[50.0]), entry("llama.cpp", &[25.0]), entry("ik_llama.cpp", &[40.0])],
    );
    let memory = cell(Work::Memory { tokens: 512 }, vec![entry("quipu", &[1_048_576.0 * 546.0])]);
    let report = Report {
        date: "2026-11-21 10:00 UTC".into(),
        machine: "A processor".into(),
        memory: "17 GiB of memory".into(),
        threads: 2,
        isa: "avx512".into(),
        pairs: 2,
        repetitions: 1,
        arguments: vec!["pairs=2".into()],
        programs: vec![Program {
            name: "llama.cpp".into(),
            version: "abc (1)".into(),
            found: "llama-bench".into(),
        }],
        cells: vec![prompt, generate, depth, memory],
        plan: vec![PlanTime {
            shape: "llama-2-7b".into(),
            layers: 32,
            what: "decode",
            milliseconds: Spread { median: 1.5, min: 1.25, max: 2.0 },
        }],
    };
    let text = table::markdown(&report);
    for line in [
        "# quipu beside llama.cpp and ik_llama.cpp, 2026-11-21",
        "- llama.cpp abc (1): llama-bench",
        "| m Q8_0 | 1000 / 500 / - (as BF16: 900) | 2.00 (2.00 to 2.00) | 85.0 / 60.0 (no repack) / IK_LLAMA_BENCH is not \
         set | 1.42 (1.33 to 1.50) | 73 % (95 %) | 546 MiB / - / - |",
        "| m Q8_0 | tg32 behind 4096 | 50.0 | 25.0 | 40.0 | 2.00 (2.00 to 2.00) | 1.25 (1.25 to 1.25) | - |",
        "| llama-2-7b | 32 | decode | 1.50 | 1.25 | 2.00 |",
        "- llama.cpp 60.0 (60.0 to 60.0): `llama.cpp -m x`",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
    }
    // Every row of a table has as many columns as its head.
    let columns = |l: &str| l.matches('|').count();
    let rows: Vec<&str> = text.lines().collect();
    for pair in rows.windows(2).filter(|p| p.iter().all(|l| l.starts_with('|'))) {
        assert_eq!(columns(pair[0]), columns(pair[1]), "{}\n{}", pair[0], pair[1]);
    }
}

#[test]
fn turns_count_where_memory_kept_its_speed() {
    let turns = |rates: &[[f64; 3]]| -> Vec<Turn> {
        rates.iter().map(|r| Turn { reads: r.map(|x| x * 1e9).to_vec(), counts: true }).collect()
    };
    let chosen = |mut t: Vec<Turn>, wanted| {
        choose(&mut t, wanted);
        t.iter().map(|t| t.counts).collect::<Vec<_>>()
    };
    let some = turns(&[[50.0, 52.0, 49.0], [50.0, 80.0, 80.0], [80.0, 79.0, 84.0]]);
    assert_eq!(chosen(some.clone(), 4), [true, false, true]);
    // Too few of them say less than all.
    assert_eq!(chosen(some, 5), [true, true, true]);
    // Nobody watched.
    assert_eq!(chosen(vec![Turn { reads: vec![], counts: true }], 5), [true]);
    // What is shown of it.
    let mut c = cell(Work::Generate { tokens: 64 }, vec![entry("quipu", &[80.0])]);
    c.turns = turns(&[[50.0, 50.0, 50.0], [50.0, 90.0, 90.0]]);
    choose(&mut c.turns, 1);
    let report = Report {
        date: String::new(),
        machine: String::new(),
        memory: String::new(),
        threads: 2,
        isa: String::new(),
        pairs: 1,
        repetitions: 1,
        arguments: vec![],
        programs: vec![],
        cells: vec![c],
        plan: vec![],
    };
    let text = table::markdown(&report);
    let line = "m Q8_0, tg64, 1 of 2 turns (steady ones) at 50.0 GB/s (50.0 to 50.0):";
    assert!(text.lines().any(|l| l == line), "{text}");
}
