//! Neural networks as standalone ML Programs: every value has its type, and none of this library's own operations is
//! used.

use std::collections::HashMap;
use std::sync::Arc;

use coreml_convert::{lower, name_constants};
use coreml_core::{Error, ErrorKind};
use coreml_model::{
    Argument, Block, Constant, Dim, Feature, FeatureKind, Function, Interface, Operation, Program, ShapeConstraint,
    Stage, TensorType, ValueId, ValueType,
};
use coreml_tensor::{DType, Shape, Tensor};

use crate::backend::{default_shape, lower_error, plan_error};
use crate::compute::Compute;
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::value::{Kind, Type};

/// What the operations of this library that ML Programs do not have begin with.
const OWN: &str = "neural_network:";

/// The neural network `stage` as an ML Program with one function, `main`. With `half_weights` its weights are stored in half
/// precision; the arithmetic stays the same.
///
/// # Errors
/// Whatever is wrong with the network, and [`ErrorKind::Unsupported`] for models that are not neural networks and for
/// layers that no operation of ML Programs can express.
pub fn as_program(stage: &Stage, half_weights: bool) -> Result<Program, Error> {
    let network = stage.network();
    let network = network.ok_or_else(|| Error::new(ErrorKind::Unsupported, "is not a neural network"))?;
    let interface = stage.interface();
    let function = lower(network, interface).map_err(|error| lower_error(&error))?;
    let types = types(&function, interface)?;
    let function = stand_alone(function, &types, half_weights)?;
    Ok(Program { functions: [(stage.default_function().to_owned(), function)].into() })
}

/// A function that a network was lowered to, with these types for its values and nothing in it that only this library knows.
pub(crate) fn stand_alone(
    mut function: Function,
    types: &HashMap<ValueId, TensorType>,
    half_weights: bool,
) -> Result<Function, Error> {
    for (i, value) in function.values.iter_mut().enumerate() {
        let id = ValueId::new(u32::try_from(i).unwrap_or(u32::MAX));
        if let (ValueType::Tensor(_) | ValueType::Unranked(_), Some(found)) = (&value.ty, types.get(&id)) {
            value.ty = ValueType::Tensor(found.clone());
        }
    }
    declare_classes(&mut function);
    let body = std::mem::replace(
        &mut function.body,
        Block { inputs: Vec::new(), operations: Vec::new(), outputs: Vec::new() },
    );
    function.body = without_own(&function, body)?;
    Ok(name_constants(&function, half_weights))
}

/// Classes as the list that programs have them in, and their results, a label and numbers by label, which are no tensors.
fn declare_classes(function: &mut Function) {
    let number = |dtype| ValueType::Tensor(TensorType { dtype, dims: Vec::new() });
    for operation in function.body.operations.iter_mut().filter(|operation| operation.kind == "classify") {
        let mut label = number(DType::Int64);
        for argument in operation.inputs.iter_mut().filter(|(name, _)| name == "classes").flat_map(|(_, all)| all) {
            let Argument::Constant(classes) = argument else { continue };
            let list = match &**classes {
                Constant::Strings(_, labels) => {
                    label = ValueType::Strings(Vec::new());
                    labels.iter().map(|label| Constant::Strings(Shape::SCALAR, vec![label.clone()])).collect()
                }
                Constant::Tensor(labels) => {
                    let labels = labels.as_slice::<i64>().unwrap_or_default();
                    let scalar = |&label| Tensor::new(Shape::SCALAR, vec![label]).ok();
                    let one = |tensor| Constant::Tensor(Arc::new(tensor));
                    labels.iter().filter_map(scalar).map(one).collect()
                }
                _ => continue,
            };
            *classes = Arc::new(Constant::List(list));
        }
        let by_label = ValueType::Dictionary(Box::new(label.clone()), Box::new(number(DType::Float64)));
        for (id, ty) in operation.outputs.iter().zip([label, by_label]) {
            function.values[id.index()].ty = ty;
        }
    }
}

