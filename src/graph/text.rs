//! The canonical text form of a graph: one line per weight and op, and it can be read back.
//!
//! ```text
//! graph llama
//! file 0 "src/models/llama.rs"
//! w0 v0 "token_embd.weight" F32 [512, 64]
//! w1 v1 "blk.0.attn_qkv.weight" F32 [64, 64] from 0 of 192
//! op0 v1 "embd" F32 [T, 64] = embed(v0) null @0:28
//! output v40
//! ```
//! Ids count up from zero in every table, so a line's id is also a check; a graph read back equals the graph
//! that was printed.

use super::{
    Def, Dim, Graph, OpId, OpNode, Part, Shape, Value, ValueId, ValueList, ValueType, Weight, WeightId,
    verify,
};
use crate::error::{Class, Error, Problem, Result};
use crate::ops::Op;
use crate::quant::DType;
use std::fmt::Write;

/// Prints a graph.
pub fn print(g: &Graph) -> String {
    let mut s = format!("graph {}\n", g.arch);
    for (i, f) in g.files.iter().enumerate() {
        let _ = writeln!(s, "file {i} {}", quote(f));
    }
    for (id, w) in g.weights.iter() {
        let _ = write!(s, "{id} {} {} {}", w.value, quote(&w.name), g.values[w.value].ty);
        if let Some(p) = w.part {
            let _ = write!(s, " from {} of {}", p.first, p.of);
        }
        s.push('\n');
    }
    for (id, n) in g.ops.iter() {
        let _ = write!(s, "{id} ");
        for (i, v) in n.outs.iter().enumerate() {
            let _ = write!(
                s,
                "{}{v} {} {}",
                if i > 0 { "; " } else { "" },
                quote(&g.values[*v].name),
                g.values[*v].ty
            );
        }
        let args: Vec<_> = n.args.iter().map(ToString::to_string).collect();
        let _ = write!(
            s,
            " = {}({}) {} @{}:{}",
            n.op.kind(),
            args.join(", "),
            n.op.attrs_json(),
            n.src.0,
            n.src.1
        );
        match &n.rule {
            Some(r) => {
                let _ = writeln!(s, " by {r}");
            }
            None => s.push('\n'),
        }
    }
    for v in &g.outputs {
        let _ = writeln!(s, "output {v}");
    }
    s
}

/// Reads a graph that [`print()`] wrote, and verifies it.
///
/// Errors: `BadGraphText` with the line, or what verification finds.
pub fn parse(text: &str) -> Result<Graph> {
    let mut g = Graph::default();
    let mut values: Vec<Option<Value>> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        line_of(&mut g, &mut values, line).map_err(|why| {
            let p = Problem::new("BadGraphText", format!("line {}", i + 1));
            Error::input(p.found(crate::error::escape(line)).expected(why))
        })?;
    }
    let n = values.len();
    g.values = values.into_iter().flatten().collect();
    if g.values.len() != n {
        return Err(Error::input(
            Problem::new("BadGraphText", "value ids").found("a gap").expected("v0, v1, ..."),
        ));
    }
    Error::from_problems(Class::Input, verify::verify(&g))?;
    Ok(g)
}

type Line<T> = std::result::Result<T, String>;

fn line_of(g: &mut Graph, values: &mut Vec<Option<Value>>, line: &str) -> Line<()> {
    let (head, rest) = line.split_once(' ').ok_or("a word and its arguments")?;
    match head {
        "graph" => g.arch = rest.to_string(),
        "file" => {
            let (_, name) = rest.split_once(' ').ok_or("a number and a quoted name")?;
            g.files.push(quoted(&mut &*name)?);
        }
        "output" => g.outputs.push(rest.parse().map_err(|()| "a value id")?),
        _ if head.starts_with('w') => {
            let id: WeightId = head.parse().map_err(|()| "a weight id")?;
            let mut rest = rest;
            let (value, name, ty) = value(&mut rest)?;
            let shape = ty.shape.iter().map(|d| if let Dim::Fixed(n) = d { Ok(*n) } else { Err("numbers") });
            let shape = shape.collect::<std::result::Result<_, _>>()?;
            let w = Weight { name, dtype: ty.dtype, shape, part: part(rest)?, value };
            define(values, value, Value { name: w.value_name(), ty, def: Def::Weight(id) })?;
            expect_id(g.weights.push(w) == id)?;
        }
        _ => {
            let id: OpId = head.parse().map_err(|()| "graph, file, output, a weight or an op id")?;
            let node = op(values, rest, id)?;
            expect_id(g.ops.push(node) == id)?;
        }
    }
    Ok(())
}

