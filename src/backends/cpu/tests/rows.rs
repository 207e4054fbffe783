//! Ops that work row by row.

use super::*;
use crate::ops::{
    add, add_rms_norm, embed, kv_append, rms_norm, rms_norm_quantize, rope, rope_kv, rope_table, select_rows,
    swiglu,
};

const COLS: [usize; 9] = [1, 7, 15, 16, 17, 31, 64, 100, 259];

fn two(cols: usize, rows: usize, seed: u32) -> (Vec<f32>, Vec<f32>, Vec<(ValueType, Buf)>) {
    let (a, b) = (numbers(rows * cols, seed), numbers(rows * cols, seed + 1));
    let args = vec![(rows_of(cols), Buf::from_f32(&a)), (rows_of(cols), Buf::from_f32(&b))];
    (a, b, args)
}

#[test]
fn add_and_swiglu() {
    for cols in COLS {
        for rows in [1, 2, 5] {
            let (a, b, args) = two(cols, rows, 3);
            let mut want = vec![0f32; rows * cols];
            add::reference(&a, &b, &mut want);
            let mut bench = Bench::new(Op::Add(add::Attrs), rows, args.clone());
            bench.check("add", &[Some(bits(&want))], &[]);
            swiglu::reference(&a, &b, &mut want);
            let mut bench = Bench::new(Op::Swiglu(swiglu::Attrs), rows, args);
            bench.check("swiglu", &[Some(bits(&want))], &[]);
        }
    }
}

#[test]
fn embed_every_codec() {
    let cols = 256;
    for info in crate::quant::TYPES {
        let dtype = DType::from_id(info.id).unwrap();
        if dtype.weight_codec().is_none() {
            continue;
        }
        let table = numbers(5 * cols, 9);
        let mut bytes = vec![0u8; 5 * dtype.row_bytes(cols).unwrap()];
        (info.codec.unwrap().encode)(&table, &mut bytes);
        let mut decoded = vec![0f32; 5 * cols];
        (info.codec.unwrap().decode)(&bytes, &mut decoded);
        let ty = ValueType::matrix(dtype, Dim::Fixed(5), cols as u32);
        let mut bench = Bench::new(Op::Embed(embed::Attrs), 4, vec![(ty, Buf::from_bytes(&bytes))]);
        bench.tokens = vec![4, 0, 3, 3];
        let want: Vec<f32> =
            bench.tokens.iter().flat_map(|t| &decoded[*t as usize * cols..][..cols]).copied().collect();
        bench.check(info.name, &[Some(bits(&want))], &[]);
    }
}

#[test]
fn embed_narrow_f16_rows() {
    for cols in COLS {
        let table = numbers(3 * cols, 21);
        let halves: Vec<half::f16> = table.iter().map(|x| half::f16::from_f32(*x)).collect();
        let ty = ValueType::matrix(DType::F16, Dim::Fixed(3), cols as u32);
        let buf = Buf::from_bytes(bytemuck::cast_slice(&halves));
        let mut bench = Bench::new(Op::Embed(embed::Attrs), 2, vec![(ty, buf)]);
        bench.tokens = vec![2, 1];
        let want: Vec<f32> =
            [2, 1].iter().flat_map(|t| &halves[t * cols..][..cols]).map(|h| h.to_f32()).collect();
        bench.check("f16", &[Some(bits(&want))], &[]);
    }
}

#[test]
fn select_rows_in_order() {
    for cols in COLS {
        let x = numbers(6 * cols, 5);
        let op = Op::SelectRows(select_rows::Attrs);
        let mut bench = Bench::new(op, 6, vec![(rows_of(cols), Buf::from_f32(&x))]);
        for out_rows in [vec![], vec![5], vec![0, 2, 3, 5]] {
            let want: Vec<f32> =
                out_rows.iter().flat_map(|r: &u32| &x[*r as usize * cols..][..cols]).copied().collect();
            bench.out_rows = out_rows;
            bench.check("select_rows", &[Some(bits(&want))], &[]);
        }
    }
}

