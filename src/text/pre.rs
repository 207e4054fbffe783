//! The pre-tokenizers of byte-level BPE by the names files have for them (`tokenizer.ggml.pre`).
//!
//! The names and what each switches on are llama.cpp's. A name that is not here is refused: with the wrong splitter a
//! model still writes, only worse.

use super::split::{Splitter, passes as p};

/// A pre-tokenizer: how text is split, and what else goes by its name.
#[derive(Clone, Copy, Debug)]
pub struct PreTokenizer {
    /// The name in `tokenizer.ggml.pre`.
    pub name: &'static str,
    pub(super) splitter: Splitter,
    /// Words that are tokens are not merged.
    pub(super) whole_words: bool,
    /// A text starts with BOS if the file says nothing.
    pub(super) add_bos: bool,
    /// There is a BOS, by its default id, if the file names none.
    pub(super) default_bos: bool,
    /// Decoding takes out spaces before punctuation.
    pub(super) clean_spaces: bool,
}

impl PartialEq for PreTokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PreTokenizer {}

/// A name with its splitter and nothing else.
const fn plain(name: &'static str, splitter: Splitter) -> PreTokenizer {
    PreTokenizer {
        name,
        splitter,
        whole_words: false,
        add_bos: false,
        default_bos: true,
        clean_spaces: false,
    }
}

impl PreTokenizer {
    const fn whole_words(self) -> Self {
        PreTokenizer { whole_words: true, ..self }
    }
    const fn add_bos(self) -> Self {
        PreTokenizer { add_bos: true, ..self }
    }
    const fn no_bos(self) -> Self {
        PreTokenizer { default_bos: false, ..self }
    }
    const fn clean(self) -> Self {
        PreTokenizer { clean_spaces: true, ..self }
    }

    /// The pre-tokenizer of a name.
    pub fn by_name(name: &str) -> Option<&'static PreTokenizer> {
        PRE_TOKENIZERS.iter().find(|pre| pre.name == name)
    }

    /// All names, in order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRE_TOKENIZERS.iter().map(|pre| pre.name)
    }
}

/// Every pre-tokenizer, in the order of the names.
static PRE_TOKENIZERS: &[PreTokenizer] = &[
    plain("a.x-4.0", p::GPT2).clean(),
    plain("afmoe", p::AFMOE),
    plain("bailingmoe", p::QWEN2),
    plain("bailingmoe2", p::QWEN2),
    plain("bloom", p::BLOOM).clean(),
    plain("chameleon", p::CHAMELEON).add_bos(),
    plain("chatglm-bpe", p::LLAMA3).no_bos().clean(),
    plain("codeshell", p::STARCODER).clean(),
    plain("cohere2moe", p::TINY_AYA),
    plain("command-r", p::STARCODER),
    plain("dbrx", p::LLAMA3).clean(),
    plain("deepseek-coder", p::DEEPSEEK_CODER),
    plain("deepseek-llm", p::DEEPSEEK_LLM),
    plain("deepseek-r1-qwen", p::QWEN2),
    plain("deepseek-v3", p::DEEPSEEK3),
    plain("default", p::DEFAULT).clean(),
    plain("exaone", p::STARCODER).clean(),
    plain("exaone-moe", p::EXAONE_MOE).clean(),
    plain("exaone4", p::GPT2).clean(),
    plain("f2llmv2", p::QWEN2),
    plain("falcon", p::FALCON).clean(),
    plain("falcon-h1", p::LLAMA3).whole_words().add_bos().clean(),
    plain("falcon3", p::LLAMA3).whole_words().add_bos().clean(),
    plain("gigachat", p::GPT2).clean(),
    plain("glm4", p::LLAMA3).whole_words().no_bos().clean(),
    plain("glm5", p::LLAMA3).whole_words().no_bos().clean(),
    plain("gpt-2", p::GPT2).clean(),
    plain("gpt-4o", p::GPT4O),
    plain("gpt3-finnish", p::BLOOM).clean(),
    plain("granite-docling", p::GPT2),
    plain("granite-embed-multi-97m", p::GRANITE_EMBED).whole_words(),
    plain("grok-2", p::QWEN2),
    plain("hunyuan", p::QWEN2),
    plain("hunyuan-dense", p::DEEPSEEK3),
    plain("hy_v4", p::DEEPSEEK3),
    plain("jais", p::GPT2).clean(),
    plain("jais-2", p::JAIS2).clean(),
    plain("jina-de", p::GPT2).clean(),
    plain("jina-es", p::GPT2).clean(),
    plain("jina-v1-en", p::GPT2).clean(),
    plain("jina-v2-code", p::GPT2).clean(),
    plain("jina-v2-de", p::GPT2).clean(),
    plain("jina-v2-es", p::GPT2).clean(),
    plain("jina-v5-nano", p::LLAMA3).whole_words().add_bos().clean(),
    plain("joyai-llm", p::DEEPSEEK3),
    plain("kanana2", p::GPT4O),
    plain("kimi-k2", p::KIMI_K2),
    plain("kormo", p::QWEN2),
    plain("laguna", p::LAGUNA),
    plain("lfm2", p::LLAMA3).whole_words().add_bos().clean(),
    plain("llada-moe", p::QWEN2),
    plain("llama-bpe", p::LLAMA3).whole_words().add_bos().clean(),
    plain("llama-v3", p::LLAMA3).whole_words().add_bos().clean(),
    plain("llama3", p::LLAMA3).whole_words().add_bos().clean(),
    plain("llama4", p::GPT4O),
    plain("megrez", p::QWEN2).clean(),
    plain("mellum", p::GPT2).clean(),
    plain("mellum2", p::STARCODER).clean(),
    plain("midm-2.0", p::LLAMA3).whole_words().add_bos().clean(),
    plain("minerva-7b", p::STARCODER).clean(),
    plain("minicpm5", p::MINICPM5).whole_words().clean(),
    plain("minimax-m2", p::GPT4O),
    plain("modern-bert", p::GPT2).clean(),
    plain("mpt", p::GPT2).clean(),
    plain("olmo", p::GPT2).clean(),
    plain("phi-2", p::GPT2).clean(),
    plain("pixtral", p::LLAMA3).whole_words().add_bos().clean(),
    plain("poro-chat", p::BLOOM),
    plain("qwen2", p::QWEN2),
    plain("qwen35", p::QWEN35),
    plain("refact", p::STARCODER).clean(),
    plain("roberta-bpe", p::GPT2).clean(),
    plain("seed-coder", p::SEED_CODER),
    plain("smaug-bpe", p::LLAMA3).clean(),
    plain("smollm", p::STARCODER),
    plain("solar-open", p::QWEN2),
    plain("spark2_5", p::SPARK2_5),
    plain("stablelm2", p::QWEN2).clean(),
    plain("starcoder", p::STARCODER).clean(),
    plain("superbpe", p::SUPERBPE),
    plain("talkie", p::GPT4O),
    plain("tekken", p::TEKKEN).whole_words().add_bos(),
    plain("tiny_aya", p::TINY_AYA),
    plain("trillion", p::GPT2),
    plain("ufakzeka", p::UFAKZEKA),
    plain("viking", p::VIKING),
    plain("youtu", p::YOUTU).whole_words(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_differ() {
        let names: Vec<_> = PreTokenizer::names().collect();
        assert!(names.windows(2).all(|w| w[0] < w[1]), "{names:?}");
        assert!(names.iter().all(|n| PreTokenizer::by_name(n).is_some_and(|p| p.name == *n)));
        assert!(PreTokenizer::by_name("").is_none() && PreTokenizer::by_name("Qwen2").is_none());
    }
}
