//! Serialises tensors: `{"dtype": "fp32", "shape": [2], "data": [1.0, 2.0]}`, numbers in row-major order.

use ::serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::{DType, DataView, Shape, Tensor, TensorView};

impl Serialize for DType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for DataView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! elements {
            ($($variant:ident)*) => {
                match self {
                    Self::Float16(values) => serializer.collect_seq(values.iter().map(|value| value.to_f32())),
                    $(Self::$variant(values) => serializer.collect_seq(values.iter()),)*
                }
            };
        }
        elements!(Bool Int8 UInt8 Int16 UInt16 Int32 UInt32 Int64 UInt64 Float32 Float64)
    }
}

impl Serialize for TensorView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tensor = serializer.serialize_struct("Tensor", 3)?;
        tensor.serialize_field("dtype", &self.dtype())?;
        tensor.serialize_field("shape", &self.shape())?;
        tensor.serialize_field("data", &self.data())?;
        tensor.end()
    }
}

impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}
