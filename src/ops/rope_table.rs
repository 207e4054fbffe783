//! rope_table: cosine and sine of every rotation angle of the step's positions, shared by all layers.
//!
//! Shape: optional frequency factors F32 `[n_rot / 2]` -> F32 `[T, n_rot]`: cos and sin of pair 0, of pair 1, ...
//! Numerics: as ggml makes the angles: theta starts at the position (f32), pair i uses `theta / factor[i]`
//! (times the linear scale), then theta is multiplied by `theta_scale = freq_base^(-2 / n_rot)` in f32. Cosine and
//! sine are computed in f64 by our own polynomial and rounded once to f32.
//! Source: Su et al., RoFormer, 2021; `ggml_rope_ext`; Llama 3 frequency factors from `rope_freqs.weight`.

use super::{Cost, Sizes, Types, arity};
use crate::graph::{Dim, ValueType};
use crate::quant::DType;

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// Rotated dimensions of a head; even.
    pub n_rot: u32,
    /// Base of the geometric series of frequencies.
    pub freq_base: f32,
    /// Linear position scale: 1 / factor; 1 for none.
    pub freq_scale: f32,
}

/// Operands: optional frequency factors. Results: the table.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 0..=1)?;
    if a.n_rot == 0 || !a.n_rot.is_multiple_of(2) {
        return Err(format!("n_rot must be even and positive, not {}", a.n_rot));
    }
    if let Some(f) = args.first()
        && (f.dtype != DType::F32 || f.shape.len() != 1 || f.cols() != a.n_rot / 2)
    {
        return Err(format!("frequency factors must be F32 [{}], not {f}", a.n_rot / 2));
    }
    Ok(Types::from_iter([ValueType::matrix(DType::F32, Dim::T, a.n_rot)]))
}

/// About 40 operations per angle.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost {
        ops: 20 * n.elems(&outs[0]),
        weight_bytes: args.iter().map(|a| n.bytes(a)).sum(),
        data_bytes: n.bytes(&outs[0]),
    }
}
