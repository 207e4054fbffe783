//! Chat templates: the flags that choose one, and `quipu template`, which prints what one makes of a conversation.

use super::args::OverrideArgs;
use super::out::{Failure, Out};
use super::tokenize::read_stdin;
use quipu::error::{Error, Problem, Result, escape};
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use quipu::text::Tokenizer;
use quipu::text::chat::{ChatTemplate, MAX_TEMPLATE_BYTES, Message, RenderOptions};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Which template, and what it gets besides the conversation.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Chat template")]
pub struct TemplateArgs {
    /// A template of the file by its name, or a built-in one: chatml, deepseek, gemma, llama2, llama3, mistral,
    /// phi3, plain, zephyr
    #[arg(long, value_name = "NAME")]
    chat_template: Option<String>,
    /// Read the template from a file
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
    /// Variables for the template, for example {"enable_thinking":false}
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    chat_template_kwargs: Option<Kwargs>,
}

/// A JSON object of variables.
type Kwargs = Map<String, Value>;

fn parse_object(text: &str) -> std::result::Result<Kwargs, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))
}

impl TemplateArgs {
    /// The template that is to be used with a file.
    ///
    /// Errors: those of [`ChatTemplate::from_gguf`]; `InputNotReadable`.
    pub fn load(&self, file: Option<&Gguf>) -> Result<ChatTemplate> {
        if let Some(path) = &self.chat_template_file {
            return ChatTemplate::new(&read_template(path)?, &escape(&path.to_string_lossy()));
        }
        let of_file = |name: &str| file.filter(|f| ChatTemplate::names_in(f).any(|n| n == name));
        match (self.chat_template.as_deref(), file) {
            (Some(name), _) => match of_file(name) {
                Some(file) => ChatTemplate::from_gguf(file, Some(name)),
                None => ChatTemplate::builtin(name),
            },
            (None, Some(file)) => ChatTemplate::from_gguf(file, None),
            (None, None) => Err(Error::usage(
                Problem::new("NoTemplate", "chat template")
                    .expected("-m FILE, --chat-template NAME or --chat-template-file FILE"),
            )),
        }
    }

    /// The variables.
    pub fn kwargs(&self) -> Kwargs {
        self.chat_template_kwargs.clone().unwrap_or_default()
    }
}

/// The text of a template file, not more of it than a template may have.
fn read_template(path: &Path) -> Result<String> {
    let problem = |code, e: String| Problem::new(code, escape(&path.to_string_lossy())).found(e);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|f| f.take(MAX_TEMPLATE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| Error::input(problem("InputNotReadable", e.to_string())))?;
    String::from_utf8(bytes).map_err(|e| Error::input(problem("TemplateNotUtf8", e.to_string())))
}

/// Print the prompt that a chat template makes of a conversation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The conversation is a JSON array of messages, or an object with \"messages\" and whatever else the template looks at
(\"tools\", \"add_generation_prompt\", \"enable_thinking\"). Examples:
  echo '[{\"role\":\"user\",\"content\":\"Hello\"}]' | quipu template -m model.gguf
  quipu template --chat-template chatml -f conversation.json")]
pub struct Args {
    /// GGUF file whose template and special tokens are used
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
    /// File with the conversation; without it, standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Time that the template takes as the present, in seconds since 1970 of a local clock [default: the clock]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
    /// Print one JSON object: the prompt and its tokens (with -m)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// What comes in.
#[derive(serde::Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Value,
    #[serde(default = "yes")]
    add_generation_prompt: bool,
    #[serde(flatten)]
    others: Kwargs,
}

fn yes() -> bool {
    true
}

impl Conversation {
    fn parse(text: &[u8], name: &str) -> Result<Conversation> {
        let parsed = serde_json::from_slice(text).and_then(|value: Value| match value {
            Value::Array(_) => serde_json::from_value(serde_json::json!({ "messages": value })),
            other => serde_json::from_value(other),
        });
        parsed.map_err(|e| Error::input(Problem::new("BadConversation", name).found(e.to_string())))
    }
}

/// Prints the prompt.
pub fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let overrides = args.overrides.parse()?;
    let file = match &args.model {
        None => None,
        Some(path) => {
            let mut file = Gguf::open(path, LoadMode::Mmap, &ParseOptions::default())?;
            overrides.into_iter().try_for_each(|(key, value)| file.set_override(&key, value))?;
            Some(file)
        }
    };
    let tokenizer = file.as_ref().map(Tokenizer::from_gguf).transpose()?;
    let template = args.template.load(file.as_ref())?;
    let (text, name) = match &args.file {
        None => (read_stdin()?, "standard input".to_owned()),
        Some(path) => {
            let name = escape(&path.to_string_lossy());
            let failed = |e: std::io::Error| Problem::new("InputNotReadable", &*name).found(e.to_string());
            (std::fs::read(path).map_err(|e| Error::input(failed(e)))?, name)
        }
    };
    let conversation = Conversation::parse(&text, &name)?;
    let mut options = tokenizer.as_ref().map_or_else(RenderOptions::default, RenderOptions::of);
    options.add_generation_prompt = conversation.add_generation_prompt;
    options.tools = conversation.tools;
    options.kwargs = conversation.others;
    options.kwargs.extend(args.template.kwargs());
    options.now = args.now;
    let prompt = template.render(&conversation.messages, &options)?;
    if args.json {
        let tokens = tokenizer.map(|t| quipu::text::chat::encode(&t, &prompt)).transpose()?;
        return out.json_line(&serde_json::json!({ "prompt": prompt, "tokens": tokens }));
    }
    out.text(&prompt)?;
    out.final_newline()
}
