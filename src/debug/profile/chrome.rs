//! A profile as a trace that Chrome (`chrome://tracing`) and Perfetto show: a row per thread, a slice per command.
//!
//! Source: the Trace Event Format, JSON object form, complete events (`"ph": "X"`), times in microseconds.

use super::Profile;
use serde_json::json;
use std::io::{Result, Write};

/// Meetings shorter than this are not drawn: the file would be twice as long for nothing that can be seen.
const SHORTEST_WAIT: u64 = 1000;

impl Profile {
    /// Writes the slices of all passes whose marks were kept (see
    /// [`ProfileOptions::slices`](crate::engine::ProfileOptions)): commands and passes by name, meetings as `wait`.
    /// Returns how many passes were left out.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_chrome_trace(&self, out: &mut impl Write) -> Result<usize> {
        let process = json!({"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "quipu"}});
        write!(out, "{{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{process}")?;
        for t in 0..self.threads {
            let args = json!({"name": format!("thread {t}")});
            write!(
                out,
                ",\n{}",
                json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": t, "args": args})
            )?;
        }
        let mut left_out = 0;
        for (number, pass) in self.recorder.passes().iter().enumerate() {
            let Some(plan) = self.plans.iter().find(|p| p.index == pass.plan) else { continue };
            let mut slice = |name: &str, kind: &str, tid: usize, begin: u64, end: u64, args| {
                let us = |nanos: u64| nanos as f64 / 1e3;
                let (ts, dur) = (us(begin), us(end.saturating_sub(begin)));
                let event = json!({
                    "name": name, "cat": kind, "ph": "X", "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": args,
                });
                write!(out, ",\n{event}")
            };
            let sizes = json!({
                "pass": number, "rows": pass.sizes.t, "logits": pass.sizes.r, "cells": pass.sizes.s,
            });
            slice(&format!("{} {number}", plan.phase), "pass", 0, pass.begin, pass.end, sizes)?;
            let mut threads = 0;
            for (tid, marks) in self.recorder.marks(pass).enumerate() {
                threads += 1;
                let mut before = pass.begin;
                for (c, m) in plan.commands.iter().zip(marks) {
                    if m.begin.saturating_sub(before) >= SHORTEST_WAIT {
                        slice("wait", "wait", tid, before, m.begin, json!({"before": c.id}))?;
                    }
                    slice(
                        &c.name,
                        &c.kind,
                        tid,
                        m.begin,
                        m.end,
                        json!({"command": c.id, "kernel": c.kernel}),
                    )?;
                    before = m.end;
                }
            }
            left_out += usize::from(threads == 0);
        }
        writeln!(out, "\n]}}")?;
        Ok(left_out)
    }
}
