//! Compares element-wise functions, reductions, normalisations, permutations and images with their slow twins.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod common;

use common::{Random, assert_close, everywhere};
use coreml_kernels::Activation;
use coreml_kernels::binary::{Binary, Broadcast, binary, binary_in_place};
use coreml_kernels::elementwise::{ELEMENTWISE, Unary, activate, activate_in_place, unary, unary_in_place};
use coreml_kernels::image::{ChannelOrder, bytes_to_pixels, bytes_to_planes};
use coreml_kernels::norm::{layer_norm, scale_shift};
use coreml_kernels::reduce::{Reduction, reduce};
use coreml_kernels::softmax::softmax;
use coreml_kernels::transpose::transpose;
use coreml_kernels::{Isa, ThreadPool, reference};

/// Every value of 16-bit floating point, NaNs and infinities included.
fn all_f16() -> Vec<f32> {
    (0..=u16::MAX)
        .map(|bits| {
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023) / 1024.0);
            sign * match exponent {
                0 => fraction * 2f32.powi(-14),
                31 if fraction == 0.0 => f32::INFINITY,
                31 => f32::NAN,
                _ => (1.0 + fraction) * 2f32.powi(exponent - 15),
            }
        })
        .collect()
}

/// All of 16-bit floating point, and values between.
fn sweep() -> Vec<f32> {
    let mut values = all_f16();
    let mut random = Random::new(8);
    for scale in [1e-30, 1e-3, 1.0, 10.0, 88.0, 1e6] {
        values.extend(random.values(4001).iter().map(|x| x * scale));
    }
    values
}

/// The distance from `x` to the next larger magnitude.
fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    let next = f32::from_bits(x.to_bits() + 1);
    if next.is_finite() { f64::from(next - x) } else { f64::from(x - f32::from_bits(x.to_bits() - 1)) }
}

/// The error of `y` for the exact result `exact` in ulps; nothing if below `absolute`.
fn error(y: f32, exact: f64, absolute: f64) -> f64 {
    let rounded = exact as f32;
    if y.is_nan() || rounded.is_nan() {
        return if y.is_nan() && rounded.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if y == rounded {
        return 0.0;
    }
    let distance = (f64::from(y) - exact).abs();
    if distance <= absolute { 0.0 } else { distance / ulp(exact) }
}

#[test]
fn unary_functions_keep_the_error_bound_of_their_row() {
    let x = sweep();
    for kernel in ELEMENTWISE {
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; x.len()];
                unary(isa, pool, kernel.function, &x, &mut out);
                out
            },
            |isa, out| {
                for (&x, &y) in x.iter().zip(out) {
                    let exact = (kernel.oracle)(f64::from(x));
                    let error = error(y, exact, kernel.absolute);
                    let what = format!("{} {}({x:e}) is {y:e}, not {exact:e}: {error} ulps", isa.name(), kernel.name);
                    assert!(error <= kernel.max_ulps, "{what}");
                }
            },
        );
    }
}

#[test]
fn half_precision_keeps_the_sign_of_zero() {
    everywhere(
        |isa, pool| {
            let mut x = vec![-0.0, 0.0, -1e-9, 1e-9, f32::NEG_INFINITY];
            unary_in_place(isa, pool, Unary::RoundToHalf, &mut x);
            x
        },
        |isa, out| assert_eq!(out.iter().map(|x| x.recip()).collect::<Vec<_>>(), SIGNS, "{}", isa.name()),
    );
    const SIGNS: [f32; 5] = [f32::NEG_INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, -0.0];
}

