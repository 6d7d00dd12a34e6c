//! Weights of which only some elements are stored; the others are zero.

use std::sync::{Arc, OnceLock};

use coreml_kernels::Isa;
use coreml_kernels::gemm::PackedB;
use coreml_model::{Constant, PackedType};
use coreml_tensor::{DType, Data, DataView, Shape, Tensor};
use half::slice::HalfFloatSliceExt;

use super::weights::constant_of;
use super::{Numbers, read_mask, to_constant};
use crate::literal::{CompressedWeights, Literal};
use crate::op::{Args, OpError, shape_of};

/// A tensor as the elements that are stored; and as a constant, once somebody asks for it.
struct Sparse {
    shape: Shape,
    /// A bit for each element, lowest first: whether it is stored. Those beyond the last element are 0.
    mask: Vec<u8>,
    /// The stored elements one after the other, as `f16` or `f32`.
    stored: Arc<Tensor>,
    dtype: DType,
    dense: OnceLock<Arc<Constant>>,
}

/// iOS 16: the mask is a stream of bits.
pub(super) fn stream_to_dense(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    let shape = shape_of(&args.sizes("shape")?)?;
    let bytes = args.get("mask").and_then(Constant::as_tensor).and_then(|stream| stream.as_slice::<u8>());
    let bytes = bytes.ok_or_else(|| OpError::parameter("mask", "must be bytes"))?;
    let mask = bytes.get(..shape.count().div_ceil(8)).ok_or_else(|| {
        let message = format!("{} bytes do not hold {} numbers of 1 bits", bytes.len(), shape.count());
        OpError::parameter("mask", message)
    })?;
    dense(args, shape, mask.to_vec())
}

/// iOS 18: the mask has the tensor's shape.
pub(super) fn to_dense(args: &Args<'_>) -> Result<Vec<Literal>, OpError> {
    if let Some(Constant::Packed(packed)) = args.get("mask")
        && packed.ty == PackedType::UInt1
    {
        return dense(args, packed.shape, packed.bytes.clone());
    }
    let (shape, mask) = read_mask(args, "mask")?;
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
    dense(args, shape, mask.chunks(8).map(byte).collect())
}

fn dense(args: &Args<'_>, shape: Shape, mut mask: Vec<u8>) -> Result<Vec<Literal>, OpError> {
    mask.truncate(shape.count().div_ceil(8));
    if let (Some(last), rest @ 1..) = (mask.last_mut(), shape.count() % 8) {
        *last &= (1 << rest) - 1;
    }
    let (stored, dtype) = match args.get("nonzero_data") {
        Some(Constant::Tensor(tensor)) if matches!(tensor.dtype(), DType::Float16 | DType::Float32) => {
            (Arc::clone(tensor), tensor.dtype())
        }
        _ => {
            let Numbers { values, shape, dtype } = Numbers::read(args, "nonzero_data")?;
            // What cannot be a constant's type is refused now.
            to_constant(Shape::new(&[0]), Vec::new(), dtype)?;
            let tensor = Tensor::from_data(shape, Data::Float32(values));
            (Arc::new(tensor.map_err(|error| OpError::new(error.to_string()))?), dtype)
        }
    };
    let (places, count) = (set(&mask), stored.shape().count());
    if places != count {
        let message = format!("has {count} elements, the mask has places for {places}");
        return Err(OpError::parameter("nonzero_data", message));
    }
    Ok(vec![Literal::of_compressed(Sparse { shape, mask, stored, dtype, dense: OnceLock::new() })])
}

fn set(mask: &[u8]) -> usize {
    mask.iter().map(|byte| byte.count_ones() as usize).sum()
}

/// For each byte of a mask and each of its bits, how many lower bits are set.
const BEFORE: [[u8; 8]; 256] = {
    let mut before = [[0; 8]; 256];
    let mut byte = 0;
    while byte < before.len() {
        let mut bit = 1;
        while bit < 8 {
            before[byte][bit] = before[byte][bit - 1] + (byte >> (bit - 1) & 1) as u8;
            bit += 1;
        }
        byte += 1;
    }
    before
};

