//! Compares matrix products with the plain triple loop.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod common;

use common::{Random, all_in_bf16, assert_close, everywhere};
use coreml_kernels::Activation;
use coreml_kernels::gemm::{
    Epilogue, MatMulShape, MatStrides, PackedB, gemm, gemm_bf16, gemm_bf16_scratch_len, gemm_pair,
    gemm_pair_scratch_len, matmul, matmul_scratch_len,
};
use coreml_kernels::reference;

/// Sums of up to a few thousand products of values below 1: rounding grows with their number.
fn tolerance(k: usize) -> f32 {
    1e-6 * (4.0 + k as f32).sqrt()
}

#[test]
fn products_of_all_shapes_match_the_plain_loop() {
    let sizes = [0usize, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 23, 24, 25, 31, 33, 47, 48, 49, 64, 65, 81, 97, 113];
    let mut random = Random::new(1);
    for round in 0..300 {
        let m = sizes[random.below(sizes.len())];
        let n = sizes[(round + random.below(2)) % sizes.len()];
        let k = [0, 1, 2, 3, 4, 5, 8, 27, 96, 301][random.below(10)];
        let (lda, ldc, ldr) = (k + random.below(3), n + random.below(3), n + random.below(2));
        let a = random.values(m * lda + 1);
        let b = random.values(k * n);
        let bias = random.values(n);
        let residual = random.values(m * ldr + 1);
        let (with_bias, with_residual) = (random.below(2) == 0, random.below(2) == 0);
        let activation = [Activation::None, Activation::Relu, Activation::Gelu, Activation::Clip { lo: -0.5, hi: 0.5 }]
            [random.below(4)];

        let compact: Vec<f32> = (0..m).flat_map(|i| a[i * lda..i * lda + k].to_vec()).collect();
        let mut expected = vec![0.0; m * n];
        reference::gemm(m, k, n, &compact, &b, with_bias.then_some(&bias[..]), &mut expected);
        for i in 0..m {
            for j in 0..n {
                let y =
                    f64::from(expected[i * n + j]) + if with_residual { f64::from(residual[i * ldr + j]) } else { 0.0 };
                expected[i * n + j] = reference::activation(activation, y) as f32;
            }
        }
        everywhere(
            |isa, pool| {
                let packed = PackedB::pack(isa, k, n, |k, j| b[k * n + j]);
                let epilogue = Epilogue {
                    bias: with_bias.then_some(&bias[..]),
                    residual: with_residual.then_some((&residual[..], ldr)),
                    activation,
                };
                // What lies between the rows must stay as it was.
                let mut out = vec![7.0; m * ldc + 5];
                gemm(isa, pool, m, &a, lda, &packed, &epilogue, &mut out, ldc);
                out
            },
            |isa, out| {
                let what = format!("{} {m}x{k}x{n} {activation:?}", isa.name());
                for (i, row) in out.chunks(ldc.max(1)).enumerate() {
                    let live = if i < m { n.min(row.len()) } else { 0 };
                    if live > 0 {
                        assert_close(&row[..n], &expected[i * n..][..n], tolerance(k), &what);
                    }
                    assert!(row[live..].iter().all(|&x| x == 7.0), "{what}: wrote outside the matrix");
                }
            },
        );
    }
}

#[test]
fn products_larger_than_a_block_match_the_plain_loop() {
    let mut random = Random::new(2);
    for (m, k, n) in [(700, 400, 50), (1, 1500, 300), (3, 5000, 17), (65, 1152, 100)] {
        let (a, b) = (random.values(m * k), random.values(k * n));
        let mut expected = vec![0.0; m * n];
        reference::gemm(m, k, n, &a, &b, None, &mut expected);
        everywhere(
            |isa, pool| {
                let packed = PackedB::pack(isa, k, n, |k, j| b[k * n + j]);
                let mut out = vec![0.0; m * n];
                gemm(isa, pool, m, &a, k, &packed, &Epilogue::default(), &mut out, n);
                out
            },
            |isa, out| assert_close(out, &expected, tolerance(k), &format!("{} {m}x{k}x{n}", isa.name())),
        );
    }
}

