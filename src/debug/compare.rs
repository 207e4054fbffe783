//! Two traces side by side: which is the first tensor that differs, and was the error made there or inherited.
//!
//! Both files name tensors as the graph does; those that both have are compared in the order of execution. A trace of
//! ours also says which command made each tensor of what; so the error of a tensor can be laid beside the errors of
//! what it was made of. Traces of other engines are safetensors files with the same names.

use super::trace_file::{Tensor, TraceFile};
use crate::plan::{Plan, Region};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How far one tensor is from another, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distance {
    /// `max |a - b|`.
    pub max_abs: f64,
    /// `mean |a - b|`.
    pub mean_abs: f64,
    /// `max |a - b| / |a|` over elements with `a != 0`.
    pub max_rel: f64,
    /// `sum (a - b)^2 / sum a^2`; 0 if both are equal.
    pub nmse: f64,
    /// Cosine of the angle between them; 1 if both are equal.
    pub cosine: f64,
    /// Elements whose bits differ.
    pub different: usize,
    /// The element with the largest difference, and its two values.
    pub worst: usize,
    /// Value of the first trace there.
    pub worst_a: f32,
    /// Value of the second trace there.
    pub worst_b: f32,
}

/// The distance of two equally long tensors.
pub fn distance(a: &[f32], b: &[f32]) -> Distance {
    let mut d = Distance { cosine: 1.0, ..Distance::default() };
    let (mut sum, mut aa, mut bb, mut ab, mut dd) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
        let (u, v) = (f64::from(x), f64::from(y));
        aa += u * u;
        bb += v * v;
        ab += u * v;
        if x.to_bits() == y.to_bits() {
            continue;
        }
        d.different += 1;
        // Where a number is missing on one side only, no finite error says how wrong that is.
        let e = if u.is_nan() || v.is_nan() { f64::INFINITY } else { (u - v).abs() };
        sum += e;
        dd += e * e;
        if e > d.max_abs || d.different == 1 {
            (d.max_abs, d.worst, d.worst_a, d.worst_b) = (e, i, x, y);
        }
        if u != 0.0 {
            d.max_rel = d.max_rel.max(e / u.abs());
        }
    }
    if d.different > 0 {
        d.mean_abs = sum / a.len() as f64;
        d.nmse = if aa > 0.0 { dd / aa } else { f64::INFINITY };
        d.cosine = if aa > 0.0 && bb > 0.0 { ab / (aa.sqrt() * bb.sqrt()) } else { 0.0 };
        if dd == 0.0 {
            // Zeros of different sign: different bits, no distance.
            (d.nmse, d.cosine) = (0.0, 1.0);
        }
    }
    d
}

/// How a tensor of one of our traces was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The tensor.
    pub name: String,
    /// Number of the command.
    pub cmd: u32,
    /// Its kernel.
    pub kernel: String,
    /// Activations it read.
    pub reads: Vec<String>,
}

/// One tensor of both traces.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Rows and elements of a row.
    pub shape: Vec<usize>,
    /// How far the second is from the first.
    pub distance: Distance,
    /// Whether it is out of tolerance.
    pub over: bool,
}

/// The first tensor out of tolerance, and where its error comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct First {
    /// The tensor.
    pub name: String,
    /// How it was made, if one of the traces says so.
    pub made: Option<Made>,
    /// NMSE of what it was made of; `None` for what only one trace has.
    pub inputs: Vec<(String, Option<f64>)>,
    /// Whether all its inputs are the same in both, bit for bit: then this command made the error.
    pub made_here: bool,
}

/// Two traces compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Tensors of both, in the order in which the first trace made them.
    pub rows: Vec<Row>,
    /// The first out of tolerance.
    pub first: Option<First>,
    /// NMSE above which a tensor is out of tolerance; 0 asks for equal bits.
    pub limit: f64,
    /// Names that only the first trace has.
    pub only_a: Vec<String>,
    /// Names that only the second trace has.
    pub only_b: Vec<String>,
    /// Tensors of one name whose shapes do not fit.
    pub misfits: Vec<String>,
    /// Facts of the two traces that should agree and do not: name, first, second.
    pub notes: Vec<(String, String, String)>,
}

