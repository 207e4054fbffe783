//! Forecast and real run of full-size shapes with random weights, as the table of `benches/README.md`: measures the
//! machine, writes each model, states memory and speed from its header, then runs it. Nothing else should run meanwhile.
//!
//! `cargo bench --bench forecast [-- SHAPE:TYPE|threads=N|prompt=N|generate=N|runs=N|dir=FOLDER ...]`

use quipu::Result;
use quipu::backends::Isa;
use quipu::backends::calibrate::Machine;
use quipu::backends::team::default_threads;
use quipu::debug::machine::peak_memory;
use quipu::engine::{Engine, EngineOptions, Logits, Pace, RunForecast, StepInput};
use quipu::loader::synth::synth;
use quipu::plan::report::human_bytes;
use quipu::quant::DType;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One shape of every architecture that differs, floats and blocks.
const MODELS: &[(&str, DType)] = &[
    ("qwen2.5-0.5b", DType::Q8_0),
    ("qwen2.5-0.5b", DType::F16),
    ("qwen3-0.6b", DType::Q4_K),
    ("tinyllama-1.1b", DType::Q8_0),
    ("llama-3.2-1b", DType::Q4_K),
    ("phi-3-mini-4k", DType::Q4_K),
];

struct Want {
    models: Vec<(String, DType)>,
    threads: usize,
    prompt: u32,
    generate: u32,
    runs: usize,
    dir: PathBuf,
}

fn arguments() -> Want {
    let mut w = Want {
        models: vec![],
        threads: default_threads(),
        prompt: 512,
        generate: 48,
        runs: 3,
        dir: std::env::temp_dir(),
    };
    for a in std::env::args().skip(1) {
        let number = |name: &str| a.strip_prefix(name).and_then(|v| v.parse::<u32>().ok());
        if let Some((shape, dtype)) = a.split_once(':') {
            let Some(dtype) = DType::from_name(dtype) else { panic!("{dtype} is no element type") };
            w.models.push((shape.into(), dtype));
        } else if let Some(dir) = a.strip_prefix("dir=") {
            w.dir = dir.into();
        } else if let Some(n) = number("threads=") {
            w.threads = n as usize;
        } else if let Some(n) = number("prompt=") {
            w.prompt = n.max(1);
        } else if let Some(n) = number("generate=") {
            w.generate = n.max(1);
        } else if let Some(n) = number("runs=") {
            w.runs = n.max(1) as usize;
        } else if a != "--bench" {
            panic!("{a} is no argument of this measurement");
        }
    }
    if w.models.is_empty() {
        w.models = MODELS.iter().map(|(shape, dtype)| (shape.to_string(), *dtype)).collect();
    }
    w
}

fn main() -> Result<()> {
    let want = arguments();
    // Models one after the other in processes of their own: a peak is that of a process.
    if let Ok(path) = std::env::var("QUIPU_BENCH_FORECAST_FILE") {
        return measure(Path::new(&path), &want);
    }
    eprintln!("measuring the machine");
    let machine = Machine::measure(&[want.threads], |_, _, _| ())?;
    let limits = want.dir.join("quipu-forecast-limits.json");
    machine.save(&limits)?;
    println!("{}, {} threads, {}\n", machine.processor, want.threads, Isa::best());
    println!(
        "| file | peak: forecast | measured | prompt {}: forecast | tok/s | ratio | generate {}: forecast | tok/s | ratio |",
        want.prompt, want.generate
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (shape, dtype) in &want.models {
        eprintln!("{shape} {dtype}");
        let path = want.dir.join(format!("quipu-forecast-{shape}-{dtype}.gguf"));
        let file = std::fs::File::create(&path).expect("a folder that can be written: dir=");
        synth(shape, *dtype, 1, std::io::BufWriter::new(file))?;
        print!("| {shape}, {dtype} ");
        // The rest of the row comes from another process.
        std::io::stdout().flush().expect("standard output");
        let me = std::env::current_exe().expect("a process has a file");
        let status = std::process::Command::new(me)
            .args(std::env::args().skip(1))
            .env("QUIPU_BENCH_FORECAST_FILE", &path)
            .env("QUIPU_LIMITS", &limits)
            .status();
        std::fs::remove_file(&path).ok();
        assert!(status.is_ok_and(|s| s.success()), "{shape} {dtype} failed");
    }
    std::fs::remove_file(&limits).ok();
    Ok(())
}

/// Forecasts and runs one model; prints the rest of its row.
fn measure(path: &Path, want: &Want) -> Result<()> {
    let options = EngineOptions {
        threads: Some(want.threads),
        n_ctx: Some(want.prompt.max(want.generate)),
        n_seq_max: 1,
        n_outputs: 1,
        ..EngineOptions::default()
    };
    let machine = Machine::kept().expect("limits were kept above");
    let limits = machine.find(Isa::best(), want.threads as u32).expect("they were measured above");
    let forecast = RunForecast::open(path, &options)?;
    let mut engine = Engine::load(path, options)?;
    let mut session = engine.new_session()?;
    let tokens: Vec<u32> = (0..want.prompt.max(want.generate))
        .map(|i| i.wrapping_mul(2_654_435_761) % engine.n_vocab())
        .collect();
    let mut run = |n: u32, chunk: usize| -> Result<f64> {
        let mut seconds = Vec::new();
        // Once more than counts: the first run touches memory.
        for _ in 0..=want.runs {
            session.reset();
            let start = Instant::now();
            for tokens in tokens[..n as usize].chunks(chunk) {
                engine.step(&mut [StepInput { session: &mut session, tokens, logits: Logits::Last }])?;
            }
            seconds.push(start.elapsed().as_secs_f64());
        }
        let mut kept = seconds.split_off(1);
        kept.sort_by(f64::total_cmp);
        Ok(f64::from(n) / kept[kept.len() / 2])
    };
    let prompt = run(want.prompt, usize::MAX)?;
    let generated = run(want.generate, 1)?;
    for held in forecast.hold(&engine, &session) {
        assert!(held.holds, "not as planned: {held:?}");
    }
    let beside = |pace: Pace, found: f64| {
        format!("{:.1} | {found:.1} | {:.2}", pace.tokens_per_second, found / pace.tokens_per_second)
    };
    println!(
        "| {} | {} | {} | {} |",
        human_bytes(forecast.memory().total()),
        peak_memory().map_or_else(|| "?".into(), human_bytes),
        beside(forecast.prompt(limits, 0, want.prompt), prompt),
        beside(forecast.generation(limits, 0, want.generate), generated)
    );
    Ok(())
}
