//! Sessions in files: the tokens, their keys and values, and what the caller adds.
//!
//! ```text
//! "QUIPUKV1"            8 bytes
//! length of the JSON    8 bytes, little-endian
//! JSON                  model, cache types, context, numerics, tokens, "extra": what the caller adds
//! keys and values       for each layer, each head: the keys of all tokens, then their values, as in the cache
//! SHA-256               32 bytes, of everything before
//! ```
//!
//! Keys and values are taken as they are if the cache is of the same types and length and the numerics are the same,
//! whatever the instruction set, threads or plans: the bits do not depend on those. Otherwise the tokens are run again.

use super::{Engine, Logits, Session, StepInput};
use crate::backends::KvLayout;
use crate::error::{Error, Problem, Result, escape};
use crate::ops::NUMERICS_VERSION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"QUIPUKV1";
/// Longest JSON part in bytes.
const MAX_JSON: u64 = 256 << 20;
/// Bytes of a tensor that identify it, at its beginning, middle and end.
const SAMPLE: usize = 256;

#[derive(Serialize, Deserialize)]
struct Header {
    model: Model,
    numerics: u32,
    n_ctx: u32,
    type_k: String,
    type_v: String,
    kv_bytes: u64,
    tokens: Vec<u32>,
    extra: serde_json::Value,
}

/// Which model a session belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Model {
    name: Option<String>,
    architecture: String,
    /// SHA-256 of the header, the overrides and samples of every tensor.
    identity: String,
}

/// A session that was read from a file.
#[derive(Debug)]
pub struct Restored {
    /// The session, ready to go on.
    pub session: Session,
    /// What the caller added when it was saved.
    pub extra: serde_json::Value,
    /// Whether the keys and values of the file could not be used and were computed again.
    pub recomputed: bool,
}

/// Writes and remembers a digest.
struct Hashing<T>(T, Sha256);

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.0.write(buf)?;
        self.1.update(&buf[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<R: Read> Hashing<R> {
    fn exact(&mut self, buf: &mut [u8]) -> Result<()> {
        self.0.read_exact(buf).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => bad("an end of the file in the middle", "a whole file"),
            _ => Error::input(Problem::new("InputNotReadable", THING).found(e.to_string())),
        })?;
        self.1.update(&*buf);
        Ok(())
    }
}

const THING: &str = "a saved session";

fn bad(found: impl Into<String>, expected: &str) -> Error {
    Error::input(Problem::new("BadSession", THING).found(found).expected(expected))
}

/// The runs of a cache that hold the first `n` tokens, in the order of the file.
fn runs(kv: &KvLayout, n: u32) -> impl Iterator<Item = std::ops::Range<usize>> {
    let kv = *kv;
    let row_k = kv.k_offset(0, 0, 1) - kv.k_offset(0, 0, 0);
    let row_v = kv.v_offset(0, 0, 1) - kv.v_offset(0, 0, 0);
    (0..kv.n_layer).flat_map(move |layer| (0..kv.n_head_kv).map(move |head| (layer, head))).flat_map(
        move |(layer, head)| {
            let (k, v) = (kv.k_offset(layer, head, 0), kv.v_offset(layer, head, 0));
            [k..k + row_k * n as usize, v..v + row_v * n as usize]
        },
    )
}

impl Engine {
    fn model(&self) -> Model {
        let gguf = self.gguf();
        let mut hash = Sha256::new();
        let header = usize::try_from(gguf.data_offset()).unwrap_or(usize::MAX);
        hash.update(gguf.bytes().get(..header).unwrap_or_default());
        for (key, value) in gguf.overrides() {
            hash.update(format!("{key}={value:?}\n"));
        }
        for tensor in gguf.tensors() {
            let data = gguf.data(tensor).unwrap_or_default();
            let last = data.len().saturating_sub(SAMPLE);
            for at in [0, last / 2, last] {
                hash.update(&data[at..data.len().min(at + SAMPLE)]);
            }
        }
        Model {
            name: self.hparams().name.clone(),
            architecture: self.hparams().arch.clone(),
            identity: hash.finalize().iter().map(|b| format!("{b:02x}")).collect(),
        }
    }

    /// Writes a session and `extra`.
    ///
    /// Errors: `ForeignSession` (input), `OutputNotWritable` (runtime).
    pub fn save_session(&self, session: &Session, extra: serde_json::Value, out: impl Write) -> Result<()> {
        if session.engine != self.id {
            return Err(Error::input(
                Problem::new("ForeignSession", "a session").hint("save it with its engine"),
            ));
        }
        let kv = session.cache.layout();
        let header = Header {
            model: self.model(),
            numerics: NUMERICS_VERSION,
            n_ctx: kv.n_ctx,
            type_k: kv.type_k.to_string(),
            type_v: kv.type_v.to_string(),
            kv_bytes: runs(kv, session.len()).map(|r| r.len() as u64).sum(),
            tokens: session.tokens().to_vec(),
            extra,
        };
        let write = || -> io::Result<()> {
            let json = serde_json::to_vec(&header)?;
            let mut out = Hashing(out, Sha256::new());
            out.write_all(MAGIC)?;
            out.write_all(&(json.len() as u64).to_le_bytes())?;
            out.write_all(&json)?;
            for run in runs(kv, session.len()) {
                out.write_all(&session.cache.bytes()[run])?;
            }
            let Hashing(mut out, hash) = out;
            out.write_all(&hash.finalize())?;
            out.flush()
        };
        write().map_err(|e| Error::runtime(Problem::new("OutputNotWritable", THING).found(e.to_string())))
    }

