//! The wish that a prediction stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A switch that stops a prediction under way. Clones are one switch; once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    set: AtomicBool,
    /// When it sets itself.
    at: Option<Instant>,
    /// Another switch that sets this one, too.
    parent: Option<Cancel>,
}

impl Cancel {
    /// A switch that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch of its own that is also set by this one, and by itself `at` this time.
    #[must_use]
    pub fn until(&self, at: Instant) -> Self {
        Self(Arc::new(Switch { set: AtomicBool::new(false), at: Some(at), parent: Some(self.clone()) }))
    }

    /// A switch of its own that is also set by this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Switch { set: AtomicBool::new(false), at: None, parent: Some(self.clone()) }))
    }

    /// Sets it.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has set it, or its time has come.
    pub fn is_cancelled(&self) -> bool {
        let Switch { set, at, parent } = &*self.0;
        set.load(Ordering::Relaxed)
            || parent.as_ref().is_some_and(Self::is_cancelled)
            || at.is_some_and(|at| Instant::now() >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
}
