//! What is in a model file, for people and programs: facts first, then verdicts. Works on whatever could be read
//! of a damaged file.

use super::bytes::Bytes;
use super::gguf::{Gguf, TensorInfo};
use super::value::Value;
use super::weights::{Want, demand_partly};
use crate::error::{MAX_PRINTED, Problem, escape};
use crate::models;
use crate::models::hparams::{Hparams, Source, TableRow};
use crate::quant::DType;
use std::collections::BTreeSet;
use std::fmt;

/// The facts about a file. Its `Display` is the text form, its serialisation the JSON form.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Inspection {
    /// `general.name`.
    pub name: Option<String>,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// The file itself.
    pub file: FileFacts,
    /// Hyper-parameters, those of the table that are known.
    pub hyperparameters: Vec<TableRow>,
    /// The tokenizer's metadata.
    pub tokenizer: TokenizerFacts,
    /// Number of tensors in the table.
    pub tensor_count: usize,
    /// Weights in all.
    pub elements: u64,
    /// Bytes of tensor data, without padding.
    pub tensor_bytes: u64,
    /// Per element type, largest first.
    pub types: Vec<TypeFacts>,
    /// Token embedding, first block, output.
    pub key_tensors: Vec<TensorFacts>,
    /// Every tensor, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<TensorFacts>>,
    /// Verdicts, in order; all must hold for the model to run.
    pub verdicts: Vec<Verdict>,
    /// Tensors that nothing uses.
    pub extra_tensors: Vec<String>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Whether the header was read to its end. If not, what seems absent may only be lost, and is no problem of its
    /// own.
    pub whole_header: bool,
}

/// Facts about the file.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FileFacts {
    /// Length in bytes, of all files together.
    pub bytes: u64,
    /// The files of a split model; otherwise none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<PartFacts>,
    /// GGUF version, 0 if unknown.
    pub version: u32,
    /// Alignment of tensor data.
    pub alignment: u64,
    /// Where tensor data starts.
    pub data_offset: u64,
    /// Metadata entries that were read.
    pub entries: usize,
    /// Whether tensor data is missing at the end.
    pub cut: bool,
}

/// One file of a split model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PartFacts {
    /// Its name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Number of its tensors.
    pub tensors: usize,
}

/// Facts about the tokenizer.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct TokenizerFacts {
    /// `tokenizer.ggml.model`, for example `llama` or `gpt2`.
    pub model: Option<String>,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// Length of the token list.
    pub tokens: Option<usize>,
    /// Length of the merge list.
    pub merges: Option<usize>,
    /// Ids of special tokens by role, and flags, as the file has them.
    pub special: Vec<(String, String)>,
    /// Bytes of the chat template.
    pub chat_template_bytes: Option<usize>,
}

/// One element type's share.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TypeFacts {
    /// The type.
    pub dtype: DType,
    /// Tensors of it.
    pub tensors: usize,
    /// Bytes of their data.
    pub bytes: u64,
    /// Whether it can be computed with.
    pub supported: bool,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TensorFacts {
    /// Name.
    pub name: String,
    /// Dimensions in file order, a row first.
    pub dims: Vec<u64>,
    /// Type.
    pub dtype: DType,
    /// Which file of a split model it is in, from 0; otherwise 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub file: u16,
    /// Offset from the start of that file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Verdict {
    /// What was checked.
    pub what: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// The figures behind it.
    pub detail: String,
}

