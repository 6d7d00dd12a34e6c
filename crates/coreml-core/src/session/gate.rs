//! Limits how many predictions one backend computes at once, and keeps the line of those that wait for a place.
//!
//! Predictions that share the processors all get slower together: admitted without limit, all of them miss their deadlines
//! and none is answered. Beyond the limit they wait in a line: higher priority goes first, and then first come, first
//! served. A prediction that, judging by recent times, could not be answered in time is turned away at once. One whose time
//! ran out while it waited is skipped, so that no place is spent on an answer that comes too late.

// The compiler does not know the name of the checker of schedules.
#![allow(unexpected_cfgs)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::sync::{Condvar, Mutex};
use crate::Instant;
use crate::call::Priority;

#[cfg(test)]
#[cfg(shuttle)]
mod schedules;

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
    usual: Usual,
    crowd: Crowd,
}

/// How long places are taken: the average of the last dozen or so, and the time of the slower ones. Zero while nothing
/// is known.
#[derive(Debug, Default, Clone, Copy)]
struct Usual {
    mean: Duration,
    slow: Duration,
}

impl Usual {
    fn learn(&mut self, seen: Duration, finished: bool) {
        if !finished && seen < self.slow {
            return;
        }
        // What was stopped would have taken longer than it had.
        let seen = if finished { seen } else { seen.mul_f64(1.25) };
        let towards = |from: Duration, share: f64| {
            if from.is_zero() { seen } else { from.mul_f64(1.0 - share) + seen.mul_f64(share) }
        };
        self.mean = towards(self.mean, 0.125);
        // Quickly up and slowly down: above most of what was seen.
        self.slow = towards(self.slow, if seen > self.slow { 0.5 } else { 0.0625 });
    }
}

/// How many are turned away, and when they are told to come back: all together as often as there are places for them, and
/// one more for each, so that the line does not run dry.
#[derive(Debug, Default, Clone, Copy)]
struct Crowd {
    /// Since the last place was given back.
    refused: u32,
    /// On average between two places that are given back.
    usual: f64,
    absence: Duration,
}

impl Crowd {
    const LONGEST: Duration = Duration::from_secs(5);

    /// When a caller that is turned away should come back, if the line is likely to be gone after `wait`.
    fn turn_away(&mut self, wait: Duration) -> Duration {
        self.refused += 1;
        self.absence = self.absence.max(wait);
        self.absence
    }

    /// A place is given back.
    fn learn(&mut self) {
        self.usual += (f64::from(self.refused) - self.usual) * 0.125;
        self.refused = 0;
        self.absence = self.absence.mul_f64(if self.usual > 1.0 { 1.125 } else { 0.875 }).min(Self::LONGEST);
    }
}

/// A waiting prediction.
#[derive(Debug)]
struct Waiter {
    deadline: Instant,
    priority: Priority,
    word: Mutex<Option<Word>>,
    told: Condvar,
}

/// The answer to a waiter.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// It has the place, from this time on.
    Come(Instant),
    /// It has become too late for it.
    TooLate,
}

impl Waiter {
    fn tell(&self, word: Word) {
        *self.word.lock() = Some(word);
        self.told.notify_one();
    }
}

/// A place, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    since: Instant,
    finished: bool,
}

impl Gate {
    /// A gate that lets `limit` in, at least one.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), line: Mutex::default() })
    }

    /// A place, at once or, if the caller `waits`, in time to be done by `deadline`.
    ///
    /// # Errors
    /// When by what is usual the prediction would not end before `deadline`, or if it turns out so: the time after which
    /// it is worth coming back.
    pub(super) fn enter(
        self: &Arc<Self>,
        deadline: Instant,
        waits: bool,
        priority: Priority,
    ) -> Result<Place, Duration> {
        let (waiter, latest, wait) = {
            let mut line = self.line.lock();
            if line.taken < self.limit {
                line.taken += 1;
                return Ok(self.place(Instant::now()));
            }
            // Those computing are half done on average, and leave one after the other.
            let ahead = line.waiting.partition_point(|other| other.priority >= priority);
            let wait = line.usual.mean.mul_f64((ahead as f64 + 0.5) / self.limit as f64);
            let now = Instant::now();
            let latest = deadline.checked_sub(line.usual.slow).unwrap_or(now);
            if !waits || now + wait >= latest {
                return Err(line.crowd.turn_away(wait));
            }
            let waiter = Arc::new(Waiter { deadline, priority, word: Mutex::default(), told: Condvar::new() });
            line.waiting.insert(ahead, waiter.clone());
            (waiter, latest, wait)
        };
        let mut word = waiter.word.lock();
        let left = || latest.saturating_duration_since(Instant::now());
        while word.is_none() && !waiter.told.wait_for(&mut word, left()).timed_out() {}
        let told = *word;
        drop(word);
        if told.is_none() {
            // Whoever is told something has been taken out of the line before.
            let mut line = self.line.lock();
            if let Some(position) = line.waiting.iter().position(|other| Arc::ptr_eq(other, &waiter)) {
                line.waiting.remove(position);
                return Err(line.crowd.turn_away(wait));
            }
        }
        let told = told.or_else(|| {
            let mut word = waiter.word.lock();
            while word.is_none() {
                waiter.told.wait(&mut word);
            }
            *word
        });
        match told {
            Some(Word::Come(since)) => Ok(self.place(since)),
            _ => Err(self.line.lock().crowd.turn_away(wait)),
        }
    }

    fn place(self: &Arc<Self>, since: Instant) -> Place {
        Place { gate: self.clone(), since, finished: true }
    }
}

