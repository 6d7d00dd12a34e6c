//! The only place that names synchronisation primitives, so that the model checkers can replace them: compile with
//! `--cfg loom` or `--cfg shuttle`.

// The two names are no features, so that no dependent can turn them on by accident; the compiler does not know them.
#![allow(unexpected_cfgs)]

use std::cell::Cell;
use std::sync::PoisonError;

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

/// Locks. No foreign code runs under a lock of this crate, so there is no half-done change that poison could warn of.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of counters that successes are spread over; with more threads than this, some share one. Under a model
/// checker all threads share one, so that they can collide.
pub(crate) const SHARDS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 8 };

/// A number below [`SHARDS`], given to threads in turn. It uses no primitive of the model checkers; with those it is 0
/// for all threads.
#[inline]
pub(crate) fn shard_of_thread() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // While a thread is being taken down its locals may be gone already; any shard will do.
    SHARD
        .try_with(|shard| {
            if shard.get() == usize::MAX {
                shard.set(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
            }
            shard.get()
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_shard_and_others_have_others() {
        let two = || (shard_of_thread(), shard_of_thread());
        let shards: Vec<_> = (0..2 * SHARDS).map(|_| std::thread::spawn(two).join().unwrap()).collect();
        assert!(shards.iter().all(|(first, second)| first == second && *first < SHARDS), "{shards:?}");
        let distinct: std::collections::BTreeSet<_> = shards.into_iter().collect();
        assert!(distinct.len() > 1, "all threads share {distinct:?}");
    }
}
