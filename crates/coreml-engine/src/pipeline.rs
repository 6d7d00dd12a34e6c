//! Pipelines: models that run one after the other, each on what it finds by name among the inputs and the results so
//! far, the latest first.

use std::borrow::Cow;

use coreml_core::{
    Cancel, CheckedInputs, CheckedValue, Error, ErrorKind, Model, ModelInfo, ModelState, Outputs, PreparedImage, Value,
};
use coreml_model::Interface;

use crate::backend::{CpuModel, Observer};
use crate::state::States;

/// Values by feature name: what the caller gave, and what members that ran before made of it.
#[derive(Clone, Copy)]
pub(crate) struct Features<'a> {
    pub(crate) given: &'a CheckedInputs<'a>,
    /// The latest last.
    pub(crate) made: &'a [(&'a str, CheckedValue<'a>)],
}

impl<'a> Features<'a> {
    pub(crate) fn get(self, name: &str) -> Option<&'a CheckedValue<'a>> {
        let made = self.made.iter().rev().find(|(known, _)| *known == name);
        made.map(|(_, value)| value).or_else(|| self.given.get(name))
    }
}

/// The members of a pipeline, in order, and its own interface.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) members: Vec<CpuModel>,
    pub(crate) interface: Interface,
}

impl Pipeline {
    /// Runs the members; `observer` sees each of them. Only a model that is no pipeline has a state.
    pub(crate) fn run(
        &self,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
        cancel: Option<&Cancel>,
        observer: &mut impl Observer,
    ) -> Result<Outputs, Error> {
        if let [only] = self.members.as_slice() {
            return Ok(Outputs::new(only.run(Features { given: inputs, made: &[] }, state, cancel, observer)?));
        }
        let mut made: Vec<(String, Value)> = Vec::new();
        for member in &self.members {
            let known = made.iter().filter_map(|(name, value)| Some((name.as_str(), as_input(value)?)));
            let known: Vec<_> = known.collect();
            let outputs = member.run(Features { given: inputs, made: &known }, None, cancel, observer)?;
            made.extend(outputs);
        }
        let output = |name: &String| {
            let position = made.iter().rposition(|(known, _)| known == name);
            let missing = || Error::feature(ErrorKind::InvalidModel, name, "no member of the pipeline gives it");
            Ok(made.swap_remove(position.ok_or_else(missing)?))
        };
        let names = self.interface.outputs.iter().map(|feature| &feature.name);
        Ok(Outputs::new(names.map(output).collect::<Result<_, Error>>()?))
    }
}

impl Model for Pipeline {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        self.run(inputs, state, None, &mut ())
    }

    fn predict_until(
        &self,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
        cancel: &Cancel,
    ) -> Result<Outputs, Error> {
        self.run(inputs, state, Some(cancel), &mut ())
    }

    fn stops(&self) -> bool {
        true
    }

    fn concurrency(&self) -> Option<usize> {
        self.members.first().and_then(Model::concurrency)
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        Ok(ModelState::new(States::default()))
    }

    fn info(&self) -> ModelInfo {
        let mut all = ModelInfo::default();
        for info in self.members.iter().map(Model::info) {
            all.steps += info.steps;
            all.threads = all.threads.max(info.threads);
            all.isa = info.isa;
            all.workspace_bytes += info.workspace_bytes;
            all.plan += &info.plan;
        }
        all
    }
}

/// A member's result as a later member takes it; `None` for what no member takes.
fn as_input(value: &Value) -> Option<CheckedValue<'_>> {
    match value {
        Value::Tensor(tensor) => Some(CheckedValue::Tensor(tensor.view())),
        Value::Image(image) => {
            let (height, width, channels) = match *image.shape() {
                [height, width] => (height, width, 1),
                [height, width, channels] => (height, width, channels),
                _ => return None,
            };
            let pixels = Cow::Borrowed(image.as_slice::<u8>()?);
            Some(CheckedValue::Image(PreparedImage { width, height, channels, pixels }))
        }
        Value::String(text) => Some(CheckedValue::String(text)),
        Value::Int64(value) => Some(CheckedValue::Int64(*value)),
        Value::Double(value) => Some(CheckedValue::Double(*value)),
        Value::Dictionary(entries) => Some(CheckedValue::Dictionary(entries)),
        _ => None,
    }
}
