//! `quipu score`: a log-probability per token of a text.

use super::argv::Given;
use super::interrupt;
use super::load::EngineArgs;
use super::out::{Failure, Out, note};
use super::prompt::PromptArgs;
use super::report::{ModelFacts, ScoreRow, describe};
use quipu::engine::{CancelToken, ScoreOptions, score::scored_rows};
use quipu::error::{Class, escape};
use quipu::text::{Attr, EncodeOptions, Tokenizer};
use serde::Serialize;

/// Print how likely a model finds each token of a text.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tokens are those that run would make of the text; logarithms are natural, ranks count from 1, offsets are bytes of the
text. A log-probability is that of run --logprobs for the same token, to the last bit. Examples:
  quipu score -m model.gguf -p \"Once upon a time\"
  quipu score -m model.gguf -f story.txt --top 5 --json | jq '.tokens[] | select(.rank > 100)'")]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    /// List this many of the most likely tokens beside each
    #[arg(long, value_name = "N", default_value_t = 0)]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Serialize)]
struct Row {
    /// Where the token starts in the text; none if its text is not in it.
    offset: Option<usize>,
    #[serde(flatten)]
    score: ScoreRow,
}

#[derive(Serialize)]
struct Summary {
    bytes: usize,
    tokens: usize,
    scored: usize,
    logprob_sum: f64,
    logprob_mean: f64,
    perplexity: f64,
    bits_per_byte: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    tokens: Vec<Row>,
    summary: Summary,
    model: ModelFacts,
}

/// Scores and prints.
pub fn run(args: &Args, given: Given<'_>, out: &mut Out) -> Result<(), Failure> {
    let options = args.engine.options()?;
    let text = args.prompt.read(given)?;
    let (mut engine, _) = args.engine.load_with(options, |hp, o| {
        o.n_outputs = scored_rows(hp.n_vocab, o.n_ubatch);
    })?;
    let mut tokens = Vec::new();
    engine.tokenizer().encode(
        &text,
        EncodeOptions { add_special: true, parse_special: true },
        &mut tokens,
    )?;
    if !args.json {
        note(describe(&engine));
    }
    let cancel = CancelToken::new();
    let options = ScoreOptions { top: args.top, cancel: Some(cancel.clone()) };
    interrupt::on_next(move || cancel.cancel());
    let mut session = engine.new_session()?;
    let mut scores = Vec::with_capacity(tokens.len());
    let done = engine.score(&mut session, &tokens, &options, &mut |score| scores.push(score.clone()));
    interrupt::clear();
    if !done? {
        return Err(Failure::Reported(Class::Interrupted.exit_code()));
    }

    let tokenizer = engine.tokenizer();
    let offsets = offsets(tokenizer, &tokens, &text);
    let first = tokens.first().map(|id| ScoreRow::unscored(tokenizer, *id));
    let rows = first.into_iter().chain(scores.iter().map(|s| ScoreRow::new(tokenizer, s)));
    let rows: Vec<Row> = rows.zip(offsets).map(|(score, offset)| Row { offset, score }).collect();
    let sum: f64 = scores.iter().map(|s| s.logprob).sum();
    let summary = summary(text.len(), tokens.len(), scores.len(), sum);
    if args.json {
        let model = ModelFacts::new(&engine, &args.engine.model.model);
        return out.json_line(&Report { tokens: rows, summary, model });
    }
    table(&rows, &summary, out)
}

fn summary(bytes: usize, tokens: usize, scored: usize, sum: f64) -> Summary {
    let mean = sum / scored as f64;
    Summary {
        bytes,
        tokens,
        scored,
        logprob_sum: sum,
        logprob_mean: mean,
        perplexity: quipu::ops::math::exp64(-mean),
        bits_per_byte: (bytes > 0).then(|| -sum / std::f64::consts::LN_2 / bytes as f64),
    }
}

fn table(rows: &[Row], s: &Summary, out: &mut Out) -> Result<(), Failure> {
    out.line(format_args!("{:>8} {:>8} {:>10} {:>7}  text", "offset", "id", "logprob", "rank"))?;
    for row in rows {
        let offset = row.offset.map_or_else(|| "-".to_owned(), |o| o.to_string());
        let id = row.score.id;
        match (row.score.logprob, row.score.rank) {
            (Some(l), Some(r)) => out.text(&format!("{offset:>8} {id:>8} {l:>10.4} {r:>7}  "))?,
            _ => out.text(&format!("{offset:>8} {id:>8} {:>10} {:>7}  ", "-", "-"))?,
        }
        out.text(&format!("\"{}\"", escape(&row.score.piece)))?;
        for t in &row.score.top {
            out.text(&format!("  \"{}\" {:.4}", escape(&t.piece), t.logprob))?;
        }
        out.line("")?;
    }
    let bits = s.bits_per_byte.map_or_else(String::new, |b| format!(", {b:.4} bits per byte"));
    out.flush()?;
    note(format_args!(
        "{} of {} tokens scored: log-probability {:.4}, mean {:.4}, perplexity {:.4}{bits}",
        s.scored, s.tokens, s.logprob_sum, s.logprob_mean, s.perplexity
    ));
    Ok(())
}

/// Where each token starts in the text. Tokens that encoding adds take nothing of it, nor does a space that it puts
/// before a word; blanks that a special token swallows are stepped over. None from where the text cannot be followed.
fn offsets(tokenizer: &Tokenizer, tokens: &[u32], text: &[u8]) -> Vec<Option<usize>> {
    let vocab = tokenizer.vocab();
    let bos = vocab.add_bos().then_some(0);
    let special = Attr::CONTROL.or(Attr::USER_DEFINED).or(Attr::UNKNOWN);
    let (mut at, mut spaced) = (Some(0), tokenizer.puts_space_first());
    let place = |(i, id): (usize, &u32)| {
        let rest = &text[at?..];
        let piece = tokenizer.piece(*id, true).unwrap_or_default();
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let unspaced = piece.strip_prefix(b" ").filter(|p| spaced && rest.starts_with(p));
        let found = if Some(i) == bos {
            Some((0, 0))
        } else if let Some(p) = unspaced {
            Some((0, p.len()))
        } else if rest.starts_with(piece) {
            Some((0, piece.len()))
        } else if rest[blanks..].starts_with(piece) {
            Some((blanks, piece.len()))
        } else {
            rest.is_empty().then_some((0, 0))
        };
        spaced = tokenizer.puts_space_first() && vocab.attr(*id).is_some_and(|a| a.any(special));
        let start = found.map(|(skip, _)| at.unwrap_or(0) + skip);
        at = found.zip(start).map(|((_, len), start)| start + len);
        start
    };
    tokens.iter().enumerate().map(place).collect()
}
