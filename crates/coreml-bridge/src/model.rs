//! A model that Core ML has loaded.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::OnceLock;

use coreml_core::{CheckedInputs, Error, ErrorKind, Inputs, Model, ModelInfo, ModelState, Outputs, Placement, check};
use coreml_model::Interface;

use crate::describe::Description;
use crate::ffi::{CMLB_DEVICE_CPU, CMLB_DEVICE_GPU, CMLB_DEVICE_NEURAL_ENGINE, cmlb_item, cmlb_operation};
use crate::handles::{Bridge, Configuration, ModelHandle, StateHandle};
use crate::inputs::{self, Given};
use crate::outputs::{Wanted, c_name};
use crate::system::SystemReport;

/// A model that Core ML has loaded. Dropping it never waits for a prediction in progress.
#[derive(Debug)]
pub struct CoreMlModel {
    bridge: Bridge,
    handle: ModelHandle,
    interface: Interface,
    input_names: Vec<CString>,
    wanted: Wanted,
    compiled: PathBuf,
    configuration: Configuration,
    /// Asked for once, when first needed.
    placement: OnceLock<Option<Placement>>,
}

impl CoreMlModel {
    /// A loaded model under the interface the caller knows it by.
    pub(crate) fn new(
        bridge: Bridge,
        handle: ModelHandle,
        interface: Interface,
        description: Description,
        compiled: PathBuf,
        configuration: Configuration,
    ) -> Result<Self, Error> {
        agree(&interface, &description.interface)?;
        let input_names = interface.inputs.iter().map(|feature| c_name(&feature.name)).collect::<Result<_, _>>()?;
        let wanted = Wanted::new(&interface, description.labels)?;
        let placement = OnceLock::new();
        Ok(Self { bridge, handle, interface, input_names, wanted, compiled, configuration, placement })
    }

    /// What predictions take and give.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Predicts for many inputs in one call. Models with states have no batches.
    ///
    /// # Errors
    /// As [`Model::predict`], for the batch as a whole.
    pub fn predict_batch(&self, batch: &[CheckedInputs<'_>]) -> Result<Vec<Outputs>, Error> {
        let given = batch.iter().map(|inputs| Given::new(&self.interface, &self.input_names, inputs));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        let item = |given: &Given<'_>| cmlb_item { inputs: given.values.as_ptr(), input_count: given.values.len() };
        let items: Vec<_> = given.iter().map(item).collect();
        // SAFETY: `given` owns or borrows everything its values point to, and lives beyond the call.
        let answers = unsafe { self.handle.predict_batch(&items) }?;
        let outputs = |answer: Option<crate::handles::PredictionHandle>| {
            self.wanted.collect(self.wanted.no_places(), answer.as_ref())
        };
        answers.into_iter().map(outputs).collect()
    }

    /// One prediction on zeros; a model whose inputs have no obvious value is not tried.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        let Some(zeros) = inputs::zeros(&self.interface) else { return Ok(()) };
        let inputs: Inputs<'_> = zeros.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let checked = check(&self.interface, &inputs)?;
        let mut state = if self.interface.states.is_empty() { None } else { Some(self.new_state()?) };
        self.predict(&checked, state.as_mut()).map(drop)
    }

    /// Where Core ML plans to run the model, as its compute plan says; `None` if there is no plan.
    fn placement(&self) -> Option<Placement> {
        *self.placement.get_or_init(|| {
            let mut operations = Vec::new();
            let planned =
                self.bridge.plan(&self.compiled, &self.configuration, |operation| operations.push(*operation));
            planned.is_ok().then(|| placement(&operations)).flatten()
        })
    }
}

/// Core ML must know every feature that the caller knows.
fn agree(ours: &Interface, theirs: &Interface) -> Result<(), Error> {
    let lists = [(&ours.inputs, &theirs.inputs), (&ours.outputs, &theirs.outputs)];
    for (feature, theirs) in lists.into_iter().flat_map(|(ours, theirs)| ours.iter().map(move |f| (f, theirs))) {
        let same = theirs.iter().find(|other| other.name == feature.name);
        if same.is_none_or(|other| std::mem::discriminant(&other.kind) != std::mem::discriminant(&feature.kind)) {
            let message = "Core ML knows no such feature of this model, or one of another type";
            return Err(Error::feature(ErrorKind::Unsupported, &feature.name, message));
        }
    }
    Ok(())
}

/// Counts operations and adds up costs by device. What has no device, as constants, is no work.
fn placement(operations: &[cmlb_operation]) -> Option<Placement> {
    let placed: Vec<_> = operations.iter().filter(|operation| operation.preferred >= 0).collect();
    let total: f64 = placed.iter().map(|operation| operation.cost).filter(|cost| cost.is_finite()).sum();
    let share = |device: i32| {
        let on = placed.iter().filter(|operation| operation.preferred == device);
        let cost: f64 = on.clone().map(|operation| operation.cost).filter(|cost| cost.is_finite()).sum();
        coreml_core::DeviceShare { operations: on.count(), cost: (total > 0.0).then(|| cost / total) }
    };
    (!placed.is_empty()).then(|| Placement {
        operations: placed.len(),
        cpu: share(CMLB_DEVICE_CPU),
        gpu: share(CMLB_DEVICE_GPU),
        neural_engine: share(CMLB_DEVICE_NEURAL_ENGINE),
    })
}

impl Model for CoreMlModel {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        let given = Given::new(&self.interface, &self.input_names, inputs)?;
        let mut places = self.wanted.places();
        let foreign = || Error::new(ErrorKind::Bug, "the state was made by another backend");
        let state = state.map(|state| state.downcast_mut::<StateHandle>().ok_or_else(foreign)).transpose()?;
        // SAFETY: `given` and `places` own or borrow everything their pointers refer to, and live beyond the call; the memory of
        // outputs was made for this prediction alone.
        let rest = unsafe { self.handle.predict(state, &given.values, &mut places.raw) }?;
        self.wanted.collect(places, rest.as_ref())
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        Ok(ModelState::new(self.handle.state()?))
    }

    fn info(&self) -> ModelInfo {
        let placement = self.placement();
        let neural_engine_bytes = self.bridge.system().map(SystemReport::from).and_then(|system| system.neural_bytes);
        ModelInfo {
            steps: placement.map_or(0, |placement| placement.operations),
            placement,
            neural_engine_bytes,
            ..ModelInfo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_no_work() {
        let operation = |preferred, cost| cmlb_operation { preferred, cost, ..cmlb_operation::default() };
        let constants = [operation(-1, f64::NAN); 5];
        assert_eq!(placement(&constants), None);
        let mut operations = constants.to_vec();
        operations.extend([operation(2, 0.6), operation(2, 0.15), operation(0, 0.25), operation(0, f64::NAN)]);
        let placement = placement(&operations).unwrap();
        assert_eq!(placement.operations, 4);
        assert_eq!((placement.neural_engine.operations, placement.cpu.operations, placement.gpu.operations), (2, 2, 0));
        assert_eq!(placement.neural_engine.cost, Some(0.75));
        assert_eq!(placement.gpu.cost, Some(0.0));
        let uncosted = super::placement(&[operation(0, f64::NAN)]).unwrap();
        assert_eq!(uncosted.cpu.cost, None);
    }
}
