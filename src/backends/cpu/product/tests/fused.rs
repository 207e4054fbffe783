//! The fused products.

use super::*;
use crate::ops::rope::Pairing;
use crate::ops::{kv_append, linear_add, linear_qkv, linear_qkv_rope_kv, linear_swiglu, rope, rope_kv};

#[test]
fn linear_add_rows_are_the_oracle() {
    for (dtype, name) in TYPES {
        for (m, n, rows) in [(33, 96, 1), (100, 64, 9), (7, 320, 3)] {
            for with_bias in [false, true] {
                let mut r = Random::new((m + n + rows) as u64);
                let x = r.values(rows * n);
                let weight = r.weight(dtype, m, n);
                let (bias, residual) = (r.values(m), r.values(rows * m));
                let acts = acts_for(dtype, &x, rows, n);
                let mut expected = vec![0f32; rows * m];
                let b = with_bias.then_some(&bias[..]);
                linear_add::reference(dtype, &weight, &acts.content, n, b, &residual, &mut expected);
                let mut args = vec![acts, Value::weight(dtype, m, n, weight)];
                if with_bias {
                    args.push(Value::weight(DType::F32, 1, m, bytes(&bias)));
                }
                args.push(Value::acts(DType::F32, rows, m, bytes(&residual)));
                let outs = [Value::result(DType::F32, rows, m)];
                let op = Op::LinearAdd(linear_add::Attrs);
                for k in rows_for("linear_add", name) {
                    for threads in 1..=3 {
                        let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                        same(&format!("{} m={m} n={n} rows={rows}", k.name), &got[0], &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn linear_qkv_rows_are_the_oracle() {
    let mixed = [DType::F16, DType::F32, DType::BF16];
    let blocks = [DType::Q4_0, DType::Q8_0, DType::IQ4_NL];
    for (dtypes, name) in
        TYPES.map(|(t, n)| ([t; 3], n)).into_iter().chain([(mixed, "mixed"), (blocks, "mixed")])
    {
        for (ms, n, rows) in [([64, 16, 16], 64, 1), ([33, 5, 70], 96, 4), ([130, 32, 31], 64, 20)] {
            for with_bias in [false, true] {
                let mut r = Random::new((ms[0] + n + rows) as u64);
                let x = r.values(rows * n);
                let weights: Vec<_> = (0..3).map(|i| r.weight(dtypes[i], ms[i], n)).collect();
                let biases = ms.map(|m| r.values(m));
                let acts = acts_for(dtypes[0], &x, rows, n);
                let mut expected = ms.map(|m| vec![0f32; rows * m]);
                {
                    let [q, k, v] = &mut expected;
                    let w = |i: usize| (dtypes[i], &weights[i][..], with_bias.then_some(&biases[i][..]));
                    linear_qkv::reference([w(0), w(1), w(2)], &acts.content, n, [q, k, v]);
                }
                let mut args = vec![acts];
                args.extend((0..3).map(|i| Value::weight(dtypes[i], ms[i], n, weights[i].clone())));
                if with_bias {
                    args.extend((0..3).map(|i| Value::weight(DType::F32, 1, ms[i], bytes(&biases[i]))));
                }
                let outs = ms.map(|m| Value::result(DType::F32, rows, m));
                let op = Op::LinearQkv(linear_qkv::Attrs);
                for k in rows_for("linear_qkv", name).into_iter().filter(|k| has_leaves(k, dtypes[0])) {
                    for threads in 1..=3 {
                        let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                        for i in 0..3 {
                            same(
                                &format!("{} {ms:?} n={n} rows={rows} [{i}]", k.name),
                                &got[i],
                                &expected[i],
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn linear_swiglu_rows_are_the_oracle() {
    let mixed = [DType::F16, DType::BF16];
    let blocks = [DType::Q5_1, DType::Q4_1];
    for (dtypes, name) in
        TYPES.map(|(t, n)| ([t; 2], n)).into_iter().chain([(mixed, "mixed"), (blocks, "mixed")])
    {
        for (m, n, rows) in [(5, 64, 1), (300, 32, 2), (77, 96, 4), (300, 64, 31)] {
            let mut r = Random::new((m + n + rows) as u64);
            let x = r.values(rows * n);
            let weights: Vec<_> = dtypes.map(|t| r.weight(t, m, n)).into();
            let acts = acts_for(dtypes[0], &x, rows, n);
            let mut expected = vec![0f32; rows * m];
            let w = [&weights[0][..], &weights[1]];
            linear_swiglu::reference(dtypes, w, &acts.content, n, &mut expected);
            let mut args = vec![acts];
            args.extend((0..2).map(|i| Value::weight(dtypes[i], m, n, weights[i].clone())));
            let outs = [Value::result(DType::F32, rows, m)];
            let op = Op::LinearSwiglu(linear_swiglu::Attrs);
            for k in rows_for("linear_swiglu", name).into_iter().filter(|k| has_leaves(k, dtypes[0])) {
                for threads in 1..=3 {
                    let got = run(k, &op, &args, &outs, &mut Around::nothing(), threads);
                    same(&format!("{} m={m} n={n} rows={rows}", k.name), &got[0], &expected);
                }
            }
        }
    }
}

/// One sequence of rows, in two caches, against the oracle row by row.
#[test]
fn linear_qkv_rope_kv_rows_are_the_oracle() {
    let mixed = [DType::F32, DType::BF16, DType::F16];
    let blocks = [DType::Q8_0, DType::Q5_0, DType::Q4_0];
    let cases = [
        // Query heads, key-value heads, head sizes, rotated dimensions, pairing, n, rows.
        (4, 2, 8, 8, 8, Pairing::Adjacent, 64, 1),
        (3, 1, 40, 24, 32, Pairing::HalfSplit, 96, 5),
        (5, 5, 64, 64, 64, Pairing::HalfSplit, 32, 19),
    ];
    for (dtypes, name) in
        TYPES.map(|(t, n)| ([t; 3], n)).into_iter().chain([(mixed, "mixed"), (blocks, "mixed")])
    {
        for (heads, heads_kv, dim, dim_v, n_rot, pairing, n, rows) in cases {
            for (with_bias, with_norms) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut r = Random::new((heads + n + rows) as u64);
                let ms = [heads * dim, heads_kv * dim, heads_kv * dim_v];
                let (type_k, type_v) = match (with_bias, dim % 32 == 0 && dim_v % 32 == 0) {
                    (true, true) => (DType::Q8_0, DType::Q4_0),
                    (false, true) => (DType::Q4_0, DType::Q8_0),
                    (true, false) => (DType::F16, DType::F32),
                    (false, false) => (DType::F32, DType::F16),
                };
                let (layer, n_ctx) = (1u32, 24u32);
                let kv = KvLayout {
                    n_layer: 2,
                    n_ctx,
                    n_head_kv: heads_kv as u32,
                    head_dim_k: dim as u32,
                    head_dim_v: dim_v as u32,
                    type_k,
                    type_v,
                };
                let attrs = rope_kv::Attrs {
                    rope: rope::Attrs { pairing, head_dim: dim as u32, n_rot: n_rot as u32 },
                    kv: kv_append::Attrs { layer, n_head_kv: heads_kv as u32, type_k, type_v },
                    norm_eps: with_norms.then_some(1e-5),
                };
                let x = r.values(rows * n);
                let table = r.values(rows * n_rot);
                let norms = [r.values(dim), r.values(dim)];
                let weights: Vec<_> = (0..3).map(|i| r.weight(dtypes[i], ms[i], n)).collect();
                let biases = ms.map(|m| r.values(m));
                let acts = acts_for(dtypes[0], &x, rows, n);
                let positions: Vec<u32> = (0..rows as u32).map(|t| t / 2 + 3).collect();
                let seqs: Vec<u32> = (0..rows as u32).map(|t| t % 2).collect();

                let size = kv.total_bytes().unwrap() as usize;
                let mut caches = [vec![0u8; size], vec![0u8; size]];
                let mut expected = ms.map(|m| vec![0f32; rows * m]);
                let [size_k, size_v] = [(type_k, dim), (type_v, dim_v)].map(|(t, d)| t.row_bytes(d).unwrap());
                let [mut cells_k, mut cells_v] = [vec![0u8; heads_kv * size_k], vec![0u8; heads_kv * size_v]];
                let x_row = acts.content.len() / rows;
                for t in 0..rows {
                    let w = |i: usize| (dtypes[i], &weights[i][..], with_bias.then_some(&biases[i][..]));
                    let [q, k, v] = &mut expected;
                    linear_qkv_rope_kv::reference(
                        &attrs,
                        [w(0), w(1), w(2)],
                        &acts.content[t * x_row..(t + 1) * x_row],
                        n,
                        (
                            &table[t * n_rot..(t + 1) * n_rot],
                            with_norms.then_some([&norms[0][..], &norms[1][..]]),
                        ),
                        [
                            &mut q[t * ms[0]..(t + 1) * ms[0]],
                            &mut k[t * ms[1]..(t + 1) * ms[1]],
                            &mut v[t * ms[2]..(t + 1) * ms[2]],
                        ],
                        [&mut cells_k, &mut cells_v],
                    );
                    let cache = &mut caches[seqs[t] as usize];
                    for h in 0..heads_kv {
                        let at = kv.k_offset(layer, h as u32, positions[t]);
                        cache[at..at + size_k].copy_from_slice(&cells_k[h * size_k..(h + 1) * size_k]);
                        let at = kv.v_offset(layer, h as u32, positions[t]);
                        cache[at..at + size_v].copy_from_slice(&cells_v[h * size_v..(h + 1) * size_v]);
                    }
                }

                let mut args = vec![acts];
                args.extend((0..3).map(|i| Value::weight(dtypes[i], ms[i], n, weights[i].clone())));
                if with_bias {
                    args.extend((0..3).map(|i| Value::weight(DType::F32, 1, ms[i], bytes(&biases[i]))));
                }
                args.push(Value::acts(DType::F32, rows, n_rot, bytes(&table)));
                if with_norms {
                    args.extend(norms.iter().map(|w| Value::weight(DType::F32, 1, dim, bytes(w))));
                }
                let outs = ms.map(|m| Value::result(DType::F32, rows, m));
                let op = Op::LinearQkvRopeKv(attrs);
                for k in rows_for("linear_qkv_rope_kv", name).into_iter().filter(|k| has_leaves(k, dtypes[0]))
                {
                    for threads in 1..=3 {
                        let aligned = || vec![0u8; size];
                        let mut around = Around {
                            positions: positions.clone(),
                            seqs: seqs.clone(),
                            kv,
                            caches: vec![aligned(), aligned()],
                        };
                        let got = run(k, &op, &args, &outs, &mut around, threads);
                        for i in 0..3 {
                            same(&format!("{} {ms:?} rows={rows} [{i}]", k.name), &got[i], &expected[i]);
                        }
                        assert!(around.caches == caches, "{} {ms:?} rows={rows}: caches", k.name);
                    }
                }
            }
        }
    }
}
