//! What the observer sees, and that the breaker holds no lock while it runs.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use crate::bench::{Bench, SECOND, config};
use coreml_breaker::Outcome::Success;
use coreml_breaker::{CircuitBreaker, Reason, State, Transition};

#[test]
fn transitions_tell_when_and_count_generations() {
    let bench = Bench::new(config());
    bench.pass(SECOND);
    bench.trip();
    bench.pass(SECOND);
    bench.calls(1, Success);
    let seen = bench.seen.lock().unwrap();
    let at: Vec<_> = seen.iter().map(|t| t.at - bench.epoch).collect();
    assert_eq!(at, [SECOND, 2 * SECOND, 2 * SECOND]);
    let generations: Vec<_> = seen.iter().map(|t| t.generation).collect();
    assert_eq!(generations, [1, 2, 3]);
    assert_eq!(bench.status().generation, 3);
}

#[test]
fn an_observer_may_use_the_breaker() {
    let breaker: Arc<OnceLock<Weak<CircuitBreaker>>> = Arc::default();
    let (inner, seen) = (Arc::clone(&breaker), Arc::new(Mutex::new(Vec::new())));
    let (log, now) = (Arc::clone(&seen), Instant::now());
    let running = AtomicU64::new(0);
    let observer = move |t: &Transition| {
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "told of a change while it is told of another");
        let breaker = inner.get().unwrap().upgrade().unwrap();
        log.lock().unwrap().push((t.to, breaker.status(now).state));
        if t.to == State::Open {
            breaker.reset(now);
        }
        running.fetch_sub(1, Ordering::SeqCst);
    };
    let outer = Arc::new(CircuitBreaker::new(config(), 1, now, observer).unwrap());
    breaker.set(Arc::downgrade(&outer)).unwrap();
    outer.parity_failure(now);
    assert_eq!(*seen.lock().unwrap(), [(State::Open, State::Open), (State::Closed, State::Closed)]);
}

#[test]
fn a_panicking_observer_loses_its_transition_and_no_other() {
    let (now, seen) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&seen);
    let observer = move |t: &Transition| match t.reason {
        Reason::ParityFailure => std::panic::resume_unwind(Box::new("observer")),
        _ => log.lock().unwrap().push(t.to),
    };
    let breaker = CircuitBreaker::new(config(), 1, now, observer).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| breaker.parity_failure(now)));
    assert!(caught.is_err());
    breaker.reset(now);
    assert_eq!(*seen.lock().unwrap(), [State::Closed]);
    assert!(breaker.admit(now).unwrap().settle(Success, now) == coreml_breaker::Settled::Counted);
}

/// Four threads change states as fast as they can: the observer sees a chain without gap, each link once.
#[test]
fn transitions_arrive_in_order_and_once_from_any_number_of_threads() {
    let (now, seen) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let (log, running) = (Arc::clone(&seen), Arc::new(AtomicU64::new(0)));
    let observer = move |t: &Transition| {
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
        log.lock().unwrap().push(*t);
        running.fetch_sub(1, Ordering::SeqCst);
    };
    let breaker = CircuitBreaker::new(config(), 1, now, observer).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breaker = &breaker;
            scope.spawn(move || {
                for i in 0..500 {
                    match (i + thread) % 3 {
                        0 => breaker.parity_failure(now),
                        1 => breaker.force_open(now),
                        _ => breaker.reset(now),
                    }
                }
            });
        }
    });
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 100, "{} transitions", seen.len());
    assert!(seen.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].generation < pair[1].generation));
    assert_eq!((seen[0].from, seen.last().unwrap().to), (State::Closed, breaker.state()));
}

#[test]
fn names_are_distinct_and_in_snake_case() {
    let names: Vec<_> = State::ALL.map(State::name).into_iter().chain(Reason::ALL.map(Reason::name)).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(names.iter().all(|name| plain(name)), "{names:?}");
    let debug: Vec<_> =
        State::ALL.map(|s| format!("{s:?}")).into_iter().chain(Reason::ALL.map(|r| format!("{r:?}"))).collect();
    for (name, debug) in names.iter().zip(debug) {
        assert_eq!(name.replace('_', ""), debug.to_lowercase());
    }
}

#[test]
fn a_breaker_prints_its_state() {
    let bench = Bench::new(config());
    bench.trip();
    assert_eq!(format!("{:?}", bench.breaker), "CircuitBreaker { state: Open, .. }");
}