/// The types of all values that have one for every shape that the inputs may have. Sizes that differ between shapes are
/// open.
fn types(function: &Function, interface: &Interface) -> Result<HashMap<ValueId, TensorType>, Error> {
    let compute = Compute::new(1);
    let mut merged: HashMap<ValueId, Option<TensorType>> = HashMap::new();
    for (i, shapes) in shapes(function, interface)?.into_iter().enumerate() {
        let found = match Plan::types(function, &shapes, &PlanOptions::default(), &compute, &Arc::default()) {
            Ok(found) => found,
            Err(error) if i == 0 => return Err(plan_error(error, ErrorKind::InvalidModel)),
            // Not every size between the bounds need be one that the network can compute with.
            Err(_) => continue,
        };
        for (id, ty) in found {
            let ty = ty.map(|ty| tensor_type(&ty));
            match merged.get_mut(&id) {
                None => _ = merged.insert(id, ty),
                Some(known) => *known = known.take().zip(ty).and_then(|(known, ty)| both(known, &ty)),
            }
        }
    }
    Ok(merged.into_iter().filter_map(|(id, ty)| Some((id, ty?))).collect())
}

pub(crate) fn tensor_type(ty: &Type) -> TensorType {
    let dtype = match ty.kind {
        Kind::Float => DType::Float32,
        Kind::Int => DType::Int32,
        Kind::Bool => DType::Bool,
    };
    TensorType { dtype, dims: ty.shape.iter().map(|&size| Dim::Fixed(size)).collect() }
}

/// What two types have in common; nothing if their ranks differ.
fn both(mut known: TensorType, other: &TensorType) -> Option<TensorType> {
    if known.dims.len() != other.dims.len() {
        return None;
    }
    for (dim, other) in known.dims.iter_mut().zip(&other.dims) {
        if dim != other {
            *dim = Dim::Unknown;
        }
    }
    Some(known)
}

/// Shapes of the inputs: the default ones first, then others that the interface admits.
fn shapes(function: &Function, interface: &Interface) -> Result<Vec<Vec<Shape>>, Error> {
    let features: Vec<&Feature> =
        function.inputs.iter().filter_map(|&id| interface.input(&function.value(id).name)).collect();
    let default = features.iter().map(|feature| default_shape(feature)).collect::<Result<Vec<_>, _>>()?;
    let mut all = vec![default.clone()];
    for choice in 0..3 {
        let other = features.iter().zip(&default).map(|(feature, &default)| another_shape(feature, default, choice));
        let other = other.collect::<Vec<_>>();
        if !all.contains(&other) {
            all.push(other);
        }
    }
    Ok(all)
}

/// Another shape than the default one, if there is one: the smallest sizes, the largest, or twice the default.
fn another_shape(feature: &Feature, default: Shape, choice: usize) -> Shape {
    let size = |range: &coreml_model::SizeRange, default: usize| match choice {
        0 => range.min.max(1),
        1 => range.max.unwrap_or(default * 2).min(default * 4),
        _ => range.max.map_or(default * 2, |max| max.min(default * 2)),
    };
    let dims = match &feature.kind {
        FeatureKind::MultiArray(array) => match &array.constraint {
            ShapeConstraint::Enumerated(shapes) => shapes.get(choice).cloned(),
            ShapeConstraint::Range(ranges) => {
                Some(ranges.iter().zip(default.iter()).map(|(range, &default)| size(range, default)).collect())
            }
            _ => None,
        },
        FeatureKind::Image(image) => match (&image.constraint, &*default) {
            (ShapeConstraint::Enumerated(sizes), &[n, c, ..]) => {
                sizes.get(choice).map(|&[width, height]| vec![n, c, height, width])
            }
            (ShapeConstraint::Range([width, height]), &[n, c, h, w]) => {
                Some(vec![n, c, size(height, h), size(width, w)])
            }
            _ => None,
        },
        _ => None,
    };
    dims.and_then(|dims| Shape::try_new(&dims).ok()).unwrap_or(default)
}

