//! Weights that stay compressed: products read them as they are, and only others have them decompressed.
//!
//! Decompressed elements are rounded to the type the program declares, packed codes are not: where that type is `fp16`, each
//! element of a product's weights is nearer to what the codes mean, by at most 2^-11 of it.

use std::sync::{Arc, OnceLock};

use coreml_kernels::Isa;
use coreml_kernels::gemm::{Affine, PALETTE, PackedB};
use coreml_model::{Constant, PackedType};
use coreml_tensor::{DType, DataView, Shape};

use super::{Blocks, Numbers, to_constant};
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
                let base = match packed.ty {
                    PackedType::Float8E4M3Fn | PackedType::Float8E5M2 => return None,
                    PackedType::Int4 => -8,
                    _ => 0,
                };
                (packed.shape, base, packed.unpack().into_iter().map(|x| (i16::from(x) - base) as u8).collect())
            }
            _ => return None,
        };
        Some(Self::new(shape, base, values))
    }

    pub(super) fn new(shape: Shape, base: i16, values: Vec<u8>) -> Self {
        let small = values.iter().all(|&code| usize::from(code) < PALETTE);
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
pub(crate) struct Compressed {
    codes: Codes,
    meaning: Meaning,
    blocks: Blocks,
    dtype: DType,
    dense: OnceLock<Arc<Constant>>,
}

impl Compressed {
    /// Checks that the tensor could be decompressed; codes must be within their tables.
    pub(super) fn new(codes: Codes, meaning: Meaning, blocks: Blocks, dtype: DType) -> Result<Self, OpError> {
        // What cannot be a constant's type is refused now.
        to_constant(Shape::new(&[0]), Vec::new(), dtype)?;
        Ok(Self { codes, meaning, blocks, dtype, dense: OnceLock::new() })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.codes.shape
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The decompressed tensor.
    pub(crate) fn dense(&self) -> &Arc<Constant> {
        self.dense.get_or_init(|| {
            let mut values = vec![0.0; self.codes.values.len()];
            self.blocks.walk(|at, block| {
                let code = self.codes.values[at];
                values[at] = match &self.meaning {
                    Meaning::Affine { scale, zero } => {
                        (f32::from(code) + self.codes.base - zero.as_ref().map_or(0.0, |zero| zero[block]))
                            * scale[block]
                    }
                    Meaning::Tables { values, entries } => values[block * entries + usize::from(code)],
                };
            });
            match to_constant(self.codes.shape, values, self.dtype) {
                Ok(constant) => Arc::new(constant),
                Err(error) => unreachable!("type and size were checked: {error}"),
            }
        })
    }

    /// Packs a matrix, `[n, k]` if `transposed` and else `[k, n]`, without decompressing it; `None` if no format suits.
    pub(crate) fn pack(&self, isa: Isa, transposed: bool) -> Option<PackedB> {
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
                if block < LEAST_BLOCK.min(k) {
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
                Some(if codes.small && (k_blocks == 1 || block.is_multiple_of(2)) {
                    PackedB::pack_int4(isa, [k, n], block, code, affine(0.0))
                } else {
                    PackedB::pack_int8(isa, [k, n], block, |k, n| (code(k, n) ^ 0x80) as i8, affine(128.0))
                })
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
