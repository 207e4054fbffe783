//! Reads the table's rows, derives what is absent, and checks values against each other.

use super::table::{
    Absent::{Is, Required},
    HUGE, K,
    Kind::{Bool, Float, Int, PerLayer, Text},
    SPECS, Spec, TINY,
};
use super::{Hparams, RopeScaling, Source, TableRow};
use crate::error::{Problem, escape};
use crate::loader::{Gguf, Value};

/// Most rows of one product.
const MOST_ROWS: u64 = 1 << 24;

/// A value that passed its row.
#[derive(Clone, Debug)]
enum Read {
    Int(u32),
    Float(f32),
    Text(String),
}

pub(super) struct Reader<'a> {
    gguf: &'a Gguf,
    arch: String,
    /// One per row of `SPECS`.
    values: Vec<Option<Read>>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads every row of the table.
    pub(super) fn new(gguf: &'a Gguf, arch: String) -> Self {
        let mut r = Reader { gguf, arch, values: Vec::new(), problems: Vec::new() };
        for spec in SPECS {
            let value = r.row(spec);
            r.values.push(value);
        }
        r
    }

    /// What was wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn key(&self, spec: &Spec) -> String {
        spec.key.replacen('%', &self.arch, 1)
    }

    /// Reads one row; notes what is wrong with it.
    fn row(&mut self, spec: &Spec) -> Option<Read> {
        let key = self.key(spec);
        let Some(value) = self.gguf.get(&key) else {
            if matches!(spec.absent, Required) {
                self.problems
                    .push(Problem::new("MissingKey", format!("key {}", escape(&key))).expected(spec.doc));
            }
            return match spec.absent {
                Is(n) if matches!(spec.kind, Float(..)) => Some(Read::Float(n)),
                Is(n) => Some(Read::Int(n as u32)),
                _ => None,
            };
        };
        match self.checked(spec, &key, value) {
            Ok(v) => Some(v),
            Err(p) => {
                self.problems.push(*p);
                None
            }
        }
    }

    fn checked(&self, spec: &Spec, key: &str, value: Value<'_>) -> Result<Read, Box<Problem>> {
        let problem = |code| Box::new(self.gguf.problem(code, key));
        let wrong = |expected: &str| {
            let found = match value {
                Value::Array(a) => format!("an array of {}", a.element_type()),
                v => format!("type {}", v.value_type()),
            };
            Err(Box::new(self.gguf.problem("WrongType", key).found(found).expected(expected)))
        };
        let int = |v: Value<'_>, lo: u32, hi: u32| {
            v.as_i64().and_then(|n| u32::try_from(n).ok()).filter(|n| (lo..=hi).contains(n)).ok_or_else(
                || Box::new(problem("OutOfRange").found(v.to_string()).expected(format!("{lo} to {hi}"))),
            )
        };
        match (spec.kind, value) {
            (Int(lo, hi) | PerLayer(lo, hi), v) if v.is_integer() => int(v, lo, hi).map(Read::Int),
            (PerLayer(lo, hi), Value::Array(a)) => {
                // The row of block_count stands before every per-layer row.
                let want = self.int(K::Layers);
                if want.is_some_and(|n| n as usize != a.len()) {
                    let want = want.unwrap_or_default();
                    let p = *problem("ArrayLength");
                    return Err(Box::new(
                        p.found(format!("{} values", a.len())).expected(format!("{want}, one per block")),
                    ));
                }
                let mut all = None;
                for v in a.iter() {
                    if !v.is_integer() {
                        return wrong("an integer, or an array of integers");
                    }
                    let n = int(v, lo, hi)?;
                    if *all.get_or_insert(n) != n {
                        let p = *problem("Unsupported");
                        return Err(Box::new(
                            p.found(value.to_string()).expected("the same value for every block"),
                        ));
                    }
                }
                all.map(Read::Int).ok_or_else(|| problem("ArrayLength"))
            }
            (Int(..), _) => wrong("an integer"),
            (PerLayer(..), _) => wrong("an integer, or an array of integers"),
            (Float(lo, hi), v) => match v.as_f64() {
                None => wrong("a float"),
                Some(x) => {
                    Some(x as f32).filter(|x| (lo..=hi).contains(x)).map(Read::Float).ok_or_else(|| {
                        Box::new(problem("OutOfRange").found(x.to_string()).expected(range(lo, hi)))
                    })
                }
            },
            (Bool, Value::Bool(b)) => Ok(Read::Int(b.into())),
            (Bool, _) => wrong("a bool"),
            (Text, Value::Str(s)) => Ok(Read::Text(String::from_utf8_lossy(s).into_owned())),
            (Text, _) => wrong("a string"),
        }
    }

    fn int(&self, k: K) -> Option<u32> {
        match self.values.get(k as usize) {
            Some(Some(Read::Int(n))) => Some(*n),
            _ => None,
        }
    }

    fn float(&self, k: K) -> Option<f32> {
        match self.values.get(k as usize) {
            Some(Some(Read::Float(x))) => Some(*x),
            _ => None,
        }
    }

    fn text(&self, k: K) -> Option<&str> {
        match self.values.get(k as usize) {
            Some(Some(Read::Text(s))) => Some(s),
            _ => None,
        }
    }

    /// Notes a problem about the key of row `k`, unless that row is wrong already.
    fn note(&mut self, k: K, code: &'static str, found: String, expected: String) {
        let key = self.key(&SPECS[k as usize]);
        let thing = format!("key {}", escape(&key));
        if !self.problems.iter().any(|p| p.thing == thing) {
            let p = self.gguf.problem(code, &key).found(found).expected(expected);
            self.problems.push(p);
        }
    }

    /// Derives, cross-checks and assembles. Where a required value is missing its problem is noted already, and 1
    /// stands in for it.
    pub(super) fn build(&mut self) -> Hparams {
        let n_embd = self.int(K::Embd).unwrap_or(1);
        let n_layer = self.int(K::Layers).unwrap_or(1);
        let n_head = self.int(K::Heads).unwrap_or(1);
        let n_head_kv = self.int(K::HeadsKv).unwrap_or(n_head);
        let n_ctx_train = self.int(K::Ctx).unwrap_or(1);
        if !n_head.is_multiple_of(n_head_kv) {
            self.note(
                K::HeadsKv,
                "OutOfRange",
                n_head_kv.to_string(),
                format!("a divisor of {n_head} heads"),
            );
        }
        let (key_len, value_len) = (self.int(K::KeyLen), self.int(K::ValueLen));
        if (key_len.is_none() || value_len.is_none()) && !n_embd.is_multiple_of(n_head) {
            let expected = format!("a multiple of {n_head} heads, or a key_length and value_length");
            self.note(K::Embd, "Inconsistent", n_embd.to_string(), expected);
        }
        let head_dim_k = key_len.unwrap_or((n_embd / n_head).max(1));
        let head_dim_v = value_len.unwrap_or((n_embd / n_head).max(1));
        let n_rot = self.int(K::RopeDims).unwrap_or(head_dim_k);
        // A head whose size is not known has been noted, and says nothing about rotation.
        let sized = key_len.is_some() || (self.int(K::Embd).is_some() && self.int(K::Heads).is_some());
        if sized && (!n_rot.is_multiple_of(2) || n_rot > head_dim_k) {
            let expected = format!("an even number up to {head_dim_k}, the size of a head");
            self.note(K::RopeDims, "OutOfRange", n_rot.to_string(), expected);
        }
        // Rows of a product of all heads; three of them, and twice a feed-forward, are still far from 2^32.
        let widest = u64::from(n_head) * u64::from(head_dim_k.max(head_dim_v));
        if sized && widest > MOST_ROWS {
            let expected = format!("at most {MOST_ROWS} elements of all heads");
            let found = format!("{n_head} heads of {}", head_dim_k.max(head_dim_v));
            self.note(if key_len.is_some() { K::KeyLen } else { K::Heads }, "OutOfRange", found, expected);
        }
        let (n_expert, n_expert_used) =
            (self.int(K::Experts).unwrap_or(0), self.int(K::ExpertsUsed).unwrap_or(0));
        if n_expert_used > n_expert || (n_expert > 0 && n_expert_used == 0) {
            let expected =
                if n_expert > 0 { format!("1 to {n_expert}") } else { "0, without experts".into() };
            self.note(K::ExpertsUsed, "OutOfRange", n_expert_used.to_string(), expected);
        }
        let n_vocab = self.vocab();
        let rope_scaling = self.scaling();
        let rope_orig_ctx = self.int(K::OrigCtx).unwrap_or(n_ctx_train);
        let rows = self.rows(&[
            (K::HeadsKv, n_head_kv),
            (K::KeyLen, head_dim_k),
            (K::ValueLen, head_dim_v),
            (K::RopeDims, n_rot),
            (K::Vocab, n_vocab),
            (K::OrigCtx, rope_orig_ctx),
        ]);
        Hparams {
            arch: self.arch.clone(),
            name: self.text(K::Name).map(str::to_owned),
            n_ctx_train,
            n_embd,
            n_layer,
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v,
            n_ff: self.int(K::Ff).unwrap_or(1),
            n_rot,
            n_vocab,
            rms_eps: self.float(K::Eps).unwrap_or(0.0),
            rope_freq_base: self.float(K::RopeBase).unwrap_or(1.0),
            rope_scaling,
            rope_orig_ctx,
            rope_attn_factor: self.float(K::AttnFactor).unwrap_or(1.0),
            attn_scale: self.float(K::AttnScale).filter(|x| *x != 0.0),
            sliding_window: self.int(K::Window).filter(|n| *n != 0),
            n_expert,
            n_expert_used,
            file_type: self.int(K::FileType),
            rows,
        }
    }

    /// The token list decides, as in llama.cpp: its length is what ids are below.
    fn vocab(&mut self) -> u32 {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let listed = match self.gguf.get(TOKENS) {
            Some(Value::Array(a)) => u32::try_from(a.len()).ok(),
            _ => None,
        };
        let embedding = self.gguf.tensor("token_embd.weight").filter(|t| t.dims.len() == 2);
        if let (Some(n), Some(t)) = (listed, embedding)
            && u64::from(n) != t.dims[1]
            && self.int(K::Embd).map(u64::from) == Some(t.dims[0])
        {
            let p = self.gguf.problem("Inconsistent", TOKENS).found(format!("{n} tokens"));
            self.problems.push(p.expected(format!("{}, the rows of token_embd.weight", t.dims[1])));
        }
        listed.or(self.int(K::Vocab)).unwrap_or_else(|| {
            let expected = format!("this or {TOKENS}");
            self.note(K::Vocab, "MissingKey", String::new(), expected);
            1
        })
    }

    fn scaling(&mut self) -> RopeScaling {
        let factor = self.float(K::ScalingFactor).or(self.float(K::ScaleLinear)).unwrap_or(0.0);
        let factor = if factor == 0.0 { 1.0 } else { factor };
        match self.text(K::ScalingType).unwrap_or("linear") {
            "none" => RopeScaling::None,
            "linear" if factor == 1.0 => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor },
            "yarn" => RopeScaling::Yarn {
                factor,
                ext_factor: self.float(K::YarnExt).unwrap_or(-1.0),
                beta_fast: self.float(K::BetaFast).unwrap_or(32.0),
                beta_slow: self.float(K::BetaSlow).unwrap_or(1.0),
            },
            "longrope" => RopeScaling::LongRope { factor },
            other => {
                let found = format!("\"{}\"", escape(other));
                self.note(K::ScalingType, "Unsupported", found, "none, linear, yarn or longrope".into());
                RopeScaling::None
            }
        }
    }

    fn rows(&self, derived: &[(K, u32)]) -> Vec<TableRow> {
        let mut rows = Vec::with_capacity(SPECS.len());
        for (spec, value) in SPECS.iter().zip(&self.values) {
            let key = self.key(spec);
            let derived = derived.iter().find(|(k, _)| *k == spec.id).map(|(_, n)| Read::Int(*n));
            let Some(value) = derived.as_ref().or(value.as_ref()) else { continue };
            let source = if self.gguf.get(&key).is_none() {
                Source::Default
            } else if self.gguf.offset_of(&key).is_none() {
                Source::Override
            } else {
                Source::File
            };
            let (value, number) = match value {
                Read::Int(n) => (n.to_string(), Some(*n as f32)),
                Read::Float(x) => (x.to_string(), Some(*x)),
                Read::Text(s) => (escape(s), None),
            };
            let feature = spec.neutral.is_some() && number != spec.neutral;
            rows.push(TableRow { key, value, source, doc: spec.doc, feature });
        }
        rows
    }
}

/// A range of floats in words.
fn range(lo: f32, hi: f32) -> String {
    match (lo, hi) {
        (TINY, HUGE) => "a number above 0".into(),
        (l, HUGE) if l == -HUGE => "a finite number".into(),
        (lo, HUGE) => format!("{lo} or more"),
        (lo, hi) => format!("{lo} to {hi}"),
    }
}
