//! The checkpoints themselves, in order.

use super::{Checkpoint, Reference, Tolerance, cache};
use crate::debug::compare::{causal_distance, distance};
use crate::debug::trace_file::{Tensor, TraceFile};
use crate::engine::{Engine, Logits, Sampler, SamplerParams, StepInput};
use crate::error::Result;
use crate::ops::Op;

/// Two logits closer than this part of their range are a near-tie.
const NEAR: f32 = 1e-3;

pub(super) struct Stages<'a> {
    pub ours: &'a TraceFile,
    pub reference: &'a Reference,
    pub engine: &'a mut Engine,
    pub tokens: &'a [u32],
}

impl Stages<'_> {
    /// All of them.
    pub fn all(&mut self, generate: u32) -> Result<Vec<Checkpoint>> {
        let mut list = vec![self.norm(), self.rope(), self.projections()];
        list.push(cache::checkpoint(self)?);
        list.push(self.scores());
        list.push(self.of("5", "attention", &["attn_out-0"], 1e-4));
        list.push(self.of("6", "feed-forward", &["ffn_out-0"], 1e-4));
        list.push(self.of("7", "first block", &["l_out-0"], 1e-4));
        list.push(self.of("8", "logits of all positions", &["result_output"], 1e-3));
        list.push(self.selection()?);
        list.push(self.arg_max());
        list.push(self.softmax()?);
        list.push(self.run(generate)?);
        Ok(list)
    }

    fn of(&self, id: &'static str, title: &'static str, names: &[&str], max: f64) -> Checkpoint {
        let mut c = Checkpoint::new(id, title);
        for name in names {
            self.within(&mut c, name, max, None);
        }
        c
    }

    /// Demands that a tensor of both is close: `max` and `mean` absolute, or the reference's NMSE.
    pub fn within(&self, c: &mut Checkpoint, name: &str, max: f64, mean: Option<f64>) {
        let (Some(a), Some(b)) = (self.reference.trace.find(name), self.ours.find(name)) else {
            let whose = if self.ours.find(name).is_some() { "the reference" } else { "this run" };
            return c.demand(name, false, format!("not in {whose}"), "in both");
        };
        self.close(c, name, a, b, max, mean);
    }

    pub fn close(&self, c: &mut Checkpoint, name: &str, a: &Tensor, b: &Tensor, max: f64, mean: Option<f64>) {
        if a.data.len() != b.data.len() {
            let found = format!("{:?} elements", b.shape);
            return c.demand(name, false, found, format!("{:?} elements", a.shape));
        }
        let d = causal_distance(a, b);
        let finite = b.data.iter().all(|x| x.is_finite());
        match self.reference.tolerance {
            Tolerance::Absolute => {
                let ok = finite && d.max_abs <= max && mean.is_none_or(|m| d.mean_abs <= m);
                let limit = mean.map_or(format!("{max:.0e}"), |m| format!("{max:.0e}, mean {m:.0e}"));
                c.demand(name, ok, format!("max {:.2e}, mean {:.2e}", d.max_abs, d.mean_abs), limit);
            }
            Tolerance::Nmse(n) => {
                c.demand(
                    name,
                    finite && d.nmse <= n,
                    format!("nmse {:.2e}", d.nmse),
                    format!("nmse {n:.0e}"),
                );
            }
        }
    }

    /// llama.cpp has one value for the three where the file has one matrix for them.
    fn projections(&self) -> Checkpoint {
        let (title, names) = ("queries, keys and values", ["Qcur_proj-0", "Kcur_proj-0", "Vcur-0"]);
        let joined = self.reference.trace.find("wqkv-0");
        let (Some(theirs), None) = (joined, self.reference.trace.find(names[0])) else {
            return self.of("2", title, &names, 1e-4);
        };
        let mut c = Checkpoint::new("2", title);
        let mut ours = Tensor { name: theirs.name.clone(), shape: theirs.shape.clone(), data: Vec::new() };
        for row in 0..self.tokens.len() {
            for t in names.iter().filter_map(|n| self.ours.find(n)) {
                let cols = t.data.len() / self.tokens.len();
                ours.data.extend(t.data.iter().skip(row * cols).take(cols));
            }
        }
        self.close(&mut c, "wqkv-0", theirs, &ours, 1e-4, None);
        c
    }

    fn norm(&self) -> Checkpoint {
        let mut c = Checkpoint::new("1", "RMSNorm");
        self.within(&mut c, "attn_norm-0", 1e-5, Some(1e-6));
        c
    }

    fn rope(&self) -> Checkpoint {
        let mut c = Checkpoint::new("1B", "RoPE");
        self.within(&mut c, "Qcur-0", 1e-5, None);
        self.within(&mut c, "Kcur-0", 1e-5, None);
        // Cosine and sine of every pair at position 0, where nothing turns.
        let table = self.ours.find("rope_table");
        let first = table.and_then(|t| t.data.get(..*t.shape.last()?)).unwrap_or_default();
        let magnitude = first.first().copied().unwrap_or(0.0);
        let still =
            !first.is_empty() && first.as_chunks::<2>().0.iter().all(|[c, s]| *c == magnitude && *s == 0.0);
        let found = format!("{} pairs, cosine {magnitude}", first.len() / 2);
        c.demand("rope_table at position 0", still && magnitude > 0.0, found, "one cosine, sine 0");
        // What position 0 rotates by nothing is what was projected, and values are not rotated at all.
        for (rotated, before) in
            [("Qcur-0", ["Qcur_normed-0", "Qcur_proj-0"]), ("Kcur-0", ["Kcur_normed-0", "Kcur_proj-0"])]
        {
            let row = |name: &str| self.ours.find(name).and_then(|t| t.data.get(..*t.shape.last()?));
            let from = before.iter().find_map(|n| row(n));
            let same = magnitude != 1.0 || row(rotated).is_some() && row(rotated) == from;
            c.demand(
                format!("{rotated} at position 0"),
                same,
                if same { "unchanged" } else { "changed" },
                "unchanged",
            );
        }
        self.within(&mut c, "Vcur-0", 1e-5, None);
        c
    }

    fn scores(&self) -> Checkpoint {
        let mut c = Checkpoint::new("4", "attention scores");
        let plan = self.engine.plan(crate::plan::Phase::Prefill);
        let scale = plan.and_then(|p| {
            p.ops.iter().find_map(|op| match op {
                Op::Attention(a) => Some(a.scale),
                _ => None,
            })
        });
        let scaled =
            |t: &Tensor, by: f32| Tensor { data: t.data.iter().map(|x| x * by).collect(), ..t.clone() };
        let by = scale.unwrap_or(1.0);
        // For phi3, llama.cpp scales the queries before the scores.
        let done = self.reference.trace.find("Qcur_scaled-0").is_some();
        let theirs = if done { 1.0 } else { by };
        match (self.reference.trace.find("kq-0"), self.ours.find("kq-0")) {
            (Some(a), Some(b)) => {
                self.close(&mut c, "kq-0, scaled", &scaled(a, theirs), &scaled(b, by), 1e-4, None)
            }
            _ => c.demand("kq-0", false, "not in both traces", "in both"),
        }
        if let Some(t) = self.ours.find("kq_soft_max-0")
            && let [n, heads, m] = t.shape[..]
        {
            let rows = t.data.chunks_exact(m.max(1));
            let masked = rows
                .clone()
                .enumerate()
                .all(|(i, row)| row[(i / heads.max(1) + 1).min(m)..].iter().all(|x| *x == 0.0));
            c.demand(
                "the mask",
                masked && n == m,
                if masked { "0 behind it" } else { "not 0 behind it" },
                "0 behind it",
            );
            let off = rows
                .map(|row| (row.iter().map(|x| f64::from(*x)).sum::<f64>() - 1.0).abs())
                .fold(0.0, f64::max);
            c.demand("sums of the softmax", off <= 1e-6, format!("1 +- {off:.1e}"), "1 +- 1e-6");
        }
        self.within(&mut c, "kq_soft_max-0", 1e-4, None);
        c
    }

    /// The row that a step returns for its last token is that token's, whatever the number of tokens.
    fn selection(&mut self) -> Result<Checkpoint> {
        let mut c = Checkpoint::new("9", "logits of the last position");
        let vocab = self.engine.n_vocab() as usize;
        let all = self.ours.find("result_output").map(|t| t.data.clone()).unwrap_or_default();
        let mut lengths = vec![1, 2.min(self.tokens.len()), self.tokens.len()];
        lengths.dedup();
        for n in lengths {
            let mut session = self.engine.new_session()?;
            let tokens = &self.tokens[..n];
            self.engine.step(&mut [StepInput { session: &mut session, tokens, logits: Logits::Last }])?;
            let got = self.engine.logits(0).unwrap_or_default();
            let want = all.chunks_exact(vocab.max(1)).nth(n - 1).unwrap_or_default();
            let same = !want.is_empty() && distance(want, got).different == 0;
            c.demand(
                format!("of {n} tokens"),
                same,
                if same { "row of the last" } else { "another row" },
                "row of the last",
            );
        }
        Ok(c)
    }

    fn last_rows(&self) -> Option<(&[f32], &[f32])> {
        let n = self.engine.n_vocab() as usize;
        let row = |t: &'_ TraceFile| t.find("result_output").and_then(|t| t.data.len().checked_sub(n));
        let (a, b) = (row(&self.reference.trace)?, row(self.ours)?);
        Some((
            &self.reference.trace.find("result_output")?.data[a..],
            &self.ours.find("result_output")?.data[b..],
        ))
    }

    fn arg_max(&self) -> Checkpoint {
        let mut c = Checkpoint::new("10", "most likely token");
        let Some((reference, ours)) = self.last_rows() else {
            c.demand("result_output", false, "not in both traces", "in both");
            return c;
        };
        let (a, b) = (arg_max(reference), arg_max(ours));
        let near = is_near(reference, a, b);
        let found = if a == b || !near { b.to_string() } else { format!("{b}, a near-tie") };
        c.demand("token", a == b || near, found, a.to_string());
        c
    }

    fn softmax(&self) -> Result<Checkpoint> {
        let mut c = Checkpoint::new("11", "softmax");
        let Some((reference, ours)) = self.last_rows() else {
            c.demand("result_output", false, "not in both traces", "in both");
            return Ok(c);
        };
        for temp in [0.5f32, 1.0, 2.0] {
            let params = SamplerParams {
                temp,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                seed: Some(1),
                ..SamplerParams::default()
            };
            let mut sampler = Sampler::new(&params, ours.len(), &[], &[])?;
            // Of the reference's logits: what ours are off by has been looked at.
            let mut found = Vec::new();
            sampler.probabilities(reference, &mut found)?;
            let want = softmax(reference, temp);
            let off = |(id, p): &(u32, f32)| (f64::from(*p) - want[*id as usize]).abs();
            let worst = found.iter().map(off).fold(0.0, f64::max);
            let ok = worst <= 1e-6 && found.len() == reference.len();
            c.demand(format!("at {temp}"), ok, format!("max {worst:.1e}"), "1e-6");
            let sum = (found.iter().map(|(_, p)| f64::from(*p)).sum::<f64>() - 1.0).abs();
            c.demand(format!("sum at {temp}"), sum <= 1e-6, format!("1 +- {sum:.1e}"), "1 +- 1e-6");
            sampler.probabilities(ours, &mut found)?;
            let mut ids: Vec<usize> = (0..reference.len()).collect();
            ids.sort_by(|a, b| reference[*b].total_cmp(&reference[*a]).then(a.cmp(b)));
            let five = ids.iter().zip(&found).take(5);
            let same =
                five.clone().all(|(a, (b, _))| *a == *b as usize || is_near(reference, *a, *b as usize));
            let list = five.map(|(_, (b, _))| b.to_string()).collect::<Vec<_>>().join(" ");
            let limit = ids.iter().take(5).map(usize::to_string).collect::<Vec<_>>().join(" ");
            c.demand(format!("first five at {temp}"), same, list, limit);
        }
        Ok(c)
    }

    fn run(&mut self, generate: u32) -> Result<Checkpoint> {
        let mut c = Checkpoint::new("12", "greedy run");
        let (ids, margins) = greedy(self.engine, self.tokens, generate)?;
        for i in 2..=3 {
            let again = greedy(self.engine, self.tokens, generate)?.0;
            c.demand(
                format!("run {i}"),
                again == ids,
                if again == ids { "the same" } else { "other ids" },
                "the same",
            );
        }
        let text = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        if let Some(want) = &self.reference.generated {
            let n = ids.len().min(want.len());
            let differs = (0..n).find(|i| ids[*i] != want[*i]);
            // Behind a near-tie the two have different texts before them.
            let tie = differs.filter(|i| margins[*i] < NEAR);
            let found = match tie {
                Some(i) => format!("{}, a near-tie at {i}", text(&ids)),
                None => text(&ids),
            };
            c.demand("ids", n > 0 && (differs.is_none() || tie.is_some()), found, text(want));
        } else {
            c.demand("ids", !ids.is_empty(), text(&ids), "the reference says none");
        }
        Ok(c)
    }
}

