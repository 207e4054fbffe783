//! Tiles by the matrix unit (AMX-TILE, AMX-INT8): exact products of signed bytes, 16 activation rows by 16 weight rows.
//!
//! The compiler has no stable names for these instructions, so they stand here as assembly. The skeleton has the unit
//! set up before the tiles of a panel and left behind them; between two tiles only its set-up lives.
//!
//! A result of the unit is an array of 32-bit sums, `[activation row][weight row]`, which vector code finishes as the
//! AVX-512 leaves do: lanes are weight rows. While the unit makes the sums of one step, the core finishes those of the
//! step before.

use super::{Tile, Unit};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Activation rows of a tile.
pub(super) const TILE_ACTS: usize = 16;
/// Bytes of the unfinished sums of a tile, 32 weight rows.
pub(super) const ACC: usize = TILE_ACTS * 32 * 4;
/// Sums of one step of one plane.
type Sums16 = [[i32; 16]; TILE_ACTS];

/// Sums of two steps of up to two planes: `[plane][step % 2]`.
#[repr(C, align(64))]
struct Buffers([[Sums16; 2]; 2]);

/// What the unit is set up with: `ldtilecfg`'s 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

/// For sums over `bytes` elements at a time. Tile 0 holds sums, 1 and 3 activations, `[row][bytes]`, 2 and 4 weights,
/// `[bytes / 4][16 rows][4]`; 5 holds more sums. All have 16 rows: packed activations do, whatever their number.
const fn config(bytes: u8) -> Config {
    let mut c = [0; 64];
    c[0] = 1;
    let tiles = [(16, 64), (16, bytes), (bytes / 4, 64), (16, bytes), (bytes / 4, 64), (16, 64)];
    let mut i = 0;
    while i < tiles.len() {
        c[48 + i] = tiles[i].0;
        c[16 + 2 * i] = tiles[i].1;
        i += 1;
    }
    Config(c)
}

static CONFIG_32: Config = config(32);
static CONFIG_64: Config = config(64);

/// For products of 32 elements at a time.
pub(super) static GROUPS_OF_32: Unit = Unit {
    // SAFETY: the promise of `Unit`, passed on.
    enter: || unsafe { configure(&CONFIG_32) },
    leave: release,
};
/// For products of 64 elements at a time.
pub(super) static GROUPS_OF_64: Unit = Unit {
    // SAFETY: the promise of `Unit`, passed on.
    enter: || unsafe { configure(&CONFIG_64) },
    leave: release,
};

/// Sets the unit up.
///
/// # Safety
/// The machine has AMX and this process may use it.
#[inline(always)]
unsafe fn configure(config: &'static Config) {
    // SAFETY: the caller's promise; the 64 bytes are read, nothing is written.
    unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly, preserves_flags)) }
}

/// Leaves the unit, so that nobody has to keep its state.
///
/// # Safety
/// The machine has AMX and this process may use it.
#[inline]
unsafe fn release() {
    // SAFETY: the caller's promise; no memory is touched.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}

/// Sums of one group of elements: `out = x * w`.
///
/// # Safety
/// The unit is set up; `x` points to rows `x_stride` bytes apart, `w` to groups of four elements `w_stride` bytes
/// apart, all readable, and `out` takes the sums, of which it gets all.
#[inline(always)]
unsafe fn one(x: *const u8, x_stride: usize, w: *const u8, w_stride: usize, out: *mut i32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm1, [{x} + {xs}]",
            "tileloadd tmm2, [{w} + {ws}]",
            "tdpbssd tmm0, tmm1, tmm2",
            "tilestored [{out} + {os}], tmm0",
            x = in(reg) x, xs = in(reg) x_stride, w = in(reg) w, ws = in(reg) w_stride,
            out = in(reg) out, os = in(reg) 64usize,
            options(nostack, preserves_flags)
        );
    }
}

