//! Weights that stay compressed: products read them as they are; they are decompressed only for other operations.
//!
//! Either way an element is rounded to the type the program declares.

use std::sync::{Arc, OnceLock};

use coreml_kernels::Isa;
use coreml_kernels::gemm::{Affine, PALETTE, PackedB};
use coreml_model::{Constant, PackedType};
use coreml_tensor::{DType, DataView, Shape, f16};
use half::slice::HalfFloatSliceExt;

use super::{Blocks, Numbers, to_constant};
use crate::literal::CompressedWeights;
use crate::op::{Args, OpError};

/// The fewest rows of a block for which its scale and zero are worth keeping beside the codes.
const LEAST_BLOCK: usize = 8;

/// Integers of a byte or less.
pub(crate) struct Codes {
    pub(super) shape: Shape,
    /// The integers, counted from `base`.
    values: Vec<u8>,
    /// The integer that a stored 0 means.
    base: f32,
    /// All are below 16.
    small: bool,
}

impl Codes {
    /// The integers of a parameter; `None` if it holds something else.
    pub(super) fn read(args: &Args<'_>, name: &'static str) -> Option<Self> {
        let (shape, base, values) = match args.get(name)? {
            Constant::Tensor(tensor) => match tensor.view().data() {
                DataView::Int8(values) => (tensor.shape(), -128, values.iter().map(|&x| x as u8 ^ 0x80).collect()),
                DataView::UInt8(values) => (tensor.shape(), 0, values.to_vec()),
                _ => return None,
            },
            Constant::Packed(packed) => {
                let mut codes = packed.codes();
                let base = match packed.ty {
                    PackedType::Float8E4M3Fn | PackedType::Float8E5M2 => return None,
                    PackedType::Int4 => {
                        // Two's complement, counted from the least.
                        codes.iter_mut().for_each(|code| *code ^= 8);
                        -8
                    }
                    _ => 0,
                };
                (packed.shape, base, codes)
            }
            _ => return None,
        };
        Some(Self::new(shape, base, values))
    }

    pub(super) fn new(shape: Shape, base: i16, values: Vec<u8>) -> Self {
        // Without a way out, which a vector has no use for.
        let small = values.iter().fold(0, |most, &code| most | code) < PALETTE as u8;
        Self { shape, base: base.into(), values, small }
    }
}

/// What codes stand for, block by block.
pub(super) enum Meaning {
    /// `(code - zero) * scale`
    Affine { scale: Vec<f32>, zero: Option<Vec<f32>> },
    /// Entries of tables of so many entries, which cover all codes.
    Tables { values: Vec<f32>, entries: usize },
}

/// A tensor as codes, and as a constant once somebody asks for it.
pub(super) struct Compressed {
    codes: Codes,
    meaning: Meaning,
    blocks: Blocks,
    dtype: DType,
    dense: OnceLock<Arc<Constant>>,
}

/// The elements as a constant of their own.
pub(super) fn constant_of(weights: &impl CompressedWeights) -> Arc<Constant> {
    let mut values = vec![0.0; weights.shape().count()];
    weights.decompress(&mut values);
    match to_constant(weights.shape(), values, weights.dtype()) {
        Ok(constant) => Arc::new(constant),
        Err(error) => unreachable!("type and size were checked: {error}"),
    }
}

/// Rounds to the nearest numbers that `dtype` has.
fn round_to(dtype: DType, values: &mut [f32]) {
    if dtype == DType::Float16 {
        let mut halves = [f16::ZERO; 256];
        for values in values.chunks_mut(halves.len()) {
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            halves.convert_to_f32_slice(values);
        }
    }
}

impl Compressed {
    /// Checks that the tensor could be decompressed; codes must be within their tables.
    pub(super) fn new(codes: Codes, mut meaning: Meaning, blocks: Blocks, dtype: DType) -> Result<Self, OpError> {
        // What cannot be a constant's type is refused now.
        to_constant(Shape::new(&[0]), Vec::new(), dtype)?;
        if let Meaning::Tables { values, .. } = &mut meaning {
            round_to(dtype, values);
        }
        Ok(Self { codes, meaning, blocks, dtype, dense: OnceLock::new() })
    }

    /// Whether no code can stand for more than half precision has.
    fn stays_finite(&self, scale: &[f32], zero: Option<&[f32]>) -> bool {
        let largest = f32::from(u8::MAX) + self.codes.base.abs();
        let within = |(block, scale): (usize, &f32)| {
            (largest + zero.map_or(0.0, |zero| zero[block].abs())) * scale.abs() <= f16::MAX.to_f32()
        };
        scale.iter().enumerate().all(within)
    }
}

