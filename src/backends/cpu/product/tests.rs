//! Every kernel row of the product ops against the oracle of its op, bit for bit.

use crate::backends::{Case, Isa, Kernel, KernelCtx, KvLayout, KvSeq, Operand, StepRows, cpu};
use crate::graph::{Dim, ValueType};
use crate::ops::{Op, linear, linear_add, linear_qkv, quantize};
use crate::quant::DType;

/// Numbers in the style of activations and weights, the same in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
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
    pub(super) fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
    /// Bytes of a weight; block types get raw quants, -128 among them, and scales of every finite kind.
    pub(super) fn weight(&mut self, dtype: DType, m: usize, n: usize) -> Vec<u8> {
        if dtype == DType::Q8_0 {
            return (0..m * n / 32).flat_map(|_| self.block()).collect();
        }
        let values = self.values(m * n);
        let mut out = vec![0; m * dtype.row_bytes(n).unwrap()];
        (dtype.codec().unwrap().encode)(&values, &mut out);
        out
    }
    fn block(&mut self) -> [u8; 34] {
        let mut b = [0u8; 34];
        for q in b.iter_mut() {
            *q = match self.next() % 8 {
                0 => 0x80,
                1 => 0x7f,
                _ => (self.next() >> 32) as u8,
            };
        }
        let d = match self.next() % 16 {
            0 => half::f16::from_bits((self.next() % 1024) as u16),
            1 => half::f16::from_f32(-0.03),
            2 => half::f16::ZERO,
            3 => half::f16::MAX,
            _ => half::f16::from_f32(self.value()),
        };
        b[..2].copy_from_slice(&d.to_le_bytes());
        b
    }
}

/// A buffer at a chosen distance from 64-byte alignment.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(super) fn new(content: &[u8], skew: usize) -> Buffer {
        let mut bytes = vec![0xa5; content.len() + 128 + skew];
        let start = bytes.as_ptr().align_offset(64) + skew;
        bytes[start..start + content.len()].copy_from_slice(content);
        Buffer { bytes, start, len: content.len() }
    }
    pub(super) fn operand(&mut self, dtype: DType, rows: usize, cols: usize) -> Operand {
        let row_bytes = dtype.row_bytes(cols).unwrap();
        assert_eq!(rows * row_bytes, self.len);
        let ptr = self.bytes[self.start..].as_mut_ptr();
        Operand { ptr, dtype, rows: rows as u32, cols: cols as u32, row_bytes }
    }
    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

pub(super) fn bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// One operand or result of a kernel under test: type, rows, columns, whether it is a weight, bytes.
pub(super) struct Value {
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    pub weight: bool,
    pub content: Vec<u8>,
}