/// Sums of four groups of 64 elements: `out = x * w`. Groups of activations are `x_next` bytes apart, those of weights
/// 16 times `w_stride`.
///
/// # Safety
/// As [`one`].
#[inline(always)]
unsafe fn four(x: *const u8, x_next: usize, w: *const u8, w_stride: usize, out: *mut i32) {
    let w_next = 16 * w_stride;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm1, [{x} + {s}]",
            "tileloadd tmm2, [{w} + {ws}]",
            "tdpbssd tmm0, tmm1, tmm2",
            "tileloadd tmm3, [{x1} + {s}]",
            "tileloadd tmm4, [{w1} + {ws}]",
            "tdpbssd tmm0, tmm3, tmm4",
            "tileloadd tmm1, [{x2} + {s}]",
            "tileloadd tmm2, [{w2} + {ws}]",
            "tdpbssd tmm0, tmm1, tmm2",
            "tileloadd tmm3, [{x3} + {s}]",
            "tileloadd tmm4, [{w3} + {ws}]",
            "tdpbssd tmm0, tmm3, tmm4",
            "tilestored [{out} + {s}], tmm0",
            x = in(reg) x, x1 = in(reg) x.add(x_next), x2 = in(reg) x.add(2 * x_next), x3 = in(reg) x.add(3 * x_next),
            w = in(reg) w, w1 = in(reg) w.add(w_next), w2 = in(reg) w.add(2 * w_next), w3 = in(reg) w.add(3 * w_next),
            ws = in(reg) w_stride, s = in(reg) 64usize, out = in(reg) out,
            options(nostack, preserves_flags)
        );
    }
}

/// How a type's steps are laid out, and how the core finishes their sums.
pub(super) trait Steps {
    /// Elements that the unit takes at a time: 32, or 64 in four groups.
    const GROUP: usize;
    /// Planes of weights, each of which gives sums of its own.
    const PLANES: usize;
    /// Bytes of a step of 32 packed weight rows, of one of its planes, and from four elements to the next four.
    const W_STEP: usize;
    const W_PLANE: usize;
    const W_STRIDE: usize;
    /// Bytes of a step of 16 packed activation rows.
    const X_STEP: usize;

    /// Adds a step to the sums of all activation rows.
    ///
    /// # Safety
    /// AVX-512 is there; `w` points to the step's weights, at the half in question, `x` to its activations, and
    /// `sums` point to the sums of each plane there is.
    unsafe fn finish(acc: &mut [__m512; TILE_ACTS], w: *const u8, x: *const u8, sums: [*const i32; 2]);
}

/// A tile against `acts` activation rows.
///
/// # Safety
/// AVX-512 with VNNI and AMX are there, the unit is set up for groups of `S::GROUP`, and the tile's pointers are good for
/// its steps, packed as `S` says.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<S: Steps>(t: &Tile, acts: usize) {
    t.ahead.all();
    let mut buffers = MaybeUninit::<Buffers>::uninit();
    // SAFETY: the caller's promise; every step is inside the packed rows. The unit writes all sums of a step before
    // they are read.
    unsafe {
        for half in 0..t.rows.div_ceil(16) {
            let mut acc = [_mm512_setzero_ps(); TILE_ACTS];
            let unfinished = t.acc.wrapping_add(half * TILE_ACTS * 16);
            if !t.first {
                for (n, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_load_ps(unfinished.add(16 * n));
                }
            }
            let at = |s: usize| (t.w.add(s * S::W_STEP + 64 * half), t.x.add(s * S::X_STEP));
            let mut multiply = |s: usize| -> [*const i32; 2] {
                let (w, x) = at(s);
                let planes = &raw mut (*buffers.as_mut_ptr()).0;
                std::array::from_fn(|plane| {
                    let out = (&raw mut (*planes)[plane][s % 2]).cast::<i32>();
                    let w = w.wrapping_add(plane * S::W_PLANE);
                    match S::GROUP {
                        _ if plane >= S::PLANES => {}
                        64 => four(x, TILE_ACTS * 64, w, S::W_STRIDE, out),
                        _ => one(x, S::GROUP, w, S::W_STRIDE, out),
                    }
                    out.cast_const()
                })
            };
            let mut sums = multiply(0);
            for s in 0..t.steps {
                let made = sums;
                if s + 1 < t.steps {
                    sums = multiply(s + 1);
                }
                let (w, x) = at(s);
                S::finish(&mut acc, w, x, made);
            }
            if !t.last {
                for (n, acc) in acc.iter().enumerate() {
                    _mm512_store_ps(unfinished.add(16 * n), *acc);
                }
                continue;
            }
            let valid = (t.rows - 16 * half).min(16);
            let mask = (0xffffu32 >> (16 - valid)) as u16;
            for (n, acc) in acc.iter().enumerate().take(acts) {
                _mm512_mask_storeu_ps(t.out.ptr.add(n * t.out.stride + 16 * half), mask, *acc);
            }
        }
    }
}

