//! Matrix products as a share of what the machine can do: bytes per second for one row, operations per second for
//! many. `cargo bench --bench products [-- TYPE|ISA|rows=N,...|threads=N,...|m=N|n=N|kb=N ...]`.

use quipu::backends::Isa;
use quipu::backends::cpu::limits;
use quipu::backends::cpu::product::Product;
use quipu::backends::measure::read_rate;
use quipu::quant::DType;
use std::time::Instant;

/// What to measure: everything the arguments do not exclude.
struct Want {
    types: Vec<DType>,
    isas: Vec<Isa>,
    rows: Vec<usize>,
    threads: Vec<usize>,
    /// Weight rows of the products with many activation rows: by default a TinyLlama feed-forward matrix.
    m: usize,
    /// Elements of a row.
    n: usize,
    /// KiB of the weight for few activation rows: by default far past every cache.
    kb: usize,
}

const USAGE: &str = "arguments, any number of each: TYPE ISA rows=N,... threads=N,... m=N n=N kb=N";

/// Numbers between commas.
fn numbers(v: &str) -> Option<Vec<usize>> {
    v.split(',').map(|n| n.parse().ok().filter(|n| *n > 0)).collect()
}

fn arguments() -> Want {
    let (mut types, mut isas, mut rows, mut threads) = (vec![], vec![], vec![], vec![]);
    let (mut m, mut n, mut kb) = (5632, 2048, 256 << 10);
    // Cargo adds one of its own.
    for a in std::env::args().skip(1).filter(|a| a != "--bench") {
        let value = a.split_once('=').and_then(|(name, v)| Some((name, numbers(v)?)));
        match value.as_ref().map(|(name, v)| (*name, v.as_slice())) {
            Some(("rows", v)) => rows.extend_from_slice(v),
            Some(("threads", v)) => threads.extend_from_slice(v),
            Some(("m", [v])) => m = *v,
            Some(("n", [v])) => n = *v,
            Some(("kb", [v])) => kb = *v,
            _ => match (DType::from_name(&a), a.parse()) {
                (Some(t), _) => types.push(t),
                (_, Ok(isa)) => isas.push(isa),
                _ => {
                    eprintln!("{a:?} is not known; {USAGE}");
                    std::process::exit(2);
                }
            },
        }
    }
    fn or<T>(v: Vec<T>, all: Vec<T>) -> Vec<T> {
        if v.is_empty() { all } else { v }
    }
    Want {
        types: or(
            types,
            quipu::quant::TYPES
                .iter()
                .filter_map(|t| DType::from_id(t.id))
                .filter(|t| t.weight_codec().is_some())
                .collect(),
        ),
        isas: or(isas, vec![Isa::Avx2, Isa::Avx512]).into_iter().filter(|i| i.available()).collect(),
        rows: or(rows, vec![1, 2, 4, 8, 32, 512]),
        threads: or(threads, vec![1, 2]),
        m,
        n,
        kb,
    }
}

/// Bytes of a valid weight: small numbers that differ.
fn weight(dtype: DType, m: usize, n: usize) -> Vec<u8> {
    let row_bytes = dtype.row_bytes(n).expect("whole blocks");
    let values: Vec<f32> = (0..n).map(|k| ((k * 2_654_435_761) % 2001) as f32 / 1000.0 - 1.0).collect();
    let mut row = vec![0; row_bytes];
    (dtype.codec().expect("a codec").encode)(&values, &mut row);
    row.repeat(m)
}

/// Least seconds of a call, over about half a second.
fn least(mut call: impl FnMut()) -> f64 {
    call();
    let (mut best, start) = (f64::INFINITY, Instant::now());
    while start.elapsed().as_secs_f64() < 0.5 {
        let one = Instant::now();
        call();
        best = best.min(one.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let want = arguments();
    println!("{:>8} {:>7} {:>7} {:>12} {:>9}", "limit", "isa", "threads", "measured", "unit");
    let mut read = vec![];
    for &t in &want.threads {
        let bytes = read_rate(t).expect("memory for a measurement").bytes_per_second;
        println!("{:>8} {:>7} {t:>7} {:>12.1} {:>9}", "read", "", bytes / 1e9, "GB/s");
        read.push(bytes);
    }
    println!(
        "{:>8} {:>7} {:>7} {:>6} {:>12} {:>9} {:>8}",
        "type", "isa", "threads", "rows", "measured", "unit", "of limit"
    );
    for &dtype in &want.types {
        let n = want.n;
        let few = (want.kb << 10) / dtype.row_bytes(n).expect("whole blocks") / 32 * 32;
        let big = weight(dtype, few.max(want.m), n);
        for &isa in &want.isas {
            for (&threads, &read) in want.threads.iter().zip(&read) {
                let peak = if dtype.block() > 1 {
                    limits::peak_bytes(isa, threads, 5)
                } else {
                    limits::peak_fma(isa, threads, 5)
                };
                for &rows in &want.rows {
                    let row_bytes = dtype.row_bytes(n).expect("whole blocks");
                    let m = if rows < 8 { few } else { want.m };
                    let x: Vec<f32> = (0..rows * n).map(|i| (i % 97) as f32 / 50.0 - 1.0).collect();
                    let w = &big[..m * row_bytes];
                    let mut p = Product::new(dtype, isa, w, m, n, &x).expect("sizes fit");
                    let seconds = least(|| {
                        p.run(threads as u32);
                    });
                    let (measured, unit, limit) = if rows < 8 {
                        ((m * row_bytes) as f64 / seconds, "GB/s", read)
                    } else {
                        ((2 * m * n * rows) as f64 / seconds, "Gop/s", peak)
                    };
                    let share = format!("{:.0} %", 100.0 * measured / limit);
                    println!(
                        "{dtype:>8} {isa:>7} {threads:>7} {rows:>6} {:>12.1} {unit:>9} {share:>8}",
                        measured / 1e9
                    );
                }
            }
        }
    }
}
