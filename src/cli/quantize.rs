//! `quipu quantize`: a model in other element types.

use super::args::{OverrideArgs, ThreadArgs};
use super::out::{Failure, Out, note};
use super::terminal;
use super::whole_file;
use quipu::error::{Error, Problem, escape};
use quipu::loader::file_type::FILE_TYPES;
use quipu::loader::quantize::{Options, Plan};
use quipu::loader::{FileType, Gguf, LoadMode, ParseOptions, mix};
use quipu::quant::DType;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Write a model with other element types, as llama-quantize does.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// The model (of a split one its first file), the file to write (replaced if it is there), the file type by name or number, and threads as
    /// llama-quantize takes them; --dry-run needs no file to write
    #[arg(value_names = ["IN", "OUT", "TYPE", "THREADS"], num_args = 2..=4, required = true)]
    places: Vec<OsString>,
    /// Give every matrix the one type, without the exceptions of a mix
    #[arg(long)]
    pure: bool,
    /// Leave output.weight as it is
    #[arg(long)]
    leave_output_tensor: bool,
    /// The type of output.weight
    #[arg(long, value_name = "T")]
    output_tensor_type: Option<String>,
    /// The type of token_embd.weight
    #[arg(long, value_name = "T")]
    token_embedding_type: Option<String>,
    /// Take tensors that are quantised already; what was lost stays lost
    #[arg(long)]
    allow_requantize: bool,
    /// Print what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object with every tensor
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
}

fn after_help() -> String {
    let names: Vec<_> = FILE_TYPES.iter().map(|f| f.name).collect();
    format!(
        "Types: {}. Those that end in _S, _M or _L, Q2_K and the IQ4s are mixes: tensors that suffer more get more \
         bits.\nRows that do not fit a type get the next one that they fit.\n\n\
         Examples:\n  quipu quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M\n  \
         quipu quantize --dry-run model-f16.gguf Q5_K_M",
        names.join(", ")
    )
}

#[derive(serde::Serialize)]
struct Report<'a> {
    input: String,
    output: Option<String>,
    file_type: &'static str,
    #[serde(flatten)]
    sums: Sums,
    tensors: Vec<quipu::loader::quantize::Row<'a>>,
}

/// Sizes of all tensors together.
#[derive(Clone, Copy, serde::Serialize)]
struct Sums {
    weights: u64,
    from_bytes: u64,
    to_bytes: u64,
    from_bits_per_weight: f64,
    to_bits_per_weight: f64,
    fallbacks: usize,
    file_bytes: u64,
}

/// Plans the types, writes the file, says what became of it.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let Places { input, output, file_type, threads } = args.places()?;
    let options = args.options()?;
    if let Some(n) = args.threads.count()?.or(threads) {
        // The pool can be set once, and here it is the first time.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    }
    let mut file = Gguf::open(&input, LoadMode::Mmap, &ParseOptions::default())?;
    if let Some(output) = &output {
        // Of a split model, none of the files.
        file.files().filter_map(|f| f.path()).try_for_each(|input| refuse_same(input, output))?;
    }
    for (key, value) in args.overrides.parse()? {
        file.set_override(&key, value)?;
    }
    let plan = Plan::new(&file, file_type, &options)?;
    let sums = sums(&plan);
    if let (Some(output), false) = (&output, args.dry_run) {
        write(&plan, output, sums.from_bytes)?;
    }
    let output = output.filter(|_| !args.dry_run);
    if args.json {
        let tensors = plan.rows().collect();
        let name = |p: &Path| p.to_string_lossy().into_owned();
        let (input, output) = (name(&input), output.as_deref().map(name));
        return out.json(&Report { input, output, file_type: file_type.name, sums, tensors });
    }
    if args.dry_run {
        out.text(&table(&plan))?;
        out.line(summary(&input, file_type, &sums))
    } else {
        note(summary(output.as_deref().unwrap_or(&input), file_type, &sums));
        Ok(())
    }
}

struct Places {
    input: PathBuf,
    output: Option<PathBuf>,
    file_type: FileType,
    threads: Option<usize>,
}

/// As [`ThreadArgs::count`], of the last argument.
fn threads_of(text: &str) -> Result<Option<usize>, Error> {
    let bad = |_| {
        let p = Problem::new("BadNumber", "THREADS").found(format!("\"{}\"", escape(text)));
        Error::usage(p.expected("a number of threads behind IN OUT TYPE"))
    };
    ThreadArgs { threads: Some(text.parse().map_err(bad)?) }.count()
}

