//! Values as Python writes them, and its string methods where the engine's differ.

use super::meter::{Meter, Trip};
use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use std::fmt::Write;

/// `str(value)`; nothing for what is undefined.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(s) => s.to_owned(),
        None if value.is_undefined() => String::new(),
        None => {
            let mut out = String::new();
            repr(value, &mut out);
            out
        }
    }
}

/// `repr(value)`. The depth of values is limited where they are made.
fn repr(value: &Value, out: &mut String) {
    let items = |open: &str, close: &str, out: &mut String| {
        out.push_str(open);
        for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            repr(&item, out);
            if value.kind() == ValueKind::Map {
                out.push_str(": ");
                repr(&value.get_item(&item).unwrap_or_default(), out);
            }
        }
        out.push_str(close);
    };
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Number if !value.is_integer() => out.push_str(&float(number(value))),
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => {
            items("(", if value.len() == Some(1) { ",)" } else { ")" }, out);
        }
        ValueKind::Seq | ValueKind::Iterable => items("[", "]", out),
        ValueKind::Map => items("{", "}", out),
        _ => out.push_str(&value.to_string()),
    }
}

fn number(value: &Value) -> f64 {
    f64::try_from(value.clone()).unwrap_or(f64::NAN)
}

/// A text in quotes: single ones, unless it has such and no double ones.
fn quote(s: &str, out: &mut String) {
    let q = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(q);
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == q => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7F..0xA1).contains(&(c as u32)) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(q);
}

/// A float as Python writes it: the shortest digits that give it back, an exponent outside 1e-4 to 1e16.
pub fn float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "nan"
        } else if x > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .into();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Python's white space: Unicode's and four separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `a + b` of texts, each with whether it has been marked as safe: what is added to a safe one is escaped for HTML.
pub fn add_texts(a: (&str, bool), b: (&str, bool)) -> Value {
    if !a.1 && !b.1 {
        return [a.0, b.0].concat().into();
    }
    let mut out = String::new();
    for (text, safe) in [a, b] {
        if safe {
            out.push_str(text);
            continue;
        }
        for c in text.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '\'' => out.push_str("&#39;"),
                '"' => out.push_str("&#34;"),
                c => out.push(c),
            }
        }
    }
    Value::from_safe_string(out)
}

/// Whether a loop can go through a value.
pub fn is_iterable(v: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(v.kind(), Seq | Map | Iterable | String | Undefined) || v.is_tuple()
}

/// Splits at white space from the left or at a separator, at most `max` times.
fn split(s: &str, separator: Option<&str>, max: Option<i64>) -> Result<Value, Error> {
    let max = max.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX - 1);
    Ok(match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(sep) => s.splitn(max + 1, sep).map(Value::from).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = s.trim_start_matches(is_space);
            while !rest.is_empty() {
                let end = if parts.len() == max { None } else { rest.find(is_space) };
                let Some(end) = end else {
                    let last = if parts.len() == max { rest.trim_end_matches(is_space) } else { rest };
                    parts.push(Value::from(last));
                    break;
                };
                parts.push(Value::from(&rest[..end]));
                rest = rest[end..].trim_start_matches(is_space);
            }
            Value::from(parts)
        }
    })
}

/// As [`split`] from the right.
fn rsplit(s: &str, separator: Option<&str>, max: Option<i64>) -> Result<Value, Error> {
    let Some(max) = max.and_then(|n| usize::try_from(n).ok()) else { return split(s, separator, None) };
    let mut parts: Vec<Value> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(sep) => s.rsplitn(max.saturating_add(1), sep).map(Value::from).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = s.trim_end_matches(is_space);
            while !rest.is_empty() {
                let space =
                    if parts.len() == max { None } else { rest.char_indices().rfind(|(_, c)| is_space(*c)) };
                let Some((at, c)) = space else {
                    parts.push(Value::from(if parts.len() == max {
                        rest.trim_start_matches(is_space)
                    } else {
                        rest
                    }));
                    break;
                };
                parts.push(Value::from(&rest[at + c.len_utf8()..]));
                rest = rest[..at].trim_end_matches(is_space);
            }
            parts
        }
    };
    parts.reverse();
    Ok(Value::from(parts))
}

