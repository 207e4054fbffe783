//! The arguments, all of the form `name=value`.

use quipu::backends::Isa;
use quipu::backends::team::default_threads;
use std::path::PathBuf;

/// Kinds of rows, as `rows=` names them, in the order they are measured.
pub const ROWS: [&str; 8] = ["pp", "tg", "depth", "np", "start", "cold", "mem", "plan"];

/// What to measure and how.
#[derive(Clone, Debug)]
pub struct Want {
    /// Names of files as `SHAPE:TYPE`, or a shape alone for all its usual types.
    pub files: Vec<String>,
    pub rows: Vec<String>,
    pub dir: PathBuf,
    pub pairs: usize,
    pub repetitions: usize,
    pub threads: usize,
    pub isa: Option<Isa>,
    /// Tokens of prompts, of generations; where stated, for every file.
    pub prompt: Option<u32>,
    pub generate: Option<u32>,
    /// Tokens in the cache; where stated, for every file.
    pub depths: Vec<u32>,
    /// Sequences in a step.
    pub sequences: u32,
    /// Seconds that one run of a program may take.
    pub timeout: u64,
    /// Files for the report as JSON and as Markdown.
    pub json: Option<PathBuf>,
    pub out: Option<PathBuf>,
    /// The program of ours.
    pub quipu: PathBuf,
    /// The arguments as they were given.
    pub given: Vec<String>,
}

const USAGE: &str = "arguments: files=SHAPE:TYPE,... rows=pp,tg,depth,np,start,cold,mem,plan dir=FOLDER pairs=N reps=N \
                     threads=N isa=ISA prompt=N generate=N depths=N,... sequences=N timeout=SECONDS json=FILE out=FILE \
                     quipu=PROGRAM";

impl Want {
    /// From the command line; a complaint if something in it is wrong.
    pub fn read() -> Result<Want, String> {
        let given: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let mut w = Want {
            files: vec![],
            rows: ROWS.iter().map(|r| (*r).into()).collect(),
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare"),
            pairs: 5,
            repetitions: 1,
            threads: default_threads(),
            isa: None,
            prompt: None,
            generate: None,
            depths: vec![],
            sequences: 8,
            timeout: 1200,
            json: None,
            out: None,
            quipu: env!("CARGO_BIN_EXE_quipu").into(),
            given: given.clone(),
        };
        for a in &given {
            let (name, value) = a.split_once('=').ok_or_else(|| wrong(a))?;
            match name {
                "files" => w.files = list(value),
                "rows" => w.rows = list(value),
                "dir" => w.dir = value.into(),
                "json" => w.json = Some(value.into()),
                "out" => w.out = Some(value.into()),
                "quipu" => w.quipu = value.into(),
                "isa" => w.isa = Some(value.parse().map_err(|_| wrong(a))?),
                "depths" => {
                    let depths: Option<Vec<u32>> =
                        list(value).iter().map(|d| d.parse().ok().filter(|d| *d > 0)).collect();
                    w.depths = depths.ok_or_else(|| wrong(a))?;
                }
                _ => {
                    let n: u32 = value.parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong(a))?;
                    match name {
                        "pairs" => w.pairs = n as usize,
                        "reps" => w.repetitions = n as usize,
                        "threads" => w.threads = n as usize,
                        "prompt" => w.prompt = Some(n),
                        "generate" => w.generate = Some(n),
                        "sequences" => w.sequences = n,
                        "timeout" => w.timeout = n.into(),
                        _ => return Err(wrong(a)),
                    }
                }
            }
        }
        // Programs run in the folder of the files.
        for path in [&mut w.dir, &mut w.quipu] {
            *path = std::path::absolute(&*path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        match w.rows.iter().find(|r| !ROWS.contains(&r.as_str())) {
            Some(row) => Err(format!("no row is called {row}; {USAGE}")),
            None => Ok(w),
        }
    }

    /// Whether a row is wanted.
    pub fn row(&self, name: &str) -> bool {
        self.rows.iter().any(|r| r == name)
    }
}

fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|v| !v.is_empty()).map(String::from).collect()
}

fn wrong(argument: &str) -> String {
    format!("{argument} is no argument of this measurement; {USAGE}")
}