impl Args {
    /// What the arguments without a flag mean. An output may be missing on a dry run, threads always.
    fn places(&self) -> Result<Places, Error> {
        let is_type = |name: &OsString| FileType::named(&name.to_string_lossy()).is_ok();
        let (input, output, name, threads) = match self.places.as_slice() {
            [input, name] if self.dry_run => (input, None, name, None),
            [input, name, threads] if self.dry_run && is_type(name) => (input, None, name, Some(threads)),
            [input, output, name] => (input, Some(output), name, None),
            [input, output, name, threads] => (input, Some(output), name, Some(threads)),
            _ => {
                let p = Problem::new("MissingArgument", "OUT").expected("IN OUT TYPE");
                return Err(Error::usage(p.hint("only --dry-run needs no file to write")));
            }
        };
        let threads = match threads {
            None => None,
            Some(n) => threads_of(&n.to_string_lossy())?,
        };
        let file_type = FileType::named(&name.to_string_lossy())?;
        Ok(Places { input: input.into(), output: output.map(PathBuf::from), file_type, threads })
    }

    fn options(&self) -> Result<Options, Error> {
        let named = |flag: &str, name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => match DType::from_name(name).filter(|t| t.weight_codec().is_some()) {
                Some(t) => Ok(Some(t)),
                None => Err(Error::usage(
                    Problem::new("UnknownType", flag)
                        .found(format!("\"{}\"", escape(name)))
                        .expected("an element type such as q6_k"),
                )),
            },
        };
        let mix = mix::Options {
            pure: self.pure,
            leave_output: self.leave_output_tensor,
            output: named("--output-tensor-type", &self.output_tensor_type)?,
            embedding: named("--token-embedding-type", &self.token_embedding_type)?,
        };
        Ok(Options { mix, allow_requantize: self.allow_requantize })
    }
}

/// The input is never the output: a model is easier lost than made.
fn refuse_same(input: &Path, output: &Path) -> Result<(), Error> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => {
            let p = Problem::new("SameFile", escape(&output.to_string_lossy()));
            Err(Error::usage(p.found("the input itself").expected("another file to write")))
        }
        _ => Ok(()),
    }
}

fn write(plan: &Plan<'_>, output: &Path, total: u64) -> Result<(), Failure> {
    let rows: Vec<_> = plan.rows().collect();
    let plain = !std::io::stderr().is_terminal();
    whole_file::write(output, |file| {
        let bar = terminal::bytes_bar("quantizing", total);
        let mut begun = usize::MAX;
        let result = plan.write(&file, &mut |i, done| {
            bar.set_position(done);
            if plain && begun != i {
                note(line(i, rows.len(), &rows[i]));
            }
            begun = i;
        });
        bar.finish_and_clear();
        result.map(|()| file).map_err(|e| whole_file::failed(output, e))
    })
}

fn sums(plan: &Plan<'_>) -> Sums {
    let (mut weights, mut from_bytes, mut to_bytes, mut fallbacks) = (0u64, 0u64, 0u64, 0);
    for row in plan.rows() {
        weights += row.dims.iter().product::<u64>();
        from_bytes += row.from_bytes;
        to_bytes += row.to_bytes;
        fallbacks += usize::from(row.instead_of.is_some());
    }
    let bits = |bytes: u64| bytes as f64 * 8.0 / weights.max(1) as f64;
    Sums {
        weights,
        from_bytes,
        to_bytes,
        from_bits_per_weight: bits(from_bytes),
        to_bits_per_weight: bits(to_bytes),
        fallbacks,
        file_bytes: plan.file_bytes(),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 20)
}

fn line(i: usize, n: usize, row: &quipu::loader::quantize::Row<'_>) -> String {
    let dims: Vec<_> = row.dims.iter().map(u64::to_string).collect();
    let (name, dims) = (escape(row.name), dims.join(", "));
    let mut text = format!("[{:4}/{n:4}] {name:36} [{dims:>14}] {:>6}", i + 1, row.from);
    if row.from == row.to {
        let _ = write!(text, "            {:10.3} MiB", mib(row.from_bytes));
    } else {
        let (from, to) = (mib(row.from_bytes), mib(row.to_bytes));
        let _ = write!(text, " -> {:<6}  {from:10.3} MiB -> {to:.3} MiB", row.to);
    }
    if let Some(wanted) = row.instead_of {
        let _ = write!(text, " (rows of {} do not fit {wanted})", row.dims.first().unwrap_or(&0));
    }
    text
}

fn table(plan: &Plan<'_>) -> String {
    let rows: Vec<_> = plan.rows().collect();
    rows.iter().enumerate().map(|(i, row)| line(i, rows.len(), row) + "\n").collect()
}

fn summary(path: &Path, file_type: FileType, s: &Sums) -> String {
    let mut text = format!(
        "{}: {file_type}, {:.2} MiB -> {:.2} MiB, {:.2} -> {:.2} bits per weight",
        escape(&path.to_string_lossy()),
        mib(s.from_bytes),
        mib(s.to_bytes),
        s.from_bits_per_weight,
        s.to_bits_per_weight
    );
    if s.fallbacks > 0 {
        let _ = write!(text, ", {} tensors whose rows do not fit the type chosen for them", s.fallbacks);
    }
    text
}
