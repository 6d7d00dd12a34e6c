//! Compares convolutions and pools of images with their slow twins.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{Random, all_in_bf16, assert_close, everywhere, to_channels_last};
use coreml_kernels::conv::{
    Chain, Conv2d, ConvEpilogue, ConvShape, ConvTranspose2d, ConvTransposeShape, Convolve, DenseDepthwise, Stage,
    StageKernel,
};
use coreml_kernels::gemm::Precision;
use coreml_kernels::pool::{PoolKind, PoolShape, pool2d};
use coreml_kernels::reference::{self, ConvParams, ReferencePool};
use coreml_kernels::{Activation, Isa, ThreadPool};

/// What an epilogue makes of a convolution's sums.
fn finished(sums: &[f32], residual: Option<&[f32]>, activation: Activation) -> Vec<f32> {
    let residual = |i: usize| residual.map_or(0.0, |residual| f64::from(residual[i]));
    let finish = |(i, &sum): (usize, &f32)| reference::activation(activation, f64::from(sum) + residual(i)) as f32;
    sums.iter().enumerate().map(finish).collect()
}

fn check_conv(
    random: &mut Random,
    shape: ConvShape,
    n: usize,
    h: usize,
    w: usize,
    activation: Activation,
    extras: bool,
) {
    check_conv_in(Precision::F32, random, shape, n, [h, w], activation, extras);
}

/// Against sums of what the factors are rounded to.
fn check_conv_in(
    precision: Precision,
    random: &mut Random,
    shape: ConvShape,
    n: usize,
    [h, w]: [usize; 2],
    activation: Activation,
    extras: bool,
) {
    let ConvShape { cin, cout, kernel: [kh, kw], stride, dilation, pad, groups } = shape;
    let mut x = random.values(n * cin * h * w);
    let mut weights = random.values(cout * cin / groups * kh * kw);
    let bias = random.values(cout);
    let given = (to_channels_last(n, cin, h * w, &x), weights.clone());
    if precision == Precision::Bf16 {
        (x, weights) = (all_in_bf16(&x), all_in_bf16(&weights));
    }
    let (begin, end) = ([pad[0], pad[2]], [pad[1], pad[3]]);
    let params = ConvParams { strides: &stride, pads_begin: &begin, pads_end: &end, dilations: &dilation, groups };
    let (xdims, wdims) = ([n, cin, h, w], [cout, cin / groups, kh, kw]);
    let odims = reference::conv_out_dims(&xdims, &wdims, &params);
    assert_eq!(shape.out_size(h, w), (odims[2], odims[3]));
    let mut expected = vec![0.0; odims.iter().product()];
    let bias = extras.then_some(&bias[..]);
    reference::conv(&x, &xdims, &weights, &wdims, bias, &params, &mut expected);
    let residual = random.values(expected.len());
    let residual = extras.then_some(&residual[..]);
    let (x, weights) = given;
    let expected = finished(&to_channels_last(n, cout, odims[2] * odims[3], &expected), residual, activation);
    everywhere(
        |isa, pool| {
            let conv = Conv2d::with_precision(isa, shape, &weights, bias, precision);
            assert_eq!(conv.precision(), precision);
            let mut out = vec![7.0; expected.len()];
            // Scratch is whatever the last kernel left there.
            let mut scratch = vec![f32::NAN; conv.scratch_len(h, w, pool.threads())];
            let epilogue = ConvEpilogue { residual, activation };
            conv.run(pool, n, h, w, &x, &epilogue, &mut out, &mut scratch);
            out
        },
        |isa, out| assert_close(out, &expected, 3e-5, &format!("{} {shape:?} {n}x{h}x{w} {activation:?}", isa.name())),
    );
}