impl CompressedWeights for Compressed {
    fn shape(&self) -> Shape {
        self.codes.shape
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dense(&self) -> &Arc<Constant> {
        self.dense.get_or_init(|| constant_of(self))
    }

    fn decompress(&self, elements: &mut [f32]) {
        self.blocks.runs(|run, block| {
            let decoded = elements[run.clone()].iter_mut().zip(&self.codes.values[run]);
            match &self.meaning {
                Meaning::Affine { scale, zero } => {
                    let (scale, zero) = (scale[block], zero.as_ref().map_or(0.0, |zero| zero[block]));
                    decoded.for_each(|(value, &code)| *value = (f32::from(code) + self.codes.base - zero) * scale);
                }
                Meaning::Tables { values, entries } => {
                    let table = &values[block * entries..][..*entries];
                    decoded.for_each(|(value, &code)| *value = table[usize::from(code)]);
                }
            }
        });
        // Tables are rounded already.
        if let Meaning::Affine { .. } = self.meaning {
            round_to(self.dtype, elements);
        }
    }

    fn pack(&self, isa: Isa, transposed: bool) -> Option<PackedB> {
        let &[rows, columns] = self.codes.shape.dims() else { return None };
        let [row_blocks, column_blocks] = *self.blocks.grid() else { return None };
        let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
        let (k_blocks, n_blocks) = if transposed { (column_blocks, row_blocks) } else { (row_blocks, column_blocks) };
        if k == 0 || n == 0 {
            return None;
        }
        let (block, wide) = (k / k_blocks, n / n_blocks);
        let codes = &self.codes;
        let code = |k: usize, n: usize| codes.values[if transposed { n * columns + k } else { k * columns + n }];
        match &self.meaning {
            Meaning::Affine { scale, zero } => {
                let half = self.dtype == DType::Float16;
                if block < LEAST_BLOCK.min(k) || half && !self.stays_finite(scale, zero.as_deref()) {
                    return None;
                }
                let affine = |below: f32| {
                    move |b: usize, n: usize| {
                        let (row, column) = if transposed { (n / wide, b) } else { (b, n / wide) };
                        let at = row * column_blocks + column;
                        let zero = zero.as_ref().map_or(0.0, |zero| zero[at]);
                        Affine { scale: scale[at], zero: zero - codes.base - below }
                    }
                };
                let packed = if codes.small && (k_blocks == 1 || block.is_multiple_of(2)) {
                    PackedB::pack_int4(isa, [k, n], block, code, affine(0.0))
                } else {
                    PackedB::pack_int8(isa, [k, n], block, |k, n| (code(k, n) ^ 0x80) as i8, affine(128.0))
                };
                Some(if half { packed.rounded_to_half() } else { packed })
            }
            Meaning::Tables { values, entries } => {
                if !codes.small || k_blocks != 1 {
                    return None;
                }
                let table = |table: &[f32]| std::array::from_fn(|i| table.get(i).copied().unwrap_or_default());
                let tables: Vec<[f32; PALETTE]> = values.chunks_exact(*entries).map(table).collect();
                PackedB::pack_palette(isa, [k, n], wide, &tables, code)
            }
        }
    }
}

/// A tensor of one element for each index; every index must be in its table.
pub(super) fn tables(codes: Codes, tables: &Numbers, entries: usize, blocks: Blocks) -> Result<Compressed, OpError> {
    if let Some(largest) = codes.values.iter().copied().max().filter(|&largest| usize::from(largest) >= entries) {
        return Err(OpError::parameter("indices", format!("{largest} is not in a table of {entries}")));
    }
    let meaning = Meaning::Tables { values: tables.values.clone(), entries };
    Compressed::new(codes, meaning, blocks, tables.dtype)
}

#[cfg(test)]
mod tests {
    use coreml_kernels::gemm::{Epilogue, Format, gemm};
    use coreml_kernels::{ThreadPool, reference};

    use super::*;

    fn codes(shape: [usize; 2], base: i16, largest: u8) -> Codes {
        let values = (0..shape[0] * shape[1]).map(|i| (i * 37 % (usize::from(largest) + 1)) as u8).collect();
        Codes::new(Shape::new(&shape), base, values)
    }

