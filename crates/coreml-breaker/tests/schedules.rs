//! The breaker under every interleaving of a few threads (loom), and under very many random ones of more (shuttle).
//!
//! Both replace the primitives of `src/sync.rs`, so this is empty in a normal build; `scripts/check-breaker` compiles it
//! for each. In all of them there are never more probes in flight than configured, no probe's place is lost, a late
//! result changes nothing, no success is lost or counted twice, and each transition is reported once and in order.

// The compiler does not know the names of the two checkers.
#![allow(unexpected_cfgs)]
#![cfg(any(loom, shuttle))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unused_qualifications, reason = "a checker's `Arc` may be the standard one")]

// What the tests count with is no part of what is checked: the checkers interleave at their own primitives only.
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use coreml_breaker::{BreakerConfig, CircuitBreaker, OpenWait, Outcome, Permit, Settled, State, Transition};

#[cfg(loom)]
use loom::{sync::Arc, thread};
#[cfg(shuttle)]
use shuttle::{sync::Arc, thread};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a scenario under the checker, and says how many schedules that were.
fn check(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let schedules = std::sync::Arc::new(AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&schedules);
    let counted = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        scenario();
    };
    #[cfg(loom)]
    {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.max_branches = 100_000;
        model.check(counted);
    }
    #[cfg(shuttle)]
    {
        let number = std::env::var("BREAKER_SCHEDULES").map_or(10_000, |text| text.parse().unwrap());
        shuttle::check_random(counted, number);
    }
    let schedules = schedules.load(Ordering::Relaxed);
    #[allow(clippy::print_stdout, reason = "how much was checked is the result")]
    {
        println!("{name}: {schedules} schedules in {:.1?}", start.elapsed());
    }
}

/// One epoch for all runs, since a schedule must be reproducible.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A breaker, what its observer saw, and the number of probes that callers hold at the moment.
struct Bench {
    breaker: CircuitBreaker,
    seen: std::sync::Arc<Mutex<Vec<Transition>>>,
    flying: AtomicU32,
    most: AtomicU32,
    late: AtomicU64,
}

impl Bench {
    fn new(config: BreakerConfig) -> Self {
        let seen: std::sync::Arc<Mutex<Vec<Transition>>> = std::sync::Arc::default();
        let log = std::sync::Arc::clone(&seen);
        let config = BreakerConfig { open_wait: OpenWait { jitter: 0.0, ..config.open_wait }, ..config };
        let breaker = CircuitBreaker::new(config, 1, epoch(), move |t| log.lock().unwrap().push(*t)).unwrap();
        Self { breaker, seen, flying: AtomicU32::new(0), most: AtomicU32::new(0), late: AtomicU64::new(0) }
    }

    /// Open, with the wait over after one second.
    fn open(config: BreakerConfig) -> Self {
        let bench = Self::new(config);
        bench.breaker.parity_failure(epoch());
        bench
    }

    /// A probe, if one is admitted.
    fn probe(&self, now: Instant) -> Option<Permit<'_>> {
        let permit = self.breaker.admit(now).ok().filter(Permit::is_probe)?;
        let flying = self.flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(flying, Ordering::SeqCst);
        Some(permit)
    }

    /// The place is free as soon as the permit is settled, so the caller's count goes down before.
    fn settle(&self, permit: Permit<'_>, outcome: Outcome, now: Instant) {
        if permit.is_probe() {
            self.flying.fetch_sub(1, Ordering::SeqCst);
        }
        if permit.settle(outcome, now) == Settled::Late {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What must hold when all threads are done.
    fn finish(&self, now: Instant, most: u32) {
        assert!(self.most.load(Ordering::SeqCst) <= most, "{} probes at once", self.most.load(Ordering::SeqCst));
        let status = self.breaker.status(now);
        assert_eq!(status.probes_in_flight, 0, "a lost place");
        assert_eq!(status.late, self.late.load(Ordering::SeqCst));
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.first().map(|t| t.from), Some(State::Closed));
        assert!(seen.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].generation < pair[1].generation));
        assert_eq!(seen.last().map(|t| (t.to, t.generation)), Some((status.state, status.generation)));
    }
}

/// Runs a thread for each number, all with the same bench.
fn threads(number: u32, bench: Bench, work: impl Fn(&Bench, u32) + Send + Sync + 'static) -> Arc<Bench> {
    let (bench, work) = (Arc::new(bench), std::sync::Arc::new(work));
    let spawn = |i| {
        let (bench, work) = (Arc::clone(&bench), std::sync::Arc::clone(&work));
        thread::spawn(move || work(&bench, i))
    };
    // Under loom the thread that waits counts among those that are interleaved: it does the last share itself.
    let others: Vec<_> = (1..number).map(spawn).collect();
    work(&bench, 0);
    others.into_iter().for_each(|other| other.join().unwrap());
    bench
}

const THREADS: u32 = if cfg!(shuttle) { 5 } else { 3 };

#[test]
fn no_more_probes_than_one_and_a_success_closes() {
    check("one place, all succeed", || {
        let now = epoch() + SECOND;
        let bench = threads(THREADS, Bench::open(BreakerConfig::default()), move |bench, _| {
            if let Some(probe) = bench.probe(now) {
                bench.settle(probe, Outcome::Success, now);
            }
        });
        bench.finish(now, 1);
        assert_eq!(bench.breaker.state(), State::Closed);
    });
}

#[test]
fn places_of_ignored_and_successful_probes_return() {
    check("two places, mixed outcomes", || {
        let now = epoch() + SECOND;
        let config = BreakerConfig { probes: 2, probe_successes: 2, ..Default::default() };
        let bench = threads(THREADS, Bench::open(config), move |bench, i| {
            if let Some(probe) = bench.probe(now) {
                bench.settle(probe, if i == 0 { Outcome::Ignored } else { Outcome::Success }, now);
            }
        });
        bench.finish(now, 2);
        // Whoever was turned away can be served now: nothing is held by anybody.
        assert!(bench.breaker.state() == State::Closed || bench.probe(now).is_some());
    });
}

