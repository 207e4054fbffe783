//! CPU kernels: scalar, AVX2 and AVX-512, the same bits. One file per op, one row per kernel.

mod act_blocks;
mod add;
mod add_rms_norm;
mod add_rms_norm_quantize;
mod attention;
mod attention_direct;
mod attention_tile;
mod cells;
mod embed;
mod entry;
mod kv_append;
pub mod limits;
mod linear;
mod linear_add;
mod linear_qkv;
mod linear_qkv_rope_kv;
mod linear_swiglu;
pub mod product;
mod quantize;
mod rms_norm;
mod rms_norm_quantize;
mod rope;
mod rope_kv;
mod rope_table;
mod select_rows;
pub mod simd;
pub mod sum_exp;
mod swiglu;

#[cfg(test)]
mod tests;

use super::Kernel;

/// Tables of all op files.
const TABLES: &[&[Kernel]] = &[
    add::KERNELS,
    add_rms_norm::KERNELS,
    add_rms_norm_quantize::q8_0::KERNELS,
    add_rms_norm_quantize::q8_1::KERNELS,
    add_rms_norm_quantize::q8_k::KERNELS,
    attention::KERNELS,
    embed::KERNELS,
    kv_append::KERNELS,
    linear::KERNELS,
    linear_add::KERNELS,
    linear_qkv::KERNELS,
    linear_qkv_rope_kv::KERNELS,
    linear_swiglu::KERNELS,
    quantize::q8_0::KERNELS,
    quantize::q8_1::KERNELS,
    quantize::q8_k::KERNELS,
    rms_norm::KERNELS,
    rms_norm_quantize::q8_0::KERNELS,
    rms_norm_quantize::q8_1::KERNELS,
    rms_norm_quantize::q8_k::KERNELS,
    rope::KERNELS,
    rope_kv::KERNELS,
    rope_table::KERNELS,
    select_rows::KERNELS,
    swiglu::KERNELS,
];

/// Every CPU kernel.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    TABLES.iter().flat_map(|t| t.iter())
}
