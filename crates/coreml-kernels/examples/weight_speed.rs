//! How fast products of few rows read their weights, for each storage format.
//!
//! `cargo run --release -p coreml-kernels --example weight_speed [threads] [isa] [format]`. Every size is measured on several matrices in
//! turn, together larger than the L2 cache, as the layers of a model are. GB/s counts the bytes of the format.

#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::time::Instant;

use coreml_kernels::gemm::{Affine, Epilogue, PALETTE, PackedB, gemm};
use coreml_kernels::{Isa, ThreadPool};

const NAMES: [&str; 5] = ["f32", "f16", "int8", "int4", "palette"];
const BITS: [usize; 5] = [32, 16, 8, 4, 4];

fn matrix(isa: Isa, format: usize, k: usize, n: usize) -> Option<PackedB> {
    let affine = |_, n: usize| Affine { scale: 0.01 + n as f32 * 1e-5, zero: 1.0 };
    let code = |k: usize, n: usize| (k * 7 + n * 3) as u8;
    Some(match format {
        0 => PackedB::pack(isa, k, n, |k, n| f32::from(code(k, n)) * 0.01),
        1 => PackedB::pack_exactly(isa, k, n, |k, n| f32::from(code(k, n)) * 0.25),
        2 => PackedB::pack_int8(isa, [k, n], k, |k, n| code(k, n).cast_signed(), affine),
        3 => PackedB::pack_int4(isa, [k, n], k, |k, n| code(k, n) & 15, affine),
        _ => PackedB::pack_palette(isa, [k, n], n, &[[0.5; PALETTE]], |k, n| code(k, n) & 15)?,
    })
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1);
    let name = arguments.next();
    let only = arguments.next();
    let isa = Isa::available().into_iter().rev().find(|isa| name.as_deref().is_none_or(|n| n == isa.name()));
    let Some(isa) = isa else {
        println!("this CPU has only {:?}", Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>());
        return;
    };
    let pool = ThreadPool::new(threads);
    println!("{} on {threads} thread(s)\n   m     k     n   us (GB/s) {NAMES:?}", isa.name());
    for (k, n) in [(768, 768), (768, 3072), (3072, 768), (768, 32000)] {
        let copies = (8 << 20) / (k * n) + 1;
        let matrices: Vec<Vec<PackedB>> = (0..NAMES.len())
            .map(|format| {
                let copies = if only.as_deref().is_none_or(|only| only == NAMES[format]) { copies } else { 0 };
                (0..copies).filter_map(|_| matrix(isa, format, k, n)).collect()
            })
            .collect();
        for m in [1, 2, 8, 64] {
            let a = vec![0.5; m * k];
            let mut out = vec![0.0; m * n];
            let mut times = vec![Vec::new(); NAMES.len()];
            for _ in 0..(40_000_000 / (k * n * m.max(4))).clamp(5, 60) {
                for (matrices, times) in matrices.iter().zip(&mut times) {
                    let start = Instant::now();
                    for b in matrices {
                        gemm(isa, &pool, m, &a, k, b, &Epilogue::default(), &mut out, n);
                    }
                    times.push(start.elapsed().as_secs_f64() / copies as f64);
                }
            }
            print!("{m:4} {k:5} {n:5} ");
            for (mut times, bits) in times.into_iter().zip(BITS) {
                times.sort_by(f64::total_cmp);
                let median = times[times.len() / 2];
                print!(" {:8.1} ({:4.1})", median * 1e6, (k * n * bits / 8) as f64 / median / 1e9);
            }
            println!();
        }
    }
}