#[test]
fn of_a_failing_and_a_succeeding_probe_one_decides_and_the_other_is_late() {
    check("two places, one fails", || {
        let now = epoch() + SECOND;
        let config = BreakerConfig { probes: 2, ..Default::default() };
        let bench = threads(THREADS, Bench::open(config), move |bench, i| {
            if let Some(probe) = bench.probe(now) {
                bench.settle(probe, if i == 0 { Outcome::Failure } else { Outcome::Success }, now);
            }
        });
        bench.finish(now, 2);
        assert_ne!(bench.breaker.state(), State::HalfOpen, "somebody's result has decided");
    });
}

#[test]
fn a_dropped_probe_reopens_whatever_the_others_do() {
    check("one place, dropped", || {
        let now = epoch() + SECOND;
        let bench = threads(THREADS, Bench::open(BreakerConfig::default()), move |bench, i| {
            let Some(probe) = bench.probe(now) else { return };
            if i == 0 {
                bench.flying.fetch_sub(1, Ordering::SeqCst);
                drop(probe);
            } else {
                bench.settle(probe, Outcome::Success, now);
            }
        });
        bench.finish(now, 1);
    });
}

/// One probe hangs; others come after its deadline and after the wait that follows, and their result counts, not its.
#[test]
fn an_expired_probe_frees_its_place_once_and_its_result_is_late() {
    check("one place, expired", || {
        let bench = Bench::open(BreakerConfig::default());
        let (first, later) = (epoch() + SECOND, epoch() + 60 * SECOND);
        let bench = Arc::new(bench);
        // Given away without its lifetime: a permit borrows the breaker, and this thread outlives the others.
        let hung = bench.breaker.admit(first).unwrap();
        let spawn = || {
            let bench = Arc::clone(&bench);
            thread::spawn(move || {
                if let Some(probe) = bench.probe(later) {
                    bench.settle(probe, Outcome::Success, later);
                }
            })
        };
        let others: Vec<_> = (1..THREADS).map(|_| spawn()).collect();
        // Whether the others have noticed or not, it is late: the breaker owns the deadline.
        bench.settle_hung(hung, later);
        others.into_iter().for_each(|other| other.join().unwrap());
        bench.finish(later, 1);
        assert_eq!((bench.breaker.state(), bench.breaker.status(later).late), (State::Closed, 1));
    });
}

impl Bench {
    fn settle_hung(&self, hung: Permit<'_>, now: Instant) {
        assert_eq!(hung.settle(Outcome::Failure, now), Settled::Late);
        self.late.fetch_add(1, Ordering::SeqCst);
    }
}

/// Warm successes take the path without the lock while another thread fails and a third looks.
#[test]
fn no_success_is_lost_beside_failures_and_looks() {
    check("counting", || {
        let config = BreakerConfig { success_rate: 0.0, min_calls: 1, ..Default::default() };
        let bench = Bench::new(config);
        let now = epoch();
        bench.breaker.admit(now).unwrap().settle(Outcome::Success, now);
        let bench = threads(THREADS, bench, move |bench, i| {
            let outcome = if i == 1 { Outcome::Failure } else { Outcome::Success };
            for _ in 0..2 {
                bench.settle(bench.breaker.admit(now).unwrap(), outcome, now);
            }
            if i == 2 {
                let window = bench.breaker.status(now).window;
                assert!(window.calls >= 3 && window.failures <= 2, "its own calls are in: {window:?}");
            }
        });
        let status = bench.breaker.status(now);
        assert_eq!((status.window.calls, status.window.failures), (1 + 2 * u64::from(THREADS), 2));
        assert_eq!(status.late, 0);
    });
}

/// A success is settled beside the trip that ends its era, and beside the era that follows: it was counted before the
/// trip or is late, and is never counted in the later era, though that accepts successes without the lock as well.
#[test]
fn a_success_of_an_earlier_era_never_counts_in_a_later_one() {
    check("stale successes", || {
        let bench = Arc::new(Bench::new(BreakerConfig { min_calls: 1, ..Default::default() }));
        let now = epoch();
        let succeed = move |bench: &Bench| bench.breaker.admit(now).unwrap().settle(Outcome::Success, now);
        succeed(&bench);
        let stale = bench.breaker.admit(now).unwrap();
        let other = Arc::clone(&bench);
        let eras = thread::spawn(move || {
            other.breaker.parity_failure(now);
            other.breaker.reset(now);
            assert_eq!((succeed(&other), succeed(&other)), (Settled::Counted, Settled::Counted));
        });
        let other = Arc::clone(&bench);
        let looks = thread::spawn(move || other.breaker.status(now).generation);
        bench.settle(stale, Outcome::Success, now);
        eras.join().unwrap();
        assert!(looks.join().unwrap() <= 2);
        bench.finish(now, 0);
        assert_eq!(bench.breaker.status(now).window.calls, 2, "those of the last era");
    });
}

/// One trip for one cause, whoever came first.
#[test]
fn threads_that_trip_together_trip_once() {
    check("tripping together", || {
        let config = BreakerConfig { consecutive_failures: Some(2), ..Default::default() };
        let now = epoch();
        let bench = threads(THREADS, Bench::new(config), move |bench, _| {
            if let Ok(permit) = bench.breaker.admit(now) {
                bench.settle(permit, Outcome::Failure, now);
            }
        });
        bench.finish(now, 0);
        assert_eq!(bench.breaker.status(now).trips, 1);
    });
}
