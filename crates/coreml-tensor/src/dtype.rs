//! Element types.

use std::fmt;

use half::f16;

use crate::tensor::{Data, DataView};

/// The type of a tensor's elements. Sub-byte weights are decompressed or kept packed before they become tensors,
/// and are not among these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// One byte per element, 0 or 1.
    Bool,
    /// Signed 8-bit integer.
    Int8,
    /// Unsigned 8-bit integer.
    UInt8,
    /// Signed 16-bit integer.
    Int16,
    /// Unsigned 16-bit integer.
    UInt16,
    /// Signed 32-bit integer.
    Int32,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Signed 64-bit integer.
    Int64,
    /// Unsigned 64-bit integer.
    UInt64,
    /// IEEE 754 half precision.
    Float16,
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 double precision.
    Float64,
}

impl DType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::Int8 | Self::UInt8 => 1,
            Self::Int16 | Self::UInt16 | Self::Float16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 => 4,
            Self::Int64 | Self::UInt64 | Self::Float64 => 8,
        }
    }

    /// Whether the elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// The name MIL text uses: `fp16`, `int32`, `bool`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::UInt8 => "uint8",
            Self::Int16 => "int16",
            Self::UInt16 => "uint16",
            Self::Int32 => "int32",
            Self::UInt32 => "uint32",
            Self::Int64 => "int64",
            Self::UInt64 => "uint64",
            Self::Float16 => "fp16",
            Self::Float32 => "fp32",
            Self::Float64 => "fp64",
        }
    }

    /// The type with this MIL name (as in the `dtype` parameter of `cast`), if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Bool,
            Self::Int8,
            Self::UInt8,
            Self::Int16,
            Self::UInt16,
            Self::Int32,
            Self::UInt32,
            Self::Int64,
            Self::UInt64,
            Self::Float16,
            Self::Float32,
            Self::Float64,
        ]
        .into_iter()
        .find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    #[allow(unnameable_types, reason = "being unnameable is what seals the trait")]
    pub trait Sealed {}
}

/// A Rust type that can be a tensor element.
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The matching [`DType`].
    const DTYPE: DType;
    #[doc(hidden)]
    fn wrap(values: Vec<Self>) -> Data;
    #[doc(hidden)]
    fn view(values: &[Self]) -> DataView<'_>;
    #[doc(hidden)]
    fn peek<'a>(data: &DataView<'a>) -> Option<&'a [Self]>;
    #[doc(hidden)]
    fn peek_mut(data: &mut Data) -> Option<&mut [Self]>;
    #[doc(hidden)]
    fn unwrap(data: Data) -> Result<Vec<Self>, Data>;
}

macro_rules! elements {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DTYPE: DType = DType::$variant;
            fn wrap(values: Vec<Self>) -> Data {
                Data::$variant(values)
            }
            fn view(values: &[Self]) -> DataView<'_> {
                DataView::$variant(values)
            }
            fn peek<'a>(data: &DataView<'a>) -> Option<&'a [Self]> {
                if let DataView::$variant(values) = *data { Some(values) } else { None }
            }
            fn peek_mut(data: &mut Data) -> Option<&mut [Self]> {
                if let Data::$variant(values) = data { Some(values) } else { None }
            }
            fn unwrap(data: Data) -> Result<Vec<Self>, Data> {
                if let Data::$variant(values) = data { Ok(values) } else { Err(data) }
            }
        }
    )*};
}

elements! {
    bool => Bool,
    i8 => Int8,
    u8 => UInt8,
    i16 => Int16,
    u16 => UInt16,
    i32 => Int32,
    u32 => UInt32,
    i64 => Int64,
    u64 => UInt64,
    f16 => Float16,
    f32 => Float32,
    f64 => Float64,
}
