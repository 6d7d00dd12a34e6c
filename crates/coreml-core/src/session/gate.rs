//! How many predictions one backend computes at once, and who waits for a place.
//!
//! Predictions that share the processors all get slower together: admitted without limit, all of them miss their deadlines
//! and none is answered. Beyond the limit they wait in a queue, first come first served, and whoever could not be answered
//! in time by what is usual is turned away at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The places of one backend.
#[derive(Debug)]
pub(super) struct Gate {
    limit: usize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    taken: usize,
    waiting: VecDeque<Arc<Waiter>>,
}

/// One who waits.
#[derive(Debug, Default)]
struct Waiter {
    called: Mutex<bool>,
    changed: Condvar,
}

/// A place, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Gate>);

/// How long a prediction usually takes, and one of the slower ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    pub(super) mean: Duration,
    pub(super) slow: Duration,
}

impl Gate {
    /// A gate that lets `limit` in, at least one.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), line: Mutex::default() })
    }

    /// A place, at once or after waiting for it; `None` if by what is `usual` the prediction would not end before
    /// `deadline`, or if it turns out so. Without knowledge of what is usual everybody may wait.
    pub(super) fn enter(self: &Arc<Self>, now: Instant, deadline: Instant, usual: Option<Usual>) -> Option<Place> {
        let slow = usual.map_or(Duration::ZERO, |usual| usual.slow);
        let latest = deadline.checked_sub(slow).unwrap_or(now);
        let waiter = {
            let mut line = self.line.lock();
            if line.taken < self.limit {
                line.taken += 1;
                return Some(Place(self.clone()));
            }
            // Those computing are half done on average, and leave one after the other.
            let ahead = line.waiting.len() as f64 + 0.5;
            let wait = usual.map_or(Duration::ZERO, |usual| usual.mean.mul_f64(ahead / self.limit as f64));
            if now + wait >= latest {
                return None;
            }
            let waiter = Arc::new(Waiter::default());
            line.waiting.push_back(waiter.clone());
            waiter
        };
        let mut called = waiter.called.lock();
        while !*called {
            if waiter.changed.wait_until(&mut called, latest).timed_out() {
                break;
            }
        }
        drop(called);
        // Whoever is called is taken out of the line first, so a waiter in it has not been called.
        let mut line = self.line.lock();
        match line.waiting.iter().position(|other| Arc::ptr_eq(other, &waiter)) {
            Some(position) => {
                line.waiting.remove(position);
                None
            }
            None => Some(Place(self.clone())),
        }
    }

    /// A place if there is one now.
    pub(super) fn enter_now(self: &Arc<Self>) -> Option<Place> {
        let mut line = self.line.lock();
        if line.taken >= self.limit {
            return None;
        }
        line.taken += 1;
        Some(Place(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.0.line.lock();
        match line.waiting.pop_front() {
            // The place goes on to the next one.
            Some(next) => {
                drop(line);
                *next.called.lock() = true;
                next.changed.notify_one();
            }
            None => line.taken -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FAR: Duration = Duration::from_secs(600);

    fn usual(ms: u32) -> Option<Usual> {
        Some(Usual { mean: MS * ms, slow: MS * ms })
    }

    #[test]
    fn whoever_would_be_late_is_turned_away_at_once() {
        let (gate, now) = (Gate::new(2), Instant::now());
        let places: Vec<_> = (0..2).map(|_| gate.enter(now, now + FAR, usual(10)).unwrap()).collect();
        // Half of 10 ms until one of two places is free, and 10 ms to compute.
        assert!(gate.enter(now, now + MS * 12, usual(10)).is_none());
        assert!(gate.enter_now().is_none());
        drop(places);
        assert!(gate.enter(now, now + MS * 12, usual(10)).is_some());
        assert!(gate.enter_now().is_some());
    }

    #[test]
    fn places_pass_from_one_to_the_next_in_order() {
        let (gate, order) = (Gate::new(1), Arc::new(Mutex::new(Vec::new())));
        let first = gate.enter_now().unwrap();
        let threads: Vec<_> = (0..5)
            .map(|i| {
                let (own, order) = (gate.clone(), order.clone());
                let thread = std::thread::spawn(move || {
                    let now = Instant::now();
                    let place = own.enter(now, now + FAR, None).unwrap();
                    order.lock().push(i);
                    drop(place);
                });
                while gate.line.lock().waiting.len() <= i {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        drop(first);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
        assert_eq!(gate.line.lock().taken, 0);
    }

    #[test]
    fn who_waited_in_vain_leaves_the_line() {
        let (gate, now) = (Gate::new(1), Instant::now());
        let place = gate.enter_now().unwrap();
        assert!(gate.enter(now, now + MS, None).is_none());
        assert!(gate.line.lock().waiting.is_empty());
        drop(place);
        assert_eq!(gate.line.lock().taken, 0);
    }
}
