//! Plans are data that someone may have written by hand: what could touch memory it does not own is refused, and what is
//! accepted runs without harm.
#![allow(clippy::unwrap_used)]

mod common;

use common::engines::{file, nano, tokens};
use quipu::backends::alloc::KvCache;
use quipu::backends::bind::Runner;
use quipu::backends::team::{Ended, Team};
use quipu::backends::{Isa, StepRows, check::check};
use quipu::graph::builder::CacheTypes;
use quipu::loader::synth::Shape;
use quipu::loader::{Bytes, Gguf, ParseOptions};
use quipu::models;
use quipu::plan::{self, Backend, Cmd, FuseOptions, Phase, Plan, PlanOptions, WeightSlot};
use quipu::quant::DType;
use quipu::{Class, Error};
use serde_json::Value;

const ROWS: u32 = 5;

struct Model {
    file: Bytes,
    gguf: Gguf,
}

impl Model {
    fn new(dtype: DType) -> Self {
        let file = file(&Shape { n_ctx: 64, ..nano() }, dtype);
        let gguf = Gguf::parse(file.clone(), &ParseOptions::default()).unwrap();
        Model { file, gguf }
    }

    fn plan(&self, fuse: FuseOptions, isa: Isa, phase: Phase) -> Plan {
        let graph = models::declare(&self.gguf, &[], CacheTypes::default()).unwrap().graph;
        let backend = Backend::Cpu;
        let o = PlanOptions { phase, isa, backend, max_rows: ROWS, max_out_rows: 2, n_ctx: 64, fuse };
        plan::plan(&graph, &o).unwrap()
    }

    fn bind(&self, plan: Plan) -> Result<Runner, Error> {
        let find = |w: &WeightSlot| {
            let t = self.gguf.tensor(&w.name)?;
            Some((0, t.offset as usize..(t.offset + t.bytes) as usize))
        };
        Runner::new(vec![plan], vec![self.file.clone()], &find, 4, Team::new(2).unwrap())
    }
}

/// A step of two sequences.
struct Table {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    seqs: Vec<u32>,
    out_rows: Vec<u32>,
}

impl Table {
    fn new() -> Self {
        let (positions, seqs) = (vec![0, 1, 2, 7, 8], vec![0, 0, 0, 1, 1]);
        Table { tokens: tokens(5, 1), positions, seqs, out_rows: vec![2, 4] }
    }
    fn rows(&self) -> StepRows<'_> {
        let Table { tokens, positions, seqs, out_rows } = self;
        StepRows { tokens, positions, seqs, out_rows }
    }
    fn run(&self, r: &mut Runner, n_caches: usize, first: u32) -> Result<Ended, Error> {
        let layout = r.plan(0).unwrap().kv;
        let mut caches: Vec<_> = (0..n_caches).map(|_| KvCache::new(layout).unwrap()).collect();
        r.run(0, self.rows(), first, caches.iter_mut(), None)
    }
}

fn plans() -> Vec<(Model, Plan)> {
    let isa = Isa::best();
    let all = [
        (DType::F16, FuseOptions::none(), Phase::Prefill),
        (DType::F32, FuseOptions::default(), Phase::Prefill),
        (DType::Q8_0, FuseOptions::default(), Phase::Prefill),
        // With results that every thread makes for itself.
        (DType::Q8_0, FuseOptions::default(), Phase::Decode),
    ];
    let make = |(dtype, fuse, phase)| {
        let m = Model::new(dtype);
        let p = m.plan(fuse, isa, phase);
        (m, p)
    };
    all.into_iter().map(make).collect()
}

fn refused(plan: &Plan, what: &str) {
    let e = check(plan).err().unwrap_or_else(|| panic!("accepted: {what}"));
    assert_eq!((e.code(), e.class()), ("BadPlan", Class::Input), "{what}: {e}");
}

#[test]
fn plans_of_the_planner_pass_and_run() {
    for (m, p) in plans() {
        assert_eq!(check(&p).unwrap().len(), p.cmds.len());
        let mut r = m.bind(p).unwrap();
        assert_eq!(Table::new().run(&mut r, 2, 0).unwrap(), Ended::Done);
        assert!(r.logits(0).unwrap().iter().all(|x| x.is_finite() && *x != 0.0));
        // Rows of logits can go anywhere in their block, and nowhere else.
        let first = [0, 1].map(|i| r.logits(i).unwrap().to_vec());
        assert_eq!(Table::new().run(&mut r, 2, 2).unwrap(), Ended::Done);
        assert_eq!([2, 3].map(|i| r.logits(i).unwrap().to_vec()), first);
        assert_eq!([0, 1].map(|i| r.logits(i).unwrap().to_vec()), first);
        assert!(r.logits(4).is_none());
    }
}

#[test]
fn every_missing_barrier_is_seen() {
    for (_, p) in plans() {
        let ids: Vec<_> = p.cmds.ids().filter(|c| p.cmds[*c].flags & Cmd::BARRIER != 0).collect();
        assert!(ids.len() > 5);
        for id in ids {
            let mut q = p.clone();
            q.cmds[id].flags = 0;
            refused(&q, &format!("no barrier before {id}"));
        }
    }
}

