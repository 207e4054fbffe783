//! Conversations to text: the chat template of a model.
//!
//! A template is a Jinja program that comes with the model ([`ChatTemplate::from_gguf`]), from a file, or from the few
//! that are built in ([`ChatTemplate::builtin`]). It is rendered as Python's `transformers` does it: the same
//! white-space rules, Python's methods on texts and maps, `raise_exception`, `strftime_now`, `tojson` without escapes
//! for HTML, `{% generation %}`. There is no loader, so no template reads a file, and everything a template does is
//! paid for from a budget that grows with the conversation, so none runs or fills memory without end.
//!
//! ```
//! use quipu::text::chat::{ChatTemplate, Message, RenderOptions};
//! let template = ChatTemplate::builtin("chatml")?;
//! let messages = [Message::new("user", "Hello")];
//! let text = template.render(&messages, &RenderOptions::default())?;
//! assert_eq!(text, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
//! # Ok::<(), quipu::Error>(())
//! ```
//!
//! # Codes
//!
//! All of class `Input`: a model whose template is bad still continues plain text.
//!
//! | code | what is wrong |
//! | --- | --- |
//! | `NoTemplate` | the file has none, or none of the name asked for |
//! | `TemplateTooLarge` | more than [`MAX_TEMPLATE_BYTES`] |
//! | `TemplateNotUtf8` | the template is no text |
//! | `TemplateSyntax` | it cannot be read; names the line |
//! | `TemplateTooDeep` | blocks, calls or values nested too deeply |
//! | `TemplateBudget` | too much work |
//! | `OutputTooLarge` | too much text |
//! | `TemplateNotFound` | it wants another template |
//! | `TemplateUndefined` | it goes into a value that is not there |
//! | `TemplateRefused` | `raise_exception`: what the template says about the conversation |
//! | `TemplateError` | anything else that goes wrong while rendering |

mod env;
mod known;
mod message;
mod meter;
mod operators;
mod program;
mod python;

pub use message::Message;
pub use meter::MAX_TEMPLATE_BYTES;

use super::{EncodeOptions, Role, Tokenizer};
use crate::error::{Error, Problem, Result, escape};
use crate::loader::{Gguf, Value as GgufValue};
use jiff::civil::DateTime;
use meter::{InputSize, Meter, Trip};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, ErrorKind};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// Key of the default template; others add a dot and their name.
const KEY: &str = "tokenizer.chat_template";
/// Stack of the thread that renders: templates are trees, and trees are walked by recursion.
const STACK_BYTES: usize = 32 << 20;

/// What a template is rendered with besides the messages.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// End with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Descriptions of functions that the model may call: a JSON array. Null for none.
    pub tools: Json,
    /// Further variables, such as `enable_thinking`.
    pub kwargs: Map<String, Json>,
    /// Texts of special tokens: `bos_token` and so on.
    pub special: Vec<(&'static str, String)>,
    /// What `strftime_now` takes as the present, in seconds from 1970 of a local clock; `None` for the system's clock.
    pub now: Option<i64>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        RenderOptions {
            add_generation_prompt: true,
            tools: Json::Null,
            kwargs: Map::new(),
            special: Vec::new(),
            now: None,
        }
    }
}

impl RenderOptions {
    /// The defaults, with the special tokens of a vocabulary. BOS and EOS are empty texts where it has none.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let vocab = tokenizer.vocab();
        let text = |role| {
            let id = vocab.role(role)?;
            Some(String::from_utf8_lossy(vocab.text(id)?).into_owned())
        };
        let mut special: Vec<(&str, String)> = [("bos_token", Role::Bos), ("eos_token", Role::Eos)]
            .map(|(name, role)| (name, text(role).unwrap_or_default()))
            .into();
        let others = [
            ("unk_token", Role::Unk),
            ("sep_token", Role::Sep),
            ("pad_token", Role::Pad),
            ("mask_token", Role::Mask),
        ];
        special.extend(others.into_iter().filter_map(|(name, role)| Some((name, text(role)?))));
        RenderOptions { special, ..Self::default() }
    }
}

/// A template that can be read. Clones share its text.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: Arc<str>,
    /// What messages call it.
    name: Arc<str>,
}

