//! Programs as text, similar to MIL: one operation a line, small constants inline.

use std::fmt::{self, Display, Formatter, Write};

use coreml_tensor::{DataView, Tensor};

use super::{Argument, Block, Constant, Dim, Function, Operation, Program, TensorType, ValueId, ValueType};

/// Constants of more elements are shown by type alone.
const SHOWN: usize = 8;

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (position, (name, function)) in self.functions.iter().enumerate() {
            if position > 0 {
                f.write_char('\n')?;
            }
            f.write_str(name)?;
            function.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Function {
    /// The function without its name, which it does not know.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>(", self.opset)?;
        self.definitions(f, &self.inputs)?;
        f.write_str(") ")?;
        self.block(f, &self.body, 0)?;
        f.write_char('\n')
    }
}

impl Function {
    fn block(&self, f: &mut Formatter<'_>, block: &Block, depth: usize) -> fmt::Result {
        f.write_str("{\n")?;
        for operation in &block.operations {
            self.operation(f, operation, depth + 1)?;
        }
        indent(f, depth)?;
        f.write_str("} -> (")?;
        for (position, &id) in block.outputs.iter().enumerate() {
            separate(f, position)?;
            self.reference(f, id)?;
        }
        f.write_char(')')
    }

    fn operation(&self, f: &mut Formatter<'_>, operation: &Operation, depth: usize) -> fmt::Result {
        indent(f, depth)?;
        self.definitions(f, &operation.outputs)?;
        if !operation.outputs.is_empty() {
            f.write_str(" = ")?;
        }
        write!(f, "{}(", operation.kind)?;
        for (position, (parameter, arguments)) in operation.inputs.iter().enumerate() {
            separate(f, position)?;
            write!(f, "{parameter}=")?;
            match arguments.as_slice() {
                [argument] => self.argument(f, argument)?,
                several => {
                    f.write_char('(')?;
                    for (position, argument) in several.iter().enumerate() {
                        separate(f, position)?;
                        self.argument(f, argument)?;
                    }
                    f.write_char(')')?;
                }
            }
        }
        f.write_char(')')?;
        if !operation.attributes.is_empty() {
            f.write_char('[')?;
            for (position, (key, constant)) in operation.attributes.iter().enumerate() {
                separate(f, position)?;
                write!(f, "{key}={constant}")?;
            }
            f.write_char(']')?;
        }
        for block in &operation.blocks {
            f.write_str(" (")?;
            self.definitions(f, &block.inputs)?;
            f.write_str(") ")?;
            self.block(f, block, depth)?;
        }
        f.write_char('\n')
    }

    fn argument(&self, f: &mut Formatter<'_>, argument: &Argument) -> fmt::Result {
        match argument {
            Argument::Value(id) => self.reference(f, *id),
            Argument::Constant(constant) => constant.fmt(f),
        }
    }

    fn reference(&self, f: &mut Formatter<'_>, id: ValueId) -> fmt::Result {
        write!(f, "%{}", self.value(id).name)
    }

    fn definitions(&self, f: &mut Formatter<'_>, ids: &[ValueId]) -> fmt::Result {
        for (position, &id) in ids.iter().enumerate() {
            separate(f, position)?;
            self.reference(f, id)?;
            write!(f, ": {}", self.value(id).ty)?;
        }
        Ok(())
    }
}

impl Display for ValueType {
    /// Dimensions, then the element type: `(1,3,256,256,fp32)`; `?` is a dimension decided by the inputs.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(ty) => ty.fmt(f),
            Self::Unranked(dtype) => write!(f, "(...,{dtype})"),
            Self::Packed(ty, shape) => dims(f, shape, ty.name()),
            Self::Strings(shape) => dims(f, shape, "string"),
            Self::List(element, Some(length)) => write!(f, "list<{element}, {length}>"),
            Self::List(element, None) => write!(f, "list<{element}>"),
            Self::Tuple(types) => {
                f.write_str("tuple<")?;
                for (position, ty) in types.iter().enumerate() {
                    separate(f, position)?;
                    ty.fmt(f)?;
                }
                f.write_char('>')
            }
            Self::Dictionary(key, value) => write!(f, "dict<{key}, {value}>"),
            Self::State(ty) => write!(f, "state<{ty}>"),
        }
    }
}

impl Display for TensorType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        dims(f, &self.dims, self.dtype.name())
    }
}

