//! A conversation: messages in, an answer out, and only what is new goes through the model.
//!
//! Every answer begins with the text of the whole conversation, as the template gives it, in tokens. The session keeps
//! what it has in common with those and takes the rest, so an answer has the bits it would have on a new session.
//!
//! ```
//! use quipu::engine::{Chat, Engine, EngineOptions, GenerateOptions};
//! use quipu::text::chat::{ChatTemplate, Message};
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("model.gguf");
//! # let file = std::fs::File::create(&path).unwrap();
//! # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::F32, 1, file)?;
//! let mut engine = Engine::load(&path, EngineOptions::default())?;
//! let template = ChatTemplate::builtin("plain")?; // or ChatTemplate::from_gguf(engine.gguf(), None)?
//! let mut chat = Chat::new(&engine, template)?;
//! let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::greedy() };
//! chat.push(Message::new("system", "Be brief."));
//! for question in ["Hello", "And then?"] {
//!     chat.push(Message::new("user", question));
//!     let mut reply = chat.reply(&mut engine, &options)?;
//!     for piece in &mut reply {
//!         print!("{}", piece?.as_str());
//!     }
//! }
//! assert_eq!(chat.messages().len(), 5);
//! # Ok::<(), quipu::Error>(())
//! ```

use super::{Engine, GenerateOptions, Generator, Restored, Session, StopReason, Timings};
use crate::error::{Error, Problem, Result};
use crate::text::Piece;
use crate::text::chat::{self, ChatTemplate, Message, RenderOptions};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// A conversation on one engine.
#[derive(Debug)]
pub struct Chat {
    session: Session,
    template: ChatTemplate,
    render: RenderOptions,
    messages: Vec<Message>,
    draws: Draws,
}

/// Where a conversation is in the random numbers of its seed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Draws {
    seed: Option<u64>,
    count: u64,
}

/// What a saved conversation has besides its session.
#[derive(Serialize, Deserialize)]
struct Saved {
    messages: Vec<Message>,
    draws: Draws,
}

