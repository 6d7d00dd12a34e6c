//! From open back to closed: waits, probes, deadlines, generations.

use std::time::Duration;

use crate::bench::{Bench, MS, SECOND, config};
use coreml_breaker::Outcome::{self, Failure, Ignored, Panicked, Success};
use coreml_breaker::{BreakerConfig, Mode, OpenWait, Reason, Settled, SlowCalls, State, Window};

const NS: Duration = Duration::from_nanos(1);

/// Open, with the first wait over.
fn waited(config: BreakerConfig) -> Bench {
    let bench = Bench::new(config);
    bench.trip();
    bench.pass(SECOND);
    bench
}

#[test]
fn an_open_circuit_rejects_until_its_wait_is_over() {
    let bench = Bench::new(config());
    bench.trip();
    let rejected = bench.admit().unwrap_err();
    assert_eq!((rejected.state, rejected.reason), (State::Open, Reason::SuccessRate));
    assert_eq!(rejected.retry_after, Some(SECOND));
    assert_eq!(rejected.to_string(), "the circuit is open (success_rate), retry after 1s");
    bench.pass(SECOND - NS);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(NS));
    assert_eq!(bench.status().retry_after, Some(NS));
    bench.pass(NS);
    assert_eq!((bench.status().state, bench.status().retry_after), (State::Open, Some(Duration::ZERO)));
    let probe = bench.admit().unwrap();
    assert!(probe.is_probe());
    assert_eq!((bench.status().state, bench.status().probes_in_flight), (State::HalfOpen, 1));
    assert_eq!(probe.settle(Success, bench.now()), Settled::Counted);
    assert!(!bench.admit().unwrap().is_probe());
    let log = ["closed > open: success_rate", "open > half_open: wait_elapsed", "half_open > closed: probes_succeeded"];
    assert_eq!(bench.log(), log);
}

#[test]
fn a_circuit_that_closed_begins_with_an_empty_window() {
    let bench = waited(config());
    bench.calls(1, Success);
    assert_eq!(bench.status().window.calls, 0);
    bench.calls(9, Failure);
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn a_failed_probe_opens_for_longer() {
    let bench = waited(config());
    for (outcome, wait) in [(Failure, 2), (Panicked, 4), (Outcome::DeadlineMiss, 8), (Failure, 16)] {
        bench.calls(1, outcome);
        let rejected = bench.admit().unwrap_err();
        assert_eq!((rejected.reason, rejected.retry_after), (Reason::ProbeFailed, Some(wait * SECOND)));
        bench.pass(wait * SECOND);
    }
    for wait in [32, 60, 60] {
        bench.calls(1, Failure);
        assert_eq!(bench.admit().unwrap_err().retry_after, Some(wait * SECOND));
        bench.pass(wait * SECOND);
    }
    assert_eq!((bench.status().trips, bench.status().attempts), (8, 8));
}

#[test]
fn a_slow_probe_has_failed() {
    let slow_calls = Some(SlowCalls { longer_than: 10 * MS, rate: 1.0 });
    for (time, state) in [(10 * MS, State::Closed), (11 * MS, State::Open)] {
        let bench = waited(BreakerConfig { slow_calls, ..config() });
        let probe = bench.admit().unwrap();
        bench.pass(time);
        assert_eq!(probe.settle(Success, bench.now()), Settled::Counted);
        assert_eq!(bench.breaker.state(), state);
    }
}

#[test]
fn an_ignored_probe_gives_its_place_back_and_decides_nothing() {
    let bench = waited(config());
    for _ in 0..100 {
        assert_eq!(bench.call(Ignored), Settled::Uncounted);
        assert_eq!((bench.status().state, bench.status().probes_in_flight), (State::HalfOpen, 0));
    }
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn no_more_probes_than_configured_are_in_flight() {
    let bench = waited(BreakerConfig { probes: 3, probe_successes: 5, ..config() });
    let mut probes: Vec<_> = (0..3).map(|_| bench.admit().unwrap()).collect();
    let rejected = bench.admit().unwrap_err();
    assert_eq!((rejected.state, rejected.retry_after), (State::HalfOpen, Some(5 * SECOND)));
    assert_eq!(bench.status().probes_in_flight, 3);
    for success in 1..=5 {
        assert_eq!(bench.breaker.state(), State::HalfOpen);
        assert_eq!(probes.remove(0).settle(Success, bench.now()), Settled::Counted);
        if success < 5 {
            probes.push(bench.admit().unwrap());
            assert!(bench.admit().is_err());
        }
    }
    assert_eq!(bench.breaker.state(), State::Closed);
    probes.into_iter().for_each(|probe| assert_eq!(probe.settle(Failure, bench.now()), Settled::Late));
    assert_eq!((bench.status().late, bench.status().window.calls), (2, 0));
}

#[test]
fn successes_of_an_earlier_probing_do_not_count_for_the_next() {
    let bench = waited(BreakerConfig { probe_successes: 2, ..config() });
    bench.calls(1, Success);
    bench.calls(1, Failure);
    bench.pass(2 * SECOND);
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::HalfOpen);
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn a_hung_probe_is_expired_by_whoever_asks_next() {
    let bench = waited(config());
    let hung = bench.admit().unwrap();
    bench.pass(5 * SECOND - NS);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(NS));
    assert_eq!(bench.status().state, State::HalfOpen);
    bench.pass(NS);
    let status = bench.status();
    assert_eq!((status.state, status.reason), (State::Open, Some(Reason::ProbeExpired)));
    assert_eq!((status.probes_in_flight, status.retry_after), (0, Some(2 * SECOND)));
    // Its late success closes nothing.
    assert_eq!(hung.settle(Success, bench.now()), Settled::Late);
    assert_eq!((bench.status().state, bench.status().late), (State::Open, 1));
}

#[test]
fn the_wait_after_an_expiry_begins_at_the_deadline_though_nobody_looked() {
    let bench = waited(config());
    let hung = bench.admit().unwrap();
    bench.pass(6 * SECOND);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(SECOND), "2 s from the deadline");
    assert_eq!(bench.seen.lock().unwrap().last().unwrap().at, bench.epoch + 6 * SECOND);
    // After a long silence the circuit is probed at once.
    bench.pass(SECOND);
    let second = bench.admit().unwrap();
    bench.pass(3600 * SECOND);
    assert!(bench.admit().unwrap().is_probe());
    drop((hung, second));
}