/// Puts stored elements in their places among those of the mask, and zeros elsewhere. Behind the stored elements there are 8 others.
fn spread(mask: &[u8], stored: &[f32], dense: &mut [f32]) {
    let mut next = 0;
    for (elements, &byte) in dense.chunks_mut(8).zip(mask) {
        // No element waits for the one before it.
        let (stored, before) = (&stored[next..next + 8], &BEFORE[usize::from(byte)]);
        for (bit, element) in elements.iter_mut().enumerate() {
            let value = stored[usize::from(before[bit] & 7)];
            *element = if byte >> bit & 1 == 1 { value } else { 0.0 };
        }
        next += byte.count_ones() as usize;
    }
}

/// Elements that are spread at a time, a multiple of 8.
const RUN: usize = 1024;

impl CompressedWeights for Sparse {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dense(&self) -> &Arc<Constant> {
        self.dense.get_or_init(|| constant_of(self))
    }

    fn decompress(&self, elements: &mut [f32]) {
        let mut run = [0.0; RUN + 8];
        let mut first = 0;
        for (elements, mask) in elements.chunks_mut(RUN).zip(self.mask.chunks(RUN / 8)) {
            let count = set(mask);
            match self.stored.view().data() {
                DataView::Float16(halves) => halves[first..first + count].convert_to_f32_slice(&mut run[..count]),
                DataView::Float32(values) => run[..count].copy_from_slice(&values[first..first + count]),
                _ => unreachable!("stored elements are f16 or f32"),
            }
            spread(mask, &run, elements);
            first += count;
        }
    }

    /// No kernel skips zeros.
    fn pack(&self, _: Isa, _: bool) -> Option<PackedB> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Value, run, run_in};
    use coreml_model::{Opset, PackedTensor};
    use coreml_tensor::f16;

    #[test]
    fn stored_elements_are_in_their_places_whatever_their_type_and_number() {
        for count in [1, 7, 8, 9, 1023, 1025, 3000] {
            let is_set = |i: usize| (i * 7).is_multiple_of(3) || i == count - 1;
            let bit = |i: usize| u8::from(i < count && is_set(i));
            // Bits beyond the last element mean nothing.
            let byte = |at: usize| (0..8).map(|i| if at * 8 + i < count { bit(at * 8 + i) << i } else { 1 << i }).sum();
            let bytes: Vec<u8> = (0..count.div_ceil(8)).map(byte).collect();
            let expected: Vec<f32> = (0..count).map(|i| if is_set(i) { 1.0 + i as f32 } else { 0.0 }).collect();
            let stored: Vec<f32> = expected.iter().copied().filter(|&x| x != 0.0).collect();
            let halves = Data::Float16(stored.iter().map(|&x| f16::from_f32(x)).collect());
            for (data, dense) in [
                (Data::Float32(stored.clone()), Data::Float32(expected.clone())),
                (halves, Data::Float16(expected.iter().map(|&x| f16::from_f32(x)).collect())),
            ] {
                let (nonzero, dense) = (Value::of(&[stored.len()], data), [Value::of(&[count], dense)]);
                let packed = PackedTensor { ty: PackedType::UInt1, shape: Shape::new(&[count]), bytes: bytes.clone() };
                let mask = Value(Constant::Packed(Arc::new(packed)));
                let found = run("constexpr_sparse_to_dense", &[], &[("nonzero_data", nonzero.clone()), ("mask", mask)]);
                assert_eq!(found.unwrap(), dense, "{count}");
                let mask = (0..count).map(|i| bit(i) == 1).collect();
                let mask = Value::of(&[count], Data::Bool(mask));
                let found = run("constexpr_sparse_to_dense", &[], &[("nonzero_data", nonzero.clone()), ("mask", mask)]);
                assert_eq!(found.unwrap(), dense, "{count}");
                let stream = [
                    ("nonzero_data", nonzero),
                    ("mask", Value::of(&[bytes.len()], Data::UInt8(bytes.clone()))),
                    ("shape", Value::of(&[1], Data::UInt32(vec![count as u32]))),
                ];
                assert_eq!(run_in(Opset::Ios16, "constexpr_sparse_to_dense", &[], &stream).unwrap(), dense);
            }
        }
    }
}
