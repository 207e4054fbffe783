//! The skeleton: a command's activation rows in passes, a thread's weight rows in panels, tiles over both.

use super::streams::{WINDOW, one_stream};
use super::{Acts, Ahead, Core, Rows, Sums, Tile, core, prefetch_to_write};
use crate::backends::{Case, Isa, KernelCtx, Operand};
use crate::graph::ValueType;
use crate::quant::DType;
use std::ops::Range;

/// Bytes of a panel of packed weights, where several tiles fit: some of an L2 that also holds activations.
const PANEL_BYTES: usize = 1 << 18;
/// Most weight rows of a panel.
const PANEL_ROWS: usize = 32;
/// Bytes of packed activations that stay in L2 beside a panel.
const PACKED_NEAR: usize = 1 << 20;
/// Most weight rows between two epilogues: their sums stay in L1 for one row, in L2 for a pass.
const BLOCK_DIRECT: usize = 1024;
const BLOCK_PANEL: usize = 128;

/// How the passes over `rows` activation rows of `n` elements look.
#[derive(Clone, Copy)]
struct Shape {
    steps: usize,
    /// Most activation rows of a pass.
    pass_rows: usize,
    /// Packed activations.
    pack_bytes: usize,
}

impl Shape {
    fn new(acts: &Acts, n: usize, rows: usize, direct: bool) -> Shape {
        let steps = n.div_ceil(acts.step);
        if direct {
            return Shape { steps, pass_rows: rows.max(1), pack_bytes: rows * (acts.direct_bytes)(n) };
        }
        let group = (steps * acts.step_bytes).max(1);
        let limit = (acts.pass_bytes / group).max(1) * acts.tile_rows;
        // Passes of equal size, so that the last one is no remainder.
        let pass_rows = rows.div_ceil(rows.div_ceil(limit));
        Shape { steps, pass_rows, pack_bytes: pass_rows.div_ceil(acts.tile_rows) * group }
    }
}

/// Tiles of a panel over `steps` that sweeps over `packed` bytes of activations. Where those come from L3, wider panels
/// have them come less often; not where sums are cut, as then a panel's own steps are to stay in L1.
fn panel_tiles(core: &Core, steps: usize, packed: usize) -> usize {
    let far = packed > PACKED_NEAR && core.acc_bytes == 0;
    let (bytes, rows) = if far { (2 * PANEL_BYTES, 4 * PANEL_ROWS) } else { (PANEL_BYTES, PANEL_ROWS) };
    (bytes / (steps * core.step_bytes).max(1)).clamp(1, rows / core.tile_rows)
}

/// Scratch of one thread for products of `rows` activation rows of `n` elements with weights of these types, and
/// `tile` more f32 for an epilogue per activation row of a pass and weight row of a block. Holds for fewer rows.
fn scratch_for(isa: Isa, types: &[DType], n: usize, rows: usize, tiles: usize) -> usize {
    // The first weight decides which path all of a command's products take.
    let Some(direct_max) = types.first().and_then(|t| core(isa, *t)).map(|c| c.direct_max) else { return 0 };
    let mut most = 0;
    for t in types {
        let Some(c) = core(isa, *t) else { continue };
        // Fewer rows may mean the other path, or a fuller pass.
        let direct = Shape::new(c.acts, n, rows.min(direct_max), true);
        most = most.max(direct.pack_bytes.next_multiple_of(64) + tiles * BLOCK_DIRECT * direct.pass_rows * 4);
        if rows > direct_max {
            let steps = direct.steps;
            let group = (steps * c.acts.step_bytes).max(1);
            let groups = (c.acts.pass_bytes / group).max(1).min(rows.div_ceil(c.acts.tile_rows));
            let panel = panel_tiles(c, steps, groups * group);
            let epilogue = tiles * BLOCK_PANEL * groups * c.acts.tile_rows * 4;
            let packed = groups * group + panel * (steps * c.step_bytes + groups * c.acc_bytes);
            most = most.max(packed.next_multiple_of(64) + epilogue);
        }
    }
    most
}

