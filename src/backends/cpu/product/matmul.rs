//! One product outside any plan, for tests, benchmarks and people who ask what a kernel does.

use crate::backends::{Case, Isa, Kernel, KernelCtx, KvLayout, Operand, StepRows, find};
use crate::error::{Class, Error, Problem, Result};
use crate::graph::{Dim, ValueType};
use crate::ops::{Op, OpKind, linear};
use crate::quant::DType;

/// 64-byte aligned storage.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn lines(bytes: usize) -> Vec<Line> {
    vec![Line([0; 64]); bytes.div_ceil(64)]
}

/// A product `x W^T` with everything that its kernel needs, to be run any number of times.
pub struct Product<'w> {
    kernel: &'static Kernel,
    weight: &'w [u8],
    dtype: DType,
    activation: DType,
    /// Rows of x, rows of W, elements of both.
    sizes: [u32; 3],
    acts: Vec<Line>,
    out: Vec<f32>,
    scratch: Vec<Line>,
    scratch_bytes: usize,
}

impl<'w> Product<'w> {
    /// Takes `weight` as bytes of a file, `[m, n]` of type `dtype`, and `x` as `[rows, n]`, quantised where the type
    /// wants it.
    ///
    /// Errors: `BadProduct` (class Usage) if sizes do not fit or the type has no kernels, `NoSuchIsa` if this
    /// machine lacks `isa`.
    pub fn new(
        dtype: DType,
        isa: Isa,
        weight: &'w [u8],
        m: usize,
        n: usize,
        x: &[f32],
    ) -> Result<Product<'w>> {
        isa.require()?;
        let bad = |why: &str| Error::new(Class::Usage, Problem::new("BadProduct", why.to_string()));
        let size = |v: usize| u32::try_from(v).map_err(|_| bad("a size is past 2^32"));
        let codec = dtype.weight_codec().ok_or_else(|| bad("the type has no kernels"))?;
        let (Some(w_row), Some(x_row)) = (dtype.row_bytes(n), codec.activation.row_bytes(n)) else {
            return Err(bad("rows are no whole number of blocks"));
        };
        if n == 0 || !x.len().is_multiple_of(n) || w_row.checked_mul(m) != Some(weight.len()) {
            return Err(bad("the weight or the activations have another size"));
        }
        let rows = x.len() / n;
        let encode = codec.activation.codec().ok_or_else(|| bad("the type has no activations"))?.encode;
        let mut acts = lines(rows * x_row);
        for (src, dst) in x.chunks_exact(n).zip(bytes_of(&mut acts).chunks_exact_mut(x_row)) {
            encode(src, dst);
        }
        let sizes = [size(rows)?, size(m)?, size(n)?];
        let types = [
            ValueType::matrix(codec.activation, Dim::T, sizes[2]),
            ValueType::matrix(dtype, Dim::Fixed(sizes[1]), sizes[2]),
        ];
        let outs = [ValueType::matrix(DType::F32, Dim::T, sizes[1])];
        let op = Op::Linear(linear::Attrs);
        let case = Case { op: &op, args: &types, outs: &outs, max_rows: sizes[0] };
        let name = |isa| format!("cpu.{}.{}.{isa}", OpKind::Linear, dtype.name().to_ascii_lowercase());
        let kernel = isa.chain().iter().find_map(|isa| find(&name(isa)));
        let kernel = kernel.ok_or_else(|| bad("no such kernel"))?;
        (kernel.supports)(&case).map_err(bad)?;
        let scratch_bytes = (kernel.scratch)(&case).next_multiple_of(64);
        Ok(Product {
            kernel,
            weight,
            dtype,
            activation: codec.activation,
            sizes,
            acts,
            out: vec![0.0; rows * m],
            scratch: Vec::new(),
            scratch_bytes,
        })
    }

    /// Runs the kernel on `threads` threads, started here, and returns `[rows, m]`.
    pub fn run(&mut self, threads: u32) -> &[f32] {
        let threads = threads.max(1);
        let need = self.scratch_bytes * threads as usize;
        if self.scratch.len() * 64 < need {
            self.scratch = lines(need);
        }
        let operand = |ptr, dtype: DType, rows, cols: u32| Operand {
            ptr,
            dtype,
            rows,
            cols,
            row_bytes: dtype.row_bytes(cols as usize).unwrap_or(0),
        };
        let [rows, m, n] = self.sizes;
        let team = Team {
            run: self.kernel.run,
            args: [
                operand(self.acts.as_mut_ptr().cast(), self.activation, rows, n),
                operand(self.weight.as_ptr().cast_mut(), self.dtype, m, n),
            ],
            outs: [operand(self.out.as_mut_ptr().cast(), DType::F32, rows, m)],
            scratch: self.scratch.as_mut_ptr().cast(),
            scratch_bytes: self.scratch_bytes,
            threads,
        };
        std::thread::scope(|s| {
            for t in 1..threads {
                let team = &team;
                // SAFETY: members 0 to threads - 1 each run once, on buffers that outlive the scope.
                s.spawn(move || unsafe { team.member(t) });
            }
            // SAFETY: as above.
            unsafe { team.member(0) }
        });
        &self.out
    }
}

/// What the members of one run share.
struct Team {
    run: crate::backends::KernelFn,
    args: [Operand; 2],
    outs: [Operand; 1],
    scratch: *mut u8,
    scratch_bytes: usize,
    threads: u32,
}

// SAFETY: members only read the operands, and write their own columns of the result and their own scratch.
unsafe impl Sync for Team {}

impl Team {
    /// # Safety
    /// The operands and scratch are live; every member runs at most once at a time.
    unsafe fn member(&self, thread: u32) {
        let ctx = KernelCtx {
            op: &Op::Linear(linear::Attrs),
            args: &self.args,
            outs: &self.outs,
            step: StepRows { tokens: &[], positions: &[], seqs: &[], out_rows: &[] },
            seqs: &[],
            kv: &KvLayout {
                n_layer: 0,
                n_ctx: 0,
                n_head_kv: 0,
                head_dim_k: 0,
                head_dim_v: 0,
                type_k: DType::F32,
                type_v: DType::F32,
            },
            scratch: self.scratch.wrapping_add(thread as usize * self.scratch_bytes),
            thread,
            n_threads: self.threads,
        };
        // SAFETY: operands have the sizes that `Product::new` checked; the weight is only read.
        unsafe { (self.run)(&ctx) }
    }
}

/// `x W^T` once, on this thread: see [`Product`].
///
/// Errors: those of [`Product::new`].
pub fn matmul(dtype: DType, isa: Isa, weight: &[u8], m: usize, n: usize, x: &[f32]) -> Result<Vec<f32>> {
    Ok(Product::new(dtype, isa, weight, m, n, x)?.run(1).to_vec())
}

fn bytes_of(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: a Line is 64 plain bytes without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64) }
}
