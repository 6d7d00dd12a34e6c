//! Makes many predictions in few calls of a backend, for models that are faster that way.

use smallvec::smallvec;

use super::lane::Lane;
use super::{Attempt, Prediction, Session};
use crate::check::{self, CheckedInputs};
use crate::error::Error;
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::{sentinel, trace};

/// The most predictions of one call: what it takes stays small, however many there are.
const MOST: usize = 256;

impl Session {
    /// Whether [`Session::predict_batch`] is faster than separate predictions: worth asking before gathering inputs for
    /// it.
    pub fn gains_by_batches(&self) -> bool {
        self.lane_for_batches().is_some()
    }

    pub(super) fn answer_batch(&self, inputs: &[&Inputs<'_>]) -> Vec<Result<Prediction, Error>> {
        inputs.chunks(MOST).flat_map(|inputs| self.answer_some(inputs)).collect()
    }

    /// The answers to some inputs. Inputs that the first backend does not answer in one call are asked one by one, which
    /// informs all backends and everybody who counts.
    fn answer_some(&self, inputs: &[&Inputs<'_>]) -> Vec<Result<Prediction, Error>> {
        let mut answers = self.answer_at_once(inputs).into_iter();
        let answer = |inputs: &&Inputs<'_>| match answers.next().flatten() {
            Some(prediction) => Ok(prediction),
            None => self.predict(inputs),
        };
        inputs.iter().map(answer).collect()
    }

    /// The answers that the first backend gives in one call, by position.
    fn answer_at_once(&self, inputs: &[&Inputs<'_>]) -> Vec<Option<Prediction>> {
        let Some(lane) = self.lane_for_batches().filter(|_| inputs.len() > 1) else { return Vec::new() };
        let _span = trace::prediction(&self.function);
        let start = self.clock.now();
        self.watch_memory(start);
        let Ok(permit) = lane.admit(start) else { return Vec::new() };
        let mut positions = Vec::with_capacity(inputs.len());
        let mut checked = Vec::with_capacity(inputs.len());
        for (position, inputs) in inputs.iter().enumerate() {
            if let Ok(inputs) = check::check(&self.interface, inputs) {
                positions.push(position);
                checked.push(inputs);
            }
        }
        let answered = lane.perform_batch(&checked);
        let ended = self.clock.now();
        let elapsed = ended.duration_since(start);
        // The breaker sees the one call that it was; a prediction took its share of the time.
        Lane::tell_breaker(permit, answered.as_ref().err().map(Error::kind), ended);
        let share = elapsed / u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        let mut predictions: Vec<_> = inputs.iter().map(|_| None).collect();
        for (position, answer) in positions.into_iter().zip(answered.unwrap_or_default()) {
            predictions[position] = answer.ok().filter(|outputs| self.may_be_right(lane, outputs)).map(|outputs| {
                self.answered.increment();
                lane.meter.attempt(None, share);
                lane.meter.served(share);
                let attempts = smallvec![Attempt { backend: lane.name(), error: None, elapsed: share }];
                Prediction { outputs, served_by: lane.name(), attempts, degraded: false }
            });
        }
        predictions
    }

    /// The first backend, if its model is loaded and gains by batches, and nothing is to be done for each prediction alone.
    fn lane_for_batches(&self) -> Option<&Lane> {
        let alone = self.policy.deadline.is_some() || self.shadow.is_some() || !self.interface.states.is_empty();
        let lane = self.lanes.first().filter(|_| !alone)?;
        lane.loaded()?.gains_by_batches().then_some(lane)
    }

    fn may_be_right(&self, lane: &Lane, outputs: &Outputs) -> bool {
        lane.is_last() || self.policy.trust_outputs || sentinel::inspect(&self.interface, outputs).is_ok()
    }
}

impl Lane {
    /// Answers several predictions on the calling thread, with the model that has been loaded.
    fn perform_batch(&self, inputs: &[CheckedInputs<'_>]) -> Result<Vec<Result<Outputs, Error>>, Error> {
        let model = self.model(None)?;
        self.guarded(|| Ok(model.predict_batch(inputs)))
    }
}
