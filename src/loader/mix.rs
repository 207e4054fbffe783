//! Which tensor of a file gets which type: llama.cpp's rules for files without an importance matrix.
//!
//! Norms, biases and a few small tensors stay as they are. Of the others most get the type of the file; tensors that
//! suffer more from few bits (the output matrix, V, the down projection, some layers of each) get one with more. Rows
//! that are no whole number of super-blocks fall back to a type with blocks of 32, and those that are no multiple of
//! 32 to F16. Source: `llama_tensor_get_type` and its neighbours in `llama-quant.cpp`.

use super::file_type::FileType;
use super::gguf::Gguf;
use crate::error::Result;
use crate::quant::DType;

/// What the rules look at in a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// The type it has.
    pub dtype: DType,
    /// Dimensions in file order, a row first.
    pub dims: &'a [u64],
}

/// What the rules look at in a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `general.architecture`.
    pub arch: String,
    /// Layers.
    pub n_layer: u64,
    /// Query heads per head of keys and values, 0 if there are none.
    pub n_gqa: u64,
    /// Experts, 0 for a dense model.
    pub n_expert: u64,
}

/// What the user asks for beside the file type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The type of the file for every tensor that may have it, no exceptions.
    pub pure: bool,
    /// Leave `output.weight` as it is.
    pub leave_output: bool,
    /// The type of `output.weight`.
    pub output: Option<DType>,
    /// The type of `token_embd.weight`.
    pub embedding: Option<DType>,
}

/// The type of one tensor, and the one it would have if its rows fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The type to write.
    pub to: DType,
    /// The type that the rules chose, where it does not fit.
    pub instead_of: Option<DType>,
}

impl Facts {
    /// Those of a file.
    ///
    /// # Errors
    /// As [`Gguf::architecture`] and [`Gguf::u32`].
    pub fn of(file: &Gguf) -> Result<Facts> {
        let arch = file.architecture()?.to_string();
        // A count that is an array (one per layer) counts by its first element, as in llama.cpp.
        let count = |key: &str| -> Option<u64> {
            let value = file.get(&format!("{arch}.{key}"))?;
            let first = match value {
                super::Value::Array(a) => a.iter().next()?.as_i64(),
                v => v.as_i64(),
            };
            first.and_then(|n| u64::try_from(n).ok())
        };
        let heads = count("attention.head_count").unwrap_or(0);
        let n_gqa = heads.checked_div(count("attention.head_count_kv").unwrap_or(heads)).unwrap_or(0);
        let (n_layer, n_expert) = (count("block_count").unwrap_or(0), count("expert_count").unwrap_or(0));
        Ok(Facts { n_layer, n_gqa, n_expert, arch })
    }
}

/// What a tensor does, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Embedding,
    Output,
    /// V, or what holds V with others.
    V,
    K,
    AttnOutput,
    Down,
    Other,
}

fn role(name: &str) -> Role {
    const PARTS: &[(&str, Role)] = &[
        ("attn_qkv.weight", Role::V),
        ("attn_kv_b.weight", Role::V),
        ("attn_v.weight", Role::V),
        ("attn_k.weight", Role::K),
        ("attn_q.weight", Role::Other),
        ("attn_output.weight", Role::AttnOutput),
        ("ffn_up", Role::Other),
        ("ffn_gate", Role::Other),
        ("ffn_down", Role::Down),
    ];
    match name {
        "output.weight" => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
        _ => PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |p| p.1),
    }
}

/// Tensors that keep their type: small, or more sensitive than they are large.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

fn may_change(item: &Item<'_>, options: &Options) -> bool {
    item.dims.iter().skip(1).any(|d| *d > 1)
        && item.name.ends_with("weight")
        && !(options.leave_output && item.name == "output.weight")
        && !matches!(item.name, "position_embd.weight" | "token_types.weight")
        && !KEPT.iter().any(|part| item.name.contains(part))
}

/// Layers that get more bits: the first and the last eighth, and every third between.
fn more_bits(layer: u64, n: u64) -> bool {
    layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2
}

