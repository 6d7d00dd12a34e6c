//! A program under construction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use coreml_model::{Argument, Block, Constant, Function, Operation, Opset, SmolStr, Value, ValueId, ValueType};
use coreml_tensor::{DType, Element, Shape, Tensor};

use crate::error::ConvertError;
use crate::sizes::{self, Arguments, Sizes};

/// A parameter's only argument.
fn one(argument: Argument) -> coreml_model::Arguments {
    [argument].into_iter().collect()
}

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

/// What is around a block that is open: operations, and merged values, which a block makes for itself.
pub(crate) struct Around(Vec<Operation>, HashMap<ValueId, (Blob, Blob)>);

#[derive(Debug, Default)]
pub(crate) struct Builder {
    values: Vec<Value>,
    operations: Vec<Operation>,
    inputs: Vec<ValueId>,
    /// Of each value, if the inputs are as declared.
    sizes: Vec<Option<Sizes>>,
    /// Values whose rank follows from such sizes.
    unsure: HashSet<ValueId>,
    /// Values that may not exist when they are asked for.
    missing: HashSet<ValueId>,
    /// Values with all axes before the last three as one, and a value that has these axes.
    merged: HashMap<ValueId, (Blob, Blob)>,
}

impl Builder {
    pub(crate) fn value(&mut self, name: &str, ty: ValueType) -> ValueId {
        let position = u32::try_from(self.values.len()).unwrap_or_else(|_| unreachable!("layers are bounded"));
        self.values.push(Value { name: name.into(), ty });
        self.sizes.push(None);
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
        let sizes = sizes::of_result(kind, &Arguments { all: &inputs, known: &self.sizes });
        let bind = |(name, arg): (&str, Arg)| {
            let arguments = match arg {
                Arg::Blob(blob) => one(Argument::Value(blob.id)),
                Arg::Blobs(blobs) => blobs.into_iter().map(|blob| Argument::Value(blob.id)).collect(),
                Arg::Constant(constant) => one(Argument::Constant(Arc::new(constant))),
            };
            (name.into(), arguments)
        };
        let inputs = inputs.into_iter().map(bind).collect();
        let blobs = self.operation(kind, ranks, inputs, Vec::new());
        if let Some(&first) = blobs.first() {
            self.assume(first, sizes.filter(|sizes| sizes.len() == first.rank));
        }
        blobs
    }

    /// Notes that `merged` is `x` with all axes before the last three as one, which are as those of `outer`.
    pub(crate) fn merge(&mut self, x: Blob, merged: Blob, outer: Blob) {
        self.merged.insert(x.id, (merged, outer));
    }

    pub(crate) fn merged(&self, x: Blob) -> Option<(Blob, Blob)> {
        self.merged.get(&x.id).copied()
    }

    /// Notes that the rank of `x` is only what it is if the inputs are as declared.
    pub(crate) fn doubt_rank(&mut self, x: Blob) {
        self.unsure.insert(x.id);
    }

    /// Notes that `x` may not exist.
    pub(crate) fn doubt(&mut self, x: Blob) {
        self.missing.insert(x.id);
        self.doubt_rank(x);
    }

    pub(crate) fn is_missing(&self, x: Blob) -> bool {
        self.missing.contains(&x.id)
    }

    /// `x`, which a plan is refused for where it turns out not to exist.
    pub(crate) fn existing(&mut self, x: Blob) -> Blob {
        if self.is_missing(x) { self.ranked(x) } else { x }
    }

    /// Notes of `x` what is not sure about `other`.
    pub(crate) fn doubt_like(&mut self, x: Blob, other: Blob) {
        if self.is_missing(other) {
            self.doubt(x);
        } else if self.unsure.contains(&other.id) {
            self.doubt_rank(x);
        }
    }

    /// `x` as an input of what depends on its rank. If that is not sure, a plan is refused where it turns out to be another.
    pub(crate) fn ranked(&mut self, x: Blob) -> Blob {
        if !self.unsure.contains(&x.id) {
            return x;
        }
        let rank = x.rank as i32;
        self.op("neural_network:ranked", x.rank, vec![("x", x.into()), ("rank", rank.into())])
    }

    /// Notes the sizes that a blob has when the inputs are as declared.
    pub(crate) fn assume(&mut self, blob: Blob, sizes: Option<Sizes>) {
        if let Some(known) = self.sizes.get_mut(blob.id.index()) {
            *known = sizes;
        }
    }

    /// The sizes a blob has when the inputs are as declared, as far as they are followed.
    pub(crate) fn assumed(&self, blob: Blob) -> Sizes {
        sizes::known(&self.sizes, blob)
    }

    fn operation(
        &mut self,
        kind: &str,
        ranks: &[usize],
        inputs: Vec<(SmolStr, coreml_model::Arguments)>,
        blocks: Vec<Block>,
    ) -> Vec<Blob> {
        let named = format!("{kind}_{}", self.values.len());
        let blobs: Vec<_> = ranks.iter().map(|&rank| self.blob(&named, rank)).collect();
        let outputs = blobs.iter().map(|blob| blob.id).collect();
        let (kind, attributes) = (kind.into(), Vec::new());
        self.operations.push(Operation { kind, name: named.into(), inputs, outputs, blocks, attributes });
        blobs
    }

