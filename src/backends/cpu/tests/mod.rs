//! Every kernel of an op against its reference, bit for bit, on teams of one, two and three.

mod attention;
mod rows;

use crate::backends::{Case, Isa, Kernel, KernelCtx, KvLayout, KvSeq, Operand, StepRows, cpu};
use crate::graph::{Dim, ValueType};
use crate::ops::Op;
use crate::quant::DType;

/// A cache line, so that buffers are aligned as the arena is.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes aligned to 64 with a guard behind them.
#[derive(Clone)]
pub struct Buf {
    lines: Vec<Line>,
    len: usize,
}

/// What fills memory nobody has written: a NaN as f32 and as f16.
const UNWRITTEN: u8 = 0xff;

impl Buf {
    pub fn new(len: usize) -> Buf {
        Buf { lines: vec![Line([UNWRITTEN; 64]); len / 64 + 2], len }
    }
    pub fn from_bytes(bytes: &[u8]) -> Buf {
        let mut b = Buf::new(bytes.len());
        b.bytes_mut().copy_from_slice(bytes);
        b
    }
    pub fn from_f32(x: &[f32]) -> Buf {
        Buf::from_bytes(bytemuck::cast_slice(x))
    }
    fn all(&self) -> &[u8] {
        // SAFETY: lines are plain bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 64) }
    }
    pub fn bytes(&self) -> &[u8] {
        &self.all()[..self.len]
    }
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: lines are plain bytes, and there are more of them than `len`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
    pub fn ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
    fn check_guard(&self, what: &str) {
        assert!(self.all()[self.len..].iter().all(|b| *b == UNWRITTEN), "{what}: written past the end");
    }
}

/// Reproducible numbers of ordinary size, a few of them zero.
pub fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let m = (s >> 8) as f32 / 8_388_608.0 - 1.0;
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            m * [0.0, 0.02, 0.3, 1.0, 1.0, 3.0, 8.0, 1.0][(s >> 24) as usize % 8]
        })
        .collect()
}

pub fn bits(x: &[f32]) -> Vec<u8> {
    bytemuck::cast_slice(x).to_vec()
}

/// `[T, cols]` in f32.
pub fn rows_of(cols: usize) -> ValueType {
    ValueType::matrix(DType::F32, Dim::T, cols as u32)
}

/// `[n]` in f32.
pub fn vector(n: usize) -> ValueType {
    ValueType::vector(DType::F32, n as u32)
}

/// One op with operands, the rows of a step, and caches.
pub struct Bench {
    pub op: Op,
    pub args: Vec<(ValueType, Buf)>,
    pub tokens: Vec<u32>,
    pub positions: Vec<u32>,
    pub seqs: Vec<u32>,
    pub out_rows: Vec<u32>,
    pub kv: KvLayout,
    pub caches: Vec<Buf>,
}

/// A layout for ops that have none.
pub const NO_KV: KvLayout = KvLayout {
    n_layer: 0,
    n_ctx: 0,
    n_head_kv: 0,
    head_dim_k: 0,
    head_dim_v: 0,
    type_k: DType::F32,
    type_v: DType::F32,
};

impl Bench {
    /// An op over `rows` rows of one sequence from position 0.
    pub fn new(op: Op, rows: usize, args: Vec<(ValueType, Buf)>) -> Bench {
        let rows = rows as u32;
        Bench {
            op,
            args,
            tokens: vec![0; rows as usize],
            positions: (0..rows).collect(),
            seqs: vec![0; rows as usize],
            out_rows: (0..rows).collect(),
            kv: NO_KV,
            caches: Vec::new(),
        }
    }

    fn operand(&self, ty: &ValueType, ptr: *mut u8) -> Operand {
        let rows = match ty.rows() {
            Dim::Fixed(n) => n,
            Dim::T => self.positions.len() as u32,
            Dim::R => self.out_rows.len() as u32,
            Dim::S => 0,
        };
        let ptr = if ty.rows() == Dim::S { std::ptr::null_mut() } else { ptr };
        let row_bytes = ty.dtype.row_bytes(ty.cols() as usize).unwrap();
        Operand { ptr, dtype: ty.dtype, rows, cols: ty.cols(), row_bytes }
    }

