//! How long a backend usually takes, and so how much time to reserve for it when another one is tried first.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Predictions remembered.
const MEMORY: usize = 32;

/// The last few durations of successful predictions, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Pace {
    recent: [AtomicU32; MEMORY],
    next: AtomicU32,
    /// The last value given to [`Pace::patience`], in microseconds; 0 before.
    patience: AtomicU32,
}

/// Predictions between two looks at the whole distribution, which is read bucket by bucket.
const LOOK_EVERY: u32 = 256;

impl Pace {
    pub(super) fn record(&self, elapsed: Duration) {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) as usize % MEMORY;
        let micros = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
        self.recent[slot].store(micros.max(1), Ordering::Relaxed);
    }

    /// Whether the last prediction took a millisecond or more.
    pub(super) fn is_slow(&self) -> bool {
        let last = self.next.load(Ordering::Relaxed).wrapping_sub(1) as usize % MEMORY;
        self.recent[last].load(Ordering::Relaxed) >= 1000
    }

    /// The time within which 99 of 100 predictions end, updated from `distribution` now and then; `None` as long as it
    /// cannot.
    pub(super) fn patience(&self, distribution: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
        let known = self.patience.load(Ordering::Relaxed);
        let due = self.next.load(Ordering::Relaxed).is_multiple_of(LOOK_EVERY);
        let micros = match if due { distribution() } else { None } {
            Some(looked) => u32::try_from(looked.as_micros()).unwrap_or(u32::MAX).max(1),
            None => known,
        };
        self.patience.store(micros, Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// The time to keep back of a deadline `total` away: twice the second slowest remembered prediction, since the host
    /// may have slowed down meanwhile, plus five milliseconds for threads and caches that went cold while the first
    /// backend had its turn; half of `total` while nothing is remembered. At most nine tenths, so that the first backend
    /// gets a chance.
    pub(super) fn reserve(&self, total: Duration) -> Duration {
        let mut micros = self.recent.each_ref().map(|slot| slot.load(Ordering::Relaxed));
        micros.sort_unstable();
        let known = micros.iter().filter(|&&micros| micros > 0).count();
        let usual = match known {
            0 => return total / 2,
            1..8 => micros[MEMORY - 1],
            _ => micros[MEMORY - 2],
        };
        let reserve = Duration::from_micros(u64::from(usual) * 2) + Duration::from_millis(5);
        reserve.min(total * 9 / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_follows_what_was_seen() {
        let (pace, total) = (Pace::default(), Duration::from_millis(100));
        assert_eq!(pace.reserve(total), total / 2, "nothing known");
        assert!(!pace.is_slow());
        pace.record(Duration::from_millis(8));
        assert!(pace.is_slow());
        assert_eq!(pace.reserve(total), Duration::from_millis(21));
        (0..MEMORY).for_each(|_| pace.record(Duration::from_millis(4)));
        pace.record(Duration::from_millis(70));
        assert_eq!(pace.reserve(total), Duration::from_millis(13), "one outlier is not the rule");
        (0..MEMORY).for_each(|_| pace.record(Duration::from_secs(9)));
        assert_eq!(pace.reserve(total), Duration::from_millis(90));
    }
}