#[test]
fn convolutions_in_bf16_are_those_of_rounded_factors() {
    let mut random = Random::new(31);
    for round in 0..120 {
        let groups = [1, 1, 1, 2, 3][random.below(5)];
        let cin = groups * 2 * (1 + random.below(20));
        let shape = ConvShape {
            cin,
            cout: groups * (1 + random.below(60)),
            kernel: [[1, 1], [1, 1], [3, 3], [2, 5], [7, 7]][random.below(5)],
            stride: [1 + random.below(2), 1 + random.below(3)],
            dilation: [1 + random.below(2), 1 + random.below(2)],
            pad: if round % 3 == 0 { [0; 4] } else { std::array::from_fn(|_| random.below(3)) },
            groups,
        };
        let (n, size) = (1 + random.below(2), [1 + random.below(20), 1 + random.below(24)]);
        if shape.out_size(size[0], size[1]) != (0, 0) {
            let activation = [Activation::None, Activation::Relu, Activation::Gelu][random.below(3)];
            check_conv_in(Precision::Bf16, &mut random, shape, n, size, activation, round % 2 == 0);
        }
    }
}

#[test]
fn an_odd_number_of_channels_is_not_rounded() {
    let shape = ConvShape { cin: 3, cout: 8, kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1; 4], groups: 1 };
    let weights = [0.5; 8 * 3 * 9];
    for isa in Isa::available() {
        let conv = Conv2d::with_precision(isa, shape, &weights, None, Precision::Bf16);
        assert_eq!(conv.precision(), Precision::F32);
    }
}

/// A convolution of one of the kinds that networks put in a row.
fn link(random: &mut Random, cin: usize) -> ConvShape {
    let k = [1, 1, 3, 5][random.below(4)];
    let groups = if k > 1 && random.below(3) > 0 { cin } else { 1 };
    let cout = if groups > 1 { cin } else { 1 + random.below(40) };
    let stride = if k > 1 { 1 + random.below(2) } else { 1 };
    let pad = std::array::from_fn(|_| if k > 1 { random.below(k) } else { 0 });
    ConvShape { cin, cout, kernel: [k, k], stride: [stride; 2], dilation: [1, 1], pad, groups }
}

#[test]
fn a_chain_gives_the_bytes_of_its_convolutions_one_after_the_other() {
    let mut random = Random::new(77);
    let (strips, pairs) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for round in 0..120 {
        // Tall enough, now and then, for many strips.
        let (n, h, w) = (1 + random.below(2), 1 + random.below([20, 400][round % 2]), 1 + random.below(40));
        let mut shapes = vec![];
        let mut cin = 1 + random.below(30);
        for _ in 0..1 + random.below(4) {
            shapes.push(link(&mut random, cin));
            cin = shapes[shapes.len() - 1].cout;
        }
        let weights: Vec<Vec<f32>> =
            shapes.iter().map(|s| random.values(s.cout * s.cin / s.groups * s.kernel[0] * s.kernel[1])).collect();
        let x = random.values(n * h * w * shapes[0].cin);
        let (with_residual, in_pairs) = (random.below(2) == 0, random.below(3) > 0);
        let residual_seed = random.values(64);
        let precision = [Precision::F32, Precision::Bf16][usize::from(random.below(4) == 0)];
        everywhere(
            |isa, pool| {
                let activation = Activation::Relu;
                let convs = shapes
                    .iter()
                    .zip(&weights)
                    .map(|(&shape, weights)| Conv2d::with_precision(isa, shape, weights, None, precision));
                let convs: Vec<Conv2d> = convs.collect();
                let mut stages = vec![];
                let mut rest = &convs[..];
                while let [conv, after @ ..] = rest {
                    let both = after.first().filter(|_| in_pairs);
                    let both = both.and_then(|next| DenseDepthwise::new(conv, activation, next));
                    let kernel = match both {
                        Some(both) => {
                            pairs.set(pairs.get() + 1);
                            rest = &after[1..];
                            StageKernel::DenseDepthwise(Arc::new(both))
                        }
                        None => {
                            rest = after;
                            StageKernel::Conv(Arc::new(conv.clone()))
                        }
                    };
                    stages.push(Stage { kernel, activation });
                }
                let chain = Chain::new(stages);
                let (oh, ow) = chain.out_size(h, w);
                let len = n * oh * ow * cin;
                let residual: Vec<f32> = (0..len).map(|i| residual_seed[i % 64]).collect();
                let residual = with_residual.then_some(&residual[..]);
                let mut expected = x.clone();
                let (mut height, mut width) = (h, w);
                for (i, conv) in convs.iter().enumerate() {
                    let (oh, ow) = conv.out_size(height, width);
                    let mut out = vec![0.0; n * oh * ow * conv.shape().cout];
                    let mut scratch = vec![f32::NAN; conv.scratch_len(height, width, pool.threads())];
                    let residual = residual.filter(|_| i + 1 == shapes.len());
                    let epilogue = ConvEpilogue { residual, activation };
                    conv.run(pool, n, height, width, &expected, &epilogue, &mut out, &mut scratch);
                    expected = out;
                    (height, width) = (oh, ow);
                }
                let mut out = vec![7.0; len];
                let mut scratch = vec![f32::NAN; chain.scratch_len(h, w, pool.threads())];
                chain.run(pool, n, h, w, &x, residual, &mut out, &mut scratch);
                assert!(out == expected, "{} {shapes:?} {n}x{h}x{w}", isa.name());
                strips.set(strips.get() + usize::from(chain.recomputed(h, w, pool.threads()) > 0.0));
                out
            },
            |_, _| (),
        );
    }
    assert!(strips.get() > 20, "only {} chains shared lines between strips", strips.get());
    assert!(pairs.get() > 100, "only {} stages were two convolutions", pairs.get());
}