#[test]
fn rms_norm_and_its_sum() {
    for cols in COLS {
        for rows in [1, 4] {
            let (a, b, mut args) = two(cols, rows, 11);
            let w = numbers(cols, 17);
            let eps = 1e-5;
            let mut want = vec![0f32; rows * cols];
            for r in 0..rows {
                let at = r * cols..(r + 1) * cols;
                rms_norm::reference(&a[at.clone()], &w, eps, &mut want[at]);
            }
            let one = vec![args[0].clone(), (vector(cols), Buf::from_f32(&w))];
            let mut bench = Bench::new(Op::RmsNorm(rms_norm::Attrs { eps }), rows, one);
            bench.check(&format!("{cols} columns"), &[Some(bits(&want))], &[]);

            // Fused: the same as add, then rms_norm.
            let mut sum = vec![0f32; rows * cols];
            add::reference(&a, &b, &mut sum);
            for r in 0..rows {
                let at = r * cols..(r + 1) * cols;
                rms_norm::reference(&sum[at.clone()], &w, eps, &mut want[at]);
            }
            args.push((vector(cols), Buf::from_f32(&w)));
            let mut bench = Bench::new(Op::AddRmsNorm(add_rms_norm::Attrs { eps }), rows, args);
            bench.check(&format!("{cols} columns"), &[Some(bits(&sum)), Some(bits(&want))], &[]);
        }
    }
}

/// The parts one after the other, by the references of the parts.
fn norm_blocks(to: DType, x: &[f32], w: &[f32], eps: f32) -> Vec<u8> {
    let mut want = Vec::new();
    for row in x.chunks(w.len()) {
        let mut normed = vec![0f32; w.len()];
        rms_norm::reference(row, w, eps, &mut normed);
        let mut blocks = vec![0; to.row_bytes(w.len()).unwrap()];
        (to.codec().unwrap().encode)(&normed, &mut blocks);
        want.extend(blocks);
    }
    want
}

#[test]
fn norms_into_blocks() {
    let cases = [DType::Q8_0, DType::Q8_1].map(|t| (t, vec![32, 64, 96, 352]));
    for (to, sizes) in cases.into_iter().chain([(DType::Q8_K, vec![256, 768])]) {
        for cols in sizes {
            for rows in [1, 4] {
                let (mut a, b, mut args) = two(cols, rows, 31);
                a[..to.block()].fill(0.0);
                args[0].1 = Buf::from_f32(&a);
                let w = numbers(cols, 18);
                let attrs = rms_norm_quantize::Attrs { eps: 1e-6, to };
                let one = vec![args[0].clone(), (vector(cols), Buf::from_f32(&w))];
                let mut bench = Bench::new(Op::RmsNormQuantize(attrs), rows, one);
                bench.check(&format!("{to} {cols} columns"), &[Some(norm_blocks(to, &a, &w, 1e-6))], &[]);

                let mut sum = vec![0f32; rows * cols];
                add::reference(&a, &b, &mut sum);
                args.push((vector(cols), Buf::from_f32(&w)));
                let mut bench = Bench::new(Op::AddRmsNormQuantize(attrs), rows, args);
                let want = [Some(bits(&sum)), Some(norm_blocks(to, &sum, &w, 1e-6))];
                bench.check(&format!("{to} {cols} columns"), &want, &[]);
            }
        }
    }
}

#[test]
fn blocks_behind_a_norm_are_those_of_activations() {
    let (x, w) = (numbers(32, 1), numbers(32, 2));
    let args = [(rows_of(32), Buf::from_f32(&x)), (vector(32), Buf::from_f32(&w))];
    let types: Vec<ValueType> = args.iter().map(|a| a.0.clone()).collect();
    for (to, fit) in [(DType::Q4_0, 0), (DType::Q8_0, 1), (DType::Q8_1, 1)] {
        let op = Op::RmsNormQuantize(rms_norm_quantize::Attrs { eps: 0.0, to });
        let outs = op.infer(&types).unwrap();
        let case = Case { op: &op, args: &types, outs: &outs, max_rows: 1 };
        let scalar = crate::backends::cpu::kernels()
            .filter(|k| k.op == op.kind() && k.isa == crate::backends::Isa::Scalar);
        assert_eq!(scalar.filter(|k| (k.supports)(&case).is_ok()).count(), fit, "{to}");
    }
}

