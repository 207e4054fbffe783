//! rope: rotates pairs of dimensions of every head by the angles of the row's position.
//!
//! `(a, b) -> (a cos - b sin, a sin + b cos)`; pair i is dimensions `2i, 2i+1` (adjacent) or `i, i + n_rot/2`
//! (half-split). Dimensions past n_rot are copied.
//! Shape: F32 `[T, n_head * head_dim]`, table F32 `[T, n_rot]` -> like x.
//! Numerics: `fma(a, cos, -(b * sin))` and `fma(a, sin, b * cos)`.
//! Source: Su et al., RoFormer, 2021; `GGML_ROPE_TYPE_NORMAL` and `_NEOX`.

use super::{Cost, Sizes, Types, arity, f32_rows, traffic};
use crate::graph::ValueType;

/// Which dimensions make a pair. It belongs to the architecture: converters permute weights to fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Dimensions 2i and 2i+1 (llama files).
    Adjacent,
    /// Dimensions i and i + n_rot/2 (qwen2, phi3 and other GPT-NeoX descendants).
    HalfSplit,
}

/// Attributes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Attrs {
    /// Which dimensions make a pair.
    pub pairing: Pairing,
    /// Size of a head.
    pub head_dim: u32,
    /// Rotated dimensions of a head.
    pub n_rot: u32,
}

/// Operands: x, table. Results: the rotated rows.
pub fn infer(a: &Attrs, args: &[ValueType]) -> Result<Types, String> {
    arity(args, 2..=2)?;
    check(a, "x", &args[0], &args[1])?;
    Ok(Types::from_iter([args[0].clone()]))
}

/// x is whole heads, and the table fits.
pub(super) fn check(a: &Attrs, what: &str, x: &ValueType, table: &ValueType) -> Result<(), String> {
    f32_rows(what, x)?;
    f32_rows("the table", table)?;
    if a.head_dim == 0 || !x.cols().is_multiple_of(a.head_dim) {
        return Err(format!("rows of {} are no whole number of heads of {}", x.cols(), a.head_dim));
    }
    if a.n_rot > a.head_dim || table.cols() != a.n_rot {
        return Err(format!("n_rot {} does not fit heads of {} and the table {table}", a.n_rot, a.head_dim));
    }
    Ok(())
}

/// Six operations per rotated pair.
pub fn cost(_: &Attrs, args: &[ValueType], outs: &[ValueType], n: &Sizes) -> Cost {
    Cost { ops: 3 * n.elems(&args[0]), weight_bytes: 0, data_bytes: traffic(args, outs, n) }
}

/// The oracle: rotates whole heads in place by one row of the table.
#[inline(always)]
pub fn reference(a: &Attrs, heads: &mut [f32], table: &[f32]) {
    let half = a.n_rot as usize / 2;
    let table = table.as_chunks::<2>().0;
    for head in heads.chunks_exact_mut(a.head_dim as usize) {
        let rotated = &mut head[..2 * half];
        match a.pairing {
            Pairing::Adjacent => {
                for (pair, t) in rotated.as_chunks_mut::<2>().0.iter_mut().zip(table) {
                    *pair = rotate(*pair, *t);
                }
            }
            Pairing::HalfSplit => {
                let (low, high) = rotated.split_at_mut(half);
                for ((x, y), t) in low.iter_mut().zip(high).zip(table) {
                    [*x, *y] = rotate([*x, *y], *t);
                }
            }
        }
    }
}

/// One pair by one angle.
#[inline(always)]
pub(crate) fn rotate([x, y]: [f32; 2], [cos, sin]: [f32; 2]) -> [f32; 2] {
    [x.mul_add(cos, -(y * sin)), x.mul_add(sin, y * cos)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_both_kinds() {
        // A quarter turn of pair 0, no turn of pair 1; the last two dimensions are not rotated.
        let table = [0.0, 1.0, 1.0, 0.0];
        let mut a = Attrs { pairing: Pairing::Adjacent, head_dim: 6, n_rot: 4 };
        let mut x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        reference(&a, &mut x, &table);
        assert_eq!(x, [-2.0, 1.0, 3.0, 4.0, 5.0, 6.0, -8.0, 7.0, 9.0, 10.0, 11.0, 12.0]);
        a.pairing = Pairing::HalfSplit;
        let mut x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        reference(&a, &mut x, &table);
        assert_eq!(x, [-3.0, 2.0, 1.0, 4.0, 5.0, 6.0]);
    }
}
