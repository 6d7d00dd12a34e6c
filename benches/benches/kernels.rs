//! Kernels on the shapes of FastViT-T8, on every instruction set this machine has, on one thread.

use std::hint::black_box;

use coreml_kernels::conv::{Conv2d, ConvEpilogue, ConvShape};
use coreml_kernels::gemm::{Epilogue, PackedB, gemm};
use coreml_kernels::{Activation, Isa, ThreadPool};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    for (m, k, n) in [(4096, 48, 144), (1024, 288, 96), (64, 1152, 384), (1, 768, 1000)] {
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        for isa in Isa::available() {
            let pool = ThreadPool::new(1);
            let (a, weights) = (values(m * k), values(k * n));
            let packed = PackedB::pack(isa, k, n, |row, column| weights[row * n + column]);
            let mut out = vec![0.0; m * n];
            group.bench_function(BenchmarkId::new(isa.name(), format!("{m}x{k}x{n}")), |b| {
                b.iter(|| gemm(isa, &pool, m, black_box(&a), k, &packed, &Epilogue::default(), &mut out, n));
            });
        }
    }
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv");
    let depthwise = |channels, k, pad| (channels, channels, k, 1, pad, channels);
    let cases = [(3, 48, 3, 2, 1, 1), depthwise(48, 7, 3), depthwise(192, 3, 1), (48, 48, 3, 1, 1, 1)];
    for (cin, cout, k, stride, pad, groups) in cases {
        let (h, w) = if cin == 3 { (256, 256) } else { (64, 64) };
        let shape =
            ConvShape { cin, cout, kernel: [k, k], stride: [stride, stride], dilation: [1, 1], pad: [pad; 4], groups };
        let (oh, ow) = shape.out_size(h, w);
        group.throughput(Throughput::Elements((2 * oh * ow * cout * cin / groups * k * k) as u64));
        for isa in Isa::available() {
            let pool = ThreadPool::new(1);
            let conv = Conv2d::new(isa, shape, &values(cout * cin / groups * k * k), None);
            let (x, mut out) = (values(h * w * cin), vec![0.0; oh * ow * cout]);
            let mut scratch = vec![0.0; conv.scratch_len(h, w, 1)];
            let epilogue = ConvEpilogue { residual: None, activation: Activation::Gelu };
            let name = format!("{k}x{k}/{stride} {cin}->{cout} @{h}, {groups} groups, gelu");
            group.bench_function(BenchmarkId::new(isa.name(), name), |b| {
                b.iter(|| conv.run(&pool, 1, h, w, black_box(&x), &epilogue, &mut out, &mut scratch));
            });
        }
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = products, convolutions
}
criterion_main!(kernels);
