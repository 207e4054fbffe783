//! `quipu perplexity`: how well a model predicts a text, by llama.cpp's method.

use super::interrupt;
use super::load::EngineArgs;
use super::out::{Failure, Out, note};
use super::prompt::read_text;
use super::report::{ModelFacts, describe};
use super::terminal;
use quipu::engine::{CancelToken, Perplexity, PerplexityOptions, score::scored_rows};
use quipu::error::Class;
use quipu::text::EncodeOptions;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Tokens of a chunk where -c is not given: llama.cpp's.
const DEFAULT_CHUNK: u32 = 512;

/// Measure the perplexity of a text, as llama-perplexity does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The text is cut into chunks of -c tokens [default: 512, 0 for the model's context]; the second half of each is scored.
Figures of two models compare only for the same text, chunk size and tokenizer. Examples:
  quipu perplexity -m model.gguf -f wiki.test.raw
  quipu perplexity -m model.gguf -f wiki.test.raw -c 2048 --chunks 8 --json | jq .ppl")]
pub struct Args {
    /// File with the text, - for standard input; any bytes, one newline at the end is dropped
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Measure this many chunks at most [default: all]
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Tokens that run side by side: -b / -c chunks at a time
    #[arg(short, long, value_name = "N", default_value_t = 2048)]
    batch_size: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    figure: Perplexity,
    n_ctx: u32,
    tokens: usize,
    seconds: f64,
    tokens_per_second: f64,
    model: ModelFacts,
}

/// Measures; the figure so far goes to standard error after each chunk.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let mut options = args.engine.options()?;
    options.n_ctx = Some(DEFAULT_CHUNK);
    let text = read_text(&args.file)?;
    let (mut engine, _) = args.engine.load_with(options, |hp, o| {
        o.n_outputs = scored_rows(hp.n_vocab, o.n_ubatch);
    })?;
    let mut tokens = Vec::new();
    engine.tokenizer().encode(
        &text,
        EncodeOptions { add_special: true, parse_special: false },
        &mut tokens,
    )?;
    let n_ctx = engine.n_ctx();
    note(describe(&engine));
    if n_ctx > engine.hparams().n_ctx_train {
        note(format_args!("note: the model was trained with a context of {}", engine.hparams().n_ctx_train));
    }

    let cancel = CancelToken::new();
    let n_seq = (args.batch_size / n_ctx.max(1)).max(1);
    let options = PerplexityOptions { n_ctx, chunks: args.chunks, n_seq, cancel: Some(cancel.clone()) };
    interrupt::on_next(move || cancel.cancel());
    let started = Instant::now();
    let mut bar = None;
    let done = engine.perplexity(&tokens, &options, &mut |f| {
        let bar = bar.get_or_insert_with(|| terminal::count_bar("chunks", f.of as u64));
        bar.suspend(|| note(format_args!("[{}/{}] {:.4}", f.chunks, f.of, f.ppl)));
        bar.set_position(f.chunks as u64);
    });
    bar.inspect(indicatif::ProgressBar::finish_and_clear);
    interrupt::clear();
    let Some(figure) = done? else { return Err(Failure::Reported(Class::Interrupted.exit_code())) };
    let seconds = started.elapsed().as_secs_f64();
    let ran = figure.chunks as f64 * f64::from(n_ctx);
    if args.json {
        let model = ModelFacts::new(&engine, &args.engine.model.model);
        let tokens = tokens.len();
        return out.json_line(&Report {
            figure,
            n_ctx,
            tokens,
            seconds,
            tokens_per_second: ran / seconds.max(f64::MIN_POSITIVE),
            model,
        });
    }
    note(format_args!("{seconds:.2} s, {:.1} tok/s", ran / seconds.max(f64::MIN_POSITIVE)));
    out.line(format_args!("Final estimate: PPL = {:.4} +/- {:.5}", figure.ppl, figure.error))
}
