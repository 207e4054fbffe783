//! What people see of a plan: text, picture, page and difference; and plans read back from files.
#![allow(clippy::unwrap_used)]

mod common;

use common::plans::{LIMITS, header};
use quipu::backends::Isa;
use quipu::graph::builder::CacheTypes;
use quipu::models;
use quipu::plan::report::{self, PageOptions};
use quipu::plan::{self, Backend, FuseOptions, Phase, Plan, PlanOptions, Region};
use quipu::quant::DType;

fn make(shape: &str, dtype: DType, phase: Phase, fuse: FuseOptions, isa: Isa) -> Plan {
    let graph = models::declare(&header(shape, dtype), &[], CacheTypes::default()).unwrap().graph;
    let max_rows = if phase == Phase::Prefill { 64 } else { 1 };
    let options =
        PlanOptions { phase, isa, backend: Backend::Null, max_rows, max_out_rows: 1, n_ctx: 256, fuse };
    plan::plan(&graph, &options).unwrap()
}

fn tiny() -> Plan {
    make("tiny-llama", DType::Q8_0, Phase::Decode, FuseOptions::default(), Isa::Avx512)
}

/// Line numbers of architecture files are no property of a plan.
fn without_lines(text: &str) -> String {
    let cut = |line: &str| match line.split_once(".rs:") {
        Some((a, b)) => format!("{a}.rs{}", b.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => line.to_string(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

#[test]
fn text_with_times_the_picture_and_a_difference_are_what_they_were() {
    let p = tiny();
    insta::assert_snapshot!("text", without_lines(&report::print_with(&p, Some(&LIMITS))));
    insta::assert_snapshot!("dot", report::dot(&p, Some(1)));
    let other =
        make("tiny-llama", DType::F16, Phase::Decode, FuseOptions::without(&["gate_up"]).unwrap(), Isa::Avx2);
    insta::assert_snapshot!("diff", without_lines(&report::diff(&p, &other).to_string()));
}

#[test]
fn a_plan_does_not_differ_from_itself_read_back() {
    let p = tiny();
    let json = serde_json::to_string(&p).unwrap();
    let read = Plan::from_json(json.as_bytes(), "p").unwrap();
    let d = report::diff(&p, &read);
    assert!(d.is_empty() && d.same == p.cmds.len(), "{d}");
}

#[test]
fn fusion_switched_off_shows_as_commands_added_and_removed() {
    let p = tiny();
    let unfused = make("tiny-llama", DType::Q8_0, Phase::Decode, FuseOptions::none(), Isa::Avx512);
    let d = report::diff(&p, &unfused);
    assert!(d.weights.is_empty(), "{:?}", d.weights);
    assert!(d.commands.iter().any(|(mark, l)| *mark == '+' && l.contains("null.linear ffn_gate-0")), "{d}");
    let changed = |l: &str| l.starts_with("ffn_swiglu-0 null.linear_swiglu") && l.contains("->  null.swiglu");
    assert!(d.commands.iter().any(|(mark, l)| *mark == '!' && changed(l)), "{d}");
    let back = report::diff(&unfused, &p);
    let count = |d: &report::Difference, mark| d.commands.iter().filter(|c| c.0 == mark).count();
    assert_eq!((count(&d, '+'), count(&d, '-')), (count(&back, '-'), count(&back, '+')));
}

/// The JSON in the page's data element.
fn data(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_page_holds_every_command_buffer_and_time_and_needs_no_network() {
    let (prefill, decode) =
        (make("tiny-llama", DType::Q8_0, Phase::Prefill, FuseOptions::default(), Isa::Avx512), tiny());
    let options = PageOptions {
        title: "tiny".into(),
        threads: 2,
        limits: Some((LIMITS, "a processor".into())),
        ..PageOptions::default()
    };
    let page = report::page(&[&prefill, &decode], &options);
    assert!(!page.contains("%TITLE%") && !page.contains("%DATA%") && !page.contains("%JS%"));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !outside.contains("http") && !outside.contains("src=") && !outside.contains("@import"),
        "loads something"
    );
    let d = data(&page);
    for (view, p) in d["plans"].as_array().unwrap().iter().zip([&prefill, &decode]) {
        assert_eq!(view["cmds"].as_array().unwrap().len(), p.cmds.len());
        let in_arena = p.buffers.rows().iter().filter(|b| b.region == Region::Arena).count();
        assert_eq!(view["buffers"].as_array().unwrap().len(), in_arena);
        let seconds: f64 = view["cmds"].as_array().unwrap().iter().map(|c| c["s"].as_f64().unwrap()).sum();
        let forecast = p.forecast(&LIMITS, p.sizes());
        assert!((seconds / forecast.seconds - 1.0).abs() < 1e-9);
    }
}

#[test]
fn names_from_files_cannot_leave_their_place_in_a_page() {
    let mut p = tiny();
    let evil = "</script><script>alert(1)</script><!--<script>%JS%";
    for name in &mut p.names {
        name.push_str(evil);
    }
    let options = PageOptions { title: evil.into(), ..PageOptions::default() };
    let page = report::page(&[&p], &options);
    assert_eq!(page.matches("</script>").count(), 2, "the data and the script of the page end once each");
    assert_eq!(page.matches("<script>alert").count(), 0);
    assert!(data(&page)["title"].as_str() == Some(evil));
}

#[test]
fn plans_that_name_rows_outside_their_tables_are_refused() {
    let good = serde_json::to_value(tiny()).unwrap();
    let last = |v: &serde_json::Value| v.as_array().unwrap().len();
    let damages: [(&str, serde_json::Value); 7] = [
        ("/format", 1.into()),
        ("/cmds/0/kernel", 60000.into()),
        ("/cmds/0/first", u32::MAX.into()),
        ("/cmds/3/rule", 999.into()),
        ("/operands/0/name", 1_000_000.into()),
        ("/operands/1/index", 1_000_000.into()),
        ("/buffers/0/last", last(&good["cmds"]).into()),
    ];
    for (at, value) in damages {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value;
        let e = Plan::from_json(bad.to_string().as_bytes(), "p").unwrap_err();
        assert_eq!((e.code(), e.class().exit_code()), ("BadPlan", 4), "{at}: {e}");
    }
    let mut short = good.clone();
    short["costs"].as_array_mut().unwrap().pop();
    assert!(Plan::from_json(short.to_string().as_bytes(), "p").is_err());
    for text in ["", "null", "{\"format\":2}", "[[[[[[", "\u{1b}[2J"] {
        assert_eq!(Plan::from_json(text.as_bytes(), "p\n").unwrap_err().code(), "BadPlan");
    }
}

/// Every number of a plan's file replaced by numbers that sums, products and divisions take badly: the file is
/// refused, or what it holds can be shown and is proven fit to run or refused, without a panic.
#[test]
fn bad_numbers_anywhere_in_a_plan_file_are_shown_or_refused() {
    let good = make("nano-llama", DType::Q8_0, Phase::Decode, FuseOptions::default(), Isa::Scalar);
    let json = serde_json::to_string(&good).unwrap();
    let digit = |i: usize| json.as_bytes().get(i).is_some_and(u8::is_ascii_digit);
    let (mut refused, mut shown) = (0, 0);
    for at in (1..json.len()).filter(|at| digit(*at) && !digit(at - 1)) {
        let end = (at..).find(|i| !digit(*i)).unwrap();
        for n in ["0", "1", "65535", "2147483648", "4294967295", "18446744073709551615"] {
            let bad = format!("{}{n}{}", &json[..at], &json[end..]);
            let Ok(p) = Plan::from_json(bad.as_bytes(), "p") else {
                refused += 1;
                continue;
            };
            shown += 1;
            assert!(!report::print_with(&p, Some(&LIMITS)).is_empty());
            assert!(!report::dot(&p, None).is_empty());
            assert!(!report::page(&[&p], &PageOptions::default()).is_empty());
            let _ = report::diff(&good, &p).to_string();
            let _ = quipu::backends::check::check(&p);
        }
    }
    assert!(refused > 100 && shown > 100);
}
