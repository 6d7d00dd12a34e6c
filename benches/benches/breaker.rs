//! What a breaker and a histogram cost per call, beside other crates.
//!
//! All candidates of a table take turns, a few milliseconds each, for many rounds, and their medians are compared: on a
//! busy machine, times taken seconds apart cannot be compared. Each table gives the bound that ours must keep, as a
//! share of another crate's time, and whether it did.
//!
//! Two threads contend only while both run: on a busy machine they take turns on a processor, and the tables for two
//! threads show no contention. The shared counter shows this: if it costs the same with two threads as with one, run
//! again when the machine is free.
//!
//! Each candidate does what a caller does with it: breakers guard an empty call that succeeds, ours with the two clock
//! readings it needs; histograms record latencies that spread over many buckets.
#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coreml_breaker::{BreakerConfig, CircuitBreaker, Outcome, Window};
use coreml_telemetry::Histogram;
use failsafe::CircuitBreaker as _;

/// Calls per contestant, thread and round, and the rounds.
const CALLS: u64 = 40_000;
const ROUNDS: usize = 101;

type Job<'a> = Box<dyn Fn(u64) + Sync + 'a>;

/// Somebody who makes the calls of one round, as the thread of that number. The loop is inside, so that the call can be
/// inlined into it.
struct Contestant<'a> {
    name: &'static str,
    calls: Job<'a>,
}

fn contestant<'a>(name: &'static str, calls: impl Fn(u64) + Sync + 'a) -> Contestant<'a> {
    Contestant { name, calls: Box::new(calls) }
}

/// Median nanoseconds per call of each contestant, with so many threads at once.
fn measure(threads: u64, contestants: &[Contestant<'_>]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    for _ in 0..ROUNDS {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            times.push(round(threads, &contestant.calls).as_nanos() as f64 / CALLS as f64);
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        })
        .collect()
}

/// The time until the last of the threads has made its calls.
fn round(threads: u64, calls: &Job<'_>) -> Duration {
    let timed = |thread: u64, barrier: &Barrier| {
        barrier.wait();
        let start = Instant::now();
        calls(thread);
        start.elapsed()
    };
    let barrier = Barrier::new(threads as usize);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|thread| {
                scope.spawn({
                    let barrier = &barrier;
                    move || timed(thread, barrier)
                })
            })
            .collect();
        let own = timed(0, &barrier);
        others.into_iter().filter_map(|other| other.join().ok()).fold(own, Duration::max)
    })
}

