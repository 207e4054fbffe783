//! `--override-kv KEY=TYPE:VALUE`: replaces metadata from the command line, spelled as llama.cpp's users know it.

use super::value::Value;
use crate::error::{Error, Problem, Result, escape};

/// A value from the command line.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum OverrideValue {
    /// `int:`
    Int(i64),
    /// `float:`
    Float(f64),
    /// `bool:true` or `bool:false`
    Bool(bool),
    /// `str:`
    Str(String),
}

impl OverrideValue {
    /// Parses `KEY=TYPE:VALUE`.
    ///
    /// # Errors
    /// Usage: no `=`, an empty key, an unknown type, or a value that is none of the type.
    pub fn parse(text: &str) -> Result<(String, OverrideValue)> {
        let bad = |found: &str, expected: &str| {
            Error::usage(
                Problem::new("BadOverride", format!("--override-kv \"{}\"", escape(text)))
                    .found(format!("\"{}\"", escape(found)))
                    .expected(expected),
            )
        };
        const FORM: &str = "KEY=TYPE:VALUE with TYPE one of int, float, bool, str";
        let (key, typed) =
            text.split_once('=').filter(|(k, _)| !k.is_empty()).ok_or_else(|| bad(text, FORM))?;
        let (ty, value) = typed.split_once(':').ok_or_else(|| bad(typed, FORM))?;
        let value = match ty {
            "int" => OverrideValue::Int(value.parse().map_err(|_| bad(value, "an integer"))?),
            "float" => OverrideValue::Float(
                value
                    .parse()
                    .ok()
                    .filter(|v: &f64| v.is_finite())
                    .ok_or_else(|| bad(value, "a finite number"))?,
            ),
            "bool" => OverrideValue::Bool(value.parse().map_err(|_| bad(value, "true or false"))?),
            "str" => OverrideValue::Str(value.to_owned()),
            _ => return Err(bad(ty, "one of int, float, bool, str")),
        };
        Ok((key.to_owned(), value))
    }

    /// As a metadata value; an integer is an `i64` there.
    pub fn value(&self) -> Value<'_> {
        match self {
            OverrideValue::Int(v) => Value::I64(*v),
            OverrideValue::Float(v) => Value::F64(*v),
            OverrideValue::Bool(v) => Value::Bool(*v),
            OverrideValue::Str(s) => Value::Str(s.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn parses_every_type() {
        let p = |s| OverrideValue::parse(s).unwrap();
        assert_eq!(p("a.b=int:-3"), ("a.b".into(), OverrideValue::Int(-3)));
        assert_eq!(p("a=float:1e-5"), ("a".into(), OverrideValue::Float(1e-5)));
        assert_eq!(p("a=bool:true"), ("a".into(), OverrideValue::Bool(true)));
        assert_eq!(p("a=str:x=y:z"), ("a".into(), OverrideValue::Str("x=y:z".into())));
    }

    #[test]
    fn refuses_what_is_none_of_them() {
        for s in ["", "a", "=int:1", "a=1", "a=int:x", "a=float:nan", "a=bool:1", "a=u32:1"] {
            assert_eq!(OverrideValue::parse(s).unwrap_err().class(), Class::Usage, "{s}");
        }
    }
}