/// For `Kernel::scratch`: the case's products, and `tiles` blocks of sums for the epilogue.
pub(in crate::backends::cpu) fn scratch_bytes(case: &Case<'_>, isa: Isa, tiles: usize) -> usize {
    let x = &case.args[0];
    let mut types: smallvec::SmallVec<[DType; 3]> = smallvec::SmallVec::new();
    types.extend(weights(case).map(|w| w.dtype));
    scratch_for(isa, &types, x.cols() as usize, case.max_rows as usize, tiles)
}

/// The weight matrices of a product op: operand 1, and 2 and 3 where the op has more than one product.
fn weights<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a ValueType> + use<'a> {
    use crate::ops::OpKind;
    let n = match case.op.kind() {
        OpKind::LinearQkv | OpKind::LinearQkvRopeKv => 3,
        OpKind::LinearSwiglu => 2,
        _ => 1,
    };
    case.args.iter().skip(1).take(n)
}

/// For `Kernel::supports`: all weights have this type; `None` stands for types that differ and share activations.
pub(in crate::backends::cpu) fn supports(
    case: &Case<'_>,
    ty: Option<DType>,
    isa: Isa,
) -> Result<(), &'static str> {
    let Some(first) = weights(case).next() else { return Err("takes a weight") };
    let same = weights(case).all(|w| w.dtype == first.dtype);
    let mut cores = weights(case).map(|w| core(isa, w.dtype));
    let Some(Some(head)) = cores.next() else { return Err("has no leaves for the type") };
    // What packs the activations for one weight must serve the others.
    if !cores.all(|c| c.is_some_and(|c| std::ptr::eq(c.acts, head.acts))) {
        return Err("takes weights that meet the same activations");
    }
    match ty {
        Some(t) if same && first.dtype == t => Ok(()),
        Some(_) => Err("takes weights of another type"),
        None if !same => Ok(()),
        None => Err("takes weights of different types"),
    }
}

/// One product of a command: its weight, and this thread's rows of it.
pub(in crate::backends::cpu) struct Part {
    core: &'static Core,
    w: Rows,
    /// This thread's rows.
    pub range: Range<usize>,
}

impl Part {
    /// A product with `weight`, of which this thread makes `range`; `None` if its type has no leaves.
    pub fn new(isa: Isa, weight: &Operand, range: Range<usize>) -> Option<Part> {
        let w = Rows {
            ptr: weight.ptr,
            row_bytes: weight.row_bytes,
            rows: weight.rows as usize,
            n: weight.cols as usize,
        };
        let range = range.start.min(w.rows)..range.end.min(w.rows);
        core(isa, weight.dtype).map(|core| Part { core, w, range })
    }
}

/// This thread's rows of several matrices that are shared out as one list, in units of `units[i]` rows of
/// matrix i.
pub(in crate::backends::cpu) fn part_share<const N: usize>(
    ctx: &KernelCtx<'_>,
    rows: [usize; N],
    units: [usize; N],
) -> [Range<usize>; N] {
    let counts: [usize; N] = std::array::from_fn(|i| rows[i].div_ceil(units[i].max(1)));
    let mine = ctx.share(counts.iter().sum(), 1);
    let mut before = 0;
    std::array::from_fn(|i| {
        let (from, to) = (mine.start.max(before) - before, mine.end.max(before) - before);
        before += counts[i];
        let row = |unit: usize| (unit.min(counts[i]) * units[i]).min(rows[i]);
        row(from)..row(to)
    })
}

/// Weight rows in which a matrix is shared out among threads for `rows` activation rows.
pub(in crate::backends::cpu) fn share_unit(rows: usize) -> usize {
    if rows < 8 { 16 } else { PANEL_ROWS }
}

/// Some activation rows of a command, packed in this thread's scratch.
pub(in crate::backends::cpu) struct Pass {
    acts: &'static Acts,
    x: Rows,
    steps: usize,
    direct: bool,
    pack: *mut u8,
    /// Free scratch behind the packed rows; panels come first, epilogue blocks behind them.
    free: *mut u8,
    /// The rows of the command.
    pub rows: Range<usize>,
}

