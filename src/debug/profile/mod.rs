//! Where the time of a run went: command by command, summed by kind of op and by layer, beside what the machine allows.
//!
//! [`Engine::start_profile`](crate::engine::Engine::start_profile) begins one. Times of a command are means over the
//! threads of the team, so that a plan's commands, their meetings and what is outside of them sum up to the time of
//! its passes.

mod chrome;
mod text;

use crate::backends::Isa;
use crate::backends::probe::Recorder;
use crate::graph::Id;
use crate::plan::forecast::Limits;
use crate::plan::report::layer_of;
use crate::plan::{Cmd, Phase, Plan};
use serde::Serialize;

/// What commands took and what they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Seconds in kernels.
    pub seconds: f64,
    /// Seconds at the meetings before them.
    pub wait_seconds: f64,
    /// Bytes from memory: weights, and keys and values read back.
    pub bytes: u64,
    /// Operations.
    pub ops: u64,
    /// The least seconds in kernels and at meetings; `None` without limits of the machine.
    pub forecast_seconds: Option<f64>,
    /// The least seconds in kernels alone.
    pub limit_seconds: Option<f64>,
    /// Of the seconds in kernels, the percentage that this is: how much of the machine they use.
    pub percent_of_limit: Option<f64>,
}

impl Work {
    /// Kernels and meetings.
    pub fn total_seconds(&self) -> f64 {
        self.seconds + self.wait_seconds
    }
    /// Measured over forecast.
    pub fn over_forecast(&self) -> Option<f64> {
        self.forecast_seconds.filter(|f| *f > 0.0).map(|f| self.total_seconds() / f)
    }

    fn add(&mut self, o: &Work) {
        let both = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(a + b.unwrap_or(0.0)));
        let (seconds, limit) = (self.seconds + o.seconds, both(self.limit_seconds, o.limit_seconds));
        *self = Work {
            seconds,
            wait_seconds: self.wait_seconds + o.wait_seconds,
            bytes: self.bytes + o.bytes,
            ops: self.ops + o.ops,
            forecast_seconds: both(self.forecast_seconds, o.forecast_seconds),
            limit_seconds: limit,
            percent_of_limit: limit.map(|l| percent(l, seconds)),
        };
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

/// One command of a plan over all passes.
#[derive(Clone, Debug, Serialize)]
pub struct CommandProfile {
    /// Its number in the plan: `c3`.
    pub id: String,
    /// The first value it makes.
    pub name: String,
    /// Its kernel.
    pub kernel: String,
    /// Kind of its op.
    pub kind: String,
    /// Its layer.
    pub layer: Option<u32>,
    /// What it took.
    #[serde(flatten)]
    pub work: Work,
}

/// Commands that have something in common.
#[derive(Clone, Debug, Serialize)]
pub struct GroupProfile {
    /// Kind of op, or layer.
    pub name: String,
    /// How many commands of the plan.
    pub commands: u32,
    /// What they took.
    #[serde(flatten)]
    pub work: Work,
}

/// One thread over all passes of a plan.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ThreadProfile {
    /// Number in the team.
    pub thread: u32,
    /// In kernels.
    pub busy_seconds: f64,
    /// At meetings.
    pub wait_seconds: f64,
    /// Waking up for passes, and waiting for their end.
    pub outside_seconds: f64,
}

/// One plan over all its passes.
#[derive(Clone, Debug, Serialize)]
pub struct PlanProfile {
    /// Prefill or decode.
    pub phase: Phase,
    /// Number of the plan in the engine.
    #[serde(skip)]
    index: usize,
    /// Passes.
    pub passes: u64,
    /// Their rows.
    pub rows: u64,
    /// Time of the passes.
    pub seconds: f64,
    /// The part of it outside of commands and meetings.
    pub outside_seconds: f64,
    /// All commands together.
    pub work: Work,
    /// By kind of op, most time first.
    pub kinds: Vec<GroupProfile>,
    /// By layer, in order; those of no layer last.
    pub layers: Vec<GroupProfile>,
    /// Every command, in order.
    pub commands: Vec<CommandProfile>,
    /// Every thread.
    pub threads: Vec<ThreadProfile>,
}

/// The profile of a run. Its `Display` is a table, serde gives JSON, and [`Profile::write_chrome_trace`] a picture.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// Instruction set.
    pub isa: Isa,
    /// Threads.
    pub threads: u32,
    /// What forecasts are made with.
    pub limits: Option<Limits>,
    /// From the start of the profile to its end.
    pub wall_seconds: f64,
    /// Time of all passes.
    pub pass_seconds: f64,
    /// Time of all commands and meetings.
    pub command_seconds: f64,
    /// One per plan that ran.
    pub plans: Vec<PlanProfile>,
    #[serde(skip)]
    recorder: Recorder,
}

const NANO: f64 = 1e-9;