#[test]
fn rope_tables() {
    for (n_rot, freq_base, freq_scale) in [(2, 1e4, 1.0), (8, 1e4, 1.0), (64, 5e5, 1.0), (80, 1e6, 0.25)] {
        let yarn = rope_table::Yarn { ext_factor: 0.75, low: 1.0, high: 5.0 };
        let yarn = (freq_scale != 1.0).then_some(yarn);
        let magnitude = if n_rot == 64 { 1.19 } else { 1.0 };
        let plain = rope_table::Attrs::plain(n_rot, freq_base);
        let a = rope_table::Attrs { freq_scale, magnitude, yarn, ..plain };
        let factors: Vec<f32> = (0..n_rot / 2).map(|i| 1.0 + i as f32 * 0.37).collect();
        let positions = vec![0, 1, 7, 4095, 131_071, 2];
        for with in [false, true] {
            let factors = with.then_some(factors.as_slice());
            let args = factors.map(|f| (vector(f.len()), Buf::from_f32(f))).into_iter().collect();
            let mut bench = Bench::new(Op::RopeTable(a), 6, args);
            bench.positions = positions.clone();
            let mut want = vec![0f32; 6 * n_rot as usize];
            for (row, p) in want.chunks_mut(n_rot as usize).zip(&positions) {
                rope_table::reference(&a, rope_table::theta_scale(&a), *p, factors, row);
            }
            bench.check(&format!("n_rot {n_rot}, factors {with}"), &[Some(bits(&want))], &[]);
        }
    }
}

/// Keys and values of one layer of two layers, as the cache must hold them. Unwritten cells keep their fill.
fn stored(bench: &Bench, layer: u32, k: &[f32], v: &[f32]) -> Vec<Vec<u8>> {
    let mut want: Vec<Vec<u8>> = bench.caches.iter().map(|c| c.bytes().to_vec()).collect();
    let kv = &bench.kv;
    let (dk, dv, h) = (kv.head_dim_k as usize, kv.head_dim_v as usize, kv.n_head_kv as usize);
    for (t, (p, s)) in bench.positions.iter().zip(&bench.seqs).enumerate() {
        let cache = &mut want[*s as usize];
        for head in 0..h {
            let (k, v) = (&k[(t * h + head) * dk..][..dk], &v[(t * h + head) * dv..][..dv]);
            let at = kv.k_offset(layer, head as u32, *p);
            kv_append::reference(kv.type_k, k, &mut cache[at..at + kv.type_k.row_bytes(dk).unwrap()]);
            let at = kv.v_offset(layer, head as u32, *p);
            kv_append::reference(kv.type_v, v, &mut cache[at..at + kv.type_v.row_bytes(dv).unwrap()]);
        }
    }
    want
}

