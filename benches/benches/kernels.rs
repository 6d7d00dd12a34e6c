//! Kernels on one thread, on shapes of the models in use. Products, convolutions and the functions that are computed
//! vector by vector run on every instruction set this machine has; the rest on the best one.

use std::hint::black_box;
use std::sync::Arc;

use coreml_benches::{criterion as config, values};
use coreml_kernels::conv::{
    Chain, Conv2d, ConvEpilogue, ConvShape, ConvTranspose2d, ConvTransposeShape, Convolve, DenseDepthwise, Stage,
    StageKernel,
};
use coreml_kernels::gemm::{Epilogue, PackedB, Precision, gemm};
use coreml_kernels::norm::layer_norm;
use coreml_kernels::pool::{PoolKind, PoolShape, pool2d};
use coreml_kernels::recurrent::{Cell, Layer, Outputs, PackedCell, Squash};
use coreml_kernels::softmax::softmax;
use coreml_kernels::transpose::transpose;
use coreml_kernels::{Activation, Isa, ThreadPool, elementwise};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// FastViT-T8.
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

/// A convolution that keeps an image's size, but for the stride.
fn same(cin: usize, cout: usize, k: usize, stride: usize, groups: usize) -> ConvShape {
    ConvShape { cin, cout, kernel: [k; 2], stride: [stride; 2], dilation: [1; 2], pad: [k / 2; 4], groups }
}

fn weights(shape: &ConvShape) -> Vec<f32> {
    values(shape.cout * shape.cin / shape.groups * shape.kernel[0] * shape.kernel[1])
}

/// Operations of a convolution on a square image, a multiply-add counting two.
fn flops(shape: &ConvShape, size: usize) -> u64 {
    let (oh, ow) = shape.out_size(size, size);
    (2 * oh * ow * shape.cout * shape.cin / shape.groups * shape.kernel[0] * shape.kernel[1]) as u64
}

/// Benchmarks `conv` on a square image.
fn convolution(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, conv: &Conv2d, size: usize) {
    let (pool, shape) = (ThreadPool::new(1), conv.shape());
    let (oh, ow) = conv.out_size(size, size);
    let (x, mut out) = (values(size * size * shape.cin), vec![0.0; oh * ow * shape.cout]);
    let mut scratch = vec![0.0; conv.scratch_len(size, size, 1)];
    let epilogue = ConvEpilogue { residual: None, activation: Activation::Gelu };
    group.throughput(Throughput::Elements(flops(shape, size)));
    group.bench_function(id, |b| {
        b.iter(|| conv.run(&pool, 1, size, size, black_box(&x), &epilogue, &mut out, &mut scratch));
    });
}

/// FastViT-T8, and a grouped convolution of ResNeXt's kind.
fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv");
    let cases = [
        (same(3, 48, 3, 2, 1), 256),
        (same(48, 48, 7, 1, 48), 64),
        (same(192, 192, 3, 1, 192), 16),
        (same(64, 64, 3, 1, 4), 56),
    ];
    for (shape, size) in cases {
        let ConvShape { cin, cout, kernel: [k, _], stride: [stride, _], groups, .. } = shape;
        for isa in Isa::available() {
            let name = format!("{k}x{k}/{stride} {cin}->{cout} @{size}, {groups} groups, gelu");
            let conv = Conv2d::new(isa, shape, &weights(&shape), None);
            convolution(&mut group, BenchmarkId::new(isa.name(), name), &conv, size);
        }
    }
    group.finish();
}

/// ResNet: the same convolution both ways.
fn winograd(c: &mut Criterion) {
    let mut group = c.benchmark_group("winograd");
    for (channels, size) in [(64, 56), (256, 14)] {
        let (isa, shape) = (Isa::detect(), same(channels, channels, 3, 1, 1));
        let (plain, name) = (Conv2d::new(isa, shape, &weights(&shape), None), format!("{channels} @{size}"));
        convolution(&mut group, BenchmarkId::new("plain", &name), &plain, size);
        let fast = Conv2d::for_size(isa, shape, &weights(&shape), None, [size, size], Precision::F32);
        assert!(!fast.works_in_strips(), "Winograd's method does not pay for {name}");
        convolution(&mut group, BenchmarkId::new("winograd", &name), &fast, size);
    }
    group.finish();
}

