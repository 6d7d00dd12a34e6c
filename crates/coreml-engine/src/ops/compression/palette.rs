//! Weights from tables: each stored index stands for the entry, or the vector of entries, of a table.

use coreml_tensor::Shape;

use super::weights::{self, Codes};
use super::{Blocks, Numbers, keep, mask_constant, read_mask, spread, to_constant, unpack_stream};
use crate::literal::Literal;
use crate::op::{Args, OpError, axis_of, shape_of};

/// iOS 16: one table; indices as a stream of as many bits as the table needs.
pub(super) fn stream_to_dense(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let table = Numbers::read(args, "lut")?;
    let bits = table.values.len().checked_ilog2().map_or(0, |bits| bits as usize);
    if !(1..=8).contains(&bits) || !table.values.len().is_power_of_two() {
        return Err(OpError::parameter("lut", format!("has {} entries", table.values.len())));
    }
    let shape = shape_of(&args.sizes("shape")?)?;
    let indices = unpack_stream(args, "indices", bits, shape.count())?;
    let blocks = Blocks::new("shape", shape, &vec![1; shape.rank()])?;
    let entries = table.values.len();
    Ok(vec![Literal::of_compressed(weights::tables(Codes::new(shape, 0, indices), &table, entries, blocks)?)])
}

/// Tables `[blocks..., entries, vector]`: along each axis, blocks of indices have a table of their own.
struct Tables {
    numbers: Numbers,
    blocks: Blocks,
    entries: usize,
    vector: usize,
    /// The axis along which vectors lie.
    axis: usize,
}

impl Tables {
    fn read(args: &Args<'_>, indices: Shape) -> Result<Self, OpError> {
        let numbers = Numbers::read(args, "lut")?;
        let bad = || OpError::parameter("lut", format!("{} does not fit indices {indices}", numbers.shape));
        let grid = numbers.shape.rank().checked_sub(2).ok_or_else(bad)?;
        let (entries, vector) = (numbers.shape[grid], numbers.shape[grid + 1]);
        if entries == 0 || vector == 0 {
            return Err(bad());
        }
        let blocks = Blocks::new("lut", indices, &numbers.shape[..grid])?;
        let axis = if vector == 1 && args.get("vector_axis").is_none() {
            0
        } else {
            axis_of("vector_axis", args.int("vector_axis", 0)?, indices.rank())?
        };
        Ok(Self { numbers, blocks, entries, vector, axis })
    }

    /// The shape in which each index has become its vector.
    fn shape(&self, indices: Shape) -> Result<Shape, OpError> {
        let mut dims = indices.to_vec();
        if self.vector > 1 {
            dims[self.axis] = dims[self.axis].saturating_mul(self.vector);
        }
        shape_of(&dims)
    }

    /// Where entry `v` of the vector of index `at` is in the dense tensor.
    fn place(&self, indices: Shape, at: usize, v: usize) -> usize {
        let inner: usize = indices.get(self.axis + 1..).unwrap_or_default().iter().product();
        (at / inner * self.vector + v) * inner + at % inner
    }

    fn look_up(&self, shape: Shape, indices: &[f32]) -> Result<Vec<f32>, OpError> {
        let mut dense = vec![0.0; self.shape(shape)?.count()];
        let mut largest = 0;
        self.blocks.walk(|at, block| {
            let index = indices[at] as usize;
            largest = largest.max(index);
            if index < self.entries {
                for v in 0..self.vector {
                    dense[self.place(shape, at, v)] =
                        self.numbers.values[(block * self.entries + index) * self.vector + v];
                }
            }
        });
        if largest >= self.entries {
            return Err(OpError::parameter("indices", format!("{largest} is not in a table of {}", self.entries)));
        }
        Ok(dense)
    }
}

/// iOS 18: tables for blocks of indices.
pub(super) fn to_dense(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let indices = Numbers::read(args, "indices")?;
    let tables = Tables::read(args, indices.shape)?;
    if let Some(codes) = Codes::read(args, "indices").filter(|_| tables.vector == 1) {
        return Ok(vec![Literal::of_compressed(weights::tables(
            codes,
            &tables.numbers,
            tables.entries,
            tables.blocks,
        )?)]);
    }
    let dense = tables.look_up(indices.shape, &indices.values)?;
    Ok(vec![to_constant(tables.shape(indices.shape)?, dense, tables.numbers.dtype)?.into()])
}

