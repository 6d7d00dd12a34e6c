//! Networks made here: cases that the collections lack, and broken files.

use std::sync::Arc;

use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Error, ErrorKind, Image, Inputs, Session, Value};
use coreml_testing::networks::{Message, Network};

/// Types of layers.
mod tag {
    pub(super) const CONVOLUTION: u32 = 100;
    pub(super) const POOLING: u32 = 120;
    pub(super) const ACTIVATION: u32 = 130;
    pub(super) const ADD: u32 = 230;
    pub(super) const MULTIPLY: u32 = 231;
    pub(super) const SIMPLE_RECURRENT: u32 = 400;
    pub(super) const GRU: u32 = 410;
    pub(super) const LSTM: u32 = 420;
    pub(super) const BIDIRECTIONAL_LSTM: u32 = 430;
    pub(super) const COPY: u32 = 600;
    pub(super) const BRANCH: u32 = 605;
    pub(super) const LOOP: u32 = 615;
    pub(super) const BREAK: u32 = 620;
    pub(super) const CONTINUE: u32 = 625;
    pub(super) const LESS_THAN: u32 = 825;
    pub(super) const GREATER_EQUAL: u32 = 832;
    pub(super) const CONSTANT: u32 = 1070;
    pub(super) const SQUEEZE: u32 = 1120;
    pub(super) const EXPAND_DIMS: u32 = 1125;
}

fn sessions(model: &[u8]) -> Result<[Session; 2], Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.mlmodel");
    std::fs::write(&path, model).unwrap();
    let open = |options: CpuOptions| {
        let backend: Arc<dyn Backend> = Arc::new(CpuBackend::new(options));
        Session::builder().backends([backend]).open(&path)
    };
    Ok([open(CpuOptions::reference())?, open(CpuOptions::default())?])
}

/// The shape and the elements of an output, which are the same on both plans.
fn answer(model: &[u8], inputs: &[(&str, &Tensor)], output: &str) -> Result<(Vec<usize>, Vec<f64>), Error> {
    let mut answers = Vec::new();
    for session in sessions(model)? {
        let given = inputs.iter().fold(Inputs::new(), |given, &(name, tensor)| given.tensor(name, tensor));
        let prediction = session.predict(&given)?;
        let tensor = prediction.tensor(output)?;
        answers.push((tensor.shape().to_vec(), tensor.view().to_f64_vec()));
    }
    assert_eq!(answers[0].0, answers[1].0);
    close(&answers[0].1, &answers[1].1);
    Ok(answers.remove(0))
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?}, not {b:?}");
}

fn tensor(dims: &[usize], values: &[f32]) -> Tensor {
    coreml_testing::tensor(dims, values)
}

/// Numbers that differ, between -0.5 and 0.5.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 19.0 - 0.45).collect()
}

/// An activation by its number, with its parameters.
fn activation(number: u32, parameters: &[f32]) -> Message {
    let fields = parameters.iter().zip(1..).fold(Message::default(), |all, (&value, field)| all.float(field, value));
    Message::default().message(number, &fields)
}

const FEATURES: usize = 3;
const STATE: usize = 2;

/// The gates' weights from the fields `input`, `hidden` and `bias`.
fn gates(message: Message, input: &[u32], hidden: &[u32], bias: &[u32]) -> Message {
    let message = input.iter().fold(message, |all, &n| all.weights(n, &values(STATE * FEATURES, n as usize)));
    let message = hidden.iter().fold(message, |all, &n| all.weights(n, &values(STATE * STATE, n as usize)));
    bias.iter().fold(message, |all, &n| all.weights(n, &values(STATE, n as usize)))
}