    fn affine(shape: [usize; 2], grid: [usize; 2], base: i16, largest: u8, zeros: bool) -> Compressed {
        let blocks = grid[0] * grid[1];
        let scale = (0..blocks).map(|i| f16::from_f32(0.003 + 0.001 * i as f32).to_f32()).collect();
        let zero = zeros.then(|| (0..blocks).map(|i| (i % 7) as f32 - 3.0).collect());
        let blocks = Blocks::new("scale", Shape::new(&shape), &grid).unwrap();
        let meaning = Meaning::Affine { scale, zero };
        Compressed::new(codes(shape, base, largest), meaning, blocks, DType::Float16).unwrap()
    }

    fn palette(shape: [usize; 2], grid: [usize; 2], entries: usize) -> Compressed {
        let values = (0..grid[0] * grid[1] * entries).map(|i| f16::from_f32(i as f32 * 0.17 - 1.0).to_f32()).collect();
        let blocks = Blocks::new("lut", Shape::new(&shape), &grid).unwrap();
        let meaning = Meaning::Tables { values, entries };
        Compressed::new(codes(shape, 0, (entries - 1) as u8), meaning, blocks, DType::Float16).unwrap()
    }

    /// Multiplies by the packed matrix and by the decompressed one.
    fn check(weights: &Compressed, transposed: bool, format: Option<Format>, what: &str) {
        let Constant::Tensor(dense) = &**weights.dense() else { panic!("weights are a tensor") };
        let dense = dense.view().to_f64_vec();
        let &[rows, columns] = weights.shape().dims() else { panic!("weights are a matrix") };
        let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
        let matrix: Vec<f32> =
            (0..k * n).map(|i| dense[if transposed { i % n * k + i / n } else { i }] as f32).collect();
        let m = 3;
        let a: Vec<f32> = (0..m * k).map(|i| (i * 29 % 64) as f32 / 32.0 - 1.0).collect();
        let mut expected = vec![0.0; m * n];
        reference::gemm(m, k, n, &a, &matrix, None, &mut expected);
        for isa in Isa::available() {
            let packed = weights.pack(isa, transposed);
            assert_eq!(packed.as_ref().map(PackedB::format), format, "{what}");
            let Some(packed) = packed else { continue };
            let mut out = vec![0.0; m * n];
            gemm(isa, &ThreadPool::new(1), m, &a, k, &packed, &Epilogue::default(), &mut out, n);
            for (i, (y, e)) in out.iter().zip(&expected).enumerate() {
                // Sums in f32 err a little.
                let size: f32 = (0..k).map(|j| (a[i / n * k + j] * matrix[j * n + i % n]).abs()).sum();
                assert!((y - e).abs() <= size * 1e-6 + 1e-7, "{} {what} [{i}] is {y}, not {e}", isa.name());
            }
        }
    }

    #[test]
    fn packed_weights_mean_what_the_decompressed_ones_do() {
        for transposed in [true, false] {
            // Grids are [columns of the product, its rows] and turned for the other layout.
            let turn = |[n, k]: [usize; 2]| if transposed { [n, k] } else { [k, n] };
            let size = turn([48, 64]);
            for (grid, format) in [
                ([1, 1], Some(Format::Int8)),
                ([48, 1], Some(Format::Int8)),
                ([12, 4], Some(Format::Int8)),
                ([48, 8], Some(Format::Int8)),
                ([48, 64], None),
            ] {
                for zeros in [false, true] {
                    check(&affine(size, turn(grid), -128, 255, zeros), transposed, format, &format!("int8 {grid:?}"));
                    check(&affine(size, turn(grid), 0, 255, zeros), transposed, format, &format!("uint8 {grid:?}"));
                    let small = format.map(|_| Format::Int4);
                    check(&affine(size, turn(grid), -8, 15, zeros), transposed, small, &format!("int4 {grid:?}"));
                }
            }
            let odd = affine(turn([5, 33]), turn([5, 3]), -8, 15, true);
            check(&odd, transposed, Some(Format::Int8), "int4 in blocks of 11 rows");
            for (grid, entries, format) in [
                ([1, 1], 16, Some(Format::Palette)),
                ([3, 1], 4, Some(Format::Palette)),
                ([1, 2], 16, None),
                ([1, 1], 64, None),
                ([24, 1], 16, None),
            ] {
                check(&palette(size, turn(grid), entries), transposed, format, &format!("{entries} entries {grid:?}"));
            }
            for (dtype, format) in [(DType::Float16, None), (DType::Float32, Some(Format::Int8))] {
                let mut large = affine(size, turn([1, 1]), 0, 255, false);
                (large.meaning, large.dtype) = (Meaning::Affine { scale: vec![400.0], zero: None }, dtype);
                check(&large, transposed, format, &format!("elements beyond half precision in {dtype:?}"));
            }
        }
    }
}
