//! Compares products with weights in every format with the plain loop over the decoded elements.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod common;

use common::{Random, assert_close, everywhere};
use coreml_kernels::gemm::{Affine, Epilogue, Format, PALETTE, PackedB, gemm, gemm_pair, gemm_pair_scratch_len};
use coreml_kernels::{Activation, Isa, reference};

/// What the scales of codes are.
#[derive(Clone, Copy, PartialEq)]
enum Scales {
    /// Not exact with so many bits: elements may be rounded otherwise than by the definition.
    Any,
    /// Numbers in half precision: elements are exact, or exactly rounded.
    Half,
}

/// A matrix of codes and what they stand for.
struct Weights {
    format: Format,
    k: usize,
    n: usize,
    block: usize,
    codes: Vec<u8>,
    affine: Vec<Affine>,
    rounded: bool,
    columns: usize,
    tables: Vec<[f32; PALETTE]>,
}

impl Weights {
    fn new(random: &mut Random, format: Format, k: usize, n: usize, block: usize, scales: Scales) -> Self {
        let blocks = k.div_ceil(block);
        let step = if scales == Scales::Any { 5e-5 } else { 2f32.powi(-14) };
        let affine = (0..blocks * n)
            .map(|_| Affine { scale: (1 + random.below(100)) as f32 * step, zero: random.below(16) as f32 })
            .collect();
        // As many columns as the widest vector has, or all.
        let columns = if n > 16 && random.below(2) == 0 { 16 } else { n.max(1) };
        let tables = (0..n.div_ceil(columns)).map(|_| random.values(PALETTE).try_into().unwrap()).collect();
        let codes = (0..k * n).map(|_| random.next() as u8).collect();
        let rounded = scales == Scales::Half && random.below(2) == 0;
        Self { format, k, n, block, codes, affine, rounded, columns, tables }
    }

    fn code(&self, k: usize, n: usize) -> u8 {
        self.codes[k * self.n + n]
    }

    fn affine(&self, block: usize, n: usize) -> Affine {
        self.affine[block * self.n + n]
    }

    /// The elements, by the definition of each format.
    fn dense(&self) -> Vec<f32> {
        let mut dense = Vec::new();
        for k in 0..self.k {
            for n in 0..self.n {
                let (code, Affine { scale, zero }) = (self.code(k, n), self.affine(k / self.block, n));
                let round = |x: f32| if self.rounded { reference::round_to_half(f64::from(x)) as f32 } else { x };
                dense.push(match self.format {
                    // Not a multiple of a power of two, and one.
                    Format::F32 => f32::from(code) / 300.0,
                    Format::F16 => f32::from(code) / 256.0 - 0.5,
                    Format::Int8 => round((f32::from(code as i8) - zero) * scale),
                    Format::Int4 => round((f32::from(code & 15) - zero) * scale),
                    Format::Palette => self.tables[n / self.columns][usize::from(code & 15)],
                    Format::Bf16 => unreachable!("is multiplied with rounded matrices, in tests of their own"),
                });
            }
        }
        dense
    }

    fn pack(&self, isa: Isa) -> PackedB {
        let (size, dense) = ([self.k, self.n], self.dense());
        let packed = match self.format {
            Format::F32 | Format::F16 => PackedB::pack_exactly(isa, self.k, self.n, |k, n| dense[k * self.n + n]),
            Format::Bf16 => unreachable!("as above"),
            Format::Int8 => {
                PackedB::pack_int8(isa, size, self.block, |k, n| self.code(k, n) as i8, |b, n| self.affine(b, n))
            }
            Format::Int4 => {
                PackedB::pack_int4(isa, size, self.block, |k, n| self.code(k, n) & 15, |b, n| self.affine(b, n))
            }
            Format::Palette => {
                PackedB::pack_palette(isa, size, self.columns, &self.tables, |k, n| self.code(k, n) & 15).unwrap()
            }
        };
        let packed = if self.rounded { packed.rounded_to_half() } else { packed };
        assert!(packed.format() == self.format || self.codes.iter().all(|&code| code == 0));
        packed
    }
}

const FORMATS: [Format; 5] = [Format::F32, Format::F16, Format::Int8, Format::Int4, Format::Palette];

fn tolerance(k: usize) -> f32 {
    1e-6 * (4.0 + k as f32).sqrt()
}