fn expect_id(ok: bool) -> Line<()> {
    if ok { Ok(()) } else { Err("ids that count up from zero".into()) }
}

fn op(values: &mut Vec<Option<Value>>, line: &str, id: OpId) -> Line<OpNode> {
    let mut rest = line;
    let mut outs = ValueList::new();
    loop {
        let (v, name, ty) = value(&mut rest)?;
        define(values, v, Value { name, ty, def: Def::Op(id, outs.len() as u8) })?;
        outs.push(v);
        match rest.strip_prefix("; ") {
            Some(r) => rest = r,
            None => break,
        }
    }
    let rest = rest.strip_prefix(" = ").ok_or("` = ` before the op")?;
    let (kind, rest) = rest.split_once('(').ok_or("op(...)")?;
    let (args, rest) = rest.split_once(") ").ok_or("`)` after the operands")?;
    let args =
        args.split(", ").filter(|a| !a.is_empty()).map(str::parse).collect::<std::result::Result<_, ()>>();
    let (attrs, rest) = rest.rsplit_once(" @").ok_or("`@file:line`")?;
    let (src, rule) = match rest.split_once(" by ") {
        Some((src, rule)) => (src, Some(rule.to_string())),
        None => (rest, None),
    };
    let (file, at) = src.split_once(':').ok_or("`@file:line`")?;
    let src = (file.parse().map_err(|_| "a file number")?, at.parse().map_err(|_| "a line number")?);
    Ok(OpNode { op: Op::from_parts(kind, attrs)?, args: args.map_err(|()| "value ids")?, outs, src, rule })
}

/// ` from 64 of 192`, or nothing, and then the end of the line.
fn part(rest: &str) -> Line<Option<Part>> {
    let Some(rest) = rest.strip_prefix(" from ") else {
        return if rest.is_empty() { Ok(None) } else { Err("` from FIRST of ROWS` or nothing".into()) };
    };
    let (first, of) = rest.split_once(" of ").ok_or("a first row and the rows of the tensor")?;
    let number = |s: &str| s.parse().map_err(|_| "a number of rows");
    Ok(Some(Part { first: number(first)?, of: number(of)? }))
}

/// `v3 "name" F32 [T, 64]` at the start of `rest`.
fn value(rest: &mut &str) -> Line<(ValueId, String, ValueType)> {
    let (id, r) = rest.split_once(' ').ok_or("a value")?;
    *rest = r;
    let name = quoted(rest)?;
    let r = rest.strip_prefix(' ').ok_or("a type")?;
    let (dtype, r) = r.split_once(" [").ok_or("a type and dimensions")?;
    let (dims, r) = r.split_once(']').ok_or("`]` after the dimensions")?;
    *rest = r;
    let dims = dims.split(", ").map(|d| {
        Ok(match d {
            "T" => Dim::T,
            "R" => Dim::R,
            "S" => Dim::S,
            n => Dim::Fixed(n.parse().map_err(|_| "dimensions: numbers, T, R or S")?),
        })
    });
    let ty = ValueType {
        dtype: DType::from_name(dtype).ok_or("an element type")?,
        shape: dims.collect::<Line<Shape>>()?,
    };
    Ok((id.parse().map_err(|()| "a value id")?, name, ty))
}

fn quote(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

/// A JSON string at the start of `rest`.
fn quoted(rest: &mut &str) -> Line<String> {
    let mut it = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let s = it.next().and_then(std::result::Result::ok).ok_or("a quoted name")?;
    let end = it.byte_offset();
    *rest = &rest[end..];
    Ok(s)
}

fn define(values: &mut Vec<Option<Value>>, id: ValueId, v: Value) -> Line<()> {
    let i = id.0 as usize;
    if i >= 1 << 24 {
        return Err("a value id below 2^24".into());
    }
    if values.len() <= i {
        values.resize(i + 1, None);
    }
    match values[i].replace(v) {
        None => Ok(()),
        Some(_) => Err("a value defined once".into()),
    }
}
