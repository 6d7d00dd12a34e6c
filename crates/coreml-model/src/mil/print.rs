//! Writes MIL text.

use std::fmt::{self, Display, Formatter, Write};

use coreml_tensor::{DType, f16};

use super::float::Hexadecimal;
use crate::element::ElementType;
use crate::program::{Opset, PackedTensor, PackedType};
use crate::proto::{self, binding, dimension, elements, immediate, value, value_type};
use coreml_tensor::Shape;

/// How MIL text written by this library names its writer.
pub(super) const MAKER: &str = "coreml-anywhere";

/// How scalars are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalars {
    /// As tensors without dimensions, `tensor<int32, []>(3)`: the text of version 1.0.
    Tensors,
    /// `int32(3)`: the text of version 1.3.
    Plain,
}

impl Scalars {
    /// The form that Core ML's compiler writes of a model of this specification version.
    pub(crate) fn of(specification_version: i32) -> Self {
        if specification_version < Opset::Ios18.specification_version() { Self::Tensors } else { Self::Plain }
    }

    /// The type of a scalar.
    pub(crate) fn of_type(self, element: &str) -> impl Display {
        fmt::from_fn(move |f| match self {
            Self::Tensors => write!(f, "tensor<{element}, []>"),
            Self::Plain => f.write_str(element),
        })
    }
}

/// The program as a compiled model has it. `attributes` gives what stands behind a function's parameters.
pub(crate) fn text(program: &proto::Program, scalars: Scalars, attributes: impl Fn(&str) -> String) -> String {
    let mut text = String::from(match scalars {
        Scalars::Tensors => "program(1.0)\n",
        Scalars::Plain => "program(1.3)\n",
    });
    let (string, maker, version) = (scalars.of_type("string"), Quoted(MAKER), Quoted(env!("CARGO_PKG_VERSION")));
    _ = writeln!(text, "[buildInfo = dict<{string}, {string}>({{{{{maker}, {version}}}}})]");
    text.push_str("{\n");
    for (name, function) in &program.functions {
        let opset = Opset::from_name(&function.opset).map_or(function.opset.as_str(), |opset| opset.text_name());
        let body = function.specializations.values().next();
        _ = write!(text, "    func {}<{opset}>{}", Name(name), Definitions(&function.inputs, Some('('), scalars));
        text.push_str(&attributes(name));
        text.push_str(" {\n");
        if let Some(body) = body {
            body.operations.iter().for_each(|operation| _ = write_operation(&mut text, operation, scalars, 2));
            _ = writeln!(text, "    }} -> ({});", Names(&body.outputs));
        }
    }
    text.push_str("}\n");
    text
}

fn indent(text: &mut String, depth: usize) {
    (0..depth).for_each(|_| text.push_str("    "));
}

fn write_operation(text: &mut String, operation: &proto::Operation, scalars: Scalars, depth: usize) -> fmt::Result {
    indent(text, depth);
    write!(text, "{}", Definitions(&operation.outputs, None, scalars))?;
    if !operation.outputs.is_empty() {
        text.push_str(" = ");
    }
    write!(text, "{}(", Name(&operation.kind))?;
    for (i, (name, argument)) in operation.inputs.iter().enumerate() {
        write!(text, "{}{} = ", comma(i), Name(name))?;
        match argument.bindings.as_slice() {
            [only] => write!(text, "{}", Bound(only, scalars))?,
            several => write!(text, "({})", List(several.iter().map(|binding| Bound(binding, scalars))))?,
        }
    }
    text.push(')');
    if !operation.attributes.is_empty() {
        text.push('[');
        for (i, (name, value)) in operation.attributes.iter().enumerate() {
            write!(text, "{}{} = {}", comma(i), Name(name), Typed(value, scalars))?;
        }
        text.push(']');
    }
    for block in &operation.blocks {
        text.push('\n');
        indent(text, depth + 1);
        writeln!(text, "{} {{", Definitions(&block.inputs, Some('('), scalars))?;
        for operation in &block.operations {
            write_operation(text, operation, scalars, depth + 2)?;
        }
        indent(text, depth + 1);
        write!(text, "}} -> ({})", Names(&block.outputs))?;
    }
    text.push_str(";\n");
    Ok(())
}

fn comma(position: usize) -> &'static str {
    if position == 0 { "" } else { ", " }
}

