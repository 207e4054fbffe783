//! `quipu bench --vs`: a result beside an earlier one.

use super::measure::Row;
use quipu::error::{Class, Error, Problem, Result, escape};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// What should be the same in both, by its place in the JSON, and what it is where an older file does not say.
const CONDITIONS: &[(&str, &str, Option<&str>)] = &[
    ("processor", "/processor", None),
    ("model", "/model/name", None),
    ("architecture", "/model/architecture", None),
    ("layers", "/model/layers", None),
    ("width", "/model/embedding", None),
    ("bytes of weights", "/weight_bytes", None),
    ("threads", "/model/threads", None),
    ("instruction set", "/model/isa", None),
    ("numerics", "/model/numerics", None),
    ("type of keys", "/cache_type_k", Some("F16")),
    ("type of values", "/cache_type_v", Some("F16")),
    ("micro-batch", "/ubatch", None),
];

/// What should be the same of a row.
const OF_ROW: &[(&str, u64)] = &[("tokens", 0), ("depth", 0), ("sequences", 1)];

/// The kinds of work, as the JSON names them.
const ROWS: [&str; 2] = ["prompt", "generation"];

/// An earlier result.
#[derive(Debug)]
pub struct Earlier {
    file: String,
    value: Value,
}

/// One figure now and then.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// `prompt`, `generation` or `read`.
    row: &'static str,
    /// The earlier median (bytes per second for `read`).
    before: f64,
    /// Now over before.
    ratio: f64,
    /// Whether the ranges of the samples overlap; `None` for `read`, which has one sample.
    within_spread: Option<bool>,
}

/// A condition that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    what: String,
    before: Value,
    now: Value,
}

/// A result beside an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Versus {
    file: String,
    ratios: Vec<Ratio>,
    /// Conditions that differ, so that a ratio says something else than how fast the program is.
    differences: Vec<Difference>,
}

impl Earlier {
    /// Reads what `quipu bench --json` wrote.
    ///
    /// Errors: `Io` (usage); `BadBench` (input) for anything else.
    pub fn read(path: &Path) -> Result<Earlier> {
        let file = path.to_string_lossy().into_owned();
        let text = std::fs::read(path)
            .map_err(|e| Error::usage(Problem::new("Io", escape(&file)).found(e.to_string())))?;
        Earlier::parse(file, &text)
    }

    fn parse(file: String, text: &[u8]) -> Result<Earlier> {
        let bad = |why: &str| {
            let p = Problem::new("BadBench", escape(&file)).found(escape(why));
            Error::new(Class::Input, p.expected("what quipu bench --json prints"))
        };
        let value: Value = serde_json::from_slice(text).map_err(|e| bad(&e.to_string()))?;
        if value.get("model").is_none() || ROWS.iter().all(|name| row(&value, name).is_none()) {
            return Err(bad("neither a prompt nor a generation"));
        }
        Ok(Earlier { file, value })
    }

    /// Sets a result beside it.
    pub fn beside(&self, now: &Value) -> Versus {
        let mut differences = Vec::new();
        for (what, place, old) in CONDITIONS {
            let before = self.value.pointer(place).cloned().or(old.map(Value::from));
            if let (Some(before), Some(now)) = (before, now.pointer(place)) {
                differ(what.to_string(), before, now.clone(), &mut differences);
            }
        }
        let mut ratios = Vec::new();
        for name in ROWS {
            let (Some(before), Some(now_row)) = (row(&self.value, name), row(now, name)) else { continue };
            for (what, old) in OF_ROW {
                let of = |v: &Value| v[name].get(what).cloned().unwrap_or((*old).into());
                differ(format!("{what} of the {name}"), of(&self.value), of(now), &mut differences);
            }
            ratios.push(Ratio {
                row: name,
                before: before.median,
                ratio: now_row.median / before.median,
                within_spread: Some(before.min <= now_row.max && now_row.min <= before.max),
            });
        }
        let read = |v: &Value| v.pointer("/read/bytes_per_second").and_then(Value::as_f64);
        if let (Some(before), Some(now)) = (read(&self.value), read(now)) {
            ratios.push(Ratio { row: "read", before, ratio: now / before, within_spread: None });
        }
        Versus { file: self.file.clone(), ratios, differences }
    }
}

fn row(v: &Value, name: &str) -> Option<Row> {
    let row: Row = serde_json::from_value(v.get(name)?.clone()).ok()?;
    (row.median > 0.0).then_some(row)
}

fn differ(what: String, before: Value, now: Value, to: &mut Vec<Difference>) {
    if before != now {
        to.push(Difference { what, before, now });
    }
}

impl fmt::Display for Versus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "beside {}:", escape(&self.file))?;
        if self.ratios.is_empty() {
            f.write_str(" nothing that was measured both times")?;
        }
        for r in &self.ratios {
            let (before, unit) = if r.row == "read" { (r.before / 1e9, "GB/s") } else { (r.before, "tok/s") };
            let spread = if r.within_spread == Some(true) { ", within the spread" } else { "" };
            write!(f, "\n{:<12} {:>6.3} times {before:.2} {unit}{spread}", r.row, r.ratio)?;
        }
        for d in &self.differences {
            let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), escape);
            write!(f, "\ndiffers      {}: {} before, {} now", d.what, plain(&d.before), plain(&d.now))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(median: f64, depth: u32) -> Value {
        let row = json!({"tokens": 8, "depth": depth, "sequences": 1, "median": median, "min": median - 1.0,
            "max": median + 1.0, "per_sequence": median, "samples": [median]});
        json!({"model": {"name": "m", "threads": 2}, "cache_type_k": "F16", "generation": row,
            "read": {"bytes_per_second": 2e9}})
    }

    fn earlier(v: &Value) -> Earlier {
        Earlier::parse("old.json".into(), v.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn ratios_and_what_differs() {
        let v = earlier(&result(10.0, 0)).beside(&result(20.0, 0));
        assert_eq!((v.ratios[0].ratio, v.ratios[0].within_spread), (2.0, Some(false)));
        assert_eq!((v.ratios[1].row, v.ratios[1].ratio, v.ratios.len()), ("read", 1.0, 2));
        assert!(v.differences.is_empty());
        let mut now = result(11.0, 64);
        now["model"]["threads"] = 1.into();
        now["cache_type_k"] = "F32".into();
        let v = earlier(&result(10.0, 0)).beside(&now);
        assert_eq!(v.ratios[0].within_spread, Some(true));
        let what: Vec<_> = v.differences.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(what, ["threads", "type of keys", "depth of the generation"]);
        assert!(v.to_string().contains("depth of the generation: 0 before, 64 now"), "{v}");
    }

    #[test]
    fn what_an_older_file_lacks_has_its_old_value() {
        let mut old = result(10.0, 0);
        for name in ["depth", "sequences", "per_sequence"] {
            old["generation"].as_object_mut().unwrap().remove(name);
        }
        old.as_object_mut().unwrap().remove("cache_type_k");
        assert!(earlier(&old).beside(&result(10.0, 0)).differences.is_empty());
        assert_eq!(earlier(&old).beside(&result(10.0, 8)).differences.len(), 1);
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["", "[]", "{}", "{\"model\": {}}", "{\"model\": {}, \"prompt\": {\"median\": 1}}"] {
            let e = Earlier::parse("x".into(), text.as_bytes()).unwrap_err();
            assert_eq!((e.code(), e.class()), ("BadBench", Class::Input), "{text}");
        }
    }
}