#[test]
fn activations_match_double_precision() {
    let x = sweep();
    let all = [
        (Activation::None, 0.0),
        (Activation::Relu, 0.0),
        (Activation::Clip { lo: -1.5, hi: 6.0 }, 0.0),
        (Activation::LeakyRelu { alpha: 0.1 }, 1e-6),
        (Activation::ThresholdedRelu { alpha: -1.5 }, 0.0),
        (Activation::Gelu, 1e-6),
        (Activation::GeluTanh, 1e-6),
        (Activation::GeluSigmoid, 1e-6),
        (Activation::Silu, 1e-6),
        (Activation::Sigmoid, 1e-6),
        (Activation::Tanh, 1e-6),
        (Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, 1e-6),
        (Activation::HardSwish { alpha: 1.0 / 6.0, beta: 0.5, least: f32::NEG_INFINITY }, 1e-6),
        (Activation::HardSwish { alpha: 1.0 / 6.0, beta: 0.5, least: -2.0 }, 1e-6),
        (Activation::Elu { alpha: 1.3 }, 1e-6),
        (Activation::Softplus, 1e-6),
        (Activation::Softsign, 1e-6),
        (Activation::Erf, 1e-6),
        (Activation::Exp, 1e-6),
    ];
    // Beyond this the formulas' intermediate results overflow in either precision, each in its own place.
    let x: Vec<f32> = x.into_iter().filter(|x| x.abs() < 60.0).collect();
    for (activation, tolerance) in all {
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; x.len()];
                activate(isa, pool, activation, &x, &mut out);
                let mut in_place = x.clone();
                activate_in_place(isa, pool, activation, &mut in_place);
                assert_eq!(out, in_place);
                out
            },
            |isa, out| {
                let expected: Vec<f32> =
                    x.iter().map(|&x| reference::activation(activation, f64::from(x)) as f32).collect();
                assert_close(out, &expected, tolerance, &format!("{} {activation:?}", isa.name()));
            },
        );
    }
}

#[test]
fn nan_passes_through_activations() {
    for activation in [Activation::Relu, Activation::Clip { lo: 0.0, hi: 1.0 }, Activation::Gelu, Activation::Tanh] {
        everywhere(
            |isa, pool| {
                let mut x = [f32::NAN, 1.0, f32::NAN];
                activate_in_place(isa, pool, activation, &mut x);
                assert!(x[0].is_nan() && x[2].is_nan() && !x[1].is_nan(), "{} {activation:?}", isa.name());
                vec![]
            },
            |_, _| {},
        );
    }
}

#[test]
fn binary_functions_broadcast_as_described() {
    use Binary::*;
    let mut random = Random::new(9);
    for round in 0..300 {
        let op = [Add, Sub, Mul, Div, Min, Max, Pow, Mod, FloorDiv][round % 9];
        let (batch, outer, inner) =
            (1 + random.below(3), 1 + random.below(60), [1, 3, 16, 17, 48, 100][random.below(6)]);
        let total = batch * outer * inner;
        let broadcast = match random.below(6) {
            0 => Broadcast::Same,
            1 => Broadcast::ScalarRight,
            2 => Broadcast::ScalarLeft,
            3 => Broadcast::Rows { inner },
            4 => Broadcast::Cols { inner },
            _ => Broadcast::Axis { outer, inner },
        };
        let (a_len, b_len) = match broadcast {
            Broadcast::Same => (total, total),
            Broadcast::ScalarRight => (total, 1),
            Broadcast::ScalarLeft => (1, total),
            Broadcast::Rows { .. } => (total, inner),
            Broadcast::Cols { .. } => (total, batch * outer),
            Broadcast::Axis { .. } => (total, batch * inner),
        };
        let (mut a, b) = (random.values(a_len), random.values(b_len));
        if op == Pow {
            a.iter_mut().for_each(|x| *x = x.abs() + 0.1);
        }
        let at = random.below(a.len());
        if round % 5 == 0 {
            a[at] = f32::NAN;
        }
        let swap = op != Pow && random.below(2) == 0;
        let expected: Vec<f32> = (0..total)
            .map(|i| {
                let (x, y) = match broadcast {
                    Broadcast::Same => (a[i], b[i]),
                    Broadcast::ScalarRight => (a[i], b[0]),
                    Broadcast::ScalarLeft => (a[0], b[i]),
                    Broadcast::Rows { .. } => (a[i], b[i % inner]),
                    Broadcast::Cols { .. } => (a[i], b[i / inner]),
                    Broadcast::Axis { .. } => (a[i], b[i / (outer * inner) * inner + i % inner]),
                };
                if swap { op.apply(y, x) } else { op.apply(x, y) }
            })
            .collect();
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; total];
                binary(isa, pool, op, broadcast, swap, &a, &b, &mut out);
                if broadcast != Broadcast::ScalarLeft {
                    let mut in_place = a.clone();
                    binary_in_place(isa, pool, op, broadcast, swap, &mut in_place, &b);
                    assert_close(&in_place, &out, 0.0, "in place");
                }
                out
            },
            |isa, out| assert_close(out, &expected, 0.0, &format!("{} {op:?} {broadcast:?} {swap}", isa.name())),
        );
    }
}

