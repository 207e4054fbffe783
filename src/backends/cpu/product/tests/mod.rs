//! Every kernel row of the product ops against the oracle of its op, bit for bit.

mod fused;
mod k;
mod linear;

use crate::backends::{Case, Isa, Kernel, KernelCtx, KvLayout, KvSeq, Operand, StepRows, cpu};
use crate::error::Result;
use crate::graph::{Dim, ValueType};
use crate::ops::Op;
use crate::quant::DType;

/// Numbers in the style of activations and weights, the same in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// Mostly about -1 to 1, now and then a hard one: large, subnormal, either zero.
    fn value(&mut self) -> f32 {
        let bits = self.next();
        let even = (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
        match bits % 64 {
            0 => even * 3e4,
            1 => even * 1e-6,
            2 => even * 1e-39,
            3 => -0.0,
            4 => 0.0,
            _ => even,
        }
    }
    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
    /// Bytes of a weight; block types get any bytes as quants, and scales of every finite kind.
    fn weight(&mut self, dtype: DType, m: usize, n: usize) -> Vec<u8> {
        if dtype.block() > 1 {
            return (0..m * n / dtype.block()).flat_map(|_| self.block(dtype)).collect();
        }
        let values = self.values(m * n);
        let mut out = vec![0; m * dtype.row_bytes(n).unwrap()];
        (dtype.codec().unwrap().encode)(&values, &mut out);
        out
    }
    fn block(&mut self, dtype: DType) -> Vec<u8> {
        let mut b = vec![0u8; dtype.info().bytes as usize];
        for q in b.iter_mut() {
            *q = match self.next() % 8 {
                0 => 0x80,
                1 => 0x7f,
                _ => (self.next() >> 32) as u8,
            };
        }
        for at in f16_places(dtype) {
            b[*at..at + 2].copy_from_slice(&self.scale().to_le_bytes());
        }
        b
    }
    fn scale(&mut self) -> half::f16 {
        match self.next() % 16 {
            0 => half::f16::from_bits((self.next() % 1024) as u16),
            1 => half::f16::from_f32(-0.03),
            2 => half::f16::ZERO,
            3 => half::f16::MAX,
            _ => half::f16::from_f32(self.value()),
        }
    }
}

/// Where the f16 numbers of a block are.
fn f16_places(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_1 | DType::Q5_1 => &[0, 2],
        _ => &[0],
    }
}

