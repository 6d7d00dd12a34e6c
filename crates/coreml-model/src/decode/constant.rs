//! Decodes constants: literals of the program, and references into weight files.
//!
//! Writers differ in where they put narrow integers, so a literal may hold them in any of the format's lists as long as
//! every number fits the declared type and their count is right.

use std::sync::Arc;

use bytemuck::Pod;
use coreml_tensor::{DType, Element, Shape, f16};

use super::types;
use crate::element::ElementType;
use crate::error::{ReadError, ReadErrorKind, Within};
use crate::limits::Limits;
use crate::package::blob::{BlobStore, tensor, widen};
use crate::program::{Constant, PackedTensor, ValueType};
use crate::proto::elements::Kind as Elements;
use crate::proto::{self, immediate, value, value_type};

fn refuse(message: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Program, message)
}

/// The constant and its declared type.
pub(crate) fn constant(
    value: proto::Value,
    blobs: &mut BlobStore,
    limits: &Limits,
) -> Result<(Constant, ValueType), ReadError> {
    let kind = value.kind.ok_or_else(|| refuse("a constant has no value"));
    if let Some(proto::ValueType { kind: Some(value_type::Kind::Tensor(ty)) }) = &value.r#type {
        let (element, dims) = types::tensor_type(ty, limits)?;
        let constant = match kind? {
            value::Kind::BlobFile(blob) => blobs.read(&blob.file, blob.offset, element, types::fixed_shape(&dims)?)?,
            value::Kind::Immediate(proto::Immediate { kind: Some(immediate::Kind::Tensor(elements)) }) => {
                literal_tensor(element, types::fixed_shape(&dims)?, elements)?
            }
            value::Kind::Immediate(_) => return Err(refuse("the literal of a tensor is not a tensor")),
        };
        return Ok((constant, types::tensor(element, dims)));
    }
    let ty = types::value_type(value.r#type.as_ref(), limits)?;
    match kind? {
        value::Kind::BlobFile(_) => Err(refuse("only tensors can be in a weight file")),
        value::Kind::Immediate(literal) => Ok((aggregate(literal, &ty, blobs, limits)?, ty)),
    }
}

/// Lists, tuples and dictionaries. Nesting is bounded by the budget pass.
fn aggregate(
    literal: proto::Immediate,
    ty: &ValueType,
    blobs: &mut BlobStore,
    limits: &Limits,
) -> Result<Constant, ReadError> {
    let mut typed = |value: Option<proto::Value>, expected: &ValueType, position: usize| {
        let value = value.ok_or_else(|| refuse("a constant has no value"));
        value
            .and_then(|value| constant(value, blobs, limits))
            .and_then(|(constant, ty)| {
                if ty == *expected {
                    Ok(constant)
                } else {
                    Err(refuse("the type is not the one its container declares"))
                }
            })
            .within(|| format!("element {position}"))
    };
    match (literal.kind, ty) {
        (Some(immediate::Kind::List(list)), ValueType::List(element, length)) => {
            let found = list.values.len();
            if length.is_some_and(|length| usize::try_from(length) != Ok(found)) {
                return Err(refuse(format!("a list of {} has {found} elements", length.unwrap_or(0))));
            }
            let values = list.values.into_iter().enumerate().map(|(i, value)| typed(Some(value), element, i));
            Ok(Constant::List(values.collect::<Result<_, _>>()?))
        }
        (Some(immediate::Kind::Tuple(tuple)), ValueType::Tuple(types)) => {
            if tuple.values.len() != types.len() {
                return Err(refuse(format!("a tuple of {} has {} elements", types.len(), tuple.values.len())));
            }
            let values = tuple.values.into_iter().zip(types).enumerate();
            let values = values.map(|(i, (value, ty))| typed(Some(value), ty, i));
            Ok(Constant::List(values.collect::<Result<_, _>>()?))
        }
        (Some(immediate::Kind::Dictionary(pairs)), ValueType::Dictionary(key, value)) => {
            let pairs = pairs.values.into_iter().enumerate();
            let pairs = pairs.map(|(i, pair)| Ok((typed(pair.key, key, i)?, typed(pair.value, value, i)?)));
            Ok(Constant::Dictionary(pairs.collect::<Result<_, ReadError>>()?))
        }
        _ => Err(refuse("the literal is not of its declared type")),
    }
}