#[test]
fn a_dense_and_a_depthwise_convolution_together_give_the_bytes_of_one_after_the_other() {
    let mut random = Random::new(78);
    for _ in 0..150 {
        let (n, h, w) = (1 + random.below(2), 1 + random.below(40), 1 + random.below(40));
        let (cin, between) = (1 + random.below(20), 2 + random.below(80));
        let k = [1, 1, 3][random.below(3)];
        let first = ConvShape {
            cin,
            cout: between,
            kernel: [k; 2],
            stride: [1 + random.below(2); 2],
            dilation: [1 + random.below(2); 2],
            pad: std::array::from_fn(|_| random.below(k)),
            groups: 1,
        };
        let k = [2, 3, 5, 7][random.below(4)];
        let second = ConvShape {
            cin: between,
            cout: between * (1 + random.below(3)),
            kernel: [k; 2],
            stride: [1 + random.below(2); 2],
            dilation: [1 + random.below(5) / 4; 2],
            pad: std::array::from_fn(|_| random.below(k)),
            groups: between,
        };
        let weights = [first, second].map(|s| random.values(s.cout * s.cin / s.groups * s.kernel[0] * s.kernel[1]));
        let bias = random.values(between);
        let x = random.values(n * h * w * cin);
        let with_residual = random.below(2) == 0;
        let residual_seed = random.values(64);
        let (inner, outer) =
            [(Activation::Gelu, Activation::None), (Activation::Relu, Activation::Silu)][random.below(2)];
        everywhere(
            |isa, pool| {
                let first = Conv2d::new(isa, first, &weights[0], Some(&bias));
                let second = Conv2d::new(isa, second, &weights[1], None);
                let (mh, mw) = first.out_size(h, w);
                let (oh, ow) = second.out_size(mh, mw);
                let mut between = vec![0.0; n * mh * mw * first.shape().cout];
                let mut scratch = vec![f32::NAN; first.scratch_len(h, w, pool.threads())];
                let epilogue = ConvEpilogue { residual: None, activation: inner };
                first.run(pool, n, h, w, &x, &epilogue, &mut between, &mut scratch);
                let len = n * oh * ow * second.shape().cout;
                let residual: Vec<f32> = (0..len).map(|i| residual_seed[i % 64]).collect();
                let epilogue = ConvEpilogue { residual: with_residual.then_some(&residual[..]), activation: outer };
                let mut expected = vec![0.0; len];
                let mut scratch = vec![f32::NAN; second.scratch_len(mh, mw, pool.threads())];
                second.run(pool, n, mh, mw, &between, &epilogue, &mut expected, &mut scratch);

                let both = DenseDepthwise::new(&first, inner, &second).expect("a dense and a depthwise convolution");
                assert_eq!(both.out_size(h, w), (oh, ow));
                let mut out = vec![7.0; len];
                let mut scratch = vec![f32::NAN; both.scratch_len(h, w, pool.threads())];
                both.run(pool, n, h, w, &x, &epilogue, &mut out, &mut scratch);
                assert!(out == expected, "{} {first:?} {second:?} {n}x{h}x{w}", isa.name());
                out
            },
            |_, _| (),
        );
    }
}