impl Display for Constant {
    /// Numbers and strings in row-major order if there are few of them; `BLOB fp16[48, 3, 3, 3]` otherwise.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(tensor) if tensor.view().data().len() <= SHOWN => numbers(f, tensor),
            Self::Tensor(tensor) => write!(f, "BLOB {}{}", tensor.dtype(), tensor.shape()),
            Self::Packed(packed) => write!(f, "BLOB {}{}", packed.ty.name(), packed.shape),
            Self::Strings(shape, values) => match (shape.rank(), values.as_slice()) {
                (0, [value]) => write!(f, "{value:?}"),
                (_, values) if values.len() <= SHOWN => write!(f, "{values:?}"),
                _ => write!(f, "BLOB string{shape}"),
            },
            Self::List(values) if values.len() <= SHOWN => {
                f.write_char('[')?;
                for (position, value) in values.iter().enumerate() {
                    separate(f, position)?;
                    value.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::List(values) => write!(f, "list of {}", values.len()),
            Self::Dictionary(pairs) => write!(f, "dict of {}", pairs.len()),
        }
    }
}

fn numbers(f: &mut Formatter<'_>, tensor: &Tensor) -> fmt::Result {
    fn list<T: fmt::Debug>(f: &mut Formatter<'_>, rank: usize, values: &[T]) -> fmt::Result {
        match (rank, values) {
            (0, [value]) => write!(f, "{value:?}"),
            _ => write!(f, "{values:?}"),
        }
    }
    let rank = tensor.shape().rank();
    match tensor.view().data() {
        DataView::Bool(values) => list(f, rank, values),
        DataView::Int8(values) => list(f, rank, values),
        DataView::UInt8(values) => list(f, rank, values),
        DataView::Int16(values) => list(f, rank, values),
        DataView::UInt16(values) => list(f, rank, values),
        DataView::Int32(values) => list(f, rank, values),
        DataView::UInt32(values) => list(f, rank, values),
        DataView::Int64(values) => list(f, rank, values),
        DataView::UInt64(values) => list(f, rank, values),
        DataView::Float16(values) => list(f, rank, values),
        DataView::Float32(values) => list(f, rank, values),
        DataView::Float64(values) => list(f, rank, values),
        _ => write!(f, "BLOB {}{}", tensor.dtype(), tensor.shape()),
    }
}

fn dims(f: &mut Formatter<'_>, dims: &[Dim], element: &str) -> fmt::Result {
    f.write_char('(')?;
    for dim in dims {
        match dim {
            Dim::Fixed(size) => write!(f, "{size},")?,
            Dim::Unknown => f.write_str("?,")?,
        }
    }
    write!(f, "{element})")
}

fn separate(f: &mut Formatter<'_>, position: usize) -> fmt::Result {
    if position > 0 { f.write_str(", ") } else { Ok(()) }
}

fn indent(f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("  "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coreml_tensor::{DType, Shape};

    use super::super::{PackedTensor, PackedType};
    use super::*;

    #[test]
    fn types_are_shown() {
        let dims = || vec![Dim::Fixed(2), Dim::Unknown];
        let tensor = ValueType::Tensor(TensorType { dtype: DType::Float16, dims: dims() });
        let scalar = ValueType::Strings(vec![]);
        let cases = [
            (ValueType::Packed(PackedType::Int4, dims()), "(2,?,int4)"),
            (ValueType::List(Box::new(scalar.clone()), Some(3)), "list<(string), 3>"),
            (ValueType::List(Box::new(tensor.clone()), None), "list<(2,?,fp16)>"),
            (ValueType::Tuple(vec![scalar.clone(), tensor.clone()]), "tuple<(string), (2,?,fp16)>"),
            (ValueType::Dictionary(Box::new(scalar), Box::new(tensor)), "dict<(string), (2,?,fp16)>"),
        ];
        for (ty, expected) in cases {
            assert_eq!(ty.to_string(), expected);
        }
    }

    #[test]
    fn constants_are_shown_if_they_are_small() {
        let numbers = |count: usize| Constant::Tensor(Arc::new(Tensor::zeros(DType::Int8, Shape::new(&[count]))));
        let strings = |rank: &[usize], count| Constant::Strings(Shape::new(rank), vec!["a\"b".to_owned(); count]);
        let ty = PackedType::UInt1;
        let packed = PackedTensor { ty, shape: Shape::new(&[8]), bytes: vec![0] };
        let cases = [
            (numbers(2), "[0, 0]"),
            (numbers(9), "BLOB int8[9]"),
            (Constant::Packed(Arc::new(packed)), "BLOB uint1[8]"),
            (strings(&[], 1), r#""a\"b""#),
            (strings(&[1], 1), r#"["a\"b"]"#),
            (strings(&[9], 9), "BLOB string[9]"),
            (Constant::List(vec![strings(&[], 1); 2]), r#"["a\"b", "a\"b"]"#),
            (Constant::List(vec![strings(&[], 1); 9]), "list of 9"),
            (Constant::Dictionary(vec![]), "dict of 0"),
        ];
        for (constant, expected) in cases {
            assert_eq!(constant.to_string(), expected);
        }
    }
}