/// U-Net doubling an image, with and without overlap, and a vocoder's upsampling of sound.
fn transposed(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv_transpose");
    let cases =
        [([2, 2], [2, 2], 128, 64, [32, 32]), ([4, 4], [2, 2], 64, 32, [32, 32]), ([1, 16], [1, 8], 64, 32, [1, 1000])];
    for (kernel, stride, cin, cout, [h, w]) in cases {
        let [y, x] = [0, 1].map(|axis| (kernel[axis] - stride[axis]) / 2);
        let pad = [y, y, x, x];
        let shape = ConvTransposeShape { cin, cout, kernel, stride, dilation: [1; 2], pad, extra: [0; 2], groups: 1 };
        let weights = values(cin * cout * kernel[0] * kernel[1]);
        let conv = ConvTranspose2d::new(Isa::detect(), shape, &weights, None);
        let (oh, ow) = conv.out_size(h, w);
        let (pool, x, mut out) = (ThreadPool::new(1), values(h * w * cin), vec![0.0; oh * ow * cout]);
        let mut scratch = vec![0.0; conv.scratch_len(h, w, 1)];
        group.throughput(Throughput::Elements((2 * h * w * weights.len()) as u64));
        group.bench_function(format!("{kernel:?}/{stride:?} {cin}->{cout} @{h}x{w}"), |b| {
            b.iter(|| conv.run(&pool, 1, h, w, black_box(&x), &ConvEpilogue::default(), &mut out, &mut scratch));
        });
    }
    group.finish();
}

/// FastViT-T8's perceptron at its largest, and EfficientNet-Lite0's second block: two convolutions one after the other,
/// and as one.
fn joined(c: &mut Criterion) {
    let mut group = c.benchmark_group("joined");
    let (isa, pool) = (Isa::detect(), ThreadPool::new(1));
    let cases = [
        ("1x1 48->144->48", [same(48, 144, 1, 1, 1), same(144, 48, 1, 1, 1)], 64),
        ("1x1 16->96, depthwise 3x3/2", [same(16, 96, 1, 1, 1), same(96, 96, 3, 2, 96)], 112),
    ];
    for (name, shapes, size) in cases {
        let [first, second] = shapes.map(|shape| Conv2d::new(isa, shape, &weights(&shape), None));
        let (h, w) = first.out_size(size, size);
        let (oh, ow) = second.out_size(h, w);
        let x = values(size * size * shapes[0].cin);
        let (mut between, mut out) = (vec![0.0; h * w * shapes[0].cout], vec![0.0; oh * ow * shapes[1].cout]);
        let activation = Activation::Clip { lo: 0.0, hi: 6.0 };
        let epilogue = ConvEpilogue { residual: None, activation };
        let apart = first.scratch_len(size, size, 1).max(second.scratch_len(h, w, 1));
        let mut scratch = vec![0.0; apart];
        group.throughput(Throughput::Elements(flops(&shapes[0], size) + flops(&shapes[1], h)));
        group.bench_function(BenchmarkId::new(name, "one after the other"), |b| {
            b.iter(|| {
                first.run(&pool, 1, size, size, black_box(&x), &epilogue, &mut between, &mut scratch);
                second.run(&pool, 1, h, w, &between, &epilogue, &mut out, &mut scratch);
            });
        });
        if let Some(both) = DenseDepthwise::new(&first, activation, &second) {
            let mut scratch = vec![0.0; both.scratch_len(size, size, 1)];
            group.bench_function(BenchmarkId::new(name, "line by line"), |b| {
                b.iter(|| both.run(&pool, 1, size, size, black_box(&x), &epilogue, &mut out, &mut scratch));
            });
        }
        let chain = Chain::new(
            [first, second].map(|conv| Stage { kernel: StageKernel::Conv(Arc::new(conv)), activation }).into(),
        );
        let mut scratch = vec![0.0; chain.scratch_len(size, size, 1)];
        group.bench_function(BenchmarkId::new(name, "strip by strip"), |b| {
            b.iter(|| chain.run(&pool, 1, size, size, black_box(&x), None, &mut out, &mut scratch));
        });
    }
    group.finish();
}