impl Comparison {
    /// Whether everything that both have is within tolerance, and there is something.
    pub fn is_same(&self) -> bool {
        self.first.is_none() && self.misfits.is_empty() && !self.rows.is_empty()
    }
    /// The row with the largest NMSE.
    pub fn worst(&self) -> Option<&Row> {
        self.rows.iter().max_by(|a, b| a.distance.nmse.total_cmp(&b.distance.nmse))
    }
}

/// Compares `b` with `a`. A tensor is out of tolerance if its NMSE is above `limit`, or, with a limit of 0, if any bit
/// differs.
pub fn compare(a: &TraceFile, b: &TraceFile, limit: f64) -> Comparison {
    let mut c = Comparison { limit, ..Comparison::default() };
    for t in &a.tensors {
        let Some(other) = b.find(&t.name) else {
            c.only_a.push(t.name.clone());
            continue;
        };
        if t.data.len() != other.data.len() || t.shape.first() != other.shape.first() {
            c.misfits.push(format!("{}: {:?} and {:?}", t.name, t.shape, other.shape));
            continue;
        }
        let distance = causal_distance(t, other);
        let over = if limit > 0.0 {
            distance.nmse > limit || distance.nmse.is_nan()
        } else {
            distance.different > 0
        };
        c.rows.push(Row { name: t.name.clone(), shape: t.shape.clone(), distance, over });
    }
    c.only_b = b.tensors.iter().filter(|t| a.find(&t.name).is_none()).map(|t| t.name.clone()).collect();
    for key in ["tokens", "model_sha256", "numerics"] {
        if let (Some(x), Some(y)) = (a.metadata.get(key), b.metadata.get(key))
            && x != y
        {
            c.notes.push((key.to_string(), x.clone(), y.clone()));
        }
    }
    c.first = c.rows.iter().find(|r| r.over).map(|r| first(&r.name, a, b, &c.rows));
    c
}

/// The distance of two tensors of equal shape; of attention scores, of what is not behind the causal mask: there a
/// score may be anything.
pub fn causal_distance(a: &Tensor, b: &Tensor) -> Distance {
    match causal(a) {
        Some(tokens) => distance(&masked(&a.data, tokens), &masked(&b.data, tokens)),
        None => distance(&a.data, &b.data),
    }
}

/// The tokens of a tensor of scores, `[tokens, heads, tokens]`.
fn causal(t: &Tensor) -> Option<usize> {
    let scores = t.name.starts_with("kq-") || t.name.starts_with("kq_soft_max-");
    match t.shape[..] {
        [n, _, m] if scores && n == m => Some(n),
        _ => None,
    }
}

/// Scores with 0 where a token must not look.
fn masked(data: &[f32], tokens: usize) -> Vec<f32> {
    let per_token = data.len() / tokens.max(1);
    let visible = |i: usize| i % tokens <= i / per_token.max(1);
    data.iter().enumerate().map(|(i, x)| if visible(i) { *x } else { 0.0 }).collect()
}

fn first(name: &str, a: &TraceFile, b: &TraceFile, rows: &[Row]) -> First {
    let made = made_in(a).remove(name).or_else(|| made_in(b).remove(name));
    let found: HashMap<&str, &Row> = rows.iter().map(|r| (r.name.as_str(), r)).collect();
    let reads = made.as_ref().map_or(&[][..], |m| &m.reads);
    let inputs: Vec<(String, Option<f64>)> =
        reads.iter().map(|n| (n.clone(), found.get(n.as_str()).map(|r| r.distance.nmse))).collect();
    let same = |n: &String| found.get(n.as_str()).is_some_and(|r| r.distance.different == 0);
    let made_here = made.is_some() && reads.iter().all(same);
    First { name: name.to_string(), made, inputs, made_here }
}

/// How each value that a plan stores is made, for the metadata of a trace.
pub fn made_by(plan: &Plan) -> Vec<Made> {
    let names = |range: std::ops::Range<usize>| {
        let operands = plan.operands.get(range).unwrap_or_default().iter();
        let values = operands.filter(|o| o.region != Region::Weights);
        values.filter_map(|o| plan.names.get(o.name as usize).cloned())
    };
    let mut list = Vec::new();
    for (id, c) in plan.cmds.iter() {
        let kernel = plan.kernels.get(usize::from(c.kernel)).cloned().unwrap_or_default();
        let reads: Vec<String> = names(c.args()).collect();
        list.extend(names(c.outs()).map(|name| Made {
            name,
            cmd: id.0,
            kernel: kernel.clone(),
            reads: reads.clone(),
        }));
    }
    list
}