#[test]
fn reductions_match_double_precision() {
    use Reduction::*;
    let mut random = Random::new(10);
    for round in 0..200 {
        let reduction = [Sum, Mean, Max, Min, SumOfSquares][round % 5];
        let (outer, axis) = (random.below(5), [1, 2, 3, 7, 16, 64, 65, 100, 300][random.below(9)]);
        let inner = [1, 1, 2, 15, 16, 33, 300][random.below(7)];
        let mut x = random.values(outer * axis * inner);
        if round % 7 == 0 && !x.is_empty() {
            let at = random.below(x.len());
            x[at] = f32::NAN;
        }
        let mut expected = vec![0.0; outer * inner];
        for o in 0..outer {
            for i in 0..inner {
                let values: Vec<f64> = (0..axis).map(|a| f64::from(x[(o * axis + a) * inner + i])).collect();
                let nan = values.iter().any(|v| v.is_nan());
                let sum: f64 = values.iter().sum();
                expected[o * inner + i] = match reduction {
                    _ if nan => f32::NAN,
                    Sum => sum as f32,
                    Mean => (sum / axis as f64) as f32,
                    Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32,
                    Min => values.iter().copied().fold(f64::INFINITY, f64::min) as f32,
                    SumOfSquares => values.iter().map(|v| v * v).sum::<f64>() as f32,
                };
            }
        }
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; expected.len()];
                reduce(isa, pool, reduction, outer, axis, inner, &x, &mut out);
                out
            },
            |isa, out| {
                assert_close(out, &expected, 5e-6, &format!("{} {reduction:?} {outer}x{axis}x{inner}", isa.name()));
            },
        );
    }
}

#[test]
fn softmax_and_layer_norm_match_double_precision() {
    let mut random = Random::new(11);
    for _ in 0..100 {
        let (outer, axis, inner) = (random.below(5), 1 + random.below(70), [1, 1, 2, 17, 40][random.below(5)]);
        let x: Vec<f32> = random.values(outer * axis * inner).iter().map(|x| x * 30.0 + 50.0).collect();
        let mut expected = vec![0.0; x.len()];
        reference::softmax(outer, axis, inner, &x, &mut expected);
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; x.len()];
                softmax(isa, pool, outer, axis, inner, &x, &mut out);
                out
            },
            |isa, out| assert_close(out, &expected, 1e-6, &format!("{} {outer}x{axis}x{inner}", isa.name())),
        );

        let (gamma, beta) = (random.values(axis), random.values(axis));
        let parameters = if outer % 2 == 0 { (Some(&gamma[..]), Some(&beta[..])) } else { (None, None) };
        reference::layer_norm(axis, parameters.0, parameters.1, 1e-3, &x, &mut expected);
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; x.len()];
                layer_norm(isa, pool, axis, parameters.0, parameters.1, 1e-3, &x, &mut out);
                out
            },
            |isa, out| assert_close(out, &expected, 2e-5, &format!("{} rows of {axis}", isa.name())),
        );
        let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| x * gamma[i % axis] + beta[i % axis]).collect();
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; x.len()];
                scale_shift(isa, pool, &gamma, &beta, &x, &mut out);
                out
            },
            |isa, out| assert_close(out, &expected, 1e-5, &format!("{} scale {axis}", isa.name())),
        );
    }
}

#[test]
fn what_a_mask_hides_has_no_share() {
    let x: Vec<f32> = (0..45).map(|i| if i % 3 == 0 { i as f32 / 9.0 } else { -1e4 + i as f32 }).collect();
    everywhere(
        |isa, pool| {
            let mut out = vec![7.0; 45];
            softmax(isa, pool, 1, 45, 1, &x, &mut out);
            out
        },
        |isa, out| {
            assert!(out.iter().enumerate().all(|(i, &share)| (share == 0.0) == (i % 3 != 0)), "{} {out:?}", isa.name());
            assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        },
    );
}

