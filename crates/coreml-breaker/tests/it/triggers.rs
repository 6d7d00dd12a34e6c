//! What opens a closed circuit, at the boundary of each trigger.

use std::time::Duration;

use crate::bench::{Bench, MS, SECOND, config};
use coreml_breaker::Outcome::{DeadlineMiss, Failure, Ignored, Panicked, Success};
use coreml_breaker::{BreakerConfig, Counts, MemoryLimit, Mode, Reason, Settled, SlowCalls, State, Window};

/// Successes, then failures one by one: how many of them it takes to open.
fn failures_until_open(config: BreakerConfig, successes: u64) -> Option<u64> {
    let bench = Bench::new(config);
    bench.calls(successes, Success);
    (1..=10_000).find(|_| {
        bench.calls(1, Failure);
        bench.breaker.state() == State::Open
    })
}

#[test]
fn nothing_trips_before_the_window_holds_enough_calls() {
    let bench = Bench::new(config());
    bench.calls(9, Failure);
    assert_eq!(bench.breaker.state(), State::Closed);
    bench.calls(1, Failure);
    assert_eq!(bench.log(), ["closed > open: success_rate"]);
}

#[test]
fn the_call_that_makes_it_enough_may_be_a_success() {
    let bench = Bench::new(config());
    bench.calls(1, Failure);
    bench.calls(8, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Open, "9 of 10 are 90 %");
}

#[test]
fn ninety_five_of_a_hundred_is_enough_and_ninety_four_is_not() {
    assert_eq!(failures_until_open(config(), 100), Some(6));
    assert_eq!(failures_until_open(config(), 99), Some(6));
    let patient = BreakerConfig { min_calls: 100, ..config() };
    for (failures, state) in [(5, State::Closed), (6, State::Open)] {
        let bench = Bench::new(patient.clone());
        bench.calls(failures, Failure);
        bench.calls(100 - failures, Success);
        assert_eq!(bench.breaker.state(), state, "{failures} failures of 100");
    }
}

#[test]
fn the_rate_is_exact_to_a_hundredth_of_a_percent() {
    let config = BreakerConfig { window: Window::Calls(10_000), min_calls: 10_000, ..config() };
    for (successes, state) in [(9_499, State::Open), (9_500, State::Closed), (9_501, State::Closed)] {
        let bench = Bench::new(config.clone());
        bench.calls(10_000 - successes, Failure);
        bench.calls(successes, Success);
        assert_eq!(bench.breaker.state(), state, "{successes} of 10,000");
    }
}

/// In floating point 0.57 * 100 is 56.99999999999999, and 0.29 * 100 is 28.999999999999996.
#[test]
fn no_rate_is_rounded_against_the_counts() {
    for percent in 1..=100u32 {
        let config = BreakerConfig { min_calls: 100, success_rate: f64::from(percent) / 100.0, ..config() };
        for (successes, state) in [(percent, State::Closed), (percent - 1, State::Open)] {
            let bench = Bench::new(config.clone());
            bench.calls(u64::from(100 - successes), Failure);
            bench.calls(u64::from(successes), Success);
            assert_eq!(bench.breaker.state(), state, "{successes} of 100 at {percent} %");
        }
    }
}

#[test]
fn a_total_outage_after_a_million_successes_is_seen_at_once() {
    assert_eq!(failures_until_open(config(), 1_000_000), Some(6));
    let consecutive = BreakerConfig { consecutive_failures: Some(3), ..config() };
    assert_eq!(failures_until_open(consecutive, 1_000_000), Some(3));
    // At least one call a millisecond: the last ten parts of the window hold 1000.
    let bench = Bench::new(BreakerConfig { window: Window::Time(SECOND), ..config() });
    for _ in 0..100_000 {
        bench.pass(MS);
        bench.calls(1, Success);
    }
    let failures = (1..).find(|_| {
        bench.pass(MS);
        bench.calls(1, Failure);
        bench.breaker.state() == State::Open
    });
    assert!((48..=53).contains(&failures.unwrap()), "more than 5 % of 900 to 1000 calls, not {failures:?}");
}

