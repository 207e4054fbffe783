//! `quipu chat`: a conversation, at a terminal or over a pipe.
//!
//! [`input`] reads messages, [`commands`] reads what begins with a slash, [`talk`] does both on one conversation.

mod commands;
mod input;
mod talk;

use super::argv::Given;
use super::load::EngineArgs;
use super::out::{Failure, Out, note};
use super::prompt::{PromptArgs, unescape};
use super::report::introduce;
use super::sampling::SamplingArgs;
use super::template::TemplateArgs;
use super::terminal::Color;
use quipu::engine::Chat;
use quipu::error::{Error, Problem, Result, escape};
use quipu::text::chat::Message;
use std::path::PathBuf;

/// Talk with a model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
At a terminal: Ctrl-C stops an answer or takes a line back, twice at an empty line it leaves, as does Ctrl-D; a line
that ends with \\ and text between two \"\"\" go on; /help lists commands. Over a pipe every line is a message.
Standard output gets the answers alone. Without -m answers a tiny model that is part of quipu; any GGUF file of a
supported architecture that was trained to chat will do better. Examples:
  quipu chat -p \"What does a cow eat?\" -st
  quipu chat -m model.gguf -sys \"Be brief.\"
  printf 'Hello\\nAnd then?\\n' | quipu chat -m model.gguf --temp 0
  quipu chat -m model.gguf -p \"Tell a story.\" -st --json | jq -r .content")]
pub struct Args {
    /// Say first how the model is to behave [-sys]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system_prompt: Option<String>,
    /// As before, from a file [-sysf]
    #[arg(long, value_name = "FILE", conflicts_with = "system_prompt")]
    system_prompt_file: Option<PathBuf>,
    /// End after the first answer [-st]
    #[arg(long)]
    single_turn: bool,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Most tokens of an answer, -1 for as many as the context holds
    #[arg(
        short = 'n',
        long,
        visible_alias = "n-predict",
        value_name = "N",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    predict: i64,
    /// End an answer when this text comes up, which is not printed; may be given several times
    #[arg(
        short = 'r',
        long,
        visible_alias = "reverse-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    stop: Vec<String>,
    /// Colour what you write: on, off or auto [-co]
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        num_args = 0..=1,
        default_missing_value = "on",
        hide_possible_values = true
    )]
    color: Color,
    /// Print one line of JSON for each answer instead of its text
    #[arg(long)]
    json: bool,
    /// Say after each answer how many tokens it took and how long
    #[arg(short, long)]
    verbose: bool,
    /// Keep no history of what was written
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Talks until there is nothing more to say.
pub fn run(args: &Args, given: Given<'_>, out: &mut Out) -> Result<(), Failure> {
    let escapes = args.prompt.escapes(given);
    let read = |text: &str, flag: &str| -> Result<String> {
        let bytes = if escapes { unescape(text.as_bytes()) } else { text.into() };
        String::from_utf8(bytes).map_err(|_| {
            let p = Problem::new("NotUtf8", format!("{flag} \"{}\"", escape(text)));
            Error::usage(p.expected("whole characters after reading its escapes"))
        })
    };
    let system = match (&args.system_prompt, &args.system_prompt_file) {
        (Some(text), _) => Some(read(text, "--system-prompt")?),
        (None, Some(path)) => Some(std::fs::read_to_string(path).map_err(|e| {
            let thing = escape(&path.to_string_lossy());
            Error::input(Problem::new("InputNotReadable", thing).found(e.to_string()))
        })?),
        (None, None) => None,
    };
    let stop = args.stop.iter().map(|s| read(s, "--stop")).collect::<Result<Vec<_>>>()?;
    quipu::engine::stop::StopMatcher::new(&stop)?;
    let first = match args.prompt.is_given() {
        true => Some(String::from_utf8_lossy(&args.prompt.read(given)?).into_owned()),
        false => None,
    };
    let sampler = args.sampling.params();
    sampler.check()?;

    let (engine, _) = args.engine.load(args.engine.options()?)?;
    // A template that cannot be used is known before anything is said.
    let template = args.template.load(Some(engine.gguf()))?;
    let mut chat = Chat::new(&engine, template)?;
    chat.render_options().kwargs = args.template.kwargs();
    if let Some(text) = system.filter(|s| !s.is_empty()) {
        chat.push(Message::new("system", text));
    }
    if !args.json {
        note(introduce(&engine, given.is_default("model")));
    }
    let settings = talk::Settings {
        options: quipu::engine::GenerateOptions {
            max_tokens: args.predict,
            sampler,
            stop,
            ..Default::default()
        },
        json: args.json,
        verbose: args.verbose,
        single_turn: args.single_turn,
    };
    let input = input::Input::new(args.color, !args.no_history)?;
    talk::Talk::new(engine, chat, settings).run(first, input, out)
}