impl Inspection {
    /// Looks at a parsed file; `problems` are those of [`Gguf::parse_partly`]. With `tensors`, every tensor is
    /// listed. Add what the architecture wants with [`Inspection::require`].
    pub fn new(gguf: &Gguf, problems: Vec<Problem>, tensors: bool) -> Inspection {
        let text = |key: &str| gguf.str(key).ok().flatten().map(str::to_owned);
        let mut types: Vec<TypeFacts> = Vec::new();
        for t in gguf.tensors() {
            match types.iter_mut().find(|f| f.dtype == t.dtype) {
                Some(f) => {
                    f.tensors += 1;
                    f.bytes = f.bytes.saturating_add(t.bytes);
                }
                None => types.push(TypeFacts {
                    dtype: t.dtype,
                    tensors: 1,
                    bytes: t.bytes,
                    supported: t.dtype.weight_codec().is_some(),
                }),
            }
        }
        types.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.dtype.cmp(&b.dtype)));
        let all = gguf.tensors();
        let key = |t: &&TensorInfo| {
            t.name.starts_with("blk.0.")
                || matches!(&*t.name, "token_embd.weight" | "output_norm.weight" | "output.weight")
        };
        let mut i = Inspection {
            name: text("general.name"),
            architecture: text("general.architecture"),
            file: FileFacts {
                bytes: gguf.file_bytes(),
                split: parts(gguf),
                version: gguf.version(),
                alignment: gguf.alignment(),
                data_offset: gguf.data_offset(),
                entries: gguf.entries().count(),
                cut: gguf.is_cut(),
            },
            hyperparameters: Vec::new(),
            tokenizer: tokenizer(gguf),
            tensor_count: all.len(),
            elements: all.iter().fold(0, |n, t| n.saturating_add(t.elements())),
            tensor_bytes: all.iter().fold(0, |n, t| n.saturating_add(t.bytes)),
            types,
            key_tensors: all.iter().filter(key).map(facts).collect(),
            tensors: tensors.then(|| all.iter().map(facts).collect()),
            verdicts: Vec::new(),
            extra_tensors: Vec::new(),
            problems,
            whole_header: gguf.has_whole_header(),
        };
        let whole = i.problems.is_empty();
        i.verdict(
            "file",
            whole,
            if whole { "whole".into() } else { format!("{} problems", i.problems.len()) },
        );
        let known = models::find(gguf, &[]).map_err(|e| i.judge("architecture", e.problems())).is_ok();
        match Hparams::read(gguf) {
            Ok(h) => {
                i.hyperparameters = h.table().to_vec();
                i.verdict("hyper-parameters", true, format!("those of {}", escape(&h.arch)));
                let found = blocks(all);
                let want = h.n_layer as usize;
                i.verdict("layers", found == want, format!("{found} of {want} found"));
            }
            Err(e) if known => i.judge("hyper-parameters", e.problems()),
            // An unknown architecture may spell them otherwise.
            Err(e) => i.verdict("hyper-parameters", false, format!("{} problems", e.problems().len())),
        }
        i
    }

    /// Adds the verdict on what the architecture wants.
    pub fn require(&mut self, gguf: &Gguf, wants: &[Want]) {
        let (found, problems) = demand_partly(gguf, wants);
        let present = wants.iter().filter(|w| gguf.tensor(&w.name).is_some()).count();
        let required = wants.iter().filter(|w| !w.optional).count();
        let detail = format!("{present} present, {required} required, {} wrong", problems.len());
        self.extra_tensors = found.extra;
        self.add("required tensors", &problems, detail);
    }

    /// Adds problems found elsewhere, for example by the architecture or the tokenizer, under a verdict.
    pub fn judge(&mut self, what: &'static str, problems: &[Problem]) {
        let detail = match problems.len() {
            0 => "supported".into(),
            1 => "1 problem".into(),
            n => format!("{n} problems"),
        };
        self.add(what, problems, detail);
    }

    fn add(&mut self, what: &'static str, problems: &[Problem], detail: String) {
        self.verdict(what, problems.is_empty(), detail);
        if self.whole_header {
            self.problems.extend_from_slice(problems);
        }
    }

    /// Whether every verdict so far holds.
    pub fn runnable(&self) -> bool {
        self.problems.is_empty() && self.verdicts.iter().all(|v| v.ok)
    }

    fn verdict(&mut self, what: &'static str, ok: bool, detail: String) {
        self.verdicts.push(Verdict { what, ok, detail });
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(n: &u16) -> bool {
    *n == 0
}

fn parts(gguf: &Gguf) -> Vec<PartFacts> {
    let tensors = |i: usize| gguf.tensors().iter().filter(|t| usize::from(t.file) == i).count();
    let name = |f: &Bytes| f.path()?.file_name().map(|n| n.to_string_lossy().into_owned());
    let part = |(i, f): (usize, &Bytes)| PartFacts {
        name: name(f).unwrap_or_else(|| format!("file {}", i + 1)),
        bytes: f.len() as u64,
        tensors: tensors(i),
    };
    if gguf.is_split() { gguf.files().enumerate().map(part).collect() } else { Vec::new() }
}

fn facts(t: &TensorInfo) -> TensorFacts {
    TensorFacts {
        name: t.name.to_string(),
        dims: t.dims.to_vec(),
        dtype: t.dtype,
        file: t.file,
        offset: t.offset,
        bytes: t.bytes,
    }
}

/// Distinct `N` of `blk.N.`
fn blocks(tensors: &[TensorInfo]) -> usize {
    let number = |t: &TensorInfo| t.name.strip_prefix("blk.")?.split_once('.')?.0.parse::<u32>().ok();
    tensors.iter().filter_map(number).collect::<BTreeSet<_>>().len()
}

fn tokenizer(gguf: &Gguf) -> TokenizerFacts {
    let text = |key: &str| gguf.str(key).ok().flatten().map(str::to_owned);
    let len = |key: &str| gguf.array(key).ok().flatten().map(|a| a.len());
    let special = gguf
        .entries()
        .filter_map(|(key, v)| {
            let role = key.strip_prefix("tokenizer.ggml.")?;
            (matches!(v, Value::Bool(_)) || role.ends_with("_token_id"))
                .then(|| (escape(role), v.to_string()))
        })
        .collect();
    TokenizerFacts {
        model: text("tokenizer.ggml.model"),
        pre: text("tokenizer.ggml.pre"),
        tokens: len("tokenizer.ggml.tokens"),
        merges: len("tokenizer.ggml.merges"),
        special,
        chat_template_bytes: match gguf.get("tokenizer.chat_template") {
            Some(Value::Str(s)) => Some(s.len()),
            _ => None,
        },
    }
}

/// Bytes for people: binary units, three figures.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut x = bytes as f64;
    let mut unit = 0;
    while x >= 1024.0 && unit + 1 < UNITS.len() {
        x /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{x:.2} {}", UNITS[unit]) }
}

fn tensor_line(f: &mut fmt::Formatter<'_>, t: &TensorFacts) -> fmt::Result {
    writeln!(f, "  {:<28} {:<8} {:?}", escape(&t.name), t.dtype, t.dims)
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |s: &Option<String>, none: &str| s.as_deref().map_or_else(|| none.to_owned(), escape);
        writeln!(f, "name          {}", or(&self.name, "(none)"))?;
        writeln!(f, "architecture  {}", or(&self.architecture, "(unknown)"))?;
        let file = &self.file;
        write!(
            f,
            "file          {}, GGUF v{}, alignment {}",
            size(file.bytes),
            file.version,
            file.alignment
        )?;
        writeln!(f, ", {} entries, tensor data from byte {}", file.entries, file.data_offset)?;
        for part in &file.split {
            writeln!(f, "  {:<28} {}, {} tensors", escape(&part.name), size(part.bytes), part.tensors)?;
        }
        let types: Vec<String> = self
            .types
            .iter()
            .map(|t| {
                let note = if t.supported { "" } else { ", no kernels yet" };
                format!("{} x {} ({}{note})", t.tensors, t.dtype, size(t.bytes))
            })
            .collect();
        write!(
            f,
            "tensors       {}, {} weights, {}",
            self.tensor_count,
            self.elements,
            size(self.tensor_bytes)
        )?;
        writeln!(f, ": {}", if types.is_empty() { "none".into() } else { types.join(", ") })?;
        let t = &self.tokenizer;
        write!(f, "tokenizer     {}", or(&t.model, "(none)"))?;
        if let Some(pre) = &t.pre {
            write!(f, ", pre {}", escape(pre))?;
        }
        for (n, what) in
            [(t.tokens, "tokens"), (t.merges, "merges"), (t.chat_template_bytes, "bytes of chat template")]
        {
            if let Some(n) = n {
                write!(f, ", {n} {what}")?;
            }
        }
        writeln!(f)?;
        for (role, value) in &t.special {
            writeln!(f, "  {role:<28} {value}")?;
        }
        if !self.hyperparameters.is_empty() {
            writeln!(f, "hyper-parameters")?;
        }
        for row in &self.hyperparameters {
            let source = match row.source {
                Source::File => "",
                Source::Override => "  (overridden)",
                Source::Default => "  (default)",
            };
            writeln!(f, "  {:<44} {}{source}", escape(&row.key), row.value)?;
        }
        if !self.key_tensors.is_empty() {
            writeln!(f, "key tensors (dimensions in file order, a row first)")?;
        }
        for t in &self.key_tensors {
            tensor_line(f, t)?;
        }
        if let Some(tensors) = &self.tensors {
            writeln!(f, "all tensors")?;
            for t in tensors {
                tensor_line(f, t)?;
            }
        }
        if !self.extra_tensors.is_empty() {
            let names: Vec<String> = self.extra_tensors.iter().take(MAX_PRINTED).map(|n| escape(n)).collect();
            writeln!(f, "unused        {} tensors: {}", self.extra_tensors.len(), names.join(", "))?;
        }
        writeln!(f, "verdicts")?;
        for v in &self.verdicts {
            writeln!(f, "  {:<18} {:<4} {}", v.what, if v.ok { "ok" } else { "BAD" }, v.detail)?;
        }
        write!(f, "  {:<18} {}", "runnable", if self.runnable() { "yes" } else { "no" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::ParseOptions;
    use crate::loader::synth::synth;

    fn nano() -> Vec<u8> {
        let mut out = Vec::new();
        synth("nano-llama", DType::Q8_0, 0, &mut out).unwrap();
        out
    }

    fn look(bytes: &[u8]) -> Inspection {
        let (g, problems) = Gguf::parse_partly(bytes.into(), &ParseOptions::default());
        Inspection::new(&g, problems, false)
    }

    #[test]
    fn a_sound_file() {
        let bytes = nano();
        let (g, problems) = Gguf::parse_partly(bytes.as_slice().into(), &ParseOptions::default());
        let mut i = Inspection::new(&g, problems, true);
        i.require(&g, &[Want::new("token_embd.weight", &[64, 384])]);
        assert!(i.runnable(), "{i}");
        assert_eq!(i.extra_tensors.len(), g.tensors().len() - 1);
        assert_eq!(i.types.iter().map(|t| t.bytes).sum::<u64>(), i.tensor_bytes);
        let text = i.to_string();
        for part in
            ["nano-llama", "2 of 2 found", "384 tokens", "runnable           yes", "blk.1.ffn_up.weight"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = serde_json::to_value(&i).unwrap();
        assert_eq!(json["key_tensors"][0]["dims"], serde_json::json!([64, 384]));
        i.require(&g, &[Want::new("token_embd.weight", &[64, 383])]);
        assert!(!i.runnable() && i.problems[0].code == "ShapeMismatch");
    }

    #[test]
    fn what_is_left_of_a_damaged_file_is_shown() {
        let bytes = nano();
        let cut = look(&bytes[..bytes.len() - 100]);
        assert_eq!(
            (cut.architecture.as_deref(), cut.tensor_count, cut.runnable()),
            (Some("llama"), 21, false)
        );
        assert_eq!(cut.problems[0].code, "OutOfFile");
        // Half the header: the entries before the cut are there.
        let half = look(&bytes[..600]);
        assert!(!half.runnable() && half.architecture.as_deref() == Some("llama"));
        assert!(half.to_string().contains("runnable           no"));
        assert_eq!(half.problems.len(), 1, "what the cut took away is not counted against the file: {half}");
        let nothing = look(b"");
        assert_eq!((nothing.problems[0].code, nothing.runnable()), ("Truncated", false));
    }
}