/// The number after `blk.`.
fn layer_of(name: &str) -> Option<u64> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The type of every tensor, in the order of `items`.
pub fn assign(items: &[Item<'_>], facts: &Facts, file_type: FileType, options: &Options) -> Vec<Assigned> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    // Counters run over layers in order, whatever the order of the file.
    order.sort_by_key(|i| (layer_of(items[*i].name).map_or(0, |l| l + 1), items[*i].name));
    let mut rules = Rules {
        facts,
        file_type,
        options,
        tied: !items.iter().any(|t| t.name == "output.weight"),
        n_v: items.iter().filter(|t| role(t.name) == Role::V).count() as u64,
        seen_v: 0,
        seen_down: 0,
    };
    let mut out: Vec<_> = items.iter().map(|t| Assigned { to: t.dtype, instead_of: None }).collect();
    for i in order {
        if may_change(&items[i], options) {
            out[i] = fitting(rules.wanted(&items[i]), items[i].dims[0]);
        }
    }
    out
}

/// The type itself, or the next that has room for rows of `cols`.
pub fn fitting(wanted: DType, cols: u64) -> Assigned {
    let fits = |t: DType| cols.is_multiple_of(t.block() as u64);
    if fits(wanted) {
        return Assigned { to: wanted, instead_of: None };
    }
    let narrow = match wanted {
        DType::IQ4_XS => DType::IQ4_NL,
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        other => other,
    };
    Assigned { to: if fits(narrow) { narrow } else { DType::F16 }, instead_of: Some(wanted) }
}

struct Rules<'a> {
    facts: &'a Facts,
    file_type: FileType,
    options: &'a Options,
    /// Whether the embedding is the output matrix too.
    tied: bool,
    n_v: u64,
    seen_v: u64,
    seen_down: u64,
}

