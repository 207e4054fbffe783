//! One conversation: messages, answers and commands.

use super::super::interrupt;
use super::super::out::{Failure, Out, file_not_writable, note, print_error};
use super::commands::{self, Command};
use super::input::{Event, Input};
use quipu::engine::{CancelToken, Chat, Engine, GenerateOptions, StopReason, Timings};
use quipu::error::{Class, Error, Problem, Result, escape};
use quipu::text::chat::Message;
use serde::Serialize;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What flags say.
pub struct Settings {
    pub options: GenerateOptions,
    pub json: bool,
    pub verbose: bool,
    pub single_turn: bool,
}

/// A conversation and what is around it.
pub struct Talk {
    engine: Engine,
    chat: Chat,
    settings: Settings,
    /// The last answer's numbers.
    last: Option<Turn>,
    answers: u64,
}

/// One answer, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    role: &'static str,
    content: String,
    stop_reason: Option<StopReason>,
    /// Tokens of the conversation that were in the cache, and those that were not.
    reused_tokens: u32,
    prompt_tokens: u64,
    prompt_ms: f64,
    generated_tokens: u64,
    generated_ms: f64,
    context_used: u32,
    context: u32,
    seed: u64,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum After {
    Next,
    Leave,
}

impl Talk {
    /// A conversation that begins.
    pub fn new(engine: Engine, chat: Chat, settings: Settings) -> Talk {
        Talk { engine, chat, settings, last: None, answers: 0 }
    }