#[test]
fn convolutions_by_winograds_method_match_the_plain_way() {
    let mut random = Random::new(79);
    for round in 0..40 {
        let (cin, cout) = (24 + random.below(50), 24 + random.below(if round % 8 == 0 { 300 } else { 60 }));
        let pad = std::array::from_fn(|_| random.below(4));
        let shape = ConvShape { cin, cout, kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad, groups: 1 };
        let (n, h, w) = (1 + random.below(2), 14 + random.below(30), 14 + random.below(30));
        let weights = random.values(cout * cin * 9);
        let bias = random.values(cout);
        let bias = (round % 3 > 0).then_some(&bias[..]);
        let x = random.values(n * h * w * cin);
        let (oh, ow) = shape.out_size(h, w);
        let residual = random.values(n * oh * ow * cout);
        let activation = [Activation::None, Activation::Relu, Activation::Tanh][round % 3];
        let epilogue = ConvEpilogue { residual: (round % 2 > 0).then_some(&residual[..]), activation };
        let run = |conv: &Conv2d, pool: &ThreadPool| {
            let mut out = vec![7.0; n * oh * ow * cout];
            let mut scratch = vec![f32::NAN; conv.scratch_len(h, w, pool.threads())];
            conv.run(pool, n, h, w, &x, &epilogue, &mut out, &mut scratch);
            out
        };
        let fast = |isa| Conv2d::for_size(isa, shape, &weights, bias, [h, w], Precision::F32);
        if fast(Isa::detect()).works_in_strips() {
            continue; // The plain way, which has tests of its own.
        }
        let expected = run(&Conv2d::new(Isa::detect(), shape, &weights, bias), &ThreadPool::new(1));
        everywhere(
            |isa, pool| run(&fast(isa), pool),
            // Sums of 9 * cin products of up to 1: their rounding, not the result's, sets the scale.
            |isa, out| {
                let tolerance = 1e-6 * (9 * cin) as f32;
                assert_close(out, &expected, tolerance, &format!("{} {shape:?} {n}x{h}x{w}", isa.name()));
            },
        );
    }
}

#[test]
fn convolutions_of_all_kinds_match_the_plain_loop() {
    let mut random = Random::new(4);
    for round in 0..400 {
        let groups_and_channels = match random.below(6) {
            0 | 1 => {
                let channels = [2, 3, 15, 16, 17, 24, 33, 48][random.below(8)];
                (channels, channels, channels * [1, 1, 2, 3][random.below(4)])
            }
            2 => (2, 2 * (1 + random.below(9)), 2 * (1 + random.below(20))),
            _ => (1, 1 + random.below(20), 1 + random.below(70)),
        };
        let (groups, cin, cout) = groups_and_channels;
        let shape = ConvShape {
            cin,
            cout,
            kernel: [1 + random.below(7), 1 + random.below(7)],
            stride: [1 + random.below(3), 1 + random.below(3)],
            dilation: [1 + random.below(2), 1 + random.below(3)],
            pad: [random.below(4), random.below(4), random.below(4), random.below(4)],
            groups,
        };
        let (n, h, w) = (random.below(3), random.below(14), random.below(25));
        let activation = [Activation::None, Activation::Relu, Activation::Silu][round % 3];
        check_conv(&mut random, shape, n, h, w, activation, round % 2 == 0);
    }
}

