//! The page of `quipu plan --format html` in a browser: drawn, readable and working at two widths, in light and dark.
//!
//! Wants Chromium, as `chromium` on the path or in QUIPU_CHROMIUM; without one the test says so and passes, unless
//! QUIPU_REQUIRE_CHROMIUM is set, as in CI.
#![allow(clippy::unwrap_used)]

mod common;

use common::plans::{LIMITS, header};
use common::process::run;
use quipu::engine::{EngineOptions, RunForecast};
use quipu::plan::Phase;
use quipu::plan::report::{PageOptions, page};
use quipu::quant::DType;
use std::path::Path;
use std::process::Command;

/// The page of a shape, as the command writes it.
fn page_of(shape: &str) -> String {
    let file = header(shape, DType::Q8_0);
    let options = EngineOptions { n_ctx: Some(2048), threads: Some(2), ..EngineOptions::default() };
    let forecast = RunForecast::new(&file, &options).unwrap();
    let plans = [Phase::Prefill, Phase::Decode].map(|p| forecast.plan(p).unwrap());
    let limits = Some((LIMITS, "a processor".into()));
    page(&plans, &PageOptions { title: shape.into(), threads: 2, limits, ..PageOptions::default() })
}

/// What is wrong with a page in a window of this width: windows are never as narrow as a telephone, so the page sits in
/// a frame of one that is wide enough.
fn wrong(chromium: &str, folder: &Path, page: &str, width: u32, dark: bool) -> Vec<String> {
    let html = page.replace('&', "&amp;").replace('"', "&quot;");
    let script = include_str!("page/check.js");
    let outer = format!(
        "<!doctype html><meta charset=\"utf-8\"><body style=\"margin:0\">\
         <iframe id=\"frame\" style=\"border:0;width:{width}px;height:900px\" srcdoc=\"{html}\"></iframe>\
         <script>const want = {{ width: {width}, dark: {dark} }};\n{script}</script>"
    );
    let path = folder.join("page.html");
    std::fs::write(&path, outer).unwrap();
    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"]);
    command.args(["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000", "--dump-dom"]);
    command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
    command.arg(format!("--window-size={},1000", width.max(600)));
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command.arg(format!("file://{}", path.display()));
    let done = run(&mut command);
    let verdict = done.stdout.split_once("<pre id=\"verdict\">").and_then(|v| v.1.split_once("</pre>"));
    let Some((verdict, _)) = verdict else { panic!("no verdict: {:?} {}", done.code, done.stderr) };
    let text = verdict.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn pages_are_drawn_and_work_at_two_widths_in_light_and_dark() {
    let chromium = std::env::var("QUIPU_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    if Command::new(&chromium).arg("--version").output().is_err() {
        assert!(std::env::var_os("QUIPU_REQUIRE_CHROMIUM").is_none(), "{chromium} is not there");
        eprintln!("not run: {chromium} is not there; QUIPU_CHROMIUM names one");
        return;
    }
    for shape in ["llama-2-7b", "qwen2.5-0.5b"] {
        let page = page_of(shape);
        for (width, dark) in [(1400, false), (1400, true), (420, false), (420, true)] {
            let folder = tempfile::tempdir().unwrap();
            let wrong = wrong(&chromium, folder.path(), &page, width, dark);
            assert!(wrong.is_empty(), "{shape} at {width}, dark {dark}: {wrong:#?}");
        }
    }
    // The test can fail: a page without its script has nothing in it.
    let folder = tempfile::tempdir().unwrap();
    let broken = page_of("llama-2-7b").replace("function arena() {", "function arena() { return;");
    let wrong = wrong(&chromium, folder.path(), &broken, 1400, false);
    assert!(wrong.iter().any(|w| w.contains("0 rectangles")), "{wrong:?}");
}
