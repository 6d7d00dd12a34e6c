//! Sessions whose first backend fails, hangs, is late or lies: what the caller sees, and what the telemetry says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_anywhere::breaker::{BreakerConfig, MemoryLimit, Mode, OpenWait, Reason, State};
use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::{Reading, memory, names};
use coreml_anywhere::{
    CpuBackend, Error, ErrorKind, Hedging, Inputs, Outputs, Prediction, Session, SessionBuilder, Shadow,
    synthetic_inputs,
};
use coreml_testing::scripted::{Act, Scripted, always, sequence, sometimes};
use coreml_testing::tiny::elementwise_model;

/// So long that an answer in microseconds is in time on the busiest machine. That deadlines hold is measured elsewhere, by
/// the fault suite; these tests look at who was asked, in which order, and what was counted.
const DEADLINE: Duration = Duration::from_secs(2);

fn tiny() -> Package {
    Package::from_parts(&elementwise_model(&[16], &["tanh", "exp"]), None, &Limits::default()).unwrap()
}

fn accelerator() -> Scripted {
    Scripted::new("accelerator", Arc::new(CpuBackend::default()))
}

fn builder(first: &Scripted) -> SessionBuilder {
    Session::builder().threads(1).backends([first.backend(), Arc::new(CpuBackend::default())])
}

fn expected(inputs: &Inputs<'_>) -> Outputs {
    Session::builder().threads(1).load(tiny()).unwrap().predict(inputs).unwrap().into_outputs()
}

fn inputs(session: &Session) -> Inputs<'static> {
    synthetic_inputs(session.interface(), 7).unwrap()
}

fn kinds(prediction: &Prediction) -> Vec<(&'static str, Option<ErrorKind>)> {
    prediction.attempts().iter().map(|attempt| (attempt.backend, attempt.error.as_ref().map(Error::kind))).collect()
}

#[test]
fn a_hung_backend_costs_no_request_and_is_left_alone() {
    let first = accelerator().on_predict(always(Act::Hang));
    let session = builder(&first).deadline(DEADLINE).load(tiny()).unwrap();
    let inputs = inputs(&session);
    let right = expected(&inputs);
    for i in 0..20 {
        let prediction = session.predict(&inputs).unwrap();
        assert_eq!((prediction.served_by(), prediction.degraded()), ("cpu", true));
        let first = if i < 2 { ErrorKind::Timeout } else { ErrorKind::Unavailable };
        assert_eq!(kinds(&prediction), [("accelerator", Some(first)), ("cpu", None)], "prediction {i}");
        assert_eq!(*prediction, right);
    }
    // Two calls hang; at the cap of abandoned calls nobody asks any more.
    assert_eq!((first.predictions(), first.hung()), (2, 2));
    let breaker = session.breaker("accelerator").unwrap();
    let status = breaker.status(Instant::now());
    assert_eq!((status.state, status.reason), (State::Open, Some(Reason::AbandonedCalls)));
    let snapshot = session.telemetry().snapshot();
    assert_eq!(snapshot.get(&names::ABANDONED_CALLS, &["accelerator"]), Some(&Reading::Gauge(2.0)));
    assert_eq!(snapshot.get(&names::BREAKER_REJECTIONS, &["accelerator"]), Some(&Reading::Counter(18)));
    first.release();
    let returned = || session.telemetry().snapshot().total(&names::LATE_RETURNS) == 2;
    wait_for(returned);
    let gauge = session.telemetry().snapshot().get(&names::ABANDONED_CALLS, &["accelerator"]).cloned();
    assert_eq!(gauge, Some(Reading::Gauge(0.0)));
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "it never came true");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_load_that_hangs_keeps_nobody_waiting_and_is_used_when_it_ends() {
    let first = accelerator().on_load(sequence([Act::Hang]));
    let builder = builder(&first).load_deadline(DEADLINE).deadline(DEADLINE);
    let session = builder.load(tiny()).unwrap();
    let inputs = inputs(&session);
    let prediction = session.predict(&inputs).unwrap();
    assert_eq!(kinds(&prediction), [("accelerator", Some(ErrorKind::Unavailable)), ("cpu", None)]);
    let told = prediction.attempts()[0].error.as_ref().unwrap().to_string();
    assert_eq!((told.as_str(), first.loads()), ("it is still loading the model", 1));
    first.release();
    wait_for(|| session.predict(&inputs).unwrap().served_by() == "accelerator");
    assert_eq!(first.loads(), 1);
}

#[test]
fn a_fault_at_load_is_tried_again_a_lack_is_not() {
    for (kind, loads) in [(ErrorKind::Fault, 2), (ErrorKind::Unsupported, 1)] {
        let first = accelerator().on_load(sequence([Act::Fail(kind)]));
        let session = builder(&first).load(tiny()).unwrap();
        let inputs = inputs(&session);
        let served = session.predict(&inputs).unwrap().served_by();
        assert_eq!(served, if loads == 2 { "accelerator" } else { "cpu" }, "{kind}");
        session.predict(&inputs).unwrap();
        assert_eq!(first.loads(), loads, "{kind}");
    }
}

