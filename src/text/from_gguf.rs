//! A vocabulary out of a GGUF file's metadata.

use super::known::ROLE_KEYS;
use super::{ByteTable, MAX_MERGES, MAX_TOKEN_BYTES, MAX_TOKENS, Model, PreTokenizer, Tokenizer, VocabParts};
use crate::error::{Class, Error, Result, escape};
use crate::loader::{Gguf, ValueType};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const SUPPRESSED: &str = "tokenizer.ggml.suppress_tokens";

/// Most token texts named in one error; a file can be wrong in all of them.
const MAX_NAMED: usize = 20;

impl Tokenizer {
    /// Reads the vocabulary of a file.
    ///
    /// Errors of class `Model`, all that are found together: `MissingKey`, `WrongType`, `ArrayLength`,
    /// `UnsupportedTokenizer` for a family that is not implemented, `UnsupportedPreTokenizer` for a way to split text
    /// that is not, `TooManyTokens`, `TokenTooLong`, `TooManyMerges`, and those of [`Tokenizer::new`].
    pub fn from_gguf(file: &Gguf) -> Result<Tokenizer> {
        let model = model_of(file)?;
        let mut parts = VocabParts::new(model);
        let mut problems = Vec::new();
        let mut keep = |e: Error| problems.extend_from_slice(e.problems());

        match texts(file) {
            Ok(texts) => parts.texts = texts,
            Err(e) => keep(e),
        }
        if let Model::Bpe(_) = model {
            match merges(file) {
                Ok(merges) => parts.merges = merges,
                Err(e) => keep(e),
            }
        }
        match scores(file) {
            Ok(scores) => parts.scores = scores,
            Err(e) => keep(e),
        }
        match i32s(file, TYPES) {
            Ok(types) => parts.types = types,
            Err(e) => keep(e),
        }
        match i32s(file, SUPPRESSED) {
            Ok(ids) => parts.suppressed = ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect(),
            Err(e) => keep(e),
        }
        for ((key, old_key), slot) in ROLE_KEYS.iter().zip(&mut parts.roles) {
            // The older key wins where both are there, as in llama.cpp.
            for key in [Some(*key), *old_key].into_iter().flatten() {
                match file.u32(key) {
                    Ok(id) => *slot = id.or(*slot),
                    Err(e) => keep(e),
                }
            }
        }
        let flags = [
            ("tokenizer.ggml.add_bos_token", &mut parts.add_bos),
            ("tokenizer.ggml.add_eos_token", &mut parts.add_eos),
            ("tokenizer.ggml.add_space_prefix", &mut parts.add_space_prefix),
        ];
        for (key, slot) in flags {
            match file.bool(key) {
                Ok(flag) => *slot = flag,
                Err(e) => keep(e),
            }
        }
        // A name that is no text only means that no rule goes by it.
        parts.model_name = file.str("general.name").ok().flatten().unwrap_or_default().to_owned();
        Error::from_problems(Class::Model, problems)?;

        // Shorter arrays than the tokens have an offset here, which plain data has not.
        let n = parts.texts.len();
        for (key, len) in [(SCORES, parts.scores.len()), (TYPES, parts.types.len())] {
            if len < n && file.get(key).is_some() {
                let p = file.problem("ArrayLength", key).found(format!("{len} elements"));
                return Err(Error::model(p.expected(format!("{n}, one per token"))));
            }
        }
        Tokenizer::new(parts).map_err(|e| located(file, &e))
    }
}

/// The problems of plain data with the offsets of their keys, which plain data has not.
fn located(file: &Gguf, error: &Error) -> Error {
    let problems = error.problems().iter().cloned().map(|mut p| {
        let key = p.thing.split('[').next().unwrap_or_default();
        p.offset = p.offset.or(file.offset_of(key));
        p.thing = format!("key {}", p.thing);
        p
    });
    Error::from_problems(error.class(), problems.collect()).err().unwrap_or_else(|| error.clone())
}