#[test]
fn products_in_bf16_are_those_of_rounded_factors() {
    let mut random = Random::new(9);
    let sizes = [0usize, 1, 2, 3, 5, 8, 9, 13, 16, 17, 24, 25, 33, 48, 49, 65, 97, 113];
    for round in 0..150 {
        let (m, n) = (sizes[random.below(sizes.len())], sizes[(round + random.below(2)) % sizes.len()]);
        // Also more pairs than pass at once.
        let k = [0, 2, 4, 6, 10, 16, 54, 96, 302, 1700][random.below(10)];
        let (lda, ldc) = (k + random.below(3), n + random.below(3));
        let (a, b) = (random.values(m * lda + 1), random.values(k * n));
        let (bias, residual) = (random.values(n), random.values(m * ldc + 1));
        let compact: Vec<f32> = (0..m).flat_map(|i| all_in_bf16(&a[i * lda..i * lda + k])).collect();
        let mut sums = vec![0.0; m * n];
        reference::gemm(m, k, n, &compact, &all_in_bf16(&b), Some(&bias), &mut sums);
        let finish = |i: usize| {
            let y = f64::from(sums[i]) + f64::from(residual[i / n * ldc + i % n]);
            reference::activation(Activation::Relu, y) as f32
        };
        let expected: Vec<f32> = (0..m * n).map(finish).collect();
        everywhere(
            |isa, pool| {
                let packed = PackedB::pack_bf16(isa, k, n, |k, j| b[k * n + j]);
                let epilogue =
                    Epilogue { bias: Some(&bias), residual: Some((&residual, ldc)), activation: Activation::Relu };
                let mut out = vec![7.0; m * ldc + 5];
                let mut scratch = vec![f32::NAN; gemm_bf16_scratch_len(m, k)];
                gemm_bf16(isa, pool, m, &a, lda, &packed, &epilogue, &mut out, ldc, &mut scratch);
                out
            },
            |isa, out| {
                let what = format!("{} {m}x{k}x{n} in bf16", isa.name());
                for (i, row) in out.chunks(ldc.max(1)).enumerate() {
                    let live = if i < m { n.min(row.len()) } else { 0 };
                    if live > 0 {
                        assert_close(&row[..n], &expected[i * n..][..n], tolerance(k), &what);
                    }
                    assert!(row[live..].iter().all(|&x| x == 7.0), "{what}: wrote outside the matrix");
                }
            },
        );
    }
}

#[test]
fn batched_products_take_transposed_operands_and_scale() {
    let mut random = Random::new(3);
    for round in 0..60 {
        let shape = MatMulShape {
            batch: random.below(5),
            m: [1, 5, 16, 33][random.below(4)],
            k: [0, 1, 8, 19, 64][random.below(5)],
            n: [1, 7, 16, 50][random.below(4)],
        };
        let MatMulShape { batch, m, k, n } = shape;
        let (a, b) = (random.values(batch * m * k), random.values(batch * k * n));
        let a_strides =
            if round % 2 == 0 { MatStrides::contiguous(m, k) } else { MatStrides { batch: m * k, row: 1, col: m } };
        let b_strides = if round % 4 < 2 {
            MatStrides::contiguous(k, n)
        } else {
            MatStrides { batch: if round % 8 < 6 { k * n } else { 0 }, row: 1, col: k }
        };
        let scale = 0.25;
        let mut expected = vec![0.0; batch * m * n];
        for i in 0..batch {
            let mut left = vec![0.0; m * k];
            let mut right = vec![0.0; k * n];
            for r in 0..m {
                for c in 0..k {
                    left[r * k + c] = scale * a[i * a_strides.batch + r * a_strides.row + c * a_strides.col];
                }
            }
            for r in 0..k {
                for c in 0..n {
                    right[r * n + c] = b[i * b_strides.batch + r * b_strides.row + c * b_strides.col];
                }
            }
            reference::gemm(m, k, n, &left, &right, None, &mut expected[i * m * n..][..m * n]);
        }
        everywhere(
            |isa, pool| {
                let mut out = vec![7.0; batch * m * n];
                let mut scratch = vec![f32::NAN; matmul_scratch_len(isa, &shape, a_strides, pool.threads())];
                matmul(isa, pool, shape, &a, a_strides, &b, b_strides, scale, &mut out, &mut scratch);
                out
            },
            |isa, out| assert_close(out, &expected, tolerance(k), &format!("{} {shape:?}", isa.name())),
        );
    }
}

#[test]
fn a_pair_equals_two_products_bit_for_bit() {
    let mut random = Random::new(7);
    for (m, k, inner, n) in
        [(0, 3, 4, 5), (1, 0, 4, 5), (7, 9, 20, 3), (300, 33, 700, 50), (65, 48, 144, 48), (5000, 4, 40, 8)]
    {
        let (a, b1, b2) = (random.values(m * k), random.values(k * inner), random.values(inner * n));
        let (bias1, bias2, residual) = (random.values(inner), random.values(n), random.values(m * n));
        let first = Epilogue { bias: Some(&bias1), residual: None, activation: Activation::Gelu };
        let second = Epilogue { bias: Some(&bias2), residual: Some((&residual, n)), activation: Activation::Relu };
        let run = |isa, pool: &_, paired: bool| {
            let b1 = PackedB::pack(isa, k, inner, |i, j| b1[i * inner + j]);
            let b2 = PackedB::pack(isa, inner, n, |i, j| b2[i * n + j]);
            let mut out = vec![7.0; m * n];
            if paired {
                let mut scratch = vec![f32::NAN; gemm_pair_scratch_len(inner, 2)];
                gemm_pair(isa, pool, m, &a, k, (&b1, &first), (&b2, &second), &mut out, n, &mut scratch);
            } else {
                let mut hidden = vec![7.0; m * inner];
                gemm(isa, pool, m, &a, k, &b1, &first, &mut hidden, inner);
                gemm(isa, pool, m, &hidden, inner, &b2, &second, &mut out, n);
            }
            out
        };
        let pool = coreml_kernels::ThreadPool::new(1);
        everywhere(|isa, pool| run(isa, pool, true), |isa, out| assert_eq!(out, run(isa, &pool, false)));
    }
}