#[test]
fn the_circuit_opens_below_95_percent_and_closes_again() {
    let first = accelerator().on_predict(sequence([Act::Fail(ErrorKind::Fault); 10]));
    let open_wait = OpenWait { initial: Duration::from_secs(2), jitter: 0.0, ..OpenWait::default() };
    let config = BreakerConfig { open_wait, ..BreakerConfig::default() };
    let session = builder(&first).breaker(config).load(tiny()).unwrap();
    let inputs = inputs(&session);
    for _ in 0..10 {
        assert_eq!(session.predict(&inputs).unwrap().served_by(), "cpu");
    }
    assert_eq!(session.breaker("accelerator").unwrap().state(), State::Open, "ten failures of ten");
    let prediction = session.predict(&inputs).unwrap();
    assert_eq!(kinds(&prediction), [("accelerator", Some(ErrorKind::Unavailable)), ("cpu", None)]);
    let told = prediction.attempts()[0].error.as_ref().unwrap().to_string();
    assert!(told.starts_with("the circuit breaker is open (success_rate); asked again in "), "{told}");
    assert_eq!(first.predictions(), 10, "an open circuit asks nobody");
    wait_for(|| session.predict(&inputs).unwrap().served_by() == "accelerator");
    assert_eq!(session.breaker("accelerator").unwrap().state(), State::Closed);
    let snapshot = session.telemetry().snapshot();
    let labels = ["accelerator", "closed", "open", "success_rate"];
    assert_eq!(snapshot.get(&names::BREAKER_TRANSITIONS, &labels), Some(&Reading::Counter(1)));
    assert_eq!(snapshot.get(&names::BREAKER_STATE, &["accelerator"]), Some(&Reading::Gauge(0.0)));
}

#[test]
fn nothing_breaks_the_last_backend_unless_told_to() {
    for breaks in [false, true] {
        let only = accelerator().on_predict(always(Act::Fail(ErrorKind::Fault)));
        let session = Session::builder().backends([only.backend()]).break_last_backend(breaks).load(tiny()).unwrap();
        let inputs = inputs(&session);
        for _ in 0..30 {
            let kind = session.predict(&inputs).unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Fault | ErrorKind::Unavailable), "{kind}");
        }
        assert_eq!(only.predictions(), if breaks { 10 } else { 30 });
    }
}

#[test]
fn a_fallback_that_cannot_run_the_model_replaces_nobody() {
    let first = accelerator().on_predict(always(Act::Fail(ErrorKind::Fault)));
    let second = Scripted::new("second", Arc::new(CpuBackend::default()));
    let second = second.on_load(always(Act::Fail(ErrorKind::Unsupported)));
    let session = Session::builder().backends([first.backend(), second.backend()]).load(tiny()).unwrap();
    let inputs = inputs(&session);
    (0..30).for_each(|_| assert!(session.predict(&inputs).is_err()));
    assert_eq!((first.predictions(), second.loads()), (30, 1), "the circuit stays closed");
}

#[test]
fn answers_that_cannot_be_right_are_not_given() {
    for act in [Act::NaN, Act::Infinite, Act::WrongShape, Act::WrongType, Act::Missing] {
        let first = accelerator().on_predict(sequence([act]));
        let session = builder(&first).load(tiny()).unwrap();
        let inputs = inputs(&session);
        let prediction = session.predict(&inputs).unwrap();
        assert_eq!(kinds(&prediction), [("accelerator", Some(ErrorKind::Fault)), ("cpu", None)], "{act:?}");
        assert_eq!(*prediction, expected(&inputs), "{act:?}");
        assert_eq!(session.telemetry().snapshot().total(&names::REJECTED_OUTPUTS), 1, "{act:?}");
        let trusting = builder(&accelerator().on_predict(sequence([act]))).trust_outputs(true).load(tiny()).unwrap();
        assert_eq!(trusting.predict(&inputs).unwrap().served_by(), "accelerator", "{act:?}");
    }
}

#[test]
fn a_backend_that_lies_is_found_by_comparing() {
    // The third answer is wrong.
    let script = || sequence([Act::Answer, Act::Answer, Act::WrongValues]);
    for deadline in [None, Some(DEADLINE)] {
        let first = accelerator().on_predict(script());
        let shadow = Shadow { every: 1, before_answer: true, ..Shadow::default() };
        let mut builder = builder(&first).shadow(shadow);
        if let Some(deadline) = deadline {
            builder = builder.deadline(deadline);
        }
        let session = builder.load(tiny()).unwrap();
        let inputs = inputs(&session);
        let right = expected(&inputs);
        let served: Vec<_> = (0..4)
            .map(|_| {
                let prediction = session.predict(&inputs).unwrap();
                assert_eq!(*prediction, right, "nobody sees the wrong answer");
                prediction.served_by()
            })
            .collect();
        assert_eq!(served, ["accelerator", "accelerator", "cpu", "cpu"], "{deadline:?}");
        let status = session.breaker("accelerator").unwrap().status(Instant::now());
        assert_eq!((status.state, status.reason), (State::Open, Some(Reason::ParityFailure)));
        let snapshot = session.telemetry().snapshot();
        let checks = |outcome| snapshot.get(&names::PARITY_CHECKS, &["accelerator", outcome]).cloned();
        assert_eq!(checks("within"), Some(Reading::Counter(2)));
        assert_eq!(checks("outside"), Some(Reading::Counter(1)));
    }
}

