"""The three models of the box: their shapes, names, templates and what their files say of them."""

from dataclasses import dataclass

LLAMA_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PHI3_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' + '\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Model:
    """Shape and kind of a model; sizes as GGUF names them."""

    name: str
    arch: str
    tokenizer: str  # "spm" or "bpe"
    vocab: int
    template: str
    controls: tuple  # special tokens beside those of the tokenizer itself
    head_kv: int
    rope_base: float
    bias: bool = False  # of queries, keys and values
    tied: bool = False
    layers: int = 4
    embd: int = 256
    heads: int = 8
    ff: int = 512
    ctx: int = 512
    eps: float = 1e-5

    @property
    def head_dim(self):
        return self.embd // self.heads


MODELS = {
    m.name: m
    for m in (
        Model("box-llama", "llama", "spm", 1280, LLAMA_TEMPLATE, (), head_kv=4, rope_base=10000.0),
        Model(
            "box-qwen2", "qwen2", "bpe", 1280, CHATML_TEMPLATE, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
            head_kv=2, rope_base=1000000.0, bias=True, tied=True, eps=1e-6,
        ),
        Model(
            "box-phi3", "phi3", "spm", 1280, PHI3_TEMPLATE,
            ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"), head_kv=4, rope_base=10000.0,
        ),
    )
}
