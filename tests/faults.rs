//! Never lose a request: every class of fault, many times, on a small model.
//!
//! Each trial is a session of its own whose first backend misbehaves at a random call. Every prediction must be answered
//! with the right numbers or a typed error. `COREML_FAULT_TRIALS` sets the trials of a class (1,000 for the figures in
//! docs/reliability.md) and makes the suite judge deadlines as well: at most one answer in twenty may be a time-out, and
//! one in a thousand late. Without it there are few trials, and times are only printed, because a busy machine may give
//! no thread the processor in time. `COREML_SOAK_PREDICTIONS` sets the length of the soak.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coreml_anywhere::breaker::{BreakerConfig, OpenWait};
use coreml_anywhere::isolation::{Isolated, Restart, WorkerCommand};
use coreml_anywhere::model::Package;
use coreml_anywhere::telemetry::{Growth, memory, names};
use coreml_anywhere::{
    Backend, CpuBackend, ErrorKind, Inputs, Outputs, Session, SessionBuilder, Shadow, synthetic_inputs,
};
use coreml_testing::repository;
use coreml_testing::scripted::{Act, Scripted, always, sometimes};

/// Long beside the model's microseconds, short enough for thousands of trials that run into it.
const DEADLINE: Duration = Duration::from_millis(25);
/// That of workers in a process of their own, which has to be started.
const WORKER_DEADLINE: Duration = Duration::from_millis(100);
/// What may be added to a deadline, but for one prediction in a thousand.
const GRACE: Duration = Duration::from_millis(20);
/// Predictions of a trial.
const PREDICTIONS: u64 = 8;

/// Time and memory are the whole process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, PartialEq)]
enum When {
    Load,
    /// At one random call.
    Once,
    /// From a random call on.
    Onwards,
}

struct Class {
    name: &'static str,
    act: Act,
    when: When,
    tune: fn(SessionBuilder) -> SessionBuilder,
    stateful: bool,
    /// In a worker process, which is told what to do by this word.
    worker: Option<&'static str>,
}

const fn class(name: &'static str, act: Act, when: When) -> Class {
    Class { name, act, when, tune: |builder| builder, stateful: false, worker: None }
}

impl Class {
    fn deadline(&self) -> Duration {
        if self.worker.is_some() { WORKER_DEADLINE } else { DEADLINE }
    }

    fn first_backend(&self, at: u64) -> (Option<Scripted>, Arc<dyn Backend>) {
        let (act, when) = (self.act, self.when);
        if let Some(word) = self.worker {
            let call = if when == When::Load { "load".to_owned() } else { at.to_string() };
            let command = WorkerCommand::program(env!("CARGO_BIN_EXE_scripted-worker"), &[word, &call]);
            let restart = Restart { call_deadline: Duration::from_millis(50), ..Restart::default() };
            return (None, Arc::new(Isolated::new("scripted", command).restart(restart)));
        }
        let first = Scripted::new("first", Arc::new(CpuBackend::default()));
        let first = match when {
            When::Load => first.on_load(always(act)),
            _ => {
                let due = move |call| if when == When::Once { call == at } else { call >= at };
                first.on_predict(Arc::new(move |call| if due(call) { act } else { Act::Answer }))
            }
        };
        let backend = first.backend();
        (Some(first), backend)
    }
}

