//! Attention: shapes, cache types, chunk borders, tiles, teams, sequences.

use super::*;
use crate::ops::attention::{Attrs, reference};
use crate::ops::kv_append;

/// A step over caches whose cells are written exactly as far as each sequence's last row.
#[derive(Clone)]
struct Setup {
    n_head: u32,
    n_head_kv: u32,
    dim_k: u32,
    dim_v: u32,
    type_k: DType,
    type_v: DType,
    /// Position and sequence of each row.
    rows: Vec<(u32, u32)>,
}

impl Setup {
    fn bench(&self) -> Bench {
        let n_seq = self.rows.iter().map(|r| r.1).max().unwrap() + 1;
        let written = |s: u32| self.rows.iter().filter(|r| r.1 == s).map(|r| r.0 + 1).max().unwrap();
        let kv = KvLayout {
            n_layer: 2,
            n_ctx: (0..n_seq).map(written).max().unwrap() + 3,
            n_head_kv: self.n_head_kv,
            head_dim_k: self.dim_k,
            head_dim_v: self.dim_v,
            type_k: self.type_k,
            type_v: self.type_v,
        };
        let mut caches = Vec::new();
        for s in 0..n_seq {
            let mut cache = Buf::new(kv.total_bytes().unwrap() as usize);
            for head in 0..self.n_head_kv {
                for cell in 0..written(s) {
                    let seed = 7919 * s + 31 * head + 1009 * cell;
                    let (dk, dv) = (self.dim_k as usize, self.dim_v as usize);
                    let at = kv.k_offset(1, head, cell);
                    let bytes = &mut cache.bytes_mut()[at..at + self.type_k.row_bytes(dk).unwrap()];
                    kv_append::reference(self.type_k, &numbers(dk, seed), bytes);
                    let at = kv.v_offset(1, head, cell);
                    let bytes = &mut cache.bytes_mut()[at..at + self.type_v.row_bytes(dv).unwrap()];
                    kv_append::reference(self.type_v, &numbers(dv, seed + 1), bytes);
                }
            }
            caches.push(cache);
        }
        let q_cols = (self.n_head * self.dim_k) as usize;
        let q: Vec<f32> = self.rows.iter().flat_map(|(p, s)| numbers(q_cols, 17 * p + s + 5)).collect();
        let cache = |t, d: u32| (ValueType::matrix(t, Dim::S, self.n_head_kv * d), Buf::new(0));
        let args = vec![
            (rows_of(q_cols), Buf::from_f32(&q)),
            cache(self.type_k, self.dim_k),
            cache(self.type_v, self.dim_v),
        ];
        let scale = 1.0 / (self.dim_k as f32).sqrt();
        let a = Attrs { layer: 1, n_head: self.n_head, n_head_kv: self.n_head_kv, scale };
        let mut bench = Bench::new(Op::Attention(a), self.rows.len(), args);
        bench.positions = self.rows.iter().map(|r| r.0).collect();
        bench.seqs = self.rows.iter().map(|r| r.1).collect();
        (bench.kv, bench.caches) = (kv, caches);
        bench
    }

    /// Every row and head alone, by the reference.
    fn want(&self, bench: &mut Bench) -> Vec<f32> {
        let Op::Attention(a) = bench.op else { unreachable!() };
        let (dk, dv) = (self.dim_k as usize, self.dim_v as usize);
        let q: Vec<f32> = bytemuck::cast_slice(bench.args[0].1.bytes()).to_vec();
        let mut want = Vec::new();
        for (t, (p, s)) in self.rows.iter().enumerate() {
            let seq = KvSeq { base: bench.caches[*s as usize].ptr() };
            for head in 0..self.n_head {
                let group = self.n_head / self.n_head_kv;
                // SAFETY: the cache has the layout and lives while the bench does; cells up to p are written.
                let cells = unsafe { seq.cells(&bench.kv, 1, head / group, *p as usize + 1) };
                let first = (t * self.n_head as usize + head as usize) * dk;
                let mut out = vec![0f32; dv];
                let mut room = (vec![0f32; dk.max(dv)], vec![0f32; dv]);
                reference(a.scale, &q[first..first + dk], cells, &mut out, (&mut room.0, &mut room.1));
                want.extend(out);
            }
        }
        want
    }

    fn check(&self) {
        let mut bench = self.bench();
        let want = self.want(&mut bench);
        assert!(want.iter().all(|x| x.is_finite()));
        let what = format!(
            "{} heads on {} of {}/{}, {} {}, {} rows from {:?}",
            self.n_head,
            self.n_head_kv,
            self.dim_k,
            self.dim_v,
            self.type_k,
            self.type_v,
            self.rows.len(),
            self.rows[0],
        );
        bench.check(&what, &[Some(bits(&want))], &[]);
    }
}

const F32: DType = DType::F32;
const F16: DType = DType::F16;
const Q8_0: DType = DType::Q8_0;
const Q4_0: DType = DType::Q4_0;

#[test]
fn head_sizes_and_cache_types() {
    for (dim_k, dim_v) in [(8, 8), (16, 16), (20, 9), (64, 64), (80, 80), (96, 96), (128, 128), (256, 64)] {
        for (type_k, type_v) in [(F32, F32), (F16, F16), (F32, F16), (F16, F32)] {
            for rows in [vec![(0, 0)], vec![(40, 0)], (0..9).map(|p| (p + 12, 0)).collect()] {
                Setup { n_head: 4, n_head_kv: 2, dim_k, dim_v, type_k, type_v, rows }.check();
            }
        }
    }
}

