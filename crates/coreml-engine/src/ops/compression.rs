//! Compressed weights: the `constexpr_*` operations, which become constants when a program is loaded, or stay compressed where
//! no operation needs their elements.
//!
//! Semantics: coremltools `constexpr_ops` of iOS 16 and iOS 18. Results are computed in `f32` and rounded to the type
//! the program declares, so that they are bit by bit what the compressing tool meant. Tables, scales and values may
//! themselves be results of such operations: integers stay integers until something scales them.

use std::ops::Range;
use std::sync::Arc;

use coreml_model::{Constant, Opset, PackedType};
use coreml_tensor::{DType, Data, MAX_RANK, Shape, Tensor, f16};
use half::slice::HalfFloatSliceExt;

use crate::literal::Literal;
use crate::op::{Args, Bind, OpError, OpSpec, axis_of, constant, shape_of};

mod palette;
mod sparse;
mod weights;

use weights::{Codes, Compressed, Meaning};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "constexpr_affine_dequantize",
        since: Opset::Ios16,
        params: &[constant("quantized_data"), constant("zero_point"), constant("scale"), constant("axis")],
        bind: Bind::Constants(affine_dequantize),
    },
    OpSpec {
        name: "constexpr_cast",
        since: Opset::Ios16,
        params: &[constant("source_val"), constant("output_dtype").optional()],
        bind: Bind::Constants(cast),
    },
    OpSpec {
        name: "constexpr_lut_to_dense",
        since: Opset::Ios16,
        params: &[constant("indices"), constant("lut"), constant("shape")],
        bind: Bind::Constants(palette::stream_to_dense),
    },
    OpSpec {
        name: "constexpr_lut_to_dense",
        since: Opset::Ios18,
        params: &[constant("indices"), constant("lut"), constant("vector_axis").optional()],
        bind: Bind::Constants(palette::to_dense),
    },
    OpSpec {
        name: "constexpr_lut_to_sparse",
        since: Opset::Ios18,
        params: &[
            constant("indices_mask"),
            constant("indices_nonzero_data"),
            constant("lut"),
            constant("vector_axis").optional(),
        ],
        bind: Bind::Constants(palette::to_sparse),
    },
    OpSpec {
        name: "constexpr_sparse_to_dense",
        since: Opset::Ios16,
        params: &[constant("nonzero_data"), constant("mask"), constant("shape")],
        bind: Bind::Constants(sparse::stream_to_dense),
    },
    OpSpec {
        name: "constexpr_sparse_to_dense",
        since: Opset::Ios18,
        params: &[constant("nonzero_data"), constant("mask")],
        bind: Bind::Constants(sparse::to_dense),
    },
    OpSpec {
        name: "constexpr_blockwise_shift_scale",
        since: Opset::Ios18,
        params: &[constant("data"), constant("scale"), constant("offset").optional()],
        bind: Bind::Constants(blockwise),
    },
    OpSpec {
        name: "constexpr_sparse_blockwise_shift_scale",
        since: Opset::Ios18,
        params: &[constant("data_mask"), constant("nonzero_data"), constant("scale"), constant("offset").optional()],
        bind: Bind::Constants(sparse_blockwise),
    },
];

/// The elements of a constant as numbers, whatever their type. All types met here fit an `f32` exactly.
pub(super) struct Numbers {
    pub(super) values: Vec<f32>,
    pub(super) shape: Shape,
    pub(super) dtype: DType,
}

impl Numbers {
    pub(super) fn read(args: &Args<'_>, name: &'static str) -> Result<Self, OpError> {
        match args.get(name) {
            None => Err(OpError::parameter(name, "is missing")),
            Some(Constant::Tensor(tensor)) => {
                Ok(Self { values: numbers(tensor), shape: tensor.shape(), dtype: tensor.dtype() })
            }
            Some(Constant::Packed(packed)) => {
                let dtype = match packed.ty {
                    PackedType::Float8E4M3Fn | PackedType::Float8E5M2 => {
                        return Err(OpError::parameter(name, "holds 8-bit floats, which are not supported yet"));
                    }
                    PackedType::Int4 => DType::Int8,
                    _ => DType::UInt8,
                };
                let values = packed.unpack().into_iter().map(f32::from).collect();
                Ok(Self { values, shape: packed.shape, dtype })
            }
            Some(_) => Err(OpError::parameter(name, "must be numbers")),
        }
    }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    if let Some(halves) = tensor.as_slice::<f16>() {
        let mut values = vec![0.0; halves.len()];
        halves.convert_to_f32_slice(&mut values);
        return values;
    }
    if let Some(values) = tensor.as_slice::<f32>() {
        return values.to_vec();
    }
    let mut values = Vec::with_capacity(tensor.shape().count());
    tensor.view().for_each_f64(|x| values.push(x as f32));
    values
}

