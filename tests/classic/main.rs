//! Classic models and pipelines of them, made here byte by byte: each type with an answer found by hand, refused models,
//! damaged files, linked files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

mod damage;
mod linked;
mod refusals;
mod samples;

use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::names;
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{Error, Inputs, Session, Value};
use coreml_testing::wire::{Message, Type, feature, members, model, optional};

use samples::samples;

pub(crate) fn load(model: &Message) -> Result<Session, Error> {
    Session::builder().load(Package::from_parts(model.bytes(), None, &Limits::default())?)
}

/// Whether two values are the same but for the last digits of numbers.
fn alike(a: &Value, b: &Value) -> bool {
    let close = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-14 * b.abs().max(1.0);
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => close(*a, *b),
        (Value::Dictionary(a), Value::Dictionary(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, x), (l, y))| k == l && close(*x, *y))
        }
        (Value::Tensor(a), Value::Tensor(b)) => {
            let pairs = || a.view().to_f64_vec().into_iter().zip(b.view().to_f64_vec());
            a.shape() == b.shape() && a.dtype() == b.dtype() && pairs().all(|(a, b)| close(a, b))
        }
        _ => a == b,
    }
}

#[test]
fn each_type_answers_by_its_formula() {
    for sample in samples() {
        let session = load(&sample.model).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(session.package().model().kind(), sample.name);
        let answer = session.predict(&sample.inputs).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(answer.iter().len(), sample.outputs.len(), "{}", sample.name);
        for ((name, found), (known, expected)) in answer.iter().zip(&sample.outputs) {
            let told = format!("{}: {name} is {found:?}, expected {known} {expected:?}", sample.name);
            assert!(name == *known && alike(found, expected), "{told}");
        }
    }
}

/// Batches of one, of a few and of more than are computed together, with wrong inputs among them.
#[test]
fn batches_answer_as_single_predictions_do() {
    let wrong = Inputs::new();
    for sample in samples() {
        let session = load(&sample.model).unwrap();
        let mut answered = 0;
        for count in [1, 3, 300] {
            let batch: Vec<&Inputs<'_>> =
                (0..count).map(|i| if i % 7 == 2 { &wrong } else { &sample.inputs }).collect();
            let singles: Vec<_> = batch.iter().map(|inputs| session.predict(inputs)).collect();
            let answers = session.predict_batch(batch.iter().copied());
            assert_eq!(answers.len(), count);
            answered += 2 * singles.iter().filter(|single| single.is_ok()).count() as u64;
            for (i, (answer, single)) in answers.iter().zip(&singles).enumerate() {
                match (answer, single) {
                    (Ok(answer), Ok(single)) => assert!(answer.iter().eq(single.iter()), "{}: {i}", sample.name),
                    (Err(answer), Err(single)) => assert_eq!(answer.to_string(), single.to_string()),
                    _ => panic!("{}: {i} is {answer:?}, alone {single:?}", sample.name),
                }
            }
        }
        let counted = session.telemetry().counter(&names::PREDICTIONS, &["ok"]).get();
        assert_eq!(counted, answered, "{}: each answer is counted, alone and in a batch", sample.name);
    }
}

#[test]
fn there_is_a_sample_of_each_type() {
    let samples = samples();
    for row in coreml_classic::TYPES {
        assert!(samples.iter().any(|sample| sample.name == row.name), "no sample of {}", row.name);
    }
}

/// Converters of detectors describe the thresholds as inputs of the pipeline, and the suppression just names them.
#[test]
fn thresholds_reach_a_suppression_that_does_not_describe_them() {
    let parameters = Message::new().double(110, 0.5).double(111, 0.2).text(200, "scores").text(201, "boxes");
    let parameters = parameters.text(203, "least").text(210, "confidence").text(211, "coordinates");
    let arrays = [feature("scores", Type::Array(&[])), feature("boxes", Type::Array(&[]))];
    let outputs = [feature("confidence", Type::Array(&[])), feature("coordinates", Type::Array(&[]))];
    let suppression = model(610, &parameters, &arrays, &outputs, &[]);
    let inputs = [arrays.to_vec(), vec![optional("least", Type::Double)]].concat();
    let session = load(&model(202, &members(&[suppression]), &inputs, &outputs, &[])).unwrap();
    let scores = Tensor::new([2, 1].into(), vec![0.9, 0.3]).unwrap();
    let boxes = Tensor::new([2, 4].into(), vec![0.0, 0.0, 1.0, 1.0, 5.0, 5.0, 1.0, 1.0]).unwrap();
    let given = Inputs::new().tensor("scores", &scores).tensor("boxes", &boxes);
    for (inputs, kept) in [(given.clone(), 2), (given.double("least", 0.5), 1)] {
        let answer = session.predict(&inputs).unwrap();
        assert_eq!(answer.tensor("coordinates").unwrap().shape().dims(), [kept, 4]);
    }
}
