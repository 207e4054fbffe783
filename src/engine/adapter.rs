//! The one way in for every architecture: load, tokens, logits, unload.
//!
//! An [`Adapter`] is an engine with one session. It is a struct and not a trait: architectures differ in their
//! graph, and everything behind the graph is the same code for all.

use super::{Engine, EngineOptions, Logits, Session, StepInput};
use crate::error::Result;
use crate::text::{EncodeOptions, Role};
use std::path::Path;

/// A loaded model of any architecture, with one text.
///
/// ```
/// use quipu::engine::{Adapter, EngineOptions};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.gguf");
/// # let file = std::fs::File::create(&path).unwrap();
/// # quipu::loader::synth::synth("nano-llama", quipu::quant::DType::F32, 1, file)?;
/// let mut model = Adapter::load(&path, EngineOptions::default())?;
/// assert_eq!(model.model_type(), "llama");
/// let prompt = model.encode("Once upon a time")?;
/// assert_eq!(model.prefill(&prompt)?.len(), model.vocab_size() as usize);
/// assert_eq!(model.decode_token(prompt[0])?.len(), model.vocab_size() as usize);
/// model.unload();
/// # Ok::<(), quipu::Error>(())
/// ```
#[derive(Debug)]
pub struct Adapter {
    engine: Engine,
    session: Session,
}

impl Adapter {
    /// Loads a model and makes its session.
    ///
    /// Errors: those of [`Engine::load`] (an architecture that is not known is `UnsupportedArch`) and
    /// [`Engine::new_session`].
    pub fn load(path: impl AsRef<Path>, options: EngineOptions) -> Result<Adapter> {
        Adapter::new(Engine::load(path, options)?)
    }
    /// An adapter of an engine that is loaded.
    ///
    /// Errors: those of [`Engine::new_session`].
    pub fn new(engine: Engine) -> Result<Adapter> {
        let session = engine.new_session()?;
        Ok(Adapter { engine, session })
    }
    /// Gives back file, memory and threads. Dropping does the same.
    pub fn unload(self) {}

    /// `general.architecture` of the file.
    pub fn model_type(&self) -> &str {
        &self.engine.hparams().arch
    }
    /// Tokens that the text can have.
    pub fn context_length(&self) -> u32 {
        self.engine.n_ctx()
    }
    /// Tokens of the vocabulary.
    pub fn vocab_size(&self) -> u32 {
        self.engine.n_vocab()
    }

    /// Text to tokens, with BOS where the vocabulary asks for it; control tokens are read as such.
    ///
    /// Errors: those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.engine.tokenizer().encode(
            text,
            EncodeOptions { add_special: true, parse_special: true },
            &mut ids,
        )?;
        Ok(ids)
    }
    /// Tokens to text, the reverse of [`Adapter::encode`]: a BOS that it put in front is left out with its traces.
    /// Bytes that are no text become U+FFFD.
    ///
    /// Errors: `TokenIdOutOfRange` (input).
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let tokenizer = self.engine.tokenizer();
        let bos = tokenizer.vocab().role(Role::Bos).filter(|_| tokenizer.vocab().add_bos());
        let ids = ids.strip_prefix(bos.as_slice()).unwrap_or(ids);
        Ok(String::from_utf8_lossy(&tokenizer.decode(ids, false)?).into_owned())
    }

    /// Starts a new text with these tokens and returns the logits behind the last one.
    ///
    /// Errors: those of [`Engine::step`].
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.session.reset();
        self.append(tokens)
    }
    /// Appends one token and returns the logits behind it.
    ///
    /// Errors: those of [`Engine::step`].
    pub fn decode_token(&mut self, token: u32) -> Result<&[f32]> {
        self.append(&[token])
    }

    fn append(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.engine.step(&mut [StepInput { session: &mut self.session, tokens, logits: Logits::Last }])?;
        Ok(self.engine.logits(0).unwrap_or_default())
    }

    /// The engine and the session behind it.
    pub fn parts(&mut self) -> (&mut Engine, &mut Session) {
        (&mut self.engine, &mut self.session)
    }
}