/// A constant of these numbers, rounded to `dtype`.
pub(super) fn to_constant(shape: Shape, values: Vec<f32>, dtype: DType) -> Result<Constant, OpError> {
    let data = match dtype {
        DType::Float16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            Data::Float16(halves)
        }
        DType::Float32 => Data::Float32(values),
        DType::Int8 => Data::Int8(values.into_iter().map(|x| x as i8).collect()),
        DType::UInt8 => Data::UInt8(values.into_iter().map(|x| x as u8).collect()),
        DType::Bool => Data::Bool(values.into_iter().map(|x| x != 0.0).collect()),
        other => return Err(OpError::new(format!("cannot make weights of type {other}"))),
    };
    match Tensor::from_data(shape, data) {
        Ok(tensor) => Ok(Constant::Tensor(Arc::new(tensor))),
        Err(error) => Err(OpError::new(error.to_string())),
    }
}

/// `count` numbers of `bits` bits each, eight at most, from the stream of bytes that `name` holds, lowest bit first.
pub(super) fn unpack_stream(
    args: &Args<'_>,
    name: &'static str,
    bits: usize,
    count: usize,
) -> Result<Vec<u8>, OpError> {
    let bytes = args.get(name).and_then(Constant::as_tensor).and_then(|stream| stream.as_slice::<u8>());
    let bytes = bytes.ok_or_else(|| OpError::parameter(name, "must be bytes"))?;
    let needed = count.checked_mul(bits).map(|all| all.div_ceil(8));
    let bytes = needed.and_then(|needed| bytes.get(..needed)).ok_or_else(|| {
        OpError::parameter(name, format!("{} bytes do not hold {count} numbers of {bits} bits", bytes.len()))
    })?;
    Ok(match bits {
        1 => unpack::<1>(bytes, count),
        2 => unpack::<2>(bytes, count),
        3 => unpack::<3>(bytes, count),
        4 => unpack::<4>(bytes, count),
        5 => unpack::<5>(bytes, count),
        6 => unpack::<6>(bytes, count),
        7 => unpack::<7>(bytes, count),
        _ => bytes.to_vec(),
    })
}

fn unpack<const BITS: usize>(bytes: &[u8], count: usize) -> Vec<u8> {
    // Eight numbers fill as many bytes as each has bits.
    let eight = |group: &[u8]| -> [u8; 8] {
        let mut all = [0; 8];
        all[..group.len()].copy_from_slice(group);
        let all = u64::from_le_bytes(all);
        std::array::from_fn(|i| (all >> (i * BITS)) as u8 & ((1 << BITS) - 1))
    };
    let (groups, rest) = bytes.as_chunks::<BITS>();
    let mut numbers = Vec::with_capacity(count.next_multiple_of(8));
    groups.iter().for_each(|group| numbers.extend(eight(group)));
    numbers.extend(eight(rest));
    numbers.truncate(count);
    numbers
}

/// A mask that says which elements of a dense tensor are stored.
pub(super) fn read_mask(args: &Args<'_>, name: &'static str) -> Result<(Shape, Vec<bool>), OpError> {
    let mask = Numbers::read(args, name)?;
    Ok((mask.shape, mask.values.iter().map(|&bit| bit != 0.0).collect()))
}

/// The stored elements in their places, zero elsewhere.
pub(super) fn spread(name: &'static str, mask: &[bool], stored: &[f32]) -> Result<Vec<f32>, OpError> {
    let count = mask.iter().filter(|&&set| set).count();
    if count != stored.len() {
        let message = format!("has {} elements, the mask has places for {count}", stored.len());
        return Err(OpError::parameter(name, message));
    }
    let mut next = stored.iter();
    Ok(mask.iter().map(|&set| if set { next.next().copied().unwrap_or(0.0) } else { 0.0 }).collect())
}

/// What the mask keeps.
pub(super) fn keep(mask: &[bool], dense: &[f32]) -> Vec<f32> {
    dense.iter().zip(mask).filter(|&(_, &set)| set).map(|(&x, _)| x).collect()
}

