//! What runs a plan: instruction sets, the kernel table, and the views a kernel gets of its operands.
//!
//! "Supported" and "implemented" are the same row: a [`Kernel`] holds the predicate and the function. The planner
//! takes the first row whose predicate holds; the executor calls the function and knows nothing else about it.
#![allow(unsafe_code)]

pub mod alloc;
pub mod bind;
pub mod calibrate;
pub mod check;
pub mod cpu;
pub mod isa;
pub mod measure;
mod movable;
pub mod observe;
pub mod probe;
pub mod team;
pub mod view;

use crate::graph::ValueType;
use crate::ops::{Op, OpKind};
pub use isa::Isa;
pub use view::{KernelCtx, KvLayout, KvSeq, Operand, StepRows};

/// What a kernel is asked to support: an op with the types around it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The op and its attributes.
    pub op: &'a Op,
    /// Types of the operands.
    pub args: &'a [ValueType],
    /// Types of the results.
    pub outs: &'a [ValueType],
    /// Most rows a step brings to this plan.
    pub max_rows: u32,
}

/// Runs this thread's share of a command.
///
/// # Safety
/// Every operand of the context points at memory of its stated type and size for the step's rows, results overlap
/// no operand, and all `n_threads` members of the team call the kernel with the same context apart from
/// `thread` and `scratch`.
pub type KernelFn = unsafe fn(&KernelCtx<'_>);

/// One row of the kernel table.
pub struct Kernel {
    /// `cpu.<op>.<type>.<isa>`.
    pub name: &'static str,
    /// The op it runs.
    pub op: OpKind,
    /// The instruction set it needs.
    pub isa: Isa,
    /// Whether it can run the case, or why not.
    pub supports: fn(&Case<'_>) -> Result<(), &'static str>,
    /// Scratch bytes per thread it needs for the case.
    pub scratch: fn(&Case<'_>) -> usize,
    /// The function.
    pub run: KernelFn,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// For `Kernel::scratch`: none.
pub fn no_scratch(_: &Case<'_>) -> usize {
    0
}

/// For `Kernel::supports`: everything that type inference accepts.
pub fn supports_all(_: &Case<'_>) -> Result<(), &'static str> {
    Ok(())
}

/// The first kernel of `isa`, then of the sets it includes, that supports the case; or why none does.
pub fn select(case: &Case<'_>, isa: Isa) -> Result<&'static Kernel, String> {
    let mut reasons = Vec::new();
    for set in isa.chain() {
        for k in cpu::kernels().filter(|k| k.op == case.op.kind() && k.isa == *set) {
            match (k.supports)(case) {
                Ok(()) => return Ok(k),
                Err(why) => reasons.push(format!("{}: {why}", k.name)),
            }
        }
    }
    Err(if reasons.is_empty() { "no kernel in the table".into() } else { reasons.join("; ") })
}

/// The kernel with this name.
pub fn find(name: &str) -> Option<&'static Kernel> {
    cpu::kernels().find(|k| k.name == name)
}