/// A tile against `N` activation rows.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn tile_of<S: Steps, const N: usize>(t: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { tile::<S>(t, N) }
}

/// The tiles of a type for 1, 2, ... 16 activation rows.
macro_rules! tiles {
    ($steps:ty) => {
        $crate::backends::cpu::product::tiles_amx::tiles!(@of $steps: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@of $steps:ty: $($n:literal)*) => {
        &[$($crate::backends::cpu::product::tiles_amx::tile_of::<$steps, $n>),*]
    };
}
pub(super) use tiles;

/// Operations that `rounds` rounds of [`multiply_rounds`] make.
pub(in crate::backends::cpu) fn round_ops(rounds: usize) -> usize {
    rounds * 4 * 2 * 16 * 16 * 64
}

/// Multiplies as fast as the unit can, for the measurement of its limit.
///
/// # Safety
/// The machine has AMX and this process may use it.
pub(in crate::backends::cpu) unsafe fn multiply_rounds(rounds: usize) {
    // SAFETY: the caller's promise; registers that were never loaded hold zeros after `ldtilecfg`.
    unsafe {
        configure(&CONFIG_64);
        for _ in 0..rounds {
            asm!(
                "tdpbssd tmm0, tmm1, tmm2",
                "tdpbssd tmm5, tmm1, tmm2",
                "tdpbssd tmm0, tmm3, tmm4",
                "tdpbssd tmm5, tmm3, tmm4",
                options(nostack, nomem, preserves_flags)
            );
        }
        release();
    }
}

/// Whether the machine has the unit and the system lets this process use it.
pub(in crate::backends) fn available() -> bool {
    static THERE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *THERE.get_or_init(|| has_unit() && may_use())
}

/// AMX-TILE and AMX-INT8 in CPUID, and tile state enabled by the system (bits 17 and 18 of XCR0).
fn has_unit() -> bool {
    if !is_x86_feature_detected!("xsave") || __cpuid(0).eax < 7 {
        return false;
    }
    let edx = __cpuid_count(7, 0).edx;
    // OSXSAVE: the system uses XSAVE, so `xgetbv` may be asked.
    let osxsave = __cpuid(1).ecx & (1 << 27) != 0;
    edx & (3 << 24) == 3 << 24 && osxsave && xcr0() & (3 << 17) == 3 << 17
}

#[target_feature(enable = "xsave")]
fn xcr0_inner() -> u64 {
    // SAFETY: the feature is there and the system has enabled it, as the caller of `xcr0` has seen.
    unsafe { _xgetbv(0) }
}

fn xcr0() -> u64 {
    // SAFETY: `has_unit` has found XSAVE and OSXSAVE.
    unsafe { xcr0_inner() }
}

/// Asks Linux for the state of tiles, which it gives to all threads of a process that asks.
#[cfg(target_os = "linux")]
fn may_use() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn may_use() -> bool {
    false
}
