//! Sessions over backends that follow a script, and over the real one from many threads.

use std::sync::Arc;

use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::{Reading, names};
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{CpuBackend, Error, ErrorKind, Inputs, Outputs, Session, synthetic_inputs};
use coreml_testing::repository;
use coreml_testing::scripted::{Act, Scripted, always};
use coreml_testing::tiny::elementwise_model;

fn efficient_net() -> std::path::PathBuf {
    repository().join("tests/fixtures/models/EfficientNetLite0.mlpackage")
}

fn tiny() -> Package {
    Package::from_parts(&elementwise_model(&[4], &["tanh"]), None, &Limits::default()).unwrap()
}

fn scripted(name: &'static str, act: Act) -> Scripted {
    Scripted::new(name, Arc::new(CpuBackend::default())).on_predict(always(act))
}

fn open(first: &Scripted, second: &Scripted) -> Result<Session, Error> {
    let builder = Session::builder().threads(1);
    builder.backends([first.backend(), second.backend()]).load(tiny())
}

#[test]
fn whose_fault_an_error_is_decides_whether_the_next_backend_is_asked() {
    let falls_back = [
        (ErrorKind::Unsupported, true),
        (ErrorKind::Unavailable, true),
        (ErrorKind::Fault, true),
        (ErrorKind::Timeout, true),
        (ErrorKind::Bug, true),
        (ErrorKind::InvalidInput, false),
        (ErrorKind::InvalidModel, false),
        (ErrorKind::Cancelled, false),
    ];
    for (kind, expected) in falls_back {
        let (first, second) = (scripted("first", Act::Fail(kind)), scripted("second", Act::Answer));
        let session = open(&first, &second).unwrap();
        let inputs = synthetic_inputs(session.interface(), 0).unwrap();
        let result = session.predict(&inputs);
        assert_eq!(second.predictions(), u64::from(expected), "{kind}");
        let snapshot = session.telemetry().snapshot();
        assert_eq!(snapshot.get(&names::ATTEMPTS, &["first", kind.name()]), Some(&Reading::Counter(1)));
        assert_eq!(snapshot.total(&names::FALLBACKS), u64::from(expected), "{kind}");
        match result {
            Ok(prediction) => {
                assert!(expected && prediction.degraded(), "{kind}");
                assert_eq!((prediction.served_by(), prediction.attempts().len()), ("second", 2));
                assert_eq!(prediction.attempts()[0].error.as_ref().map(Error::kind), Some(kind));
            }
            Err(error) => assert!(!expected && error.kind() == kind, "{kind}: {error}"),
        }
    }
}

#[test]
fn the_first_backend_answers_when_it_can() {
    let (first, second) = (scripted("first", Act::Answer), scripted("second", Act::Answer));
    let session = open(&first, &second).unwrap();
    let prediction = session.predict(&synthetic_inputs(session.interface(), 0).unwrap()).unwrap();
    assert_eq!((prediction.served_by(), prediction.degraded()), ("first", false));
    assert_eq!(second.predictions(), 0);
}

#[test]
fn a_panic_is_survived() {
    let session = open(&scripted("first", Act::Panic), &scripted("second", Act::Answer)).unwrap();
    let prediction = session.predict(&synthetic_inputs(session.interface(), 0).unwrap()).unwrap();
    assert_eq!(prediction.served_by(), "second");
    let error = prediction.attempts()[0].error.as_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert!(error.to_string().contains("first panicked (scripted)"), "{error}");
}

#[test]
fn absent_backends_are_passed_over_with_their_reasons() {
    let absent = scripted("absent", Act::Answer).absent();
    let session = open(&absent, &scripted("second", Act::Answer)).unwrap();
    assert_eq!(session.passed_over()[0].to_string(), "absent: the script says so");
    let prediction = session.predict(&synthetic_inputs(session.interface(), 0).unwrap()).unwrap();
    assert!(!prediction.degraded(), "the best backend of this host answered");
    let error = open(&absent, &absent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the script says so"), "{error}");
}

#[test]
fn a_backend_that_cannot_load_is_replaced() {
    let second = scripted("second", Act::Answer);
    let first = |kind| scripted("first", Act::Answer).on_load(always(Act::Fail(kind)));
    let session = open(&first(ErrorKind::Unsupported), &second).unwrap();
    let prediction = session.predict(&synthetic_inputs(session.interface(), 0).unwrap()).unwrap();
    assert!(prediction.degraded());
    let error = open(&first(ErrorKind::InvalidModel), &second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModel);
}

#[test]
fn when_every_backend_fails_the_error_tells_of_each() {
    let (first, second) =
        (scripted("first", Act::Fail(ErrorKind::Fault)), scripted("second", Act::Fail(ErrorKind::Timeout)));
    let session = open(&first, &second).unwrap();
    let error = session.predict(&synthetic_inputs(session.interface(), 0).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "every backend failed: first: scripted; second: scripted");
}

#[test]
fn a_callers_mistake_reaches_no_backend() {
    let (first, second) = (scripted("first", Act::Answer), scripted("second", Act::Answer));
    let builder = Session::builder().threads(1).backends([first.backend(), second.backend()]);
    let session = builder.open(efficient_net()).unwrap();
    let error = session.predict(&Inputs::new().tensor("imgae", &Tensor::scalar(0.0f32))).unwrap_err();
    assert_eq!((error.kind(), error.about_feature()), (ErrorKind::InvalidInput, Some("imgae")));
    assert!(error.to_string().contains("Did you mean `image`?"), "{error}");
    assert_eq!(first.predictions(), 0);
    assert_eq!(session.telemetry().snapshot().get(&names::PREDICTIONS, &["error"]), Some(&Reading::Counter(1)));
}

/// 16 threads on one session: every answer is the one a single thread got.
fn threads_agree(session: &Session, rounds: u64) {
    const INPUTS: u64 = 8;
    let inputs: Vec<_> = (0..INPUTS).map(|seed| synthetic_inputs(session.interface(), seed).unwrap()).collect();
    let answer = |i: usize| session.predict(&inputs[i]).unwrap().into_outputs();
    let expected: Vec<Outputs> = (0..inputs.len()).map(answer).collect();
    assert_ne!(expected[0], expected[1], "different inputs have different answers");
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (answer, expected) = (&answer, &expected);
            scope.spawn(move || {
                for i in 0..rounds {
                    let which = ((i + thread) % INPUTS) as usize;
                    assert_eq!(answer(which), expected[which], "thread {thread}, prediction {i}");
                }
            });
        }
    });
    assert_eq!(session.telemetry().snapshot().total(&names::PREDICTIONS), INPUTS + 16 * rounds);
}

#[test]
fn many_threads_get_the_answers_of_one() {
    let spec = elementwise_model(&[64, 1024], &["tanh", "sigmoid", "relu", "exp"]);
    let package = Package::from_parts(&spec, None, &Limits::default()).unwrap();
    threads_agree(&Session::builder().threads(2).load(package).unwrap(), 200);
}

/// 200 rounds in an optimised build; fewer in a debug build, which takes minutes for them.
#[test]
fn many_threads_get_the_answers_of_one_from_a_classifier() {
    let rounds = if cfg!(debug_assertions) { 10 } else { 200 };
    threads_agree(&Session::builder().threads(2).open(efficient_net()).unwrap(), rounds);
}
