//! Models whose answers are known because they are constants.

use coreml_testing::wire::{Message, Type, feature, members, optional};

/// What a model is given and gives, with notes of its author's.
fn description(inputs: &[Message], outputs: &[Message], notes: &[(&str, &str)]) -> Message {
    let mut description = Message::new();
    for input in inputs {
        description = description.message(1, input);
    }
    for output in outputs {
        description = description.message(10, output);
    }
    let note =
        |all: Message, (key, value): &(&str, &str)| all.message(100, &Message::new().text(1, key).text(2, value));
    description.message(100, &notes.iter().fold(Message::new(), note))
}

/// An image of red, green and blue.
fn image(name: &str, [width, height]: [i64; 2]) -> Message {
    let size = Message::new().int(1, width).int(2, height).int(3, 20);
    Message::new().text(1, name).message(3, &Message::new().message(4, &size))
}

/// An output of the same numbers, whatever the input.
pub(crate) struct Constant<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [i64],
    pub(crate) values: &'a [f32],
}

/// A network that takes an image and does not look at it.
pub(crate) fn constants(size: [i64; 2], constants: &[Constant<'_>], notes: &[(&str, &str)]) -> Message {
    let outputs: Vec<_> = constants.iter().map(|of| feature(of.name, Type::Floats(of.shape))).collect();
    let layer = |of: &Constant<'_>| {
        let parameters = Message::new().ints(1, of.shape).message(2, &Message::new().floats(1, of.values));
        Message::new().text(1, of.name).text(3, of.name).message(1070, &parameters)
    };
    let layers = constants.iter().fold(Message::new(), |network, of| network.message(1, &layer(of)));
    let network = layers.int(5, 1).int(6, 1);
    let description = description(&[image("image", size)], &outputs, notes);
    Message::new().int(1, 5).message(2, &description).message(500, &network)
}

/// A pipeline of a network that always finds these boxes, and a suppression of those that overlap. Each box has the scores of all
/// classes and centre, width and height as parts of the picture.
pub(crate) fn detector(size: [i64; 2], labels: &[&str], boxes: &[(&[f32], [f32; 4])]) -> Vec<u8> {
    let [count, classes] = [boxes.len(), labels.len()].map(|count| i64::try_from(count).unwrap());
    let scores: Vec<f32> = boxes.iter().flat_map(|(scores, _)| scores.iter().copied()).collect();
    let places: Vec<f32> = boxes.iter().flat_map(|(_, place)| *place).collect();
    let network = constants(
        size,
        &[
            Constant { name: "scores", shape: &[count, classes], values: &scores },
            Constant { name: "places", shape: &[count, 4], values: &places },
        ],
        &[],
    );
    let parameters = Message::new().message(1, &Message::new().int(1, 1)).double(110, 0.45).double(111, 0.25);
    let parameters = parameters.text(200, "scores").text(201, "places").text(202, "iouThreshold");
    let parameters = parameters.text(203, "confidenceThreshold").text(210, "confidence").text(211, "coordinates");
    let parameters = parameters.strings(100, labels);
    let arrays = [feature("scores", Type::Array(&[])), feature("places", Type::Array(&[]))];
    let outputs = [feature("confidence", Type::Array(&[])), feature("coordinates", Type::Array(&[]))];
    let thresholds = [optional("iouThreshold", Type::Double), optional("confidenceThreshold", Type::Double)];
    let suppression = description(&[arrays.to_vec(), thresholds.to_vec()].concat(), &outputs, &[]);
    let suppression = Message::new().int(1, 4).message(2, &suppression).message(610, &parameters);
    let inputs = [vec![image("image", size)], thresholds.to_vec()].concat();
    let whole = description(&inputs, &outputs, &[]);
    let pipeline = members(&[network, suppression]);
    Message::new().int(1, 5).message(2, &whole).message(202, &pipeline).bytes().to_vec()
}

/// A network that takes an array `sound` and gives it back as `heard`, with what is below zero as zero.
pub(crate) fn listener(shape: &[i64], notes: &[(&str, &str)]) -> Vec<u8> {
    let relu = Message::new().message(10, &Message::new());
    let layer = Message::new().text(1, "relu").text(2, "sound").text(3, "heard").message(130, &relu);
    let network = Message::new().message(1, &layer).int(5, 1).int(6, 1);
    let (sound, heard) = (feature("sound", Type::Floats(shape)), feature("heard", Type::Floats(shape)));
    let description = description(&[sound], &[heard], notes);
    Message::new().int(1, 5).message(2, &description).message(500, &network).bytes().to_vec()
}
