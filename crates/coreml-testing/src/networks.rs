//! Neural networks of a few layers, in the file format.

/// A message in the wire format.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// With a number, which may be negative, or a truth.
    pub fn number(mut self, field: u32, value: impl Into<i64>) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value.into().cast_unsigned());
        self
    }

    /// With a float.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.varint(u64::from(field) << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// With a string.
    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// With a message.
    pub fn message(self, field: u32, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// With numbers in a row.
    pub fn numbers(self, field: u32, values: &[i64]) -> Self {
        let mut packed = Self::default();
        values.iter().for_each(|&value| packed.varint(value.cast_unsigned()));
        self.bytes(field, &packed.0)
    }

    /// With weights in single precision.
    pub fn weights(self, field: u32, values: &[f32]) -> Self {
        let floats: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.message(field, &Self::default().bytes(1, &floats))
    }
}

/// A network under construction, or one inside a layer.
#[derive(Debug, Clone, Default)]
pub struct Network {
    layers: Message,
    features: Message,
}

impl Network {
    /// A network without layers.
    pub fn new() -> Self {
        Self::default()
    }

    fn feature(mut self, field: u32, name: &str, kind: &Message) -> Self {
        let feature = Message::default().text(1, name).message(3, kind);
        self.features = self.features.message(field, &feature);
        self
    }

    fn array(shape: &[i64]) -> Message {
        const FLOAT32: i64 = 65568;
        Message::default().message(5, &Message::default().numbers(1, shape).number(2, FLOAT32))
    }

    /// In shades of grey.
    fn image([height, width]: [i64; 2]) -> Message {
        const GRAYSCALE: i64 = 10;
        Message::default().message(4, &Message::default().number(1, width).number(2, height).number(3, GRAYSCALE))
    }

    /// With an input, an array of floats.
    pub fn input(self, name: &str, shape: &[i64]) -> Self {
        self.feature(1, name, &Self::array(shape))
    }

    /// With an input, an image in shades of grey.
    pub fn input_image(self, name: &str, size: [i64; 2]) -> Self {
        self.feature(1, name, &Self::image(size))
    }

    /// With an output, an array of floats.
    pub fn output(self, name: &str, shape: &[i64]) -> Self {
        self.feature(10, name, &Self::array(shape))
    }

    /// With an output, an image in shades of grey.
    pub fn output_image(self, name: &str, size: [i64; 2]) -> Self {
        self.feature(10, name, &Self::image(size))
    }

    /// With a layer, whose type is a number.
    pub fn layer(mut self, tag: u32, parameters: &Message, inputs: &[&str], outputs: &[&str]) -> Self {
        let mut layer = Message::default().text(1, outputs.first().copied().unwrap_or("nothing"));
        layer = inputs.iter().fold(layer, |layer, name| layer.text(2, name));
        layer = outputs.iter().fold(layer, |layer, name| layer.text(3, name));
        self.layers = self.layers.message(1, &layer.message(tag, parameters));
        self
    }

    /// With a layer without parameters.
    pub fn plain(self, tag: u32, inputs: &[&str], outputs: &[&str]) -> Self {
        self.layer(tag, &Message::default(), inputs, outputs)
    }

    /// The layers as a parameter of a layer.
    pub fn nested(&self) -> Message {
        self.layers.clone()
    }

    /// The model file; with exact shapes, or with the five axes of old.
    pub fn model(&self, exact: bool) -> Vec<u8> {
        self.mapped(exact, exact)
    }

    /// As [`Network::model`], with arrays in one way and images in the other.
    pub fn mapped(&self, exact_arrays: bool, exact_images: bool) -> Vec<u8> {
        let network = self.layers.clone().number(5, exact_arrays).number(6, exact_images);
        Message::default().number(1, 5).message(2, &self.features).message(500, &network).0
    }
}
