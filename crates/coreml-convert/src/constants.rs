//! Turns the inline constants of a lowered function into named `const` operations, as converters write them.

use std::collections::HashSet;
use std::sync::Arc;

use coreml_model::{
    Argument, Block, Constant, Dim, Function, Operation, SmolStr, TensorType, Value, ValueId, ValueType,
};
use coreml_tensor::{DType, Shape, Tensor, f16};

/// Weights of fewer elements are not worth halving.
const FEWEST: usize = 10;

/// Turns every inline constant of `function` into an operation `const`, and makes the names of values unique. With `half`,
/// `f32` weights are stored in half precision and widened where they are used.
#[must_use]
pub fn name_constants(function: &Function, half: bool) -> Function {
    let mut namer = Namer { values: function.values.clone(), names: HashSet::new(), half };
    // Parameters and results have the names of features.
    let ports: Vec<_> = function.inputs.iter().chain(&function.body.outputs).map(|id| id.index()).collect();
    namer.names.extend(ports.iter().map(|&i| function.values[i].name.clone()));
    for i in (0..function.values.len()).filter(|i| !ports.contains(i)) {
        namer.values[i].name = namer.free(&function.values[i].name);
    }
    let body = namer.block(&function.body);
    Function { opset: function.opset, values: namer.values, inputs: function.inputs.clone(), body }
}

struct Namer {
    values: Vec<Value>,
    names: HashSet<SmolStr>,
    half: bool,
}

impl Namer {
    fn block(&mut self, block: &Block) -> Block {
        let mut operations = Vec::new();
        for operation in &block.operations {
            let owner = operation.outputs.first().map_or(operation.kind.as_str(), |&id| &self.values[id.index()].name);
            let owner = SmolStr::from(owner);
            let mut inputs = Vec::new();
            for (parameter, arguments) in &operation.inputs {
                let arguments = arguments.iter().map(|argument| match argument {
                    Argument::Value(id) => Argument::Value(*id),
                    Argument::Constant(constant) => {
                        let name = self.free(&format!("{owner}_{parameter}"));
                        let (named, id) = self.constant(&name, constant);
                        operations.push(named);
                        Argument::Value(id)
                    }
                });
                inputs.push((parameter.clone(), arguments.collect()));
            }
            let blocks = operation.blocks.iter().map(|block| self.block(block)).collect();
            if let (Some(&id), Some(constant)) = (operation.outputs.first(), operation.attribute("val")) {
                self.values[id.index()].ty = type_of(constant);
            }
            operations.push(Operation { inputs, blocks, name: owner, ..operation.clone() });
        }
        Block { inputs: block.inputs.clone(), operations, outputs: block.outputs.clone() }
    }

    /// A name that nothing has yet.
    fn free(&mut self, wanted: &str) -> SmolStr {
        let mut name = SmolStr::from(wanted);
        let mut count = 0;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{wanted}_{count}").into();
        }
        name
    }

    fn constant(&mut self, name: &str, constant: &Arc<Constant>) -> (Operation, ValueId) {
        let halved = match &**constant {
            Constant::Tensor(tensor) if self.half && tensor.shape().count() >= FEWEST => halve(tensor),
            _ => None,
        };
        let id = ValueId::new(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        self.values.push(Value { name: name.into(), ty: type_of(constant) });
        let (kind, attributes) = match halved {
            Some(half) => {
                let narrow = Constant::Tensor(Arc::new(half));
                let wide = Constant::Strings(Shape::SCALAR, vec!["fp32".to_owned()]);
                ("constexpr_cast", vec![("output_dtype".into(), wide), ("source_val".into(), narrow)])
            }
            None => ("const", vec![("val".into(), Constant::clone(constant))]),
        };
        let operation = Operation {
            kind: kind.into(),
            name: name.into(),
            inputs: Vec::new(),
            outputs: [id].into_iter().collect(),
            blocks: Vec::new(),
            attributes,
        };
        (operation, id)
    }
}

/// The elements in half precision, if they are `f32` and none is too large.
fn halve(tensor: &Tensor) -> Option<Tensor> {
    let wide = tensor.as_slice::<f32>()?;
    let narrow: Vec<f16> = wide.iter().map(|&value| f16::from_f32(value)).collect();
    let fits = wide.iter().zip(&narrow).all(|(wide, narrow)| wide.is_finite() == narrow.is_finite());
    if fits { Tensor::new(tensor.shape(), narrow).ok() } else { None }
}

fn type_of(constant: &Constant) -> ValueType {
    let dims = |shape: Shape| shape.iter().map(|&size| Dim::Fixed(size)).collect();
    match constant {
        Constant::Tensor(tensor) => ValueType::Tensor(TensorType { dtype: tensor.dtype(), dims: dims(tensor.shape()) }),
        Constant::Packed(packed) => ValueType::Packed(packed.ty, dims(packed.shape)),
        Constant::Strings(shape, _) => ValueType::Strings(dims(*shape)),
        Constant::List(items) => {
            let item = items.first().map_or_else(|| ValueType::Strings(Vec::new()), type_of);
            ValueType::List(Box::new(item), u64::try_from(items.len()).ok())
        }
        // Lowered functions have no others.
        _ => ValueType::Tensor(TensorType { dtype: DType::Float32, dims: Vec::new() }),
    }
}
