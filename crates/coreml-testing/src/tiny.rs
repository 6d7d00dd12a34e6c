//! Models of a few bytes, for tests of everything but arithmetic. They are built in code, so that they need no file and can
//! be unlike anything a converter makes.

/// The bytes of an `.mlmodel` that takes a multi-array `x` of `shape` and gives `y`: the element-wise operations
/// `kinds` (`tanh`, `relu`, …), one after another.
///
/// # Panics
/// Without operations.
pub fn elementwise_model(shape: &[usize], kinds: &[&str]) -> Vec<u8> {
    elementwise(shape, kinds, None)
}

/// As [`elementwise_model`], with a first dimension from `rows.0` to `rows.1`.
///
/// # Panics
/// Without operations.
pub fn elementwise_rows_model(rows: (usize, usize), shape: &[usize], kinds: &[&str]) -> Vec<u8> {
    elementwise(shape, kinds, Some(rows))
}

fn elementwise(shape: &[usize], kinds: &[&str], rows: Option<(usize, usize)>) -> Vec<u8> {
    assert!(!kinds.is_empty(), "a model of no operation");
    // Field numbers are those of the format; 65568 and 11 are its two names for f32.
    let range = |(least, most): (usize, usize)| bytes(1, &[number(1, least), number(2, most)].concat());
    let ranges = rows.map_or_else(Vec::new, |rows| {
        let fixed = shape[1..].iter().flat_map(|&n| range((n, n)));
        bytes(31, &range(rows).into_iter().chain(fixed).collect::<Vec<_>>())
    });
    let dims: Vec<u8> = shape.iter().flat_map(|&n| varint(n)).collect();
    let array = [bytes(1, &dims), number(2, 65568), ranges].concat();
    let feature = |name: &str| [bytes(1, name.as_bytes()), bytes(3, &bytes(5, &array))].concat();
    let description = [bytes(1, &feature("x")), bytes(10, &feature("y"))].concat();
    let dim = |(i, &n): (usize, &usize)| match rows {
        // An unknown dimension, whose only field is left at its default.
        Some(_) if i == 0 => bytes(3, &bytes(2, &[])),
        _ => bytes(3, &bytes(1, &number(1, n))),
    };
    let dims: Vec<u8> = shape.iter().enumerate().flat_map(dim).collect();
    let ty = bytes(1, &[number(1, 11), number(2, shape.len()), dims].concat());
    let value = |name: &str| [bytes(1, name.as_bytes()), bytes(2, &ty)].concat();
    let name = |i: usize| match i {
        0 => "x".to_owned(),
        i if i == kinds.len() => "y".to_owned(),
        i => format!("v{i}"),
    };
    let operation = |(i, kind): (usize, &&str)| {
        let argument = bytes(1, &bytes(1, name(i).as_bytes()));
        let input = [bytes(1, b"x"), bytes(2, &argument)].concat();
        bytes(3, &[bytes(1, kind.as_bytes()), bytes(2, &input), bytes(3, &value(&name(i + 1)))].concat())
    };
    let operations: Vec<u8> = kinds.iter().enumerate().flat_map(operation).collect();
    model(&description, &value("x"), &[bytes(2, b"y"), operations].concat())
}

/// A model whose only function has this parameter and this body.
fn model(description: &[u8], parameter: &[u8], block: &[u8]) -> Vec<u8> {
    let specialization = [bytes(1, b"CoreML5"), bytes(2, block)].concat();
    let function = [bytes(1, parameter), bytes(2, b"CoreML5"), bytes(3, &specialization)].concat();
    let main = [bytes(1, b"main"), bytes(2, &function)].concat();
    let program = [number(1, 1), bytes(2, &main)].concat();
    [number(1, 6), bytes(2, description), bytes(502, &program)].concat()
}

/// A value as an operation of a [`Body`] declares it.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// One or more `fp32`, in one dimension.
    Floats(usize),
    /// One or more `int32`, in one dimension.
    Ints(usize),
    /// One boolean without dimensions.
    Bool,
    /// A string without dimensions.
    Text,
}

impl Kind {
    fn encoded(self) -> Vec<u8> {
        let (dtype, count) = match self {
            Self::Floats(count) => (11, Some(count)),
            Self::Ints(count) => (23, Some(count)),
            Self::Bool => (1, None),
            Self::Text => (2, None),
        };
        let dims = count.map_or_else(Vec::new, |count| bytes(3, &bytes(1, &number(1, count))));
        bytes(1, &[number(1, dtype), number(2, usize::from(count.is_some())), dims].concat())
    }
}

