//! attention: a thread takes some query heads of every tile of rows and reads the keys and values of their key-value
//! head once for all of them.
//!
//! A tile is a run of rows of one sequence. For each chunk of 256 cells: scores of all its queries, 16 cells at a time;
//! softmax; values, 32 cells at a time; the merge into the running result. Cells are widened to f32 in scratch once per
//! tile, but a row alone reads them as they are ([`direct`]). What a row must not see is never part of a sum: scores
//! past a row's position are cut off before the softmax, and each query's values end at its own cell.
//!
//! The order of operations is the reference's whatever the tile, so how rows and heads are cut is free: heads are
//! shared over the team, and the share rotates from tile to tile so that an uneven cut evens out.

use super::attention_direct::{self as direct, Run};
use super::attention_tile::{scores_of_columns, scores_of_rows, softmax, weigh};
use super::cells::{widen, widen_transposed};
use super::entry::rows;
use super::simd::{LANES, Simd};
use crate::backends::{Case, KernelCtx};
use crate::ops::Op;
use crate::ops::attention::{Attrs, CHUNK, Cells, Softmax, reference};
use crate::ops::kv_append::TYPES;
use std::ops::Range;

/// Most queries (rows times heads of one group) of a tile.
const MAX_QUERIES: usize = 64;
/// From this many queries on, transposing keys pays.
const MANY_QUERIES: usize = 8;
/// Queries whose softmax goes side by side.
const SIDE_BY_SIDE: usize = 4;
/// Cells whose keys are widened at a time for many queries; for few it is 16.
const KEY_BLOCK: usize = 2 * LANES;
/// Cells of values widened at a time.
const VALUE_BLOCK: usize = 32;

/// Sizes of a case or of a command.
#[derive(Clone, Copy)]
struct Dims {
    /// Dimensions of a key and of a value head.
    dk: usize,
    dv: usize,
    /// The same, padded to whole vectors.
    wk: usize,
    wv: usize,
    /// Query heads, and those that share a key-value head.
    heads: usize,
    group: usize,
}

impl Dims {
    fn new(a: &Attrs, q_cols: u32, out_cols: u32) -> Dims {
        let heads = a.n_head as usize;
        let (dk, dv) = (q_cols as usize / heads.max(1), out_cols as usize / heads.max(1));
        let (wk, wv) = (dk.next_multiple_of(LANES), dv.next_multiple_of(LANES));
        Dims { dk, dv, wk, wv, heads, group: heads / (a.n_head_kv as usize).max(1) }
    }
    /// Rows of a tile.
    fn tile_rows(&self) -> usize {
        (MAX_QUERIES / self.group.max(1)).max(1)
    }
    /// Queries of the largest tile when a step has up to `rows` rows.
    fn queries(&self, rows: usize) -> usize {
        (rows.min(self.tile_rows()) * self.group).clamp(1, MAX_QUERIES)
    }
    /// Floats of a block of keys, or of what a row's queries need in its place.
    fn key_floats(&self, n: usize) -> usize {
        (KEY_BLOCK * self.wk).max(direct::room(n.min(self.group)))
    }
    /// Floats of scratch for tiles of `n` queries: queries, outputs and a chunk's outputs, scores; and the keys
    /// and values of a block.
    fn floats(&self, n: usize) -> usize {
        n * (self.wk + 2 * self.wv + CHUNK) + self.key_floats(n) + VALUE_BLOCK * self.wv
    }
}

fn supports(case: &Case<'_>) -> Result<(), &'static str> {
    match case.args {
        [_, k, v] if TYPES.contains(&k.dtype) && TYPES.contains(&v.dtype) => Ok(()),
        _ => Err("only caches of F32, F16, Q8_0 and Q4_0"),
    }
}

fn scratch(case: &Case<'_>) -> usize {
    let Op::Attention(a) = case.op else { return 0 };
    let dims = Dims::new(a, case.args[0].cols(), case.outs[0].cols());
    dims.floats(dims.queries(case.max_rows as usize)) * size_of::<f32>()
}

/// A thread's scratch, cut up.
struct Work<'a> {
    /// `[queries][wk]`.
    q: &'a mut [f32],
    /// `[queries][wv]`: running outputs.
    out: &'a mut [f32],
    /// `[queries][wv]`: outputs of the chunk.
    part: &'a mut [f32],
    /// `[queries][CHUNK]`.
    scores: &'a mut [f32],
    /// Keys of a block, `[16][wk]` or transposed.
    keys: &'a mut [f32],
    /// `[VALUE_BLOCK][wv]`.
    values: &'a mut [f32],
}

