//! A small valid model, written field by field by a writer of its own, so that a test can damage any one of them.
#![allow(dead_code)] // each test file uses a part

pub mod engines;
pub mod hostile;
pub mod hostile_templates;
pub mod plans;
pub mod process;
pub mod split;

/// Value types of GGUF, by id.
pub const U8: u32 = 0;
pub const U16: u32 = 2;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const STR: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;

/// Element types, by id.
pub const T_F32: u32 = 0;
pub const T_F16: u32 = 1;
pub const T_Q8_0: u32 = 8;
pub const T_Q4_K: u32 = 12;

/// Width, inner width, heads, head size and vocabulary of the base file.
pub const EMBD: u64 = 64;
pub const FF: u64 = 96;
pub const HEADS: u64 = 4;
pub const HEADS_KV: u64 = 2;
pub const VOCAB: u64 = 300;
pub const ALIGN: usize = 32;

/// One metadata entry; `None` means what is right for the rest.
#[derive(Clone)]
pub struct Kv {
    pub key_len: Option<u64>,
    pub key: Vec<u8>,
    pub ty: u32,
    pub value: Vec<u8>,
}

/// One tensor.
#[derive(Clone)]
pub struct Tensor {
    pub name_len: Option<u64>,
    pub name: Vec<u8>,
    pub n_dims: Option<u32>,
    pub dims: Vec<u64>,
    pub ty: u32,
    pub offset: Option<u64>,
    pub data: Vec<u8>,
}

/// A whole file. [`Model::build`] lays it out; every field can be wrong.
#[derive(Clone)]
pub struct Model {
    pub magic: Vec<u8>,
    pub version: u32,
    pub n_tensors: Option<u64>,
    pub n_kv: Option<u64>,
    pub kv: Vec<Kv>,
    pub tensors: Vec<Tensor>,
    /// Bytes of nothing before each tensor's data, for holes.
    pub hole: (usize, usize),
    /// The file ends here.
    pub cut: Option<usize>,
    /// The file ends this many bytes early.
    pub drop_tail: usize,
    /// The file is this instead.
    pub instead: Option<Vec<u8>>,
}

pub fn str_bytes(s: &[u8]) -> Vec<u8> {
    let mut out = (s.len() as u64).to_le_bytes().to_vec();
    out.extend(s);
    out
}

/// An array value: element type, count, elements.
pub fn array(elem: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    let mut out = elem.to_le_bytes().to_vec();
    out.extend(count.to_le_bytes());
    out.extend(elements);
    out
}

fn kv(key: &str, ty: u32, value: Vec<u8>) -> Kv {
    Kv { key_len: None, key: key.into(), ty, value }
}

/// Bytes of weights: small, finite, and different everywhere.
fn weights(ty: u32, dims: &[u64]) -> Vec<u8> {
    let n: u64 = dims.iter().product();
    let mut state = n ^ 0x9e37_79b9;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    let mut out = Vec::new();
    match ty {
        T_F32 => (0..n).for_each(|_| out.extend((f32::from(next().cast_signed()) / 256.0).to_le_bytes())),
        T_Q8_0 => {
            for _ in 0..n / 32 {
                out.extend(0x1c00u16.to_le_bytes()); // 2^-8 in f16
                out.extend((0..32).map(|_| next()));
            }
        }
        _ => unreachable!("the base file has no type {ty}"),
    }
    out
}

impl Model {
    /// The base file: llama, two blocks, a SentencePiece vocabulary with bytes, F32 and Q8_0.
    pub fn base() -> Model {
        let u32 = |key: &str, n: u64| kv(key, U32, (n as u32).to_le_bytes().to_vec());
        let f32 = |key: &str, x: f32| kv(key, F32, x.to_le_bytes().to_vec());
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
        tokens.extend("▁abcdefghijklmnopqrstuvwxyz".chars().map(String::from));
        tokens.extend((tokens.len()..VOCAB as usize).map(|i| format!("[PAD {i}]")));
        let types: Vec<i32> =
            (0..VOCAB).map(|i| [2, 3, 3, 6, 1][i.min(3).max((i > 258) as u64 * 4) as usize]).collect();
        let scores: Vec<f32> = (0..VOCAB).map(|i| -(i as f32)).collect();
        let kv = vec![
            kv("general.architecture", STR, str_bytes(b"llama")),
            kv("general.alignment", U32, (ALIGN as u32).to_le_bytes().to_vec()),
            kv("general.name", STR, str_bytes(b"base")),
            u32("llama.context_length", 64),
            u32("llama.embedding_length", EMBD),
            u32("llama.block_count", 2),
            u32("llama.feed_forward_length", FF),
            u32("llama.attention.head_count", HEADS),
            u32("llama.attention.head_count_kv", HEADS_KV),
            f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
            f32("llama.rope.freq_base", 10000.0),
            u32("llama.rope.dimension_count", EMBD / HEADS),
            kv("tokenizer.ggml.model", STR, str_bytes(b"llama")),
            kv(
                "tokenizer.ggml.tokens",
                ARRAY,
                array(STR, VOCAB, &tokens.iter().flat_map(|t| str_bytes(t.as_bytes())).collect::<Vec<_>>()),
            ),
            kv(
                "tokenizer.ggml.scores",
                ARRAY,
                array(F32, VOCAB, &scores.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()),
            ),
            kv(
                "tokenizer.ggml.token_type",
                ARRAY,
                array(I32, VOCAB, &types.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()),
            ),
            u32("tokenizer.ggml.bos_token_id", 1),
            u32("tokenizer.ggml.eos_token_id", 2),
            kv("tokenizer.ggml.add_bos_token", BOOL, vec![1]),
        ];
        let mut tensors = Vec::new();
        let mut add = |name: String, ty: u32, dims: &[u64]| {
            let data = weights(ty, dims);
            let (name, dims) = (name.into_bytes(), dims.to_vec());
            tensors.push(Tensor { name_len: None, name, n_dims: None, dims, ty, offset: None, data });
        };
        for (name, dims, vector) in wanted() {
            add(name, if vector { T_F32 } else { T_Q8_0 }, &dims);
        }
        Model {
            magic: b"GGUF".to_vec(),
            version: 3,
            n_tensors: None,
            n_kv: None,
            kv,
            tensors,
            hole: (0, 0),
            cut: None,
            drop_tail: 0,
            instead: None,
        }
    }