/// The block with what ML Programs have in the place of this library's own operations.
fn without_own(function: &Function, block: Block) -> Result<Block, Error> {
    let operations = block.operations.into_iter().map(|mut operation| {
        let blocks = std::mem::take(&mut operation.blocks);
        operation.blocks = blocks.into_iter().map(|block| without_own(function, block)).collect::<Result<_, _>>()?;
        if operation.kind == "slice_by_index" {
            state_masks(&mut operation);
        }
        let Some(own) = operation.kind.strip_prefix(OWN).map(str::to_owned) else { return Ok(operation) };
        let reshaped = match own.as_str() {
            "array" | "feature" | "ranked" => reshape(function, &operation),
            _ => None,
        };
        reshaped.ok_or_else(|| {
            let name = operation.outputs.first().map_or("", |&id| function.value(id).name.as_str());
            let message = format!("no operation of ML Programs does what `{own}` of neural networks does here");
            Error::operation(ErrorKind::Unsupported, name, message)
        })
    });
    Ok(Block { operations: operations.collect::<Result<_, Error>>()?, ..block })
}

/// Masks as booleans, which the format asks for, where networks have integers.
fn state_masks(slice: &mut Operation) {
    let masks = slice.inputs.iter_mut().filter(|(name, _)| name.ends_with("_mask"));
    for argument in masks.flat_map(|(_, arguments)| arguments) {
        if let Argument::Constant(constant) = argument
            && let Constant::Tensor(mask) = &**constant
            && let Some(flags) = mask.as_slice::<i32>()
            && let Ok(mask) = Tensor::new(mask.shape(), flags.iter().map(|&flag| flag != 0).collect::<Vec<bool>>())
        {
            *constant = Arc::new(Constant::Tensor(Arc::new(mask)));
        }
    }
}

/// The operation that gives `operation`'s only input the shape of its result.
fn reshape(function: &Function, operation: &Operation) -> Option<Operation> {
    let (_, arguments) = operation.inputs.iter().find(|(name, _)| name == "x")?;
    let x = arguments.first()?;
    let Argument::Value(from) = x else { return None };
    let dims = |id: ValueId| match &function.value(id).ty {
        ValueType::Tensor(ty) => Some(ty.dims.as_slice()),
        _ => None,
    };
    let with = |kind: &str, parameter: Option<(&str, Argument)>| {
        let mut inputs = vec![("x".into(), [x.clone()].into_iter().collect())];
        inputs.extend(parameter.map(|(name, value)| (name.into(), [value].into_iter().collect())));
        Some(Operation { kind: kind.into(), inputs, ..operation.clone() })
    };
    let (Some(given), Some(wanted)) = (dims(*from), dims(*operation.outputs.first()?)) else {
        // The results of loops have no types; one operation only states a rank, the other may name the shape.
        return match operation.input("shape") {
            Some([shape @ Argument::Constant(_)]) => with("reshape", Some(("shape", shape.clone()))),
            _ if operation.kind.ends_with("ranked") => with("identity", None),
            _ => None,
        };
    };
    let ints = |values: Vec<i32>| {
        let tensor = Tensor::new(Shape::try_new(&[values.len()]).ok()?, values).ok()?;
        Some(Argument::Constant(Arc::new(Constant::Tensor(Arc::new(tensor)))))
    };
    let front = |count: usize| ints((0..i32::try_from(count).ok()?).collect());
    let ones = |dims: &[Dim]| dims.iter().all(|dim| *dim == Dim::Fixed(1));
    let open = |dims: &[Dim]| dims.iter().filter(|dim| **dim == Dim::Unknown).count();
    if given == wanted {
        with("identity", None)
    } else if wanted.ends_with(given) && ones(&wanted[..wanted.len() - given.len()]) {
        with("expand_dims", Some(("axes", front(wanted.len() - given.len())?)))
    } else if given.ends_with(wanted) && ones(&given[..given.len() - wanted.len()]) {
        with("squeeze", Some(("axes", front(given.len() - wanted.len())?)))
    } else if open(wanted) <= 1 {
        let size = |dim: &Dim| match *dim {
            Dim::Fixed(size) => i32::try_from(size).ok(),
            Dim::Unknown => Some(-1),
        };
        with("reshape", Some(("shape", ints(wanted.iter().map(size).collect::<Option<_>>()?)?)))
    } else {
        None
    }
}
