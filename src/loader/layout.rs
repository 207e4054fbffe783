//! Where tensor data lies: inside the file, aligned, and without gap or overlap.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic
)]

use super::cursor::{as_u64, pad};
use super::gguf::{Gguf, TensorInfo};
use crate::error::{Problem, escape};
use crate::quant::DType;

/// Bytes of a tensor, or `(code, found, expected)`. The dimensions' product is known to fit `i64`.
pub(super) fn tensor_bytes(dtype: DType, dims: &[u64]) -> Result<u64, (&'static str, String, String)> {
    let info = dtype.info();
    let block = u64::from(info.block);
    let cols = dims.first().copied().unwrap_or(0);
    if cols.checked_rem(block) != Some(0) {
        return Err((
            "NotBlockMultiple",
            format!("rows of {cols} elements"),
            format!("a multiple of {block} for {dtype}"),
        ));
    }
    let elements = dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    elements
        .and_then(|n| n.checked_div(block))
        .and_then(|n| n.checked_mul(u64::from(info.bytes)))
        // The largest alignment a file may ask for must still fit behind it.
        .filter(|n| n.checked_add(1 << 32).is_some_and(|n| i64::try_from(n).is_ok()))
        .ok_or_else(|| ("SizeOverflow", format!("{dims:?} of {dtype}"), "a size below 2^63 bytes".to_owned()))
}

/// Checks the tensor table, whose offsets still count from the data section, and says whether data is missing.
pub(super) fn check(g: &mut Gguf, header_only: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut note = |p: Problem| {
        if problems.len() < super::gguf::Limits::default().problems {
            problems.push(p);
        }
    };
    let thing = |t: &TensorInfo| format!("tensor {}", escape(&t.name));

    // The sum first: if it wraps, no offset means anything.
    let mut sum = Some(0u64);
    for t in &g.tensors {
        sum = sum.and_then(|s| pad(t.bytes, g.alignment).and_then(|b| s.checked_add(b)));
        if sum.is_none() {
            note(
                Problem::new("SizeOverflow", thing(t))
                    .at(g.data_offset)
                    .found("all tensors together past 2^64 bytes"),
            );
            return problems;
        }
    }

    // Each tensor by itself.
    let have = as_u64(g.bytes.len()).saturating_sub(g.data_offset);
    let mut sound = true;
    for t in &g.tensors {
        let at = g.data_offset.saturating_add(t.offset);
        if t.offset.checked_rem(g.alignment) != Some(0) {
            let p = Problem::new("MisalignedOffset", thing(t)).at(at).found(format!("offset {}", t.offset));
            note(p.expected(format!("a multiple of {}", g.alignment)));
            sound = false;
            continue;
        }
        let end = t.offset.checked_add(t.bytes).filter(|e| e.checked_add(g.data_offset).is_some());
        if end.is_none_or(|e| e > have) {
            g.cut = true;
            // An end past u64 is no cut file, whatever the caller accepts.
            if !header_only || end.is_none() {
                let need = end.map_or_else(|| "more than 2^64".to_owned(), |e| e.to_string());
                let p = Problem::new("OutOfFile", thing(t)).at(at);
                let p = p.found(format!("{have} bytes of tensor data")).expected(format!("{need} bytes"));
                note(p.hint("the file is incomplete: download it again?"));
                sound = false;
            }
        }
    }
    if !sound {
        return problems;
    }

    // Then against each other, in the order of their data.
    let mut order: Vec<&TensorInfo> = g.tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    let mut gap = None;
    let mut end = 0u64;
    let mut before: Option<&TensorInfo> = None;
    for t in order {
        let at = g.data_offset.saturating_add(t.offset);
        let p = |code| Problem::new(code, thing(t)).at(at).found(format!("offset {}", t.offset));
        if t.offset < end {
            let with = before.map_or_else(String::new, |b| format!(", behind tensor {}", escape(&b.name)));
            note(p("Overlap").expected(format!("{end} or more{with}")));
        } else if t.offset > end && gap.is_none() {
            gap = Some(p("UnexpectedGap").expected(format!("offset {end}")));
        }
        // Cannot fail: the end fits the file or was checked above to fit u64 with an alignment to spare.
        let t_end = t.offset.checked_add(t.bytes).and_then(|e| pad(e, g.alignment)).unwrap_or(u64::MAX);
        if t_end >= end {
            end = t_end;
            before = Some(t);
        }
    }
    // A gap is often the trace of an overlap, so it comes after.
    if let Some(gap) = gap {
        note(gap);
    }
    problems
}