impl<'a> Work<'a> {
    #[inline(always)]
    fn cut(d: &Dims, n: usize, all: &'a mut [f32]) -> Work<'a> {
        let (q, all) = all.split_at_mut(n * d.wk);
        let (out, all) = all.split_at_mut(n * d.wv);
        let (part, all) = all.split_at_mut(n * d.wv);
        let (scores, all) = all.split_at_mut(n * CHUNK);
        let (keys, all) = all.split_at_mut(d.key_floats(n));
        let (values, _) = all.split_at_mut(VALUE_BLOCK * d.wv);
        Work { q, out, part, scores, keys, values }
    }
}

/// This thread's scratch as floats.
///
/// # Safety
/// As `KernelFn`; the scratch was sized by [`scratch`] for a case with at least the step's rows.
#[inline(always)]
unsafe fn scratch_floats<'a>(ctx: &KernelCtx<'_>, d: &Dims) -> (usize, &'a mut [f32]) {
    let n = d.queries(ctx.step.positions.len());
    // SAFETY: that many floats, aligned to 64, zeroed when they were allocated, and this thread's own.
    (n, unsafe { std::slice::from_raw_parts_mut(ctx.scratch.cast(), d.floats(n)) })
}

/// # Safety
/// As `KernelFn`.
unsafe fn scalar(ctx: &KernelCtx<'_>) {
    let Op::Attention(a) = ctx.op else { return };
    let d = Dims::new(a, ctx.args[0].cols, ctx.outs[0].cols);
    // SAFETY: the table pairs this function with `scratch`.
    let (_, floats) = unsafe { scratch_floats(ctx, &d) };
    let (row, part) = floats.split_at_mut(d.wk.max(d.wv));
    for item in ctx.share(ctx.step.positions.len() * d.heads, 1) {
        let (t, head) = (item / d.heads, item % d.heads);
        let n = ctx.step.positions[t] as usize + 1;
        let seq = ctx.seqs[ctx.step.seqs[t] as usize];
        // SAFETY: q is F32 rows of n_head heads; cells up to a row's own are written before this command; this thread
        // owns this head of this row of the result.
        unsafe {
            let cells = seq.cells(ctx.kv, a.layer, (head / d.group) as u32, n);
            let q = &ctx.args[0].row_f32(t)[head * d.dk..(head + 1) * d.dk];
            let out = ctx.outs[0].row_f32_mut(t, head * d.dv..(head + 1) * d.dv);
            reference(a.scale, q, cells, out, (row, part));
        }
    }
}

/// # Safety
/// As `KernelFn`.
#[inline(always)]
unsafe fn simd<S: Simd>(s: S, ctx: &KernelCtx<'_>) {
    let Op::Attention(a) = ctx.op else { return };
    let d = Dims::new(a, ctx.args[0].cols, ctx.outs[0].cols);
    // SAFETY: the table pairs this function with `scratch`.
    let (_, floats) = unsafe { scratch_floats(ctx, &d) };
    let (seqs, team) = (ctx.step.seqs, ctx.n_threads as usize);
    let (mut first, mut tile) = (0, ctx.thread as usize);
    while first < seqs.len() {
        let run = seqs[first..].iter().take_while(|s| **s == seqs[first]).count();
        let rows = first..first + run.min(d.tile_rows());
        let member = tile % team;
        let (from, to) = (d.heads * member / team, d.heads * (member + 1) / team);
        let mut head = from;
        while head < to {
            let group_end = (head / d.group + 1) * d.group;
            let heads = head..to.min(group_end).min(head + MAX_QUERIES / rows.len());
            head = heads.end;
            let next = (head < to).then_some((head / d.group) as u32);
            // SAFETY: rows of one sequence, heads of one group, of this member's share for this tile.
            unsafe { attend(s, ctx, a, &d, Tile { rows: rows.clone(), heads, next }, floats) }
        }
        (first, tile) = (rows.end, tile + 1);
    }
}

/// Some rows of one sequence, some heads of one group.
struct Tile {
    rows: Range<usize>,
    heads: Range<usize>,
    /// The key-value head that this member reads next.
    next: Option<u32>,
}

