//! The programs that race: where they are, their command lines, and the figures in what they print.

use super::child::Outcome;
use super::parse;
use super::result::{Program, Work};
use std::path::{Path, PathBuf};

/// Who races.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Quipu,
    Llama,
    Ik,
}

impl Who {
    pub const ALL: [Who; 3] = [Who::Quipu, Who::Llama, Who::Ik];

    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Who::Quipu => "quipu",
            Who::Llama => "llama.cpp",
            Who::Ik => "ik_llama.cpp",
        }
    }

    /// The beginning of the variables that name its programs.
    fn prefix(self) -> &'static str {
        if self == Who::Ik { "IK_" } else { "" }
    }
}

/// What a command line is made for.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub work: Work,
    pub path: &'a Path,
    pub threads: usize,
    pub repetitions: usize,
    /// A text of sixteen tokens.
    pub prompt: &'a str,
    /// Repack weights while loading, where it is set on purpose.
    pub repack: Option<bool>,
}

/// A figure of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub value: f64,
    /// What the program says its version is.
    pub version: Option<String>,
    /// Bytes that a token reads and bytes per second that can be read.
    pub read: Option<(f64, f64)>,
    /// Of what memory gave around it, what it used, in percent.
    pub percent: Option<f64>,
}

/// Where a program of a peer is.
fn program(who: Who, what: &str) -> Result<PathBuf, String> {
    let variable = format!("{}LLAMA_{what}", who.prefix());
    match std::env::var_os(&variable).filter(|v| !v.is_empty()) {
        None => Err(format!("{variable} is not set")),
        Some(v) if Path::new(&v).is_file() => std::path::absolute(&v).map_err(|e| format!("{variable}: {e}")),
        Some(v) => Err(format!("{variable} names no file: {}", v.to_string_lossy())),
    }
}

/// What is known of each before anything runs.
pub fn known(quipu: &Path) -> Vec<Program> {
    let peer = |who: Who| {
        let found = ["BENCH", "BATCHED_BENCH", "CLI"].map(|what| {
            program(who, what).map_or_else(|why| format!("left out, {why}"), |p| file_name(&p).to_owned())
        });
        Program { name: who.name().into(), version: String::new(), found: found.join("; ") }
    };
    let version = std::process::Command::new(quipu).arg("--version").output();
    let version = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let version = version.lines().next().unwrap_or_default().trim_start_matches("quipu ").to_owned();
    let version = match commit() {
        Some(commit) => format!("{version}, commit {commit}"),
        None => version,
    };
    let ours = Program { name: "quipu".into(), version, found: "this tree".into() };
    vec![ours, peer(Who::Llama), peer(Who::Ik)]
}

/// The commit of this tree, with a `+` if files differ from it.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let mut c = std::process::Command::new("git");
        let o = c.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
        o.status.success().then(|| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    Some(if changed { format!("{commit}+") } else { commit })
}

fn file_name(p: &Path) -> &str {
    p.file_name().and_then(|n| n.to_str()).unwrap_or("?")
}

/// The command line of a job, or why there is none.
pub fn command(who: Who, quipu: &Path, job: &Job<'_>) -> Result<Vec<String>, String> {
    let (threads, reps) = (job.threads.to_string(), job.repetitions.to_string());
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_string()).collect::<Vec<String>>();
    let mut line = match (who, job.work) {
        (Who::Quipu, Work::Start | Work::Cold) => {
            words(&["run", "-p", job.prompt, "-n", "1", "--temp", "0", "-t", &threads])
        }
        (Who::Quipu, work) => {
            let mut line = words(&["bench", "-r", &reps, "-t", &threads, "--json"]);
            line.extend(ours(work));
            line
        }
        (_, Work::Start | Work::Cold) => words(&["-p", job.prompt, "-n", "1", "--temp", "0", "-t", &threads]),
        (_, Work::Parallel { sequences, behind, tokens }) => {
            // A multiple of 256 cells for each sequence, as llama.cpp rounds.
            let cells = (behind + tokens).div_ceil(256) * 256 * sequences;
            let [c, pp, tg, pl] = [cells, behind, tokens, sequences].map(|n| n.to_string());
            words(&[
                "-c", &c, "-b", "2048", "-ub", "512", "-npp", &pp, "-ntg", &tg, "-npl", &pl, "-t", &threads,
            ])
        }
        (_, work) => {
            let mut line = words(&["-r", &reps, "-t", &threads, "-o", "json"]);
            line.extend(theirs(who, work));
            line
        }
    };
    let program = match (who, job.work) {
        (Who::Quipu, _) => quipu.to_path_buf(),
        (_, Work::Start | Work::Cold) => {
            let p = program(who, "CLI")?;
            line.extend(words(&["--no-warmup", "--no-display-prompt"]));
            // llama.cpp's llama-cli is made for conversations alone; its llama-completion and ik_llama.cpp's llama-cli are
            // not.
            match who {
                Who::Llama if file_name(&p).contains("completion") => line.extend(words(&["-no-cnv"])),
                Who::Llama => line.extend(words(&["-st", "--simple-io"])),
                _ => {}
            }
            p
        }
        (_, Work::Parallel { .. }) => program(who, "BATCHED_BENCH")?,
        _ => program(who, "BENCH")?,
    };
    if who != Who::Quipu {
        line.extend(repack(who, job));
    }
    let path = job.path.to_string_lossy().into_owned();
    // Behind the command of ours.
    let at = usize::from(who == Who::Quipu);
    line.splice(at..at, ["-m".to_string(), path]);
    line.insert(0, program.to_string_lossy().into_owned());
    Ok(line)
}