/// The family the file names.
fn model_of(file: &Gguf) -> Result<Model> {
    let missing = || Error::model(file.problem("MissingKey", MODEL).expected("a string"));
    match file.str(MODEL)?.ok_or_else(missing)? {
        "llama" => Ok(Model::Spm),
        "gpt2" => Ok(Model::Bpe(pre_tokenizer(file)?)),
        other => {
            let p = file.problem("UnsupportedTokenizer", MODEL).found(format!("\"{}\"", escape(other)));
            Err(Error::model(p.expected("\"llama\" (SentencePiece merges) or \"gpt2\" (byte-level BPE)")))
        }
    }
}

/// How the file says its text is split. There is no default: with the wrong splitter a model only writes worse.
fn pre_tokenizer(file: &Gguf) -> Result<&'static PreTokenizer> {
    let known = || PreTokenizer::names().collect::<Vec<_>>().join(", ");
    let hint = format!("--override-kv {PRE}=str:NAME sets it; the model's card or a newer file tells which");
    let Some(name) = file.str(PRE)? else {
        let p = file.problem("MissingKey", PRE).expected(format!("one of {}", known()));
        return Err(Error::model(p.hint(hint)));
    };
    PreTokenizer::by_name(name).ok_or_else(|| {
        let p = file.problem("UnsupportedPreTokenizer", PRE).found(format!("\"{}\"", escape(name)));
        Error::model(p.expected(format!("one of {}", known())).hint(hint))
    })
}

fn texts(file: &Gguf) -> Result<ByteTable> {
    strings(file, TOKENS, MAX_TOKENS, ("TooManyTokens", "tokens"), MAX_TOKEN_BYTES)
}

fn merges(file: &Gguf) -> Result<ByteTable> {
    strings(file, MERGES, MAX_MERGES, ("TooManyMerges", "merges"), 2 * MAX_TOKEN_BYTES + 1)
}

/// An array of at most `most` strings of at most `longest` bytes.
fn strings(
    file: &Gguf,
    key: &str,
    most: usize,
    (too_many, what): (&'static str, &str),
    longest: usize,
) -> Result<ByteTable> {
    let missing = || Error::model(file.problem("MissingKey", key).expected("an array of strings"));
    let value = file.get(key).ok_or_else(missing)?;
    let wrong = || file.wrong_type(key, &value, "an array of str");
    let strings = file.array(key).map_err(|_| wrong())?.and_then(|a| a.strings()).ok_or_else(wrong)?;
    let n = strings.len();
    if n > most {
        let p = file.problem(too_many, key).found(format!("{n} {what}"));
        return Err(Error::model(p.expected(format!("at most {most}"))));
    }
    let mut problems = Vec::new();
    let mut table = ByteTable::with_capacity(n, n.saturating_mul(8));
    for (i, text) in strings.enumerate() {
        if text.len() <= longest {
            table.push(text)?;
        } else if problems.len() < MAX_NAMED {
            let mut p = file.problem("TokenTooLong", key).found(format!("{} bytes", text.len()));
            p.thing = format!("{}[{i}]", p.thing);
            problems.push(p.expected(format!("at most {longest} bytes")));
        }
    }
    Error::from_problems(Class::Model, problems)?;
    Ok(table)
}

/// Scores as floats, or as whole numbers, which some converters wrote.
fn scores(file: &Gguf) -> Result<Vec<f32>> {
    let Some(value) = file.get(SCORES) else { return Ok(Vec::new()) };
    let wrong = || file.wrong_type(SCORES, &value, "an array of f32 or i32");
    let array = file.array(SCORES).map_err(|_| wrong())?.ok_or_else(wrong)?;
    match array.element_type() {
        ValueType::F32 => array.f32s().map(|s| s.take(MAX_TOKENS).collect()).ok_or_else(wrong),
        ValueType::I32 => {
            array.i32s().map(|s| s.take(MAX_TOKENS).map(|i| i as f32).collect()).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// An `i32` array; empty if the key is absent.
fn i32s(file: &Gguf, key: &str) -> Result<Vec<i32>> {
    let Some(value) = file.get(key) else { return Ok(Vec::new()) };
    let wrong = || file.wrong_type(key, &value, "an array of i32");
    let array = file.array(key).map_err(|_| wrong())?.ok_or_else(wrong)?;
    array.i32s().map(|s| s.take(MAX_TOKENS).collect()).ok_or_else(wrong)
}
