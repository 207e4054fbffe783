//! `--version`: what is running, and on what.

use quipu::backends::Isa;
use quipu::ops::NUMERICS_VERSION;

/// One line.
pub fn short() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Version, numerics and instruction sets.
pub fn long() -> String {
    let sets: Vec<_> = Isa::ALL.into_iter().filter(|i| i.available()).map(Isa::name).collect();
    format!(
        "{}\nnumerics: {NUMERICS_VERSION}\nprocessor: {}\ninstruction sets: {} (plans use {})",
        short(),
        std::env::consts::ARCH,
        sets.join(" "),
        Isa::best(),
    )
}
