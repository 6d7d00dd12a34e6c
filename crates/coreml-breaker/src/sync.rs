//! The one place that names synchronisation primitives, so that the model checkers can put theirs here: compile with
//! `--cfg loom` or `--cfg shuttle`.

// The two names are no features, so that no dependent can turn them on by accident; the compiler does not know them.
#![allow(unexpected_cfgs)]

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

/// Into how many counters successes are spread; of more threads than this some share one. Under a model checker all do:
/// that is where they can meet.
pub(crate) const SHARDS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 8 };

/// A small number that differs between threads most of the time.
#[cfg(not(any(loom, shuttle)))]
#[inline]
pub(crate) fn thread_number() -> usize {
    use std::cell::Cell;
    static THREADS: atomic::AtomicUsize = atomic::AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // While a thread is being taken down its locals may be gone already; any number will do.
    NUMBER
        .try_with(|number| {
            if number.get() == usize::MAX {
                number.set(THREADS.fetch_add(1, atomic::Ordering::Relaxed) & (usize::MAX >> 1));
            }
            number.get()
        })
        .unwrap_or(0)
}

/// There is one shard only.
#[cfg(any(loom, shuttle))]
pub(crate) fn thread_number() -> usize {
    0
}