/// One tile.
///
/// # Safety
/// As `KernelFn`; no other thread writes these heads of these rows.
#[inline(always)]
unsafe fn attend<S: Simd>(
    s: S,
    ctx: &KernelCtx<'_>,
    a: &Attrs,
    d: &Dims,
    Tile { rows, heads, next }: Tile,
    floats: &mut [f32],
) {
    let n = rows.len() * heads.len();
    let w = Work::cut(d, n, floats);
    // Cells each query sees, and how its softmax stands.
    let mut sees = [0usize; MAX_QUERIES];
    let mut whole = [Softmax { max: 0.0, sum: 0.0 }; MAX_QUERIES];
    for (i, q) in w.q.chunks_exact_mut(d.wk).enumerate() {
        let (t, head) = (rows.start + i / heads.len(), heads.start + i % heads.len());
        sees[i] = ctx.step.positions[t] as usize + 1;
        // SAFETY: q is F32 rows of n_head heads.
        let from = unsafe { &ctx.args[0].row_f32(t)[head * d.dk..(head + 1) * d.dk] };
        q[..d.dk].copy_from_slice(from);
        q[d.dk..].fill(0.0);
    }
    let sees = &sees[..n];
    let most = sees.iter().copied().max().unwrap_or(0);
    let seq = ctx.seqs[ctx.step.seqs[rows.start] as usize];
    // SAFETY: the cells up to the last row's own are written before this command, in its sequence's cache.
    let (keys, values) = unsafe { seq.cells(ctx.kv, a.layer, (heads.start / d.group) as u32, most) };
    let straight = rows.len() == 1 && direct::takes(d.dk, d.dv);
    let key_bytes = keys.bytes.len() / most.max(1);
    let value_bytes = values.bytes.len() / most.max(1);

    for chunk in (0..most).step_by(CHUNK) {
        let range = chunk..most.min(chunk + CHUNK);
        if straight {
            let ahead = values.bytes.as_ptr().wrapping_add(chunk * value_bytes);
            let run = Run { cells: &keys, range: range.clone(), ahead };
            direct::scores(s, &run, w.q, a.scale, w.keys, w.scores);
        } else {
            score(s, d, a.scale, &keys, chunk, sees, (w.q, w.keys, w.scores));
        }
        let mut factors = [(0.0, 1.0); MAX_QUERIES];
        for from in (0..n).step_by(SIDE_BY_SIDE) {
            let to = n.min(from + SIDE_BY_SIDE);
            let cells = |i: usize| sees[i].saturating_sub(chunk).min(CHUNK);
            let mut parts = [(0.0, 0.0); SIDE_BY_SIDE];
            if to - from == SIDE_BY_SIDE {
                parts = softmax(s, &mut w.scores[from * CHUNK..], std::array::from_fn(|i| cells(from + i)));
            } else {
                for (i, part) in (from..to).zip(&mut parts) {
                    [*part] = softmax(s, &mut w.scores[i * CHUNK..], [cells(i)]);
                }
            }
            for (i, (max, sum)) in (from..to).zip(parts) {
                if cells(i) == 0 {
                    factors[i] = (1.0, 0.0);
                } else if chunk == 0 {
                    whole[i] = Softmax { max, sum };
                } else {
                    factors[i] = whole[i].merge(Softmax { max, sum });
                }
            }
        }
        if straight {
            let ahead = match next {
                Some(head) if range.end == most => seq.base.wrapping_add(ctx.kv.k_offset(a.layer, head, 0)),
                _ => keys.bytes.as_ptr().wrapping_add(range.end * key_bytes),
            };
            direct::weigh(s, &Run { cells: &values, range, ahead }, w.scores, w.part);
        } else {
            w.part.fill(0.0);
            weigh_chunk(s, d, &values, chunk, sees, (w.scores, w.values, w.part));
        }
        for (i, (out, part)) in w.out.chunks_exact_mut(d.wv).zip(w.part.chunks_exact(d.wv)).enumerate() {
            if chunk == 0 {
                out.copy_from_slice(part);
            } else if sees[i] > chunk {
                let (a, b) = (s.splat(factors[i].0), s.splat(factors[i].1));
                for (o, p) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(part.as_chunks::<LANES>().0) {
                    s.store(s.fma(s.load(o), a, s.mul(s.load(p), b)), o);
                }
            }
        }
    }
    for (i, out) in w.out.chunks_exact(d.wv).enumerate() {
        let (t, head) = (rows.start + i / heads.len(), heads.start + i % heads.len());
        // SAFETY: this thread owns this head of this row of the result.
        let to = unsafe { ctx.outs[0].row_f32_mut(t, head * d.dv..(head + 1) * d.dv) };
        let sum = s.splat(whole[i].sum);
        for (x, o) in out.chunks(LANES).zip(to.chunks_mut(LANES)) {
            s.store_upto(s.div(s.load_upto(x), sum), o);
        }
    }
}

