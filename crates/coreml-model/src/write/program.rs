//! Programs as the messages of the format.

use std::io::{self, Seek, Write};

use coreml_tensor::Shape;

use super::weights::{WeightFile, bytes_of, is_weight};
use crate::element::ElementType;
use crate::program::{Argument, Block, Constant, Dim, Function, Operation, TensorType, Value, ValueId, ValueType};
use crate::proto::{self, binding, dimension, elements, immediate, value, value_type};

/// Writes the weights of functions as it makes messages of them.
pub(super) struct Encoder<W> {
    pub(super) weights: WeightFile<W>,
    /// What the program calls the weight file.
    pub(super) file: String,
}

impl<W: Write + Seek> Encoder<W> {
    pub(super) fn function(&mut self, function: &Function) -> io::Result<proto::Function> {
        let opset = function.opset.name().to_owned();
        let inputs = function.inputs.iter().map(|&id| named(function.value(id))).collect();
        let body = self.block(function, &function.body)?;
        Ok(proto::Function { inputs, opset: opset.clone(), specializations: [(opset, body)].into() })
    }

    fn block(&mut self, function: &Function, block: &Block) -> io::Result<proto::Block> {
        let name = |&id: &ValueId| function.value(id).name.to_string();
        let operations = block.operations.iter().map(|operation| self.operation(function, operation));
        Ok(proto::Block {
            operations: operations.collect::<io::Result<_>>()?,
            inputs: block.inputs.iter().map(|&id| named(function.value(id))).collect(),
            outputs: block.outputs.iter().map(name).collect(),
        })
    }

    fn operation(&mut self, function: &Function, operation: &Operation) -> io::Result<proto::Operation> {
        let mut inputs = std::collections::BTreeMap::new();
        for (name, arguments) in &operation.inputs {
            let bindings = arguments.iter().map(|argument| {
                let to = match argument {
                    Argument::Value(id) => binding::To::Name(function.value(*id).name.to_string()),
                    Argument::Constant(constant) => binding::To::Value(self.constant(constant, None)?),
                };
                Ok(proto::Binding { to: Some(to) })
            });
            inputs.insert(name.to_string(), proto::Argument { bindings: bindings.collect::<io::Result<_>>()? });
        }
        let mut attributes = std::collections::BTreeMap::new();
        if !operation.name.is_empty() {
            let name = Constant::Strings(Shape::SCALAR, vec![operation.name.to_string()]);
            attributes.insert("name".to_owned(), self.constant(&name, None)?);
        }
        let declared = match operation.outputs.as_slice() {
            [only] if operation.kind == "const" => Some(&function.value(*only).ty),
            _ => None,
        };
        for (name, constant) in &operation.attributes {
            let declared = declared.filter(|_| name == "val");
            attributes.insert(name.to_string(), self.constant(constant, declared)?);
        }
        let blocks = operation.blocks.iter().map(|block| self.block(function, block));
        Ok(proto::Operation {
            kind: operation.kind.to_string(),
            inputs,
            blocks: blocks.collect::<io::Result<_>>()?,
            outputs: operation.outputs.iter().map(|&id| named(function.value(id))).collect(),
            attributes,
        })
    }

