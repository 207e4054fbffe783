//! Tiles by the matrix unit (AMX-TILE, AMX-INT8): exact products of signed bytes, 16 activation rows by 16 weight rows.
//!
//! The compiler has no stable names for these instructions, so they stand here as assembly. The skeleton has the unit
//! set up before the tiles of a panel and left behind them; between two tiles only its set-up lives.
//!
//! A result of the unit is an array of 32-bit sums, `[activation row][weight row]`, which vector code finishes as the
//! AVX-512 leaves do: lanes are weight rows. The unit overlaps little by itself, so for small steps a turn of the loop has
//! parts of several: the unit stores the sums of one, makes those of the next and reads what the one after is to multiply,
//! while the core finishes one that has been stored.

use super::{Tile, Unit};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Activation rows of a tile.
pub(super) const TILE_ACTS: usize = 16;
/// Bytes of the unfinished sums of a tile, 32 weight rows.
pub(super) const ACC: usize = TILE_ACTS * 32 * 4;
/// Sums of one step of one plane.
#[repr(C, align(64))]
struct Sums16([[i32; 16]; TILE_ACTS]);

/// What the unit is set up with: `ldtilecfg`'s 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

/// For sums over `bytes` elements at a time. Tile 1 holds activations, `[row][bytes]`; 2, 4 and 7 weights, `[bytes / 4][16
/// rows][4]`; the others sums. All have 16 rows: packed activations do, whatever their number.
const fn config(bytes: u8) -> Config {
    let mut c = [0; 64];
    c[0] = 1;
    let (sums, weights) = ((16, 64), (bytes / 4, 64));
    let tiles = [sums, (16, bytes), weights, sums, weights, sums, sums, weights];
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

/// Makes a tile zero.
macro_rules! zero {
    ($tile:literal) => {
        asm!(concat!("tilezero tmm", $tile), options(nostack, nomem, preserves_flags))
    };
}
/// Reads a tile from rows that are so many bytes apart.
macro_rules! load {
    ($tile:literal, $from:expr, $stride:expr) => {
        asm!(concat!("tileloadd tmm", $tile, ", [{p} + {s}]"), p = in(reg) $from, s = in(reg) $stride,
            options(nostack, readonly, preserves_flags))
    };
}
/// Adds the products of activations and weights to sums.
macro_rules! multiply {
    ($sums:literal, $acts:literal, $weights:literal) => {
        asm!(
            concat!("tdpbssd tmm", $sums, ", tmm", $acts, ", tmm", $weights),
            options(nostack, nomem, preserves_flags)
        )
    };
}
/// Writes a tile of sums.
macro_rules! store {
    ($tile:literal, $to:expr) => {
        asm!(concat!("tilestored [{p} + {s}], tmm", $tile), p = in(reg) $to, s = in(reg) 64usize,
            options(nostack, preserves_flags))
    };
}

/// How a type's steps are laid out, and how the core finishes their sums.
pub(super) trait Steps {
    /// Elements of a step: 32, or 256 in four groups.
    const ELEMENTS: usize;
    /// Planes of weights, each of which gives sums of its own.
    const PLANES: usize;
    /// Bytes of a step of 32 packed weight rows, of one of its planes, and from four elements to the next four.
    const W_STEP: usize;
    const W_PLANE: usize;
    const W_STRIDE: usize;
    /// Bytes of a step of 16 packed activation rows.
    const X_STEP: usize;

    /// Adds a step to the sums of `N` activation rows.
    ///
    /// # Safety
    /// AVX-512 is there; `w` points to the step's weights, at the half in question; `x` to its activations, 4 bytes
    /// further for each row that is not the first; and `sums` to the rows' sums of each plane there is.
    unsafe fn finish<const N: usize>(
        acc: &mut [__m512; N],
        w: *const u8,
        x: *const u8,
        sums: [*const i32; 2],
    );
}

/// A tile against `acts` activation rows.
///
/// # Safety
/// AVX-512 with VNNI and AMX are there, the unit is set up for groups of the steps' size, and the tile's pointers are good
/// for its steps, packed as `S` says.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<S: Steps>(t: &Tile, acts: usize) {
    t.ahead.all();
    // SAFETY: the caller's promise; a half is there if one of its rows is.
    unsafe {
        match (S::ELEMENTS, t.rows > 16) {
            (32, both) => {
                for half in 0..1 + usize::from(both) {
                    let mut acc = begin(t, half);
                    blocks_of_32::<S>(t, half, &mut acc);
                    end(t, half, &acc, acts);
                }
            }
            (_, false) => {
                let mut acc = [begin(t, 0)];
                blocks_of_256::<S, 1>(t, &mut acc);
                end(t, 0, &acc[0], acts);
            }
            (_, true) => {
                let mut acc = [begin(t, 0), begin(t, 1)];
                blocks_of_256::<S, 2>(t, &mut acc);
                end(t, 0, &acc[0], acts);
                end(t, 1, &acc[1], acts);
            }
        }
    }
}

