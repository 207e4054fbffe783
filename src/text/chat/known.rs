//! Built-in templates: prompt formats that many models share, written for this project from their descriptions.
//!
//! Nothing chooses one by itself. A model without a template says which there are, because the wrong format gives
//! answers that are only somewhat bad, which is worse than an error.

/// Names and texts.
const TEMPLATES: &[(&str, &str)] = &[
    ("chatml", include_str!("builtin/chatml.jinja")),
    ("deepseek", include_str!("builtin/deepseek.jinja")),
    ("gemma", include_str!("builtin/gemma.jinja")),
    ("llama2", include_str!("builtin/llama2.jinja")),
    ("llama3", include_str!("builtin/llama3.jinja")),
    ("mistral", include_str!("builtin/mistral.jinja")),
    ("phi3", include_str!("builtin/phi3.jinja")),
    ("plain", include_str!("builtin/plain.jinja")),
    ("zephyr", include_str!("builtin/zephyr.jinja")),
];

/// The text of a template.
pub fn find(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(n, _)| *n)
}