impl Place {
    /// The prediction was stopped before its end.
    pub(super) fn unfinished(&mut self) {
        self.finished = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut told = Vec::new();
        {
            let mut line = self.gate.line.lock();
            line.usual.learn(now.saturating_duration_since(self.since), self.finished);
            line.crowd.learn();
            let slow = line.usual.slow;
            loop {
                let Some(next) = line.waiting.pop_front() else {
                    line.taken -= 1;
                    break;
                };
                let in_time = now + slow < next.deadline;
                told.push((next, if in_time { Word::Come(now) } else { Word::TooLate }));
                if in_time {
                    break;
                }
            }
        }
        told.into_iter().rev().for_each(|(waiter, word)| waiter.tell(word));
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FAR: Duration = Duration::from_secs(600);

    /// A gate that has seen places taken for 10 ms each.
    fn gate(limit: usize) -> Arc<Gate> {
        let gate = Gate::new(limit);
        gate.line.lock().usual.learn(MS * 10, true);
        gate
    }

    #[test]
    fn whoever_would_be_late_is_turned_away_at_once() {
        let gate = gate(2);
        let far = Instant::now() + FAR;
        let places: Vec<_> = (0..2).map(|_| gate.enter(far, true, Priority::Normal).unwrap()).collect();
        // Half of 10 ms until one of two places is free, and 10 ms to compute.
        assert_eq!(gate.enter(Instant::now() + MS * 12, true, Priority::Normal).unwrap_err().as_micros(), 2500);
        assert!(gate.enter(far, false, Priority::Normal).is_err());
        drop(places);
        assert!(gate.enter(Instant::now() + MS * 12, true, Priority::Normal).is_ok());
        assert!(gate.enter(far, false, Priority::Normal).is_ok());
    }

    /// The order in which predictions with these priorities get a place if they come one after the other.
    fn order_of(priorities: [Priority; 5]) -> Vec<usize> {
        let (gate, order) = (Gate::new(1), Arc::new(Mutex::new(Vec::new())));
        let first = gate.enter(Instant::now(), false, Priority::Normal).unwrap();
        let comes = |(i, priority)| {
            let (own, order) = (gate.clone(), order.clone());
            let thread = std::thread::spawn(move || {
                let place = own.enter(Instant::now() + FAR, true, priority).unwrap();
                order.lock().push(i);
                drop(place);
            });
            while gate.line.lock().waiting.len() <= i {
                std::thread::yield_now();
            }
            thread
        };
        let threads: Vec<_> = priorities.into_iter().enumerate().map(comes).collect();
        drop(first);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(gate.line.lock().taken, 0);
        std::mem::take(&mut *order.lock())
    }

    #[test]
    fn places_pass_from_one_to_the_next_in_order() {
        assert_eq!(order_of([Priority::Normal; 5]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn who_matters_more_comes_first() {
        use Priority::{High, Low, Normal};

        assert_eq!(order_of([Low, Normal, High, Low, High]), [2, 4, 1, 0, 3]);
    }

    #[test]
    fn the_more_are_turned_away_the_later_they_come_back() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.turn_away(MS * 20), MS * 20);
        for _ in 0..30 {
            (0..10).for_each(|_| _ = crowd.turn_away(MS * 20));
            crowd.learn();
        }
        let crowded = crowd.turn_away(MS * 20);
        assert!(crowded > MS * 200, "{crowded:?}");
        (0..100).for_each(|_| crowd.learn());
        assert_eq!(crowd.turn_away(MS * 20), MS * 20, "the crowd has gone");
        for _ in 0..100 {
            (0..10).for_each(|_| _ = crowd.turn_away(MS * 20));
            crowd.learn();
        }
        assert_eq!(crowd.turn_away(MS), Crowd::LONGEST);
    }

    #[test]
    fn a_place_does_not_go_to_one_who_has_become_too_late() {
        let gate = Gate::new(1);
        let first = gate.enter(Instant::now(), false, Priority::Normal).unwrap();
        let waits = |deadline: Duration| {
            let own = gate.clone();
            let before = gate.line.lock().waiting.len();
            let thread =
                std::thread::spawn(move || own.enter(Instant::now() + deadline, true, Priority::Normal).map(drop));
            while gate.line.lock().waiting.len() == before {
                std::thread::yield_now();
            }
            thread
        };
        let (hurried, patient) = (waits(FAR), waits(FAR * 10));
        // Places turn out to be taken for longer than the first one has.
        gate.line.lock().usual = Usual { mean: FAR * 4, slow: FAR * 4 };
        drop(first);
        assert!(hurried.join().unwrap().is_err());
        assert!(patient.join().unwrap().is_ok());
        assert_eq!(gate.line.lock().taken, 0);
    }

    #[test]
    fn who_waited_in_vain_leaves_the_line() {
        let gate = Gate::new(1);
        let place = gate.enter(Instant::now(), false, Priority::Normal).unwrap();
        assert!(gate.enter(Instant::now() + MS, true, Priority::Normal).is_err());
        assert!(gate.line.lock().waiting.is_empty());
        drop(place);
        assert_eq!(gate.line.lock().taken, 0);
    }

    #[test]
    fn what_is_usual_rises_quickly_and_with_what_was_stopped() {
        let mut usual = Usual::default();
        (0..20).for_each(|_| usual.learn(MS * 10, true));
        assert_eq!((usual.mean.as_micros(), usual.slow.as_micros()), (10_000, 10_000));
        usual.learn(MS * 30, true);
        assert_eq!((usual.mean.as_micros(), usual.slow.as_micros()), (12_500, 20_000));
        usual.learn(MS, false);
        assert_eq!(usual.slow.as_micros(), 20_000, "it tells nothing");
        usual.learn(MS * 20, false);
        assert_eq!(usual.slow.as_micros(), 22_500);
        (0..100).for_each(|_| usual.learn(MS * 10, true));
        assert!(usual.slow < MS * 11 && usual.mean < MS * 11);
    }
}
