//! Settings that cannot work are refused, exactly at their bounds, and nothing is adjusted silently.

use std::time::{Duration, Instant};

use coreml_breaker::{BreakerConfig, CircuitBreaker, ConfigError, MemoryLimit, OpenWait, SlowCalls, Window};

fn refusal(change: impl FnOnce(&mut BreakerConfig)) -> Option<String> {
    let mut config = BreakerConfig::default();
    change(&mut config);
    let refusal = config.validate().err();
    let made = CircuitBreaker::new(config, 0, Instant::now(), |_| ()).err();
    // Not `assert_eq`: a refused NaN is not equal to itself.
    assert_eq!(format!("{made:?}"), format!("{refusal:?}"));
    refusal.map(|error| error.to_string())
}

#[test]
fn the_default_is_the_stated_one() {
    let config = BreakerConfig::default();
    assert_eq!(config.validate(), Ok(()));
    assert_eq!((config.window, config.min_calls, config.success_rate), (Window::Calls(100), 10, 0.95));
    assert_eq!((config.min_failures, config.abandoned_calls), (1, 2));
    assert_eq!(config.memory.map(|m| (m.open_above, m.close_below)), Some((2 << 30, 1536 << 20)));
}

#[test]
fn zeros_are_refused() {
    let zero = Duration::ZERO;
    type Change = fn(&mut BreakerConfig);
    let changes: [(&str, Change); 15] = [
        ("window", |c| c.window = Window::Calls(0)),
        ("window", |c| c.window = Window::Time(Duration::from_nanos(9))),
        ("min_calls", |c| c.min_calls = 0),
        ("min_failures", |c| c.min_failures = 0),
        ("consecutive_failures", |c| c.consecutive_failures = Some(0)),
        ("deadline_misses", |c| c.deadline_misses = Some(0)),
        ("slow_calls.longer_than", |c| c.slow_calls = Some(SlowCalls { longer_than: Duration::ZERO, rate: 0.5 })),
        ("memory.close_below", |c| c.memory = Some(MemoryLimit { close_below: 0, ..Default::default() })),
        ("memory.clear_for", |c| c.memory = Some(MemoryLimit { clear_for: Duration::ZERO, ..Default::default() })),
        ("abandoned_calls", |c| c.abandoned_calls = 0),
        ("open_wait.initial", |c| c.open_wait.initial = Duration::ZERO),
        ("probes", |c| c.probes = 0),
        ("probe_successes", |c| c.probe_successes = 0),
        ("probe_deadline", |c| c.probe_deadline = Duration::ZERO),
        ("sustained_health", |c| c.sustained_health = Duration::ZERO),
    ];
    for (field, change) in changes {
        assert_eq!(refusal(change), Some(format!("{field} must be above zero")));
    }
    assert_eq!(refusal(|c| c.window = Window::Time(zero)), Some("window must be above zero".into()));
    assert_eq!(refusal(|c| c.window = Window::Time(Duration::from_nanos(10))), None);
}

#[test]
fn rates_out_of_range_are_refused() {
    for rate in [-0.001, 1.001, f64::NAN, f64::INFINITY] {
        let told = format!("success_rate is {rate}, it must be between 0 and 1");
        assert_eq!(refusal(|c| c.success_rate = rate), Some(told));
        assert!(refusal(|c| c.open_wait.jitter = rate).is_some());
    }
    for rate in [0.0, 1.0] {
        assert_eq!(refusal(|c| c.success_rate = rate), None);
        assert_eq!(refusal(|c| c.open_wait.jitter = rate), None);
    }
    let slow = |rate| refusal(|c| c.slow_calls = Some(SlowCalls { longer_than: Duration::from_secs(1), rate }));
    for rate in [0.0, -0.5, 1.001, f64::NAN] {
        assert_eq!(slow(rate), Some(format!("slow_calls.rate is {rate}, it must be above 0 and at most 1")));
    }
    assert_eq!((slow(1e-9), slow(1.0)), (None, None));
    for multiplier in [0.999, f64::NAN, f64::INFINITY] {
        let told = format!("open_wait.multiplier is {multiplier}, it must be at least 1");
        assert_eq!(refusal(|c| c.open_wait.multiplier = multiplier), Some(told));
    }
    assert_eq!(refusal(|c| c.open_wait.multiplier = 1.0), None);
}

#[test]
fn what_the_window_can_never_hold_is_refused() {
    let told = |field: &str| Some(format!("{field} is 101, which a window of 100 calls can never reach"));
    assert_eq!(refusal(|c| c.min_calls = 101), told("min_calls"));
    assert_eq!(refusal(|c| c.min_failures = 101), told("min_failures"));
    assert_eq!(refusal(|c| c.deadline_misses = Some(101)), told("deadline_misses"));
    let most = |c: &mut BreakerConfig| (c.min_calls, c.min_failures, c.deadline_misses) = (100, 100, Some(100));
    assert_eq!(refusal(most), None);
    let timed = |c: &mut BreakerConfig| (c.window, c.min_calls) = (Window::Time(Duration::from_secs(1)), 5000);
    assert_eq!(refusal(timed), None);
    assert_eq!(refusal(|c| c.consecutive_failures = Some(1000)), None, "counted apart from the window");
}

#[test]
fn limits_out_of_order_or_too_large_are_refused() {
    let wait = |initial, max| {
        refusal(|c| {
            c.open_wait =
                OpenWait { initial: Duration::from_secs(initial), max: Duration::from_secs(max), ..c.open_wait }
        })
    };
    assert_eq!(wait(3, 2), Some("open_wait.initial must not be larger than open_wait.max".into()));
    assert_eq!(wait(3, 3), None);
    let memory =
        |close_below| refusal(|c| c.memory = Some(MemoryLimit { open_above: 10, close_below, ..Default::default() }));
    assert_eq!(memory(11), Some("memory.close_below must not be larger than memory.open_above".into()));
    assert_eq!(memory(10), None);
    assert_eq!(
        refusal(|c| c.window = Window::Calls((1 << 20) + 1)),
        Some("window is 1048577, the limit is 1048576".into())
    );
    assert_eq!(refusal(|c| c.window = Window::Calls(1 << 20)), None);
    assert_eq!(refusal(|c| c.probes = 1025), Some("probes is 1025, the limit is 1024".into()));
    assert_eq!(refusal(|c| c.probes = 1024), None);
}

#[test]
fn refusals_are_errors() {
    let error: Box<dyn std::error::Error> = Box::new(ConfigError::Zero { field: "probes" });
    assert_eq!(error.to_string(), "probes must be above zero");
}
