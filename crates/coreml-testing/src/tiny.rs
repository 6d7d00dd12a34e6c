//! A model of a few bytes, for tests of everything but arithmetic: written here, so that they need no file.

/// The bytes of an `.mlmodel` that takes a multi-array `x` of `shape` and gives `y`: the element-wise operations
/// `kinds` (`tanh`, `relu`, …), one after another.
///
/// # Panics
/// Without operations.
pub fn elementwise_model(shape: &[usize], kinds: &[&str]) -> Vec<u8> {
    assert!(!kinds.is_empty(), "a model of no operation");
    // Field numbers are those of the format; 65568 and 11 are its two names for f32.
    let array = [bytes(1, &shape.iter().flat_map(|&n| varint(n)).collect::<Vec<_>>()), number(2, 65568)].concat();
    let feature = |name: &str| [bytes(1, name.as_bytes()), bytes(3, &bytes(5, &array))].concat();
    let description = [bytes(1, &feature("x")), bytes(10, &feature("y"))].concat();
    let dims: Vec<u8> = shape.iter().flat_map(|&n| bytes(3, &bytes(1, &number(1, n)))).collect();
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
    let block = [bytes(2, b"y"), operations].concat();
    let specialization = [bytes(1, b"CoreML5"), bytes(2, &block)].concat();
    let function = [bytes(1, &value("x")), bytes(2, b"CoreML5"), bytes(3, &specialization)].concat();
    let main = [bytes(1, b"main"), bytes(2, &function)].concat();
    let program = [number(1, 1), bytes(2, &main)].concat();
    [number(1, 6), bytes(2, &description), bytes(502, &program)].concat()
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