/// Items with commas between them.
struct List<I>(I);

impl<I: Iterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.clone().enumerate().try_for_each(|(i, item)| write!(f, "{}{item}", comma(i)))
    }
}

/// A name; in quotation marks if it would not be read as one word.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '$' | '@' | '#');
        let begins = self.0.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if begins && self.0.chars().all(plain) && !self.0.contains("//") {
            f.write_str(self.0)
        } else {
            Quoted(self.0).fmt(f)
        }
    }
}

struct Names<'a>(&'a [String]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        List(self.0.iter().map(|name| Name(name))).fmt(f)
    }
}

pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                control if u32::from(control) < 0x20 => write!(f, "\\x{:02x}", u32::from(control))?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')
    }
}

/// Types with names; in parentheses if they are parameters.
struct Definitions<'a>(&'a [proto::NamedType], Option<char>, Scalars);

impl Display for Definitions<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.1.is_some() {
            f.write_char('(')?;
        }
        for (i, value) in self.0.iter().enumerate() {
            write!(f, "{}{} {}", comma(i), Type(value.r#type.as_ref(), self.2), Name(&value.name))?;
        }
        if self.1.is_some() { f.write_char(')') } else { Ok(()) }
    }
}

struct Type<'a>(Option<&'a proto::ValueType>, Scalars);

impl Display for Type<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        use value_type::Kind;

        let of = |ty| Type(ty, self.1);
        match self.0.and_then(|ty| ty.kind.as_ref()) {
            Some(Kind::Tensor(ty)) => {
                let element = ElementType::from_program(ty.data_type).map_or("unknown", ElementType::name);
                match (ty.rank, ty.dims.as_slice()) {
                    (-1, _) => write!(f, "tensor<{element}, [...]>"),
                    (_, []) => self.1.of_type(element).fmt(f),
                    (_, dims) => write!(f, "tensor<{element}, [{}]>", List(dims.iter().map(Size))),
                }
            }
            Some(Kind::List(list)) => match &list.length {
                Some(length) => write!(f, "list<{}, {}>", of(list.element.as_deref()), Size(length)),
                None => write!(f, "list<{}, ?>", of(list.element.as_deref())),
            },
            Some(Kind::Tuple(tuple)) => write!(f, "tuple<{}>", List(tuple.types.iter().map(|ty| of(Some(ty))))),
            Some(Kind::Dictionary(dictionary)) => {
                write!(f, "dict<{}, {}>", of(dictionary.key.as_deref()), of(dictionary.value.as_deref()))
            }
            Some(Kind::State(state)) => write!(f, "state<{}>", of(state.wrapped.as_deref())),
            None => f.write_str("unknown"),
        }
    }
}

struct Size<'a>(&'a proto::Dimension);

impl Display for Size<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Some(dimension::Kind::Constant(constant)) => constant.size.fmt(f),
            Some(dimension::Kind::Unknown(unknown)) if unknown.variadic => f.write_str("..."),
            _ => f.write_char('?'),
        }
    }
}

struct Bound<'a>(&'a proto::Binding, Scalars);

impl Display for Bound<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.to {
            Some(binding::To::Name(name)) => Name(name).fmt(f),
            Some(binding::To::Value(value)) => Typed(value, self.1).fmt(f),
            None => Ok(()),
        }
    }
}

/// A value behind its type.
struct Typed<'a>(&'a proto::Value, Scalars);

impl Display for Typed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", Type(self.0.r#type.as_ref(), self.1), Literal(self.0, self.1))
    }
}

struct Literal<'a>(&'a proto::Value, Scalars);