impl Chat {
    /// An empty conversation.
    ///
    /// Errors: those of [`Engine::new_session`].
    pub fn new(engine: &Engine, template: ChatTemplate) -> Result<Chat> {
        let render = RenderOptions::of(engine.tokenizer());
        let session = engine.new_session()?;
        Ok(Chat { session, template, render, messages: Vec::new(), draws: Draws::default() })
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
    /// Adds a message. Nothing is computed before [`Chat::reply`].
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }
    /// Takes the last message back.
    pub fn pop(&mut self) -> Option<Message> {
        self.messages.pop()
    }
    /// Forgets all messages but the first `keep`, and where the random numbers were if none are kept.
    pub fn truncate(&mut self, keep: usize) {
        self.messages.truncate(keep);
        if keep == 0 {
            self.draws = Draws::default();
        }
    }
    /// The tokens and the cache behind it.
    pub fn session(&self) -> &Session {
        &self.session
    }
    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }
    /// What the template gets besides the messages: tools and variables.
    pub fn render_options(&mut self) -> &mut RenderOptions {
        &mut self.render
    }
    /// The prompt of the next answer.
    ///
    /// Errors: those of [`ChatTemplate::render`].
    pub fn prompt(&self) -> Result<String> {
        self.template.render(&self.messages, &self.render)
    }

    /// Begins an answer. It becomes a message of the conversation when it ends, also one that was cut short if it has
    /// at least one token.
    ///
    /// With a seed in `options`, or one found for the first answer, random numbers go on over answers: the same seed
    /// gives the same conversation.
    ///
    /// Errors: those of [`ChatTemplate::render`] and [`Engine::generate_from`]; the conversation is as before then.
    pub fn reply<'a>(&'a mut self, engine: &'a mut Engine, options: &GenerateOptions) -> Result<Reply<'a>> {
        let prompt = self.prompt()?;
        let mut tokens = chat::encode(engine.tokenizer(), &prompt)?;
        let n = tokens.len();
        if n > self.session.n_ctx() as usize {
            let p = Problem::new("PromptTooLong", "the conversation").found(format!("{n} tokens"));
            let room = format!("at most {}, the context", self.session.n_ctx());
            return Err(Error::input(
                p.expected(room).hint("raise -c, shorten the message or begin a new conversation (/reset)"),
            ));
        }
        let common = self.session.tokens().iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        // The logits of the last token are needed, so it is run in any case.
        let keep = common.min(n.saturating_sub(1));
        self.session.truncate(keep as u32);
        let mut options = options.clone();
        if options.sampler.seed.is_some() && options.sampler.seed != self.draws.seed {
            self.draws = Draws::default();
        }
        options.sampler.seed = options.sampler.seed.or(self.draws.seed);
        options.sampler.draws = self.draws.count;
        let pieces = engine.generate_from(&mut self.session, tokens.split_off(keep), &options)?;
        self.draws.seed = Some(pieces.seed());
        Ok(Reply {
            pieces,
            messages: &mut self.messages,
            draws: &mut self.draws,
            text: String::new(),
            reused: keep as u32,
            state: State::Open,
        })
    }

    /// Writes messages, tokens, keys and values and the place in the random numbers.
    ///
    /// Errors: those of [`Engine::save_session`].
    pub fn save(&self, engine: &Engine, out: impl Write) -> Result<()> {
        let saved = Saved { messages: self.messages.clone(), draws: self.draws };
        let extra = serde_json::to_value(saved)
            .map_err(|e| Error::runtime(Problem::new("Json", "a conversation").found(e.to_string())))?;
        engine.save_session(&self.session, extra, out)
    }

    /// Takes the place of this conversation by one that [`Chat::save`] wrote. Its next answer has the bits it would have
    /// had without the break. Returns whether keys and values had to be computed again.
    ///
    /// Errors: those of [`Engine::load_session`]; this conversation is as before then.
    pub fn load(&mut self, engine: &mut Engine, input: impl Read) -> Result<bool> {
        let Restored { session, extra, recomputed } = engine.load_session(input)?;
        let saved: Saved = serde_json::from_value(extra).map_err(|e| {
            let p = Problem::new("BadSession", "a saved session").found(e.to_string());
            Error::input(p.expected("the messages of a conversation"))
        })?;
        self.session = session;
        self.messages = saved.messages;
        self.draws = saved.draws;
        Ok(recomputed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Failed,
    Kept,
}

/// An answer, piece by piece.
#[derive(Debug)]
pub struct Reply<'a> {
    pieces: Generator<'a>,
    messages: &'a mut Vec<Message>,
    draws: &'a mut Draws,
    text: String,
    reused: u32,
    state: State,
}

impl Reply<'_> {
    /// The answer so far.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Tokens of the conversation that were in the cache already.
    pub fn reused(&self) -> u32 {
        self.reused
    }
    /// Why it ended; `None` before that, and if it ended with an error.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.pieces.stop_reason()
    }
    /// Counts and times; the prompt's are those of the tokens that were not in the cache.
    pub fn timings(&self) -> Timings {
        self.pieces.timings()
    }
    /// The generation behind it.
    pub fn generator(&self) -> &Generator<'_> {
        &self.pieces
    }

    /// Makes the answer a message.
    fn keep(&mut self) {
        let ended = matches!(self.pieces.stop_reason(), Some(StopReason::Eos | StopReason::StopString));
        if self.state == State::Open && (ended || self.pieces.timings().generated_tokens > 0) {
            self.messages.push(Message::new("assistant", std::mem::take(&mut self.text)));
        }
        self.draws.count = self.pieces.draws();
        self.state = State::Kept;
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        let next = self.pieces.next();
        match &next {
            Some(Ok(piece)) => self.text.push_str(piece.as_str()),
            Some(Err(_)) => self.state = State::Failed,
            None => {}
        }
        next
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.keep();
    }
}
