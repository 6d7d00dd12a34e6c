//! Builds a program operation by operation, so that it is valid: every value's type is known when it is made.

use std::sync::Arc;

use coreml_anywhere::model::{
    Argument, Block, Constant, Dim, Function, Operation, Opset, Results, SmolStr, TensorType, Value, ValueId, ValueType,
};
use coreml_anywhere::tensor::{DType, Data, Shape, Tensor, f16};
use coreml_testing::random::Random;

/// A program with the inputs it is to be run on.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) function: Function,
    /// What the function's tensor inputs are, in order.
    pub(crate) inputs: Vec<Tensor>,
    /// Whether every correct plan gives the value bit by bit, by its position in the function.
    pub(crate) exact: Vec<bool>,
    /// How often it is run in a row, on the same states.
    pub(crate) runs: usize,
}

/// A tensor of the program under construction.
#[derive(Debug, Clone)]
pub(crate) struct Val {
    pub(crate) id: ValueId,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Made of exact values by operations that do not round, so that all plans agree on its bits. Only such values may go
    /// where a rounding error would become a large one: into comparisons, orders, `floor`.
    pub(crate) exact: bool,
    /// About how large its largest elements are. Operations are chosen so that this stays between thousands and
    /// thousandths, where no rounding hides a fault.
    pub(crate) most: f32,
}

impl Val {
    pub(crate) fn is_float(&self) -> bool {
        self.dtype.is_float()
    }

    pub(crate) fn is_int(&self) -> bool {
        self.dtype == DType::Int32
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The type of a result that has this shape instead.
    pub(crate) fn shaped(&self, shape: &[usize]) -> Made {
        Made { dtype: self.dtype, shape: shape.to_vec(), exact: self.exact, most: self.most }
    }

    /// The type of a result that is like this, but rounded.
    pub(crate) fn rounded(&self, most: f32) -> Made {
        Made { exact: false, most, ..self.shaped(&self.shape) }
    }
}

/// What is known of a result of an operation.
pub(crate) struct Made {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) exact: bool,
    pub(crate) most: f32,
}

/// What an operation takes.
pub(crate) trait Given {
    fn argument(self) -> Argument;
}

impl Given for &Val {
    fn argument(self) -> Argument {
        Argument::Value(self.id)
    }
}

impl Given for Argument {
    fn argument(self) -> Argument {
        self
    }
}

impl Given for Constant {
    fn argument(self) -> Argument {
        Argument::Constant(Arc::new(self))
    }
}

impl Given for i32 {
    fn argument(self) -> Argument {
        constant(&[], Data::Int32(vec![self])).argument()
    }
}

impl Given for &[i32] {
    fn argument(self) -> Argument {
        constant(&[self.len()], Data::Int32(self.to_vec())).argument()
    }
}

impl Given for &[bool] {
    fn argument(self) -> Argument {
        constant(&[self.len()], Data::Bool(self.to_vec())).argument()
    }
}

impl Given for bool {
    fn argument(self) -> Argument {
        constant(&[], Data::Bool(vec![self])).argument()
    }
}

impl Given for &str {
    fn argument(self) -> Argument {
        Constant::Strings(Shape::SCALAR, vec![self.to_owned()]).argument()
    }
}

pub(crate) fn constant(dims: &[usize], data: Data) -> Constant {
    Constant::Tensor(Arc::new(Tensor::from_data(Shape::new(dims), data).unwrap()))
}

/// Floating-point numbers in the precision of the program.
pub(crate) fn floats(dtype: DType, dims: &[usize], values: Vec<f32>) -> Constant {
    let data = match dtype {
        DType::Float16 => Data::Float16(values.into_iter().map(f16::from_f32).collect()),
        _ => Data::Float32(values),
    };
    constant(dims, data)
}

pub(crate) fn scalar(dtype: DType, value: f32) -> Constant {
    floats(dtype, &[], vec![value])
}

/// An operation under construction.
pub(crate) struct Op(Operation);

impl Op {
    pub(crate) fn new(kind: &str) -> Self {
        Self(Operation {
            kind: kind.into(),
            name: SmolStr::default(),
            inputs: Vec::new(),
            outputs: Results::new(),
            blocks: Vec::new(),
            attributes: Vec::new(),
        })
    }

    pub(crate) fn with(self, name: &str, given: impl Given) -> Self {
        self.with_all(name, vec![given.argument()])
    }

