//! Cuts a part out of a program: the operations that compute some of its values from others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use coreml_convert::name_constants;
use coreml_core::{Error, ErrorKind};
use coreml_model::{
    Argument, Arguments, ArrayFeature, Block, Constant, DictionaryKey, Dim, Feature, FeatureKind, Function, Interface,
    Operation, Opset, ShapeConstraint, SmolStr, TensorType, Value, ValueId, ValueType,
};
use coreml_tensor::{DType, Shape, Tensor};

use crate::value::Kind;

/// Finds parts of a function.
pub(crate) struct Cutter<'a> {
    function: &'a Function,
    /// The operation of the body that gives a value.
    producers: HashMap<ValueId, usize>,
}

/// A part of a function, as a function whose values are numbered as in the whole.
pub(crate) struct Part {
    /// Takes the values that the part was given.
    pub(crate) function: Function,
    /// The operations it consists of, as positions in the whole body; those that give constants are left out.
    pub(crate) operations: Vec<usize>,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(function: &'a Function) -> Self {
        let results = function.body.operations.iter().enumerate();
        let producers = results.flat_map(|(at, operation)| operation.outputs.iter().map(move |&id| (id, at))).collect();
        Self { function, producers }
    }

    /// The operations that compute `outputs` from the values in `read`. `known` gives type and shape of everything that could
    /// be read; a value that `constant` knows is taken to always have these elements.
    ///
    /// # Errors
    /// In words, when the part would read or write a state.
    pub(crate) fn part(
        &self,
        outputs: &[ValueId],
        read: &[ValueId],
        known: impl Fn(ValueId) -> Option<(DType, Shape)>,
        constant: impl Fn(ValueId) -> Option<Tensor>,
    ) -> Result<Part, String> {
        let (mut inputs, mut constants) = (BTreeMap::new(), BTreeMap::new());
        let (mut needed, mut seen) = (BTreeSet::new(), HashSet::new());
        // Lists are nothing that a function is given, so what made them is part of it, as far back as to arrays that are known.
        let mut open: Vec<(ValueId, bool)> = outputs.iter().map(|&id| (id, false)).collect();
        let mut uses = Vec::new();
        while let Some((id, mut behind_list)) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if !outputs.contains(&id) {
                let border = behind_list || read.contains(&id) || self.function.inputs.contains(&id);
                if let (true, Some(declared), Some((found, shape))) = (border, self.dtype(id), known(id)) {
                    // Networks do not declare what is no float.
                    let dtype = if Kind::of(declared) == Kind::of(found) { declared } else { found };
                    inputs.insert(id, array(dtype, shape));
                    continue;
                }
                behind_list = border;
                if let Some(tensor) = constant(id) {
                    constants.insert(id, tensor);
                    continue;
                }
            }
            let Some(&at) = self.producers.get(&id) else {
                return Err(format!("it depends on the state {}", self.function.value(id).name));
            };
            if needed.insert(at) {
                self.uses(&self.function.body.operations[at], &mut uses);
                open.extend(uses.drain(..).map(|id| (id, behind_list)));
            }
        }
        let mut values = self.function.values.clone();
        for (id, ty) in &inputs {
            values[id.index()].ty.clone_from(ty);
        }
        let constants = constants.into_iter().map(|(id, tensor)| {
            values[id.index()].ty = array(tensor.dtype(), tensor.shape());
            operation("const", id, Vec::new(), vec![("val".into(), Constant::Tensor(Arc::new(tensor)))])
        });
        let mut operations: Vec<Operation> = constants.collect();
        let all = &self.function.body.operations;
        operations.extend(needed.iter().map(|&at| all[at].clone()));
        let body = Block { inputs: Vec::new(), operations, outputs: outputs.to_vec() };
        let inputs = inputs.into_keys().collect();
        let function = Function { opset: self.function.opset, values, inputs, body };
        needed.retain(|&at| all[at].kind != "const");
        Ok(Part { function, operations: needed.into_iter().collect() })
    }

    /// The declared element type of an array.
    fn dtype(&self, id: ValueId) -> Option<DType> {
        match &self.function.value(id).ty {
            ValueType::Tensor(ty) => Some(ty.dtype),
            ValueType::Unranked(dtype) => Some(*dtype),
            _ => None,
        }
    }

    /// The values that an operation reads, those that its blocks take from around them included.
    fn uses(&self, operation: &Operation, found: &mut Vec<ValueId>) {
        let outside = |id: &ValueId| self.producers.contains_key(id) || self.function.inputs.contains(id);
        for argument in operation.inputs.iter().flat_map(|(_, arguments)| arguments) {
            if let Argument::Value(id) = argument
                && outside(id)
            {
                found.push(*id);
            }
        }
        for block in &operation.blocks {
            block.operations.iter().for_each(|operation| self.uses(operation, found));
            found.extend(block.outputs.iter().copied().filter(outside));
        }
    }
}