const CLASSES: [Class; 25] = [
    class("error", Act::Fail(ErrorKind::Fault), When::Onwards),
    class("backend gone", Act::Fail(ErrorKind::Unavailable), When::Onwards),
    class("operation not supported", Act::Fail(ErrorKind::Unsupported), When::Onwards),
    class("timeout of its own", Act::Fail(ErrorKind::Timeout), When::Onwards),
    class("panic", Act::Panic, When::Onwards),
    class("never returns", Act::Hang, When::Onwards),
    class("never returns, once", Act::Hang, When::Once),
    class("returns late", Act::Slow(Duration::from_millis(40)), When::Onwards),
    class("ten times slower, in time", Act::Slow(Duration::from_millis(2)), When::Onwards),
    class("NaN", Act::NaN, When::Onwards),
    class("infinity", Act::Infinite, When::Onwards),
    class("wrong shape", Act::WrongShape, When::Onwards),
    class("wrong data type", Act::WrongType, When::Onwards),
    class("output missing", Act::Missing, When::Onwards),
    Class {
        tune: |builder| builder.shadow(Shadow { every: 1, before_answer: true, ..Shadow::default() }),
        ..class("wrong values, all compared", Act::WrongValues, When::Onwards)
    },
    class("leak of 4 KiB a call", Act::Leak(4 << 10), When::Onwards),
    Class {
        tune: |builder| builder.memory_probe(|| Some(3 << 30)),
        ..class("memory pressure", Act::Answer, When::Onwards)
    },
    class("load fails", Act::Fail(ErrorKind::Fault), When::Load),
    class("load panics", Act::Panic, When::Load),
    class("load never returns", Act::Hang, When::Load),
    Class { stateful: true, ..class("error while it has a state", Act::Fail(ErrorKind::Fault), When::Onwards) },
    Class { worker: Some("abort"), ..class("worker process aborts", Act::Abort, When::Onwards) },
    Class { worker: Some("hang"), ..class("worker process hangs", Act::Hang, When::Onwards) },
    Class { worker: Some("abort"), ..class("worker aborts as it loads", Act::Abort, When::Load) },
    Class { stateful: true, ..class("late write to a state", Act::Slow(Duration::from_millis(40)), When::Once) },
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn package(stateful: bool) -> Package {
    if stateful {
        return Package::open(repository().join("tests/golden/state/accumulator.mlmodel")).unwrap();
    }
    // From a file, so that a worker process can read it too.
    Package::open(repository().join("tests/golden/elementwise/add-same.mlmodel")).unwrap()
}

/// Planned panics say nothing; others are shown as ever.
fn quiet_scripted_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"scripted") {
            usual(panic);
        }
    }));
}

#[derive(Default)]
struct Tally {
    primary: u64,
    fallback: u64,
    errors: u64,
    wrong: u64,
    elapsed: Vec<Duration>,
}

impl Tally {
    fn row(&mut self, name: &str) -> String {
        self.elapsed.sort_unstable();
        let n = self.elapsed.len();
        let at = |quantile: f64| self.elapsed[((n as f64 * quantile).ceil() as usize).clamp(1, n) - 1];
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        format!(
            "| {name:<28} | {n:>6} | {:>9} | {:>8} | {:>6} | {:>5} | {:>7.2} | {:>9.2} | {:>7.2} |",
            self.primary,
            self.fallback,
            self.errors,
            self.wrong,
            ms(at(0.5)),
            ms(at(0.999)),
            ms(at(1.0)),
        )
    }

    fn at_999(&self) -> Duration {
        self.elapsed[((self.elapsed.len() as f64 * 0.999).ceil() as usize).max(1) - 1]
    }
}