    /// The entry of this key.
    pub fn key(&mut self, key: &str) -> &mut Kv {
        self.kv.iter_mut().find(|kv| kv.key == key.as_bytes()).unwrap()
    }

    /// The tensor of this name.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name.as_bytes()).unwrap()
    }

    /// Sets a `u32` value.
    pub fn set_u32(&mut self, key: &str, value: u32) {
        self.key(key).value = value.to_le_bytes().to_vec();
    }

    /// Sets an `f32` value.
    pub fn set_f32(&mut self, key: &str, value: f32) {
        self.key(key).value = value.to_le_bytes().to_vec();
    }

    /// Appends an entry.
    pub fn add(&mut self, key: &[u8], ty: u32, value: Vec<u8>) {
        self.kv.push(Kv { key_len: None, key: key.to_vec(), ty, value });
    }

    /// Bytes before the tensor data, without and with padding.
    pub fn header(&self) -> (Vec<u8>, usize) {
        let mut out = self.magic.clone();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_kv.unwrap_or(self.kv.len() as u64).to_le_bytes());
        for kv in &self.kv {
            out.extend(kv.key_len.unwrap_or(kv.key.len() as u64).to_le_bytes());
            out.extend(&kv.key);
            out.extend(kv.ty.to_le_bytes());
            out.extend(&kv.value);
        }
        let mut running = 0;
        for (i, t) in self.tensors.iter().enumerate() {
            out.extend(t.name_len.unwrap_or(t.name.len() as u64).to_le_bytes());
            out.extend(&t.name);
            out.extend(t.n_dims.unwrap_or(t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(t.ty.to_le_bytes());
            running += if i == self.hole.0 { self.hole.1 } else { 0 };
            out.extend(t.offset.unwrap_or(running as u64).to_le_bytes());
            running = (running + t.data.len()).next_multiple_of(ALIGN);
        }
        let padded = out.len().next_multiple_of(ALIGN);
        (out, padded)
    }

    /// The same model in `n` files, as `gguf-split` would write it: metadata in the first, tensors in equal parts.
    pub fn split(&self, n: usize) -> Vec<Model> {
        let per = self.tensors.len().div_ceil(n);
        let part = |i: usize| {
            let tensors = self.tensors.iter().skip(i * per).take(per).cloned().collect();
            let kv = if i == 0 { self.kv.clone() } else { Vec::new() };
            let mut m = Model { kv, tensors, ..self.clone() };
            m.add(b"split.no", U16, (i as u16).to_le_bytes().to_vec());
            m.add(b"split.count", U16, (n as u16).to_le_bytes().to_vec());
            m.add(b"split.tensors.count", I32, (self.tensors.len() as i32).to_le_bytes().to_vec());
            m
        };
        (0..n).map(part).collect()
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        if let Some(bytes) = &self.instead {
            return bytes.clone();
        }
        let (mut out, padded) = self.header();
        out.resize(padded, 0);
        for (i, t) in self.tensors.iter().enumerate() {
            out.resize(out.len() + if i == self.hole.0 { self.hole.1 } else { 0 }, 0);
            out.extend(&t.data);
            out.resize(out.len().next_multiple_of(ALIGN), 0);
        }
        let len = self.cut.unwrap_or(out.len()).saturating_sub(self.drop_tail);
        out.truncate(len);
        out
    }
}

/// Names, dimensions and whether it is a vector, of every tensor of the base file.
pub fn wanted() -> Vec<(String, Vec<u64>, bool)> {
    let kv = EMBD / HEADS * HEADS_KV;
    let mut out = vec![("token_embd.weight".to_owned(), vec![EMBD, VOCAB], false)];
    for i in 0..2 {
        let mut add =
            |n: &str, dims: &[u64]| out.push((format!("blk.{i}.{n}.weight"), dims.to_vec(), dims.len() == 1));
        add("attn_norm", &[EMBD]);
        add("attn_q", &[EMBD, EMBD]);
        add("attn_k", &[EMBD, kv]);
        add("attn_v", &[EMBD, kv]);
        add("attn_output", &[EMBD, EMBD]);
        add("ffn_norm", &[EMBD]);
        add("ffn_gate", &[EMBD, FF]);
        add("ffn_up", &[EMBD, FF]);
        add("ffn_down", &[FF, EMBD]);
    }
    out.push(("output_norm.weight".into(), vec![EMBD], true));
    out.push(("output.weight".into(), vec![EMBD, VOCAB], false));
    out
}