impl ChatTemplate {
    /// A template from text. `name` says in messages where it is from.
    ///
    /// Errors: `TemplateTooLarge`, `TemplateSyntax`, `TemplateTooDeep`, `TemplateBudget`.
    pub fn new(source: &str, name: &str) -> Result<ChatTemplate> {
        if source.len() > MAX_TEMPLATE_BYTES {
            let p = Problem::new("TemplateTooLarge", name).found(format!("{} bytes", source.len()));
            return Err(Error::input(p.expected(format!("at most {MAX_TEMPLATE_BYTES}"))));
        }
        let template = ChatTemplate { source: source.into(), name: name.into() };
        template.on_stack(|| {
            let meter = Meter::new(InputSize::default());
            let compiled = program::prepare(source, &meter)
                .and_then(|prepared| program::compile(&prepared, &meter).map(|_| ()));
            compiled.map_err(|e| template.problem(&e, &meter))
        })?;
        Ok(template)
    }

    /// One of the built-in templates; `NoTemplate` lists them.
    pub fn builtin(name: &str) -> Result<ChatTemplate> {
        match known::find(name) {
            Some(source) => ChatTemplate::new(source, name),
            None => {
                let p =
                    Problem::new("NoTemplate", "built-in templates").found(format!("\"{}\"", escape(name)));
                Err(Error::input(p.expected(known::names().collect::<Vec<_>>().join(", "))))
            }
        }
    }

    /// Names of the built-in templates.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        known::names()
    }

    /// The template of a file: the one called `name`, or the default.
    ///
    /// Errors: `NoTemplate`, naming those the file has, `TemplateNotUtf8`, and those of [`ChatTemplate::new`].
    pub fn from_gguf(file: &Gguf, name: Option<&str>) -> Result<ChatTemplate> {
        let key = match name {
            None | Some("default") => KEY.to_owned(),
            Some(name) => format!("{KEY}.{name}"),
        };
        match file.get(&key) {
            None => {
                let mut names: Vec<String> = ChatTemplate::names_in(file).map(escape).collect();
                names.truncate(20);
                let found = if names.is_empty() {
                    "no template".into()
                } else {
                    format!("only {}", names.join(", "))
                };
                let hint = "give --chat-template-file FILE, or --chat-template NAME with one of: ";
                let known = known::names().collect::<Vec<_>>().join(", ");
                let p = Problem::new("NoTemplate", format!("key {}", escape(&key))).found(found);
                Err(Error::input(p.hint(format!("{hint}{known}"))))
            }
            Some(GgufValue::Str(bytes)) => {
                let thing = format!("key {}", escape(&key));
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| Error::input(file.problem("TemplateNotUtf8", &key).expected("text")))?;
                ChatTemplate::new(text, &thing)
            }
            Some(value) => {
                let wrong = file.wrong_type(&key, &value, "str");
                Err(Error::from_problems(crate::Class::Input, wrong.problems().to_vec())
                    .err()
                    .unwrap_or(wrong))
            }
        }
    }

    /// Names of the templates of a file besides the default.
    pub fn names_in(file: &Gguf) -> impl Iterator<Item = &str> {
        file.entries().filter_map(|(key, _)| key.strip_prefix(KEY)?.strip_prefix('.'))
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a conversation.
    ///
    /// Errors: see the module's codes.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        let now = match options.now.map(jiff::Timestamp::from_second) {
            None => None,
            Some(Ok(t)) => Some(t.to_zoned(jiff::tz::TimeZone::UTC).datetime()),
            Some(Err(e)) => {
                let p = Problem::new("OutOfRange", "now").found(e.to_string());
                return Err(Error::input(p.expected("seconds of a year that has four digits")));
            }
        };
        self.on_stack(|| self.run(messages, options, now))
    }

    fn run(&self, messages: &[Message], options: &RenderOptions, now: Option<DateTime>) -> Result<String> {
        let mut size = InputSize { messages: messages.len() as u64, ..InputSize::default() };
        messages.iter().flat_map(Message::values).for_each(|v| message::measure(v, &mut size));
        options.kwargs.values().chain([&options.tools]).for_each(|v| message::measure(v, &mut size));
        let meter = Meter::new(size);
        let env = env::environment(&meter, now);
        let mut out = String::new();
        let mut render = || {
            let prepared = program::prepare(&self.source, &meter)?;
            let program = program::compile(&prepared, &meter)?;
            let mut sink = minijinja::machinery::make_string_output(&mut out);
            let root = context(messages, options);
            minijinja::machinery::eval(
                &env,
                &program.main,
                root,
                &program.blocks,
                &mut sink,
                AutoEscape::None,
            )
            .map(|_| ())
        };
        let rendered = render();
        rendered.map(|()| out).map_err(|e| self.problem(&e, &meter))
    }

    /// Does `work` where there is room for recursion, whoever calls.
    fn on_stack<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let failed = |found: String| {
            Error::runtime(Problem::new("Thread", "the thread that renders a chat template").found(found))
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("quipu-chat".into()).stack_size(STACK_BYTES);
            let handle = thread.spawn_scoped(scope, work).map_err(|e| failed(e.to_string()))?;
            handle.join().unwrap_or_else(|_| Err(failed("a panic".into())))
        })
    }

    /// An error of the engine as one of ours.
    fn problem(&self, e: &minijinja::Error, meter: &Meter) -> Error {
        let detail = e.detail().unwrap_or_default();
        let deep = detail.contains("recursion limit") || detail.contains("maximum recursion");
        let code = match (meter.tripped(), e.kind()) {
            (Some(Trip::Budget), _) | (None, ErrorKind::OutOfFuel) => "TemplateBudget",
            (Some(Trip::Output), _) => "OutputTooLarge",
            (Some(Trip::Depth), _) => "TemplateTooDeep",
            (Some(Trip::Raised), _) => "TemplateRefused",
            _ if deep => "TemplateTooDeep",
            (None, ErrorKind::SyntaxError) => "TemplateSyntax",
            (None, ErrorKind::TemplateNotFound) => "TemplateNotFound",
            (None, ErrorKind::UndefinedError | ErrorKind::UnknownFunction) => "TemplateUndefined",
            (None, _) => "TemplateError",
        };
        let thing = match e.line() {
            Some(line) => format!("chat template ({}) line {line}", self.name),
            None => format!("chat template ({})", self.name),
        };
        let found = match (code, detail) {
            ("TemplateRefused", text) => escape(text),
            (_, "") => e.kind().to_string(),
            (_, text) => escape(&format!("{}: {text}", e.kind())),
        };
        let hint = match code {
            "TemplateRefused" => "the template does not take this conversation",
            "TemplateSyntax" | "TemplateError" | "TemplateUndefined" => {
                "give another with --chat-template-file"
            }
            _ => "",
        };
        Error::input(Problem::new(code, thing).found(found).hint(hint))
    }
}