/// A recurrent layer whose outer activation is `tanh`.
fn recurrent(kind: u32, tanh: &Message, reverse: bool, sequence: bool) -> Message {
    let sizes = Message::default().number(1, FEATURES as i64).number(2, STATE as i64);
    let sigmoid = activation(40, &[]);
    let lstm = || gates(Message::default(), &[1, 2, 3, 4], &[20, 21, 22, 23], &[40, 41, 42, 43, 60, 61, 62]);
    let options = Message::default().number(10, sequence).number(20, true).number(40, true).float(60, 0.4);
    match kind {
        tag::SIMPLE_RECURRENT => {
            gates(sizes.message(10, tanh).number(15, sequence).number(20, true), &[30], &[31], &[32])
                .number(100, reverse)
        }
        tag::GRU => {
            let message = sizes.message(10, &sigmoid).message(10, tanh).number(15, sequence).number(20, true);
            gates(message, &[30, 31, 32], &[50, 51, 52], &[70, 71, 72]).number(100, reverse)
        }
        tag::LSTM => {
            let activations = sizes.message(10, &sigmoid).message(10, tanh).message(10, tanh);
            activations.message(15, &options).message(20, &lstm()).number(100, reverse)
        }
        _ => {
            let ahead = sizes.message(10, &sigmoid).message(10, tanh).message(10, tanh);
            let back = ahead.message(11, &sigmoid).message(11, tanh).message(11, tanh);
            back.message(15, &options).message(20, &lstm()).message(20, &lstm())
        }
    }
}

/// Where an operation says the same as a layer it serves; otherwise the steps are written out. Here both must agree: a
/// scaled tangent of factors 1 is the plain one, but no operation is known to have it.
#[test]
fn recurrent_layers_are_the_same_by_operations_and_step_by_step() {
    let x = tensor(&[4, 2, FEATURES, 1, 1], &values(4 * 2 * FEATURES, 5));
    for kind in [tag::SIMPLE_RECURRENT, tag::GRU, tag::LSTM, tag::BIDIRECTIONAL_LSTM] {
        for (reverse, sequence) in [(false, true), (true, true), (true, false)] {
            let run = |tanh: &Message| {
                let network = Network::new().input("x", &[FEATURES as i64]).output("y", &[STATE as i64]);
                let network = network.layer(kind, &recurrent(kind, tanh, reverse, sequence), &["x"], &["y"]);
                answer(&network.model(false), &[("x", &x)], "y").unwrap()
            };
            let (by_operation, by_steps) = (run(&activation(30, &[])), run(&activation(31, &[1.0, 1.0])));
            let width = if kind == tag::BIDIRECTIONAL_LSTM { 2 * STATE } else { STATE };
            assert_eq!(by_operation.0, [if sequence { 4 } else { 1 }, 2, width, 1, 1], "{kind}");
            assert_eq!(by_operation.0, by_steps.0);
            close(&by_operation.1, &by_steps.1);
            assert_ne!(run(&activation(31, &[1.0, 0.5])).1, by_steps.1, "the activation matters");
        }
    }
}

fn constant(values: &[f32]) -> Message {
    Message::default().numbers(1, &[values.len() as i64]).weights(2, values)
}

/// `alpha` of layers of one input.
fn alpha(value: f32) -> Message {
    Message::default().float(1, value)
}

