//! How fast the convolutions of an image network run, against the multiply-add peak measured on this core.
//!
//! `cargo run --release -p coreml-kernels --example kernel_speed [threads] [isa]`. The convolutions are those of FastViT-T8 for
//! 256 x 256 pixels. The column "alone" repeats one layer, so weights and image are in the caches as far as they fit. The column
//! "in sequence" runs all layers one after the other, each with its own weights, as a prediction does.

#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::time::Instant;

use coreml_kernels::conv::{Conv2d, ConvEpilogue, ConvShape, Convolve};
use coreml_kernels::gemm::{Epilogue, PackedB, gemm_pair, gemm_pair_scratch_len};
use coreml_kernels::{Activation, Isa, ThreadPool, peak_flops};

/// `(times in the network, cin, cout, kernel, stride, groups, image size, GELU after it)`
type Row = (usize, usize, usize, usize, usize, usize, usize, bool);

const FASTVIT_T8: &[Row] = &[
    (1, 3, 48, 3, 2, 1, 256, true),
    (1, 48, 48, 3, 2, 48, 128, true),
    (1, 48, 48, 1, 1, 1, 64, true),
    (2, 48, 48, 3, 1, 48, 64, false),
    (2, 48, 48, 7, 1, 48, 64, false),
    (2, 48, 144, 1, 1, 1, 64, true),
    (2, 144, 48, 1, 1, 1, 64, false),
    (1, 48, 96, 7, 2, 48, 64, true),
    (1, 96, 96, 1, 1, 1, 32, true),
    (2, 96, 96, 3, 1, 96, 32, false),
    (2, 96, 96, 7, 1, 96, 32, false),
    (2, 96, 288, 1, 1, 1, 32, true),
    (2, 288, 96, 1, 1, 1, 32, false),
    (1, 96, 192, 7, 2, 96, 32, true),
    (1, 192, 192, 1, 1, 1, 16, true),
    (4, 192, 192, 3, 1, 192, 16, false),
    (4, 192, 192, 7, 1, 192, 16, false),
    (4, 192, 576, 1, 1, 1, 16, true),
    (4, 576, 192, 1, 1, 1, 16, false),
    (1, 192, 384, 7, 2, 192, 16, true),
    (1, 384, 384, 1, 1, 1, 8, true),
    (2, 384, 384, 3, 1, 384, 8, false),
    (2, 384, 384, 7, 1, 384, 8, false),
    (2, 384, 1152, 1, 1, 1, 8, true),
    (2, 1152, 384, 1, 1, 1, 8, false),
    (1, 384, 768, 3, 1, 384, 8, true),
    (1, 768, 1000, 1, 1, 1, 1, false),
];

struct Layer {
    row: usize,
    conv: Conv2d,
    size: usize,
    activation: Activation,
    flops: f64,
}

impl Layer {
    fn new(isa: Isa, index: usize) -> Self {
        let (_, cin, cout, kernel, stride, groups, size, gelu) = FASTVIT_T8[index];
        let shape = ConvShape {
            cin,
            cout,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [kernel / 2; 4],
            groups,
        };
        let taps = cin / groups * kernel * kernel;
        let weights = values(cout * taps);
        let conv = Conv2d::new(isa, shape, &weights, Some(&values(cout)));
        let (oh, ow) = shape.out_size(size, size);
        let activation = if gelu { Activation::Gelu } else { Activation::None };
        Self { row: index, conv, size, activation, flops: 2.0 * (oh * ow * cout * taps) as f64 }
    }

    /// Runs once and returns the seconds it took.
    fn time(&self, pool: &ThreadPool, buffers: &mut [Vec<f32>; 3]) -> f64 {
        let [input, out, scratch] = buffers.each_mut().map(|b| at_cache_line(b));
        let epilogue = ConvEpilogue { residual: None, activation: self.activation };
        let start = Instant::now();
        self.conv.run(pool, 1, self.size, self.size, input, &epilogue, out, scratch);
        start.elapsed().as_secs_f64()
    }
}