pub(super) fn mask_constant(shape: Shape, mask: Vec<bool>) -> Result<Constant, OpError> {
    to_constant(shape, mask.into_iter().map(|set| f32::from(u8::from(set))).collect(), DType::Bool)
}

fn blockwise(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    if let Some(codes) = Codes::read(args, "data") {
        let Scales { scale, offset, blocks, dtype } = Scales::read(args, codes.shape)?;
        let meaning = Meaning::Affine { scale, zero: offset };
        return Ok(vec![Literal::of_compressed(Compressed::new(codes, meaning, blocks, dtype)?)]);
    }
    let data = Numbers::read(args, "data")?;
    let scales = Scales::read(args, data.shape)?;
    let mut values = data.values;
    scales.apply(&mut values);
    Ok(vec![to_constant(data.shape, values, scales.dtype)?.into()])
}

fn affine_dequantize(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let Some(codes) = Codes::read(args, "quantized_data") else {
        return Err(OpError::parameter("quantized_data", "must be integers of 8 bits"));
    };
    let shape = codes.shape;
    let scale = Numbers::read(args, "scale")?;
    let zero_point = Numbers::read(args, "zero_point")?;
    let axis = axis_of("axis", args.int("axis", 0)?, shape.rank())?;
    for (name, numbers) in [("scale", &scale), ("zero_point", &zero_point)] {
        if ![1, shape[axis]].contains(&numbers.values.len()) {
            let message = format!("has {} entries for axis {axis} of {shape}", numbers.values.len());
            return Err(OpError::parameter(name, message));
        }
    }
    let blocks = scale.values.len().max(zero_point.values.len());
    // An axis of length 0 may have no scale, and then has no element that asks for it.
    let one = |values: &[f32], i: usize| values.get(if values.len() == 1 { 0 } else { i }).copied().unwrap_or_default();
    let each = |values: &[f32]| (0..blocks).map(|i| one(values, i)).collect();
    let meaning = Meaning::Affine { scale: each(&scale.values), zero: Some(each(&zero_point.values)) };
    let mut grid = vec![1; shape.rank()];
    grid[axis] = blocks;
    Ok(vec![Literal::of_compressed(Compressed::new(codes, meaning, Blocks::new("scale", shape, &grid)?, scale.dtype)?)])
}

fn cast(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let name = args.str("output_dtype", "fp32")?;
    let dtype = DType::from_name(name).filter(|dtype| dtype.is_float());
    let dtype = dtype.ok_or_else(|| OpError::parameter("output_dtype", format!("`{name}` is not a float type")))?;
    let source = Numbers::read(args, "source_val")?;
    Ok(vec![to_constant(source.shape, source.values, dtype)?.into()])
}

fn sparse_blockwise(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let (shape, mask) = read_mask(args, "data_mask")?;
    let stored = Numbers::read(args, "nonzero_data")?;
    let mut dense = spread("nonzero_data", &mask, &stored.values)?;
    let scales = Scales::read(args, shape)?;
    scales.apply(&mut dense);
    let values = keep(&mask, &dense);
    let values = to_constant(shape_of(&[values.len()])?, values, scales.dtype)?;
    Ok(vec![mask_constant(shape, mask)?.into(), values.into()])
}

/// Scales and offsets for blocks of a tensor.
struct Scales {
    scale: Vec<f32>,
    offset: Option<Vec<f32>>,
    blocks: Blocks,
    dtype: DType,
}

impl Scales {
    fn read(args: &Args<'_>, shape: Shape) -> Result<Self, OpError> {
        let scale = Numbers::read(args, "scale")?;
        let blocks = Blocks::new("scale", shape, &scale.shape)?;
        let offset = args.get("offset").map(|_| Numbers::read(args, "offset")).transpose()?;
        if let Some(offset) = offset.as_ref().filter(|offset| offset.shape != scale.shape) {
            let message = format!("{} is not the shape of scale, {}", offset.shape, scale.shape);
            return Err(OpError::parameter("offset", message));
        }
        Ok(Self { scale: scale.values, offset: offset.map(|offset| offset.values), blocks, dtype: scale.dtype })
    }