    pub(crate) fn with_all(mut self, name: &str, given: Vec<Argument>) -> Self {
        self.0.inputs.push((name.into(), given.into()));
        self
    }

    pub(crate) fn with_block(mut self, block: Block) -> Self {
        self.0.blocks.push(block);
        self
    }

    pub(crate) fn with_attribute(mut self, name: &str, constant: Constant) -> Self {
        self.0.attributes.push((name.into(), constant));
        self
    }
}

/// Whether an operation only holds a constant, compressed or not.
fn is_constant(kind: &str) -> bool {
    kind.starts_with("const")
}

/// A program under construction.
pub(crate) struct Builder {
    pub(crate) random: Random,
    /// The program's precision.
    pub(crate) float: DType,
    pub(crate) opset: Opset,
    /// The most elements of a value.
    pub(crate) limit: usize,
    /// What operations may use, oldest first.
    pub(crate) scope: Vec<Val>,
    /// Nested blocks that are open.
    pub(crate) depth: usize,
    values: Vec<Value>,
    exact: Vec<bool>,
    operations: Vec<Operation>,
    parameters: Vec<ValueId>,
    inputs: Vec<Tensor>,
    /// States, with the types of what they hold.
    pub(crate) states: Vec<(ValueId, Vec<usize>)>,
}

impl Builder {
    pub(crate) fn new(random: Random, float: DType, opset: Opset, limit: usize) -> Self {
        Self {
            random,
            float,
            opset,
            limit,
            scope: Vec::new(),
            depth: 0,
            values: Vec::new(),
            exact: Vec::new(),
            operations: Vec::new(),
            parameters: Vec::new(),
            inputs: Vec::new(),
            states: Vec::new(),
        }
    }

    /// Operations so far, constants not counted.
    pub(crate) fn operations(&self) -> usize {
        self.operations.iter().filter(|operation| !is_constant(&operation.kind)).count()
    }

    fn value(&mut self, prefix: &str, made: Made) -> Val {
        let Made { dtype, shape, exact, most } = made;
        let id = ValueId::new(self.values.len() as u32);
        let dims = shape.iter().map(|&size| Dim::Fixed(size)).collect();
        self.values.push(Value {
            name: format!("{prefix}{}", id.index()).into(),
            ty: ValueType::Tensor(TensorType { dtype, dims }),
        });
        self.exact.push(exact);
        Val { id, dtype, shape, exact, most }
    }

    /// An input of the program, with what it is.
    pub(crate) fn input(&mut self, shape: &[usize], data: Data) -> Val {
        let tensor = Tensor::from_data(Shape::new(shape), data).unwrap();
        let (dtype, most) =
            (tensor.dtype(), tensor.view().to_f64_vec().into_iter().fold(0.0, |m: f64, x| m.max(x.abs())));
        let val = self.value("x", Made { dtype, shape: shape.to_vec(), exact: true, most: most as f32 });
        self.parameters.push(val.id);
        self.inputs.push(tensor);
        self.scope.push(val.clone());
        val
    }

    /// A state of floats, zero at first.
    pub(crate) fn state(&mut self, shape: &[usize]) -> ValueId {
        let dtype = DType::Float16;
        let val = self.value("s", Made { dtype, shape: shape.to_vec(), exact: false, most: 1.0 });
        let dims = shape.iter().map(|&size| Dim::Fixed(size)).collect();
        self.values[val.id.index()].ty = ValueType::State(TensorType { dtype, dims });
        self.parameters.push(val.id);
        self.states.push((val.id, shape.to_vec()));
        val.id
    }

    /// Adds an operation. Its results can be used from then on.
    pub(crate) fn emit(&mut self, op: Op, made: Vec<Made>) -> Vec<Val> {
        let mut operation = op.0;
        // As files have them.
        operation.inputs.sort_by(|(a, _), (b, _)| a.cmp(b));
        operation.attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let results: Vec<_> = made.into_iter().map(|made| self.value("v", made)).collect();
        operation.outputs = results.iter().map(|val| val.id).collect();
        self.operations.push(operation);
        self.scope.extend(results.iter().cloned());
        results
    }

