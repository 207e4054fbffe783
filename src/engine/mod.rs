//! Filled in by its own commit.

pub mod sampler;
pub mod stop;