fn check(random: &mut Random, format: Format, m: usize, k: usize, n: usize, block: usize) {
    let weights = Weights::new(random, format, k, n, block, Scales::Any);
    let (lda, ldc) = (k + random.below(3), n + random.below(3));
    let (a, bias, residual) = (random.values(m * lda + 1), random.values(n), random.values(m * n));
    let activation = [Activation::None, Activation::Gelu, Activation::Clip { lo: -0.5, hi: 0.5 }][random.below(3)];
    let compact: Vec<f32> = (0..m).flat_map(|i| a[i * lda..i * lda + k].to_vec()).collect();
    let mut expected = vec![0.0; m * n];
    reference::gemm(m, k, n, &compact, &weights.dense(), Some(&bias), &mut expected);
    for (y, &r) in expected.iter_mut().zip(&residual) {
        *y = reference::activation(activation, f64::from(*y) + f64::from(r)) as f32;
    }
    everywhere(
        |isa, pool| {
            let epilogue = Epilogue { bias: Some(&bias), residual: Some((&residual, n)), activation };
            // What lies between the rows must stay as it was.
            let mut out = vec![7.0; m * ldc + 5];
            gemm(isa, pool, m, &a, lda, &weights.pack(isa), &epilogue, &mut out, ldc);
            out
        },
        |isa, out| {
            let what = format!("{} {format:?} {m}x{k}x{n} blocks of {block} {activation:?}", isa.name());
            for i in 0..m {
                assert_close(&out[i * ldc..][..n], &expected[i * n..][..n], tolerance(k), &what);
                assert!(out[i * ldc + n..((i + 1) * ldc).min(out.len())].iter().all(|&x| x == 7.0), "{what}");
            }
        },
    );
}

#[test]
fn every_format_multiplies_rows_of_any_number() {
    let mut random = Random::new(21);
    for format in FORMATS {
        for m in 1..=40 {
            let k = [1, 2, 3, 5, 31, 96, 133][random.below(7)];
            let n = [1, 3, 15, 16, 17, 31, 48, 50, 64, 100][random.below(10)];
            let block = [k, 2, 4, 32][random.below(4)];
            check(&mut random, format, m, k, n, block);
        }
    }
}

#[test]
fn long_products_and_blocks_that_do_not_divide_them() {
    let mut random = Random::new(22);
    for format in FORMATS {
        for (m, k, n, block) in [
            (1, 769, 50, 769),
            (2, 1500, 17, 32),
            (1, 1001, 97, 130),
            (3, 1501, 50, 1501),
            (7, 999, 33, 70),
            (30, 2000, 49, 64),
            (65, 800, 16, 6),
            (0, 5, 5, 5),
            (3, 0, 7, 1),
        ] {
            check(&mut random, format, m, k, n, block);
        }
    }
}

#[test]
fn half_precision_changes_no_bit_and_a_pair_takes_any_format() {
    let mut random = Random::new(23);
    for (m, k, inner, n) in [(1, 40, 70, 30), (2, 1000, 300, 50), (25, 900, 100, 33), (70, 33, 700, 50)] {
        let a = random.values(m * k);
        for format in FORMATS {
            let first = Weights::new(&mut random, format, k, inner, k, Scales::Half);
            let second = Weights::new(&mut random, format, inner, n, inner, Scales::Half);
            let run = |isa, pool: &_, plain: bool| {
                let pack = |weights: &Weights| {
                    let dense = weights.dense();
                    let plain_b = || PackedB::pack(isa, weights.k, weights.n, |k, n| dense[k * weights.n + n]);
                    if plain { plain_b() } else { weights.pack(isa) }
                };
                let (b1, b2) = (pack(&first), pack(&second));
                let (gelu, none) =
                    (Epilogue { activation: Activation::Gelu, ..Epilogue::default() }, Epilogue::default());
                let mut out = vec![0.0; m * n];
                if plain {
                    let mut hidden = vec![0.0; m * inner];
                    gemm(isa, pool, m, &a, k, &b1, &gelu, &mut hidden, inner);
                    gemm(isa, pool, m, &hidden, inner, &b2, &none, &mut out, n);
                } else {
                    let mut scratch = vec![f32::NAN; gemm_pair_scratch_len(inner, 2)];
                    gemm_pair(isa, pool, m, &a, k, (&b1, &gelu), (&b2, &none), &mut out, n, &mut scratch);
                }
                out
            };
            // All formats give exactly what their elements would give as f32: they are decoded, then multiplied.
            let pool = coreml_kernels::ThreadPool::new(1);
            everywhere(
                |isa, pool| run(isa, pool, false),
                |isa, out| assert_eq!(out, run(isa, &pool, true), "{} {format:?} {m}x{k}x{inner}x{n}", isa.name()),
            );
        }
    }
}
