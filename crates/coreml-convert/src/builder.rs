//! A program under construction.

use std::sync::Arc;

use coreml_model::{Argument, Block, Constant, Function, Operation, Opset, Value, ValueId, ValueType};
use coreml_tensor::{DType, Element, Shape, Tensor};

use crate::error::ConvertError;

/// A tensor of the program, with its rank: what the older layers' meaning depends on. Sizes are left to the engine, so that
/// one program serves all shapes of a flexible model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob {
    pub(crate) id: ValueId,
    pub(crate) rank: usize,
}

/// An argument of an operation.
pub(crate) enum Arg {
    Blob(Blob),
    Blobs(Vec<Blob>),
    Constant(Constant),
}

impl From<Blob> for Arg {
    fn from(blob: Blob) -> Self {
        Self::Blob(blob)
    }
}

impl From<Tensor> for Arg {
    fn from(tensor: Tensor) -> Self {
        Self::Constant(Constant::Tensor(Arc::new(tensor)))
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        scalar(value).into()
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        scalar(value).into()
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        scalar(value).into()
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Constant(Constant::Strings(Shape::SCALAR, vec![value.to_owned()]))
    }
}

impl From<Vec<i32>> for Arg {
    fn from(values: Vec<i32>) -> Self {
        vector(values).into()
    }
}

impl From<Vec<bool>> for Arg {
    fn from(values: Vec<bool>) -> Self {
        vector(values).into()
    }
}

fn scalar<T: Element>(value: T) -> Tensor {
    tensor(&[], vec![value]).unwrap_or_else(|_| unreachable!("a scalar has one element"))
}

fn vector<T: Element>(values: Vec<T>) -> Tensor {
    let shape = [values.len()];
    tensor(&shape, values).unwrap_or_else(|_| unreachable!("the shape was made of the values"))
}

/// A tensor whose shape comes from a file.
pub(crate) fn tensor<T: Element>(dims: &[usize], values: Vec<T>) -> Result<Tensor, ConvertError> {
    let shape = Shape::try_new(dims).map_err(|error| ConvertError::invalid(format!("shape {dims:?}: {error}")))?;
    Tensor::new(shape, values).map_err(|error| ConvertError::invalid(error.to_string()))
}

#[derive(Debug, Default)]
pub(crate) struct Builder {
    values: Vec<Value>,
    operations: Vec<Operation>,
    inputs: Vec<ValueId>,
}

impl Builder {
    pub(crate) fn value(&mut self, name: &str, ty: ValueType) -> ValueId {
        let position = u32::try_from(self.values.len()).unwrap_or_else(|_| unreachable!("layers are bounded"));
        self.values.push(Value { name: name.to_owned(), ty });
        ValueId::new(position)
    }

    /// A parameter of the program.
    pub(crate) fn input(&mut self, name: &str, ty: ValueType, rank: usize) -> Blob {
        let id = self.value(name, ty);
        self.inputs.push(id);
        Blob { id, rank }
    }

    /// Adds an operation with a result of each of these ranks.
    pub(crate) fn many(&mut self, kind: &str, ranks: &[usize], inputs: Vec<(&str, Arg)>) -> Vec<Blob> {
        let bind = |(name, arg): (&str, Arg)| {
            let arguments = match arg {
                Arg::Blob(blob) => vec![Argument::Value(blob.id)],
                Arg::Blobs(blobs) => blobs.into_iter().map(|blob| Argument::Value(blob.id)).collect(),
                Arg::Constant(constant) => vec![Argument::Constant(Arc::new(constant))],
            };
            (name.to_owned(), arguments)
        };
        let inputs = inputs.into_iter().map(bind).collect();
        let named = format!("{kind}_{}", self.operations.len());
        let blobs: Vec<_> = ranks
            .iter()
            .map(|&rank| Blob { id: self.value(&named, ValueType::Unranked(DType::Float32)), rank })
            .collect();
        let outputs = blobs.iter().map(|blob| blob.id).collect();
        let (kind, blocks, attributes) = (kind.to_owned(), Vec::new(), Vec::new());
        self.operations.push(Operation { kind, name: named, inputs, outputs, blocks, attributes });
        blobs
    }

    /// As [`Builder::many`], for operations with one result.
    pub(crate) fn op(&mut self, kind: &str, rank: usize, inputs: Vec<(&str, Arg)>) -> Blob {
        self.many(kind, &[rank], inputs)[0]
    }

    /// An operation of one tensor that keeps its rank.
    pub(crate) fn unary(&mut self, kind: &str, x: Blob) -> Blob {
        self.op(kind, x.rank, vec![("x", x.into())])
    }

    /// An operation of two tensors that broadcast.
    pub(crate) fn binary(&mut self, kind: &str, x: Blob, y: impl Into<Arg>) -> Blob {
        let y = y.into();
        let other = match &y {
            Arg::Blob(blob) => blob.rank,
            Arg::Constant(constant) => constant.as_tensor().map_or(0, |tensor| tensor.shape().rank()),
            Arg::Blobs(_) => 0,
        };
        self.op(kind, x.rank.max(other), vec![("x", x.into()), ("y", y)])
    }

    pub(crate) fn cast(&mut self, x: Blob, dtype: &str) -> Blob {
        self.op("cast", x.rank, vec![("x", x.into()), ("dtype", dtype.into())])
    }

    /// A constant as a blob.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> Blob {
        let rank = tensor.shape().rank();
        let blob = self.op("const", rank, Vec::new());
        if let Some(operation) = self.operations.last_mut() {
            operation.attributes.push(("val".to_owned(), Constant::Tensor(Arc::new(tensor))));
        }
        blob
    }

    pub(crate) fn transpose(&mut self, x: Blob, perm: Vec<i32>) -> Blob {
        self.op("transpose", x.rank, vec![("x", x.into()), ("perm", perm.into())])
    }

    pub(crate) fn reshape(&mut self, x: Blob, dims: Vec<i32>) -> Blob {
        self.op("reshape", dims.len(), vec![("x", x.into()), ("shape", dims.into())])
    }

    pub(crate) fn reduce(&mut self, kind: &str, x: Blob, axes: Vec<i32>) -> Blob {
        self.op(kind, x.rank, vec![("x", x.into()), ("axes", axes.into()), ("keep_dims", true.into())])
    }

    /// Names a value as the network calls it, for messages.
    pub(crate) fn name(&mut self, blob: Blob, name: &str) {
        if let Some(value) = self.values.get_mut(blob.id.index()) {
            name.clone_into(&mut value.name);
        }
    }

    pub(crate) fn finish(self, outputs: Vec<ValueId>) -> Function {
        let body = Block { inputs: Vec::new(), operations: self.operations, outputs };
        Function { opset: Opset::Ios18, values: self.values, inputs: self.inputs, body }
    }
}
