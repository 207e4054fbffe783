//! The innermost loops of the AVX2 panels' tiles, as instructions: vectors of weights against up to four activation rows, and
//! what becomes of their sums.
//!
//! They are not left to the compiler: a loop that turns for each vector takes a fourth longer, and where the compiler unrolls
//! it, it loads so much ahead that registers run out, and stores sums where it could store totals, which the units that
//! multiply wait for (5 to 13 % of blocks of 256, 4 % of pairs).

use super::panels_avx2::{TILE_ACTS, W_VECTOR, X_VECTOR};

/// The instructions that multiply a vector of weights, the one with this number, with activation rows: where their four bytes
/// are, and the names of their two sums, which begin with these products, or with them and a fix, or had begun.
macro_rules! vector {
    ($row:ident $mul:literal $sum:literal $k:literal $($at:literal $s0:ident $s1:ident)*) => {
        concat!(
            "vmovdqa {q0}, [{w} + 64 * ", $k, "]\n",
            "vmovdqa {q1}, [{w} + 64 * ", $k, " + 32]\n",
            $(
                "vpbroadcastd {a}, [{x} + 16 * ", $k, " + ", $at, "]\n",
                vector!(@$row $mul $sum $at $s0 $s1),
            )*
        )
    };
    (@begin $mul:literal $sum:literal $at:literal $s0:ident $s1:ident) => {
        concat!(
            $mul, " {", stringify!($s0), "}, {q0}, {a}\n",
            $mul, " {", stringify!($s1), "}, {q1}, {a}\n",
        )
    };
    (@begin_fixed $mul:literal $sum:literal $at:literal $s0:ident $s1:ident) => {
        concat!(
            "vpbroadcastd {", stringify!($s0), "}, [{fix} + ", $at, "]\n",
            $mul, " {t}, {q1}, {a}\n",
            $sum, " {", stringify!($s1), "}, {", stringify!($s0), "}, {t}\n",
            $mul, " {t}, {q0}, {a}\n",
            $sum, " {", stringify!($s0), "}, {", stringify!($s0), "}, {t}\n",
        )
    };
    (@add $mul:literal $sum:literal $at:literal $s0:ident $s1:ident) => {
        concat!(
            $mul, " {t}, {q0}, {a}\n",
            $sum, " {", stringify!($s0), "}, {", stringify!($s0), "}, {t}\n",
            $mul, " {t}, {q1}, {a}\n",
            $sum, " {", stringify!($s1), "}, {", stringify!($s1), "}, {t}\n",
        )
    };
}

/// All vectors, by their numbers.
macro_rules! all_vectors {
    ($begin:ident $mul:literal $sum:literal [$first:literal $($more:literal)*] $row:tt) => {
        concat!(
            all_vectors!(@$begin $mul $sum $first $row),
            $(all_vectors!(@add $mul $sum $more $row),)*
        )
    };
    (@$what:ident $mul:literal $sum:literal $k:literal [$($row:tt)*]) => {
        vector!($what $mul $sum $k $($row)*)
    };
}

/// The instructions that add the sums of an activation row to its totals: as integers, times the scales; or as numbers, times
/// the scales of both, after 16 bits were added up to 32 or straight.
macro_rules! end {
    (totals $at:literal $($s:ident $q:literal $half:literal)*) => {
        concat!($(
            "vpmaddwd {", stringify!($s), "}, {", stringify!($s), "}, ", $q, "\n",
            "vpaddd {", stringify!($s), "}, {", stringify!($s), "}, [{total} + 16 * ", $at, " + ", $half, "]\n",
            "vmovdqa [{total} + 16 * ", $at, " + ", $half, "], {", stringify!($s), "}\n",
        )*)
    };
    (numbers $at:literal $($s:ident $q:literal $half:literal)*) => {
        concat!(
            $("vpmaddwd {", stringify!($s), "}, {", stringify!($s), "}, [{ones}]\n",)*
            end!(sums $at $($s $q $half)*)
        )
    };
    (sums $at:literal $($s:ident $q:literal $half:literal)*) => {
        concat!("vbroadcastss {a}, [{act} + ", $at, "]\n", $(
            "vcvtdq2ps {", stringify!($s), "}, {", stringify!($s), "}\n",
            "vmulps {t}, ", $q, ", {a}\n",
            "vfmadd213ps {", stringify!($s), "}, {t}, [{total} + 16 * ", $at, " + ", $half, "]\n",
            "vmovaps [{total} + 16 * ", $at, " + ", $half, "], {", stringify!($s), "}\n",
        )*)
    };
}

