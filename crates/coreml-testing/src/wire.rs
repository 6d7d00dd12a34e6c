//! Builds messages in protobuf's wire format, and models from them: for model types without an available converter, and for
//! files that no converter would write.

/// A message under construction.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A message without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes, whatever they are.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, wire: u64) {
        self.varint(u64::from(field) << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, 0);
        self.varint(value.cast_unsigned());
        self
    }

    /// A number in double precision.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes, text or a message.
    pub fn raw(mut self, field: u32, bytes: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// Text.
    pub fn text(self, field: u32, text: &str) -> Self {
        self.raw(field, text.as_bytes())
    }

    /// A message.
    pub fn message(self, field: u32, message: &Self) -> Self {
        self.raw(field, &message.0)
    }

    /// Numbers in double precision, packed.
    pub fn doubles(self, field: u32, values: &[f64]) -> Self {
        self.raw(field, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Numbers in single precision, packed.
    pub fn floats(self, field: u32, values: &[f32]) -> Self {
        self.raw(field, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Integers, packed.
    pub fn ints(self, field: u32, values: &[i64]) -> Self {
        let mut packed = Self::new();
        values.iter().for_each(|value| packed.varint(value.cast_unsigned()));
        self.raw(field, &packed.0)
    }

    /// A vector of strings, as the format has lists of labels.
    pub fn strings(self, field: u32, values: &[&str]) -> Self {
        self.message(field, &values.iter().fold(Self::new(), |vector, value| vector.text(1, value)))
    }

    /// A vector of integers, as the format has lists of labels.
    pub fn integers(self, field: u32, values: &[i64]) -> Self {
        self.message(field, &Self::new().ints(1, values))
    }
}

/// The type of a feature.
#[derive(Debug, Clone, Copy)]
pub enum Type<'a> {
    /// A 64-bit integer.
    Int64,
    /// A double.
    Double,
    /// A string.
    String,
    /// An array of doubles of this shape; of any if it has no dimensions.
    Array(&'a [i64]),
    /// An array of single-precision numbers.
    Floats(&'a [i64]),
    /// A dictionary by strings.
    ByString,
    /// A dictionary by integers.
    ByInt64,
    /// A sequence of strings.
    Strings,
    /// A sequence of integers.
    Integers,
}

/// A feature of this name and type.
pub fn feature(name: &str, ty: Type<'_>) -> Message {
    feature_with(name, ty, false)
}

/// As [`feature`], but it may be left out.
pub fn optional(name: &str, ty: Type<'_>) -> Message {
    feature_with(name, ty, true)
}

fn feature_with(name: &str, ty: Type<'_>, optional: bool) -> Message {
    let empty = Message::new();
    let array = |shape: &[i64], dtype: i64| Message::new().ints(1, shape).int(2, dtype);
    let ty = match ty {
        Type::Int64 => Message::new().message(1, &empty),
        Type::Double => Message::new().message(2, &empty),
        Type::String => Message::new().message(3, &empty),
        Type::Array(shape) => Message::new().message(5, &array(shape, 65600)),
        Type::Floats(shape) => Message::new().message(5, &array(shape, 65568)),
        Type::ByInt64 => Message::new().message(6, &Message::new().message(1, &empty)),
        Type::ByString => Message::new().message(6, &Message::new().message(2, &empty)),
        Type::Integers => Message::new().message(7, &Message::new().message(1, &empty)),
        Type::Strings => Message::new().message(7, &Message::new().message(3, &empty)),
    };
    let ty = if optional { ty.int(1000, 1) } else { ty };
    Message::new().text(1, name).message(3, &ty)
}

/// A model: the number of its type, its parameters, its inputs and outputs, and which outputs are the predicted feature and
/// its probabilities.
pub fn model(tag: u32, parameters: &Message, inputs: &[Message], outputs: &[Message], predicted: &[&str]) -> Message {
    let mut description = Message::new();
    for input in inputs {
        description = description.message(1, input);
    }
    for output in outputs {
        description = description.message(10, output);
    }
    for (field, name) in [11, 12].into_iter().zip(predicted) {
        description = description.text(field, name);
    }
    Message::new().int(1, 4).message(2, &description).message(tag, parameters)
}

/// The parameters of a pipeline of these models.
pub fn members(models: &[Message]) -> Message {
    models.iter().fold(Message::new(), |pipeline, model| pipeline.message(1, model))
}