impl Value {
    pub(super) fn acts(dtype: DType, rows: usize, cols: usize, content: Vec<u8>) -> Value {
        Value { dtype, rows, cols, weight: false, content }
    }
    pub(super) fn weight(dtype: DType, rows: usize, cols: usize, content: Vec<u8>) -> Value {
        Value { dtype, rows, cols, weight: true, content }
    }
    /// A result to be written, filled with NaN.
    pub(super) fn result(dtype: DType, rows: usize, cols: usize) -> Value {
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
pub(super) struct Around {
    pub positions: Vec<u32>,
    pub seqs: Vec<u32>,
    pub kv: KvLayout,
    pub caches: Vec<Vec<u8>>,
}

impl Around {
    pub(super) fn nothing() -> Around {
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

/// Runs a kernel as a team of `threads`, one member after the other, and returns the results' bytes. Weights lie
/// at odd addresses; scratch is exactly what the row asks for, and its guard must stay whole.
pub(super) fn run(
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
pub(super) fn rows_for(op: &str, ty: &str) -> Vec<&'static Kernel> {
    let all: Vec<_> = cpu::kernels().filter(|k| k.name.starts_with(&format!("cpu.{op}.{ty}."))).collect();
    assert!(!all.is_empty(), "no rows of {op} for {ty}");
    for k in all.iter().filter(|k| !k.isa.available()) {
        eprintln!("skipped: {} (this machine has no {})", k.name, k.isa);
    }
    all.into_iter().filter(|k| k.isa.available()).collect()
}

pub(super) const TYPES: [(DType, &str); 4] =
    [(DType::F32, "f32"), (DType::F16, "f16"), (DType::BF16, "bf16"), (DType::Q8_0, "q8_0")];

/// Activations of the type that meets `weight`, from f32.
pub(super) fn acts_for(weight: DType, x: &[f32], rows: usize, n: usize) -> Value {
    let ty = weight.codec().unwrap().activation;
    let mut content = vec![0; rows * ty.row_bytes(n).unwrap()];
    (ty.codec().unwrap().encode)(x, &mut content);
    Value::acts(ty, rows, n, content)
}

/// Compares f32 results bit for bit.
pub(super) fn same(what: &str, got: &[u8], expected: &[f32]) {
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

const SIZES_M: [usize; 6] = [1, 5, 17, 33, 100, 130];
const ROWS: [usize; 9] = [1, 2, 3, 5, 6, 7, 13, 32, 65];

fn lengths(dtype: DType) -> &'static [usize] {
    if dtype == DType::Q8_0 { &[32, 96, 288] } else { &[1, 15, 16, 100, 288, 1040] }
}

#[test]
fn linear_rows_are_the_oracle() {
    for (dtype, name) in TYPES {
        let kernels = rows_for("linear", name);
        for (i, m) in SIZES_M.into_iter().enumerate() {
            for n in lengths(dtype).iter().copied() {
                for (j, rows) in ROWS.into_iter().enumerate() {
                    let mut r = Random::new((m * 1000 + n * 7 + rows) as u64);
                    let x = r.values(rows * n);
                    let weight = r.weight(dtype, m, n);
                    let bias = r.values(m);
                    let with_bias = (i + j) % 2 == 0;
                    let mut expected = vec![0f32; rows * m];
                    let acts = acts_for(dtype, &x, rows, n);
                    let b = with_bias.then_some(&bias[..]);
                    linear::reference(dtype, &weight, &acts.content, n, b, &mut expected);
                    let mut args = vec![acts, Value::weight(dtype, m, n, weight)];
                    if with_bias {
                        args.push(Value::weight(DType::F32, 1, m, bytes(&bias)));
                    }
                    let outs = [Value::result(DType::F32, rows, m)];
                    let threads = 1 + (i + j) as u32 % 3;
                    for k in &kernels {
                        let op = Op::Linear(linear::Attrs);
                        let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                        same(&format!("{} m={m} n={n} rows={rows}", k.name), &got[0], &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn linear_add_rows_are_the_oracle() {
    for (dtype, name) in TYPES {
        for (m, n, rows) in [(33, 96, 1), (100, 64, 9), (7, 320, 3)] {
            for with_bias in [false, true] {
                let mut r = Random::new((m + n + rows) as u64);
                let x = r.values(rows * n);
                let weight = r.weight(dtype, m, n);
                let (bias, residual) = (r.values(m), r.values(rows * m));
                let acts = acts_for(dtype, &x, rows, n);
                let mut expected = vec![0f32; rows * m];
                let b = with_bias.then_some(&bias[..]);
                linear_add::reference(dtype, &weight, &acts.content, n, b, &residual, &mut expected);
                let mut args = vec![acts, Value::weight(dtype, m, n, weight)];
                if with_bias {
                    args.push(Value::weight(DType::F32, 1, m, bytes(&bias)));
                }
                args.push(Value::acts(DType::F32, rows, m, bytes(&residual)));
                let outs = [Value::result(DType::F32, rows, m)];
                let op = Op::LinearAdd(linear_add::Attrs { residual_first: true });
                for k in rows_for("linear_add", name) {
                    for threads in 1..=3 {
                        let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                        same(&format!("{} m={m} n={n} rows={rows}", k.name), &got[0], &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn linear_qkv_rows_are_the_oracle() {
    let mixed = [DType::F16, DType::F32, DType::BF16];
    for (dtypes, name) in TYPES.map(|(t, n)| ([t; 3], n)).into_iter().chain([(mixed, "mixed")]) {
        for (ms, n, rows) in [([64, 16, 16], 64, 1), ([33, 5, 70], 96, 4), ([130, 32, 31], 64, 20)] {
            for with_bias in [false, true] {
                let mut r = Random::new((ms[0] + n + rows) as u64);
                let x = r.values(rows * n);
                let weights: Vec<_> = (0..3).map(|i| r.weight(dtypes[i], ms[i], n)).collect();
                let biases = ms.map(|m| r.values(m));
                let acts = acts_for(dtypes[0], &x, rows, n);
                let mut expected = ms.map(|m| vec![0f32; rows * m]);
                {
                    let [q, k, v] = &mut expected;
                    let b = |i: usize| with_bias.then_some(&biases[i][..]);
                    let w = [&weights[0][..], &weights[1], &weights[2]];
                    linear_qkv::reference(dtypes, w, &acts.content, n, [b(0), b(1), b(2)], [q, k, v]);
                }
                let mut args = vec![acts];
                args.extend((0..3).map(|i| Value::weight(dtypes[i], ms[i], n, weights[i].clone())));
                if with_bias {
                    args.extend((0..3).map(|i| Value::weight(DType::F32, 1, ms[i], bytes(&biases[i]))));
                }
                let outs = ms.map(|m| Value::result(DType::F32, rows, m));
                let op = Op::LinearQkv(linear_qkv::Attrs);
                for k in rows_for("linear_qkv", name) {
                    for threads in 1..=3 {
                        let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                        for i in 0..3 {
                            same(
                                &format!("{} {ms:?} n={n} rows={rows} [{i}]", k.name),
                                &got[i],
                                &expected[i],
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_of_a_batch_is_that_row_alone() {
    for (dtype, name) in TYPES {
        let (m, n, rows) = (70, 160, 47);
        let mut r = Random::new(5);
        let x = r.values(rows * n);
        let weight = r.weight(dtype, m, n);
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            let together = super::matmul(dtype, isa, &weight, m, n, &x).unwrap();
            for t in 0..rows {
                let alone = super::matmul(dtype, isa, &weight, m, n, &x[t * n..(t + 1) * n]).unwrap();
                same(&format!("{name} {isa} row {t}"), &bytes(&alone), &together[t * m..(t + 1) * m]);
            }
        }
    }
}

#[test]
fn long_rows_cross_every_cut() {
    // Several passes, panels and ranges of steps: n past a pass's bytes for 6 rows, and rows past one pass.
    for (dtype, n, rows) in [
        (DType::F32, 24_592, 40),
        (DType::F16, 4096, 70),
        (DType::Q8_0, 24_576, 40),
        (DType::Q8_0, 2048, 400),
    ] {
        let m = 37;
        let mut r = Random::new(11);
        let x = r.values(rows * n);
        let weight = r.weight(dtype, m, n);
        let acts = acts_for(dtype, &x, rows, n);
        let mut expected = vec![0f32; rows * m];
        linear::reference(dtype, &weight, &acts.content, n, None, &mut expected);
        for isa in [Isa::Avx2, Isa::Avx512].into_iter().filter(|i| i.available()) {
            let got = super::matmul(dtype, isa, &weight, m, n, &x).unwrap();
            same(&format!("{dtype} {isa} n={n} rows={rows}"), &bytes(&got), &expected);
        }
    }
}

#[test]
fn quantize_rows_are_the_oracle() {
    for (n, rows) in [(32, 1), (96, 5), (2048, 3)] {
        let mut r = Random::new((n + rows) as u64);
        let mut x = r.values(rows * n);
        x[..32].fill(0.0);
        if rows > 1 {
            x[32..64].fill(-1e-38);
            x[64..96].iter_mut().for_each(|v| *v *= 1e-37);
            x[n..n + 32].iter_mut().enumerate().for_each(|(i, v)| *v = i as f32 / 2.0 - 127.0);
            x[2 * n..2 * n + 32].fill(f32::MAX);
        }
        let mut expected = vec![0; rows * n / 32 * 34];
        quantize::reference(DType::Q8_0, &x, n, &mut expected);
        let op = Op::Quantize(quantize::Attrs { to: DType::Q8_0 });
        for k in rows_for("quantize", "q8_0") {
            for threads in 1..=3 {
                let args = [Value::acts(DType::F32, rows, n, bytes(&x))];
                let outs = [Value::result(DType::Q8_0, rows, n)];
                let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                assert_eq!(got[0], expected, "{} n={n} rows={rows}", k.name);
            }
        }
    }
}

#[test]
fn products_that_do_not_fit_are_refused() {
    let x = [0f32; 32];
    for (dtype, weight, m, n) in [
        (DType::F32, 128, 1, 31),
        (DType::F32, 127, 1, 32),
        (DType::Q8_0, 34, 1, 16),
        (DType::Q4_0, 18, 1, 32),
    ] {
        let e = super::matmul(dtype, Isa::Scalar, &vec![0; weight], m, n, &x).unwrap_err();
        assert_eq!(e.code(), "BadProduct", "{dtype} {m} {n}");
    }
}