/// The variables of a template.
fn context(messages: &[Message], options: &RenderOptions) -> Value {
    let json = |v: &Json| Value::from(Serde(v));
    let mut map: Vec<(Value, Value)> = Vec::new();
    let mut put = |name: &str, value| map.push((Value::from(name), value));
    for (name, text) in &options.special {
        put(name, Value::from(text.as_str()));
    }
    put("messages", messages.iter().map(|m| Value::from(Serde(m))).collect());
    put("add_generation_prompt", options.add_generation_prompt.into());
    // Templates ask `tools is not none` as well as `if tools`, so these are there in any case.
    put("tools", json(&options.tools));
    put("documents", Value::from(()));
    for (name, value) in &options.kwargs {
        put(name, json(value));
    }
    Value::from_pairs(map)
}

/// The tokens of a rendered conversation: control tokens are read as such, and BOS comes in front where the vocabulary
/// asks for it and the template has not written it already.
///
/// Errors: those of [`Tokenizer::encode`].
pub fn encode(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    let vocab = tokenizer.vocab();
    let bos = vocab.role(Role::Bos).filter(|_| vocab.add_bos());
    let text = bos.and_then(|id| vocab.text(id)).unwrap_or_default();
    // Taken off and put back by the vocabulary's own rule, so that the text behind it is read as behind BOS.
    let rest = if text.is_empty() { None } else { prompt.as_bytes().strip_prefix(text) };
    let rest = rest.unwrap_or(prompt.as_bytes());
    // The end of the text is not the end of the conversation.
    tokenizer.encode(rest, EncodeOptions { add_special: true, parse_special: true }, &mut ids)?;
    if vocab.add_eos() && vocab.role(Role::Eos).is_some() {
        ids.pop();
    }
    Ok(ids)
}
