//! Predictions that are awaited, and options of single predictions: on an executor of a few lines, without a runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use coreml_anywhere::{Call, Cancel, ErrorKind, Inputs, Session};
use coreml_testing::tensor;
use coreml_testing::tiny::Body;

use crate::hostile::{X, endless, load};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn relu() -> Session {
    let body = Body::new().operation("relu", &[("x", &["x"])], &[], &[("y", X)]).result("y");
    load(Session::builder().threads(1), &body).unwrap()
}

fn never() -> Session {
    load(Session::builder().threads(1).max_loop_rounds(u64::MAX), &endless()).unwrap()
}

#[test]
fn an_awaited_prediction_is_the_same_prediction() {
    let session = relu();
    let x = tensor(&[4], &[-1.0f32, 2.0, -3.0, 4.0]);
    let inputs = Inputs::new().tensor("x", &x);
    // The inputs may go as soon as the future is made, and so may other handles of the session.
    let answers: Vec<_> = (0..50).map(|_| session.clone().predict_async(&inputs)).collect();
    drop(inputs);
    drop(x);
    for answer in answers {
        let answer = block_on(answer).unwrap();
        assert_eq!(answer.tensor("y").unwrap().view().to_f64_vec(), [0.0, 2.0, 0.0, 4.0]);
    }
    let error = block_on(session.predict_async(&Inputs::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "what is wrong with the inputs comes as the answer");
}

#[test]
fn a_dropped_future_stops_its_prediction() {
    let session = never();
    let x = tensor(&[4], &[1.0f32; 4]);
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads();
    for _ in 0..5 {
        // More than there are threads for: some compute, the others wait in line.
        let answers: Vec<_> = (0..40).map(|_| session.predict_async(&Inputs::new().tensor("x", &x))).collect();
        drop(answers);
    }
    // None of the threads is left with a loop that never ends.
    let answer = session.predict_async(&Inputs::new().tensor("x", &x));
    let stop = answer.canceller();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        stop.cancel();
    });
    assert_eq!(block_on(answer).unwrap_err().kind(), ErrorKind::Cancelled);
    let limit = std::thread::available_parallelism().map_or(1, usize::from).max(4);
    assert!(threads() <= before + limit + 8, "{} threads, {before} before", threads());
}

#[test]
fn a_call_has_a_deadline_and_a_switch_of_its_own() {
    let session = never();
    let x = tensor(&[4], &[1.0f32; 4]);
    let inputs = Inputs::new().tensor("x", &x);
    let soon = Call::new().deadline(Duration::from_millis(20));
    assert_eq!(session.predict_call(&inputs, &soon).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(block_on(session.predict_call_async(&inputs, soon)).unwrap_err().kind(), ErrorKind::Timeout);
    let stop = Cancel::new();
    let call = Call::new().cancel(&stop);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| session.predict_call(&inputs, &call).unwrap_err().kind());
        std::thread::sleep(Duration::from_millis(20));
        stop.cancel();
        assert_eq!(running.join().unwrap(), ErrorKind::Cancelled);
    });
    let error = session.predict_call(&inputs, &call).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "a switch stays set");
}

#[test]
fn only_the_wanted_outputs_are_given() {
    let session = relu();
    let x = tensor(&[4], &[1.0f32; 4]);
    let inputs = Inputs::new().tensor("x", &x);
    assert_eq!(session.predict_call(&inputs, &Call::new().outputs(["y"])).unwrap().iter().count(), 1);
    assert_eq!(session.predict_call(&inputs, &Call::new().outputs(Vec::<String>::new())).unwrap().iter().count(), 0);
    let error = session.predict_call(&inputs, &Call::new().outputs(["z"])).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains('z'), "{error}");
    let batch = [inputs.clone(), Inputs::new(), inputs.clone()];
    let answers: Vec<_> = session.predict_batch(&batch).into_iter().map(|answer| answer.is_ok()).collect();
    assert_eq!(answers, [true, false, true]);
}