#[test]
fn a_result_at_the_deadline_is_too_late() {
    let bench = waited(config());
    let probe = bench.admit().unwrap();
    bench.pass(5 * SECOND);
    assert_eq!(probe.settle(Success, bench.now()), Settled::Late);
    assert_eq!(bench.status().reason, Some(Reason::ProbeExpired));
}

#[test]
fn the_first_of_several_deadlines_expires_them_all() {
    let bench = waited(BreakerConfig { probes: 2, ..config() });
    let first = bench.admit().unwrap();
    bench.pass(SECOND);
    let second = bench.admit().unwrap();
    bench.pass(4 * SECOND);
    assert_eq!(bench.status().reason, Some(Reason::ProbeExpired));
    assert_eq!(second.settle(Success, bench.now()), Settled::Late);
    assert_eq!(first.settle(Success, bench.now()), Settled::Late);
}

#[test]
fn a_thousand_hung_probes_wedge_nothing() {
    let bench = Bench::new(config());
    bench.trip();
    let mut hung = Vec::new();
    for _ in 0..1000 {
        bench.pass(bench.status().retry_after.unwrap());
        hung.push(bench.admit().unwrap());
        assert!(bench.admit().is_err());
        bench.pass(5 * SECOND);
        assert_eq!((bench.status().state, bench.status().probes_in_flight), (State::Open, 0));
    }
    for (number, permit) in hung.into_iter().enumerate() {
        // Returned, forgotten, or dropped: all the same.
        match number % 3 {
            0 => assert_eq!(permit.settle(Success, bench.now()), Settled::Late),
            1 => std::mem::forget(permit),
            _ => drop(permit),
        }
    }
    let status = bench.status();
    assert_eq!((status.state, status.trips, status.late), (State::Open, 1001, 667));
    bench.pass(60 * SECOND);
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[test]
fn results_of_an_earlier_generation_decide_nothing() {
    let bench = Bench::new(config());
    let old: Vec<_> = (0..200).map(|_| bench.admit().unwrap()).collect();
    let mut old = old.into_iter();
    bench.trip();
    assert_eq!(old.next().unwrap().settle(Success, bench.now()), Settled::Late);
    bench.pass(SECOND);
    let probe = bench.admit().unwrap();
    assert_eq!(old.next().unwrap().settle(Success, bench.now()), Settled::Late, "not a probe");
    assert_eq!(old.next().unwrap().settle(Failure, bench.now()), Settled::Late);
    assert_eq!(old.next().unwrap().settle(Ignored, bench.now()), Settled::Late);
    assert_eq!(bench.status().state, State::HalfOpen);
    probe.settle(Success, bench.now());
    // Closed anew, cold and warm.
    for _ in 0..2 {
        for outcome in [Success, Failure, Ignored] {
            for _ in 0..20 {
                assert_eq!(old.next().unwrap().settle(outcome, bench.now()), Settled::Late);
            }
        }
        assert_eq!((bench.status().state, bench.status().window.failures), (State::Closed, 0));
        bench.calls(50, Success);
    }
    assert_eq!((bench.status().late, bench.status().window.calls), (124, 100));
}

#[test]
fn a_dropped_permit_is_a_failed_call() {
    let bench = Bench::new(config());
    (0..9).for_each(|_| drop(bench.admit().unwrap()));
    assert_eq!((bench.status().window.failures, bench.status().dropped), (9, 9));
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _permit = bench.admit().unwrap();
        std::panic::resume_unwind(Box::new("the engine"));
    }));
    assert!(unwound.is_err());
    assert_eq!(bench.log(), ["closed > open: success_rate"]);
    assert_eq!(bench.status().dropped, 10);
}