    fn apply(&self, values: &mut [f32]) {
        self.blocks.runs(|run, block| {
            let (scale, offset) = (self.scale[block], self.offset.as_ref().map_or(0.0, |offset| offset[block]));
            values[run].iter_mut().for_each(|value| *value = (*value - offset) * scale);
        });
    }
}

/// A tensor divided into equal blocks along each axis.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    shape: Shape,
    grid: Shape,
}

impl Blocks {
    /// `grid` says how many blocks there are along each axis; it must divide `shape`.
    pub(super) fn new(name: &'static str, shape: Shape, grid: &[usize]) -> Result<Self, OpError> {
        let grid = shape_of(grid)?;
        let divides = |(&size, &blocks): (&usize, &usize)| blocks > 0 && size.is_multiple_of(blocks);
        if grid.rank() != shape.rank() || !shape.iter().zip(grid.dims()).all(divides) {
            return Err(OpError::parameter(name, format!("{grid} does not divide {shape} into blocks")));
        }
        Ok(Self { shape, grid })
    }

    /// Blocks along each axis.
    pub(super) fn grid(&self) -> &[usize] {
        self.grid.dims()
    }

    /// Calls `each` with the number of every element and of its block, in row-major order.
    pub(super) fn walk(&self, mut each: impl FnMut(usize, usize)) {
        self.runs(|run, block| run.for_each(|at| each(at, block)));
    }

