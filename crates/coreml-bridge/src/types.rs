//! Converts data types, pixel formats and labels between ours and the ABI's.

use coreml_model::ColorLayout;
use coreml_tensor::DType;

use crate::ffi::{
    CMLB_PIXELS_GRAY8, CMLB_PIXELS_GRAY16F, CMLB_PIXELS_RGB8, CMLB_TYPE_DOUBLE, CMLB_TYPE_FLOAT16, CMLB_TYPE_FLOAT32,
    CMLB_TYPE_INT8, CMLB_TYPE_INT32,
};

/// The data type's number in the ABI; `None` for those that Core ML's multi-arrays do not have.
pub(crate) fn raw_type(dtype: DType) -> Option<i32> {
    match dtype {
        DType::Float64 => Some(CMLB_TYPE_DOUBLE),
        DType::Float32 => Some(CMLB_TYPE_FLOAT32),
        DType::Float16 => Some(CMLB_TYPE_FLOAT16),
        DType::Int32 => Some(CMLB_TYPE_INT32),
        DType::Int8 => Some(CMLB_TYPE_INT8),
        _ => None,
    }
}

/// The data type of this number; `None` for unknown ones.
pub(crate) fn dtype(raw: i32) -> Option<DType> {
    match raw {
        CMLB_TYPE_DOUBLE => Some(DType::Float64),
        CMLB_TYPE_FLOAT32 => Some(DType::Float32),
        CMLB_TYPE_FLOAT16 => Some(DType::Float16),
        CMLB_TYPE_INT32 => Some(DType::Int32),
        CMLB_TYPE_INT8 => Some(DType::Int8),
        _ => None,
    }
}

/// How pixels of a colour layout cross the ABI. Core ML keeps colour in an order of its own, so RGB and BGR are the same here.
pub(crate) fn pixels(color: ColorLayout) -> i32 {
    match color {
        ColorLayout::Grayscale => CMLB_PIXELS_GRAY8,
        ColorLayout::GrayscaleFloat16 => CMLB_PIXELS_GRAY16F,
        _ => CMLB_PIXELS_RGB8,
    }
}

/// Runs `$body` with `$T` as the Rust type of elements of a type that multi-arrays can have; otherwise gives `$other`.
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr, $other:expr) => {
        match $dtype {
            coreml_tensor::DType::Float64 => {
                type $T = f64;
                $body
            }
            coreml_tensor::DType::Float32 => {
                type $T = f32;
                $body
            }
            coreml_tensor::DType::Float16 => {
                type $T = coreml_tensor::f16;
                $body
            }
            coreml_tensor::DType::Int32 => {
                type $T = i32;
                $body
            }
            coreml_tensor::DType::Int8 => {
                type $T = i8;
                $body
            }
            _ => $other,
        }
    };
}
pub(crate) use with_element;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_one_number_each() {
        for known in [DType::Float64, DType::Float32, DType::Float16, DType::Int32, DType::Int8] {
            let raw = raw_type(known).unwrap();
            assert_eq!(dtype(raw), Some(known));
            // Core ML keeps the width in the low bits.
            assert_eq!((raw & 0xFFFF) as usize, known.size() * 8);
        }
        assert_eq!(raw_type(DType::Bool), None);
        assert_eq!(dtype(0x10080), None);
    }
}
