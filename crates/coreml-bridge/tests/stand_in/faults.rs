//! Every fault that can be staged ends in the right kind of error, and a session still answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_bridge::stand_in::{self, Faults, ffi};
use coreml_bridge::{CoreMlBackend, CoreMlFailure};
use coreml_core::{Backend, Error, ErrorKind, Inputs, LoadOptions, Shadow};
use coreml_model::Package;
use coreml_tensor::Tensor;

use super::support::{StandIn, halves, load, predict};

type Set = fn(&mut Faults);

fn x() -> Tensor {
    Tensor::new([4, 30].into(), halves(120)).unwrap()
}

/// The session answers from the CPU engine, with the CPU engine's answer.
fn answered_by_the_cpu(session: &coreml_core::Session) {
    let x = x();
    let answer = session.predict(&Inputs::new().tensor("x", &x)).unwrap();
    assert_eq!(answer.served_by(), "cpu");
    assert!(answer.degraded());
    let expected: Vec<f32> = halves(120).iter().map(|x| x.max(0.0)).collect();
    assert_eq!(answer.tensor("y").unwrap().as_slice::<f32>(), Some(&expected[..]));
}

#[test]
fn faults_while_loading() {
    let faults: [(&str, Set, ErrorKind); 10] = [
        ("compiling: generic", |faults| faults.compile_error = 1, ErrorKind::Fault),
        ("compiling: reading", |faults| faults.compile_error = 4, ErrorKind::Unavailable),
        ("compiling: a custom layer", |faults| faults.compile_error = 5, ErrorKind::Unsupported),
        (
            "compiling: the disk",
            |faults| (faults.compile_error, faults.foreign_errors) = (641, 1),
            ErrorKind::Unavailable,
        ),
        ("compiling: the folder vanishes", |faults| faults.compiled_vanishes = 1, ErrorKind::Unavailable),
        ("compiling: too slow", |faults| faults.compile_seconds = 30.0, ErrorKind::Timeout),
        ("loading: generic", |faults| faults.load_error = 1, ErrorKind::Fault),
        ("loading: a key that cannot be fetched", |faults| faults.load_error = 9, ErrorKind::Unavailable),
        ("loading: too slow", |faults| faults.load_seconds = 30.0, ErrorKind::Timeout),
        ("the first prediction fails", |faults| faults.predict_error = 1, ErrorKind::Fault),
    ];
    for (fault, set, kind) in faults {
        let stand_in = StandIn::new();
        let package = stand_in.tiny();
        stand_in.stage(set);
        let mut options = stand_in.options();
        // What is too slow is so by far, what is in time has time enough on the busiest machine.
        options.load_timeout =
            if kind == ErrorKind::Timeout { Duration::from_millis(200) } else { Duration::from_secs(30) };
        let error = CoreMlBackend::new(options.clone()).load(&package, &LoadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{fault}: {error}");
        let session = stand_in.session(options, &package).unwrap();
        answered_by_the_cpu(&session);
    }
}

#[test]
fn faults_while_predicting() {
    let faults: [(&str, Set, ErrorKind); 11] = [
        ("generic", |faults| faults.predict_error = 1, ErrorKind::Fault),
        ("a type Core ML does not take", |faults| faults.predict_error = 2, ErrorKind::Unsupported),
        ("reading", |faults| faults.predict_error = 4, ErrorKind::Unavailable),
        ("cancelled by the system", |faults| faults.predict_error = 12, ErrorKind::Unavailable),
        ("somebody else's error", |faults| (faults.predict_error, faults.foreign_errors) = (5, 1), ErrorKind::Fault),
        ("no outputs", |faults| faults.missing_outputs = 1, ErrorKind::Fault),
        ("outputs of another shape", |faults| faults.wrong_shapes = 1, ErrorKind::Fault),
        ("outputs of another kind", |faults| faults.wrong_kinds = 1, ErrorKind::Fault),
        ("outputs without a value", |faults| faults.undefined_values = 1, ErrorKind::Fault),
        (
            "outputs of an unknown data type",
            |faults| (faults.unknown_types, faults.ignored_backings) = (1, 1),
            ErrorKind::Unsupported,
        ),
        (
            "generic, with another underneath",
            |faults| (faults.predict_error, faults.underlying_errors) = (1, 1),
            ErrorKind::Fault,
        ),
    ];
    for (fault, set, kind) in faults {
        let stand_in = StandIn::new();
        let package = stand_in.tiny();
        let model = load(&stand_in.backend(), &package);
        let session = stand_in.session(stand_in.options(), &package).unwrap();
        assert_eq!(session.predict(&Inputs::new().tensor("x", &x())).unwrap().served_by(), "core-ml");
        stand_in.stage(set);
        let error = predict(&*model, &package, &Inputs::new().tensor("x", &x())).unwrap_err();
        assert_eq!(error.kind(), kind, "{fault}: {error}");
        answered_by_the_cpu(&session);
        stand_in.stage(|_| {});
        assert_eq!(session.predict(&Inputs::new().tensor("x", &x())).unwrap().served_by(), "core-ml", "{fault}");
    }
}

#[test]
fn the_error_underneath_arrives() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let model = load(&stand_in.backend(), &package);
    stand_in.stage(|faults| (faults.predict_error, faults.underlying_errors) = (1, 1));
    let error: Error = predict(&*model, &package, &Inputs::new().tensor("x", &x())).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<CoreMlFailure>().unwrap();
    assert_eq!((source.domain.as_str(), source.code), ("com.apple.CoreML", 0));
    assert_eq!(source.message, "predicting was staged to fail");
    let underlying = source.underlying.as_ref().unwrap();
    assert_eq!((underlying.domain.as_str(), underlying.code), ("com.apple.appleneuralengine", 13));
    assert!(underlying.message.contains("E5 bundle"), "{underlying}");
}