#[test]
fn few_failures_are_forgiven_where_that_is_configured() {
    let config = BreakerConfig { min_failures: 3, ..config() };
    let bench = Bench::new(config.clone());
    bench.calls(2, Failure);
    bench.calls(10, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
    assert_eq!(failures_until_open(config, 8), Some(3));
}

#[test]
fn a_success_ends_a_row_of_failures() {
    let bench = Bench::new(BreakerConfig { consecutive_failures: Some(3), success_rate: 0.0, ..config() });
    for warm in [false, true] {
        if warm {
            bench.calls(50, Success);
        }
        bench.calls(2, Failure);
        assert_eq!(bench.status().consecutive_failures, 2);
        bench.calls(1, Success);
        assert_eq!(bench.status().consecutive_failures, 0);
    }
    bench.calls(2, Failure);
    assert_eq!(bench.call(Ignored), Settled::Uncounted);
    bench.calls(1, Panicked);
    assert_eq!(bench.log(), ["closed > open: consecutive_failures"]);
}

#[test]
fn calls_leave_the_window_one_by_one() {
    let bench = Bench::new(BreakerConfig { window: Window::Calls(20), success_rate: 0.9, ..config() });
    bench.calls(18, Success);
    bench.calls(2, Failure);
    // The failures move to the far end and out; two new ones at any time are no more than 10 %.
    bench.calls(18, Success);
    assert_eq!(bench.status().window, Counts { calls: 20, failures: 2, slow: 0, deadline_misses: 0 });
    bench.calls(1, Failure);
    assert_eq!(bench.status().window.failures, 2);
    bench.calls(1, Success);
    assert_eq!(bench.status().window.failures, 1);
    bench.calls(1, Failure);
    assert_eq!(bench.breaker.state(), State::Closed);
    bench.calls(1, Failure);
    assert_eq!(bench.breaker.state(), State::Open);
}

#[test]
fn a_time_window_forgets_by_tenths() {
    let bench = Bench::new(BreakerConfig { window: Window::Time(SECOND), success_rate: 0.0, ..config() });
    bench.pass(99 * MS);
    bench.calls(3, Failure);
    bench.pass(MS);
    bench.calls(20, Success);
    bench.pass(899 * MS);
    assert_eq!(bench.status().window, Counts { calls: 23, failures: 3, slow: 0, deadline_misses: 0 });
    // 901 ms after the first and 1 s after the epoch the first part goes.
    bench.pass(MS);
    assert_eq!(bench.status().window, Counts { calls: 20, failures: 0, slow: 0, deadline_misses: 0 });
    bench.calls(2, Success);
    bench.pass(100 * MS);
    bench.calls(1, Failure);
    assert_eq!(bench.status().window, Counts { calls: 3, failures: 1, slow: 0, deadline_misses: 0 });
    bench.pass(3600 * SECOND);
    assert_eq!(bench.status().window, Counts::default());
}

#[test]
fn in_a_time_window_a_success_can_show_that_the_rate_has_fallen() {
    let bench = Bench::new(BreakerConfig { window: Window::Time(SECOND), ..config() });
    bench.calls(100, Success);
    bench.pass(500 * MS);
    bench.calls(1, Failure);
    bench.calls(10, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
    // Now the hundred are gone, and 10 of 11 are 91 %; looking decides nothing.
    bench.pass(500 * MS);
    assert_eq!((bench.status().state, bench.status().window.calls), (State::Closed, 11));
    bench.calls(1, Success);
    assert_eq!(bench.log(), ["closed > open: success_rate"]);
}

#[test]
fn slow_calls_trip_at_their_rate() {
    let slow_calls = Some(SlowCalls { longer_than: 100 * MS, rate: 0.5 });
    let take = |bench: &Bench, time: Duration| {
        let permit = bench.admit().unwrap();
        bench.pass(time);
        permit.settle(Success, bench.now())
    };
    let bench = Bench::new(BreakerConfig { slow_calls, min_calls: 4, ..config() });
    (0..2).for_each(|_| assert_eq!(take(&bench, 100 * MS), Settled::Counted));
    take(&bench, 101 * MS);
    assert_eq!(bench.breaker.state(), State::Closed);
    assert_eq!(bench.status().window, Counts { calls: 3, failures: 0, slow: 1, deadline_misses: 0 });
    take(&bench, 101 * MS);
    assert_eq!(bench.log(), ["closed > open: slow_calls"], "2 of 4");
    let bench = Bench::new(BreakerConfig { slow_calls, ..config() });
    (0..9).for_each(|_| assert_eq!(take(&bench, SECOND), Settled::Counted));
    assert_eq!(bench.breaker.state(), State::Closed, "9 calls are too few");
}

#[test]
fn deadline_misses_trip_by_number() {
    let bench = Bench::new(BreakerConfig { deadline_misses: Some(2), ..config() });
    bench.calls(100, Success);
    bench.calls(1, DeadlineMiss);
    bench.calls(99, Success);
    bench.calls(1, DeadlineMiss);
    assert_eq!(bench.breaker.state(), State::Closed, "the first has just left the window");
    assert_eq!(bench.status().window, Counts { calls: 100, failures: 1, slow: 0, deadline_misses: 1 });
    bench.calls(1, DeadlineMiss);
    assert_eq!(bench.log(), ["closed > open: deadline_misses"]);
    // Without enough calls for any rate.
    let bench = Bench::new(BreakerConfig { deadline_misses: Some(2), ..config() });
    bench.calls(2, DeadlineMiss);
    assert_eq!(bench.breaker.state(), State::Open);
}

#[test]
fn a_wrong_result_opens_at_once() {
    let bench = Bench::new(config());
    bench.breaker.parity_failure(bench.now());
    assert_eq!(bench.log(), ["closed > open: parity_failure"]);
    assert_eq!(bench.admit().unwrap_err().reason, Reason::ParityFailure);
    bench.breaker.parity_failure(bench.now());
    assert_eq!(bench.status().trips, 1, "open already");
}

#[test]
fn memory_pressure_holds_the_circuit_open_until_it_is_gone_for_a_while() {
    let limit = MemoryLimit { open_above: 1000, close_below: 800, clear_for: 10 * SECOND };
    let bench = Bench::new(BreakerConfig { memory: Some(limit), ..config() });
    let memory = |bytes| bench.breaker.memory(bytes, bench.now());
    memory(1000);
    assert_eq!(bench.breaker.state(), State::Closed);
    memory(1001);
    assert_eq!(bench.log(), ["closed > open: memory_pressure"]);
    bench.pass(100 * SECOND);
    assert_eq!(bench.admit().unwrap_err().retry_after, None, "the wait is over, the pressure is not");
    memory(800);
    bench.pass(100 * SECOND);
    assert_eq!(bench.admit().unwrap_err().retry_after, None, "800 is not below 800");
    memory(799);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(10 * SECOND));
    bench.pass(9 * SECOND);
    memory(900);
    bench.pass(2 * SECOND);
    assert_eq!(bench.admit().unwrap_err().retry_after, None, "it came back before the time was up");
    memory(1);
    bench.pass(5 * SECOND);
    memory(2);
    bench.pass(5 * SECOND - Duration::from_nanos(1));
    let rejected = bench.admit().unwrap_err();
    assert_eq!((rejected.reason, rejected.retry_after), (Reason::MemoryPressure, Some(Duration::from_nanos(1))));
    bench.pass(Duration::from_nanos(1));
    assert!(!bench.status().held_by_memory);
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn memory_pressure_interrupts_probing_and_outlasts_the_wait() {
    let bench = Bench::new(config());
    bench.trip();
    bench.pass(SECOND);
    let probe = bench.admit().unwrap();
    bench.breaker.memory(u64::MAX, bench.now());
    assert_eq!(probe.settle(Success, bench.now()), Settled::Late);
    // Clear after 10 s, while the second wait takes 2 s: the later one counts.
    bench.breaker.memory(0, bench.now());
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(10 * SECOND));
    // And the other way round.
    let limit = MemoryLimit { clear_for: 100 * MS, ..Default::default() };
    let bench = Bench::new(BreakerConfig { memory: Some(limit), ..config() });
    bench.breaker.memory(u64::MAX, bench.now());
    bench.breaker.memory(0, bench.now());
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(SECOND));
    bench.pass(100 * MS);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(900 * MS));
}