/// The operations of a function or of a nested block, in the format's encoding.
#[derive(Debug, Clone, Default)]
pub struct Body {
    parameters: Vec<u8>,
    operations: Vec<u8>,
    results: Vec<u8>,
}

impl Body {
    /// No operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// A parameter: a loop variable, in a nested block.
    pub fn parameter(mut self, name: &str, kind: Kind) -> Self {
        self.parameters.extend(bytes(1, &named(name, kind)));
        self
    }

    /// The constant `name` of these integers.
    pub fn ints(self, name: &str, values: &[usize]) -> Self {
        let packed: Vec<u8> = values.iter().flat_map(|&value| varint(value)).collect();
        self.constant(name, Kind::Ints(values.len()), &bytes(2, &bytes(1, &packed)))
    }

    /// The constant `name`, one string.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.constant(name, Kind::Text, &bytes(4, &bytes(1, value.as_bytes())))
    }

    /// The constant `name`, true.
    pub fn truth(self, name: &str) -> Self {
        self.constant(name, Kind::Bool, &bytes(3, &bytes(1, &[1])))
    }

    fn constant(mut self, name: &str, kind: Kind, tensor: &[u8]) -> Self {
        let value = [bytes(2, &kind.encoded()), bytes(3, &bytes(1, tensor))].concat();
        let attribute = [bytes(1, b"val"), bytes(2, &value)].concat();
        let operation = [bytes(1, b"const"), bytes(3, &named(name, kind)), bytes(5, &attribute)].concat();
        self.operations.extend(bytes(3, &operation));
        self
    }

    /// An operation: its parameters with the names of their arguments, its nested blocks, its results.
    pub fn operation(
        mut self,
        kind: &str,
        inputs: &[(&str, &[&str])],
        blocks: &[Self],
        outputs: &[(&str, Kind)],
    ) -> Self {
        let input = |(parameter, arguments): &(&str, &[&str])| {
            let argument: Vec<u8> = arguments.iter().flat_map(|name| bytes(1, &bytes(1, name.as_bytes()))).collect();
            bytes(2, &[bytes(1, parameter.as_bytes()), bytes(2, &argument)].concat())
        };
        let inputs: Vec<u8> = inputs.iter().flat_map(input).collect();
        let outputs: Vec<u8> = outputs.iter().flat_map(|(name, kind)| bytes(3, &named(name, *kind))).collect();
        let blocks: Vec<u8> = blocks.iter().flat_map(|block| bytes(4, &block.encoded())).collect();
        let operation = [bytes(1, kind.as_bytes()), inputs, outputs, blocks].concat();
        self.operations.extend(bytes(3, &operation));
        self
    }

    /// A result.
    pub fn result(mut self, name: &str) -> Self {
        self.results.extend(bytes(2, name.as_bytes()));
        self
    }

    fn encoded(&self) -> Vec<u8> {
        [self.parameters.as_slice(), &self.results, &self.operations].concat()
    }

    /// The bytes of an `.mlmodel` that takes the multi-array `x` of this kind and gives `y`, with this as its function's
    /// body.
    pub fn model(&self, x: Kind) -> Vec<u8> {
        let (count, dtype) = match x {
            Kind::Floats(count) => (count, 65568),
            Kind::Ints(count) => (count, 131_104),
            Kind::Bool | Kind::Text => (1, 65568),
        };
        let array = [bytes(1, &varint(count)), number(2, dtype)].concat();
        let input = [bytes(1, b"x"), bytes(3, &bytes(5, &array))].concat();
        // The shape of what comes out is left open.
        let output = [bytes(1, b"y"), bytes(3, &bytes(5, &number(2, 65568)))].concat();
        let description = [bytes(1, &input), bytes(10, &output)].concat();
        model(&description, &named("x", x), &self.encoded())
    }
}

fn named(name: &str, kind: Kind) -> Vec<u8> {
    [bytes(1, name.as_bytes()), bytes(2, &kind.encoded())].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that holds a number.
fn number(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that holds bytes: a string, a message or packed numbers.
fn bytes(field: usize, contents: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(contents.len()), contents.to_vec()].concat()
}
