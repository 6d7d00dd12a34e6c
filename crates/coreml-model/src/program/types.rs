//! Types of values.

use std::fmt;

use coreml_tensor::DType;

/// The version of the operation set, named after the Core ML release that introduced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Opset {
    /// `CoreML5`: iOS 15, macOS 12.
    Ios15,
    /// `CoreML6`: iOS 16, macOS 13.
    Ios16,
    /// `CoreML7`: iOS 17, macOS 14.
    Ios17,
    /// `CoreML8`: iOS 18, macOS 15.
    Ios18,
    /// `CoreML9`: iOS 26, macOS 26. Adds no operation to `CoreML8`.
    Ios26,
}

impl Opset {
    /// All versions, oldest first, with the name the format uses.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Ios15, "CoreML5"),
        (Self::Ios16, "CoreML6"),
        (Self::Ios17, "CoreML7"),
        (Self::Ios18, "CoreML8"),
        (Self::Ios26, "CoreML9"),
    ];

    /// The version of this name (`CoreML5`, …).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|&(_, known)| known == name).map(|(opset, _)| opset)
    }

    /// The specification version that introduced it.
    pub(crate) fn specification_version(self) -> i32 {
        match self {
            Self::Ios15 => 6,
            Self::Ios16 => 7,
            Self::Ios17 => 8,
            Self::Ios18 => 9,
            Self::Ios26 => 10,
        }
    }

    /// The version that MIL text calls so: `ios17`, ….
    pub(crate) fn from_text(name: &str) -> Option<Self> {
        let by_text = || Self::ALL.into_iter().map(|(opset, _)| opset).find(|opset| opset.text_name() == name);
        Self::from_name(name).or_else(by_text)
    }

    /// The name that MIL text uses.
    pub(crate) fn text_name(self) -> &'static str {
        match self {
            Self::Ios15 => "ios15",
            Self::Ios16 => "ios16",
            Self::Ios17 => "ios17",
            Self::Ios18 => "ios18",
            Self::Ios26 => "ios26",
        }
    }

    /// The name the format uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ios15 => "CoreML5",
            Self::Ios16 => "CoreML6",
            Self::Ios17 => "CoreML7",
            Self::Ios18 => "CoreML8",
            Self::Ios26 => "CoreML9",
        }
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ValueType {
    /// A tensor of numbers or booleans.
    Tensor(TensorType),
    /// A tensor of numbers or booleans whose rank, too, only the inputs decide.
    Unranked(DType),
    /// A tensor of weights in a type narrower than a byte, or an 8-bit float.
    Packed(PackedType, Vec<Dim>),
    /// A tensor of strings; rank 0 for a single one.
    Strings(Vec<Dim>),
    /// A list of values of one type; `None` for a length that is not fixed.
    List(Box<Self>, Option<u64>),
    /// Several values.
    Tuple(Vec<Self>),
    /// A dictionary: the class probabilities of a classifier.
    Dictionary(Box<Self>, Box<Self>),
    /// A state that survives between predictions.
    State(TensorType),
}

/// Data type and dimensions of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// The element type. `bfloat16` constants are widened to `Float32` on reading.
    pub dtype: DType,
    /// The dimensions, outermost first.
    pub dims: Vec<Dim>,
}

/// One declared dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Decided by the inputs.
    Unknown,
}

/// Element types that only weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PackedType {
    /// Signed 4-bit integer, two's complement.
    Int4,
    /// Unsigned 1-bit integer.
    UInt1,
    /// Unsigned 2-bit integer.
    UInt2,
    /// Unsigned 3-bit integer.
    UInt3,
    /// Unsigned 4-bit integer.
    UInt4,
    /// Unsigned 6-bit integer.
    UInt6,
    /// 8-bit float, 4 exponent bits, no infinities.
    Float8E4M3Fn,
    /// 8-bit float, 5 exponent bits.
    Float8E5M2,
}

impl PackedType {
    /// Bits per element.
    pub const fn bits(self) -> usize {
        match self {
            Self::UInt1 => 1,
            Self::UInt2 => 2,
            Self::UInt3 => 3,
            Self::Int4 | Self::UInt4 => 4,
            Self::UInt6 => 6,
            Self::Float8E4M3Fn | Self::Float8E5M2 => 8,
        }
    }

    /// The name MIL text uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::UInt1 => "uint1",
            Self::UInt2 => "uint2",
            Self::UInt3 => "uint3",
            Self::UInt4 => "uint4",
            Self::UInt6 => "uint6",
            Self::Float8E4M3Fn => "fp8e4m3fn",
            Self::Float8E5M2 => "fp8e5m2",
        }
    }
}
