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
    /// The raw bits of every integer element, sign-extended for signed types.
    pub fn unpack(&self) -> Vec<i8> {
        let bits = self.ty.bits();
        let mask = ((1u16 << bits) - 1) as u8;
        let sign_shift = if self.ty == PackedType::Int4 { 4 } else { 0 };
        let sign = |raw: u8| (raw.cast_signed() << sign_shift) >> sign_shift;
        let count = self.shape.count();
        if 8 % bits == 0 {
            // None straddles two bytes.
            let in_byte = |&byte: &u8| (0..8).step_by(bits).map(move |shift| sign(byte >> shift & mask));
            let mut values = Vec::with_capacity(count.next_multiple_of(8));
            self.bytes[..(count * bits).div_ceil(8)].iter().for_each(|byte| values.extend(in_byte(byte)));
            values.truncate(count);
            return values;
        }
        (0..count)
            .map(|i| {
                let (byte, shift) = (i * bits / 8, i * bits % 8);
                let low = u16::from(self.bytes[byte]);
                let high = u16::from(self.bytes.get(byte + 1).copied().unwrap_or(0));
                sign(((high << 8 | low) >> shift) as u8 & mask)
            })
            .collect()
    }
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

    #[test]
    fn int4_is_signed() {
        let packed = PackedTensor { ty: PackedType::Int4, shape: Shape::new(&[3]), bytes: vec![0x8f, 0x07] };
        assert_eq!(packed.unpack(), [-1, -8, 7]);
    }
}
