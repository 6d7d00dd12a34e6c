//! A backend in a process of its own: it may abort, hang or be killed, and no request is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]
#![cfg(unix)]

use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::process::Command;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

use coreml_anywhere::breaker::{BreakerConfig, Mode};
use coreml_anywhere::isolation::{Isolated, Restart, WorkerCommand};
use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::{
    Availability, Backend, CpuBackend, Error, ErrorKind, Inputs, Label, Outputs, Session, SessionBuilder,
    synthetic_inputs,
};
use coreml_testing::repository;
use coreml_testing::tiny::elementwise_model;

const WORKER: &str = env!("CARGO_BIN_EXE_scripted-worker");

fn golden(name: &str) -> PathBuf {
    repository().join("tests/golden").join(name)
}

fn small() -> PathBuf {
    golden("elementwise/add-same.mlmodel")
}

fn isolated(arguments: &[&str]) -> Isolated {
    Isolated::new("scripted", WorkerCommand::program(WORKER, arguments))
}

/// The isolated backend, then the CPU engine of this process; the breaker only looks on.
fn builder(first: Isolated) -> SessionBuilder {
    let config = BreakerConfig { mode: Mode::MetricsOnly, ..BreakerConfig::default() };
    let backends: [Arc<dyn Backend>; 2] = [Arc::new(first), Arc::new(CpuBackend::default())];
    Session::builder().threads(1).breaker(config).backends(backends)
}

fn inputs(session: &Session) -> Inputs<'static> {
    synthetic_inputs(session.interface(), 3).unwrap()
}

fn expected(model: &Path, inputs: &Inputs<'_>) -> Outputs {
    Session::builder().threads(1).open(model).unwrap().predict(inputs).unwrap().into_outputs()
}

#[test]
fn answers_are_those_of_the_same_engine_in_this_process() {
    let isolated = |arguments: &[&str]| Isolated::new("cpu", WorkerCommand::program(WORKER, arguments));
    for model in
        [repository().join("tests/fixtures/models/EfficientNetLite0.mlpackage"), golden("elementwise/add-same.mlmodel")]
    {
        let builder = Session::builder().threads(1).backends([Arc::new(isolated(&["answer"])) as Arc<dyn Backend>]);
        let session = builder.open(&model).unwrap();
        assert!(!session.info().plan.is_empty());
        for seed in 0..3 {
            let inputs = synthetic_inputs(session.interface(), seed).unwrap();
            assert_eq!(*session.predict(&inputs).unwrap(), expected(&model, &inputs), "{}", model.display());
        }
    }
}

/// A model that gives back what it takes, of every type that is no array and no picture.
#[test]
fn values_of_every_type_cross_to_the_worker_and_back() {
    use coreml_testing::wire::{Message, Type, feature, model};

    let types = [Type::Int64, Type::Double, Type::String, Type::ByString, Type::ByInt64, Type::Strings, Type::Integers];
    let features: Vec<Message> = ["int", "double", "string", "by string", "by int", "strings", "ints"]
        .iter()
        .zip(types)
        .map(|(name, ty)| feature(name, ty))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.mlmodel");
    std::fs::write(&path, model(900, &Message::new(), &features, &features, &[]).bytes()).unwrap();
    let label = |text: &str| Label::String(text.into());
    let inputs = Inputs::new()
        .int64("int", i64::MIN)
        .double("double", -0.1)
        .string("string", "naïve ☃")
        .dictionary("by string", [(label("b"), 1.0), (label(""), 2.0)])
        .dictionary("by int", [(Label::Int64((1 << 53) + 1), 0.5)])
        .sequence("strings", [label("z"), label("a")])
        .sequence("ints", [Label::Int64(3), Label::Int64(-3)]);
    let session = builder(isolated(&["answer"])).open(&path).unwrap();
    let prediction = session.predict(&inputs).unwrap();
    assert_eq!(prediction.served_by(), "scripted");
    assert_eq!(prediction.iter().len(), features.len());
    assert_eq!(prediction.sequence("strings").unwrap(), [label("z"), label("a")]);
    assert_eq!(*prediction, expected(&path, &inputs));
}