/// A layer of 256 units over 64 steps; the products with the inputs are not in it.
fn recurrent(c: &mut Criterion) {
    let mut group = c.benchmark_group("recurrent");
    let (isa, pool, hidden, steps) = (Isa::detect(), ThreadPool::new(1), 256, 64);
    let lstm = Cell::Lstm { gate: Squash::Sigmoid, cell: Squash::Tanh, output: Squash::Tanh, clip: f32::INFINITY };
    let gru = Cell::Gru { gate: Squash::Sigmoid, output: Squash::Tanh, reset_after: true };
    for (name, kind) in [("lstm", lstm), ("gru", gru)] {
        let len = kind.gates() * hidden * hidden;
        // Small enough for the state to stay in the range where the functions do their work.
        let weights: Vec<f32> = values(len).iter().map(|x| x / hidden as f32).collect();
        let cells = [PackedCell::pack(isa, kind, hidden, &weights, None)];
        let layer = Layer { cells: &cells, steps, batch: 1, reverse: false };
        let products = values(steps * kind.gates() * hidden);
        let mut scratch = vec![0.0; layer.scratch_len()];
        let (mut h, mut cell) = (vec![0.0; hidden], vec![0.0; hidden]);
        group.throughput(Throughput::Elements((2 * steps * len) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let outputs = Outputs { sequence: None, h: &mut h, c: &mut cell };
                layer.run(isa, &pool, black_box(&products), outputs, &mut scratch);
            });
        });
    }
    group.finish();
}

/// What computes a function of each value, on every instruction set.
fn functions(c: &mut Criterion) {
    let mut group = c.benchmark_group("function");
    let (pool, x) = (ThreadPool::new(1), values(56 * 56 * 64));
    let mut out = vec![0.0; x.len()];
    group.throughput(Throughput::Elements(x.len() as u64));
    for isa in Isa::available() {
        for activation in [Activation::Gelu, Activation::Silu] {
            group.bench_function(BenchmarkId::new(isa.name(), format!("{activation:?}").to_lowercase()), |b| {
                b.iter(|| elementwise::activate(isa, &pool, activation, black_box(&x), &mut out));
            });
        }
    }
    // ViT-tiny: three heads attend to 197 tokens of 192 values.
    let isa = Isa::detect();
    let (heads, tokens, width) = (3, 197, 192);
    let (scores, mut shares) = (values(heads * tokens * tokens), vec![0.0; heads * tokens * tokens]);
    group.throughput(Throughput::Elements(scores.len() as u64));
    group.bench_function("softmax of 591 rows of 197", |b| {
        b.iter(|| softmax(isa, &pool, heads * tokens, tokens, 1, black_box(&scores), &mut shares));
    });
    let (x, gamma, mut out) = (values(tokens * width), values(width), vec![0.0; tokens * width]);
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("layer norm of 197 rows of 192", |b| {
        b.iter(|| layer_norm(isa, &pool, width, Some(&gamma), Some(&gamma), 1e-5, black_box(&x), &mut out));
    });
    group.finish();
}

/// What moves values and hardly computes.
fn movers(c: &mut Criterion) {
    let mut group = c.benchmark_group("movement");
    let (isa, pool) = (Isa::detect(), ThreadPool::new(1));
    let cases: [(&str, &[usize], &[usize]); 3] = [
        ("channels last", &[1, 64, 56, 56], &[0, 2, 3, 1]),
        ("heads before tokens", &[197, 3, 64], &[1, 0, 2]),
        ("tokens last", &[3, 197, 64], &[0, 2, 1]),
    ];
    for (name, dims, order) in cases {
        let x = values(dims.iter().product());
        let mut out = vec![0.0; x.len()];
        group.throughput(Throughput::Bytes(8 * x.len() as u64));
        group.bench_function(BenchmarkId::new("transpose", name), |b| {
            b.iter(|| transpose(isa, &pool, dims, order, black_box(&x), &mut out));
        });
    }
    // ResNet's first pooling, and a downsampling by averages.
    for (kind, kernel, pad) in [(PoolKind::Max, 3, 1), (PoolKind::Average { exclude_padding: true }, 2, 0)] {
        let shape = PoolShape { kernel: [kernel; 2], stride: [2; 2], pad: [pad; 4] };
        let (oh, ow) = shape.out_size(112, 112);
        let (x, mut out) = (values(112 * 112 * 64), vec![0.0; oh * ow * 64]);
        group.throughput(Throughput::Bytes(4 * (x.len() + out.len()) as u64));
        let name = if kind == PoolKind::Max { "max" } else { "average" };
        group.bench_function(BenchmarkId::new(format!("{name} pool"), format!("{kernel}x{kernel}/2 64 @112")), |b| {
            b.iter(|| pool2d(isa, &pool, kind, &shape, 1, 112, 112, 64, black_box(&x), &mut out));
        });
    }
    group.finish();
}

criterion_group! {
    name = kernels;
    config = config();
    targets = products, convolutions, winograd, transposed, joined, recurrent, functions, movers
}
criterion_main!(kernels);