#[test]
fn jumps_leave_rounds_and_loops() {
    // i = x; 100 times: i += 1; if i >= limit: break; if i < skip: continue; sum += i
    let limit = |value: f32| Message::default().float(2, value);
    let body = Network::new()
        .layer(tag::ADD, &alpha(1.0), &["i"], &["next"])
        .plain(tag::COPY, &["next"], &["i"])
        .layer(tag::GREATER_EQUAL, &limit(8.0), &["i"], &["over"])
        .layer(
            tag::BRANCH,
            &Message::default().message(1, &Network::new().plain(tag::BREAK, &[], &[]).nested()),
            &["over"],
            &[],
        )
        .layer(tag::LESS_THAN, &limit(4.0), &["i"], &["early"])
        .layer(
            tag::BRANCH,
            &Message::default().message(1, &Network::new().plain(tag::CONTINUE, &[], &[]).nested()),
            &["early"],
            &[],
        )
        .plain(tag::ADD, &["sum", "i"], &["more"])
        .plain(tag::COPY, &["more"], &["sum"]);
    let network = Network::new()
        .input("x", &[1])
        .output("sum", &[1])
        .output("i", &[1])
        .layer(tag::CONSTANT, &constant(&[0.0]), &[], &["sum"])
        .plain(tag::COPY, &["x"], &["i"])
        .layer(tag::LOOP, &Message::default().number(1, 100).message(4, &body.nested()), &[], &[])
        .model(true);
    for (start, sum, end) in [(0.0, 4.0 + 5.0 + 6.0 + 7.0, 8.0), (5.0, 6.0 + 7.0, 8.0), (20.0, 0.0, 21.0)] {
        let x = tensor(&[1], &[start]);
        assert_eq!(answer(&network, &[("x", &x)], "sum").unwrap().1, [sum], "{start}");
        assert_eq!(answer(&network, &[("x", &x)], "i").unwrap().1, [end], "{start}");
    }
}

#[test]
fn loops_in_loops_keep_their_own_count() {
    let inner =
        Network::new().layer(tag::MULTIPLY, &alpha(2.0), &["i"], &["twice"]).plain(tag::COPY, &["twice"], &["i"]);
    let body = Network::new()
        .layer(tag::LOOP, &Message::default().number(1, 3).message(4, &inner.nested()), &[], &[])
        .layer(tag::ADD, &alpha(1.0), &["i"], &["next"])
        .plain(tag::COPY, &["next"], &["i"]);
    let network = Network::new().input("x", &[1]).output("i", &[1]).plain(tag::COPY, &["x"], &["i"]).layer(
        tag::LOOP,
        &Message::default().number(1, 2).message(4, &body.nested()),
        &[],
        &[],
    );
    assert_eq!(answer(&network.model(true), &[("x", &tensor(&[1], &[1.0]))], "i").unwrap().1, [73.0]);
}

#[test]
fn a_condition_is_tested_before_each_round() {
    // while i < 10: i = 3 i, at most `rounds` times if there is a number
    let tested = Network::new().layer(tag::LESS_THAN, &Message::default().float(2, 10.0), &["i"], &["go"]);
    let body = Network::new().layer(tag::MULTIPLY, &alpha(3.0), &["i"], &["next"]).plain(tag::COPY, &["next"], &["i"]);
    for (rounds, start, end) in [(0, 1.0, 27.0), (2, 1.0, 9.0), (0, 11.0, 11.0)] {
        let parameters = Message::default().number(1, rounds).text(2, "go");
        let parameters = parameters.message(3, &tested.nested()).message(4, &body.nested());
        let network = Network::new().input("x", &[1]).output("i", &[1]).plain(tag::COPY, &["x"], &["i"]).layer(
            tag::LOOP,
            &parameters,
            &[],
            &[],
        );
        let found = answer(&network.model(true), &[("x", &tensor(&[1], &[start]))], "i").unwrap().1;
        assert_eq!(found, [end], "{rounds} {start}");
    }
}

