//! The datatypes of the protocol: one row for each.

use coreml_anywhere::tensor::DType;

/// A datatype of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datatype(&'static Row);

/// What there is to know about a datatype.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: &'static str,
    /// Bytes of an element in a binary tensor; 0 if each element has its own length.
    bytes: usize,
    /// The elements it is read as; `None` for byte strings.
    dtype: Option<DType>,
    /// Whether it can be written as JSON, and as typed contents of a gRPC message.
    has_text: bool,
}

const fn row(name: &'static str, bytes: usize, dtype: Option<DType>, has_text: bool) -> Row {
    Row { name, bytes, dtype, has_text }
}

const ROWS: &[Row] = &[
    row("BOOL", 1, Some(DType::Bool), true),
    row("UINT8", 1, Some(DType::UInt8), true),
    row("UINT16", 2, Some(DType::UInt16), true),
    row("UINT32", 4, Some(DType::UInt32), true),
    row("UINT64", 8, Some(DType::UInt64), true),
    row("INT8", 1, Some(DType::Int8), true),
    row("INT16", 2, Some(DType::Int16), true),
    row("INT32", 4, Some(DType::Int32), true),
    row("INT64", 8, Some(DType::Int64), true),
    row("FP16", 2, Some(DType::Float16), false),
    row("FP32", 4, Some(DType::Float32), true),
    row("FP64", 8, Some(DType::Float64), true),
    row("BYTES", 0, None, true),
    // Behind FP32, so that this is what float32 tensors are told as.
    row("BF16", 2, Some(DType::Float32), false),
];

impl Datatype {
    /// The datatype of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.name == name).map(Self)
    }

    /// The datatype of tensors with these elements.
    pub(crate) fn of(dtype: DType) -> Option<Self> {
        ROWS.iter().find(|row| row.dtype == Some(dtype)).map(Self)
    }

    /// That of byte strings.
    pub(crate) fn strings() -> Self {
        ROWS.iter().find(|row| row.dtype.is_none()).map_or(Self(&ROWS[0]), Self)
    }

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        self.0.name
    }

    /// Bytes of an element in a binary tensor; `None` if each element has its own length.
    pub(crate) fn bytes(self) -> Option<usize> {
        Some(self.0.bytes).filter(|&bytes| bytes > 0)
    }

    /// The elements it is read as; `None` for byte strings.
    pub(crate) fn dtype(self) -> Option<DType> {
        self.0.dtype
    }

    /// Whether it has a form in JSON and in typed contents.
    pub(crate) fn has_text(self) -> bool {
        self.0.has_text
    }

    /// Whether its elements are the upper halves of `float32`.
    pub(crate) fn is_half_of_float32(self) -> bool {
        self.0.dtype == Some(DType::Float32) && self.0.bytes == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_and_tensors_have_a_row_of_their_size() {
        for row in ROWS {
            assert_eq!(Datatype::from_name(row.name).map(Datatype::name), Some(row.name));
            let told = row.dtype.and_then(Datatype::of);
            assert_eq!(told.and_then(Datatype::bytes), row.dtype.map(DType::size));
        }
        assert_eq!(Datatype::strings().name(), "BYTES");
        assert_eq!(Datatype::from_name("fp32"), None);
    }
}
