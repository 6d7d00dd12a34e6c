//! The switch that asks a prediction to stop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::Instant;

/// A switch that stops a prediction under way. A clone is the same switch; once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    set: AtomicBool,
    /// When it sets itself.
    at: Option<Instant>,
    /// Another switch that sets this one, too.
    parent: Option<Cancel>,
    question: Option<Question>,
}

/// The function that is called from time to time on the thread that made a switch.
struct Question {
    thread: ThreadId,
    every: Duration,
    from: Instant,
    /// When it is due, in nanoseconds after `from`.
    due: AtomicU64,
    wants_to_stop: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question({:?} every {:?})", self.thread, self.every)
    }
}

impl Question {
    fn ask(&self) -> bool {
        if thread::current().id() != self.thread {
            return false;
        }
        let now = self.from.elapsed();
        if now < Duration::from_nanos(self.due.load(Ordering::Relaxed)) {
            return false;
        }
        let wants_to_stop = (self.wants_to_stop)();
        self.due.store(nanoseconds(self.from.elapsed() + self.every), Ordering::Relaxed);
        wants_to_stop
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Cancel {
    /// A switch that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new switch that is also set when this one is, and sets itself at the time `at`.
    #[must_use]
    pub fn until(&self, at: Instant) -> Self {
        Self(Arc::new(Switch { at: Some(at), parent: Some(self.clone()), ..Switch::default() }))
    }

    /// A new switch that is also set when this one is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Switch { parent: Some(self.clone()), ..Switch::default() }))
    }

    /// A switch that sets itself when `wants_to_stop` returns true. That function is called once in `every`, the first time after
    /// `every`, when the prediction checks the switch on the thread that called this: for hosts that handle signals only on
    /// certain threads. It must not make predictions itself, because they would begin in the middle of the one being checked.
    pub fn asking(every: Duration, wants_to_stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let (from, due) = (Instant::now(), AtomicU64::new(nanoseconds(every)));
        let thread = thread::current().id();
        let question = Question { thread, every, from, due, wants_to_stop: Box::new(wants_to_stop) };
        Self(Arc::new(Switch { question: Some(question), ..Switch::default() }))
    }

    /// Sets it.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Relaxed);
    }

    /// Whether it has been set, or its time has come.
    pub fn is_cancelled(&self) -> bool {
        let Switch { set, at, parent, question } = &*self.0;
        if question.as_ref().is_some_and(Question::ask) {
            self.cancel();
        }
        set.load(Ordering::Relaxed)
            || parent.as_ref().is_some_and(Self::is_cancelled)
            || at.is_some_and(|at| Instant::now() >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_switch_is_set_by_hand_by_its_parent_or_by_the_clock() {
        let parent = Cancel::new();
        let far = Instant::now() + Duration::from_secs(600);
        let (one, other) = (parent.until(far), parent.until(far));
        one.clone().cancel();
        assert!(one.is_cancelled() && !other.is_cancelled() && !parent.is_cancelled());
        parent.cancel();
        assert!(other.is_cancelled());
        assert!(Cancel::new().until(Instant::now()).is_cancelled());
    }

    #[test]
    fn a_question_is_asked_on_its_own_thread_alone() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let cancel = Cancel::asking(Duration::ZERO, move || count.fetch_add(1, Ordering::Relaxed) == 2);
        let child = cancel.child();
        thread::scope(|scope| _ = scope.spawn(|| assert!(!child.is_cancelled())));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        assert!(!child.is_cancelled() && !cancel.is_cancelled() && child.is_cancelled());
        thread::scope(|scope| _ = scope.spawn(|| assert!(child.is_cancelled())));
    }

    #[test]
    fn a_question_waits_for_its_time() {
        let cancel = Cancel::asking(Duration::MAX, || true);
        assert!(!cancel.is_cancelled());
    }
}