/// Callers' memory starts at a cache line, so that is what is measured.
fn at_cache_line(values: &mut [f32]) -> &mut [f32] {
    let skip = values.as_ptr().align_offset(64);
    &mut values[skip..]
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 5000.0 - 0.1).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The network's perceptrons, two pointwise convolutions each, as one kernel.
fn pairs(isa: Isa, pool: &ThreadPool, peak: f64) {
    for (m, width) in [(4096, 48), (1024, 96), (256, 192), (64, 384)] {
        let inner = 3 * width;
        let (b1, b2) = (PackedB::pack(isa, width, inner, |k, n| ((k + n) % 7) as f32 * 0.01), {
            PackedB::pack(isa, inner, width, |k, n| ((k + 2 * n) % 5) as f32 * 0.01)
        });
        let (mut a, mut out) = (values(m * width + 16), vec![0.0; m * width + 16]);
        let mut scratch = vec![0.0; gemm_pair_scratch_len(inner, pool.threads())];
        let first = Epilogue { activation: Activation::Gelu, ..Epilogue::default() };
        let last = Epilogue::default();
        let (a, out) = (at_cache_line(&mut a), at_cache_line(&mut out));
        let time = || {
            let start = Instant::now();
            gemm_pair(isa, pool, m, a, width, (&b1, &first), (&b2, &last), out, width, &mut scratch);
            start.elapsed().as_secs_f64()
        };
        let seconds = median(std::iter::repeat_with(time).take(60).collect());
        let flops = (4 * m * width * inner) as f64;
        println!(
            "pair {m:4} x {width:3} -> {inner:4} gelu -> {width:3} {:9.1} us {:5.1} % peak",
            seconds * 1e6,
            100.0 * flops / seconds / peak
        );
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1);
    let name = arguments.next();
    let isa = Isa::available().into_iter().rev().find(|isa| name.as_deref().is_none_or(|n| n == isa.name()));
    let Some(isa) = isa else {
        println!("this CPU has only {:?}", Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>());
        return;
    };
    let pool = ThreadPool::new(threads);
    let peak = peak_flops(isa, &pool);
    println!("{} on {threads} thread(s); peak {:.0} GFLOP/s", isa.name(), peak / 1e9);

    let layers: Vec<Layer> = FASTVIT_T8
        .iter()
        .enumerate()
        .flat_map(|(index, row)| (0..row.0).map(move |_| index))
        .map(|index| Layer::new(isa, index))
        .collect();
    let scratch = layers.iter().map(|l| l.conv.scratch_len(l.size, l.size, threads)).max().unwrap_or(0);
    let mut buffers = [values(128 * 128 * 48 + 16), vec![0.0; 128 * 128 * 48 + 16], vec![0.0; scratch + 16]];

    let mut alone = vec![0.0; FASTVIT_T8.len()];
    for layer in &layers {
        alone[layer.row] = median((0..60).map(|_| layer.time(&pool, &mut buffers)).collect());
    }
    let rounds = 100;
    let mut each = vec![Vec::with_capacity(rounds); layers.len()];
    let mut totals = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        for (layer, times) in layers.iter().zip(&mut each) {
            times.push(layer.time(&pool, &mut buffers));
            buffers.swap(0, 1);
        }
        totals.push(start.elapsed().as_secs_f64());
        // Repeated sums would leave the range where arithmetic is fast.
        if layers.len() % 2 == 1 {
            buffers.swap(0, 1);
        }
        for (buffer, value) in buffers[..2].iter_mut().flatten().zip(values(4096).iter().cycle()) {
            *buffer = *value;
        }
    }
    let each: Vec<f64> = each.into_iter().map(median).collect();

    println!("times  cin  cout  k  s  size       us alone  GFLOP/s  % peak    us in sequence  % peak");
    for (index, &(times, cin, cout, kernel, stride, _, size, gelu)) in FASTVIT_T8.iter().enumerate() {
        let of_row: Vec<usize> = (0..layers.len()).filter(|&l| layers[l].row == index).collect();
        let flops = layers[of_row[0]].flops;
        let in_sequence = of_row.iter().map(|&l| each[l]).sum::<f64>() / of_row.len() as f64;
        println!(
            "{times:5} {cin:4} {cout:5} {kernel:2} {stride:2} {size:5} {:4} {:9.1} {:8.1} {:7.1} {:17.1} {:7.1}",
            if gelu { "gelu" } else { "" },
            alone[index] * 1e6,
            flops / alone[index] / 1e9,
            100.0 * flops / alone[index] / peak,
            in_sequence * 1e6,
            100.0 * flops / in_sequence / peak,
        );
    }
    pairs(isa, &pool, peak);
    let flops: f64 = layers.iter().map(|layer| layer.flops).sum();
    let total = median(totals);
    println!(
        "all {} layers in sequence: {:.2} ms, {:.1} % of peak ({:.2} GFLOP)",
        layers.len(),
        total * 1e3,
        100.0 * flops / total / peak,
        flops / 1e9
    );
}