#[test]
fn squares_are_products() {
    let x: Vec<f32> =
        [0.0, -0.0, 1e-30, -3.7, 1e30, f32::INFINITY].into_iter().chain((0..40).map(|i| i as f32 - 9.3)).collect();
    let expected: Vec<f32> = x.iter().map(|x| x * x).collect();
    everywhere(
        |isa, pool| {
            let mut out = vec![7.0; x.len()];
            binary(isa, pool, Binary::Pow, Broadcast::ScalarRight, false, &x, &[2.0], &mut out);
            out
        },
        |isa, out| assert_eq!(out, expected, "{}", isa.name()),
    );
}

#[test]
fn permutations_of_any_rank_match_the_plain_loop() {
    let mut random = Random::new(12);
    let pools = [ThreadPool::new(1), ThreadPool::new(2)];
    for round in 0..400 {
        let rank = random.below(7);
        let dims: Vec<usize> = (0..rank)
            .map(|_| {
                if round % 20 == 0 { random.below(3) } else { [1, 2, 3, 5, 17, 20][random.below(6 - rank.min(5) / 2)] }
            })
            .collect();
        let mut order: Vec<usize> = (0..rank).collect();
        for i in (1..rank).rev() {
            order.swap(i, random.below(i + 1));
        }
        let total = dims.iter().product();
        let x: Vec<f32> = (0..total).map(|i| i as f32).collect();
        let mut expected = vec![7.0; total];
        reference::transpose(&dims, &order, &x, &mut expected);
        for (isa, pool) in Isa::available().into_iter().flat_map(|isa| pools.iter().map(move |pool| (isa, pool))) {
            let mut out = vec![7.0; total];
            transpose(isa, pool, &dims, &order, &x, &mut out);
            assert_eq!(out, expected, "{} {dims:?} by {order:?}", isa.name());
        }
    }
}

#[test]
fn bytes_become_planes() {
    let mut random = Random::new(13);
    for (h, w, c) in [(1, 1, 1), (3, 5, 3), (17, 33, 3), (9, 4, 4), (0, 3, 3)] {
        let x: Vec<u8> = (0..h * w * c).map(|_| random.next() as u8).collect();
        for order in [ChannelOrder::Keep, ChannelOrder::Reverse] {
            if order == ChannelOrder::Reverse && c < 3 {
                continue;
            }
            let pool = ThreadPool::new(2);
            let mut out = vec![7.0; x.len()];
            bytes_to_planes(&pool, [h, w, c], order, &x, &mut out);
            let mut pixels = vec![7.0; x.len()];
            bytes_to_pixels(&pool, [h, w, c], order, &x, &mut pixels);
            for (i, &value) in out.iter().enumerate() {
                let (plane, pixel) = (i / (h * w), i % (h * w));
                let channel = if order == ChannelOrder::Reverse && plane < 3 { 2 - plane } else { plane };
                assert_eq!(value, f32::from(x[pixel * c + channel]), "{h}x{w}x{c} {order:?} [{i}]");
                assert_eq!(pixels[pixel * c + plane], value, "{h}x{w}x{c} {order:?} [{i}]");
            }
        }
    }
}

#[test]
fn transposed_convolution_is_the_adjoint_of_convolution() {
    // <conv(x), y> = <x, conv_transpose(y)> for every x and y: two independent loops that must agree.
    let mut random = Random::new(14);
    for (stride, pad, dilation, groups) in [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 1, 1, 2)] {
        let strides = [stride, 1];
        let pads = [pad, 0];
        let params = reference::ConvParams {
            strides: &strides,
            pads_begin: &pads,
            pads_end: &pads,
            dilations: &[dilation, 1],
            groups,
        };
        let (xdims, wdims) = ([2, 4, 9, 5], [6, 4 / groups, 3, 2]);
        let odims = reference::conv_out_dims(&xdims, &wdims, &params);
        let x = random.values(xdims.iter().product());
        let w = random.values(wdims.iter().product());
        let y = random.values(odims.iter().product());
        let mut forward = vec![0.0; y.len()];
        reference::conv(&x, &xdims, &w, &wdims, None, &params, &mut forward);
        let mut backward = vec![0.0; x.len()];
        reference::conv_transpose(&y, &odims, &w, &wdims, None, &params, &xdims, &mut backward);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let (left, right) = (dot(&forward, &y), dot(&x, &backward));
        assert!((left - right).abs() < 1e-4, "{left} {right}");
    }
}
