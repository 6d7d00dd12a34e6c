//! Constants: literals of the program and weights of the blob file.

use std::sync::Arc;

use coreml_tensor::{Shape, Tensor};

use super::types::PackedType;

/// A constant. Weights are shared: two constants that name the same blob hold the same `Arc`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Constant {
    /// Numbers or booleans.
    Tensor(Arc<Tensor>),
    /// Weights narrower than a byte.
    Packed(Arc<PackedTensor>),
    /// Strings in row-major order; a scalar has rank 0 and one entry.
    Strings(Shape, Vec<String>),
    /// A list or tuple.
    List(Vec<Self>),
    /// A dictionary, in the file's order.
    Dictionary(Vec<(Self, Self)>),
}

/// Elements narrower than a byte, packed as the blob file packs them: element *i* occupies the bits
/// `[i * bits, (i + 1) * bits)` of the little-endian bit stream, lowest bit first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedTensor {
    /// Element type.
    pub ty: PackedType,
    /// Shape in elements.
    pub shape: Shape,
    /// `ceil(count * bits / 8)` bytes.
    pub bytes: Vec<u8>,
}

impl PackedTensor {
    /// The raw bits of every element, in a byte each.
    pub fn codes(&self) -> Vec<u8> {
        let mut codes = vec![0; self.shape.count()];
        match self.ty.bits() {
            1 => spread::<1, 1, 8>(&self.bytes, &mut codes),
            2 => spread::<2, 1, 4>(&self.bytes, &mut codes),
            3 => spread::<3, 3, 8>(&self.bytes, &mut codes),
            4 => spread::<4, 1, 2>(&self.bytes, &mut codes),
            6 => spread::<6, 3, 4>(&self.bytes, &mut codes),
            _ => codes.clone_from_slice(&self.bytes),
        }
        codes
    }

    /// The raw bits of every integer element, sign-extended for signed types.
    pub fn unpack(&self) -> Vec<i8> {
        let shift = if self.ty == PackedType::Int4 { 4 } else { 0 };
        self.codes().into_iter().map(|code| (code.cast_signed() << shift) >> shift).collect()
    }
}

/// Takes a stream of elements of `BITS` bits apart, of which `TOGETHER` fill `BYTES`.
fn spread<const BITS: usize, const BYTES: usize, const TOGETHER: usize>(bytes: &[u8], codes: &mut [u8]) {
    const { assert!(BITS * TOGETHER == BYTES * 8 && BYTES <= 4) };
    let group = |bytes: &[u8], codes: &mut [u8]| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        let word = u32::from_le_bytes(word);
        for (i, code) in codes.iter_mut().enumerate() {
            *code = (word >> (i * BITS)) as u8 & ((1 << BITS) - 1);
        }
    };
    let (whole, rest) = codes.as_chunks_mut::<TOGETHER>();
    let (groups, _) = bytes.as_chunks::<BYTES>();
    for (codes, bytes) in whole.iter_mut().zip(groups) {
        group(bytes, codes);
    }
    let last = bytes.get(whole.len() * BYTES..).unwrap_or_default();
    group(&last[..last.len().min(BYTES)], rest);
}

impl Constant {
    /// The tensor, if this is one.
    pub fn as_tensor(&self) -> Option<&Arc<Tensor>> {
        if let Self::Tensor(tensor) = self { Some(tensor) } else { None }
    }

    /// The string, if this is a single one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Strings(_, values) if values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_may_straddle_bytes() {
        // 1, 6, 3, 5 in three bits each: 0b101_011_110_001, low bits first.
        let packed = PackedTensor { ty: PackedType::UInt3, shape: Shape::new(&[4]), bytes: vec![0b1111_0001, 0b1010] };
        assert_eq!(packed.unpack(), [1, 6, 3, 5]);
    }

    #[test]
    fn elements_that_fill_bytes_are_unpacked_whole() {
        let unpack =
            |ty, count, bytes: &[u8]| PackedTensor { ty, shape: Shape::new(&[count]), bytes: bytes.to_vec() }.unpack();
        assert_eq!(unpack(PackedType::Int4, 3, &[0x8f, 0x07]), [-1, -8, 7]);
        assert_eq!(unpack(PackedType::UInt4, 3, &[0x8f, 0x07]), [15, 8, 7]);
        assert_eq!(unpack(PackedType::UInt2, 5, &[0b11_10_01_00, 0b10]), [0, 1, 2, 3, 2]);
        assert_eq!(unpack(PackedType::UInt1, 9, &[0b1000_0001, 1]), [1, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    /// Bit by bit, for every type and numbers of elements that do not fill their last bytes.
    #[test]
    fn elements_lie_in_the_stream_one_after_the_other() {
        use PackedType::{Float8E5M2, Int4, UInt1, UInt2, UInt3, UInt4, UInt6};
        let stream: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(151).wrapping_add(29)).collect();
        for ty in [UInt1, UInt2, UInt3, UInt4, Int4, UInt6, Float8E5M2] {
            for count in 0..40 {
                let bit = |at: usize| stream[at / 8] >> (at % 8) & 1;
                let code = |i: usize| (0..ty.bits()).map(|k| bit(i * ty.bits() + k) << k).sum();
                let expected: Vec<u8> = (0..count).map(code).collect();
                let bytes = stream[..(count * ty.bits()).div_ceil(8)].to_vec();
                let packed = PackedTensor { ty, shape: Shape::new(&[count]), bytes };
                assert_eq!(packed.codes(), expected, "{count} of {ty:?}");
            }
        }
    }

    #[test]
    fn int4_is_signed() {
        let packed = PackedTensor { ty: PackedType::Int4, shape: Shape::new(&[3]), bytes: vec![0x8f, 0x07] };
        assert_eq!(packed.unpack(), [-1, -8, 7]);
    }
}
