//! The activation row that meets weights in blocks of 32 in their order: without scales between the quants, in halves where
//! the weights' codes are, and going on behind the row's end, since a step may start anywhere in a row.

use super::Rows;
use super::in_order::{AHEAD_32, STEP, ask};
use super::q8_avx512::act_bytes;

/// Bytes of the scales and corrections, or scaled sums, that the direct leaves make of a row of n elements: 8 per block.
pub(super) fn cell_bytes(n: usize) -> usize {
    (n / 32 * 8).next_multiple_of(64)
}

/// Bytes for a row of n elements: cells, and what [`Acts::arrange`] writes behind them.
pub(super) fn bytes(n: usize) -> usize {
    cell_bytes(n) + ((n / 32 + STEP) * 40).next_multiple_of(64)
}

/// An arranged row; of everything, the first [`STEP`] blocks lie once more behind the last.
#[derive(Clone, Copy)]
pub(super) struct Acts {
    /// Quants, 32 bytes a block, or two halves of 16 bytes a block.
    quants: [*mut u8; 2],
    /// Scales.
    pub d: *mut f32,
    /// Corrections, or scaled sums as their bits.
    pub fix: *mut i32,
}

impl Acts {
    /// Arranges a row of Q8_0 blocks, or Q8_1 for weights with a minimum, and meanwhile asks for what the first step needs of
    /// the weights at `first`. Corrections are shifted right by so many bits.
    ///
    /// # Safety
    /// `x` describes one readable row, and `pack` has [`bytes`] for it, of which the cells are made.
    pub unsafe fn arrange(
        x: &Rows,
        pack: *mut u8,
        min: bool,
        halves: bool,
        shift: u32,
        first: *const u8,
    ) -> Acts {
        let (blocks, size) = (x.n / 32, act_bytes(min));
        let behind = pack.wrapping_add(cell_bytes(x.n));
        let at = |bytes: usize| behind.wrapping_add(bytes * (blocks + STEP));
        let to = Acts { quants: [at(0), at(16)], d: at(32).cast(), fix: at(36).cast() };
        let each = AHEAD_32.div_ceil(blocks + STEP);
        let mut from = 0;
        for b in 0..blocks + STEP {
            ask(first.wrapping_add(each * b), each);
            // SAFETY: the caller's promise: block `from` is one of the row's, and place b one of those of [`bytes`].
            unsafe {
                let quants = x.ptr.add((from + 1) * size - 32).cast::<[[u8; 16]; 2]>().read();
                if halves {
                    to.quants[0].cast::<[u8; 16]>().add(b).write(quants[0]);
                    to.quants[1].cast::<[u8; 16]>().add(b).write(quants[1]);
                } else {
                    to.quants[0].cast::<[[u8; 16]; 2]>().add(b).write(quants);
                }
                let cell = pack.add(8 * from);
                to.d.add(b).write(cell.cast::<f32>().read());
                to.fix.add(b).write(cell.add(4).cast::<i32>().read() >> shift);
            }
            from += 1;
            if from == blocks {
                from = 0;
            }
        }
        to
    }

    /// The quants from this block on, or their halves.
    #[inline(always)]
    pub fn quants(&self, halves: bool, block: usize) -> [*const u8; 2] {
        self.quants.map(|q| q.wrapping_add(if halves { 16 } else { 32 } * block).cast_const())
    }
}