#[test]
fn damage_is_refused() {
    type Change = (&'static str, fn(&mut Plan));
    let changes: [Change; 24] = [
        ("format", |p| p.format += 1),
        ("numerics", |p| p.numerics += 1),
        ("no rows", |p| p.max_rows = 0),
        ("more rows than the arena holds", |p| p.max_rows += 1),
        ("more logits than rows", |p| p.max_out_rows = ROWS + 1),
        ("more logits than room", |p| p.max_out_rows += 1),
        ("a larger vocabulary", |p| p.n_vocab += 1),
        ("no cells", |p| p.kv.n_ctx = 0),
        ("a cache of impossible size", |p| (p.kv.n_ctx, p.kv.n_layer) = (u32::MAX, u32::MAX)),
        ("other heads", |p| p.kv.n_head_kv *= 2),
        ("smaller heads", |p| p.kv.head_dim_k /= 2),
        ("fewer layers", |p| p.kv.n_layer -= 1),
        ("another cache type", |p| p.kv.type_v = DType::F32),
        ("a smaller arena", |p| p.totals.arena_bytes -= 64),
        ("less room for logits", |p| p.totals.logits_bytes -= 64),
        ("a kernel that does not exist", |p| p.kernels[0] = "cpu.embed.any.vax".into()),
        ("kernels in another order", |p| p.kernels.reverse()),
        ("ops in another order", |p| p.ops.reverse()),
        ("an operand past the arena", |p| arena(p).offset = 1 << 40),
        ("an operand between cache lines", |p| arena(p).offset += 4),
        ("an offset that wraps", |p| arena(p).offset = u64::MAX - 63),
        ("rows of other bytes", |p| arena(p).row_bytes += 4),
        ("no operands", |p| p.operands.clear()),
        ("weights of other bytes", |p| p.weights[quipu::graph::WeightId(0)].bytes += 4),
    ];
    for (_, p) in plans() {
        for (what, change) in changes {
            let mut q = p.clone();
            change(&mut q);
            refused(&q, what);
        }
    }
}

#[test]
fn own_results_stay_inside_their_part_of_scratch() {
    type Change = (&'static str, fn(&mut Plan));
    let changes: [Change; 8] = [
        ("no room", |p| p.totals.own_bytes = 0),
        ("less room", |p| p.totals.own_bytes -= 64),
        ("a part that ends inside a line", |p| {
            (p.totals.own_bytes, p.totals.scratch_bytes) = (1 << 20 | 4, 1 << 21)
        }),
        ("no scratch behind it", |p| p.totals.own_bytes = p.totals.scratch_bytes),
        ("more than all scratch", |p| p.totals.own_bytes = p.totals.scratch_bytes + 64),
        ("a result past the end", |p| own(p).offset = 1 << 40),
        ("a result between cache lines", |p| own(p).offset += 4),
        ("an offset that wraps", |p| own(p).offset = u64::MAX - 63),
    ];
    let (_, p) = plans().remove(3);
    check(&p).unwrap();
    for (what, change) in changes {
        let mut q = p.clone();
        change(&mut q);
        refused(&q, what);
    }
    // One of several results alone cannot be every thread's own: Q of a command that stores K and V.
    let mut q = p.clone();
    let stores = q.cmds.rows().iter().find(|c| c.n_outs > 2).unwrap().outs();
    q.totals.own_bytes += 1 << 20;
    q.totals.scratch_bytes += 1 << 20;
    (q.operands[stores.start].region, q.operands[stores.start].offset) = (plan::Region::Scratch, 1 << 19);
    refused(&q, "one own result of several");
}

fn own(p: &mut Plan) -> &mut plan::Operand {
    p.operands.iter_mut().rfind(|o| o.region == plan::Region::Scratch).unwrap()
}

#[test]
fn parts_stay_inside_their_tensor() {
    let file = file(&Shape { n_ctx: 64, ..Shape::named("nano-phi3").unwrap().clone() }, DType::Q8_0);
    let gguf = Gguf::parse(file.clone(), &ParseOptions::default()).unwrap();
    let model = Model { file, gguf };
    let p = model.plan(FuseOptions::default(), Isa::Scalar, Phase::Prefill);
    assert!(model.bind(p.clone()).is_ok());
    let last = |p: &Plan| p.weights.ids().rfind(|w| p.weights[*w].part.is_some()).unwrap();
    type Change = fn(&mut quipu::graph::Part);
    let changes: [(&str, Change, &str); 4] = [
        ("one row on", |part| part.first += 1, "BadPlan"),
        ("at the end", |part| part.first = u32::MAX, "BadPlan"),
        ("of a shorter tensor", |part| part.of -= 1, "BadPlan"),
        ("of a longer tensor", |part| part.of += 1, "OutOfFile"),
    ];
    for (what, change, code) in changes {
        let mut q = p.clone();
        let id = last(&q);
        change(q.weights[id].part.as_mut().unwrap());
        assert_eq!(model.bind(q).unwrap_err().code(), code, "{what}");
    }
}

/// The last operand in the arena: all of the ones before are smaller or the same.
fn arena(p: &mut Plan) -> &mut plan::Operand {
    p.operands.iter_mut().rfind(|o| o.region == plan::Region::Arena).unwrap()
}

/// Every number of the plan's JSON, by its path.
fn numbers(v: &Value, path: &mut Vec<String>, out: &mut Vec<String>) {
    match v {
        Value::Number(_) => out.push(format!("/{}", path.join("/"))),
        Value::Array(a) => {
            for (i, v) in a.iter().enumerate() {
                path.push(i.to_string());
                numbers(v, path, out);
                path.pop();
            }
        }
        Value::Object(o) => {
            for (k, v) in o {
                path.push(k.clone());
                numbers(v, path, out);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Each number of the plan, one at a time, made something else: refused, or it runs and nothing breaks.
#[test]
fn any_number_may_be_anything() {
    let (mut read, mut accepted, mut ran) = (0, 0, 0);
    for (m, p) in plans() {
        let json = serde_json::to_value(&p).unwrap();
        let mut paths = Vec::new();
        numbers(&json, &mut Vec::new(), &mut paths);
        for (i, path) in paths.iter().enumerate() {
            let n = json.pointer(path).unwrap();
            let old = n.as_u64().unwrap_or(0);
            let near = [0, 1, old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), old / 2];
            let far = [3, 64, 1 << 31, u64::from(u32::MAX), 1 << 62, u64::MAX];
            // A third of them at each number: the next number of the same kind gets the others.
            for new in near.into_iter().chain(far).skip(i % 3).step_by(3) {
                let mut changed = json.clone();
                *changed.pointer_mut(path).unwrap() = new.into();
                let Ok(q) = serde_json::from_value::<Plan>(changed) else { continue };
                read += 1;
                if q == p || check(&q).is_err() {
                    continue;
                }
                accepted += 1;
                // A plan may still ask for more memory than there is, or for a weight of other bytes.
                if q.totals.arena_bytes > 1 << 30
                    || q.totals.scratch_bytes > 1 << 30
                    || q.totals.logits_bytes > 1 << 30
                {
                    continue;
                }
                if q.kv.total_bytes().unwrap() > 1 << 30 {
                    continue;
                }
                let Ok(mut r) = m.bind(q) else { continue };
                ran += u32::from(Table::new().run(&mut r, 2, 0).is_ok());
            }
        }
    }
    assert!(read > 5_000 && accepted > 100 && ran > 50, "{read} read, {accepted} accepted, {ran} ran");
}

#[test]
fn steps_that_do_not_fit_are_refused() {
    let (m, p) = plans().remove(0);
    let mut r = m.bind(p).unwrap();
    type Change = (&'static str, fn(&mut Table));
    let changes: [Change; 14] = [
        ("no rows", |t| *t = Table { tokens: vec![], positions: vec![], seqs: vec![], out_rows: vec![] }),
        ("too many rows", |t| {
            t.tokens.push(1);
            t.positions.push(9);
            t.seqs.push(1);
        }),
        ("columns of different lengths", |t| t.positions.truncate(4)),
        ("a token outside the vocabulary", |t| t.tokens[1] = 384),
        ("a position outside the cache", |t| t.positions[4] = 64),
        ("a sequence that does not exist", |t| t.seqs[4] = 2),
        ("two rows for one cell", |t| t.positions[1] = 0),
        ("a gap", |t| t.positions[2] = 3),
        ("a position that wraps", |t| t.positions[3] = u32::MAX),
        ("sequences mixed", |t| t.seqs[4] = 0),
        ("too many logits", |t| t.out_rows = vec![0, 1, 2]),
        ("logits of a row that does not exist", |t| t.out_rows[1] = 5),
        ("logits twice", |t| t.out_rows = vec![2, 2]),
        ("logits out of order", |t| t.out_rows = vec![4, 2]),
    ];
    for (what, change) in changes {
        let mut t = Table::new();
        change(&mut t);
        let e = t.run(&mut r, 2, 0).err().unwrap_or_else(|| panic!("accepted: {what}"));
        assert_eq!((e.code(), e.class()), ("BadStep", Class::Input), "{what}");
    }
    assert_eq!(Table::new().run(&mut r, 1, 0).unwrap_err().code(), "BadStep");
    assert_eq!(Table::new().run(&mut r, 2, 3).unwrap_err().code(), "BadStep");
    assert_eq!(r.run(1, Table::new().rows(), 0, [].into_iter(), None).unwrap_err().code(), "BadStep");
    let other = KvCache::new(quipu::backends::KvLayout { n_ctx: 65, ..r.plan(0).unwrap().kv }).unwrap();
    let mut other = [other];
    assert_eq!(r.run(0, Table::new().rows(), 0, other.iter_mut(), None).unwrap_err().code(), "BadStep");
    assert_eq!(Table::new().run(&mut r, 2, 0).unwrap(), Ended::Done);
}
