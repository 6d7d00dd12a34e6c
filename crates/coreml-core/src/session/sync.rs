//! The lock and the condition variable of a backend's line, in one place so that a schedule checker can replace them:
//! compile with `--cfg shuttle`.

// The name is no feature, so that no dependent can turn it on by accident; the compiler does not know it.
#![allow(unexpected_cfgs)]

#[cfg(shuttle)]
pub(super) use self::checked::{Condvar, Mutex};
#[cfg(not(shuttle))]
pub(super) use parking_lot::{Condvar, Mutex};

/// What `parking_lot` has, as far as it is used here, made of the checker's own.
#[cfg(shuttle)]
mod checked {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    use shuttle::rand::{Rng, thread_rng};
    use shuttle::sync;

    #[derive(Debug, Default)]
    pub(in crate::session) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::session) fn lock(&self) -> Guard<'_, T> {
            Guard { mutex: &self.0, held: self.0.lock().ok() }
        }
    }

    /// Without `held` only while it waits.
    pub(in crate::session) struct Guard<'a, T> {
        mutex: &'a sync::Mutex<T>,
        held: Option<sync::MutexGuard<'a, T>>,
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("it is held")
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("it is held")
        }
    }

    #[derive(Debug)]
    pub(in crate::session) struct Condvar(sync::Condvar);

    /// Whether a wait ended for its time.
    pub(in crate::session) struct Waited(bool);

    impl Waited {
        pub(in crate::session) fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        pub(in crate::session) fn new() -> Self {
            Self(sync::Condvar::new())
        }

        pub(in crate::session) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(in crate::session) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
            guard.held = guard.held.take().and_then(|held| self.0.wait(held).ok());
        }

        /// The time may be over at any moment, whatever it is.
        pub(in crate::session) fn wait_for<T>(&self, guard: &mut Guard<'_, T>, _: Duration) -> Waited {
            let over = thread_rng().gen_bool(0.25);
            if over {
                guard.held = None;
                shuttle::thread::yield_now();
                guard.held = guard.mutex.lock().ok();
            } else {
                self.wait(guard);
            }
            Waited(over)
        }
    }
}
