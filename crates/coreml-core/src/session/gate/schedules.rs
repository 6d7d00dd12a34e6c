//! A gate under very many random schedules of a few threads: `scripts/check-breaker gate` compiles this.
//!
//! In all of them there are never more callers inside than the limit, none waits for ever (the checker reports a state
//! in which no thread can go on), and when all have left, no place is taken and the line is empty.

use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::thread;

use super::*;

const FAR: Duration = Duration::from_secs(600);

/// Runs threads that come to a gate of `limit`, with these deadlines and priorities; `meanwhile` comes between.
fn check(limit: usize, who: &'static [(Duration, bool, Priority)], meanwhile: fn(&Gate)) {
    let number = std::env::var("GATE_SCHEDULES").map_or(10_000, |text| text.parse().unwrap());
    // The checker interleaves at its own primitives only; these count what is checked.
    let [entered, refused] = [const { AtomicUsize::new(0) }; 2].map(Arc::new);
    let counts = [entered.clone(), refused.clone()];
    let scenario = move || {
        let (gate, inside) = (Gate::new(limit), Arc::new(AtomicUsize::new(0)));
        let comes = |&(deadline, waits, priority): &(Duration, bool, Priority)| {
            let (gate, inside, [entered, refused]) = (gate.clone(), inside.clone(), counts.clone());
            thread::spawn(move || {
                let Ok(mut place) = gate.enter(Instant::now() + deadline, waits, priority) else {
                    refused.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                assert!(inside.fetch_add(1, Ordering::SeqCst) < limit, "more than {limit} inside");
                entered.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
                place.unfinished();
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        };
        let threads: Vec<_> = who.iter().map(comes).collect();
        meanwhile(&gate);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let line = gate.line.lock();
        assert_eq!((line.taken, line.waiting.len()), (0, 0));
    };
    shuttle::check_random(scenario, number);
    let [entered, refused] = [entered, refused].map(|count| count.load(Ordering::Relaxed));
    assert!(entered > 0 && refused > 0, "{entered} entered, {refused} were refused: both should occur");
    #[allow(clippy::print_stdout, reason = "how much was checked is the result")]
    {
        println!("limit {limit}, {} threads, {number} schedules: {entered} entered, {refused} were refused", who.len());
    }
}

#[test]
fn one_place_and_five_who_want_it() {
    use Priority::{High, Low, Normal};

    check(
        1,
        &[(FAR, true, Normal), (FAR, true, Low), (FAR, true, High), (FAR, true, Normal), (FAR, false, High)],
        |_| {},
    );
}

#[test]
fn two_places_and_five_who_want_them() {
    check(2, &[(FAR, true, Priority::Normal); 5], |_| {});
}

#[test]
fn some_become_too_late_while_they_wait() {
    let slower = |gate: &Gate| {
        thread::yield_now();
        gate.line.lock().usual = Usual { mean: FAR * 4, slow: FAR * 4 };
    };
    const WHO: &[(Duration, bool, Priority)] = &[
        (FAR, true, Priority::Normal),
        (Duration::from_secs(6000), true, Priority::Normal),
        (FAR, true, Priority::Normal),
        (Duration::from_secs(6000), true, Priority::Normal),
    ];
    check(1, WHO, slower);
}