#[test]
fn what_only_one_branch_makes_is_missed_where_the_other_is_taken() {
    let then = Network::new().layer(tag::ADD, &alpha(1.0), &["x"], &["made"]);
    let otherwise = Network::new().layer(tag::ADD, &alpha(5.0), &["x"], &["other"]);
    let branch = Message::default().message(1, &then.nested()).message(2, &otherwise.nested());
    let network = |last: &str| {
        let network = Network::new().input("x", &[1]).output("y", &[1]);
        network.layer(tag::BRANCH, &branch, &["x"], &[]).layer(tag::MULTIPLY, &alpha(2.0), &[last], &["y"]).model(true)
    };
    let (one, zero) = (tensor(&[1], &[1.0]), tensor(&[1], &[0.0]));
    assert_eq!(answer(&network("made"), &[("x", &one)], "y").unwrap().1, [4.0]);
    assert_eq!(answer(&network("other"), &[("x", &zero)], "y").unwrap().1, [10.0]);
    assert!(answer(&network("made"), &[("x", &zero)], "y").is_err());
    assert!(answer(&network("neither"), &[("x", &one)], "y").is_err());
    let outside = Network::new().input("x", &[1]).output("x", &[1]).plain(tag::BREAK, &[], &[]);
    let error = answer(&outside.model(true), &[("x", &one)], "x").unwrap_err();
    assert!(error.to_string().contains("is in no loop"), "{error}");
}

/// Sequence and batch are one axis where all layers count from the end, and two where one does not.
#[test]
fn layers_of_old_take_sequences() {
    let kernel = Message::default().number(1, 2).number(2, 3).numbers(20, &[2, 1]).weights(90, &values(2 * 3 * 2, 1));
    let relu = activation(10, &[]);
    let network = |squeezed: bool| {
        let network = Network::new().input("x", &[3, 4, 5]).output("y", &[2, 3, 5]);
        let network = network.layer(tag::CONVOLUTION, &kernel, &["x"], &["conv"]);
        let network = network.layer(tag::ACTIVATION, &relu, &["conv"], &["y"]);
        let network = if squeezed {
            // A layer that tells the axes apart, whose result nobody reads.
            network.layer(tag::SQUEEZE, &Message::default().numbers(1, &[0]), &["one"], &["unread"])
        } else {
            network
        };
        network.input("one", &[1]).model(false)
    };
    let x = values(2 * 3 * 60, 7);
    let one = tensor(&[1], &[1.0]);
    for squeezed in [false, true] {
        let run = |x: &Tensor| answer(&network(squeezed), &[("x", x), ("one", &one)], "y").unwrap();
        let (shape, all) = run(&tensor(&[2, 3, 3, 4, 5], &x));
        assert_eq!(shape, [2, 3, 2, 3, 5]);
        for (i, part) in x.chunks(60).enumerate() {
            let (shape, single) = run(&tensor(&[3, 4, 5], part));
            assert_eq!(shape, [2, 3, 5]);
            close(&all[i * 30..][..30], &single);
        }
    }
}

#[test]
fn images_go_through_every_mapping() {
    let network = Network::new().input_image("x", [2, 3]).output_image("y", [2, 3]).layer(
        tag::ACTIVATION,
        &activation(5, &[2.0, 1.0]),
        &["x"],
        &["y"],
    );
    let pixels = [0, 1, 2, 3, 100, 200];
    for (arrays, images) in [(false, false), (true, true), (true, false)] {
        for session in sessions(&network.mapped(arrays, images)).unwrap() {
            let image = Image::gray8(3, 2, &pixels).unwrap();
            let outputs = session.predict(&Inputs::new().image("x", image)).unwrap().into_outputs();
            let found = match outputs.get("y").unwrap() {
                Value::Image(found) => found.view().to_f64_vec(),
                other => panic!("{}", other.describe()),
            };
            assert_eq!(found, [1.0, 3.0, 5.0, 7.0, 201.0, 255.0], "{arrays} {images}");
        }
    }
}

#[test]
fn the_number_of_axes_is_bounded() {
    let axes = Message::default().numbers(1, &(0..1000).collect::<Vec<_>>());
    let network = Network::new().input("x", &[1]).output("y", &[1]).layer(tag::EXPAND_DIMS, &axes, &["x"], &["y"]);
    let error = sessions(&network.model(true)).map(drop).unwrap_err();
    assert!(error.to_string().contains("`expandDims`: gives a blob with more than 8 axes"), "{error}");
}

