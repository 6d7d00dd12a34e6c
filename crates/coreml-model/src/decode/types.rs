//! Types and shapes.

use coreml_tensor::{DType, MAX_RANK, Shape, ShapeError};

use crate::element::ElementType;
use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::program::{Dim, TensorType, ValueType};
use crate::proto;

fn refuse(message: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Program, message)
}

/// The type of a value. `None` is a type the file leaves out.
pub(crate) fn value_type(ty: Option<&proto::ValueType>, limits: &Limits) -> Result<ValueType, ReadError> {
    use proto::value_type::Kind;

    let kind = ty.and_then(|ty| ty.kind.as_ref()).ok_or_else(|| refuse("has no type"))?;
    Ok(match kind {
        Kind::Tensor(ty) if is_unranked(ty) => match element_type(ty)? {
            ElementType::Number(dtype) => ValueType::Unranked(dtype),
            _ => return Err(refuse("only tensors of numbers may be of variable rank")),
        },
        Kind::Tensor(ty) => {
            let (element, dims) = tensor_type(ty, limits)?;
            tensor(element, dims)
        }
        Kind::List(ty) => {
            let length = ty.length.as_ref().map(dimension).transpose()?.and_then(|dim| match dim {
                Dim::Fixed(length) => u64::try_from(length).ok(),
                Dim::Unknown => None,
            });
            ValueType::List(Box::new(value_type(ty.element.as_deref(), limits)?), length)
        }
        Kind::Tuple(ty) => {
            let types = ty.types.iter().map(|ty| value_type(Some(ty), limits));
            ValueType::Tuple(types.collect::<Result<_, _>>()?)
        }
        Kind::Dictionary(ty) => ValueType::Dictionary(
            Box::new(value_type(ty.key.as_deref(), limits)?),
            Box::new(value_type(ty.value.as_deref(), limits)?),
        ),
        Kind::State(ty) => match value_type(ty.wrapped.as_deref(), limits)? {
            ValueType::Tensor(ty) => ValueType::State(ty),
            _ => return Err(refuse("is a state of something other than a tensor of numbers")),
        },
    })
}

/// The type of a tensor of these elements.
pub(crate) fn tensor(element: ElementType, dims: Vec<Dim>) -> ValueType {
    match element {
        ElementType::Number(dtype) => ValueType::Tensor(TensorType { dtype, dims }),
        ElementType::BFloat16 => ValueType::Tensor(TensorType { dtype: DType::Float32, dims }),
        ElementType::Packed(ty) => ValueType::Packed(ty, dims),
        ElementType::String => ValueType::Strings(dims),
    }
}

/// Whether a tensor's rank is not known: writers say so by the rank -1, or by a dimension that stands for several.
fn is_unranked(ty: &proto::TensorType) -> bool {
    use proto::dimension::Kind;

    let variadic = |dim: &proto::Dimension| matches!(&dim.kind, Some(Kind::Unknown(unknown)) if unknown.variadic);
    ty.rank == -1 || ty.dims.iter().any(variadic)
}

fn element_type(ty: &proto::TensorType) -> Result<ElementType, ReadError> {
    ElementType::from_program(ty.data_type)
        .ok_or_else(|| refuse(format!("data type {} is not one this library knows", ty.data_type)))
}

/// Element type and dimensions as the file has them, before `bfloat16` becomes `float32`.
pub(crate) fn tensor_type(ty: &proto::TensorType, limits: &Limits) -> Result<(ElementType, Vec<Dim>), ReadError> {
    let element = element_type(ty)?;
    let rank = usize::try_from(ty.rank).map_err(|_| refuse(format!("rank {} is negative", ty.rank)))?;
    let limit = limits.rank.min(MAX_RANK);
    if rank.max(ty.dims.len()) > limit {
        let message = format!("rank {} is above the limit of {limit}", rank.max(ty.dims.len()));
        return Err(ReadError::new(ReadErrorKind::Limit, message));
    }
    if rank != ty.dims.len() {
        return Err(refuse(format!("rank is {rank}, but {} dimensions are given", ty.dims.len())));
    }
    let dims: Vec<Dim> = ty.dims.iter().map(dimension).collect::<Result<_, _>>()?;
    sized(&dims, |dim| Ok(if let Dim::Fixed(size) = dim { size } else { 1 }))?;
    Ok((element, dims))
}

/// The shape of dimensions that have these sizes, if its elements can be counted.
fn sized(dims: &[Dim], size: impl Fn(Dim) -> Result<usize, ReadError>) -> Result<Shape, ReadError> {
    // Every value of a program comes by here: no memory is asked for.
    let mut sizes = [0; MAX_RANK];
    for (to, &dim) in sizes.iter_mut().zip(dims) {
        *to = size(dim)?;
    }
    let dims = sizes.get(..dims.len()).ok_or_else(|| refuse(format!("rank {} is above {MAX_RANK}", dims.len())))?;
    Shape::try_new(dims).map_err(|error| match error {
        ShapeError::Overflow => {
            ReadError::new(ReadErrorKind::Limit, format!("dimensions {dims:?} multiply beyond the address space"))
        }
        other => ReadError::new(ReadErrorKind::Limit, other.to_string()),
    })
}

/// The shape of a constant, all of whose dimensions must be known.
pub(crate) fn fixed_shape(dims: &[Dim]) -> Result<Shape, ReadError> {
    let unknown = || refuse("a constant has a dimension of unknown size");
    sized(dims, |dim| if let Dim::Fixed(size) = dim { Ok(size) } else { Err(unknown()) })
}

fn dimension(dim: &proto::Dimension) -> Result<Dim, ReadError> {
    use proto::dimension::Kind;

    match &dim.kind {
        Some(Kind::Constant(constant)) => usize::try_from(constant.size)
            .map(Dim::Fixed)
            .map_err(|_| ReadError::new(ReadErrorKind::Limit, format!("dimension {} is too large", constant.size))),
        Some(Kind::Unknown(_)) => Ok(Dim::Unknown),
        None => Err(refuse("a dimension is neither known nor unknown")),
    }
}