/// `value[start:stop:step]` with a step below zero.
pub fn slice_back(value: &Value, start: &Value, stop: &Value, step: i64) -> Result<Value, Error> {
    let text: Option<Vec<char>> = value.as_str().map(|s| s.chars().collect());
    let items: Vec<Value> = match &text {
        Some(_) => Vec::new(),
        None => value.try_iter()?.collect(),
    };
    let len = text.as_ref().map_or(items.len(), Vec::len) as i64;
    let place = |v: &Value, default: i64| match v.as_i64() {
        None => default,
        Some(n) => (if n < 0 { n.saturating_add(len) } else { n }).clamp(-1, len - 1),
    };
    let (mut at, stop) = (place(start, len - 1), place(stop, -1));
    let mut places = Vec::new();
    while at > stop {
        places.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(match text {
        Some(chars) => places.iter().filter_map(|i| chars.get(*i)).collect::<String>().into(),
        None => places.iter().filter_map(|i| items.get(*i).cloned()).collect(),
    })
}

/// Methods of texts, lists and maps.
pub fn method(
    m: &Meter,
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    m.shallow(value)?;
    args.iter().try_for_each(|a| m.deep(a))?;
    let result = match value.as_str() {
        Some(s) => string_method(m, state, s, value, name, args),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }?;
    m.shallow(&result)?;
    Ok(result)
}

fn string_method(
    m: &Meter,
    state: &mut State<'_, '_>,
    s: &str,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let among = |chars: Option<&str>| {
        let chars: Option<Vec<char>> = chars.map(|c| c.chars().collect());
        move |c: char| chars.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c))
    };
    Ok(match name {
        "strip" => from_args::<(Option<&str>,)>(args).map(|(c,)| s.trim_matches(among(c)).into())?,
        "lstrip" => from_args::<(Option<&str>,)>(args).map(|(c,)| s.trim_start_matches(among(c)).into())?,
        "rstrip" => from_args::<(Option<&str>,)>(args).map(|(c,)| s.trim_end_matches(among(c)).into())?,
        "split" | "rsplit" => {
            let (sep, max, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let max = max.or(named.get("maxsplit")?);
            let sep = sep.or(named.get("sep")?);
            named.assert_all_used()?;
            m.charge_bytes(s.len())?;
            if name == "split" { split(s, sep, max)? } else { rsplit(s, sep, max)? }
        }
        "partition" | "rpartition" => {
            let (sep,): (&str,) = from_args(args)?;
            let found = if name == "partition" { s.split_once(sep) } else { s.rsplit_once(sep) };
            let parts = match (found, name) {
                (Some((a, b)), _) => [a, sep, b],
                (None, "partition") => [s, "", ""],
                (None, _) => ["", "", s],
            };
            Value::from(minijinja::value::Tuple::from(parts.map(Value::from)))
        }
        "removeprefix" => from_args::<(&str,)>(args).map(|(p,)| s.strip_prefix(p).unwrap_or(s).into())?,
        "removesuffix" => from_args::<(&str,)>(args).map(|(p,)| s.strip_suffix(p).unwrap_or(s).into())?,
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            let most = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            let found = s.matches(old).take(most).count();
            m.charge_bytes(s.len().saturating_add(found.saturating_mul(new.len())))?;
            s.replacen(old, new, most).into()
        }
        "capitalize" => {
            from_args::<()>(args)?;
            let mut chars = s.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            (first + &chars.as_str().to_lowercase()).into()
        }
        "title" => from_args::<()>(args).map(|()| title(s).into())?,
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(m, items, s)?
        }
        "format" => {
            check_format(m, s, args)?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)?
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)?,
    })
}

/// The first letter of every word large, the others small; a word is a run of letters.
pub fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut inside = false;
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}

