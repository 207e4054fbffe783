//! One product outside any plan, for tests and for people who ask what a kernel does.

use crate::backends::{Case, Isa, KernelCtx, KvLayout, Operand, StepRows, find};
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

/// `x W^T` by the `linear` kernel of `isa` on this thread: W is `weight` as bytes of a file, `[m, n]` of type
/// `dtype`; `x` is `[rows, n]`, quantised first where the type wants it. Returns `[rows, m]`.
///
/// Errors: `BadProduct` (class Usage) if sizes do not fit or the type has no kernels, `NoSuchIsa` if this
/// machine lacks `isa`.
pub fn matmul(dtype: DType, isa: Isa, weight: &[u8], m: usize, n: usize, x: &[f32]) -> Result<Vec<f32>> {
    isa.require()?;
    let bad = |why: &str| Error::new(Class::Usage, Problem::new("BadProduct", why.to_string()));
    let size = |v: usize| u32::try_from(v).map_err(|_| bad("a size is past 2^32"));
    let codec = dtype.codec().ok_or_else(|| bad("the type has no kernels"))?;
    let (Some(w_row), Some(x_row)) = (dtype.row_bytes(n), codec.activation.row_bytes(n)) else {
        return Err(bad("rows are no whole number of blocks"));
    };
    if n == 0 || !x.len().is_multiple_of(n) || w_row.checked_mul(m) != Some(weight.len()) {
        return Err(bad("the weight or the activations have another size"));
    }
    let rows = x.len() / n;
    let mut xs = lines(rows * x_row);
    let acts = &mut bytes_of(&mut xs)[..rows * x_row];
    for (src, dst) in x.chunks_exact(n).zip(acts.chunks_exact_mut(x_row)) {
        match codec.activation.codec() {
            Some(c) => (c.encode)(src, dst),
            None => return Err(bad("the type has no activations")),
        }
    }
    let op = Op::Linear(linear::Attrs);
    let types = [
        ValueType::matrix(codec.activation, Dim::T, size(n)?),
        ValueType::matrix(dtype, Dim::Fixed(size(m)?), size(n)?),
    ];
    let outs = [ValueType::matrix(DType::F32, Dim::T, size(m)?)];
    let case = Case { op: &op, args: &types, outs: &outs, max_rows: size(rows)? };
    let name = format!("cpu.{}.{}.{isa}", OpKind::Linear, dtype.name().to_ascii_lowercase());
    let kernel = find(&name).ok_or_else(|| bad("no such kernel"))?;
    (kernel.supports)(&case).map_err(bad)?;
    let mut scratch = lines((kernel.scratch)(&case));
    let mut out = vec![0f32; rows * m];
    let operand = |ptr, dtype, rows, cols, row_bytes| Operand { ptr, dtype, rows, cols, row_bytes };
    let ctx = KernelCtx {
        op: &op,
        args: &[
            operand(xs.as_mut_ptr().cast(), codec.activation, size(rows)?, size(n)?, x_row),
            operand(weight.as_ptr().cast_mut(), dtype, size(m)?, size(n)?, w_row),
        ],
        outs: &[operand(out.as_mut_ptr().cast(), DType::F32, size(rows)?, size(m)?, m * 4)],
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
        scratch: scratch.as_mut_ptr().cast(),
        thread: 0,
        n_threads: 1,
    };
    // SAFETY: operands are the buffers above with checked sizes, the weight is only read, and this is the whole
    // team.
    unsafe { (kernel.run)(&ctx) };
    Ok(out)
}

fn bytes_of(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: a Line is 64 plain bytes without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64) }
}