/// Calls `$f::<S, Q, ...>` for Q queries, 1 to 4.
macro_rules! by_count {
    ($n:expr, $f:ident $([$more:literal])?, $args:tt) => {
        match $n {
            1 => $f::<S, 1 $(, $more)?> $args,
            2 => $f::<S, 2 $(, $more)?> $args,
            3 => $f::<S, 3 $(, $more)?> $args,
            _ => $f::<S, 4 $(, $more)?> $args,
        }
    };
}

/// Scores of all queries with the cells of one chunk, for each at least as far as it sees.
#[inline(always)]
fn score<S: Simd>(
    s: S,
    d: &Dims,
    scale: f32,
    keys: &Cells<'_>,
    chunk: usize,
    sees: &[usize],
    (q, room, scores): (&[f32], &mut [f32], &mut [f32]),
) {
    let many = sees.len() >= MANY_QUERIES;
    let end = keys.len().min(chunk + CHUNK);
    let mut first = chunk;
    while first < end {
        let at = first - chunk;
        // Two columns for each element of a query keep the core at sums; with 16 registers there is no room for them.
        let blocks = if many && S::WIDE && first + LANES < end { 2 } else { 1 };
        let room = &mut room[..blocks * LANES * d.wk];
        for (b, room) in room.chunks_exact_mut(LANES * d.wk).enumerate() {
            if many {
                widen_transposed(s, keys, first + b * LANES, room);
            } else {
                widen(s, keys, first, d.wk, room);
            }
        }
        for from in (0..sees.len()).step_by(4) {
            let to = sees.len().min(from + 4);
            if sees[from..to].iter().all(|n| *n <= first) {
                continue;
            }
            let (q, out) = (&q[from * d.wk..to * d.wk], &mut scores[from * CHUNK + at..]);
            match blocks {
                2 => by_count!(to - from, scores_of_columns[2], (s, q, room, scale, out)),
                _ if many => by_count!(to - from, scores_of_columns[1], (s, q, room, scale, out)),
                _ => {
                    for (q, out) in q.chunks_exact(d.wk).zip(out.chunks_mut(CHUNK)) {
                        s.store_upto(scores_of_rows(s, q, room, scale), &mut out[..LANES]);
                    }
                }
            }
        }
        first += blocks * LANES;
    }
}

/// Adds the values of one chunk, weighted, to the outputs: four queries together as far as all of them see, then each
/// to its own end.
#[inline(always)]
fn weigh_chunk<S: Simd>(
    s: S,
    d: &Dims,
    values: &Cells<'_>,
    chunk: usize,
    sees: &[usize],
    (scores, room, part): (&[f32], &mut [f32], &mut [f32]),
) {
    let end = values.len().min(chunk + CHUNK);
    for first in (chunk..end).step_by(VALUE_BLOCK) {
        let (at, block) = (first - chunk, (end - first).min(VALUE_BLOCK));
        let v = &mut room[..block * d.wv];
        widen(s, values, first, d.wv, v);
        for from in (0..sees.len()).step_by(4) {
            let to = sees.len().min(from + 4);
            let cells = |i: usize| sees[i].saturating_sub(first).min(block);
            let shared = (from..to).map(cells).min().unwrap_or(0);
            let (p, out) = (&scores[from * CHUNK + at..], &mut part[from * d.wv..]);
            by_count!(to - from, weigh, (s, p, shared, v, d.wv, out));
            for i in from..to {
                let (p, out) = (&scores[i * CHUNK + at + shared..], &mut part[i * d.wv..]);
                weigh::<S, 1>(s, p, cells(i) - shared, &v[shared * d.wv..], d.wv, out);
            }
        }
    }
}

rows! {
    Attention = "attention.f32", supports: supports, scratch: scratch, scalar: scalar, simd: simd
}