/// Calls `f` for every pass over the rows of `x`, for a command whose first product is `part`.
///
/// # Safety
/// As for the kernel that calls it: `x` is a live operand of the type that meets the parts' weights, and the
/// context's scratch holds what [`scratch_bytes`] said.
pub(in crate::backends::cpu) unsafe fn for_each(
    ctx: &KernelCtx<'_>,
    x: &Operand,
    part: &Part,
    mut f: impl FnMut(&Pass),
) {
    let acts = part.core.acts;
    let (all, n) = (x.rows as usize, x.cols as usize);
    let direct = all <= part.core.direct_max;
    let shape = Shape::new(acts, n, all, direct);
    let mut from = 0;
    while from < all {
        let to = (from + shape.pass_rows).min(all);
        let whole = Rows { ptr: x.ptr, row_bytes: x.row_bytes, rows: all, n };
        // SAFETY: from <= to <= all; scratch holds the packed rows by the caller's promise.
        let pass = unsafe {
            Pass {
                acts,
                x: whole.slice(from, to),
                steps: shape.steps,
                direct,
                pack: ctx.scratch,
                free: ctx.scratch.add(shape.pack_bytes.next_multiple_of(64)),
                rows: from..to,
            }
        };
        // SAFETY: the rows are readable and the scratch has room, by the caller's promise.
        unsafe { pass.pack() };
        f(&pass);
        from = to;
    }
}

impl Pass {
    /// Tiles' worth of activation rows, all of nearly equal size.
    fn groups(&self) -> usize {
        self.x.rows.div_ceil(self.acts.tile_rows)
    }
    /// Bytes of all packed rows.
    fn packed(&self) -> usize {
        self.groups() * self.steps * self.acts.step_bytes
    }
    fn group(&self, g: usize) -> Range<usize> {
        let (rows, groups) = (self.x.rows, self.groups());
        rows * g / groups..rows * (g + 1) / groups
    }

    /// # Safety
    /// As for [`for_each`].
    unsafe fn pack(&self) {
        // SAFETY: the caller's promise; group g is packed at its own place.
        unsafe {
            if self.direct {
                (self.acts.pack_direct)(&self.x, self.pack);
                return;
            }
            for g in 0..self.groups() {
                let rows = self.group(g);
                let place = self.pack.add(g * self.steps * self.acts.step_bytes);
                (self.acts.pack)(&self.x.slice(rows.start, rows.end), place);
            }
        }
    }

    /// Calls `f` for blocks of a part's rows, each a multiple of `unit` rows except where the range ends. Those of the
    /// direct path are of nearly equal size.
    pub fn blocks(&self, part: &Part, unit: usize, mut f: impl FnMut(Range<usize>)) {
        let rows = part.range.len();
        let most = if self.direct {
            let one = self.x.rows == 1 && one_stream();
            let window =
                if one { usize::MAX } else { WINDOW / part.w.row_bytes.max(1) }.clamp(1, BLOCK_DIRECT);
            rows.div_ceil(rows.div_ceil(window).max(1)).next_multiple_of(unit).min(BLOCK_DIRECT)
        } else {
            BLOCK_PANEL
        };
        let block = (most / unit).max(1) * unit;
        let mut from = part.range.start;
        while from < part.range.end {
            let to = (from + block).min(part.range.end);
            f(from..to);
            from = to;
        }
    }

    /// Scratch for the epilogue of these parts: the blocks of sums that [`scratch_bytes`] was asked for.
    pub fn epilogue(&self, parts: &[Part]) -> *mut f32 {
        let panel = |core: &Core| {
            panel_tiles(core, self.steps, self.packed())
                * (self.steps * core.step_bytes + self.groups() * core.acc_bytes)
        };
        let used = if self.direct { 0 } else { parts.iter().map(|p| panel(p.core)).max().unwrap_or(0) };
        self.free.wrapping_add(used.next_multiple_of(64)).cast()
    }