/// Vectors of weights with `$rows` activation rows: how sums begin and end, how products are made and added up, and the
/// numbers of the vectors.
macro_rules! vectors {
    ($begin:ident $end:ident $mul:literal $sum:literal $k:tt, $p:ident, $rows:ident) => {
        match $rows {
            1 => vectors!(@$begin $end $mul $sum $k $p 0 a0 a1),
            2 => vectors!(@$begin $end $mul $sum $k $p 0 a0 a1 4 b0 b1),
            3 => vectors!(@$begin $end $mul $sum $k $p 0 a0 a1 4 b0 b1 8 c0 c1),
            _ => vectors!(@$begin $end $mul $sum $k $p 0 a0 a1 4 b0 b1 8 c0 c1 12 d0 d1),
        }
    };
    (@$begin:ident $end:ident $mul:literal $sum:literal $k:tt $p:ident $($at:literal $s0:ident $s1:ident)*) => {
        std::arch::asm!(
            all_vectors!($begin $mul $sum $k [$($at $s0 $s1)*]),
            "vmovdqa {q0}, [{scale}]",
            "vmovdqa {q1}, [{scale} + 32]",
            $(end!($end $at $s0 "{q0}" 0 $s1 "{q1}" 32),)*
            // Not every kind uses all operands, but all have to be named.
            "/* {fix} {act} {ones} */",
            w = in(reg) $p.w,
            x = in(reg) $p.x,
            fix = in(reg) $p.fix,
            scale = in(reg) $p.scale,
            act = in(reg) $p.act,
            ones = in(reg) ONES.0.as_ptr(),
            total = in(reg) $p.total,
            $($s0 = out(ymm_reg) _, $s1 = out(ymm_reg) _,)*
            q0 = out(ymm_reg) _,
            q1 = out(ymm_reg) _,
            a = out(ymm_reg) _,
            t = out(ymm_reg) _,
            options(nostack, preserves_flags),
        )
    };
}

/// Ones of 16 bits: a vector of scales that add up the lanes of a row.
#[repr(align(32))]
pub(super) struct Ones(pub [i16; 32]);
pub(super) static ONES: Ones = Ones([1; 32]);

/// Where a part of a tile finds what it needs, and the totals that it adds to: two registers for each activation row.
#[derive(Clone, Copy)]
pub(super) struct PartOfTile {
    /// Vectors of weights, and of activations.
    pub w: *const u8,
    pub x: *const u8,
    /// What sums begin with.
    pub fix: *const u8,
    /// Scales of weight rows, and of activation rows where those are needed.
    pub scale: *const u8,
    pub act: *const u8,
    pub total: *mut u8,
}

/// The products of `VECTORS` vectors of unsigned codes, four or eight one behind the other, with as many of signed bytes:
/// neighbours' products are added up, in 16 bits that may wrap on the way, for two registers of weight rows and each
/// activation row; sums times scales of 16 bits, both lanes of a row together, are added to the totals. With `FIXED`, sums
/// begin with what `fix` has for the activation rows.
///
/// # Safety
/// AVX2 is there; `w` and `scale` are 32-byte aligned, with so many vectors of weights and one of scales; `x` has as many of
/// activations, `fix` one if `FIXED`, and `total` the totals of `NT` rows, 32-byte aligned.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_codes<const NT: usize, const VECTORS: usize, const FIXED: bool>(p: PartOfTile) {
    const { assert!(W_VECTOR == 64 && X_VECTOR == 16 && NT > 0 && NT <= TILE_ACTS) };
    const { assert!(VECTORS == 4 || VECTORS == 8 && !FIXED) };
    // SAFETY: the caller's promise; nothing but the totals and the named registers changes.
    unsafe {
        if FIXED {
            vectors!(begin_fixed totals "vpmaddubsw" "vpaddw" [0 1 2 3], p, NT);
        } else if VECTORS == 4 {
            vectors!(begin totals "vpmaddubsw" "vpaddw" [0 1 2 3], p, NT);
        } else {
            vectors!(begin totals "vpmaddubsw" "vpaddw" [0 1 2 3 4 5 6 7], p, NT);
        }
    }
}

/// As [`add_codes`] with eight vectors; sums become f32, and `(scale * act) * sum` is added to the totals, which are f32.
///
/// # Safety
/// As [`add_codes`], with scales and totals of f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_block<const NT: usize, const FIXED: bool>(p: PartOfTile) {
    const { assert!(W_VECTOR == 64 && X_VECTOR == 16 && NT > 0 && NT <= TILE_ACTS) };
    // SAFETY: as in `add_codes`.
    unsafe {
        if FIXED {
            vectors!(begin_fixed numbers "vpmaddubsw" "vpaddw" [0 1 2 3 4 5 6 7], p, NT);
        } else {
            vectors!(begin numbers "vpmaddubsw" "vpaddw" [0 1 2 3 4 5 6 7], p, NT);
        }
    }
}

/// As [`add_block`] with sixteen vectors of pairs of 16 bits.
///
/// # Safety
/// As [`add_block`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_pairs<const NT: usize>(p: PartOfTile) {
    const { assert!(W_VECTOR == 64 && X_VECTOR == 16 && NT > 0 && NT <= TILE_ACTS) };
    // SAFETY: as in `add_codes`.
    unsafe { vectors!(begin sums "vpmaddwd" "vpaddd" [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15], p, NT) }
}
