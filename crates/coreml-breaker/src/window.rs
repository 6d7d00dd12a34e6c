//! The window of calls that rates are computed over. Counts are exact: a call that leaves the window is subtracted.

use std::time::Duration;

use crate::config::{PARTS, Window};

/// What is counted about a call, besides the call itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    pub(crate) failure: bool,
    pub(crate) slow: bool,
    pub(crate) deadline_miss: bool,
}

/// Numbers of calls in a window. A call may be several of these at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All calls.
    pub calls: u64,
    /// Those that did not succeed.
    pub failures: u64,
    /// Those that were slow, if slow calls are looked for.
    pub slow: u64,
    /// Those that missed their deadline.
    pub deadline_misses: u64,
}

impl Counts {
    /// Those that succeeded.
    pub fn successes(&self) -> u64 {
        self.calls - self.failures
    }

    fn add(&mut self, marks: Marks) {
        self.calls += 1;
        self.failures += u64::from(marks.failure);
        self.slow += u64::from(marks.slow);
        self.deadline_misses += u64::from(marks.deadline_miss);
    }

    fn remove(&mut self, marks: Marks) {
        self.calls -= 1;
        self.failures -= u64::from(marks.failure);
        self.slow -= u64::from(marks.slow);
        self.deadline_misses -= u64::from(marks.deadline_miss);
    }

    fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
        self.deadline_misses -= other.deadline_misses;
    }
}

/// A window and what it holds.
#[derive(Debug)]
pub(crate) struct Calls {
    kind: Kind,
    counts: Counts,
}

#[derive(Debug)]
enum Kind {
    /// The marks of the last calls; `next` is the oldest once the ring is full.
    Ring { marks: Box<[Marks]>, next: usize },
    /// Counts for each part of the time; `part` numbers the parts since the epoch and the current one is at
    /// `part % PARTS`.
    Parts { parts: Box<[Counts; PARTS as usize]>, width: u64, part: u64 },
}

impl Calls {
    pub(crate) fn new(window: Window) -> Self {
        let kind = match window {
            Window::Calls(calls) => Kind::Ring { marks: vec![Marks::default(); calls].into(), next: 0 },
            Window::Time(duration) => {
                let width = nanoseconds(duration) / PARTS;
                Kind::Parts { parts: Box::default(), width, part: 0 }
            }
        };
        Self { kind, counts: Counts::default() }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn push(&mut self, marks: Marks) {
        match &mut self.kind {
            Kind::Ring { marks: ring, next } => {
                if self.counts.calls == ring.len() as u64 {
                    self.counts.remove(ring[*next]);
                }
                ring[*next] = marks;
                *next = if *next + 1 == ring.len() { 0 } else { *next + 1 };
            }
            Kind::Parts { parts, part, .. } => parts[(*part % PARTS) as usize].add(marks),
        }
        self.counts.add(marks);
    }

    /// Does this many pushes without marks, in no more steps than the window is long.
    pub(crate) fn push_successes(&mut self, number: u64) {
        if let Kind::Parts { parts, part, .. } = &mut self.kind {
            parts[(*part % PARTS) as usize].calls += number;
            self.counts.calls += number;
        } else if let Kind::Ring { marks, .. } = &self.kind {
            (0..number.min(marks.len() as u64)).for_each(|_| self.push(Marks::default()));
        }
    }

    /// Drops what is too old at `now`, in nanoseconds since the epoch. A time that goes back counts as standing still.
    pub(crate) fn advance(&mut self, now: u64) {
        if let Kind::Parts { parts, width, part } = &mut self.kind {
            let current = (now / *width).max(*part);
            for step in 1..=(current - *part).min(PARTS) {
                self.counts.subtract(std::mem::take(&mut parts[((*part + step) % PARTS) as usize]));
            }
            *part = current;
        }
    }

    /// Until when `advance` has nothing to do, in nanoseconds since the epoch.
    pub(crate) fn unchanged_until(&self) -> u64 {
        match &self.kind {
            Kind::Ring { .. } => u64::MAX,
            Kind::Parts { width, part, .. } => (*part + 1).saturating_mul(*width),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts = Counts::default();
        match &mut self.kind {
            // What a ring holds beyond its count is never read.
            Kind::Ring { next, .. } => *next = 0,
            Kind::Parts { parts, .. } => **parts = Default::default(),
        }
    }
}

/// Saturates after 584 years.
#[inline]
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
