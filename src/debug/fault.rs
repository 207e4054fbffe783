//! Errors made on purpose: a command's result is changed behind its back, so that tests can demand that a comparison
//! finds the place.

use crate::backends::observe::Observed;
use crate::engine::TraceValue;
use crate::error::{Error, Problem, Result, escape};
use crate::quant::DType;
use half::f16;
use std::str::FromStr;

/// What is done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// One unit in the last place of one element: of a block type, one step of one quant.
    Ulp,
    /// All elements become 0.
    Zero,
    /// Neighbours change places, as a wrong pairing or order would make them.
    Swap,
    /// All elements are multiplied by 1.5, as a wrong scale would; of a block type, the scales are.
    Scale,
}

/// An error in one value: `ulp@ffn_out-1`, `zero@...`, `swap@...`, `scale@...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is done.
    pub kind: FaultKind,
    /// The value, by its name in the graph.
    pub value: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            FaultKind::Ulp => "ulp",
            FaultKind::Zero => "zero",
            FaultKind::Swap => "swap",
            FaultKind::Scale => "scale",
        };
        write!(f, "{kind}@{}", self.value)
    }
}

impl FromStr for Fault {
    type Err = Error;

    /// Errors: `BadFault` (usage).
    fn from_str(s: &str) -> Result<Fault> {
        let bad = || {
            let p = Problem::new("BadFault", "--inject").found(escape(s));
            Error::usage(p.expected("ulp, zero, swap or scale, then @ and a value, such as ulp@ffn_out-1"))
        };
        let (kind, value) = s.split_once('@').ok_or_else(bad)?;
        let kind = match kind {
            "ulp" => FaultKind::Ulp,
            "zero" => FaultKind::Zero,
            "swap" => FaultKind::Swap,
            "scale" => FaultKind::Scale,
            _ => return Err(bad()),
        };
        if value.is_empty() {
            return Err(bad());
        }
        Ok(Fault { kind, value: value.to_string() })
    }
}

impl Fault {
    /// Changes the value if the command that has just run made it.
    pub(crate) fn apply(&self, seen: &mut Observed<'_>) -> bool {
        let mut hit = false;
        for mut result in seen.results().filter(|r| r.name == self.value) {
            let pieces = result.bytes.pieces();
            // One unit is one unit: of several pieces only the last has it.
            let from = if self.kind == FaultKind::Ulp { pieces.len().saturating_sub(1) } else { 0 };
            for bytes in &mut pieces[from..] {
                match result.dtype {
                    DType::F32 => self.change_floats(bytes, f32::from_le_bytes, f32::to_le_bytes),
                    DType::F16 => self.change_floats(
                        bytes,
                        |b| f16::from_le_bytes(b).to_f32(),
                        |x| f16::from_f32(x).to_le_bytes(),
                    ),
                    dtype => self.change_blocks(bytes, dtype.info().bytes as usize),
                }
            }
            hit = true;
        }
        hit
    }

    fn change_floats<const N: usize>(
        &self,
        bytes: &mut [u8],
        read: fn([u8; N]) -> f32,
        write: fn(f32) -> [u8; N],
    ) {
        let cells = bytes.as_chunks_mut::<N>().0;
        match self.kind {
            FaultKind::Ulp => {
                // The largest: it counts in what reads the value, and its neighbour is a finite number.
                let size = |cell: &[u8; N]| read(*cell).abs();
                if let Some(cell) = cells.iter_mut().max_by(|a, b| size(a).total_cmp(&size(b))) {
                    cell[0] ^= 1;
                }
            }
            FaultKind::Zero => bytes.fill(0),
            FaultKind::Swap => cells.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse()),
            FaultKind::Scale => cells.iter_mut().for_each(|cell| *cell = write(read(*cell) * 1.5)),
        }
    }

    /// Blocks begin with their scale, f16 or f32, and have quants in the middle.
    fn change_blocks(&self, bytes: &mut [u8], block: usize) {
        let f32_scale = block > 256;
        for b in bytes.chunks_exact_mut(block) {
            match self.kind {
                FaultKind::Ulp => {
                    // One quant of one block.
                    b[block / 2] ^= 1;
                    return;
                }
                FaultKind::Zero => b.fill(0),
                FaultKind::Swap => b[(block / 2 - 8).max(2)..block / 2 + 8].rotate_left(1),
                FaultKind::Scale if f32_scale => {
                    let d = f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * 1.5;
                    b[..4].copy_from_slice(&d.to_le_bytes());
                }
                FaultKind::Scale => {
                    let d = f16::from_le_bytes([b[0], b[1]]).to_f32() * 1.5;
                    b[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
                }
            }
        }
    }

    /// The error of a run that never made the value.
    pub(crate) fn missed(&self, made: &[TraceValue]) -> Error {
        let some: Vec<&str> = made.iter().map(|v| v.name.as_str()).take(8).collect();
        let p = Problem::new("NoSuchValue", escape(&self.value)).found("no command that makes it");
        Error::usage(
            p.expected(format!("one of {}, ...", some.join(", ")))
                .hint("fusion leaves values out; --no-fuse keeps them"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_as_written() {
        let f: Fault = "ulp@ffn_out-1".parse().unwrap();
        assert_eq!((f.kind, f.value.as_str()), (FaultKind::Ulp, "ffn_out-1"));
        for bad in ["", "ulp", "ulp@", "half@x", "@x"] {
            assert_eq!(bad.parse::<Fault>().unwrap_err().code(), "BadFault", "{bad}");
        }
    }

    #[test]
    fn each_kind_changes_what_it_says() {
        let bytes = |x: &[f32]| x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let run = |kind, x: &[f32]| {
            let mut b = bytes(x);
            Fault { kind, value: String::new() }.change_floats(&mut b, f32::from_le_bytes, f32::to_le_bytes);
            b
        };
        let x = [1.0f32, -4.0, 2.0, 0.5];
        assert_eq!(run(FaultKind::Zero, &x), bytes(&[0.0; 4]));
        assert_eq!(run(FaultKind::Swap, &x), bytes(&[-4.0, 1.0, 0.5, 2.0]));
        assert_eq!(run(FaultKind::Scale, &x), bytes(&[1.5, -6.0, 3.0, 0.75]));
        let ulp = run(FaultKind::Ulp, &x);
        assert_eq!(ulp, bytes(&[1.0, f32::from_bits((-4.0f32).to_bits() ^ 1), 2.0, 0.5]));
    }
}
