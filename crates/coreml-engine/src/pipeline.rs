//! Models as a session loads them: a planned program, a classic model, or a pipeline of models.
//!
//! A pipeline's members run one after the other. Each finds its inputs by name among the pipeline's inputs and the
//! results so far, the latest first.

use std::collections::BTreeMap;

use coreml_classic::Classic;
use coreml_core::{
    Cancel, CheckedInputs, CheckedValue, Error, ErrorKind, Model, ModelInfo, ModelState, Outputs, Value,
};
use coreml_model::{Feature, Interface};
use coreml_tensor::{Tensor, TensorView};

use crate::backend::{CpuModel, Observer, processors};
use crate::compute::Compute;
use crate::state::States;

/// A model of any type, ready for predictions.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The format's name of its type.
    pub(crate) kind: &'static str,
    pub(crate) interface: Interface,
    pub(crate) content: Content,
    /// What the values between a pipeline's members may take together.
    pub(crate) max_bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    Planned(Box<CpuModel>),
    Classic(Box<dyn Classic>),
    /// The members in order, each with its place in words.
    Pipeline(Vec<(String, Loaded)>),
}

impl Loaded {
    /// The values of all outputs; `observer` sees how those of programs come to be. Only a program has a state.
    pub(crate) fn run(
        &self,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
        cancel: Option<&Cancel>,
        observer: &mut impl Observer,
    ) -> Result<Vec<(String, Value)>, Error> {
        match &self.content {
            Content::Planned(model) => model.run(inputs, state, cancel, observer),
            Content::Classic(model) => match cancel {
                Some(cancel) => model.predict_until(inputs, cancel),
                None => model.predict(inputs),
            },
            Content::Pipeline(members) => self.run_members(members, inputs, cancel, observer),
        }
    }

    fn run_members(
        &self,
        members: &[(String, Self)],
        given: &CheckedInputs<'_>,
        cancel: Option<&Cancel>,
        observer: &mut impl Observer,
    ) -> Result<Vec<(String, Value)>, Error> {
        let given: BTreeMap<&str, &CheckedValue<'_>> = given.iter().collect();
        // The latest of each name.
        let mut made: BTreeMap<String, Value> = BTreeMap::new();
        let mut held = 0usize;
        for (place, member) in members {
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Error::new(ErrorKind::Cancelled, "the prediction was given up between two members"));
            }
            let find = |name: &str| match made.get(name) {
                Some(value) => value.lend(),
                None => given.get(name).map(|value| value.lend()),
            };
            let outputs = CheckedInputs::hand_on(&member.interface, find)
                .and_then(|inputs| member.run(&inputs, None, cancel, observer))
                .map_err(|error| error.within(place))?;
            for (name, value) in outputs {
                held = held.saturating_add(bytes(&value));
                held = held.saturating_sub(made.insert(name, value).as_ref().map_or(0, bytes));
            }
            if held > self.max_bytes {
                let message = format!("its values take {held} bytes by now, above the limit of {}", self.max_bytes);
                return Err(Error::new(ErrorKind::Unsupported, message).within(place));
            }
        }
        let output = |feature: &Feature| {
            let name = &feature.name;
            let passed_on = || given.get(name.as_str()).and_then(|value| value.to_value());
            let value = made.remove(name).or_else(passed_on);
            let missing =
                || Error::feature(ErrorKind::InvalidInput, name, "is not given by any member of the pipeline");
            Ok((name.clone(), value.ok_or_else(missing)?.deliver(feature)?))
        };
        self.interface.outputs.iter().map(output).collect()
    }

    /// Programs in the order they run.
    pub(crate) fn planned(&self) -> Vec<&CpuModel> {
        match &self.content {
            Content::Planned(model) => vec![&**model],
            Content::Classic(_) => Vec::new(),
            Content::Pipeline(members) => members.iter().flat_map(|(_, member)| member.planned()).collect(),
        }
    }

    /// What the first program computes with.
    pub(crate) fn compute(&self) -> Option<Compute> {
        self.planned().first().map(|model| model.compute().clone())
    }
}

fn foreign_state() -> Error {
    Error::new(ErrorKind::Bug, "the state was made by another backend")
}

impl Model for Loaded {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        Ok(Outputs::new(self.run(inputs, state, None, &mut ())?))
    }

    fn predict_until(
        &self,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
        cancel: &Cancel,
    ) -> Result<Outputs, Error> {
        Ok(Outputs::new(self.run(inputs, state, Some(cancel), &mut ())?))
    }

    fn predict_batch(&self, inputs: &[CheckedInputs<'_>]) -> Vec<Result<Outputs, Error>> {
        match &self.content {
            Content::Classic(model) => {
                model.predict_batch(inputs).into_iter().map(|answer| answer.map(Outputs::new)).collect()
            }
            _ => inputs.iter().map(|inputs| self.predict(inputs, None)).collect(),
        }
    }

    fn gains_by_batches(&self) -> bool {
        matches!(self.content, Content::Classic(_))
    }

    fn stops(&self) -> bool {
        true
    }

    fn concurrency(&self) -> Option<usize> {
        Some(self.planned().first().map_or_else(processors, |model| model.concurrency()))
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        match &self.content {
            Content::Planned(model) => model.new_state(),
            _ => Ok(ModelState::new(States::default())),
        }
    }

    fn read_state(&self, state: &mut ModelState, name: &str) -> Result<Tensor, Error> {
        let states = state.downcast_mut::<States>().ok_or_else(foreign_state)?;
        states.read(name).ok_or_else(|| {
            Error::feature(ErrorKind::Unavailable, name, "there is no such state, or no memory for a copy of it")
        })
    }

    fn write_state(&self, state: &mut ModelState, name: &str, contents: TensorView<'_>) -> Result<(), Error> {
        let states = state.downcast_mut::<States>().ok_or_else(foreign_state)?;
        states.write(name, contents).then_some(()).ok_or_else(|| {
            Error::feature(ErrorKind::InvalidInput, name, "there is no such state, or it does not hold such elements")
        })
    }

    fn info(&self) -> ModelInfo {
        match &self.content {
            Content::Planned(model) => model.info(),
            Content::Classic(_) => {
                let names = |features: &[Feature]| {
                    features.iter().map(|feature| format!("%{}", feature.name)).collect::<Vec<_>>().join(", ")
                };
                let Interface { inputs, outputs, .. } = &self.interface;
                let plan = format!("{} = {}({})\n", names(outputs), self.kind, names(inputs));
                ModelInfo { steps: 1, threads: 1, plan, ..ModelInfo::default() }
            }
            Content::Pipeline(members) => {
                let mut all = ModelInfo::default();
                for info in members.iter().map(|(_, member)| member.info()) {
                    all.steps += info.steps;
                    all.threads = all.threads.max(info.threads);
                    all.isa = if info.isa.is_empty() { all.isa } else { info.isa };
                    all.workspace_bytes += info.workspace_bytes;
                    all.plan += &info.plan;
                }
                all
            }
        }
    }
}

/// About what a value takes.
fn bytes(value: &Value) -> usize {
    match value {
        Value::Tensor(tensor) | Value::Image(tensor) => tensor.shape().count().saturating_mul(tensor.dtype().size()),
        Value::Dictionary(entries) => size_of_val(entries.as_slice()),
        Value::Sequence(labels) => size_of_val(labels.as_slice()),
        Value::String(text) => text.len(),
        _ => size_of::<Value>(),
    }
}