    /// The value, with its own type: `declared` only tells lists and tuples apart.
    fn constant(&mut self, constant: &Constant, declared: Option<&ValueType>) -> io::Result<proto::Value> {
        let ty = constant_type(constant, declared);
        let r#type = Some(value_type(&ty));
        if is_weight(constant)
            && let Some(offset) = self.weights.add(constant)?
        {
            let blob = proto::BlobFile { file: self.file.clone(), offset };
            return Ok(proto::Value { r#type, kind: Some(value::Kind::BlobFile(blob)) });
        }
        let kind = match (constant, &ty) {
            (Constant::Tensor(_) | Constant::Packed(_) | Constant::Strings(..), _) => {
                immediate::Kind::Tensor(elements(constant).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::Unsupported, format!("a constant of type {ty} cannot be written"))
                })?)
            }
            (Constant::List(values), ValueType::Tuple(types)) => {
                let values = values.iter().enumerate().map(|(i, value)| self.constant(value, types.get(i)));
                immediate::Kind::Tuple(proto::Values { values: values.collect::<io::Result<_>>()? })
            }
            (Constant::List(values), ty) => {
                let element = if let ValueType::List(element, _) = ty { Some(&**element) } else { None };
                let values = values.iter().map(|value| self.constant(value, element));
                immediate::Kind::List(proto::Values { values: values.collect::<io::Result<_>>()? })
            }
            (Constant::Dictionary(pairs), _) => {
                let pair = |(key, value): &(Constant, Constant)| {
                    Ok(proto::Pair { key: Some(self.constant(key, None)?), value: Some(self.constant(value, None)?) })
                };
                immediate::Kind::Dictionary(proto::Pairs { values: pairs.iter().map(pair).collect::<io::Result<_>>()? })
            }
        };
        let kind = Some(value::Kind::Immediate(proto::Immediate { kind: Some(kind) }));
        Ok(proto::Value { r#type, kind })
    }
}

/// The type of a constant.
fn constant_type(constant: &Constant, declared: Option<&ValueType>) -> ValueType {
    let dims = |shape: Shape| shape.iter().map(|&size| Dim::Fixed(size)).collect();
    match (constant, declared) {
        (Constant::Tensor(tensor), _) => {
            ValueType::Tensor(TensorType { dtype: tensor.dtype(), dims: dims(tensor.shape()) })
        }
        (Constant::Packed(packed), _) => ValueType::Packed(packed.ty, dims(packed.shape)),
        (Constant::Strings(shape, _), _) => ValueType::Strings(dims(*shape)),
        (_, Some(declared)) => declared.clone(),
        (Constant::List(values), None) => {
            let types: Vec<_> = values.iter().map(|value| constant_type(value, None)).collect();
            match types.split_first() {
                Some((first, others)) if others.iter().all(|other| other == first) => {
                    ValueType::List(Box::new(first.clone()), u64::try_from(types.len()).ok())
                }
                _ => ValueType::Tuple(types),
            }
        }
        (Constant::Dictionary(pairs), None) => {
            let (key, value) = pairs.first().map_or_else(
                || (ValueType::Strings(Vec::new()), ValueType::Strings(Vec::new())),
                |(key, value)| (constant_type(key, None), constant_type(value, None)),
            );
            ValueType::Dictionary(Box::new(key), Box::new(value))
        }
    }
}

/// The elements in the list of the format where readers look for them first.
fn elements(constant: &Constant) -> Option<proto::Elements> {
    use coreml_tensor::DataView;
    use elements::Kind;

    let ints = |values: Vec<i32>| Kind::Ints(proto::Ints { values });
    let longs = |values: Vec<i64>| Kind::LongInts(proto::LongInts { values });
    let kind = match constant {
        Constant::Strings(_, values) => Kind::Strings(proto::Strings { values: values.clone() }),
        Constant::Tensor(tensor) => match tensor.view().data() {
            DataView::Bool(values) => Kind::Bools(proto::Bools { values: values.to_vec() }),
            DataView::Int32(values) => ints(values.to_vec()),
            DataView::UInt32(values) => longs(values.iter().map(|&value| value.into()).collect()),
            DataView::Int64(values) => longs(values.to_vec()),
            DataView::UInt64(values) => longs(values.iter().map(|value| value.cast_signed()).collect()),
            DataView::Float32(values) => Kind::Floats(proto::Floats { values: values.to_vec() }),
            DataView::Float64(values) => Kind::Doubles(proto::Doubles { values: values.to_vec() }),
            DataView::Int8(_)
            | DataView::UInt8(_)
            | DataView::Int16(_)
            | DataView::UInt16(_)
            | DataView::Float16(_) => Kind::Bytes(proto::Bytes { values: bytes_of(constant)?.into_owned() }),
            _ => return None,
        },
        Constant::Packed(packed) => Kind::Bytes(proto::Bytes { values: packed.bytes.clone() }),
        _ => return None,
    };
    Some(proto::Elements { kind: Some(kind) })
}

fn named(value: &Value) -> proto::NamedType {
    proto::NamedType { name: value.name.to_string(), r#type: Some(value_type(&value.ty)) }
}

fn value_type(ty: &ValueType) -> proto::ValueType {
    use value_type::Kind;

    let tensor = |element: ElementType, dims: &[Dim]| proto::TensorType {
        data_type: element.program_code(),
        rank: i64::try_from(dims.len()).unwrap_or(i64::MAX),
        dims: dims.iter().map(dimension).collect(),
    };
    let number = |ty: &TensorType| tensor(ElementType::Number(ty.dtype), &ty.dims);
    let kind = match ty {
        ValueType::Tensor(ty) => Kind::Tensor(number(ty)),
        ValueType::Unranked(dtype) => {
            let data_type = ElementType::Number(*dtype).program_code();
            Kind::Tensor(proto::TensorType { data_type, rank: -1, dims: Vec::new() })
        }
        ValueType::Packed(ty, dims) => Kind::Tensor(tensor(ElementType::Packed(*ty), dims)),
        ValueType::Strings(dims) => Kind::Tensor(tensor(ElementType::String, dims)),
        ValueType::List(element, length) => {
            let size = |&size: &u64| dimension::Kind::Constant(proto::ConstantDimension { size });
            let unknown = dimension::Kind::Unknown(proto::UnknownDimension { variadic: false });
            let length = Some(proto::Dimension { kind: Some(length.as_ref().map_or(unknown, size)) });
            Kind::List(Box::new(proto::ListType { element: Some(Box::new(value_type(element))), length }))
        }
        ValueType::Tuple(types) => Kind::Tuple(proto::TupleType { types: types.iter().map(value_type).collect() }),
        ValueType::Dictionary(key, value) => Kind::Dictionary(Box::new(proto::DictionaryType {
            key: Some(Box::new(value_type(key))),
            value: Some(Box::new(value_type(value))),
        })),
        ValueType::State(ty) => {
            let wrapped = proto::ValueType { kind: Some(Kind::Tensor(number(ty))) };
            Kind::State(Box::new(proto::StateType { wrapped: Some(Box::new(wrapped)) }))
        }
    };
    proto::ValueType { kind: Some(kind) }
}

fn dimension(dim: &Dim) -> proto::Dimension {
    let kind = match *dim {
        Dim::Fixed(size) => {
            dimension::Kind::Constant(proto::ConstantDimension { size: u64::try_from(size).unwrap_or(u64::MAX) })
        }
        Dim::Unknown => dimension::Kind::Unknown(proto::UnknownDimension { variadic: false }),
    };
    proto::Dimension { kind: Some(kind) }
}
