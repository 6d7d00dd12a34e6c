//! Finds where the optimised plan of a model differs from its reference plan.
//!
//! The optimised plan runs unchanged and is watched: after each step the values it left are recorded. A value that one operation
//! passes to another within a step cannot be seen. The plan is not changed to show it, because a different plan would have
//! different faults. Each step is then judged alone: the operations it stands for are found by going back in the program from its
//! results to its inputs, and the reference plan runs them on exactly the numbers that the step read. The remaining distance is
//! the step's own error, not an inherited one.

use std::sync::Arc;

use coreml_core::{CheckedInputs, Error, ErrorKind, LoadOptions, Model};
use coreml_model::{Function, Interface, Metadata, NewContent, NewModel, Package, Program, ValueId};
use coreml_tensor::{Shape, Tensor};

use crate::as_program::stand_alone;
use crate::backend::CpuBackend;
use crate::value::OutOfMemory;

use self::judge::Judged;
use self::record::Recorder;

mod distance;
mod judge;
mod record;

pub use self::distance::{Bounds, Distance};

/// How many times as far as by the last bit of its inputs a result may be off through rounding.
const ROUNDINGS: f64 = 16.0;

/// The function of a model that was cut out of another.
const MAIN: &str = "main";

/// One operation of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Covered {
    /// Its type.
    pub kind: String,
    /// The name of its first result.
    pub output: String,
}

/// One step of the optimised plan.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepError {
    /// Which member of a pipeline it belongs to; 0 without a pipeline.
    pub member: usize,
    /// Its position in the plan of that member.
    pub position: usize,
    /// The operations it does: `conv+gelu` is one operation with another applied to its results, `conv > conv` two in a
    /// row.
    pub kind: String,
    /// The name of its first output in the program.
    pub output: String,
    /// That output's shape in the program.
    pub shape: Shape,
    /// The operations of the program that the step stands for; none if it only changes the layout of a value.
    pub covers: Vec<Covered>,
    /// The step's own error: the distance of its results from those of the same operations in the reference plan, on the same
    /// numbers. Or why it is not known, in words.
    pub own: Result<Distance, String>,
    /// How far its results move if each number that it read changes in the last bit. Where terms cancel out, that is a lot, and
    /// any order of summation is equally wrong. Zero if its own error is too small for this to matter.
    pub rounding: Distance,
    /// The distance of its results from the reference plan's run of the whole model; includes the errors of earlier
    /// steps.
    pub total: Option<Distance>,
}

/// How far the steps of a model's optimised plan are from its reference plan.
#[derive(Debug)]
pub struct Divergence {
    /// The steps in the order in which they ran, one member of a pipeline after another. Steps without results are not included,
    /// nor steps whose results have no name in the program.
    pub steps: Vec<StepError>,
    members: Vec<Judged>,
}

/// A step cut out of its model, as a model of its own.
#[derive(Debug)]
pub struct Cut {
    /// What the step read, by feature name of the new model.
    pub inputs: Vec<(String, Tensor)>,
    program: Program,
    interface: Interface,
}

impl Cut {
    /// The model, to be written.
    pub fn model(&self) -> NewModel<'_> {
        NewModel {
            content: NewContent::Program(std::borrow::Cow::Borrowed(&self.program)),
            interfaces: [(MAIN.to_owned(), &self.interface)].into(),
            default_function: MAIN.into(),
            metadata: Metadata::default(),
        }
    }
}

impl StepError {
    /// Whether its own error exceeds the bounds, and what rounding explains.
    pub fn diverges(&self, bounds: Bounds) -> bool {
        // What leaves the range of numbers when it moves explains nothing.
        let or = |bound: f64, moved: f64| if moved.is_finite() { bound.max(ROUNDINGS * moved) } else { bound };
        let bounds = Bounds {
            relative_l2: or(bounds.relative_l2, self.rounding.relative_l2),
            relative_largest: or(bounds.relative_largest, self.rounding.relative_largest),
        };
        self.own.as_ref().is_ok_and(|&own| !bounds.admit(own))
    }
}

impl Divergence {
    /// Loads a model as [`CpuBackend`] does, makes one prediction on `inputs` (and on a fresh state), and judges each step of it.
    ///
    /// # Errors
    /// As loading the model and predicting; [`ErrorKind::InvalidInput`] for a model without a program, and
    /// [`ErrorKind::Unsupported`] if there is not enough memory for all values.
    pub fn measure(
        backend: &CpuBackend,
        package: &Arc<Package>,
        options: &LoadOptions,
        inputs: &CheckedInputs<'_>,
    ) -> Result<Self, Error> {
        let model = backend.open(package, options)?;
        let compute = model.compute().ok_or_else(|| {
            let message = format!("a model of type `{}` has no program, whose operations could diverge", model.kind);
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        let mut state = model.new_state()?;
        let mut recorder = Recorder::default();
        model.run(inputs, Some(&mut state), None, &mut recorder)?;
        if recorder.lacks_memory {
            return Err(no_memory());
        }
        let reference = backend.plan_options(options).without_passes();
        let (mut steps, mut members) = (Vec::new(), Vec::new());
        for (member, record) in recorder.records.into_iter().enumerate() {
            let judged = Judged::new(record, &reference, &compute)?;
            steps.extend(judged.record.steps.iter().map(|step| judged.step(step, member)));
            members.push(judged);
        }
        Ok(Self { steps, members })
    }

    /// The first step that [diverges](StepError::diverges).
    pub fn first(&self, bounds: Bounds) -> Option<&StepError> {
        self.steps.iter().find(|step| step.diverges(bounds))
    }

    /// The operations of one step as a model, whose inputs are what the step read.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the step only changes a layout, works on a state, or cannot be written to a package.
    pub fn cut(&self, step: &StepError) -> Result<Cut, Error> {
        let unsupported = |message: String| Error::new(ErrorKind::Unsupported, message);
        let found = self.members.get(step.member).and_then(|judged| {
            Some((judged, judged.record.steps.iter().find(|recorded| recorded.position == step.position)?))
        });
        let (judged, recorded) = found.ok_or_else(|| unsupported("the step is another model's".into()))?;
        if recorded.again.is_some() {
            return Err(unsupported("the step only brings a value into another layout, no operation does that".into()));
        }
        let part = judged.part(recorded).map_err(unsupported)?;
        let values = &judged.record.values;
        let inputs: Vec<ValueId> = part.function.inputs.clone();
        let network = judged.record.network;
        let finish = |function: Function| {
            let types = judged.types(&function)?;
            stand_alone(function, &types, false)
        };
        let known = |id: ValueId| values.get(&id).map(|tensor| (tensor.dtype(), tensor.shape()));
        let (function, interface) = part.stand_alone(known, network.then_some(finish))?;
        let named = inputs.iter().zip(&interface.inputs);
        let inputs = named.filter_map(|(id, feature)| Some((feature.name.clone(), values.get(id)?.clone()))).collect();
        Ok(Cut { inputs, program: Program { functions: [(MAIN.to_owned(), function)].into() }, interface })
    }
}

fn no_memory() -> Error {
    Error::new(ErrorKind::Unsupported, "there is no memory for the values of all operations")
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        no_memory()
    }
}
