//! Element types as files number them: in the program, in weight files, and in the description.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use coreml_tensor::DType;

use crate::program::PackedType;

/// The types of elements that array features have, by the number the description uses.
const ARRAYS: [(i32, DType); 5] = [
    (65568, DType::Float32),
    (65600, DType::Float64),
    (131_104, DType::Int32),
    (65552, DType::Float16),
    (131_080, DType::Int8),
];

/// The type of an array feature's elements by its number.
pub(crate) fn array_dtype(code: i32) -> Option<DType> {
    ARRAYS.iter().find(|(known, _)| *known == code).map(|&(_, dtype)| dtype)
}

/// The number of a type of elements; `None` for one that array features do not have.
pub(crate) fn array_code(dtype: DType) -> Option<i32> {
    ARRAYS.iter().find(|(_, known)| *known == dtype).map(|&(code, _)| code)
}

/// What a tensor of the file consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ElementType {
    Number(DType),
    /// Becomes [`DType::Float32`] on reading.
    BFloat16,
    Packed(PackedType),
    String,
}

impl ElementType {
    /// By the number the program uses.
    pub(crate) fn from_program(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::Number(DType::Bool),
            2 => Self::String,
            10 => Self::Number(DType::Float16),
            11 => Self::Number(DType::Float32),
            12 => Self::Number(DType::Float64),
            13 => Self::BFloat16,
            21 => Self::Number(DType::Int8),
            22 => Self::Number(DType::Int16),
            23 => Self::Number(DType::Int32),
            24 => Self::Number(DType::Int64),
            25 => Self::Packed(PackedType::Int4),
            31 => Self::Number(DType::UInt8),
            32 => Self::Number(DType::UInt16),
            33 => Self::Number(DType::UInt32),
            34 => Self::Number(DType::UInt64),
            35 => Self::Packed(PackedType::UInt4),
            36 => Self::Packed(PackedType::UInt2),
            37 => Self::Packed(PackedType::UInt1),
            38 => Self::Packed(PackedType::UInt6),
            39 => Self::Packed(PackedType::UInt3),
            40 => Self::Packed(PackedType::Float8E4M3Fn),
            41 => Self::Packed(PackedType::Float8E5M2),
            _ => return None,
        })
    }

    /// All types, by the number the program uses; those that programs are full of first.
    fn all() -> impl Iterator<Item = (i32, Self)> {
        let common = [2, 23, 10, 11, 1];
        common.into_iter().chain(0..64).filter_map(|code| Some((code, Self::from_program(code)?)))
    }

    /// The number the program uses.
    pub(crate) fn program_code(self) -> i32 {
        Self::all().find(|(_, ty)| *ty == self).map_or(0, |(code, _)| code)
    }

    /// By the name MIL text uses.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|(_, ty)| ty.name() == name).map(|(_, ty)| ty)
    }

    /// The number weight files use; `None` for types that cannot be in one.
    pub(crate) fn blob_code(self) -> Option<u32> {
        (0..64).find(|&code| Self::from_blob(code) == Some(self))
    }

    /// By the number weight files use.
    pub(crate) fn from_blob(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Number(DType::Float16),
            2 => Self::Number(DType::Float32),
            3 => Self::Number(DType::UInt8),
            4 => Self::Number(DType::Int8),
            5 => Self::BFloat16,
            6 => Self::Number(DType::Int16),
            7 => Self::Number(DType::UInt16),
            8 => Self::Packed(PackedType::Int4),
            9 => Self::Packed(PackedType::UInt1),
            10 => Self::Packed(PackedType::UInt2),
            11 => Self::Packed(PackedType::UInt4),
            12 => Self::Packed(PackedType::UInt3),
            13 => Self::Packed(PackedType::UInt6),
            14 => Self::Number(DType::Int32),
            15 => Self::Number(DType::UInt32),
            16 => Self::Packed(PackedType::Float8E4M3Fn),
            17 => Self::Packed(PackedType::Float8E5M2),
            _ => return None,
        })
    }

    /// Bytes that `count` elements occupy in the file; `None` on overflow and for strings.
    pub(crate) fn stored_bytes(self, count: usize) -> Option<usize> {
        match self {
            Self::Number(dtype) => count.checked_mul(dtype.size()),
            Self::BFloat16 => count.checked_mul(2),
            Self::Packed(ty) => count.checked_mul(ty.bits()).map(|bits| bits.div_ceil(8)),
            Self::String => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Number(dtype) => dtype.name(),
            Self::BFloat16 => "bf16",
            Self::Packed(ty) => ty.name(),
            Self::String => "string",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_bytes() {
        assert_eq!(ElementType::Packed(PackedType::UInt3).stored_bytes(3), Some(2));
        assert_eq!(ElementType::Packed(PackedType::UInt1).stored_bytes(usize::MAX), Some(usize::MAX / 8 + 1));
        assert_eq!(ElementType::Number(DType::Float32).stored_bytes(usize::MAX), None);
    }

    #[test]
    fn both_numberings_name_the_same_types() {
        let program: Vec<_> = (0..64).filter_map(ElementType::from_program).collect();
        let blobs: Vec<_> = (0..64).filter_map(ElementType::from_blob).collect();
        assert_eq!((program.len(), blobs.len()), (22, 17));
        assert!(blobs.iter().all(|ty| program.contains(ty)));
    }
}