/// Blocks in which rules decide: nothing but zeros of both signs, largest elements of both signs, ties, sizes that are
/// too small for a factor.
#[test]
fn hard_blocks_are_stored_alike_everywhere() {
    let mut x = numbers(32 * 12, 77);
    x[..32].fill(0.0);
    x[32..64].fill(-0.0);
    (x[64], x[65], x[90]) = (-0.0, 9.0, -9.0);
    (x[96], x[101], x[120]) = (0.5, -9.0, 9.0);
    (x[130], x[159]) = (-9.0, 9.0);
    x[160..192].iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 - 16.0);
    x[192..224].iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32 - 15.5) / 2.0);
    x[224..256].iter_mut().for_each(|x| *x *= 1e-40);
    x[256..288].iter_mut().for_each(|x| *x *= 1e-37);
    x[288..320].iter_mut().for_each(|x| *x *= 3e-7);
    x[320..352].iter_mut().for_each(|x| *x *= 4e4);
    for (type_k, type_v) in [(DType::Q8_0, DType::Q4_0), (DType::Q4_0, DType::Q8_0)] {
        let kv =
            KvLayout { n_layer: 2, n_ctx: 2, n_head_kv: 3, head_dim_k: 128, head_dim_v: 128, type_k, type_v };
        let a = kv_append::Attrs { layer: 1, n_head_kv: 3, type_k, type_v };
        let arg = || (rows_of(x.len()), Buf::from_f32(&x));
        let mut bench = Bench::new(Op::KvAppend(a), 1, vec![arg(), arg()]);
        (bench.kv, bench.caches) = (kv, vec![Buf::new(kv.total_bytes().unwrap() as usize)]);
        let want = stored(&bench, 1, &x, &x);
        bench.check(&format!("{type_k} and {type_v}"), &[], &want);
    }
}