fn made_in(t: &TraceFile) -> HashMap<String, Made> {
    let list: Vec<Made> =
        t.metadata.get("made").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    list.into_iter().map(|m| (m.name.clone(), m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tensors: &[(&str, &[usize], &[f32])]) -> TraceFile {
        let tensors = tensors
            .iter()
            .map(|(n, s, d)| Tensor { name: n.to_string(), shape: s.to_vec(), data: d.to_vec() })
            .collect();
        TraceFile { tensors, ..TraceFile::default() }
    }

    #[test]
    fn measures_by_hand() {
        let d = distance(&[1.0, 2.0, 2.0], &[1.0, 2.0, 3.0]);
        assert_eq!((d.max_abs, d.max_rel, d.nmse, d.different, d.worst), (1.0, 0.5, 1.0 / 9.0, 1, 2));
        assert!((d.mean_abs - 1.0 / 3.0).abs() < 1e-15);
        assert!((d.cosine - 11.0 / (3.0 * 14f64.sqrt())).abs() < 1e-12);
        assert_eq!(distance(&[0.0, 1.0], &[0.0, 1.0]), Distance { cosine: 1.0, ..Distance::default() });
        let zeros = distance(&[0.0], &[-0.0]);
        assert_eq!((zeros.different, zeros.nmse), (1, 0.0));
        assert_eq!(distance(&[1.0], &[f32::NAN]).nmse, f64::INFINITY);
    }

    #[test]
    fn the_first_over_the_limit_is_found_in_order() {
        let a = file(&[("x", &[1, 2], &[1.0, 2.0]), ("y", &[1, 2], &[3.0, 4.0]), ("z", &[1, 1], &[5.0])]);
        let mut b = a.clone();
        assert!(compare(&a, &b, 0.0).is_same());
        b.tensors[1].data[1] = f32::from_bits(4f32.to_bits() + 1);
        b.tensors[2].data[0] = 7.0;
        let c = compare(&a, &b, 0.0);
        assert_eq!(c.first.as_ref().map(|f| f.name.as_str()), Some("y"));
        let c = compare(&a, &b, 1e-6);
        assert_eq!(c.first.as_ref().map(|f| f.name.as_str()), Some("z"));
        assert_eq!(c.worst().map(|r| r.name.as_str()), Some("z"));
    }

    #[test]
    fn scores_behind_the_mask_do_not_count() {
        let a = file(&[("kq-0", &[2, 1, 2], &[1.0, 9.0, 2.0, 3.0])]);
        let b = file(&[("kq-0", &[2, 1, 2], &[1.0, 0.0, 2.0, 3.0])]);
        assert!(compare(&a, &b, 0.0).is_same());
        let c = file(&[("kq-0", &[2, 1, 2], &[1.0, 9.0, 2.5, 3.0])]);
        assert!(!compare(&a, &c, 0.0).is_same());
    }

    #[test]
    fn made_and_inherited_errors_are_told_apart() {
        let made = r#"[{"name":"y","cmd":1,"kernel":"k","reads":["x"]},{"name":"z","cmd":2,"kernel":"k","reads":["y"]}]"#;
        let mut a = file(&[("x", &[1], &[1.0]), ("y", &[1], &[2.0]), ("z", &[1], &[3.0])]);
        a.metadata.insert("made".into(), made.into());
        let mut b = a.clone();
        b.tensors[1].data[0] = 2.5;
        b.tensors[2].data[0] = 3.5;
        let first = compare(&a, &b, 0.0).first.unwrap();
        assert!(first.made_here && first.name == "y" && first.inputs == [("x".to_string(), Some(0.0))]);
        // With a limit that lets the small error through, the first over it has inherited one.
        b.tensors[1].data[0] = 2.0001;
        let first = compare(&a, &b, 1e-3).first.unwrap();
        assert!(!first.made_here && first.name == "z", "{first:?}");
    }
}
