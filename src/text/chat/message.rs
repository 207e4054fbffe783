//! One message of a conversation.

use super::meter::InputSize;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A message: a role, a content, and whatever else a template looks at (`tool_calls`, `reasoning_content`, `name`).
///
/// It is the JSON object that chat interfaces exchange, with its fields in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message of text. Roles that templates know are `system`, `user`, `assistant` and `tool`.
    pub fn new(role: &str, content: impl Into<String>) -> Message {
        Message(Map::new()).with("role", role).with("content", content.into())
    }
    /// As before with one more field.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Message {
        self.0.insert(field.to_owned(), value.into());
        self
    }
    /// Who speaks; empty if that is not stated.
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }
    /// The content, if it is text.
    pub fn text(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
    }
    /// A field.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }
    /// All values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.values()
    }
}

/// Adds the size of a value. JSON from outside is at most 128 deep.
pub(super) fn measure(value: &Value, size: &mut InputSize) {
    size.values += 1;
    match value {
        Value::String(s) => size.bytes += s.len() as u64,
        Value::Array(items) => items.iter().for_each(|v| measure(v, size)),
        Value::Object(map) => {
            for (key, v) in map {
                size.bytes += key.len() as u64;
                measure(v, size);
            }
        }
        _ => {}
    }
}
