//! The contents of states, read and written between predictions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coreml_anywhere::tensor::{Shape, Tensor};
use coreml_anywhere::{Call, Cancel, ErrorKind, Inputs, Session, State};
use coreml_testing::repository;

fn accumulator() -> Session {
    Session::builder().threads(1).open(repository().join("tests/golden/state/accumulator.mlmodel")).unwrap()
}

fn numbers(values: [f32; 6]) -> Tensor {
    Tensor::new(Shape::new(&[2, 3]), values.to_vec()).unwrap()
}

#[test]
fn a_state_that_is_written_back_goes_on_as_the_one_it_was_read_from() {
    let session = accumulator();
    let x = numbers([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let inputs = Inputs::new().tensor("x", &x);
    let first = session.state();
    assert_eq!(first.read("s").unwrap(), numbers([0.0; 6]), "zeros at first");
    session.predict_with_state(&inputs, &first).unwrap();
    let held = first.read("s").unwrap();
    assert_ne!(held, numbers([0.0; 6]), "the model has written to it");
    let second = session.state();
    second.write("s", &held).unwrap();
    let answers = [&first, &second].map(|state| session.predict_with_state(&inputs, state).unwrap().into_outputs());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(first.read("s").unwrap(), second.read("s").unwrap());
    // One that has served a prediction is written in place.
    second.write("s", &held).unwrap();
    assert_eq!(session.predict_with_state(&inputs, &second).unwrap().into_outputs(), answers[0]);
}

#[test]
fn states_are_forked_reset_and_restored() {
    let session = accumulator();
    let x = numbers([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let inputs = Inputs::new().tensor("x", &x);
    let answer = |state: &State| session.predict_with_state(&inputs, state).unwrap().into_outputs();
    let trunk = session.state();
    assert_eq!(answer(&trunk.fork().unwrap()), answer(&session.state()), "a fork of a fresh one is fresh");
    answer(&trunk);
    let (branch, kept) = (trunk.fork().unwrap(), trunk.snapshot().unwrap());
    let next = answer(&trunk);
    assert_ne!(answer(&trunk), next, "every prediction adds");
    assert_eq!(answer(&branch), next, "the branch knows nothing of that");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.npz");
    let fresh = session.state();
    fresh.restore(&kept).unwrap();
    fresh.save(&path).unwrap();
    assert_eq!(answer(&fresh), next);
    trunk.load(&path).unwrap();
    assert_eq!(answer(&trunk), next);
    trunk.reset();
    assert_eq!(trunk.read("s").unwrap(), numbers([0.0; 6]));

    let missing = trunk.restore(&[]).unwrap_err();
    assert_eq!(missing.to_string(), "feature `s`: the snapshot does not have this state");
    let unread = trunk.load(folder.path().join("none.npz")).unwrap_err();
    assert_eq!(unread.kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_is_no_state_of_the_model_is_refused() {
    let session = accumulator();
    let state = session.state();
    let unknown = state.read("t").unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
    assert_eq!(unknown.to_string(), "feature `t`: the model has no such state; it has `s`");
    let flat = Tensor::new(Shape::new(&[6]), vec![0.0f32; 6]).unwrap();
    let misshapen = state.write("s", &flat).unwrap_err();
    assert_eq!(misshapen.kind(), ErrorKind::InvalidInput);
    assert_eq!(misshapen.to_string(), "feature `s`: the state has the shape [2, 3], [6] was given");
    assert_eq!(state.read("s").unwrap(), numbers([0.0; 6]));
}

#[test]
fn a_cancelled_prediction_leaves_its_state_untouched_or_refused() {
    let session = accumulator();
    let x = numbers([1.0; 6]);
    let inputs = Inputs::new().tensor("x", &x);
    let mut cancelled = 0;
    for asked in 0.. {
        // The switch sets itself when it is looked at for the time of this number.
        let left = AtomicUsize::new(asked);
        let stop = Cancel::asking(Duration::ZERO, move || left.fetch_sub(1, Ordering::Relaxed) == 0);
        let state = session.state();
        match session.predict_call_with_state(&inputs, &state, &Call::new().cancel(&stop)) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
        cancelled += 1;
        match state.read("s") {
            Ok(held) => assert_eq!(held, numbers([0.0; 6])),
            Err(error) => assert!(error.to_string().contains("half-changed"), "{error}"),
        }
    }
    assert!(cancelled > 1, "a prediction looks at its switch before it begins and while it computes");
}
