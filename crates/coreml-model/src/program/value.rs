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
        (0..self.shape.count())
            .map(|i| {
                let (byte, shift) = (i * bits / 8, i * bits % 8);
                let low = u16::from(self.bytes[byte]);
                let high = u16::from(self.bytes.get(byte + 1).copied().unwrap_or(0));
                let raw = (((high << 8 | low) >> shift) as u8 & mask) as i8;
                (raw << sign_shift) >> sign_shift
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
    fn int4_is_signed() {
        let packed = PackedTensor { ty: PackedType::Int4, shape: Shape::new(&[3]), bytes: vec![0x8f, 0x07] };
        assert_eq!(packed.unpack(), [-1, -8, 7]);
    }
}