/// Prints a table; the first contestant is ours, and may take so large a share of the time of the one named.
fn table(title: &str, threads: u64, contestants: &[Contestant<'_>], bounds: &[(&str, f64)]) {
    println!("\n{title}, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let times = measure(threads, contestants);
    for (contestant, time) in contestants.iter().zip(&times) {
        println!("  {:<52} {time:>7.1} ns   ours / it {:>5.2}", contestant.name, times[0] / time);
    }
    for (rival, bound) in bounds {
        for (contestant, time) in contestants.iter().zip(&times).filter(|(contestant, _)| contestant.name == *rival) {
            let ratio = times[0] / time;
            let kept = if ratio <= *bound { "kept" } else { "MISSED" };
            println!("  bound: at most {bound:.2} x {}: {ratio:.2}, {kept}", contestant.name);
        }
    }
}

fn ours(config: BreakerConfig) -> CircuitBreaker {
    match CircuitBreaker::new(config, 1, Instant::now(), |_| ()) {
        Ok(breaker) => breaker,
        Err(error) => panic!("{error}"),
    }
}

fn guarded(breaker: &CircuitBreaker) {
    for _ in 0..CALLS {
        if let Ok(permit) = breaker.admit(Instant::now()) {
            black_box(());
            black_box(permit.settle(Outcome::Success, Instant::now()));
        }
    }
}

const FAILSAFE: &str = "failsafe 1.3, default";
const RECLOSER: &str = "recloser 1.4, the last 100 (reads no clock)";

fn closed(threads: u64) {
    let counter = AtomicU64::new(0);
    let by_calls = ours(BreakerConfig::default());
    let by_time = ours(BreakerConfig { window: Window::Time(Duration::from_secs(30)), ..BreakerConfig::default() });
    let default = failsafe::Config::new().build();
    let waits = failsafe::backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));
    let policy = failsafe::failure_policy::success_rate_over_time_window(0.95, 10, Duration::from_secs(30), waits);
    let rate = failsafe::Config::new().failure_policy(policy).build();
    let recloser = recloser::Recloser::custom().error_rate(0.05).closed_len(100).build();
    let call = || black_box(Ok::<(), std::fmt::Error>(()));
    let contestants = [
        contestant("ours, the last 100 calls", |_| guarded(&by_calls)),
        contestant("ours, the last 30 s", |_| guarded(&by_time)),
        contestant("two readings of the clock", |_| {
            for _ in 0..CALLS {
                black_box((Instant::now(), Instant::now()));
            }
        }),
        contestant("a shared counter, to tell contention", |_| {
            for _ in 0..CALLS {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }),
        contestant(FAILSAFE, |_| (0..CALLS).for_each(|_| drop(black_box(default.call(call))))),
        contestant("failsafe 1.3, 95 % of 10 in 30 s", |_| (0..CALLS).for_each(|_| drop(black_box(rate.call(call))))),
        contestant(RECLOSER, |_| (0..CALLS).for_each(|_| drop(black_box(recloser.call(call))))),
    ];
    let bounds: &[(&str, f64)] = if threads == 1 { &[(FAILSAFE, 0.8)] } else { &[(FAILSAFE, 0.5), (RECLOSER, 0.5)] };
    table("a call through a closed circuit", threads, &contestants, bounds);
}

fn open() {
    let (breaker, now) = (ours(BreakerConfig::default()), Instant::now());
    breaker.force_open(now);
    let waiting = ours(BreakerConfig::default());
    waiting.parity_failure(now + Duration::from_secs(3600));
    let recloser = recloser::Recloser::custom().error_rate(0.05).closed_len(1).build();
    let failing = || Err::<(), std::fmt::Error>(std::fmt::Error);
    (0..5).for_each(|_| drop(recloser.call(failing)));
    let contestants = [
        contestant("ours, open", |_| (0..CALLS).for_each(|_| drop(black_box(waiting.admit(black_box(now)))))),
        contestant("ours, open, reading the clock", |_| {
            (0..CALLS).for_each(|_| drop(black_box(waiting.admit(Instant::now()))));
        }),
        contestant("ours, forced open", |_| (0..CALLS).for_each(|_| drop(black_box(breaker.admit(black_box(now)))))),
        contestant("recloser 1.4, open", |_| (0..CALLS).for_each(|_| drop(black_box(recloser.call(failing))))),
    ];
    table("a call rejected (meant to take at most 30 ns)", 1, &contestants, &[]);
}

/// Latencies from 0.1 to 5.1 ms.
fn latency(i: u64) -> u64 {
    let mut bits = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    100_000 + (bits ^ bits >> 32) % 5_000_000
}

const HDR: &str = "parking_lot::Mutex<hdrhistogram 7.6>, 3 digits";
const METRICS: &str = "metrics 0.24, handle kept";

fn histograms(threads: u64) {
    let histogram = Histogram::default();
    let hdr = match hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3) {
        Ok(hdr) => parking_lot::Mutex::new(hdr),
        Err(error) => panic!("{error}"),
    };
    let bucket = std::sync::Arc::new(metrics_util::storage::AtomicBucket::<f64>::new());
    let handle = metrics::Histogram::from_arc(std::sync::Arc::clone(&bucket));
    let contestants = [
        contestant("ours", |thread| (0..CALLS).for_each(|i| histogram.record(latency(i + thread * CALLS)))),
        contestant(HDR, |thread| {
            (0..CALLS).for_each(|i| {
                black_box(hdr.lock().record(latency(i + thread * CALLS)).is_ok());
            });
        }),
        contestant(METRICS, |thread| {
            (0..CALLS).for_each(|i| handle.record(latency(i + thread * CALLS) as f64 * 1e-9));
            // Its samples are kept until somebody fetches them.
            if thread == 0 {
                bucket.clear();
            }
        }),
        contestant("only making the value", |thread| {
            (0..CALLS).for_each(|i| {
                black_box(latency(i + thread * CALLS));
            });
        }),
    ];
    let share = if threads == 1 { 1.0 } else { 0.5 };
    table("recording one value", threads, &contestants, &[(HDR, share), (METRICS, 0.3)]);
}

fn main() {
    [1, 2].into_iter().for_each(closed);
    open();
    [1, 2].into_iter().for_each(histograms);
}