#[test]
fn states_live_in_the_worker_and_are_lost_with_it() {
    let model = golden("state/accumulator.mlmodel");
    let session = builder(isolated(&["abort", "3"])).open(&model).unwrap();
    let here = Session::builder().threads(1).open(&model).unwrap();
    let (there_state, here_state) = (session.state(), here.state());
    let inputs = inputs(&session);
    for _ in 0..3 {
        let prediction = session.predict_with_state(&inputs, &there_state).unwrap();
        assert_eq!(prediction.served_by(), "scripted");
        assert_eq!(*prediction, *here.predict_with_state(&inputs, &here_state).unwrap());
    }
    assert_eq!(there_state.read("s").unwrap(), here_state.read("s").unwrap());
    let fork = there_state.fork().unwrap();
    assert_eq!(fork.snapshot().unwrap(), here_state.snapshot().unwrap());
    let error = session.predict_with_state(&inputs, &there_state).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fault, "the worker process is lost: signal 6"));
    assert_eq!(session.predict_with_state(&inputs, &there_state).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(session.predict_with_state(&inputs, &session.state()).unwrap().served_by(), "scripted");
}

#[test]
fn a_crash_costs_one_request_its_primary_answer() {
    let session = builder(isolated(&["abort", "4"])).open(small()).unwrap();
    let inputs = inputs(&session);
    let right = expected(&small(), &inputs);
    // Every worker aborts at its fifth call.
    let served: Vec<_> = (0..15)
        .map(|_| {
            let prediction = session.predict(&inputs).unwrap();
            assert_eq!(*prediction, right);
            prediction.served_by()
        })
        .collect();
    let round = ["scripted", "scripted", "scripted", "scripted", "cpu"];
    assert_eq!(served, [round, round, round].concat());
}

#[test]
fn a_hung_worker_is_killed_and_replaced() {
    let restart = Restart { call_deadline: Duration::from_secs(3), ..Restart::default() };
    let session = builder(isolated(&["hang", "1"]).restart(restart)).open(small()).unwrap();
    let inputs = inputs(&session);
    assert_eq!(session.predict(&inputs).unwrap().served_by(), "scripted");
    let prediction = session.predict(&inputs).unwrap();
    assert_eq!(prediction.served_by(), "cpu");
    let error = prediction.attempts()[0].error.as_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "the worker did not answer in 3.0s and was killed");
    assert_eq!(session.predict(&inputs).unwrap().served_by(), "scripted");
}

#[test]
fn panics_and_errors_do_not_cost_the_worker() {
    for (act, kind) in [("panic", ErrorKind::Bug), ("fail", ErrorKind::Fault)] {
        let session = builder(isolated(&[act, "1"])).open(small()).unwrap();
        let inputs = inputs(&session);
        let kinds: Vec<_> =
            (0..4).map(|_| session.predict(&inputs).unwrap().attempts()[0].error.as_ref().map(Error::kind)).collect();
        assert_eq!(kinds, [None, Some(kind), None, None], "one worker, which counts on");
    }
}

#[test]
fn a_worker_that_dies_while_it_loads_is_tried_again_later_and_later() {
    let session = builder(isolated(&["abort", "load"])).open(small()).unwrap();
    let inputs = inputs(&session);
    let prediction = session.predict(&inputs).unwrap();
    assert_eq!(prediction.served_by(), "cpu");
    let told = prediction.attempts()[0].error.as_ref().unwrap().to_string();
    assert_eq!(told, "the worker process was lost while it loaded the model: signal 6");
}

#[test]
fn workers_that_answer_nothing_are_not_started_without_end() {
    let restart = Restart { first_wait: Duration::from_secs(60), ..Restart::default() };
    let session = builder(isolated(&["abort", "0"]).restart(restart)).open(small()).unwrap();
    let inputs = inputs(&session);
    let errors: Vec<_> = (0..3)
        .map(|_| session.predict(&inputs).unwrap().attempts()[0].error.as_ref().map(ToString::to_string).unwrap())
        .collect();
    assert_eq!(errors[0], "the worker process is lost: signal 6");
    assert!(errors[1].starts_with("the worker process died 1 times in a row; the next starts in "), "{}", errors[1]);
    assert_eq!(session.predict(&inputs).unwrap().served_by(), "cpu");
}

#[test]
fn what_cannot_be_isolated_says_so() {
    let nowhere = Isolated::new("cpu", WorkerCommand::program("/nowhere/worker", &[]));
    let Availability::Unavailable { reason } = nowhere.availability() else { panic!("there is no such program") };
    assert_eq!(reason, "there is no worker at /nowhere/worker");
    let backends = |first: Isolated| Session::builder().backends([Arc::new(first) as Arc<dyn Backend>]);
    let bytes = Package::from_parts(&elementwise_model(&[2], &["relu"]), None, &Limits::default()).unwrap();
    let error = backends(isolated(&["answer"])).load(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let unknown = Isolated::new("neural-engine", WorkerCommand::program(WORKER, &["answer"]));
    let error = backends(unknown).open(small()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Unavailable, "the worker has no backend `neural-engine`")
    );
}

