//! Plans of known shapes, without their weights, and limits to forecast them with.

use quipu::backends::Isa;
use quipu::loader::synth::synth_header;
use quipu::loader::{Bytes, Gguf, ParseOptions};
use quipu::plan::forecast::Limits;
use quipu::quant::DType;

/// Of a machine that never was.
pub const LIMITS: Limits = Limits {
    isa: Isa::Avx512,
    threads: 2,
    read_bytes_per_second: 30e9,
    float_ops_per_second: 300e9,
    byte_ops_per_second: 1e12,
    barrier_seconds: 1e-6,
};

/// The header of a shape's file.
pub fn header(shape: &str, dtype: DType) -> Gguf {
    let options = ParseOptions { header_only: true, ..ParseOptions::default() };
    Gguf::parse(Bytes::from(synth_header(shape, dtype).unwrap()), &options).unwrap()
}