/// The texts of items with `separator` between them. The items have been paid for.
pub fn join(m: &Meter, items: &Value, separator: &str) -> Result<Value, Error> {
    let mut out = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        if i > 0 {
            m.charge_bytes(separator.len())?;
            out.push_str(separator);
        }
        out.push_str(&text(&item));
    }
    Ok(out.into())
}

/// Refuses field widths that only serve to make large texts.
pub fn check_format(m: &Meter, format: &str, args: &[Value]) -> Result<(), Error> {
    let wide = format.split(|c: char| !c.is_ascii_digit()).any(|run| run.len() > 4);
    let from_argument = format.contains('*') || format.contains(":{") || format.contains(".{");
    let large = |v: &Value| v.as_i64().is_some_and(|n| n.unsigned_abs() > 9999) || v.kind() == ValueKind::Map;
    if wide || from_argument && args.iter().any(large) {
        return Err(m.trip(Trip::Budget, "a field is too wide"));
    }
    Ok(())
}

/// How JSON is laid out.
struct Json<'a> {
    meter: &'a Meter,
    indent: Option<String>,
    item: &'a str,
    key: &'a str,
    sort: bool,
    ascii: bool,
}

/// `tojson` as chat templates expect it: Python's `json.dumps` without escapes for HTML and, unless asked for,
/// without escapes for other than ASCII.
pub fn tojson(m: &Meter, value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (indent, named): (Option<Value>, Kwargs) = from_args(args)?;
    let indent = match indent.or(named.get("indent")?).filter(|v| !v.is_none()) {
        None => None,
        Some(v) => Some(match (v.as_str(), v.as_i64()) {
            (Some(s), _) => s.to_owned(),
            (_, Some(n)) => " ".repeat(n.clamp(0, 64) as usize),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "indent is a number or a text")),
        }),
    };
    let separators: Option<Vec<String>> = named.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two texts")),
        None => (if indent.is_some() { "," } else { ", " }, ": "),
    };
    let sort = named.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let ascii = named.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    named.assert_all_used()?;
    let mut out = String::new();
    Json { meter: m, indent, item, key, sort, ascii }.write(value, 0, &mut out)?;
    Ok(out.into())
}

impl Json<'_> {
    /// Goes to the next item of a list or map, or to its end.
    fn next(&self, separator: &str, depth: usize, out: &mut String) -> Result<(), Error> {
        let indent = self.indent.as_deref().map(|by| by.repeat(depth));
        self.meter.charge_bytes(separator.len() + indent.as_ref().map_or(0, String::len))?;
        out.push_str(separator);
        if let Some(indent) = indent {
            out.push('\n');
            out.push_str(&indent);
        }
        Ok(())
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(match float(number(value)).as_str() {
                "nan" => "NaN",
                "inf" => "Infinity",
                "-inf" => "-Infinity",
                other => {
                    return {
                        out.push_str(other);
                        Ok(())
                    };
                }
            }),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut any = false;
                out.push('[');
                for item in value.try_iter()? {
                    self.next(if any { self.item } else { "" }, depth + 1, out)?;
                    self.write(&item, depth + 1, out)?;
                    any = true;
                }
                if any {
                    self.next("", depth, out)?;
                }
                out.push(']');
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                out.push('{');
                for (i, key) in keys.iter().enumerate() {
                    self.next(if i > 0 { self.item } else { "" }, depth + 1, out)?;
                    match key.as_str() {
                        Some(s) => self.string(s, out),
                        None => {
                            out.push('"');
                            self.write(key, 0, out)?;
                            out.push('"');
                        }
                    }
                    out.push_str(self.key);
                    self.write(&value.get_item(key)?, depth + 1, out)?;
                }
                if !keys.is_empty() {
                    self.next("", depth, out)?;
                }
                out.push('}');
            }
            ValueKind::Undefined => {
                return Err(Error::new(ErrorKind::UndefinedError, "an undefined value as JSON"));
            }
            other => {
                return Err(Error::new(ErrorKind::BadSerialization, format!("a {other} as JSON")));
            }
        }
        Ok(())
    }

    fn string(&self, s: &str, out: &mut String) {
        out.push('"');
        for c in s.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ascii && !c.is_ascii() => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}