#[test]
fn a_hanging_prediction_holds_up_nobody() {
    let stand_in = StandIn::new();
    let package: Arc<Package> = stand_in.tiny();
    let mut options = stand_in.options();
    options.busy_timeout = Duration::from_millis(50);
    let model: Arc<dyn coreml_core::Model> = load(&CoreMlBackend::new(options.clone()), &package).into();
    let running = stand_in::observe(ffi::CMLB_STANDIN_PREDICTIONS);
    stand_in.stage(|faults| faults.predict_seconds = 5.0);
    let (hanging, its_package) = (model.clone(), package.clone());
    let abandoned =
        std::thread::spawn(move || predict(&*hanging, &its_package, &Inputs::new().tensor("x", &x())).is_ok());
    while stand_in::observe(ffi::CMLB_STANDIN_PREDICTIONS) == running {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Others on the model give up after the time allowed; other models of the same file are not concerned.
    let error = predict(&*model, &package, &Inputs::new().tensor("x", &x())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    stand_in.stage(|_| {});
    let other = load(&CoreMlBackend::new(options), &package);
    predict(&*other, &package, &Inputs::new().tensor("x", &x())).unwrap();
    // Letting go of the model neither waits nor pulls it from under the call.
    drop((model, other));
    assert!(!abandoned.is_finished(), "somebody waited for the call that hangs");
    assert!(abandoned.join().unwrap(), "the late answer is a good one");
}

/// The same through a session with a deadline: no request waits, and the circuit opens.
#[test]
fn a_session_with_a_deadline_answers_while_predictions_hang() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let deadline = Duration::from_secs(2);
    let session = stand_in.builder(stand_in.options()).deadline(deadline).open(package.path()).unwrap();
    assert_eq!(session.predict(&Inputs::new().tensor("x", &x())).unwrap().served_by(), "core-ml");
    stand_in.stage(|faults| faults.predict_seconds = 6.0);
    for _ in 0..6 {
        answered_by_the_cpu(&session);
    }
    let status = session.breaker("core-ml").unwrap().status(Instant::now());
    assert!(status.held_by_abandoned_calls, "{status:?}");
    // The calls left behind return, late, and the next probe finds everything in order.
    stand_in.stage(|_| {});
    let start = Instant::now();
    while session.predict(&Inputs::new().tensor("x", &x())).unwrap().served_by() != "core-ml" {
        assert!(start.elapsed() < Duration::from_secs(120), "it never came back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Success with the wrong numbers: only a comparison finds it.
#[test]
fn a_session_that_compares_finds_wrong_values() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let shadow = Shadow { every: 1, before_answer: true, ..Shadow::default() };
    let session = stand_in.builder(stand_in.options()).shadow(shadow).open(package.path()).unwrap();
    assert_eq!(session.predict(&Inputs::new().tensor("x", &x())).unwrap().served_by(), "core-ml");
    stand_in.stage(|faults| faults.wrong_values = 1);
    answered_by_the_cpu(&session);
    let status = session.breaker("core-ml").unwrap().status(Instant::now());
    assert_eq!(status.reason.map(|reason| reason.name()), Some("parity_failure"));
}