/// What a job adds to `quipu bench`.
fn ours(work: Work) -> Vec<String> {
    let text = match work {
        Work::Prompt { tokens } => format!("-p {tokens} -n 0 --no-read-rate"),
        Work::Generate { tokens } => format!("-p 0 -n {tokens}"),
        Work::Depth { behind, tokens } => format!("-p 0 -n {tokens} -d {behind}"),
        Work::Parallel { sequences, behind, tokens } => {
            format!("-p 0 -n {tokens} -d {behind} -np {sequences}")
        }
        Work::Memory { tokens } => format!("-p {tokens} -n 8 --no-read-rate"),
        Work::Start | Work::Cold => String::new(),
    };
    text.split_whitespace().map(String::from).collect()
}

/// What a job adds to `llama-bench`.
fn theirs(who: Who, work: Work) -> Vec<String> {
    let text = match work {
        Work::Prompt { tokens } => format!("-p {tokens} -n 0"),
        Work::Generate { tokens } => format!("-p 0 -n {tokens}"),
        // Generation alone is timed, behind a prompt of this length.
        Work::Depth { behind, tokens } if who == Who::Ik => format!("-p 0 -n 0 -gp {behind},{tokens}"),
        Work::Depth { behind, tokens } => format!("-p 0 -n {tokens} -d {behind}"),
        Work::Memory { tokens } => format!("-p {tokens} -n 8"),
        Work::Parallel { .. } | Work::Start | Work::Cold => String::new(),
    };
    text.split_whitespace().map(String::from).collect()
}

/// The flag for repacking, where it is set on purpose.
fn repack(who: Who, job: &Job<'_>) -> Vec<String> {
    let benched = !matches!(job.work, Work::Parallel { .. } | Work::Start | Work::Cold);
    let text = match (who, job.repack) {
        (Who::Llama, Some(on)) if benched => {
            if on {
                "--repack 1"
            } else {
                "--repack 0"
            }
        }
        (Who::Llama, Some(on)) => {
            if on {
                "--repack"
            } else {
                "--no-repack"
            }
        }
        (Who::Ik, Some(on)) if benched => {
            if on {
                "-rtr 1"
            } else {
                "-rtr 0"
            }
        }
        (Who::Ik, Some(true)) => "-rtr",
        _ => "",
    };
    text.split_whitespace().map(String::from).collect()
}

/// The figure in what a run left.
pub fn sample(who: Who, work: Work, o: &Outcome) -> Result<Sample, String> {
    if let Some(why) = &o.failure {
        let words = parse::last_words(&o.stderr);
        return Err(if words.is_empty() { why.clone() } else { format!("{why}: {words}") });
    }
    let plain = |value| Ok(Sample { value, version: None, read: None, percent: None });
    let tested = |prompt, gen_| {
        let t = parse::llama_bench(&o.stdout, prompt, gen_)?;
        Ok(Sample { value: t.speed, version: Some(t.build), read: None, percent: None })
    };
    let ours = |row| {
        let b = parse::quipu_bench(&o.stdout, row)?;
        Ok(Sample { value: b.speed, version: Some(b.isa), read: b.read, percent: b.percent })
    };
    match (who, work) {
        (_, Work::Start | Work::Cold) => plain(o.seconds),
        (_, Work::Memory { .. }) => {
            plain(o.peak_bytes.ok_or("this system does not tell the size of a process")? as f64)
        }
        (Who::Quipu, Work::Prompt { .. }) => ours("prompt"),
        (Who::Quipu, _) => ours("generation"),
        (_, Work::Prompt { tokens }) => tested(tokens, 0),
        (_, Work::Generate { tokens }) => tested(0, tokens),
        (Who::Ik, Work::Depth { behind, tokens }) => tested(behind, tokens),
        (_, Work::Depth { tokens, .. }) => tested(0, tokens),
        (_, Work::Parallel { sequences, .. }) => {
            // ik_llama.cpp's prints its table on standard output or error, by version.
            let both = format!("{}\n{}", o.stdout, o.stderr);
            plain(parse::batched_bench(&both, sequences)?)
        }
    }
}