#[test]
fn of_a_wait_and_memory_pressure_the_one_that_lasts_longer_is_told() {
    for (clear_for, reason) in [(999, Reason::SuccessRate), (1000, Reason::SuccessRate), (1001, Reason::MemoryPressure)]
    {
        let limit = MemoryLimit { clear_for: clear_for * MS, ..Default::default() };
        let bench = Bench::new(BreakerConfig { memory: Some(limit), ..config() });
        bench.trip();
        bench.breaker.memory(u64::MAX, bench.now());
        bench.breaker.memory(0, bench.now());
        assert_eq!(bench.admit().unwrap_err().reason, reason, "pressure for {clear_for} ms, wait of 1 s");
    }
}

/// More threads than there are counters for their successes, many times over.
#[test]
fn any_number_of_threads_is_counted() {
    let bench = Bench::new(config());
    bench.calls(10, Success);
    for _ in 0..20 {
        std::thread::scope(|scope| {
            (0..10).for_each(|_| drop(scope.spawn(|| bench.calls(1, Success))));
        });
    }
    assert_eq!(bench.status().window.calls, 100);
    assert_eq!(bench.status().generation, 0);
}

#[test]
fn without_a_limit_memory_is_ignored() {
    let bench = Bench::new(BreakerConfig { memory: None, ..config() });
    bench.breaker.memory(u64::MAX, bench.now());
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn abandoned_calls_hold_the_circuit_open() {
    let bench = Bench::new(config());
    bench.breaker.abandoned(1, bench.now());
    assert_eq!(bench.breaker.state(), State::Closed);
    bench.breaker.abandoned(2, bench.now());
    bench.breaker.abandoned(3, bench.now());
    assert_eq!(bench.log(), ["closed > open: abandoned_calls"]);
    bench.pass(1000 * SECOND);
    let rejected = bench.admit().unwrap_err();
    assert_eq!((rejected.reason, rejected.retry_after), (Reason::AbandonedCalls, None));
    assert!(bench.status().held_by_abandoned_calls);
    bench.breaker.abandoned(1, bench.now());
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn what_holds_an_open_circuit_is_the_reason_it_tells() {
    let bench = Bench::new(config());
    bench.trip();
    assert_eq!(bench.status().reason, Some(Reason::SuccessRate));
    bench.breaker.memory(u64::MAX, bench.now());
    assert_eq!(bench.admit().unwrap_err().reason, Reason::MemoryPressure);
    bench.breaker.abandoned(2, bench.now());
    assert_eq!(bench.admit().unwrap_err().reason, Reason::AbandonedCalls);
    bench.breaker.abandoned(0, bench.now());
    assert_eq!(bench.status().reason, Some(Reason::MemoryPressure));
    assert_eq!(bench.status().trips, 1);
}

#[test]
fn metrics_only_counts_and_never_trips() {
    let bench = Bench::new(BreakerConfig {
        mode: Mode::MetricsOnly,
        consecutive_failures: Some(1),
        deadline_misses: Some(1),
        ..config()
    });
    bench.calls(60, DeadlineMiss);
    bench.calls(20, Success);
    bench.breaker.parity_failure(bench.now());
    bench.breaker.memory(u64::MAX, bench.now());
    bench.breaker.abandoned(9, bench.now());
    let status = bench.status();
    assert_eq!((status.state, status.reason, status.retry_after), (State::MetricsOnly, None, None));
    assert_eq!(status.window, Counts { calls: 80, failures: 60, slow: 0, deadline_misses: 60 });
    assert_eq!(status.window.successes(), 20);
}

#[test]
fn disabled_counts_nothing() {
    let bench = Bench::new(BreakerConfig { mode: Mode::Disabled, ..config() });
    (0..50).for_each(|_| assert_eq!(bench.call(Failure), Settled::Uncounted));
    (0..50).for_each(|_| assert_eq!(bench.call(Success), Settled::Uncounted));
    assert_eq!((bench.status().state, bench.status().window), (State::Disabled, Counts::default()));
}