/// Kills the worker at random moments while predictions are made; `COREML_KILLS` sets how often.
#[test]
#[cfg(target_os = "linux")]
fn the_host_survives_every_kill() {
    // Longer than a kill, a restart and a load take on the busiest machine.
    const DEADLINE: Duration = Duration::from_secs(30);
    let kills: u32 = std::env::var("COREML_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    // Tests run side by side: this number tells the workers to kill from all others.
    let session = builder(isolated(&["answer", "424242"])).deadline(DEADLINE).open(small()).unwrap();
    let inputs = inputs(&session);
    let right = expected(&small(), &inputs);
    let done = AtomicBool::new(false);
    let (mut predictions, mut fallbacks, mut slowest) = (0u32, 0u32, Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = 1u64;
            for _ in 0..kills {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                std::thread::sleep(Duration::from_micros(dice >> 50));
                for pid in coreml_testing::children().into_iter().filter(|&pid| is(pid, "answer\x00424242\0")) {
                    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            let prediction = session.predict(&inputs).unwrap();
            slowest = slowest.max(start.elapsed());
            assert_eq!(*prediction, right);
            predictions += 1;
            fallbacks += u32::from(prediction.served_by() == "cpu");
        }
    });
    println!("{kills} kills: {predictions} predictions answered, {fallbacks} by the CPU engine, slowest {slowest:?}");
    assert!(fallbacks > 0, "no kill was noticed");
}

#[test]
#[cfg(target_os = "linux")]
fn no_worker_outlives_its_session() {
    let only = Isolated::new("scripted", WorkerCommand::program(WORKER, &["answer", "77"]));
    let session = builder(only).open(small()).unwrap();
    let own = || coreml_testing::children().into_iter().filter(|&pid| is(pid, "answer\x0077\0")).count();
    assert_eq!(own(), 1);
    drop(session);
    assert_eq!(own(), 0);
}

/// The package is replaced, by writing into it, while workers are killed: those that come after must not answer for the
/// other model. `COREML_KILLS` sets how often.
#[test]
#[cfg(target_os = "linux")]
fn no_worker_answers_for_a_model_that_took_the_place_of_the_first() {
    let kills: u32 = std::env::var("COREML_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodel");
    let models = ["relu", "abs"].map(|operation| elementwise_model(&[64], &[operation]));
    std::fs::write(&path, &models[0]).unwrap();
    let restart =
        Restart { first_wait: Duration::from_millis(1), longest_wait: Duration::from_millis(1), ..Restart::default() };
    let session = builder(isolated(&["answer", "535353"]).restart(restart)).open(&path).unwrap();
    let inputs = inputs(&session);
    let right = expected(&path, &inputs);
    std::fs::write(&path, &models[1]).unwrap();
    assert_ne!(right, expected(&path, &inputs), "the models differ");

    let done = AtomicBool::new(false);
    let (mut worker, mut refused) = (0u32, 0u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = 7u64;
            for round in 0..kills {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                std::thread::sleep(Duration::from_micros(dice >> 50));
                std::fs::write(&path, &models[usize::from(round % 3 == 0)]).unwrap();
                for pid in coreml_testing::children().into_iter().filter(|&pid| is(pid, "answer\x00535353\0")) {
                    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let prediction = session.predict(&inputs).unwrap();
            assert_eq!(*prediction, right);
            worker += u32::from(prediction.served_by() == "scripted");
            let told = prediction.attempts()[0].error.as_ref().map(ToString::to_string);
            refused += u32::from(told.is_some_and(|told| told.contains("is not the model any more")));
        }
    });
    println!("{kills} replacements: {worker} answers by workers, {refused} workers refused to serve the other model");

    std::fs::write(&path, &models[1]).unwrap();
    for pid in coreml_testing::children().into_iter().filter(|&pid| is(pid, "answer\x00535353\0")) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    let told = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(1));
        let prediction = session.predict(&inputs).unwrap();
        assert_eq!(*prediction, right);
        prediction.attempts()[0].error.as_ref().map(ToString::to_string)
    });
    let refusal = told.take(60_000).flatten().find(|told| told.contains("is not the model any more"));
    assert!(refusal.is_some_and(|told| told.contains("open it anew")), "no worker refused");
}

/// Whether the command line of a process ends so.
#[cfg(target_os = "linux")]
fn is(pid: u32, ending: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(ending))
}