#[test]
fn convolutions_of_common_networks_match_the_plain_loop() {
    let mut random = Random::new(5);
    let same = |cin, cout, k: usize, stride, groups| ConvShape {
        cin,
        cout,
        kernel: [k, k],
        stride: [stride, stride],
        dilation: [1, 1],
        pad: [k / 2; 4],
        groups,
    };
    for (shape, size) in [
        (same(3, 48, 3, 2, 1), 32),
        (same(48, 48, 7, 1, 48), 16),
        (same(48, 96, 7, 2, 48), 16),
        (same(96, 96, 3, 2, 96), 16),
        (same(20, 20, 5, 1, 20), 18),
        (same(48, 144, 1, 1, 1), 12),
        (same(144, 40, 1, 1, 1), 12),
        (same(24, 24, 1, 2, 1), 13),
        // Two pixels, each an image's only one.
        (same(24, 40, 1, 2, 1), 1),
        (same(16, 32, 3, 1, 1), 14),
        (same(32, 32, 3, 1, 4), 9),
    ] {
        check_conv(&mut random, shape, 2, size, size + 1, Activation::Gelu, true);
    }
}

fn check_transposed(random: &mut Random, shape: ConvTransposeShape, [n, h, w]: [usize; 3], extras: bool) {
    let ConvTransposeShape { cin, cout, kernel: [kh, kw], stride, dilation, pad, groups, .. } = shape;
    let activation = [Activation::None, Activation::Relu, Activation::Silu][random.below(3)];
    let x = random.values(n * cin * h * w);
    let weights = random.values(cin * cout / groups * kh * kw);
    let bias = random.values(cout);
    let (begin, end) = ([pad[0], pad[2]], [pad[1], pad[3]]);
    let params = ConvParams { strides: &stride, pads_begin: &begin, pads_end: &end, dilations: &dilation, groups };
    let (xdims, wdims) = ([n, cin, h, w], [cin, cout / groups, kh, kw]);
    let (oh, ow) = shape.out_size(h, w);
    let odims = [n, cout, oh, ow];
    if shape.extra == [0; 2] {
        assert_eq!(odims[..], reference::conv_transpose_out_dims(&xdims, &wdims, &params));
    }
    let mut expected = vec![0.0; odims.iter().product()];
    let bias = extras.then_some(&bias[..]);
    reference::conv_transpose(&x, &xdims, &weights, &wdims, bias, &params, &odims, &mut expected);
    let residual = random.values(expected.len());
    let residual = extras.then_some(&residual[..]);
    let x = to_channels_last(n, cin, h * w, &x);
    let expected = finished(&to_channels_last(n, cout, oh * ow, &expected), residual, activation);
    everywhere(
        |isa, pool| {
            let conv = ConvTranspose2d::new(isa, shape, &weights, bias);
            let mut out = vec![7.0; expected.len()];
            let mut scratch = vec![f32::NAN; conv.scratch_len(h, w, pool.threads())];
            let epilogue = ConvEpilogue { residual, activation };
            conv.run(pool, n, h, w, &x, &epilogue, &mut out, &mut scratch);
            out
        },
        |isa, out| assert_close(out, &expected, 3e-5, &format!("{} {shape:?} {n}x{h}x{w} {activation:?}", isa.name())),
    );
}

#[test]
fn transposed_convolutions_of_all_kinds_match_the_plain_loop() {
    let mut random = Random::new(8);
    for round in 0..400 {
        let (groups, cin, cout) = match random.below(6) {
            0 => {
                let channels = [2, 3, 15, 16, 17, 33, 48][random.below(7)];
                (channels, channels, channels * [1, 1, 2][random.below(3)])
            }
            1 => (2, 2 * (1 + random.below(9)), 2 * (1 + random.below(20))),
            _ => (1, 1 + random.below(20), 1 + random.below(50)),
        };
        let stride = [1 + random.below(4), 1 + random.below(4)];
        // Kernels that fill whole lines, ones that overlap, ones that leave gaps.
        let kernel = if random.below(3) == 0 {
            [0, 1].map(|axis| stride[axis] * (1 + random.below(2)))
        } else {
            [1 + random.below(6), 1 + random.below(6)]
        };
        let shape = ConvTransposeShape {
            cin,
            cout,
            kernel,
            stride,
            dilation: if random.below(2) == 0 { [1, 1] } else { [1 + random.below(4), 1 + random.below(4)] },
            pad: if random.below(3) == 0 { [0; 4] } else { std::array::from_fn(|_| random.below(4)) },
            extra: if random.below(3) > 0 { [0; 2] } else { [random.below(4), random.below(7)] },
            groups,
        };
        let sizes = [random.below(3), random.below(9), random.below(14)];
        check_transposed(&mut random, shape, sizes, round % 2 == 0);
    }
}

