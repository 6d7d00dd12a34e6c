//! Records the program's values that can be seen while the optimised plan runs.

use std::collections::HashMap;

use coreml_model::{Function, ValueId};
use coreml_tensor::Tensor;

use super::Distance;
use crate::backend::{CpuModel, Observer};
use crate::plan::Plan;
use crate::workspace::Workspace;

/// What was seen of one program's run.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) function: Function,
    /// It was lowered from a neural network.
    pub(super) network: bool,
    /// What was there to be seen, inputs included.
    pub(super) values: HashMap<ValueId, Tensor>,
    pub(super) steps: Vec<Recorded>,
}

/// What was seen of one step.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) position: usize,
    pub(super) kind: String,
    pub(super) reads: Vec<ValueId>,
    pub(super) results: Vec<ValueId>,
    /// The distance of results that had been seen before, in another layout; `None` if they are new.
    pub(super) again: Option<Distance>,
}

/// Takes down the values of a prediction.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) records: Vec<Record>,
    running: bool,
    pub(super) lacks_memory: bool,
}

impl Observer for Recorder {
    fn begin(&mut self, model: &CpuModel, plan: &Plan, workspace: &Workspace) {
        // A plan that did not fit its inputs is given up and another one begins.
        if std::mem::replace(&mut self.running, true) {
            self.records.pop();
        }
        match (plan.observed_inputs(workspace), model.program()) {
            (Ok(inputs), Ok(function)) => self.records.push(Record {
                function: function.clone(),
                network: model.is_network(),
                values: inputs.into_iter().collect(),
                steps: Vec::new(),
            }),
            _ => self.lacks_memory = true,
        }
    }

    fn step(&mut self, plan: &Plan, position: usize, workspace: &Workspace) {
        let Some(record) = self.records.last_mut().filter(|_| !self.lacks_memory) else { return };
        let Ok(found) = plan.observed_results(position, workspace) else {
            self.lacks_memory = true;
            return;
        };
        let mut again: Option<Distance> = None;
        for (id, tensor) in found {
            if let Some(known) = record.values.get(&id) {
                again = Some(again.unwrap_or_default().or(Distance::between(&tensor, known)));
            } else {
                record.values.insert(id, tensor);
            }
        }
        let (reads, results) = plan.step_values(position);
        if results.iter().any(|id| record.values.contains_key(id)) {
            let kind = plan.step_kind(position).to_owned();
            record.steps.push(Recorded { position, kind, reads, results, again });
        }
    }

    fn end(&mut self, _plan: &Plan, _workspace: &Workspace) {
        self.running = false;
    }
}