    /// Reads what [`Engine::save_session`] wrote, to the end of the input. Nothing in the file is trusted: lengths are checked against the
    /// context before memory is filled.
    ///
    /// Errors of class `Input`: `BadSession`, `OtherModel`, `SessionTooLong`, `InputNotReadable`; of class `Resources`:
    /// those of [`Engine::new_session`].
    pub fn load_session(&mut self, input: impl Read) -> Result<Restored> {
        let mut input = Hashing(input, Sha256::new());
        let mut start = [0; 16];
        input.exact(&mut start)?;
        let (magic, len) = start.split_at(8);
        if magic != MAGIC {
            return Err(bad(
                format!("\"{}\"", escape(&String::from_utf8_lossy(magic))),
                "\"QUIPUKV1\" at the start",
            ));
        }
        let len = u64::from_le_bytes(len.try_into().unwrap_or_default());
        if len > MAX_JSON {
            return Err(bad(format!("{len} bytes of JSON"), "at most 268435456"));
        }
        // Grows with what is really there.
        let mut json = Vec::new();
        (&mut input.0)
            .take(len)
            .read_to_end(&mut json)
            .map_err(|e| Error::input(Problem::new("InputNotReadable", THING).found(e.to_string())))?;
        if json.len() as u64 != len {
            return Err(bad("an end of the file in the middle", "a whole file"));
        }
        input.1.update(&json);
        let header: Header = serde_json::from_slice(&json).map_err(|e| bad(e.to_string(), "its JSON"))?;
        drop(json);
        self.restore(header, input)
    }

    fn restore(&mut self, header: Header, mut input: Hashing<impl Read>) -> Result<Restored> {
        let model = self.model();
        if header.model != model {
            let of = |m: &Model| {
                let name = m.name.as_deref().map_or_else(|| "a model without a name".into(), escape);
                format!(
                    "{name} ({}, {})",
                    escape(&m.architecture),
                    escape(m.identity.get(..12).unwrap_or("?"))
                )
            };
            let p = Problem::new("OtherModel", THING).found(of(&header.model)).expected(of(&model));
            return Err(Error::input(p.hint("load the model it was made with")));
        }
        let n = header.tokens.len();
        if n > self.n_ctx() as usize {
            let p = Problem::new("SessionTooLong", THING).found(format!("{n} tokens"));
            return Err(Error::input(p.expected(format!("at most {}", self.n_ctx())).hint("raise -c")));
        }
        if let Some(id) = header.tokens.iter().find(|id| **id >= self.n_vocab()) {
            return Err(bad(format!("token {id}"), &format!("ids below {}", self.n_vocab())));
        }
        let mut session = self.new_session()?;
        let kv = *session.cache.layout();
        let same = header.numerics == NUMERICS_VERSION
            && header.n_ctx == kv.n_ctx
            && header.type_k == kv.type_k.to_string()
            && header.type_v == kv.type_v.to_string();
        if same {
            let need: u64 = runs(&kv, n as u32).map(|r| r.len() as u64).sum();
            if header.kv_bytes != need {
                return Err(bad(format!("{} bytes of keys and values", header.kv_bytes), &need.to_string()));
            }
            for run in runs(&kv, n as u32) {
                input.exact(&mut session.cache.bytes_mut()[run])?;
            }
        } else {
            let mut left = header.kv_bytes;
            let mut part = vec![0; 1 << 16];
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(part.len());
                input.exact(&mut part[..now])?;
                left -= now as u64;
            }
        }
        let digest: [u8; 32] = input.1.clone().finalize().into();
        let mut stated = [0; 32];
        input.exact(&mut stated)?;
        if digest != stated {
            return Err(bad("other bytes than were written", "the digest at its end"));
        }
        let behind = input.0.by_ref().take(1).read_to_end(&mut Vec::new());
        if !matches!(behind, Ok(0)) {
            return Err(bad("bytes behind its end", "a whole file and nothing else"));
        }
        if same {
            session.tokens.extend_from_slice(&header.tokens);
        } else if n > 0 {
            let tokens = &header.tokens;
            self.step(&mut [StepInput { session: &mut session, tokens, logits: Logits::None }])?;
        }
        Ok(Restored { session, extra: header.extra, recomputed: !same })
    }
}