    /// Adds an operation with one result. One that has become large is made small again.
    pub(crate) fn one(&mut self, op: Op, made: Made) -> Val {
        let val = self.emit(op, vec![made]).remove(0);
        if !val.is_float() || val.most <= 1000.0 {
            return val;
        }
        // Powers of two round nothing.
        let factor = 2.0f32.powi(-(val.most / 8.0).log2().ceil().min(14.0) as i32);
        self.scope.pop();
        let scaled = Op::new("mul").with("x", &val).with("y", scalar(val.dtype, factor));
        self.one(scaled, Made { most: val.most * factor, ..val.shaped(&val.shape) })
    }

    /// An operation on numbers that gives a tensor of its type and shape.
    pub(crate) fn constant(&mut self, constant: Constant, shape: &[usize], most: f32) -> Val {
        let Constant::Tensor(tensor) = &constant else { unreachable!("only tensors are made") };
        let made = Made { dtype: tensor.dtype(), shape: shape.to_vec(), exact: true, most };
        self.emit(Op::new("const").with_attribute("val", constant), vec![made]).remove(0)
    }

    /// Random numbers as large as `most`, in the program's precision: an operation's argument or a `const`.
    pub(crate) fn weights(&mut self, dtype: DType, shape: &[usize], most: f32) -> Argument {
        let values = (0..shape.iter().product()).map(|_| self.random.float() * most).collect();
        let constant = floats(dtype, shape, values);
        if self.random.once_in(2) {
            return constant.argument();
        }
        let val = self.constant(constant, shape, most);
        self.scope.pop();
        val.id.argument()
    }

    /// One of the values that fit, a late one rather than an early one.
    pub(crate) fn pick(&mut self, fits: impl Fn(&Val) -> bool) -> Option<Val> {
        let fitting: Vec<&Val> = self.scope.iter().filter(|val| fits(val)).collect();
        let late = if self.random.once_in(2) { fitting.len().saturating_sub(3) } else { 0 };
        let fitting = &fitting[late..];
        (!fitting.is_empty()).then(|| fitting[self.random.below(fitting.len())].clone())
    }

    /// A float that is not too large, in number of elements and size of numbers.
    pub(crate) fn float(&mut self) -> Option<Val> {
        let limit = self.limit;
        self.pick(|val| val.is_float() && val.count() <= limit)
    }

    /// A nested block: what `body` adds is in it, and it gives what `body` returns.
    pub(crate) fn block(
        &mut self,
        parameters: Vec<Made>,
        body: impl FnOnce(&mut Self, &[Val]) -> Vec<ValueId>,
    ) -> Block {
        let (outer, visible) = (std::mem::take(&mut self.operations), self.scope.len());
        self.depth += 1;
        let inputs: Vec<Val> = parameters.into_iter().map(|made| self.value("p", made)).collect();
        self.scope.extend(inputs.iter().cloned());
        let outputs = body(self, &inputs);
        self.depth -= 1;
        self.scope.truncate(visible);
        let operations = std::mem::replace(&mut self.operations, outer);
        Block { inputs: inputs.iter().map(|val| val.id).collect(), operations, outputs }
    }

    /// Whether it has so many axes and elements that more can be done with it.
    pub(crate) fn fits(&self, shape: &[usize]) -> bool {
        shape.len() <= 5 && shape.iter().product::<usize>() <= self.limit
    }

    /// What operations other than constants have given so far.
    pub(crate) fn results(&self) -> Vec<ValueId> {
        let operations = self.operations.iter().filter(|operation| !is_constant(&operation.kind));
        operations.flat_map(|operation| operation.outputs.iter().copied()).collect()
    }

    /// Whether an operation takes it; what is only used in nested blocks counts as not used.
    pub(crate) fn is_used(&self, id: ValueId) -> bool {
        let mut arguments = self.operations.iter().flat_map(|operation| &operation.inputs).flat_map(|(_, given)| given);
        arguments.any(|argument| *argument == Argument::Value(id))
    }

    pub(crate) fn finish(mut self, outputs: Vec<ValueId>, runs: usize) -> Case {
        let body = Block { inputs: Vec::new(), operations: std::mem::take(&mut self.operations), outputs };
        let function = Function { opset: self.opset, values: self.values, inputs: self.parameters, body };
        Case { function, inputs: self.inputs, exact: self.exact, runs }
    }
}

impl Given for ValueId {
    fn argument(self) -> Argument {
        Argument::Value(self)
    }
}