#[test]
fn a_wait_that_a_dropped_permit_began_is_not_shortened_by_how_long_the_call_took() {
    let bench = waited(config());
    let probe = bench.admit().unwrap();
    bench.pass(4 * SECOND);
    drop(probe);
    assert_eq!((bench.breaker.state(), bench.status().retry_after), (State::Open, Some(2 * SECOND)));
    bench.pass(2 * SECOND - NS);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(NS));
    bench.pass(NS);
    bench.calls(1, Success);
    // From closed, too, and with the next to ask being a caller.
    (0..10).for_each(|_| drop(bench.admit().unwrap()));
    bench.pass(100 * SECOND);
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(4 * SECOND));
}

#[test]
fn the_wait_grows_until_health_was_sustained() {
    let bench = Bench::new(config());
    let wait = || {
        let wait = bench.status().retry_after.unwrap();
        bench.pass(wait);
        bench.calls(1, Success);
        wait.as_secs()
    };
    let mut waits = Vec::new();
    for healthy in [0, 0, 0, 59, 60, 179, 3600] {
        bench.pass(healthy * SECOND);
        bench.trip();
        waits.push(wait());
    }
    // One step longer each time, less one step for each whole minute closed.
    assert_eq!(waits, [1, 2, 4, 8, 8, 4, 1]);
}

#[test]
fn waits_are_jittered_bounded_and_differ_between_seeds() {
    let open_wait = OpenWait { initial: SECOND, max: 8 * SECOND, multiplier: 2.0, jitter: 0.5 };
    let waits = |seed| {
        let config = BreakerConfig { open_wait, ..config() };
        let (epoch, mut passed) = (std::time::Instant::now(), Duration::ZERO);
        let breaker = coreml_breaker::CircuitBreaker::new(config, seed, epoch, |_| ()).unwrap();
        breaker.parity_failure(epoch);
        let mut waits = Vec::new();
        for _ in 0..200 {
            let wait = breaker.status(epoch + passed).retry_after.unwrap();
            waits.push(wait.as_secs_f64());
            passed += wait;
            breaker.admit(epoch + passed).unwrap().settle(Failure, epoch + passed);
        }
        waits
    };
    let (a, b) = (waits(1), waits(2));
    for (attempt, wait) in a.iter().chain(&b).enumerate() {
        let full = f64::min(8.0, f64::powi(2.0, (attempt % 200) as i32));
        assert!((full / 2.0..=full).contains(wait), "wait {attempt}: {wait} of {full}");
    }
    let late = &a[3..];
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!((5.8..6.2).contains(&mean), "uniform between 4 and 8, not {mean}");
    assert!(late.iter().any(|wait| *wait < 4.2) && late.iter().any(|wait| *wait > 7.8));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() > 1e-9), "decorrelated");
    assert_eq!(a, waits(1), "reproducible");
}