impl Profile {
    pub(crate) fn new(recorder: Recorder, isa: Isa, plans: &[&Plan], limits: Option<&Limits>) -> Profile {
        let wall_seconds = recorder.now() as f64 * NANO;
        let plans: Vec<PlanProfile> =
            plans.iter().enumerate().filter_map(|(i, p)| profile_plan(&recorder, i, p, limits)).collect();
        Profile {
            isa,
            threads: recorder.members() as u32,
            limits: limits.cloned(),
            wall_seconds,
            pass_seconds: plans.iter().map(|p| p.seconds).sum(),
            command_seconds: plans.iter().map(|p| p.work.total_seconds()).sum(),
            plans,
            recorder,
        }
    }

    /// The profile of a plan; `None` if it did not run.
    pub fn plan(&self, phase: Phase) -> Option<&PlanProfile> {
        self.plans.iter().find(|p| p.phase == phase)
    }

    /// The part of the wall time that commands and meetings are, in percent.
    pub fn percent_of_wall(&self) -> f64 {
        percent(self.command_seconds, self.wall_seconds)
    }
}

fn profile_plan(r: &Recorder, index: usize, plan: &Plan, limits: Option<&Limits>) -> Option<PlanProfile> {
    let passes: Vec<_> = r.passes().iter().filter(|p| p.plan == index).collect();
    if passes.is_empty() {
        return None;
    }
    let members = r.members().max(1) as f64;
    let mean = |nanos: u64| nanos as f64 * NANO / members;
    let mut commands: Vec<CommandProfile> = plan
        .cmds
        .iter()
        .map(|(id, cmd)| {
            let mut work = Work::default();
            for s in r.spent(index, id.index()) {
                work.seconds += mean(s.busy);
                work.wait_seconds += mean(s.wait);
            }
            let out = plan.operands.get(cmd.outs()).and_then(<[_]>::first);
            CommandProfile {
                id: id.to_string(),
                name: out.and_then(|o| plan.names.get(o.name as usize)).cloned().unwrap_or_default(),
                kernel: plan.kernels.get(usize::from(cmd.kernel)).cloned().unwrap_or_default(),
                kind: plan.ops.get(cmd.op as usize).map_or_else(String::new, |op| op.kind().to_string()),
                layer: layer_of(plan, cmd),
                work,
            }
        })
        .collect();
    for pass in &passes {
        for ((id, cmd), c) in plan.cmds.iter().zip(&mut commands) {
            let (bytes, ops) = plan.work(id, &pass.sizes);
            let least = limits.map(|l| plan.command_forecast(id, cmd, l, &pass.sizes).seconds);
            let met = cmd.flags & Cmd::BARRIER != 0;
            let meeting = limits.map_or(0.0, |l| if met { l.barrier_seconds } else { 0.0 });
            c.work.add(&Work {
                bytes,
                ops,
                forecast_seconds: least,
                limit_seconds: least.map(|s| s - meeting),
                ..Work::default()
            });
        }
    }
    let sum = |nanos: &[u64]| nanos.iter().map(|n| mean(*n)).sum::<f64>();
    let threads = (0..r.members()).map(|m| {
        let spent = || (0..commands.len()).filter_map(move |c| r.spent(index, c).get(m));
        ThreadProfile {
            thread: m as u32,
            busy_seconds: spent().map(|s| s.busy).sum::<u64>() as f64 * NANO,
            wait_seconds: spent().map(|s| s.wait).sum::<u64>() as f64 * NANO,
            outside_seconds: r.outside(index).get(m).copied().unwrap_or(0) as f64 * NANO,
        }
    });
    let mut kinds = groups(&commands, |c| c.kind.clone());
    kinds.sort_by(|a, b| b.work.total_seconds().total_cmp(&a.work.total_seconds()));
    let mut layers = groups(&commands, |c| c.layer.map_or_else(|| "-".into(), |l| l.to_string()));
    layers.sort_by_key(|g| g.name.parse::<u32>().unwrap_or(u32::MAX));
    Some(PlanProfile {
        phase: plan.phase,
        index,
        passes: passes.len() as u64,
        rows: passes.iter().map(|p| u64::from(p.sizes.t)).sum(),
        seconds: passes.iter().map(|p| p.end - p.begin).sum::<u64>() as f64 * NANO,
        outside_seconds: sum(r.outside(index)),
        work: total(commands.iter().map(|c| &c.work)),
        kinds,
        layers,
        threads: threads.collect(),
        commands,
    })
}

fn total<'a>(works: impl Iterator<Item = &'a Work>) -> Work {
    let mut sum = Work::default();
    works.for_each(|w| sum.add(w));
    sum
}

/// Commands summed by a name, in the order of the first of each.
fn groups(commands: &[CommandProfile], name: impl Fn(&CommandProfile) -> String) -> Vec<GroupProfile> {
    let mut groups: Vec<GroupProfile> = Vec::new();
    for c in commands {
        let name = name(c);
        let i = groups.iter().position(|g| g.name == name).unwrap_or_else(|| {
            groups.push(GroupProfile { name, commands: 0, work: Work::default() });
            groups.len() - 1
        });
        groups[i].commands += 1;
        groups[i].work.add(&c.work);
    }
    groups
}