fn literal_tensor(element: ElementType, shape: Shape, elements: proto::Elements) -> Result<Constant, ReadError> {
    // Writers leave the list of an empty tensor out.
    let elements = match elements.kind {
        Some(elements) => elements,
        None if shape.count() == 0 => Elements::Bytes(proto::Bytes::default()),
        None => return Err(refuse("a constant has no value")),
    };
    let tensor = match element {
        ElementType::Packed(ty) => {
            let Elements::Bytes(bytes) = elements else { return Err(misplaced(element)) };
            expect(element, shape, bytes.values.len(), element.stored_bytes(shape.count()), "bytes")?;
            return Ok(Constant::Packed(Arc::new(PackedTensor { ty, shape, bytes: bytes.values })));
        }
        ElementType::String => {
            return match elements {
                Elements::Strings(strings) => {
                    expect(element, shape, strings.values.len(), Some(shape.count()), "elements")?;
                    Ok(Constant::Strings(shape, strings.values))
                }
                Elements::Bytes(bytes) if bytes.values.is_empty() && shape.count() == 0 => {
                    Ok(Constant::Strings(shape, Vec::new()))
                }
                _ => Err(misplaced(element)),
            };
        }
        ElementType::BFloat16 => {
            let values = widen(&raw::<u16>(element, shape, elements)?)?;
            tensor(shape, values)?
        }
        ElementType::Number(dtype) => match dtype {
            DType::Bool => tensor(shape, booleans(shape, elements)?)?,
            DType::Int8 => tensor(shape, integers::<i8>(element, shape, elements)?)?,
            DType::UInt8 => tensor(shape, integers::<u8>(element, shape, elements)?)?,
            DType::Int16 => tensor(shape, integers::<i16>(element, shape, elements)?)?,
            DType::UInt16 => tensor(shape, integers::<u16>(element, shape, elements)?)?,
            DType::Int32 => tensor(shape, integers::<i32>(element, shape, elements)?)?,
            DType::UInt32 => tensor(shape, integers::<u32>(element, shape, elements)?)?,
            DType::Int64 => tensor(shape, integers::<i64>(element, shape, elements)?)?,
            DType::UInt64 => tensor(shape, unsigned_longs(shape, elements)?)?,
            DType::Float16 => tensor(shape, raw::<f16>(element, shape, elements)?)?,
            DType::Float32 => match elements {
                Elements::Floats(floats) => tensor(shape, counted(element, shape, floats.values)?)?,
                other => tensor(shape, raw::<f32>(element, shape, other)?)?,
            },
            DType::Float64 => match elements {
                Elements::Doubles(doubles) => tensor(shape, counted(element, shape, doubles.values)?)?,
                other => tensor(shape, raw::<f64>(element, shape, other)?)?,
            },
            other => return Err(refuse(format!("{other} constants are not supported yet"))),
        },
    };
    Ok(Constant::Tensor(Arc::new(tensor)))
}

fn misplaced(element: ElementType) -> ReadError {
    refuse(format!("the literal's list is not one that {} elements can be in", element.name()))
}

fn expect(
    element: ElementType,
    shape: Shape,
    found: usize,
    expected: Option<usize>,
    unit: &str,
) -> Result<(), ReadError> {
    if expected == Some(found) {
        return Ok(());
    }
    let expected = expected.map_or_else(|| "too many".to_owned(), |count| count.to_string());
    Err(refuse(format!("a constant {}{shape} has {found} {unit} instead of {expected}", element.name())))
}

fn counted<T>(element: ElementType, shape: Shape, values: Vec<T>) -> Result<Vec<T>, ReadError> {
    expect(element, shape, values.len(), Some(shape.count()), "elements")?;
    Ok(values)
}

/// Little-endian bytes as numbers.
fn raw<T: Pod>(element: ElementType, shape: Shape, elements: Elements) -> Result<Vec<T>, ReadError> {
    let Elements::Bytes(bytes) = elements else { return Err(misplaced(element)) };
    expect(element, shape, bytes.values.len(), element.stored_bytes(shape.count()), "bytes")?;
    let mut values = vec![T::zeroed(); shape.count()];
    // The lengths agree: that is what was just checked.
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(&bytes.values);
    Ok(values)
}

fn integers<T>(element: ElementType, shape: Shape, elements: Elements) -> Result<Vec<T>, ReadError>
where
    T: Element + Pod + TryFrom<i32> + TryFrom<i64>,
{
    match elements {
        Elements::Ints(ints) => narrow(element, shape, ints.values),
        Elements::LongInts(ints) => narrow(element, shape, ints.values),
        other => raw(element, shape, other),
    }
}

fn narrow<W: Copy + std::fmt::Display, T: TryFrom<W>>(
    element: ElementType,
    shape: Shape,
    wide: Vec<W>,
) -> Result<Vec<T>, ReadError> {
    let fit = |value: W| T::try_from(value).map_err(|_| refuse(format!("{value} does not fit {}", element.name())));
    counted(element, shape, wide)?.into_iter().map(fit).collect()
}

/// The format has no list for these; the signed one carries their bits.
fn unsigned_longs(shape: Shape, elements: Elements) -> Result<Vec<u64>, ReadError> {
    let element = ElementType::Number(DType::UInt64);
    match elements {
        Elements::LongInts(ints) => {
            Ok(counted(element, shape, ints.values)?.into_iter().map(i64::cast_unsigned).collect())
        }
        Elements::Ints(ints) => narrow(element, shape, ints.values),
        other => raw(element, shape, other),
    }
}

fn booleans(shape: Shape, elements: Elements) -> Result<Vec<bool>, ReadError> {
    let element = ElementType::Number(DType::Bool);
    match elements {
        Elements::Bools(bools) => counted(element, shape, bools.values),
        other => raw::<u8>(element, shape, other)?
            .into_iter()
            .map(|byte| match byte {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(refuse(format!("{other} is neither true nor false"))),
            })
            .collect(),
    }
}