#[test]
fn forced_open_stays_until_reset() {
    let bench = Bench::new(config());
    let old = bench.admit().unwrap();
    bench.breaker.force_open(bench.now());
    bench.pass(1_000_000 * SECOND);
    let rejected = bench.admit().unwrap_err();
    assert_eq!((rejected.state, rejected.reason, rejected.retry_after), (State::ForcedOpen, Reason::Forced, None));
    assert_eq!(rejected.to_string(), "the circuit is forced_open (forced)");
    let status = bench.status();
    assert_eq!((status.state, status.reason, status.retry_after), (State::ForcedOpen, Some(Reason::Forced), None));
    bench.breaker.parity_failure(bench.now());
    bench.breaker.abandoned(2, bench.now());
    bench.breaker.memory(u64::MAX, bench.now());
    assert_eq!(old.settle(Failure, bench.now()), Settled::Late);
    bench.breaker.force_open(bench.now());
    bench.breaker.reset(bench.now());
    assert_eq!(bench.log(), ["closed > forced_open: forced", "forced_open > closed: reset"]);
    assert_eq!(bench.status().trips, 0);
}

#[test]
fn a_reset_forgets_everything() {
    let bench = waited(config());
    bench.calls(1, Failure);
    bench.breaker.abandoned(2, bench.now());
    bench.breaker.memory(u64::MAX, bench.now());
    bench.breaker.reset(bench.now());
    let status = bench.status();
    assert_eq!((status.state, status.reason, status.attempts), (State::Closed, None, 0));
    assert!(!status.held_by_memory && !status.held_by_abandoned_calls);
    assert_eq!(status.window.calls, 0);
    bench.trip();
    assert_eq!(bench.admit().unwrap_err().retry_after, Some(SECOND));
    // While closed it empties the window and makes results in flight late, and is no transition.
    bench.breaker.reset(bench.now());
    bench.calls(9, Failure);
    let (old, seen) = (bench.admit().unwrap(), bench.log().len());
    bench.breaker.reset(bench.now());
    assert_eq!(old.settle(Failure, bench.now()), Settled::Late);
    assert_eq!((bench.status().window.calls, bench.status().consecutive_failures), (0, 0));
    assert_eq!(bench.log().len(), seen);
}

#[test]
fn modes_begin_anew_but_what_holds_the_circuit_is_remembered() {
    let bench = Bench::new(config());
    bench.calls(20, Success);
    let old = bench.admit().unwrap();
    bench.breaker.set_mode(Mode::Normal, bench.now());
    assert_eq!(old.settle(Success, bench.now()), Settled::Counted, "the mode it had");
    assert_eq!(bench.status().window.calls, 21);
    bench.breaker.set_mode(Mode::MetricsOnly, bench.now());
    bench.calls(20, Failure);
    bench.breaker.abandoned(2, bench.now());
    bench.breaker.reset(bench.now());
    assert_eq!(bench.breaker.state(), State::MetricsOnly);
    bench.breaker.abandoned(2, bench.now());
    bench.breaker.set_mode(Mode::Disabled, bench.now());
    bench.breaker.set_mode(Mode::Normal, bench.now());
    let log = [
        "closed > metrics_only: mode_changed",
        "metrics_only > disabled: mode_changed",
        "disabled > closed: mode_changed",
        "closed > open: abandoned_calls",
    ];
    assert_eq!(bench.log(), log);
}

#[test]
fn time_that_goes_back_stands_still() {
    let bench = Bench::new(BreakerConfig { window: Window::Time(SECOND), ..config() });
    let early = bench.epoch;
    bench.pass(10 * SECOND);
    bench.calls(9, Failure);
    bench.breaker.admit(early).unwrap().settle(Failure, early);
    assert_eq!(bench.breaker.state(), State::Open, "ten failures in one window");
    assert_eq!(bench.seen.lock().unwrap()[0].at, early + 10 * SECOND);
    let before = early.checked_sub(SECOND).unwrap_or(early);
    assert_eq!(bench.breaker.status(before).retry_after, Some(SECOND));
    bench.pass(SECOND);
    bench.calls(1, Success);
    assert_eq!(bench.breaker.state(), State::Closed);
}