    fn blob(&mut self, name: &str, rank: usize) -> Blob {
        Blob { id: self.value(name, ValueType::Unranked(DType::Float32)), rank }
    }

    /// Begins a block nested in an operation: what is added next goes into it. What is given back ends it.
    pub(crate) fn open_block(&mut self) -> Around {
        Around(std::mem::take(&mut self.operations), std::mem::take(&mut self.merged))
    }

    /// Ends a block.
    pub(crate) fn close_block(&mut self, around: Around, inputs: &[Blob], outputs: &[Blob]) -> Block {
        let operations = std::mem::replace(&mut self.operations, around.0);
        self.merged = around.1;
        let ids = |blobs: &[Blob]| blobs.iter().map(|blob| blob.id).collect();
        Block { inputs: ids(inputs), operations, outputs: ids(outputs) }
    }

    /// What one of two blocks gives: blobs of these ranks.
    pub(crate) fn cond(&mut self, condition: Blob, ranks: &[usize], blocks: Vec<Block>) -> Vec<Blob> {
        let inputs = vec![("pred".into(), one(Argument::Value(condition.id)))];
        self.operation("cond", ranks, inputs, blocks)
    }

    /// Parameters of a block for these variables of a loop.
    pub(crate) fn parameters(&mut self, variables: &[Blob]) -> Vec<Blob> {
        let parameter = |&variable: &Blob| {
            let parameter = self.blob("variable", variable.rank);
            self.assume(parameter, Some(self.assumed(variable)));
            parameter
        };
        variables.iter().map(parameter).collect()
    }

    /// Replaces variables by what the second block makes of them, of these ranks, as long as the first says so.
    pub(crate) fn repeat(&mut self, variables: &[Blob], ranks: &[usize], blocks: [Block; 2]) -> Vec<Blob> {
        let variables = variables.iter().map(|variable| Argument::Value(variable.id)).collect();
        self.operation("while_loop", ranks, vec![("loop_vars".into(), variables)], blocks.into())
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
        self.assume(blob, Some(tensor.shape().iter().copied().map(Some).collect()));
        if let Some(operation) = self.operations.last_mut() {
            operation.attributes.push(("val".into(), Constant::Tensor(Arc::new(tensor))));
        }
        blob
    }

    pub(crate) fn transpose(&mut self, x: Blob, perm: Vec<i32>) -> Blob {
        self.op("transpose", x.rank, vec![("x", x.into()), ("perm", perm.into())])
    }

    pub(crate) fn reshape(&mut self, x: Blob, dims: Vec<i32>) -> Blob {
        self.op("reshape", dims.len(), vec![("x", x.into()), ("shape", dims.into())])
    }

    pub(crate) fn expand_dims(&mut self, x: Blob, axes: Vec<i32>) -> Blob {
        self.op("expand_dims", x.rank + axes.len(), vec![("x", x.into()), ("axes", axes.into())])
    }

    /// Removes axes of size 1.
    pub(crate) fn squeeze(&mut self, x: Blob, axes: Vec<i32>) -> Blob {
        self.op("squeeze", x.rank.saturating_sub(axes.len()), vec![("x", x.into()), ("axes", axes.into())])
    }

    /// The sizes of axes `begin` to `end` of `x`, as integers.
    pub(crate) fn sizes(&mut self, x: Blob, begin: usize, end: usize) -> Blob {
        let shape = self.op("shape", 1, vec![("x", x.into())]);
        let bound = |at: usize| vec![at as i32].into();
        self.op("slice_by_index", 1, vec![("x", shape.into()), ("begin", bound(begin)), ("end", bound(end))])
    }

    /// Vectors in a row.
    pub(crate) fn joined(&mut self, vectors: Vec<Blob>) -> Blob {
        self.op("concat", 1, vec![("values", Arg::Blobs(vectors)), ("axis", 0.into())])
    }

    /// `true` as a blob.
    pub(crate) fn truth(&mut self) -> Blob {
        self.constant(scalar(true))
    }

    /// Integers as a blob.
    pub(crate) fn integers(&mut self, values: Vec<i32>) -> Blob {
        self.constant(vector(values))
    }

    /// `x` in the shape that the integers of `sizes` say, of which there are `rank`.
    pub(crate) fn shaped(&mut self, x: Blob, sizes: Blob, rank: usize) -> Blob {
        self.op("reshape", rank, vec![("x", x.into()), ("shape", sizes.into())])
    }

    pub(crate) fn reduce(&mut self, kind: &str, x: Blob, axes: Vec<i32>) -> Blob {
        self.op(kind, x.rank, vec![("x", x.into()), ("axes", axes.into()), ("keep_dims", true.into())])
    }

    /// Names a value as the network calls it, for messages.
    pub(crate) fn name(&mut self, blob: Blob, name: &str) {
        if let Some(value) = self.values.get_mut(blob.id.index()) {
            value.name = name.into();
        }
    }

    pub(crate) fn finish(self, outputs: Vec<ValueId>) -> Function {
        let body = Block { inputs: Vec::new(), operations: self.operations, outputs };
        Function { opset: Opset::Ios18, values: self.values, inputs: self.inputs, body }
    }
}
