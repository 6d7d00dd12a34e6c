//! When the parts of a run happened.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What a run did and when; all times are in seconds from its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// What was measured one after another.
    pub stages: Vec<Stage>,
    /// Resident memory: seconds and bytes.
    pub memory: Vec<(f64, u64)>,
    /// What happened at one moment: changes of a circuit breaker, predictions that failed.
    pub moments: Vec<Moment>,
}

/// A part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// What was done.
    pub name: String,
    /// When it began.
    pub from_s: f64,
    /// When it ended.
    pub to_s: f64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at_s: f64,
    /// What, in words.
    pub what: String,
}

impl Timeline {
    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty() && self.memory.is_empty() && self.moments.is_empty()
    }
}

/// Records a [`Timeline`] during a run.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    timeline: Timeline,
}

impl Recorder {
    /// A run that starts at `start`.
    pub fn new(start: Instant) -> Self {
        Self { start, timeline: Timeline::default() }
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The stage `name` begins, and the one before it ends.
    pub fn stage(&mut self, name: &str) {
        let now = self.now();
        self.end_stage(now);
        self.timeline.stages.push(Stage { name: name.to_owned(), from_s: now, to_s: now });
        self.memory();
    }

    fn end_stage(&mut self, now: f64) {
        if let Some(stage) = self.timeline.stages.last_mut() {
            stage.to_s = now;
        }
    }

    /// Records the process's memory now, where the system reports it.
    pub fn memory(&mut self) {
        if let Some(bytes) = crate::memory::resident_bytes() {
            self.timeline.memory.push((self.now(), bytes));
        }
    }

    /// Something happens now.
    pub fn moment(&mut self, what: impl Into<String>) {
        self.timeline.moments.push(Moment { at_s: self.now(), what: what.into() });
    }

    /// The run ends.
    pub fn finish(mut self) -> Timeline {
        let now = self.now();
        self.end_stage(now);
        self.memory();
        self.timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_without_gaps() {
        let mut recorder = Recorder::new(Instant::now());
        recorder.stage("load");
        recorder.moment("opened");
        recorder.stage("predictions");
        let timeline = recorder.finish();
        let [load, predictions] = timeline.stages.as_slice() else { panic!("{timeline:?}") };
        assert_eq!(load.to_s, predictions.from_s);
        assert!(load.from_s <= timeline.moments[0].at_s && timeline.moments[0].at_s <= load.to_s);
        assert!(predictions.from_s <= predictions.to_s);
        assert!(timeline.memory.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