#[test]
fn rope_and_the_store_alone_and_fused() {
    use rope::Pairing::{Adjacent, HalfSplit};
    let cases = [
        (Adjacent, 8, 8, 4, 2, DType::F32, DType::F32),
        (Adjacent, 64, 64, 4, 4, DType::F16, DType::F16),
        (HalfSplit, 80, 32, 3, 1, DType::F16, DType::F32),
        (HalfSplit, 10, 10, 2, 1, DType::F32, DType::F16),
        (Adjacent, 19, 12, 2, 2, DType::F16, DType::F16),
        (Adjacent, 40, 38, 2, 1, DType::F32, DType::F32),
        (HalfSplit, 50, 44, 3, 3, DType::F16, DType::F16),
        (Adjacent, 32, 32, 4, 2, DType::Q8_0, DType::Q8_0),
        (HalfSplit, 64, 64, 3, 1, DType::Q4_0, DType::Q4_0),
        (HalfSplit, 96, 90, 2, 2, DType::Q8_0, DType::Q4_0),
        (Adjacent, 160, 128, 2, 1, DType::F16, DType::Q8_0),
    ];
    for (pairing, head_dim, n_rot, n_head, n_kv, type_k, type_v) in cases {
        let (d, rows) = (head_dim as usize, 5);
        let (nq, nk) = (n_head as usize * d, n_kv as usize * d);
        let (q, k, v) = (numbers(rows * nq, 1), numbers(rows * nk, 2), numbers(rows * nk, 3));
        let positions = vec![3, 0, 11, 4, 1];
        let seqs = vec![0, 1, 0, 0, 1];
        let table_attrs = rope_table::Attrs::plain(n_rot, 1e4);
        let mut table = vec![0f32; rows * n_rot as usize];
        for (row, p) in table.chunks_mut(n_rot as usize).zip(&positions) {
            rope_table::reference(&table_attrs, rope_table::theta_scale(&table_attrs), *p, None, row);
        }
        let kv = KvLayout {
            n_layer: 2,
            n_ctx: 12,
            n_head_kv: n_kv,
            head_dim_k: head_dim,
            head_dim_v: head_dim,
            type_k,
            type_v,
        };
        let cache = Buf::new(kv.total_bytes().unwrap() as usize);
        let a = rope_kv::Attrs {
            rope: rope::Attrs { pairing, head_dim, n_rot },
            kv: kv_append::Attrs { layer: 1, n_head_kv: n_kv, type_k, type_v },
            norm_eps: None,
        };
        let rotated = |x: &[f32], n: usize| {
            let mut y = x.to_vec();
            for (row, t) in y.chunks_mut(n).zip(table.chunks(n_rot as usize)) {
                rope::reference(&a.rope, row, t);
            }
            y
        };
        let (q2, k2) = (rotated(&q, nq), rotated(&k, nk));
        let what = format!("{pairing:?} {head_dim}/{n_rot}");
        let arg = |x: &[f32], n: usize| (rows_of(n), Buf::from_f32(x));
        let table_arg = arg(&table, n_rot as usize);

        let mut bench = Bench::new(Op::Rope(a.rope), rows, vec![arg(&q, nq), table_arg.clone()]);
        bench.check(&what, &[Some(bits(&q2))], &[]);

        let step = |bench: &mut Bench| {
            (bench.positions, bench.seqs) = (positions.clone(), seqs.clone());
            (bench.kv, bench.caches) = (kv, vec![cache.clone(), cache.clone()]);
        };
        let mut bench = Bench::new(Op::KvAppend(a.kv), rows, vec![arg(&k2, nk), arg(&v, nk)]);
        step(&mut bench);
        let want_caches = stored(&bench, 1, &k2, &v);
        bench.check(&what, &[], &want_caches);

        let args = vec![arg(&q, nq), arg(&k, nk), arg(&v, nk), table_arg];
        let mut bench = Bench::new(Op::RopeKv(a), rows, args);
        step(&mut bench);
        bench.check(&what, &[Some(bits(&q2)), Some(bits(&k2))], &want_caches);

        // The composition as the op's own oracle states it, for one row.
        let (mut q1, mut k1) = (q[..nq].to_vec(), k[..nk].to_vec());
        let mut k_cells = vec![0; n_kv as usize * type_k.row_bytes(d).unwrap()];
        let mut v_cells = vec![0; n_kv as usize * type_v.row_bytes(d).unwrap()];
        let t = &table[..n_rot as usize];
        rope_kv::reference(&a, (&mut q1, &mut k1, &v[..nk]), t, None, [&mut k_cells, &mut v_cells]);
        assert_eq!((bits(&q1), bits(&k1)), (bits(&q2[..nq]), bits(&k2[..nk])));
        let cell = type_k.row_bytes(d).unwrap();
        assert_eq!(k_cells[..cell], want_caches[0][kv.k_offset(1, 0, 3)..][..cell]);

        // Heads normed before: the bits of the norm's own kernels, then as above.
        let eps = 1e-6;
        let norms = [numbers(d, 7), numbers(d, 8)];
        let mut normed = [q.clone(), k.clone()];
        for (x, w) in normed.iter_mut().zip(&norms) {
            let plain = x.clone();
            for (to, from) in x.chunks_mut(d).zip(plain.chunks(d)) {
                rms_norm::reference(from, w, eps, to);
            }
            let args = vec![arg(&plain, plain.len() / rows), (vector(d), Buf::from_f32(w))];
            let mut bench = Bench::new(Op::RmsNorm(rms_norm::Attrs { eps }), rows, args);
            bench.check(&format!("heads of {d}"), &[Some(bits(x))], &[]);
        }
        let (q3, k3) = (rotated(&normed[0], nq), rotated(&normed[1], nk));
        let a = rope_kv::Attrs { norm_eps: Some(eps), ..a };
        let mut args = vec![arg(&q, nq), arg(&k, nk), arg(&v, nk), arg(&table, n_rot as usize)];
        args.extend(norms.iter().map(|w| (vector(d), Buf::from_f32(w))));
        let mut bench = Bench::new(Op::RopeKv(a), rows, args);
        step(&mut bench);
        let want_caches = stored(&bench, 1, &k3, &v);
        bench.check(&format!("{what} normed"), &[Some(bits(&q3)), Some(bits(&k3))], &want_caches);
        let (mut q1, mut k1) = (q[..nq].to_vec(), k[..nk].to_vec());
        let w = Some([&norms[0][..], &norms[1][..]]);
        rope_kv::reference(&a, (&mut q1, &mut k1, &v[..nk]), t, w, [&mut k_cells, &mut v_cells]);
        assert_eq!((bits(&q1), bits(&k1)), (bits(&q3[..nq]), bits(&k3[..nk])));
    }
}