#[test]
fn comparing_aside_opens_the_circuit_for_those_that_follow() {
    let first = accelerator().on_predict(always(Act::WrongValues));
    let session =
        builder(&first).shadow(Shadow { every: 1, max_share: 1.0, ..Shadow::default() }).load(tiny()).unwrap();
    let inputs = inputs(&session);
    wait_for(|| session.predict(&inputs).unwrap().served_by() == "cpu");
    let status = session.breaker("accelerator").unwrap().status(Instant::now());
    assert_eq!(status.reason, Some(Reason::ParityFailure));
}

#[test]
fn hedging_takes_the_first_good_answer_within_its_budget() {
    // Every twentieth call takes longer than the deadline.
    let slow = |call: u64| if call % 20 == 19 { Act::Slow(DEADLINE + DEADLINE / 2) } else { Act::Answer };
    let first = accelerator().on_predict(Arc::new(slow));
    let config = BreakerConfig { mode: Mode::MetricsOnly, ..BreakerConfig::default() };
    let builder = builder(&first).deadline(DEADLINE).breaker(config);
    let session = builder.hedging(Hedging::default()).load(tiny()).unwrap();
    let inputs = inputs(&session);
    let right = expected(&inputs);
    for _ in 0..45 {
        assert_eq!(*session.predict(&inputs).unwrap(), right);
    }
    let snapshot = session.telemetry().snapshot();
    let hedges = snapshot.total(&names::HEDGES);
    assert!((1..=5).contains(&hedges), "{hedges} of 45 hedged");
}

#[test]
fn when_everybody_is_late_the_error_says_so() {
    let first = accelerator().on_predict(always(Act::Hang));
    let second = Scripted::new("second", Arc::new(CpuBackend::default())).on_predict(always(Act::Hang));
    let builder = Session::builder().threads(1).backends([first.backend(), second.backend()]);
    let session = builder.deadline(DEADLINE).load(tiny()).unwrap();
    let error = session.predict(&inputs(&session)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("accelerator: did not answer in time"), "{error}");
    first.release();
    second.release();
}

#[test]
fn memory_pressure_opens_the_circuit() {
    let first = accelerator();
    let session = builder(&first).memory_probe(|| Some(5 << 30)).load(tiny()).unwrap();
    let prediction = session.predict(&inputs(&session)).unwrap();
    assert_eq!(prediction.served_by(), "cpu");
    let status = session.breaker("accelerator").unwrap().status(Instant::now());
    assert_eq!(status.reason, Some(Reason::MemoryPressure));
    assert_eq!(session.telemetry().snapshot().get(&names::MEMORY, &[]), Some(&Reading::Gauge((5u64 << 30) as f64)));
}

#[test]
#[cfg(target_os = "linux")]
fn a_leak_opens_the_circuit_before_memory_runs_out() {
    let first = accelerator().on_predict(always(Act::Leak(1 << 20)));
    let now = memory::resident_bytes().unwrap();
    let limit = MemoryLimit { open_above: now + (64 << 20), close_below: now + (32 << 20), ..MemoryLimit::default() };
    let config = BreakerConfig { memory: Some(limit), ..BreakerConfig::default() };
    let session = builder(&first).breaker(config).load(tiny()).unwrap();
    let inputs = inputs(&session);
    wait_for(|| session.predict(&inputs).unwrap().served_by() == "cpu");
    let status = session.breaker("accelerator").unwrap().status(Instant::now());
    assert_eq!(status.reason, Some(Reason::MemoryPressure));
}

#[test]
fn sixteen_threads_lose_nothing_to_a_tenth_of_failures() {
    let first = accelerator().on_predict(sometimes(0.1, 3, Act::Fail(ErrorKind::Fault)));
    let session = builder(&first).deadline(Duration::from_secs(60)).load(tiny()).unwrap();
    let inputs: Vec<_> = (0..4).map(|seed| synthetic_inputs(session.interface(), seed).unwrap()).collect();
    let right: Vec<_> = inputs.iter().map(expected).collect();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (session, inputs, right) = (&session, &inputs, &right);
            scope.spawn(move || {
                for i in 0..100 {
                    let which = (thread + i) % inputs.len();
                    assert_eq!(*session.predict(&inputs[which]).unwrap(), right[which]);
                }
            });
        }
    });
    assert_eq!(session.telemetry().snapshot().get(&names::PREDICTIONS, &["ok"]), Some(&Reading::Counter(1600)));
}
