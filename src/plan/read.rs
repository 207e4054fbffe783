//! A plan from JSON: only one whose tables hold what its rows name.

use super::{PLAN_FORMAT, Plan, Region};
use crate::error::{Class, Error, Problem, Result, escape};
use crate::graph::Id;

impl Plan {
    /// Reads what serde wrote; `name` is what errors call it.
    ///
    /// This is enough to print and compare a plan. To run one, [`crate::backends::check`] proves the rest.
    ///
    /// Errors: `BadPlan` (input).
    pub fn from_json(bytes: &[u8], name: &str) -> Result<Plan> {
        let bad = |why: String| {
            let p = Problem::new("BadPlan", escape(name)).found(escape(&why));
            Error::new(Class::Input, p.expected("what quipu plan --format json writes"))
        };
        // The format first: the fields of another one would only confuse.
        let head: Head = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if head.format != PLAN_FORMAT {
            return Err(bad(format!("format {} (this is {PLAN_FORMAT})", head.format)));
        }
        let plan: Plan = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        match plan.dangling() {
            Some(what) => Err(bad(what)),
            None => Ok(plan),
        }
    }

    /// The first row that names something outside a table, or operands that its op does not take.
    fn dangling(&self) -> Option<String> {
        if self.costs.len() != self.cmds.len() {
            return Some(format!("{} costs for {} commands", self.costs.len(), self.cmds.len()));
        }
        for (id, c) in self.cmds.iter() {
            let operands = u64::from(c.first) + u64::from(c.n_args) + u64::from(c.n_outs);
            let inside = usize::from(c.kernel) < self.kernels.len()
                && (c.op as usize) < self.ops.len()
                && usize::from(c.rule) <= self.rules.len()
                && operands <= self.operands.len() as u64;
            if !inside {
                return Some(format!("command {id} names rows outside the tables"));
            }
        }
        for (i, o) in self.operands.iter().enumerate() {
            let inside = match o.region {
                Region::Arena | Region::Scratch => (o.index as usize) < self.buffers.len(),
                Region::Weights => (o.index as usize) < self.weights.len(),
                Region::Kv | Region::Step => true,
            };
            if !inside || o.name as usize >= self.names.len() {
                return Some(format!("operand {i} names rows outside the tables"));
            }
        }
        for (id, c) in self.cmds.iter() {
            // What a command costs is counted from types that its op gives.
            let op = &self.ops[c.op as usize];
            match op.infer(&self.types(c.args())) {
                Ok(types) if types[..] == self.types(c.outs())[..] => {}
                Ok(_) => return Some(format!("command {id}: {} gives other types", op.kind())),
                Err(why) => return Some(format!("command {id}: {}: {why}", op.kind())),
            }
        }
        let last = self.cmds.len();
        let buffer = self.buffers.iter().find(|(_, b)| b.first.index() >= last || b.last.index() >= last);
        buffer.map(|(id, _)| format!("buffer {id} lives outside the commands"))
    }
}

/// The one field that every format has.
#[derive(serde::Deserialize)]
struct Head {
    format: u32,
}