impl Display for Literal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let literal = match &self.0.kind {
            Some(value::Kind::BlobFile(blob)) => {
                let [string, uint64] = ["string", "uint64"].map(|element| self.1.of_type(element));
                let (path, offset) = (Quoted(&blob.file), blob.offset);
                return write!(f, "BLOBFILE(path = {string}({path}), offset = {uint64}({offset}))");
            }
            Some(value::Kind::Immediate(literal)) => literal,
            None => return Ok(()),
        };
        let of = |value| Literal(value, self.1);
        match &literal.kind {
            Some(immediate::Kind::Tensor(elements)) => {
                let Some(value_type::Kind::Tensor(ty)) = self.0.r#type.as_ref().and_then(|ty| ty.kind.as_ref()) else {
                    return Err(fmt::Error);
                };
                write_elements(f, ty, elements)
            }
            Some(immediate::Kind::List(values)) => write!(f, "[{}]", List(values.values.iter().map(of))),
            Some(immediate::Kind::Tuple(values)) => write!(f, "({})", List(values.values.iter().map(of))),
            Some(immediate::Kind::Dictionary(pairs)) => {
                f.write_char('{')?;
                for (i, pair) in pairs.values.iter().enumerate() {
                    if let (Some(key), Some(value)) = (&pair.key, &pair.value) {
                        write!(f, "{}{{{}, {}}}", comma(i), of(key), of(value))?;
                    }
                }
                f.write_char('}')
            }
            None => Ok(()),
        }
    }
}

fn write_elements(f: &mut Formatter<'_>, ty: &proto::TensorType, elements: &proto::Elements) -> fmt::Result {
    use elements::Kind;

    let size = |dim: &proto::Dimension| match &dim.kind {
        Some(dimension::Kind::Constant(constant)) => usize::try_from(constant.size).unwrap_or(0),
        _ => 0,
    };
    let dims: Vec<usize> = ty.dims.iter().map(size).collect();
    let element = ElementType::from_program(ty.data_type);
    let unsigned = element == Some(ElementType::Number(DType::UInt64));
    match &elements.kind {
        Some(Kind::Floats(floats)) => rows(f, &dims, &floats.values, |value| Hexadecimal((*value).into())),
        Some(Kind::Doubles(doubles)) => rows(f, &dims, &doubles.values, |value| Hexadecimal(*value)),
        Some(Kind::Ints(ints)) => rows(f, &dims, &ints.values, |value| *value),
        Some(Kind::LongInts(ints)) if unsigned => rows(f, &dims, &ints.values, |value| value.cast_unsigned()),
        Some(Kind::LongInts(ints)) => rows(f, &dims, &ints.values, |value| *value),
        Some(Kind::Bools(bools)) => rows(f, &dims, &bools.values, |value| *value),
        Some(Kind::Strings(strings)) => rows(f, &dims, &strings.values, |value| Quoted(value)),
        Some(Kind::Bytes(bytes)) => match element {
            Some(ElementType::Number(DType::Float16)) => {
                let halves: Vec<f64> = pairs(&bytes.values).map(|bits| f16::from_bits(bits).to_f64()).collect();
                rows(f, &dims, &halves, |value| Hexadecimal(*value))
            }
            Some(ElementType::Packed(packed))
                if !matches!(packed, PackedType::Float8E4M3Fn | PackedType::Float8E5M2) =>
            {
                let shape = Shape::try_new(&dims).map_err(|_| fmt::Error)?;
                let packed = PackedTensor { ty: packed, shape, bytes: bytes.values.clone() };
                rows(f, &dims, &packed.unpack(), |value| *value)
            }
            Some(ElementType::Number(DType::Int8)) => rows(f, &dims, &bytes.values, |value| value.cast_signed()),
            Some(ElementType::Number(DType::UInt8)) => rows(f, &dims, &bytes.values, |value| *value),
            Some(ElementType::Number(DType::Int16)) => {
                let values: Vec<i16> = pairs(&bytes.values).map(u16::cast_signed).collect();
                rows(f, &dims, &values, |value| *value)
            }
            Some(ElementType::Number(DType::UInt16)) => {
                let values: Vec<u16> = pairs(&bytes.values).collect();
                rows(f, &dims, &values, |value| *value)
            }
            _ => Err(fmt::Error),
        },
        None => rows(f, &dims, &[0; 0], |value| *value),
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair))
}

/// Rows within rows, in row-major order.
fn rows<'a, T, D: Display>(
    f: &mut Formatter<'_>,
    dims: &[usize],
    values: &'a [T],
    show: fn(&'a T) -> D,
) -> fmt::Result {
    let Some((&outer, inner)) = dims.split_first() else {
        return values.first().map_or(Ok(()), |value| show(value).fmt(f));
    };
    let stride = inner.iter().product::<usize>();
    f.write_char('[')?;
    for i in 0..outer {
        f.write_str(comma(i))?;
        rows(f, inner, values.get(i * stride..(i + 1) * stride).unwrap_or_default(), show)?;
    }
    f.write_char(']')
}