    /// Reads and answers until the end.
    pub fn run(mut self, first: Option<String>, mut input: Input, out: &mut Out) -> Result<(), Failure> {
        let terminal = input.is_terminal();
        if terminal && !self.settings.json {
            note("/help lists commands, Ctrl-D leaves");
        }
        let mut next = first.map(Event::Text);
        let mut interrupted = false;
        loop {
            let event = match next.take() {
                Some(event) => event,
                None => input.next()?,
            };
            let text = match event {
                Event::End => return Ok(()),
                Event::Interrupt if interrupted => {
                    return Err(Failure::Reported(Class::Interrupted.exit_code()));
                }
                Event::Interrupt => {
                    interrupted = true;
                    note("Ctrl-C again or Ctrl-D leaves");
                    continue;
                }
                Event::Text(text) => text,
            };
            interrupted = false;
            if text.trim().is_empty() {
                continue;
            }
            let done = match commands::parse(&text) {
                Ok(Ok(command)) => self.command(command, terminal, out),
                Ok(Err(message)) => self.say(message, terminal, out),
                Err(e) => Err(e.into()),
            };
            match done {
                Ok(After::Leave) => return Ok(()),
                Ok(After::Next) => {}
                // A person can do something else; a script should not go on as if nothing were.
                Err(Failure::Error(e)) if terminal => print_error(&e),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Takes a message and answers it.
    fn say(&mut self, text: String, terminal: bool, out: &mut Out) -> Result<After, Failure> {
        let before = self.chat.messages().len();
        self.chat.push(Message::new("user", text));
        let answered = self.answer(terminal, out);
        // A message without an answer is not part of the conversation.
        if self.chat.messages().len() == before + 1 {
            self.chat.pop();
        }
        answered
    }

    /// Prints an answer as it comes.
    fn answer(&mut self, terminal: bool, out: &mut Out) -> Result<After, Failure> {
        let cancel = CancelToken::new();
        let mut options = self.settings.options.clone();
        options.cancel = Some(cancel.clone());
        let json = self.settings.json;
        let mut reply = self.chat.reply(&mut self.engine, &options)?;
        if self.answers > 0 && !json && !terminal {
            out.text("\n")?;
        }
        interrupt::on_next(move || cancel.cancel());
        let mut failed: Option<Error> = None;
        for piece in &mut reply {
            match piece {
                Ok(piece) if json || piece.as_str().is_empty() => {}
                Ok(piece) => {
                    out.text(piece.as_str())?;
                    out.flush()?;
                }
                Err(e) => failed = Some(e),
            }
        }
        interrupt::clear();
        let Timings { prompt_tokens, prompt, generated_tokens, generated, .. } = reply.timings();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let session = reply.generator().session();
        let turn = Turn {
            role: "assistant",
            content: reply.text().to_owned(),
            stop_reason: reply.stop_reason(),
            reused_tokens: reply.reused(),
            prompt_tokens,
            prompt_ms: ms(prompt),
            generated_tokens,
            generated_ms: ms(generated),
            context_used: session.len(),
            context: session.n_ctx(),
            seed: reply.generator().seed(),
        };
        drop(reply);
        if json {
            out.json_line(&turn)?;
        } else if terminal {
            out.text("\n")?;
        } else {
            out.final_newline()?;
        }
        out.flush()?;
        if turn.stop_reason == Some(StopReason::Length) && turn.context_used >= turn.context {
            let full = "the context is full and the answer was cut";
            note(format!(
                "{full} ({} tokens): /reset begins a new conversation, -c N gives more",
                turn.context
            ));
        }
        if self.settings.verbose && !json {
            note(stats(&turn));
        }
        let cancelled = turn.stop_reason == Some(StopReason::Cancelled);
        self.answers += 1;
        self.last = Some(turn);
        match failed {
            Some(e) => Err(e.into()),
            None if cancelled && !terminal => Err(Failure::Reported(Class::Interrupted.exit_code())),
            None if self.settings.single_turn => Ok(After::Leave),
            None => Ok(After::Next),
        }
    }

    fn command(&mut self, command: Command, terminal: bool, out: &mut Out) -> Result<After, Failure> {
        match command {
            Command::Reset => self.chat.truncate(self.opening()),
            Command::Save(path) => {
                self.save(&path)?;
                note(format!("saved {} tokens to {}", self.chat.session().len(), shown(&path)));
            }
            Command::Load(path) => {
                let file = File::open(&path).map_err(|e| {
                    Error::input(Problem::new("InputNotReadable", shown(&path)).found(e.to_string()))
                })?;
                let again = self.chat.load(&mut self.engine, BufReader::new(file))?;
                let (n, m) = (self.chat.session().len(), self.chat.messages().len());
                let how = if again { ", computed again for another context or cache" } else { "" };
                note(format!("loaded {m} messages, {n} tokens{how}"));
            }
            Command::Set(None) => note(commands::list(&self.settings.options)),
            Command::Set(Some((name, value))) => commands::set(&mut self.settings.options, &name, &value)?,
            Command::Stats => match &self.last {
                Some(turn) => note(stats(turn)),
                None => {
                    note(format!("context: {} of {} tokens", self.chat.session().len(), self.engine.n_ctx()))
                }
            },
            Command::Regen => {
                if self.chat.messages().last().is_none_or(|m| m.role() != "assistant") {
                    let p = Problem::new("NothingToRepeat", "/regen").expected("an answer before it");
                    return Err(Error::usage(p).into());
                }
                let old = self.chat.pop();
                let before = self.chat.messages().len();
                let answered = self.answer(terminal, out);
                if let (true, Some(old)) = (self.chat.messages().len() == before, old) {
                    self.chat.push(old);
                }
                return answered;
            }
            Command::Undo => {
                let user = self.chat.messages().iter().rposition(|m| m.role() == "user");
                self.chat.truncate(user.unwrap_or_else(|| self.opening()));
            }
            Command::System(text) => {
                let rest: Vec<Message> = self.chat.messages()[self.opening()..].to_vec();
                self.chat.truncate(0);
                if !text.is_empty() {
                    self.chat.push(Message::new("system", text));
                }
                rest.into_iter().for_each(|m| self.chat.push(m));
            }
            Command::Help => note(commands::help()),
            Command::Exit => return Ok(After::Leave),
        }
        Ok(After::Next)
    }

    /// How many messages come before the first of the user.
    fn opening(&self) -> usize {
        self.chat.messages().iter().take_while(|m| m.role() == "system").count()
    }

    /// Writes beside the file and then takes its place: an old one stays whole if something goes wrong.
    fn save(&self, path: &Path) -> Result<(), Failure> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let file = File::create(&beside).map_err(|e| file_not_writable(&beside, &e))?;
        interrupt::unfinished(Some(&beside));
        let saved = self
            .chat
            .save(&self.engine, BufWriter::new(file))
            .map_err(Failure::from)
            .and_then(|()| std::fs::rename(&beside, path).map_err(|e| file_not_writable(path, &e)));
        if saved.is_err() {
            interrupt::remove_unfinished();
        }
        interrupt::unfinished(None);
        saved
    }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn stats(t: &Turn) -> String {
    let rate =
        |n: u64, ms: f64| if ms > 0.0 { format!("{:.1} tok/s", n as f64 * 1e3 / ms) } else { "-".into() };
    format!(
        "prompt: {} tokens from the cache, {} run in {:.1} ms ({})\n\
         answer: {} tokens in {:.1} ms ({})\n\
         context: {} of {} tokens, seed {}",
        t.reused_tokens,
        t.prompt_tokens,
        t.prompt_ms,
        rate(t.prompt_tokens, t.prompt_ms),
        t.generated_tokens,
        t.generated_ms,
        rate(t.generated_tokens, t.generated_ms),
        t.context_used,
        t.context,
        t.seed,
    )
}