/// Whatever stands in a file, opening it and predicting gives an answer or an error.
#[test]
fn damaged_networks_are_refused() {
    let tanh = activation(31, &[1.0, 1.0]);
    let body = Network::new()
        .layer(tag::ADD, &alpha(1.0), &["i"], &["next"])
        .plain(tag::COPY, &["next"], &["i"])
        .layer(
            tag::BRANCH,
            &Message::default().message(1, &Network::new().plain(tag::BREAK, &[], &[]).nested()),
            &["i"],
            &[],
        )
        .plain(tag::COPY, &["next"], &["after"]);
    let kernel = Message::default().number(1, 2).number(2, FEATURES as i64).numbers(20, &[1, 1]);
    let model = Network::new()
        .input("x", &[FEATURES as i64])
        .output("y", &[STATE as i64])
        .layer(tag::CONVOLUTION, &kernel.weights(90, &values(2 * FEATURES, 1)), &["x"], &["conv"])
        .layer(tag::LSTM, &recurrent(tag::LSTM, &tanh, false, true), &["x"], &["y", "h", "c"])
        .layer(tag::CONSTANT, &constant(&[0.0]), &[], &["i"])
        .layer(tag::LOOP, &Message::default().number(1, 2).message(4, &body.nested()), &[], &[])
        .plain(tag::ADD, &["i", "conv"], &["sum"])
        .model(false);
    let x = tensor(&[2, 1, FEATURES, 1, 1], &values(2 * FEATURES, 5));
    assert_eq!(answer(&model, &[("x", &x)], "y").unwrap().0, [2, 1, STATE, 1, 1]);
    let mut refused = 0;
    for round in 0..1500usize {
        let mut damaged = model.clone();
        let at = round * 7919 % model.len();
        match round % 4 {
            0 => damaged[at] ^= 1 << (round / 4 % 8),
            1 => damaged[at] = 0xff,
            2 => damaged.truncate(at),
            _ => drop(damaged.remove(at)),
        }
        let found = answer_or_error(&damaged, &x);
        if let Err(error) = &found {
            assert_ne!(error.kind(), ErrorKind::Bug, "round {round}: {error}");
            refused += 1;
        }
    }
    assert!(refused > 500, "{refused} damaged files were refused");
}

/// As [`answer`], of files that may say anything, on limits that hold them.
fn answer_or_error(model: &[u8], x: &Tensor) -> Result<(), Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.mlmodel");
    std::fs::write(&path, model).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(CpuBackend::new(CpuOptions::default()));
    let builder = Session::builder().backends([backend]).max_memory(64 << 20).max_loop_rounds(1000);
    builder.open(&path)?.predict(&Inputs::new().tensor("x", x)).map(drop)
}

/// Where padding is wider than the window, more windows fit than there are when their number is rounded up and those in
/// what that added are left out.
#[test]
fn pools_with_more_padding_than_window_have_one_size() {
    let amounts = Message::default().numbers(10, &[2, 2]);
    let pool = Message::default().number(1, 1).numbers(10, &[1, 1]).numbers(20, &[1, 1]).message(32, &amounts);
    let network = Network::new().input("x", &[1, 1, 4, 4]).output("y", &[1, 1, 7, 7]);
    let model = network.layer(tag::POOLING, &pool, &["x"], &["y"]).model(true);
    let x = tensor(&[1, 1, 4, 4], &values(16, 1));
    let (shape, found) = answer(&model, &[("x", &x)], "y").unwrap();
    assert_eq!(shape, [1, 1, 7, 7]);
    let inside = |i: usize| (2..6).contains(&i);
    let at = |row: usize, column: usize| x.view().to_f64_vec()[(row - 2) * 4 + column - 2];
    let expected = (0..49).map(|i| (i / 7, i % 7));
    let expected = expected.map(|(r, c)| if inside(r) && inside(c) { at(r, c) } else { 0.0 }).collect::<Vec<_>>();
    close(&found, &expected);
}