/// What the model answers, one prediction after another, by the CPU engine alone.
fn expected(stateful: bool, inputs: &[Inputs<'_>]) -> Vec<Outputs> {
    let session = Session::builder().threads(1).load(package(stateful)).unwrap();
    let state = session.state();
    inputs.iter().map(|inputs| session.predict_with_state(inputs, &state).unwrap().into_outputs()).collect()
}

fn trial(class: &Class, seed: u64, inputs: &[Inputs<'_>], expected: &[Outputs], tally: &mut Tally) {
    let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    random(&mut dice);
    let at = random(&mut dice) % PREDICTIONS;
    let (first, backend) = class.first_backend(at);
    let builder = Session::builder().threads(1).deadline(class.deadline()).load_deadline(class.deadline());
    let builder = (class.tune)(builder.backends([backend, Arc::new(CpuBackend::default())]));
    let session = builder.load(package(class.stateful)).unwrap();
    let state = session.state();
    for (inputs, expected) in inputs.iter().zip(expected) {
        let start = Instant::now();
        let result = if class.stateful { session.predict_with_state(inputs, &state) } else { session.predict(inputs) };
        tally.elapsed.push(start.elapsed());
        match result {
            Ok(prediction) => {
                tally.wrong += u64::from(*prediction != *expected);
                *(if prediction.degraded() { &mut tally.fallback } else { &mut tally.primary }) += 1;
            }
            Err(error) => {
                // A state lives with one backend: when that fails, the caller must begin anew, and is told so. Otherwise
                // there is an error only when the machine gave nobody the processor in time.
                assert!(class.stateful || error.kind() == ErrorKind::Timeout, "{}: trial {seed}: {error}", class.name);
                tally.errors += 1;
            }
        }
    }
    if let Some(first) = first {
        first.release();
    }
}

#[test]
fn every_request_is_answered_rightly_and_in_time() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    quiet_scripted_panics();
    let judged = std::env::var_os("COREML_FAULT_TRIALS").is_some();
    let trials = setting("COREML_FAULT_TRIALS", 12);
    println!(
        "{trials} trials of {PREDICTIONS} predictions each, deadline {DEADLINE:?}, with workers {WORKER_DEADLINE:?}; ms"
    );
    println!(
        "| fault                        |      n | by itself | fallback | errors | wrong |     p50 |     p99.9 |     max |"
    );
    println!(
        "|------------------------------|-------:|----------:|---------:|-------:|------:|--------:|----------:|--------:|"
    );
    let mut late = Vec::new();
    for class in &CLASSES {
        let session = Session::builder().threads(1).load(package(class.stateful)).unwrap();
        let inputs: Vec<_> = (0..PREDICTIONS).map(|i| synthetic_inputs(session.interface(), i).unwrap()).collect();
        let expected = expected(class.stateful, &inputs);
        let mut tally = Tally::default();
        for seed in 0..trials {
            trial(class, seed, &inputs, &expected, &mut tally);
        }
        println!("{}", tally.row(class.name));
        assert_eq!(tally.wrong, 0, "{}: wrong answers", class.name);
        let answered = tally.primary + tally.fallback;
        assert!(answered > 0, "{}: nobody ever answered", class.name);
        let too_many = !class.stateful && tally.errors * 20 > answered;
        assert!(!(judged && too_many), "{}: {} timeouts", class.name, tally.errors);
        if tally.at_999() > class.deadline() + GRACE {
            late.push(format!("{}: {:?}", class.name, tally.at_999()));
        }
    }
    assert!(!judged || late.is_empty(), "later than the deadline and {GRACE:?} at p99.9: {late:?}");
}

#[test]
fn a_long_run_with_faults_loses_nothing_and_does_not_grow() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let predictions = setting("COREML_SOAK_PREDICTIONS", 20_000);
    let first = Scripted::new("first", Arc::new(CpuBackend::default())).on_predict(sometimes(
        0.01,
        1,
        Act::Fail(ErrorKind::Fault),
    ));
    let open_wait =
        OpenWait { initial: Duration::from_millis(5), max: Duration::from_millis(20), ..OpenWait::default() };
    let config = BreakerConfig { open_wait, ..BreakerConfig::default() };
    let builder = Session::builder().threads(1).deadline(Duration::from_secs(60)).breaker(config);
    let session = builder.backends([first.backend(), Arc::new(CpuBackend::default())]).load(package(false)).unwrap();
    let inputs = synthetic_inputs(session.interface(), 0).unwrap();
    let right = expected(false, std::slice::from_ref(&inputs)).remove(0);
    let mut served_first = 0;
    let mut footprint = Vec::new();
    for i in 0..predictions {
        let prediction = session.predict(&inputs).unwrap();
        assert_eq!(*prediction, right, "prediction {i}");
        served_first += u64::from(!prediction.degraded());
        if i % (predictions / 200).max(1) == 0 {
            footprint.push((i, memory::resident_bytes().unwrap_or(0)));
        }
    }
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0);
    let snapshot = session.telemetry().snapshot();
    println!(
        "{predictions} predictions, all answered: {served_first} by the first backend; {} trips; {threads} threads",
        snapshot.total(&names::BREAKER_TRANSITIONS)
    );
    assert!(served_first > predictions / 10, "the circuit never closed again");
    let growth = Growth::of(&footprint).unwrap();
    println!("resident memory: {growth}, zero in the interval: {}", growth.includes_zero());
    assert!(!growth.exceeds(4.0), "memory grows: {growth}");
}