/// The sums that a half of a tile's weight rows starts from.
///
/// # Safety
/// As [`tile`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn begin(t: &Tile, half: usize) -> [__m512; TILE_ACTS] {
    let mut acc = [_mm512_setzero_ps(); TILE_ACTS];
    if !t.first {
        for (n, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the caller's promise: the cell of unfinished sums holds both halves.
            *acc = unsafe { _mm512_load_ps(t.acc.add((half * TILE_ACTS + n) * 16)) };
        }
    }
    acc
}

/// Stores the sums of a half, unfinished or, of the rows that exist, as results.
///
/// # Safety
/// As [`tile`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn end(t: &Tile, half: usize, acc: &[__m512; TILE_ACTS], acts: usize) {
    let valid = (t.rows - 16 * half).min(16);
    let mask = (0xffffu32 >> (16 - valid)) as u16;
    for (n, acc) in acc.iter().enumerate() {
        // SAFETY: the caller's promise: the cell of unfinished sums holds both halves, and results have room for every
        // activation row there is.
        unsafe {
            if !t.last {
                _mm512_store_ps(t.acc.add((half * TILE_ACTS + n) * 16), *acc);
            } else if n < acts {
                _mm512_mask_storeu_ps(t.out.ptr.add(n * t.out.stride + 16 * half), mask, *acc);
            }
        }
    }
}

/// Blocks of 32 elements, one half of the weight rows.
///
/// # Safety
/// As [`tile`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn blocks_of_32<S: Steps>(t: &Tile, half: usize, acc: &mut [__m512; TILE_ACTS]) {
    let mut made = MaybeUninit::<[Sums16; 2]>::uninit();
    let made = made.as_mut_ptr();
    let at = |s: usize| (t.w.wrapping_add(s * S::W_STEP + 64 * half), t.x.wrapping_add(s * S::X_STEP));
    // SAFETY: the caller's promise; every step is inside the packed rows. The unit writes all sums of a step before they
    // are read.
    unsafe {
        let sums = |s: usize| (&raw mut (*made)[s % 2]).cast::<i32>();
        let read = |s: usize| {
            let (w, x) = at(s.min(t.steps - 1));
            load!(1, x, 32usize);
            load!(2, w, S::W_STRIDE);
        };
        read(0);
        for s in 0..t.steps + 2 {
            if s <= t.steps {
                // Those of the step before. Before the first they are none, and lie where the next ones will.
                store!(0, sums(s + 1));
            }
            if s < t.steps {
                zero!(0);
                multiply!(0, 1, 2);
                read(s + 1);
            }
            if s >= 2 {
                let (w, x) = at(s - 2);
                S::finish(acc, w, x, [sums(s).cast_const(); 2]);
            }
        }
    }
}

/// Blocks of 256 elements. What the unit reads of the activations meets all halves and planes, whose sums depend on nothing
/// but themselves, so that one product need not wait for another.
///
/// # Safety
/// As [`tile`], with as many halves as there are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn blocks_of_256<S: Steps, const HALVES: usize>(t: &Tile, acc: &mut [[__m512; TILE_ACTS]; HALVES]) {
    let mut made = MaybeUninit::<[[Sums16; 2]; 2]>::uninit();
    let made = made.as_mut_ptr();
    let at = |s: usize| (t.w.wrapping_add(s * S::W_STEP), t.x.wrapping_add(s * S::X_STEP));
    // SAFETY: the caller's promise; every step is inside the packed rows. The unit writes all sums of a step before they
    // are read.
    unsafe {
        let sums = |half: usize, plane: usize| (&raw mut (*made)[half][plane]).cast::<i32>();
        for s in 0..t.steps {
            let (w, x) = at(s);
            zero!(0);
            zero!(3);
            zero!(5);
            zero!(6);
            for group in 0..4 {
                let w = w.add(group * 16 * S::W_STRIDE);
                load!(1, x.add(group * TILE_ACTS * 64), 64usize);
                load!(2, w, S::W_STRIDE);
                multiply!(0, 1, 2);
                if HALVES > 1 {
                    load!(4, w.add(64), S::W_STRIDE);
                    multiply!(5, 1, 4);
                }
                if S::PLANES > 1 {
                    load!(7, w.add(S::W_PLANE), S::W_STRIDE);
                    multiply!(3, 1, 7);
                    if HALVES > 1 {
                        load!(2, w.add(S::W_PLANE + 64), S::W_STRIDE);
                        multiply!(6, 1, 2);
                    }
                }
            }
            store!(0, sums(0, 0));
            if S::PLANES > 1 {
                store!(3, sums(0, 1));
            }
            if HALVES > 1 {
                store!(5, sums(1, 0));
                if S::PLANES > 1 {
                    store!(6, sums(1, 1));
                }
            }
            for (half, acc) in acc.iter_mut().enumerate() {
                let sums = [0, 1].map(|plane| sums(half, plane).cast_const());
                S::finish(acc, w.add(64 * half), x, sums);
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
            multiply!(0, 1, 2);
            multiply!(3, 1, 4);
            multiply!(5, 1, 7);
            multiply!(6, 1, 2);
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