impl Part {
    /// The part as a function that a package can hold, with its interface. Arrays of types that interfaces do not have are cast at
    /// its borders. `known` tells types and shapes of what it takes and gives, `lowered` finishes a part of a neural network.
    ///
    /// # Errors
    /// When an operation has no form that packages hold.
    pub(crate) fn stand_alone(
        mut self,
        known: impl Fn(ValueId) -> Option<(DType, Shape)>,
        lowered: Option<impl FnOnce(Function) -> Result<Function, Error>>,
    ) -> Result<(Function, Interface), Error> {
        let shape = |id: ValueId| known(id).map(|(_, shape)| shape);
        name_ports(&mut self.function);
        for id in &self.function.body.outputs {
            // What has no rank in general has one here.
            let ty = &mut self.function.values[id.index()].ty;
            if let (ValueType::Unranked(_), Some((dtype, shape))) = (&*ty, known(*id)) {
                *ty = array(dtype, shape);
            }
        }
        let mut function = match lowered {
            Some(finish) => finish(self.function)?,
            None => name_constants(&self.function, false),
        };
        let mut interface = Interface {
            inputs: Vec::new(),
            outputs: Vec::new(),
            states: Vec::new(),
            predicted_feature: None,
            predicted_probabilities: None,
        };
        let mut casts = Vec::new();
        for i in 0..function.inputs.len() {
            let inner = function.inputs[i];
            let Some(shape) = shape(inner) else { return Err(no_feature(&function, inner)) };
            let ValueType::Tensor(ty) = &function.value(inner).ty else { return Err(no_feature(&function, inner)) };
            let (wanted, name) = (ty.dtype, function.value(inner).name.clone());
            let dtype = portable(wanted, function.opset);
            let outer = if dtype == wanted { inner } else { new_value(&mut function, &name, dtype, shape) };
            if outer != inner {
                casts.push(cast(outer, inner, wanted));
                function.inputs[i] = outer;
            }
            interface.inputs.push(feature(&function.value(outer).name, dtype, shape));
        }
        function.body.operations.splice(0..0, casts);
        for i in 0..function.body.outputs.len() {
            let inner = function.body.outputs[i];
            let Value { name, ty } = function.value(inner).clone();
            let plain = |kind| Feature { name: name.to_string(), description: String::new(), kind, optional: false };
            // What `classify` gives are no arrays.
            let of_classes =
                function.body.operations.iter().any(|o| o.kind == "classify" && o.outputs.contains(&inner));
            match ty {
                ValueType::Strings(_) => {
                    interface.predicted_feature = Some(name.to_string());
                    interface.outputs.push(plain(FeatureKind::String));
                }
                ValueType::Tensor(_) if of_classes => {
                    interface.predicted_feature = Some(name.to_string());
                    interface.outputs.push(plain(FeatureKind::Int64));
                }
                ValueType::Dictionary(label, _) => {
                    let strings = matches!(*label, ValueType::Strings(_));
                    let key = if strings { DictionaryKey::String } else { DictionaryKey::Int64 };
                    interface.predicted_probabilities = Some(name.to_string());
                    interface.outputs.push(plain(FeatureKind::Dictionary(key)));
                }
                ValueType::Tensor(TensorType { dtype: given, .. }) => {
                    let Some(shape) = shape(inner) else { return Err(no_feature(&function, inner)) };
                    let dtype = portable(given, function.opset);
                    let outer = if dtype == given { inner } else { new_value(&mut function, &name, dtype, shape) };
                    if outer != inner {
                        function.body.operations.push(cast(inner, outer, dtype));
                        function.body.outputs[i] = outer;
                    }
                    interface.outputs.push(feature(&function.value(outer).name, dtype, shape));
                }
                _ => return Err(no_feature(&function, inner)),
            }
        }
        // The casts have their types in place.
        Ok((name_constants(&function, false), interface))
    }
}

/// Gives parameters and results names that differ, which values of networks need not have.
fn name_ports(function: &mut Function) {
    let mut names = HashSet::new();
    for id in function.body.outputs.iter().chain(&function.inputs) {
        let name = &mut function.values[id.index()].name;
        let wanted = name.clone();
        let mut count = 0;
        while !names.insert(name.clone()) {
            count += 1;
            *name = format!("{wanted}_{count}").into();
        }
    }
}

fn no_feature(function: &Function, id: ValueId) -> Error {
    let Value { name, ty } = function.value(id);
    Error::feature(ErrorKind::Unsupported, name, format!("no feature of a model is a value of type {ty}"))
}

fn array(dtype: DType, shape: Shape) -> ValueType {
    ValueType::Tensor(TensorType { dtype, dims: shape.iter().map(|&size| Dim::Fixed(size)).collect() })
}

/// The type of an array at the border of a model: interfaces have half precision since iOS 16, and one type of integers.
fn portable(dtype: DType, opset: Opset) -> DType {
    match dtype {
        DType::Float16 if opset >= Opset::Ios16 => dtype,
        dtype if dtype.is_float() => DType::Float32,
        _ => DType::Int32,
    }
}

fn feature(name: &str, dtype: DType, shape: Shape) -> Feature {
    // Features have no scalars.
    let shape = if shape.rank() == 0 { vec![1] } else { shape.to_vec() };
    let array = ArrayFeature { dtype, shape, constraint: ShapeConstraint::Fixed, default: None };
    Feature { name: name.into(), description: String::new(), kind: FeatureKind::MultiArray(array), optional: false }
}

fn new_value(function: &mut Function, inner: &str, dtype: DType, shape: Shape) -> ValueId {
    let id = ValueId::new(u32::try_from(function.values.len()).unwrap_or(u32::MAX));
    function.values.push(Value { name: format!("{inner}_as_{}", dtype.name()).into(), ty: array(dtype, shape) });
    id
}

fn operation(
    kind: &str,
    output: ValueId,
    inputs: Vec<(SmolStr, Arguments)>,
    attributes: Vec<(SmolStr, Constant)>,
) -> Operation {
    Operation {
        kind: kind.into(),
        name: SmolStr::default(),
        inputs,
        outputs: [output].into_iter().collect(),
        blocks: Vec::new(),
        attributes,
    }
}

fn cast(from: ValueId, to: ValueId, dtype: DType) -> Operation {
    let dtype = Constant::Strings(Shape::SCALAR, vec![dtype.name().into()]);
    let inputs = vec![
        ("x".into(), [Argument::Value(from)].into_iter().collect()),
        ("dtype".into(), [Argument::Constant(Arc::new(dtype))].into_iter().collect()),
    ];
    operation("cast", to, inputs, Vec::new())
}