    /// The finished sums of weight rows `rows` with every activation row of the pass.
    ///
    /// # Safety
    /// As for [`for_each`]; `out` takes a sum of every pair and only this thread touches them.
    pub unsafe fn sums(&self, part: &Part, rows: Range<usize>, out: Sums) {
        // SAFETY: the caller's promise; `rows` lies in the part's range.
        unsafe {
            let w = part.w.slice(rows.start, rows.end);
            if self.direct {
                (part.core.direct)(&w, &self.x, self.pack, out);
            } else {
                self.panels(part.core, &w, out);
            }
        }
    }

    /// # Safety
    /// As for [`Pass::sums`].
    unsafe fn panels(&self, core: &Core, w: &Rows, out: Sums) {
        let steps = self.steps;
        let tiles = panel_tiles(core, steps, self.packed());
        let cut = steps.div_ceil(steps.div_ceil(core.max_steps).max(1)).max(1);
        let tile_bytes = steps * core.step_bytes;
        let group_bytes = steps * self.acts.step_bytes;
        let acc = self.free.wrapping_add(tiles * tile_bytes);
        if let Some(unit) = core.unit {
            // SAFETY: the core is of an instruction set that this machine has.
            unsafe { (unit.enter)() }
        }
        let mut r0 = 0;
        while r0 < w.rows {
            let panel_rows = (tiles * core.tile_rows).min(w.rows - r0);
            let used = panel_rows.div_ceil(core.tile_rows);
            // The rows behind the panel, which need not exist: a part for each of its tiles.
            let mut ahead = w.ptr.wrapping_add((r0 + panel_rows) * w.row_bytes);
            let ahead_bytes = (panel_rows * w.row_bytes).div_ceil(steps.div_ceil(cut) * self.groups() * used);
            let tile_rows = |i: usize| i * core.tile_rows..((i + 1) * core.tile_rows).min(panel_rows);
            // SAFETY: the caller's promise for weights, activations and results. The panel holds `tiles` tiles
            // and `acc` one cell per tile and group; both lie in the scratch that `scratch_for` counted.
            unsafe {
                for i in 0..used {
                    let rows = tile_rows(i);
                    (core.pack)(&w.slice(r0 + rows.start, r0 + rows.end), self.free.add(i * tile_bytes));
                }
                for s0 in (0..steps).step_by(cut) {
                    let s1 = (s0 + cut).min(steps);
                    for g in 0..self.groups() {
                        let group = self.group(g);
                        for i in 0..used {
                            let rows = tile_rows(i);
                            let at = group.start * out.stride + r0 + rows.start;
                            if s0 > 0 && s1 == steps {
                                // Results are far apart, and what is left of the tile takes no longer than their lines
                                // take to come from memory.
                                for n in 0..group.len() {
                                    let to = out.ptr.wrapping_add(at + n * out.stride);
                                    for k in (0..rows.len()).step_by(16) {
                                        prefetch_to_write(to.wrapping_add(k));
                                    }
                                }
                            }
                            core.tiles[group.len() - 1](&Tile {
                                w: self.free.add(i * tile_bytes + s0 * core.step_bytes),
                                x: self.pack.add(g * group_bytes + s0 * self.acts.step_bytes),
                                steps: s1 - s0,
                                acc: acc.add((g * tiles + i) * core.acc_bytes).cast(),
                                first: s0 == 0,
                                last: s1 == steps,
                                out: Sums { ptr: out.ptr.add(at), ..out },
                                rows: rows.len(),
                                ahead: Ahead { ptr: ahead, bytes: ahead_bytes },
                            });
                            ahead = ahead.wrapping_add(ahead_bytes);
                        }
                    }
                }
            }
            r0 += panel_rows;
        }
        if let Some(unit) = core.unit {
            // SAFETY: as above.
            unsafe { (unit.leave)() }
        }
    }
}
