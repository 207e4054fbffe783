//! Random graphs, planned and run: the bits depend on nothing but the graph, the weights and the rows.
#![allow(clippy::unwrap_used)]

#[path = "common/random_graph.rs"]
mod random_graph;

use proptest::prelude::*;
use quipu::backends::alloc::KvCache;
use quipu::backends::bind::Runner;
use quipu::backends::team::{Ended, Team};
use quipu::backends::{Isa, StepRows};
use quipu::graph::Graph;
use quipu::loader::Bytes;
use quipu::plan::{self, Backend, FuseOptions, Phase, Plan, PlanOptions, fuse};
use quipu::quant::DType;
use random_graph::random_graph;
use std::collections::HashMap;
use std::ops::Range;

const ROWS: u32 = 7;

/// Weights of a graph: values from a small generator, encoded as the graph wants them.
struct Weights {
    bytes: Bytes,
    places: HashMap<String, Range<usize>>,
}

impl Weights {
    fn new(g: &Graph, seed: u64) -> Weights {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.3
        };
        let (mut bytes, mut places) = (Vec::new(), HashMap::new());
        for w in g.weights.rows() {
            if places.contains_key(&w.name) {
                continue;
            }
            let n: usize = w.tensor_shape().iter().map(|d| *d as usize).product();
            let values: Vec<f32> =
                (0..n).map(|_| next() + if w.shape.len() == 1 { 1.0 } else { 0.0 }).collect();
            let mut encoded = vec![0; w.dtype.row_bytes(n).unwrap()];
            (w.dtype.codec().unwrap().encode)(&values, &mut encoded);
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            places.insert(w.name.clone(), bytes.len()..bytes.len() + encoded.len());
            bytes.extend(encoded);
        }
        Weights { bytes: Bytes::from(bytes), places }
    }
}

fn make(g: &Graph, isa: Isa, fuse: FuseOptions) -> Plan {
    let options = PlanOptions {
        phase: Phase::Prefill,
        isa,
        backend: Backend::Cpu,
        max_rows: ROWS,
        max_out_rows: ROWS,
        n_ctx: 16,
        fuse,
    };
    plan::plan(g, &options).unwrap()
}

/// Logits of two sequences of 4 and 3 rows in one step, as bits.
fn run(plan: Plan, w: &Weights, threads: usize, poisoned: bool) -> Vec<u32> {
    let layout = plan.kv;
    let find = |slot: &plan::WeightSlot| Some((0, w.places.get(&slot.name)?.clone()));
    let mut runner =
        Runner::new(vec![plan], vec![w.bytes.clone()], &find, ROWS, Team::new(threads).unwrap()).unwrap();
    let mut caches = [KvCache::new(layout).unwrap(), KvCache::new(layout).unwrap()];
    let rows = StepRows {
        tokens: &[3, 1, 4, 1, 5, 9, 2],
        positions: &[0, 1, 2, 3, 0, 1, 2],
        seqs: &[0, 0, 0, 0, 1, 1, 1],
        out_rows: &[0, 1, 2, 3, 4, 5, 6],
    };
    let ended = if poisoned {
        runner.run_poisoned(0, rows, caches.iter_mut()).unwrap()
    } else {
        runner.run(0, rows, 0, caches.iter_mut(), None).unwrap()
    };
    assert_eq!(ended, Ended::Done);
    (0..ROWS)
        .flat_map(|r| runner.logits(r).unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn bits_do_not_depend_on_fusion_threads_instruction_set_or_dead_bytes(
        steps in prop::collection::vec((any::<u8>(), any::<u16>(), any::<u16>()), 0..24),
        dtype in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16, DType::Q8_0]),
        off in prop::collection::vec(0usize..7, 0..3),
        seed in any::<u64>(),
    ) {
        let g = random_graph(dtype, &steps);
        let w = Weights::new(&g, seed);
        let want = run(make(&g, Isa::Scalar, FuseOptions::none()), &w, 1, false);
        prop_assert!(want.iter().any(|b| *b != 0));
        let off: Vec<_> = off.iter().map(|i| fuse::RULES[*i].name).collect();
        for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
            for fuse in [FuseOptions::default(), FuseOptions::without(&off).unwrap()] {
                let p = make(&g, isa, fuse);
                prop_assert!(run(p.clone(), &w, 2, false) == want, "{isa}, 2 threads");
                prop_assert!(run(p, &w, 1, true) == want, "{isa}, dead bytes poisoned");
            }
        }
    }
}

#[test]
fn a_life_that_ends_too_early_is_seen() {
    // The check above can fail: with every buffer dead behind the command that writes it, NaN arrives.
    let g = random_graph(DType::F32, &[(5, 0, 0), (1, 1, 0), (5, 2, 1)]);
    let w = Weights::new(&g, 7);
    let mut p = make(&g, Isa::Scalar, FuseOptions::default());
    for b in p.buffers.ids() {
        p.buffers[b].last = p.buffers[b].first;
    }
    let bits = run(p, &w, 1, true);
    assert!(bits.iter().any(|b| f32::from_bits(*b).is_nan()));
}