/// iOS 18: the same where only some indices are stored; gives mask and values, for `constexpr_sparse_to_dense`.
pub(super) fn to_sparse(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let (shape, mask) = read_mask(args, "indices_mask")?;
    let stored = Numbers::read(args, "indices_nonzero_data")?;
    let indices = spread("indices_nonzero_data", &mask, &stored.values)?;
    let tables = Tables::read(args, shape)?;
    let dense = tables.look_up(shape, &indices)?;
    let mut wide = vec![false; dense.len()];
    for (at, &set) in mask.iter().enumerate() {
        for v in 0..tables.vector {
            wide[tables.place(shape, at, v)] = set;
        }
    }
    let values = keep(&wide, &dense);
    let values = to_constant(shape_of(&[values.len()])?, values, tables.numbers.dtype)?;
    Ok(vec![mask_constant(tables.shape(shape)?, wide)?.into(), values.into()])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coreml_model::{Constant, Opset, PackedTensor, PackedType};
    use coreml_tensor::{Data, Shape};

    use crate::ops::testing::{Value, run, run_in};

    fn packed(ty: PackedType, dims: &[usize], bytes: &[u8]) -> Value {
        Value(Constant::Packed(Arc::new(PackedTensor { ty, shape: Shape::new(dims), bytes: bytes.to_vec() })))
    }

    #[test]
    fn streams_of_bits_index_one_table() {
        let constants = [
            ("indices", Value::of(&[1], Data::UInt8(vec![0b11_00_10_01]))),
            ("lut", Value::float(&[4], &[10.0, 11.0, 12.0, 13.0])),
            ("shape", Value::of(&[1], Data::UInt32(vec![4]))),
        ];
        let out = run_in(Opset::Ios16, "constexpr_lut_to_dense", &[], &constants).unwrap();
        assert_eq!(out, [Value::float(&[4], &[11.0, 12.0, 10.0, 13.0])]);
        let long = [constants[0].clone(), constants[1].clone(), ("shape", Value::of(&[1], Data::UInt32(vec![5])))];
        assert!(run_in(Opset::Ios16, "constexpr_lut_to_dense", &[], &long).is_err());
    }

    #[test]
    fn groups_have_tables_of_their_own() {
        let constants = [
            ("indices", packed(PackedType::UInt1, &[2, 2], &[0b0110])),
            ("lut", Value::float(&[2, 1, 2, 1], &[1.0, 2.0, 3.0, 4.0])),
        ];
        let out = run("constexpr_lut_to_dense", &[], &constants).unwrap();
        assert_eq!(out, [Value::float(&[2, 2], &[1.0, 2.0, 4.0, 3.0])]);
    }

    #[test]
    fn vectors_lie_along_their_axis() {
        let lut = Value::float(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let dense = |axis: i32| {
            let constants = [
                ("indices", packed(PackedType::UInt1, &[1, 2], &[0b10])),
                ("lut", lut.clone()),
                ("vector_axis", Value::int(&[], &[axis])),
            ];
            run("constexpr_lut_to_dense", &[], &constants).unwrap()
        };
        assert_eq!(dense(0), [Value::float(&[2, 2], &[1.0, 3.0, 2.0, 4.0])]);
        assert_eq!(dense(1), [Value::float(&[1, 4], &[1.0, 2.0, 3.0, 4.0])]);
    }

    #[test]
    fn sparse_palettes_feed_sparse_weights() {
        let constants = [
            ("indices_mask", packed(PackedType::UInt1, &[2, 2], &[0b1010])),
            ("indices_nonzero_data", packed(PackedType::UInt1, &[2], &[0b01])),
            ("lut", Value::float(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])),
            ("vector_axis", Value::int(&[], &[0])),
        ];
        let out = run("constexpr_lut_to_sparse", &[], &constants).unwrap();
        let [mask, values] = <[Value; 2]>::try_from(out).unwrap();
        let dense = run("constexpr_sparse_to_dense", &[], &[("nonzero_data", values), ("mask", mask)]).unwrap();
        // Index 1 of row 0 and index 0 of row 1, each a column of two.
        assert_eq!(dense, [Value::float(&[4, 2], &[0.0, 3.0, 0.0, 4.0, 0.0, 1.0, 0.0, 2.0])]);
    }

    #[test]
    fn indices_beyond_the_table_are_refused() {
        let constants =
            [("indices", Value::of(&[2], Data::UInt8(vec![1, 2]))), ("lut", Value::float(&[1, 2, 1], &[0.0, 1.0]))];
        let error = run("constexpr_lut_to_dense", &[], &constants).unwrap_err();
        assert_eq!(error.to_string(), "parameter `indices`: 2 is not in a table of 2");
    }
}