    /// Results and caches after one kernel has run on a team.
    pub fn run(&mut self, kernel: &Kernel, n_threads: u32) -> (Vec<Buf>, Vec<Buf>) {
        let types: Vec<ValueType> = self.args.iter().map(|a| a.0.clone()).collect();
        let out_types = self.op.infer(&types).unwrap();
        let case =
            Case { op: &self.op, args: &types, outs: &out_types, max_rows: self.positions.len() as u32 };
        assert_eq!((kernel.supports)(&case), Ok(()), "{}", kernel.name);
        let mut scratch = Buf::new((kernel.scratch)(&case));
        let mut caches = self.caches.clone();
        let mut outs: Vec<Buf> = out_types
            .iter()
            .map(|ty| {
                let o = self.operand(ty, std::ptr::null_mut());
                Buf::new(o.rows as usize * o.row_bytes)
            })
            .collect();
        let args_ptr: Vec<*mut u8> = self.args.iter_mut().map(|a| a.1.ptr()).collect();
        let args: Vec<Operand> = types.iter().zip(args_ptr).map(|(t, p)| self.operand(t, p)).collect();
        let out_ops: Vec<Operand> =
            out_types.iter().zip(&mut outs).map(|(t, b)| self.operand(t, b.ptr())).collect();
        let seqs: Vec<KvSeq> = caches.iter_mut().map(|c| KvSeq { base: c.ptr() }).collect();
        for thread in 0..n_threads {
            scratch.bytes_mut().fill(UNWRITTEN);
            let ctx = KernelCtx {
                op: &self.op,
                args: &args,
                outs: &out_ops,
                step: StepRows {
                    tokens: &self.tokens,
                    positions: &self.positions,
                    seqs: &self.seqs,
                    out_rows: &self.out_rows,
                },
                seqs: &seqs,
                kv: &self.kv,
                scratch: scratch.ptr(),
                thread,
                n_threads,
            };
            // SAFETY: operands, caches and scratch are as large as types, layout and kernel ask for, members run
            // one after the other, and the caller of `kernels` left out sets this machine has not.
            unsafe { (kernel.run)(&ctx) };
        }
        scratch.check_guard(kernel.name);
        for b in outs.iter().chain(&caches) {
            b.check_guard(kernel.name);
        }
        (outs, caches)
    }

    /// The kernels that take this op and its operands and that this machine can run.
    pub fn kernels(&self) -> Vec<&'static Kernel> {
        let types: Vec<ValueType> = self.args.iter().map(|a| a.0.clone()).collect();
        let outs = self.op.infer(&types).unwrap();
        let case = Case { op: &self.op, args: &types, outs: &outs, max_rows: 1 };
        let mine = |k: &&Kernel| k.op == self.op.kind() && k.isa.available() && (k.supports)(&case).is_ok();
        let all: Vec<_> = cpu::kernels().filter(mine).collect();
        // The matrix unit has kernels for products of blocks alone; all else is that of AVX-512.
        let isas = Isa::ALL.into_iter().filter(|i| i.available() && *i != Isa::Amx);
        for isa in isas {
            assert!(all.iter().any(|k| k.isa == isa), "no {isa} kernel for {}", self.op.kind());
        }
        all
    }

    /// Every kernel on every team must make exactly these results (`None`: not looked at) and caches.
    pub fn check(&mut self, what: &str, want: &[Option<Vec<u8>>], want_caches: &[Vec<u8>]) {
        for kernel in self.kernels() {
            for n_threads in 1..=3 {
                let (outs, caches) = self.run(kernel, n_threads);
                for (i, (o, w)) in outs.iter().zip(want).enumerate() {
                    let Some(w) = w else { continue };
                    assert_same(o.bytes(), w, &format!("{} x{n_threads}, {what}, result {i}", kernel.name));
                }
                for (i, (c, w)) in caches.iter().zip(want_caches).enumerate() {
                    assert_same(c.bytes(), w, &format!("{} x{n_threads}, {what}, cache {i}", kernel.name));
                }
            }
        }
    }
}

fn assert_same(got: &[u8], want: &[u8], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    if let Some(at) = got.iter().zip(want).position(|(a, b)| a != b) {
        let word = |b: &[u8]| b[at / 4 * 4..].first_chunk::<4>().map(|w| f32::from_le_bytes(*w));
        panic!("{what}: byte {at} differs, as f32 {:?} instead of {:?}", word(got), word(want));
    }
}
