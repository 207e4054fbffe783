//! Instruction-set classes: what a plan is made for and what a machine has.

use crate::error::{Error, Problem, Result};

/// An instruction-set class, ordered from least to most capable.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// Portable code; the oracle on x86, and the product path elsewhere.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VNNI, with F16C and FMA.
    Avx512,
    /// The same with AMX-TILE and AMX-INT8, used where the system lets a process use them.
    Amx,
}

impl Isa {
    /// All classes.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The name on the command line and in plans.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }
    /// This class and those it includes, best first.
    pub const fn chain(self) -> &'static [Isa] {
        match self {
            Isa::Scalar => &[Isa::Scalar],
            Isa::Avx2 => &[Isa::Avx2, Isa::Scalar],
            Isa::Avx512 => &[Isa::Avx512, Isa::Avx2, Isa::Scalar],
            Isa::Amx => &[Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Scalar],
        }
    }
    /// Whether this machine has it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            };
            let avx512 = || {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            };
            match self {
                Isa::Scalar => true,
                Isa::Avx2 => avx2(),
                Isa::Avx512 => avx512(),
                Isa::Amx => avx512() && super::cpu::product::tiles_amx::available(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Scalar
        }
    }
    /// The best class of this machine.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|i| i.available()).unwrap_or(Isa::Scalar)
    }
    /// This class if the machine has it.
    ///
    /// Errors: `NoSuchIsa` (exit 5), with what the machine has.
    pub fn require(self) -> Result<Isa> {
        if self.available() {
            return Ok(self);
        }
        let have: Vec<_> = Isa::ALL.into_iter().filter(|i| i.available()).map(Isa::name).collect();
        Err(Error::resources(
            Problem::new("NoSuchIsa", format!("instruction set {self}"))
                .found(format!("a machine with {}", have.join(", ")))
                .expected(format!("a processor with {self}"))
                .hint("leave --isa out to use the best one"),
        ))
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Isa {
    type Err = String;
    fn from_str(s: &str) -> Result<Isa, String> {
        Isa::ALL
            .into_iter()
            .find(|i| i.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| format!("unknown instruction set {s:?} (one of scalar, avx2, avx512, amx)"))
    }
}