/// A greedy run: ids, and by how much each led, as a part of the range of its logits.
pub(super) fn greedy(engine: &mut Engine, tokens: &[u32], n: u32) -> Result<(Vec<u32>, Vec<f32>)> {
    let mut session = engine.new_session()?;
    engine.step(&mut [StepInput { session: &mut session, tokens, logits: Logits::Last }])?;
    let (mut ids, mut margins) = (Vec::new(), Vec::new());
    for _ in 0..n.min(session.room()) {
        let row = engine.logits(0).unwrap_or_default();
        let id = arg_max(row);
        let others = row.iter().enumerate().filter(|(i, _)| *i != id).map(|(_, x)| *x);
        let second = others.fold(f32::NEG_INFINITY, f32::max);
        margins.push((row[id] - second) / range(row));
        ids.push(id as u32);
        engine.step(&mut [StepInput {
            session: &mut session,
            tokens: &[id as u32],
            logits: Logits::Last,
        }])?;
    }
    Ok((ids, margins))
}

/// The first of the largest.
fn arg_max(row: &[f32]) -> usize {
    let larger = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (1..row.len()).fold(0, larger)
}

fn range(row: &[f32]) -> f32 {
    let (lo, hi) = row.iter().fold((f32::MAX, f32::MIN), |(lo, hi), x| (lo.min(*x), hi.max(*x)));
    (hi - lo).max(f32::MIN_POSITIVE)
}

fn is_near(row: &[f32], a: usize, b: usize) -> bool {
    (row[a] - row[b]).abs() / range(row) < NEAR
}

fn softmax(row: &[f32], temp: f32) -> Vec<f64> {
    let max = row.iter().fold(f32::MIN, |m, x| m.max(*x));
    let weigh = |x: &f32| crate::ops::math::exp64(f64::from(x - max) / f64::from(temp));
    let weights: Vec<f64> = row.iter().map(weigh).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}