    /// Calls `each` with runs of elements that lie in one block, as long as they can be, and its number; in row-major order.
    pub(super) fn runs(&self, mut each: impl FnMut(Range<usize>, usize)) {
        if self.shape.count() == 0 {
            return;
        }
        let strides = self.grid.strides();
        // The axes after the last that is divided lie whole in each block.
        let axis = (0..self.shape.rank()).rev().find(|&axis| self.grid[axis] > 1).unwrap_or(0);
        let inner: usize = self.shape.get(axis + 1..).unwrap_or_default().iter().product();
        let (size, blocks) = match self.shape.get(axis) {
            Some(size) => (size / self.grid[axis] * inner, self.grid[axis]),
            None => (1, 1),
        };
        let (outer, mut index) = (self.shape.get(..axis).unwrap_or_default(), [0; MAX_RANK]);
        for row in 0..outer.iter().product() {
            let block: usize =
                (0..axis).map(|axis| index[axis] / (self.shape[axis] / self.grid[axis]) * strides[axis]).sum();
            for i in 0..blocks {
                let begin = (row * blocks + i) * size;
                each(begin..begin + size, block + i * strides.get(axis).copied().unwrap_or(1));
            }
            for axis in (0..axis).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use coreml_tensor::{Data, Shape, f16};

    use super::Blocks;

    use crate::ops::testing::{Value, run, run_in};
    use coreml_model::Opset;

    fn half(dims: &[usize], values: &[f32]) -> Value {
        Value::of(dims, Data::Float16(values.iter().map(|&x| f16::from_f32(x)).collect()))
    }

    #[test]
    fn affine_dequantisation_rounds_to_the_type_of_the_scale() {
        let constants = [
            ("quantized_data", Value::of(&[2, 2], Data::UInt8(vec![0, 255, 3, 4]))),
            ("zero_point", Value::of(&[2], Data::UInt8(vec![0, 5]))),
            ("scale", half(&[2], &[0.1, 2.0])),
            ("axis", Value::int(&[], &[0])),
        ];
        let out = run("constexpr_affine_dequantize", &[], &constants).unwrap();
        let scale = f16::from_f32(0.1).to_f32();
        assert_eq!(out, [half(&[2, 2], &[0.0, 255.0 * scale, -4.0, -2.0])]);
    }

    #[test]
    fn runs_are_all_elements_in_order_each_in_its_block() {
        let cases: [(&[usize], &[usize]); 8] = [
            (&[], &[]),
            (&[6], &[3]),
            (&[4, 6], &[1, 1]),
            (&[4, 6], &[4, 1]),
            (&[4, 6], &[2, 3]),
            (&[4, 6, 5], &[4, 2, 1]),
            (&[2, 3, 4, 6], &[1, 3, 1, 2]),
            (&[2, 0, 3], &[2, 1, 1]),
        ];
        for (dims, grid) in cases {
            let (shape, numbers) = (Shape::new(dims), Shape::new(grid));
            let blocks = Blocks::new("scale", shape, grid).unwrap();
            let mut seen = Vec::new();
            blocks.walk(|at, block| seen.push((at, block)));
            let block = |at: usize| -> usize {
                let place = |axis: usize| at / shape.strides()[axis] % dims[axis] / (dims[axis] / grid[axis]);
                (0..dims.len()).map(|axis| place(axis) * numbers.strides()[axis]).sum()
            };
            let expected: Vec<_> = (0..shape.count()).map(|at| (at, block(at))).collect();
            assert_eq!(seen, expected, "{dims:?} in {grid:?}");
        }
    }

    #[test]
    fn blocks_have_scales_of_their_own() {
        let constants = [
            ("data", Value::of(&[2, 4], Data::Int8(vec![1, 2, 3, 4, 5, 6, 7, 8]))),
            ("scale", Value::float(&[1, 2], &[1.0, 10.0])),
            ("offset", Value::of(&[1, 2], Data::Int8(vec![0, 1]))),
        ];
        let out = run("constexpr_blockwise_shift_scale", &[], &constants).unwrap();
        assert_eq!(out, [Value::float(&[2, 4], &[1.0, 2.0, 20.0, 30.0, 5.0, 6.0, 60.0, 70.0])]);
        let uneven = [constants[0].clone(), ("scale", Value::float(&[1, 3], &[1.0; 3]))];
        assert!(run("constexpr_blockwise_shift_scale", &[], &uneven).unwrap_err().to_string().contains("`scale`"));
    }

    #[test]
    fn numbers_of_any_width_come_out_of_a_stream() {
        use super::unpack;

        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        let stream: Vec<u8> = std::iter::repeat_with(|| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (bits >> 56) as u8
        })
        .take(40)
        .collect();
        let bit = |i: usize| stream[i / 8] >> (i % 8) & 1;
        let slow = |width: usize, count: usize| -> Vec<u8> {
            (0..count).map(|i| (0..width).map(|j| bit(i * width + j) << j).sum()).collect()
        };
        for count in [0, 1, 7, 8, 9, 37] {
            let bytes = |width: usize| &stream[..(count * width).div_ceil(8)];
            assert_eq!(unpack::<1>(bytes(1), count), slow(1, count));
            assert_eq!(unpack::<3>(bytes(3), count), slow(3, count));
            assert_eq!(unpack::<4>(bytes(4), count), slow(4, count));
            assert_eq!(unpack::<7>(bytes(7), count), slow(7, count));
        }
    }

    #[test]
    fn sparse_values_go_where_the_mask_says() {
        let constants = [
            ("nonzero_data", Value::float(&[3], &[7.0, 8.0, 9.0])),
            ("mask", Value::of(&[1], Data::UInt8(vec![0b10_0110]))),
            ("shape", Value::of(&[2], Data::UInt32(vec![2, 3]))),
        ];
        let out = run_in(Opset::Ios16, "constexpr_sparse_to_dense", &[], &constants).unwrap();
        let dense = Value::float(&[2, 3], &[0.0, 7.0, 8.0, 0.0, 0.0, 9.0]);
        assert_eq!(out, std::slice::from_ref(&dense));
        let mask = Value::bool(&[2, 3], &[false, true, true, false, false, true]);
        let later = [constants[0].clone(), ("mask", mask.clone())];
        assert_eq!(run("constexpr_sparse_to_dense", &[], &later).unwrap(), [dense]);
        let few = [("nonzero_data", Value::float(&[2], &[7.0, 8.0])), ("mask", mask)];
        assert!(run("constexpr_sparse_to_dense", &[], &few).unwrap_err().to_string().contains("places for 3"));
    }

    #[test]
    fn chains_of_sparse_and_scaled_weights_work() {
        let constants = [
            ("data_mask", Value::bool(&[2, 2], &[true, false, false, true])),
            ("nonzero_data", Value::of(&[2], Data::Int8(vec![3, -4]))),
            ("scale", Value::float(&[2, 1], &[0.5, 2.0])),
        ];
        let out = run("constexpr_sparse_blockwise_shift_scale", &[], &constants).unwrap();
        assert_eq!(out[1], Value::float(&[2], &[1.5, -8.0]));
        let [mask, values] = <[Value; 2]>::try_from(out).unwrap();
        let dense = run("constexpr_sparse_to_dense", &[], &[("nonzero_data", values), ("mask", mask)]).unwrap();
        assert_eq!(dense, [Value::float(&[2, 2], &[1.5, 0.0, 0.0, -8.0])]);
    }
}