/// A buffer at a chosen distance from 64-byte alignment.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(content: &[u8], skew: usize) -> Buffer {
        let mut bytes = vec![0xa5; content.len() + 128 + skew];
        let start = bytes.as_ptr().align_offset(64) + skew;
        bytes[start..start + content.len()].copy_from_slice(content);
        Buffer { bytes, start, len: content.len() }
    }
    fn operand(&mut self, dtype: DType, rows: usize, cols: usize) -> Operand {
        let row_bytes = dtype.row_bytes(cols).unwrap();
        assert_eq!(rows * row_bytes, self.len);
        let ptr = self.bytes[self.start..].as_mut_ptr();
        Operand { ptr, dtype, rows: rows as u32, cols: cols as u32, row_bytes }
    }
    fn content(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

fn bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// One operand or result of a kernel under test: type, rows, columns, whether it is a weight, bytes.
struct Value {
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    pub weight: bool,
    pub content: Vec<u8>,
}

impl Value {
    fn acts(dtype: DType, rows: usize, cols: usize, content: Vec<u8>) -> Value {
        Value { dtype, rows, cols, weight: false, content }
    }
    fn weight(dtype: DType, rows: usize, cols: usize, content: Vec<u8>) -> Value {
        Value { dtype, rows, cols, weight: true, content }
    }
    /// A result to be written, filled with NaN.
    fn result(dtype: DType, rows: usize, cols: usize) -> Value {
        Value::acts(dtype, rows, cols, vec![0xff; rows * dtype.row_bytes(cols).unwrap()])
    }
    fn ty(&self) -> ValueType {
        let rows = if self.weight { Dim::Fixed(self.rows as u32) } else { Dim::T };
        if self.weight && self.rows == 1 && self.dtype == DType::F32 {
            return ValueType::vector(self.dtype, self.cols as u32);
        }
        ValueType::matrix(self.dtype, rows, self.cols as u32)
    }
}

/// The step around a kernel under test.
struct Around {
    pub positions: Vec<u32>,
    pub seqs: Vec<u32>,
    pub kv: KvLayout,
    pub caches: Vec<Vec<u8>>,
}

impl Around {
    fn nothing() -> Around {
        let kv = KvLayout {
            n_layer: 0,
            n_ctx: 0,
            n_head_kv: 0,
            head_dim_k: 0,
            head_dim_v: 0,
            type_k: DType::F32,
            type_v: DType::F32,
        };
        Around { positions: vec![], seqs: vec![], kv, caches: vec![] }
    }
}

/// What [`run_once`] makes, by each way in which one row can be read.
fn run(
    kernel: &Kernel,
    op: &Op,
    args: &[Value],
    outs: &[Value],
    around: &mut Around,
    threads: u32,
) -> Vec<Vec<u8>> {
    let caches = around.caches.clone();
    let made = run_once(kernel, op, args, outs, around, threads);
    let after = std::mem::replace(&mut around.caches, caches);
    super::streams::ONE_STREAM.set(true);
    let in_order = run_once(kernel, op, args, outs, around, threads);
    super::streams::ONE_STREAM.set(false);
    assert!(made == in_order && after == around.caches, "{}: in order", kernel.name);
    made
}

/// [`super::matmul`], by each way in which one row can be read.
fn matmul(dtype: DType, isa: Isa, weight: &[u8], m: usize, n: usize, x: &[f32]) -> Result<Vec<f32>> {
    let made = super::matmul(dtype, isa, weight, m, n, x)?;
    super::streams::ONE_STREAM.set(true);
    let in_order = super::matmul(dtype, isa, weight, m, n, x)?;
    super::streams::ONE_STREAM.set(false);
    same(&format!("{dtype} {isa} m={m} n={n}, in order"), &bytes(&in_order), &made);
    Ok(made)
}

/// Runs a kernel as a team of `threads`, one member after the other, and returns the results' bytes. Weights lie
/// at odd addresses; scratch is exactly what the row asks for, and its guard must stay whole.
fn run_once(
    kernel: &Kernel,
    op: &Op,
    args: &[Value],
    outs: &[Value],
    around: &mut Around,
    threads: u32,
) -> Vec<Vec<u8>> {
    let arg_types: Vec<_> = args.iter().map(Value::ty).collect();
    let out_types: Vec<_> = outs.iter().map(Value::ty).collect();
    let max_rows = args.iter().filter(|a| !a.weight).map(|a| a.rows).max().unwrap_or(1) as u32;
    let case = Case { op, args: &arg_types, outs: &out_types, max_rows };
    (kernel.supports)(&case).unwrap();
    let skew = |v: &Value| if v.weight && v.rows > 1 { 6 } else { 0 };
    let mut arg_buffers: Vec<_> = args.iter().map(|v| Buffer::new(&v.content, skew(v))).collect();
    let mut out_buffers: Vec<_> = outs.iter().map(|v| Buffer::new(&v.content, 0)).collect();
    let operands = |buffers: &mut [Buffer], values: &[Value]| -> Vec<Operand> {
        buffers.iter_mut().zip(values).map(|(b, v)| b.operand(v.dtype, v.rows, v.cols)).collect()
    };
    let (arg_ops, out_ops) = (operands(&mut arg_buffers, args), operands(&mut out_buffers, outs));
    let seqs: Vec<_> = around.caches.iter_mut().map(|c| KvSeq { base: c.as_mut_ptr() }).collect();
    let need = (kernel.scratch)(&case);
    for thread in 0..threads {
        let mut scratch = Buffer::new(&vec![0xee; need], 0);
        let ctx = KernelCtx {
            op,
            args: &arg_ops,
            outs: &out_ops,
            step: StepRows { tokens: &[], positions: &around.positions, seqs: &around.seqs, out_rows: &[] },
            seqs: &seqs,
            kv: &around.kv,
            scratch: scratch.bytes[scratch.start..].as_mut_ptr(),
            thread,
            n_threads: threads,
        };
        // SAFETY: operands are the buffers above, sized by their types; the members run one after the other.
        unsafe { (kernel.run)(&ctx) };
        assert!(scratch.bytes[scratch.start + need..].iter().all(|b| *b == 0xa5), "{}: scratch", kernel.name);
    }
    out_buffers.iter().map(|b| b.content().to_vec()).collect()
}

/// The rows of an op for a type that this machine can run; says which it cannot.
fn rows_for(op: &str, ty: &str) -> Vec<&'static Kernel> {
    let all: Vec<_> = cpu::kernels().filter(|k| k.name.starts_with(&format!("cpu.{op}.{ty}."))).collect();
    assert!(!all.is_empty(), "no rows of {op} for {ty}");
    for k in all.iter().filter(|k| !k.isa.available()) {
        eprintln!("skipped: {} (this machine has no {})", k.name, k.isa);
    }
    all.into_iter().filter(|k| k.isa.available()).collect()
}

/// Whether the instruction set of a row for mixed types has leaves for this one: the matrix unit has none for floats.
fn has_leaves(k: &Kernel, dtype: DType) -> bool {
    super::core(k.isa, dtype).is_some()
}

const TYPES: [(DType, &str); 9] = [
    (DType::F32, "f32"),
    (DType::F16, "f16"),
    (DType::BF16, "bf16"),
    (DType::Q8_0, "q8_0"),
    (DType::Q4_0, "q4_0"),
    (DType::Q4_1, "q4_1"),
    (DType::Q5_0, "q5_0"),
    (DType::Q5_1, "q5_1"),
    (DType::IQ4_NL, "iq4_nl"),
];

/// Activations of the type that meets `weight`, from f32.
fn acts_for(weight: DType, x: &[f32], rows: usize, n: usize) -> Value {
    let ty = weight.codec().unwrap().activation;
    let mut content = vec![0; rows * ty.row_bytes(n).unwrap()];
    (ty.codec().unwrap().encode)(x, &mut content);
    Value::acts(ty, rows, n, content)
}

/// Compares f32 results bit for bit.
fn same(what: &str, got: &[u8], expected: &[f32]) {
    let got: Vec<f32> = got.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(
            g.to_bits() == e.to_bits(),
            "{what}: element {i} is {g:e} ({:08x}), the oracle says {e:e} ({:08x})",
            g.to_bits(),
            e.to_bits()
        );
    }
}
