//! Tokens that are recognised by their text, because many files do not state what they are.
//!
//! The lists are llama.cpp's, so that a text ends where its users expect. Where several texts could take one
//! role, the first of the list takes it (llama.cpp takes whichever its hash table meets first).

use super::attrs::{Attr, ROLES, Role};
use super::parts::Model;
use super::vocab::Vocab;

/// Metadata key of each role, in [`Role`]'s order, and the older key of the same meaning.
pub const ROLE_KEYS: [(&str, Option<&str>); ROLES] = [
    ("tokenizer.ggml.bos_token_id", None),
    ("tokenizer.ggml.eos_token_id", None),
    ("tokenizer.ggml.eot_token_id", None),
    ("tokenizer.ggml.eom_token_id", None),
    ("tokenizer.ggml.unknown_token_id", None),
    ("tokenizer.ggml.seperator_token_id", None),
    ("tokenizer.ggml.padding_token_id", None),
    ("tokenizer.ggml.mask_token_id", None),
    ("tokenizer.ggml.fim_pre_token_id", Some("tokenizer.ggml.prefix_token_id")),
    ("tokenizer.ggml.fim_suf_token_id", Some("tokenizer.ggml.suffix_token_id")),
    ("tokenizer.ggml.fim_mid_token_id", Some("tokenizer.ggml.middle_token_id")),
    ("tokenizer.ggml.fim_pad_token_id", None),
    ("tokenizer.ggml.fim_rep_token_id", None),
    ("tokenizer.ggml.fim_sep_token_id", None),
];

/// Roles taken by text where no id was stated.
const BY_TEXT: [(Role, &[&str]); 8] = [
    (
        Role::Eot,
        &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "<｜end▁of▁sentence｜>",
            "<end_of_utterance>",
        ],
    ),
    (Role::Eom, &["<|eom_id|>"]),
    (
        Role::FimPre,
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        Role::FimSuf,
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        Role::FimMid,
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    (Role::FimPad, &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (Role::FimRep, &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    (Role::FimSep, &["<|file_sep|>"]),
];

/// Texts that end the generation whatever their id.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Markers of a channel format that must show in the text.
const SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Fills in the roles and the set of ends; tokens known by text become control tokens.
pub fn detect(vocab: &mut Vocab) {
    for (role, texts) in BY_TEXT {
        let stated = vocab.role(role).is_some();
        let known = || texts.iter().find_map(|t| vocab.id(t.as_bytes()));
        if let Some(id) = (!stated).then(known).flatten() {
            vocab.roles[role as usize] = Some(id);
            mark(vocab, id, Attr::CONTROL);
        }
    }
    for id in 0..vocab.attrs.len() as u32 {
        let unused = |t: &[u8]| t.windows(6).any(|w| w == b"unused");
        if vocab.attrs[id as usize].any(Attr::CONTROL) && vocab.text(id).is_some_and(unused) {
            mark(vocab, id, Attr::UNUSED);
        }
    }
    let mut ends: Vec<u32> = ENDS.iter().filter_map(|t| vocab.id(t.as_bytes())).collect();
    for &id in &ends {
        mark(vocab, id, Attr::CONTROL);
    }
    for id in SHOWN.iter().filter_map(|t| vocab.id(t.as_bytes())).collect::<Vec<_>>() {
        vocab.attrs[id as usize] = Attr::USER_DEFINED;
    }
    let roles = [Role::FimPad, Role::FimRep, Role::FimSep, Role::Eos, Role::Eot, Role::Eom];
    ends.extend(roles.iter().filter_map(|&r| vocab.role(r)));
    ends.sort_unstable();
    ends.dedup();

    let of = |text: &str| ends.iter().copied().find(|&id| vocab.text(id) == Some(text.as_bytes()));
    // A format with its own end of a call uses <|end|> between messages.
    let calls = of("<|call|>").is_some() || of("<|calls|>").is_some();
    let between =
        of("<|end|>").filter(|_| calls && (of("<|return|>").is_some() || of("<|flush|>").is_some()));
    // Two families have </s> as ordinary text.
    let plain = of("</s>").filter(|_| of("<|tool_response>").is_some() || of("<|plamo:eos|>").is_some());
    if let Some(id) = between {
        vocab.attrs[id as usize] = Attr::USER_DEFINED;
    }
    if let Some(id) = plain {
        vocab.attrs[id as usize] = Attr::NORMAL;
    }
    ends.retain(|&id| Some(id) != between && Some(id) != plain);
    vocab.eog = ends;
}

/// White space that special tokens of some models swallow, which no metadata states.
pub fn strip_by_name(vocab: &mut Vocab, model: Model, model_name: &str) {
    let name = model_name.to_ascii_lowercase();
    let is_jina = matches!(model, Model::Bpe(pre) if pre.name.starts_with("jina-v2-"));
    let is_phi3 = name.contains("phi-3") || name.contains("phi3");
    let mask = if is_jina {
        vocab.id(b"<mask>")
    } else if !is_phi3 && name.contains("modern-bert") {
        vocab.id(b"[MASK]")
    } else {
        None
    };
    if let Some(id) = mask {
        mark(vocab, id, Attr::LSTRIP);
    }
    if is_jina || !is_phi3 {
        return;
    }
    let special = Attr::CONTROL.or(Attr::USER_DEFINED).or(Attr::UNKNOWN);
    for attr in vocab.attrs.iter_mut().filter(|a| a.any(special)) {
        *attr = attr.or(Attr::RSTRIP);
    }
    if let Some(id) = vocab.id(b"</s>") {
        mark(vocab, id, Attr::RSTRIP);
    }
    for id in
        ["<unk>", "<s>", "<|endoftext|>"].iter().filter_map(|t| vocab.id(t.as_bytes())).collect::<Vec<_>>()
    {
        vocab.attrs[id as usize].0 &= !Attr::RSTRIP.0;
    }
}

fn mark(vocab: &mut Vocab, id: u32, attr: Attr) {
    let slot = &mut vocab.attrs[id as usize];
    *slot = slot.or(attr);
}