#[test]
fn caches_of_blocks() {
    for (dim_k, dim_v) in [(32, 32), (64, 64), (96, 96), (128, 128), (32, 160), (256, 64)] {
        for (type_k, type_v) in [(Q8_0, Q8_0), (Q4_0, Q4_0), (Q8_0, Q4_0), (F16, Q8_0), (Q4_0, F32)] {
            for rows in [vec![(0, 0)], vec![(45, 0)], (0..9).map(|p| (p + 12, 0)).collect()] {
                Setup { n_head: 4, n_head_kv: 2, dim_k, dim_v, type_k, type_v, rows }.check();
            }
        }
    }
    // Only one of two has heads of whole blocks.
    let rows = vec![(19, 0)];
    Setup { n_head: 2, n_head_kv: 1, dim_k: 20, dim_v: 32, type_k: F16, type_v: Q4_0, rows }.check();
}

#[test]
fn chunk_borders_in_caches_of_blocks() {
    for (type_k, type_v) in [(Q8_0, Q8_0), (Q4_0, Q8_0)] {
        for last in [255, 256, 600] {
            let one = Setup {
                n_head: 6,
                n_head_kv: 3,
                dim_k: 32,
                dim_v: 32,
                type_k,
                type_v,
                rows: vec![(last, 0), (last / 2, 1)],
            };
            one.check();
            Setup { rows: (last - 5..=last).map(|p| (p, 0)).collect(), ..one }.check();
        }
    }
}

#[test]
fn chunk_borders_in_decode_and_prefill() {
    for last in [254, 255, 256, 257, 511, 512, 599] {
        for (n_head, n_head_kv) in [(1, 1), (8, 1), (6, 3)] {
            let one = Setup {
                n_head,
                n_head_kv,
                dim_k: 16,
                dim_v: 16,
                type_k: F16,
                type_v: F16,
                rows: vec![(last, 0)],
            };
            one.check();
            let rows = (last - 5..=last).map(|p| (p, 0)).collect();
            Setup { rows, ..one }.check();
        }
    }
}

#[test]
fn one_row_alone() {
    let dims = [(32, 32), (64, 64), (96, 96), (128, 128), (128, 64), (64, 160), (256, 288), (48, 48)];
    for (dim_k, dim_v) in dims {
        for (type_k, type_v) in [(F16, F16), (F32, F16), (Q8_0, Q4_0), (Q4_0, Q8_0), (F16, F32)] {
            if type_k.row_bytes(dim_k as usize).is_none() || type_v.row_bytes(dim_v as usize).is_none() {
                continue;
            }
            for (n_head, n_head_kv) in [(3, 3), (7, 1)] {
                for last in [0, 14, 15, 16, 255, 256, 530] {
                    Setup { n_head, n_head_kv, dim_k, dim_v, type_k, type_v, rows: vec![(last, 0)] }.check();
                }
            }
        }
    }
}

#[test]
fn a_whole_prompt() {
    for (n_head, n_head_kv) in [(3, 1), (2, 2), (5, 1)] {
        let rows = (0..300).map(|p| (p, 0)).collect();
        Setup { n_head, n_head_kv, dim_k: 24, dim_v: 24, type_k: F16, type_v: F32, rows }.check();
    }
}

#[test]
fn many_heads_of_one_group() {
    for n_head in [63, 64, 65, 130] {
        for dim in [8, 32] {
            for rows in [vec![(3, 0)], vec![(3, 0), (4, 0)]] {
                let (type_k, type_v) = (F32, F32);
                Setup { n_head, n_head_kv: 1, dim_k: dim, dim_v: dim, type_k, type_v, rows }.check();
            }
        }
    }
}

#[test]
fn sequences_side_by_side() {
    let rows = vec![(300, 0), (0, 1), (255, 2), (256, 2), (257, 2), (17, 1), (301, 0), (2, 3)];
    Setup { n_head: 4, n_head_kv: 2, dim_k: 32, dim_v: 32, type_k: F16, type_v: F16, rows }.check();
}

#[test]
fn rows_in_any_order() {
    let rows = vec![(270, 0), (3, 0), (258, 0), (40, 0), (255, 0), (256, 0)];
    Setup { n_head: 3, n_head_kv: 3, dim_k: 16, dim_v: 16, type_k: F32, type_v: F16, rows }.check();
}

#[test]
fn a_row_of_a_batch_is_that_row_alone() {
    let all = Setup {
        n_head: 8,
        n_head_kv: 2,
        dim_k: 64,
        dim_v: 64,
        type_k: F16,
        type_v: F16,
        rows: (250..262).map(|p| (p, 0)).collect(),
    };
    let mut bench = all.bench();
    let n = 8 * 64 * 4;
    for kernel in bench.kernels() {
        let together = bench.run(kernel, 2).0[0].bytes().to_vec();
        for (t, row) in all.rows.iter().enumerate() {
            let mut alone = Setup { rows: vec![*row], ..all.clone() }.bench();
            alone.caches = bench.caches.clone();
            alone.kv = bench.kv;
            let got = alone.run(kernel, 3).0[0].bytes().to_vec();
            assert_eq!(got, together[t * n..(t + 1) * n], "{} row {t}", kernel.name);
        }
    }
}