impl Rules<'_> {
    fn wanted(&mut self, item: &Item<'_>) -> DType {
        let (role, dtype) = (role(item.name), self.file_type.dtype);
        let asked = match role {
            Role::Embedding => self.options.embedding,
            Role::Output => self.options.output,
            _ => None,
        };
        if let Some(asked) = asked {
            return asked;
        }
        if dtype.block() == 1 || self.options.pure {
            return dtype;
        }
        match role {
            Role::Output => self.output(item),
            Role::Embedding if self.tied => self.options.output.unwrap_or_else(|| self.output(item)),
            Role::V => self.v(),
            Role::K if self.facts.n_expert == 8 => DType::Q8_0,
            Role::AttnOutput => self.attn_output(),
            Role::Down => self.down(item.name),
            _ => dtype,
        }
    }

    fn output(&self, item: &Item<'_>) -> DType {
        let dtype = self.file_type.dtype;
        let whole = item.dims[0].is_multiple_of(dtype.block() as u64);
        if self.facts.arch == "falcon" || !whole || dtype == DType::Q8_0 { DType::Q8_0 } else { DType::Q6_K }
    }

    fn v(&mut self) -> DType {
        let (i, f) = (self.seen_v, self.facts);
        self.seen_v += 1;
        let mut to = match self.file_type.name {
            "Q2_K" => [DType::Q3_K, DType::Q4_K][usize::from(f.n_gqa >= 4)],
            "Q2_K_S" if f.n_gqa >= 4 => DType::Q4_K,
            "Q3_K_M" => [DType::Q4_K, DType::Q5_K][usize::from(i < 2)],
            "Q3_K_L" => DType::Q5_K,
            "IQ4_NL" | "IQ4_XS" if f.n_gqa >= 4 => DType::Q5_K,
            "Q4_K_M" | "Q5_K_M" if more_bits(i, self.n_v) => DType::Q6_K,
            "Q4_K_S" if i < 4 => DType::Q5_K,
            _ => self.file_type.dtype,
        };
        // The models that llama.cpp calls 70B: V is an eighth of Q there, so bits cost little.
        let large = match f.arch.as_str() {
            "llama" => f.n_layer == 80 && f.n_gqa != 1,
            "qwen2" | "deci" | "olmo" => f.n_layer == 80,
            "jais2" => f.n_layer == 68,
            _ => false,
        };
        if large && matches!(to, DType::Q3_K | DType::Q4_K) {
            to = DType::Q5_K;
        }
        if f.n_expert == 8 { DType::Q8_0 } else { to }
    }

    fn attn_output(&self) -> DType {
        let name = self.file_type.name;
        match (self.facts.arch == "falcon", self.facts.n_expert == 8, name) {
            (true, _, "Q3_K_L") => DType::Q4_K,
            (true, ..) => self.file_type.dtype,
            (_, true, "Q2_K" | "Q3_K_S" | "Q3_K_M" | "IQ4_NL" | "IQ4_XS" | "Q4_K_S" | "Q4_K_M") => {
                DType::Q5_K
            }
            (_, true, _) => self.file_type.dtype,
            (.., "Q2_K") => DType::Q3_K,
            (.., "Q3_K_M") => DType::Q4_K,
            (.., "Q3_K_L") => DType::Q5_K,
            _ => self.file_type.dtype,
        }
    }

    fn down(&mut self, tensor: &str) -> DType {
        let n = self.facts.n_layer;
        // Experts of one layer are several tensors in some files, so the count is no layer.
        let i = if self.facts.n_expert > 1 { layer_of(tensor).unwrap_or(0) } else { self.seen_down };
        self.seen_down += 1;
        let falcon = self.facts.arch == "falcon";
        match self.file_type.name {
            "Q2_K" => DType::Q3_K,
            "Q2_K_S" if i < n / 8 => DType::Q4_K,
            "Q3_K_M" if i < n / 16 => DType::Q5_K,
            "Q3_K_M" if !falcon || more_bits(i, n) => DType::Q4_K,
            "Q3_K_L" if falcon => DType::Q4_K,
            "Q3_K_L" => DType::Q5_K,
            "Q4_K_M" if falcon && i >= n / 16 && more_bits(i, n) => DType::Q5_K,
            "Q4_K_M" if falcon && i >= n / 16 => DType::Q4_K,
            "Q4_K_M" if falcon => DType::Q6_K,
            "Q4_K_M" | "Q5_K_M" if more_bits(i, n) => DType::Q6_K,
            "IQ4_NL" | "IQ4_XS" if i < n / 8 => DType::Q5_K,
            "Q4_K_S" if !falcon && i < n / 8 => DType::Q5_K,
            _ => self.file_type.dtype,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types of a model of `n` layers with rows of 256 (down: `cols`), by name.
    fn types(name: &str, n: u64, n_gqa: u64, tied: bool, cols: u64) -> impl Fn(&str) -> String {
        let mut names = vec![("token_embd.weight".to_string(), 256), ("output_norm.weight".into(), 256)];
        if !tied {
            names.push(("output.weight".into(), 256));
        }
        // The order of the file does not matter: layers backwards.
        for il in (0..n).rev() {
            for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_norm"] {
                names.push((format!("blk.{il}.{part}.weight"), 256));
            }
            names.push((format!("blk.{il}.ffn_down.weight"), cols));
            names.push((format!("blk.{il}.attn_q.bias"), 256));
        }
        let dims: Vec<[u64; 2]> =
            names.iter().map(|(n, c)| [*c, if n.contains("bias") { 1 } else { 8 }]).collect();
        let items: Vec<_> =
            names.iter().zip(&dims).map(|(n, d)| Item { name: &n.0, dtype: DType::F32, dims: d }).collect();
        let facts = Facts { arch: "llama".into(), n_layer: n, n_gqa, n_expert: 0 };
        let assigned = assign(&items, &facts, FileType::named(name).unwrap(), &Options::default());
        let table: Vec<_> =
            names.iter().map(|n| n.0.clone()).zip(assigned.into_iter().map(|a| a.to.to_string())).collect();
        move |name| table.iter().find(|t| t.0 == name).unwrap().1.clone()
    }

    #[test]
    fn a_medium_mix_spends_bits_where_they_count() {
        let t = types("Q4_K_M", 16, 4, false, 256);
        assert_eq!(
            [t("output.weight"), t("token_embd.weight"), t("output_norm.weight")],
            ["Q6_K", "Q4_K", "F32"]
        );
        // The first two and the last two of sixteen, and every third between from the fifth on.
        for il in 0..16 {
            let want = if !(2..14).contains(&il) || (il - 2) % 3 == 2 { "Q6_K" } else { "Q4_K" };
            let of = |part: &str| t(&format!("blk.{il}.{part}.weight"));
            assert_eq!(
                [of("attn_v"), of("ffn_down"), of("ffn_up"), of("ffn_norm")],
                [want, want, "Q4_K", "F32"]
            );
        }
        assert_eq!(t("blk.3.attn_q.bias"), "F32");
        assert_eq!(types("Q4_K_M", 2, 1, true, 256)("token_embd.weight"), "Q6_K");
        let t = types("Q2_K", 8, 4, false, 256);
        assert_eq!([t("blk.0.attn_v.weight"), t("blk.0.attn_output.weight")], ["Q4_K", "Q3_K"]);
        assert_eq!(types("Q3_K_M", 80, 8, false, 256)("blk.40.attn_v.weight"), "Q5_K");
    }

    #[test]
    fn narrow_rows_fall_back() {
        let down = |name: &str, cols| types(name, 8, 1, false, cols)("blk.1.ffn_down.weight");
        assert_eq!([down("Q6_K", 96), down("Q4_K_S", 96), down("Q5_K_S", 96)], ["Q8_0", "Q5_0", "Q5_1"]);
        assert_eq!([down("Q3_K_S", 96), down("IQ4_XS", 96), down("Q4_0", 40)], ["Q4_0", "IQ4_NL", "F16"]);
        let fell = fitting(DType::Q2_K, 100);
        assert_eq!((fell.to, fell.instead_of), (DType::F16, Some(DType::Q2_K)));
    }
}