#[test]
fn transposed_convolutions_of_common_networks_match_the_plain_loop() {
    let mut random = Random::new(9);
    let shape = |cin, cout, [kh, kw]: [usize; 2], [sh, sw]: [usize; 2], groups| ConvTransposeShape {
        cin,
        cout,
        kernel: [kh, kw],
        stride: [sh, sw],
        dilation: [1, 1],
        // As much as makes the output a multiple of the input, half of it on either side.
        pad: [(kh - sh) / 2, (kh - sh) / 2, (kw - sw) / 2, (kw - sw) / 2],
        extra: [(kh - sh) % 2, (kw - sw) % 2],
        groups,
    };
    for (shape, size) in [
        (shape(40, 20, [2, 2], [2, 2], 1), [1, 33, 140]),
        (shape(24, 12, [4, 4], [2, 2], 1), [2, 30, 31]),
        (shape(20, 16, [3, 3], [2, 2], 1), [1, 17, 16]),
        // More weights than pixels.
        (shape(130, 90, [4, 4], [2, 2], 1), [1, 4, 3]),
        (shape(20, 60, [4, 4], [4, 4], 1), [2, 1, 1]),
        // Sound: one line.
        (shape(30, 15, [1, 16], [1, 8], 1), [1, 1, 300]),
        (shape(21, 21, [4, 4], [2, 2], 21), [1, 40, 70]),
        (shape(33, 33, [1, 8], [1, 4], 33), [1, 1, 200]),
        (shape(32, 48, [3, 3], [2, 2], 4), [1, 9, 10]),
    ] {
        check_transposed(&mut random, shape, size, true);
    }
}

#[test]
fn pools_match_the_plain_loop() {
    let mut random = Random::new(6);
    for round in 0..200 {
        let shape = PoolShape {
            kernel: [1 + random.below(4), 1 + random.below(4)],
            stride: [1 + random.below(3), 1 + random.below(3)],
            pad: [random.below(3), random.below(3), random.below(3), random.below(3)],
        };
        let (n, c, h, w) = (1 + random.below(2), 1 + random.below(40), 1 + random.below(9), 1 + random.below(9));
        let kinds = [
            (PoolKind::Max, ReferencePool::Max),
            (PoolKind::Average { exclude_padding: true }, ReferencePool::Average { exclude_padding: true }),
            (PoolKind::Average { exclude_padding: false }, ReferencePool::Average { exclude_padding: false }),
        ];
        let (kind, twin) = kinds[round % 3];
        let mut x = random.values(n * c * h * w);
        if round % 10 == 0 {
            let at = random.below(x.len());
            x[at] = f32::NAN;
        }
        let begin = [shape.pad[0], shape.pad[2]];
        let end = [shape.pad[1], shape.pad[3]];
        let odims = reference::pool_out_dims(&[n, c, h, w], &shape.kernel, &shape.stride, &begin, &end, false);
        assert_eq!(shape.out_size(h, w), (odims[2], odims[3]));
        let mut expected = vec![0.0; odims.iter().product()];
        reference::pool(twin, &x, &[n, c, h, w], &shape.kernel, &shape.stride, &begin, &odims, &mut expected);
        let expected = to_channels_last(n, c, odims[2] * odims[3], &expected);
        let x = to_channels_last(n, c, h * w, &x);
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; expected.len()];
                pool2d(isa, pool, kind, &shape, n, h, w, c, &x, &mut out);
                out
            },
            |isa, out| assert_close(out, &expected, 1e-6, &format!("{} {kind:?} {shape:?}", isa.name())),
        );
    }
}
