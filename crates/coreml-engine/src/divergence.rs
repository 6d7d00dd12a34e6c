//! Where the optimised plan of a model departs from its reference plan.
//!
//! The optimised plan runs as it is, and is watched: after each step the values it left are taken down. A value that two
//! operations pass to each other within a step is not there to be seen, and nothing is done to make it seen, as another plan would
//! have other faults. Each step is then judged alone: the operations it stands for, found by going back in the program from what it
//! computed to what it read, are run by the reference plan on the very numbers that it read. What is left of the distance is the
//! step's own error, not one that it inherited.

use std::collections::HashMap;
use std::sync::Arc;

use coreml_core::{CheckedInputs, Error, ErrorKind, LoadOptions, Model};
use coreml_model::{
    Function, Interface, Metadata, NewContent, NewModel, Operation, Package, Program, TensorType, ValueId, ValueType,
};
use coreml_tensor::{Shape, Tensor};

use crate::as_program::{stand_alone, tensor_type};
use crate::backend::{CpuBackend, CpuModel, Observer, plan_error, run_error};
use crate::compute::Compute;
use crate::cut::{Cutter, Part};
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::value::OutOfMemory;
use crate::workspace::Workspace;

/// The function of a model that was cut out of another.
const MAIN: &str = "main";

/// Unseen integers of this number at most are taken as constants: sizes that were worked out when the plan was made.
const MOST_SIZES: usize = 256;

/// How far some numbers are from those expected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Distance {
    /// The largest absolute difference. Infinite where one is a number and the other not.
    pub largest: f64,
    /// That, as a part of the largest expected absolute value.
    pub relative_largest: f64,
    /// The length of the differences over that of the expected values; of zeros, 0 or infinite.
    pub relative_l2: f64,
    /// The root of the mean of the squared differences.
    pub rmse: f64,
}

impl Distance {
    /// The signal-to-noise ratio in decibels.
    pub fn snr(&self) -> f64 {
        -20.0 * self.relative_l2.log10()
    }

    /// The distance of `found` from `expected`: infinite where their shapes differ.
    pub fn between(found: &Tensor, expected: &Tensor) -> Self {
        if found.shape() != expected.shape() {
            let far = f64::INFINITY;
            return Self { largest: far, relative_largest: far, relative_l2: far, rmse: far };
        }
        let (mut largest, mut squares, mut signal, mut scale) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (a, b) in found.view().to_f64_vec().into_iter().zip(expected.view().to_f64_vec()) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let difference = if same { 0.0 } else { (a - b).abs() };
            // A NaN on one side only is further away than anything.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            largest = largest.max(difference);
            squares += difference * difference;
            // Expected infinities and NaN would hide every other difference.
            if b.is_finite() {
                signal += b * b;
                scale = scale.max(b.abs());
            }
        }
        let part = |of: f64, whole: f64| if of == 0.0 { 0.0 } else { of / whole };
        Self {
            largest,
            relative_largest: part(largest, scale),
            relative_l2: part(squares.sqrt(), signal.sqrt()),
            rmse: (squares / found.shape().count().max(1) as f64).sqrt(),
        }
    }

    /// The larger of each.
    fn or(self, other: Self) -> Self {
        Self {
            largest: self.largest.max(other.largest),
            relative_largest: self.relative_largest.max(other.relative_largest),
            relative_l2: self.relative_l2.max(other.relative_l2),
            rmse: self.rmse.max(other.rmse),
        }
    }
}

/// How far a step may be from what it should have computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// For [`Distance::relative_l2`].
    pub relative_l2: f64,
    /// For [`Distance::relative_largest`], which sees a single wrong number among many.
    pub relative_largest: f64,
}

impl Default for Bounds {
    /// Some hundred times what the rounding of sums comes to in single precision.
    fn default() -> Self {
        Self { relative_l2: 1e-4, relative_largest: 1e-3 }
    }
}

impl Bounds {
    /// Whether the distance is within them.
    pub fn admit(&self, distance: Distance) -> bool {
        distance.relative_l2 <= self.relative_l2 && distance.relative_largest <= self.relative_largest
    }
}

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
    /// The operations it does: `conv+gelu` is one with another in its wake, `conv > conv` two in a row.
    pub kind: String,
    /// The name of its first output in the program.
    pub output: String,
    /// That output's shape in the program.
    pub shape: Shape,
    /// The operations of the program that the step stands for; none where it only brings a value into another layout.
    pub covers: Vec<Covered>,
    /// What the step itself adds: its results against those of the same operations in the reference plan, of the same numbers. Or
    /// why it is not known, in words.
    pub own: Result<Distance, String>,
    /// Its results against those of the reference plan's run of the whole model: what steps before it added is in it.
    pub total: Option<Distance>,
}

/// How far the steps of a model's optimised plan are from its reference plan.
#[derive(Debug)]
pub struct Divergence {
    /// The steps in the order in which they ran; a pipeline's members follow each other. Steps that give nothing, and such whose
    /// results the program has no name for, are not among them.
    pub steps: Vec<StepError>,
    members: Vec<Judged>,
}

/// A step that is cut out of its model: a model of its own.
#[derive(Debug)]
pub struct Cut {
    /// What the step read, by the name of the feature it is of the new model.
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

impl Divergence {
    /// Loads a model as [`CpuBackend`] does, makes one prediction on `inputs` (and on a fresh state), and judges each step of it.
    ///
    /// # Errors
    /// As loading the model and predicting; [`ErrorKind::InvalidInput`] for a model without a program, and
    /// [`ErrorKind::Unsupported`] where there is no memory for all values.
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
            for i in 0..judged.record.steps.len() {
                steps.push(judged.step(i, member)?);
            }
            members.push(judged);
        }
        Ok(Self { steps, members })
    }

    /// The first step whose own error is beyond the bounds.
    pub fn first(&self, bounds: Bounds) -> Option<&StepError> {
        self.steps.iter().find(|step| step.own.as_ref().is_ok_and(|&own| !bounds.admit(own)))
    }

    /// The operations of one step as a model, with what the step read as its inputs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the step only changes a layout, works on a state, or has no form that packages hold.
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
        let shape = |id: ValueId| values.get(&id).map(Tensor::shape);
        let (function, interface) = part.stand_alone(shape, network.then_some(finish))?;
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

/// What was seen of one program's run.
#[derive(Debug)]
struct Record {
    function: Function,
    /// It was lowered from a neural network.
    network: bool,
    /// What was there to be seen, inputs included.
    values: HashMap<ValueId, Tensor>,
    steps: Vec<Recorded>,
}

/// What was seen of one step.
#[derive(Debug)]
struct Recorded {
    position: usize,
    kind: String,
    reads: Vec<ValueId>,
    results: Vec<ValueId>,
    /// The distance of results that had been seen before, in another layout; `None` if they are new.
    again: Option<Distance>,
}

/// Takes down the values of a prediction.
#[derive(Default)]
struct Recorder {
    records: Vec<Record>,
    running: bool,
    lacks_memory: bool,
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

/// One program's run beside that of its reference plan.
#[derive(Debug)]
struct Judged {
    record: Record,
    reference: Plan,
    workspace: Workspace,
    /// Where the program's values are in the reference plan.
    kept: HashMap<ValueId, usize>,
    options: PlanOptions,
    compute: Compute,
}

impl Judged {
    fn new(record: Record, options: &PlanOptions, compute: &Compute) -> Result<Self, Error> {
        let (reference, workspace) = run(&record.function, &record.values, options, compute)?;
        let kept = reference.kept_values();
        Ok(Self { record, reference, workspace, kept, options: options.clone(), compute: compute.clone() })
    }

    fn expected(&self, id: ValueId) -> Option<Tensor> {
        self.reference.kept_value(*self.kept.get(&id)?, &self.workspace).ok()?
    }

    /// The part of the program that `step` stands for.
    fn part(&self, step: &Recorded) -> Result<Part, String> {
        let Record { function, values, .. } = &self.record;
        let given = |id: ValueId| {
            let read = step.reads.contains(&id) || function.inputs.contains(&id);
            values.get(&id).filter(|_| read).map(Tensor::shape)
        };
        // Sizes are worked out when a plan is made, so nothing is seen of them.
        let size = |id: ValueId| {
            let sizes = |tensor: &Tensor| !tensor.dtype().is_float() && tensor.shape().count() <= MOST_SIZES;
            if values.contains_key(&id) { None } else { self.expected(id).filter(sizes) }
        };
        let part = Cutter::new(function).part(&step.results, given, size)?;
        match part.function.body.operations.iter().find_map(|operation| random(operation)) {
            Some(kind) => Err(format!("`{kind}` draws other numbers each time")),
            None => Ok(part),
        }
    }

    fn step(&self, i: usize, member: usize) -> Result<StepError, Error> {
        let step = &self.record.steps[i];
        let Record { function, values, .. } = &self.record;
        let name = |id: Option<&ValueId>| id.map_or_else(String::new, |&id| function.value(id).name.clone());
        let (mut covers, mut own) = (Vec::new(), Ok(step.again.unwrap_or_default()));
        if step.again.is_none() {
            own = self.part(step).and_then(|part| {
                let operations = part.operations.iter().map(|&at| &function.body.operations[at]);
                covers = operations
                    .map(|operation| Covered { kind: operation.kind.clone(), output: name(operation.outputs.first()) })
                    .collect();
                let (plan, workspace) =
                    run(&part.function, values, &self.options, &self.compute).map_err(|error| error.to_string())?;
                let mut own = Distance::default();
                for (i, id) in step.results.iter().enumerate() {
                    let expected = plan.output_tensor(&workspace, i).map_err(|error| error.to_string())?;
                    own = values.get(id).map_or(own, |found| own.or(Distance::between(found, &expected)));
                }
                Ok(own)
            });
        }
        let distances =
            step.results.iter().filter_map(|&id| Some(Distance::between(values.get(&id)?, &self.expected(id)?)));
        Ok(StepError {
            member,
            position: step.position,
            kind: step.kind.clone(),
            output: name(step.results.first()),
            shape: step.results.iter().find_map(|id| values.get(id)).map_or(Shape::SCALAR, Tensor::shape),
            covers,
            own,
            total: distances.reduce(Distance::or),
        })
    }

    /// The types of all values of a part, which a network's program does not declare.
    fn types(&self, function: &Function) -> Result<HashMap<ValueId, TensorType>, Error> {
        let shapes = shapes(function, &self.record.values)?;
        let types = Plan::types(function, &shapes, &PlanOptions::default(), &self.compute, &Arc::default());
        let types = types.map_err(|error| plan_error(error, ErrorKind::InvalidModel))?;
        Ok(types.into_iter().filter_map(|(id, ty)| Some((id, tensor_type(&ty?)))).collect())
    }
}

/// The type of an operation whose results are drawn anew each time.
fn random(operation: &Operation) -> Option<&str> {
    if operation.kind.starts_with("random_") {
        return Some(&operation.kind);
    }
    operation.blocks.iter().flat_map(|block| &block.operations).find_map(random)
}

/// The shapes of a function's array inputs.
fn shapes(function: &Function, values: &HashMap<ValueId, Tensor>) -> Result<Vec<Shape>, Error> {
    let arrays = function.inputs.iter().filter(|&&id| !matches!(function.value(id).ty, ValueType::State(_)));
    let shape = |id: &ValueId| {
        values.get(id).map(Tensor::shape).ok_or_else(|| {
            Error::feature(ErrorKind::Bug, &function.value(*id).name, "an input of the program was not seen")
        })
    };
    arrays.map(shape).collect()
}

/// Runs a function on those of `values` that are its inputs.
fn run(
    function: &Function,
    values: &HashMap<ValueId, Tensor>,
    options: &PlanOptions,
    compute: &Compute,
) -> Result<(Plan, Workspace), Error> {
    let invalid = |error| plan_error(error, ErrorKind::InvalidModel);
    let plan = Plan::new(function, &shapes(function, values)?, options, compute).map_err(invalid)?;
    let mut workspace = plan.workspace().map_err(invalid)?;
    let arrays = function.inputs.iter().filter_map(|id| values.get(id));
    for (i, tensor) in arrays.enumerate() {
        plan.set_input(&mut workspace, i, tensor.view()).map_err(invalid)?;
    }
    plan.run(&mut workspace, &mut plan.states()).map_err(run_error)?;
    Ok((plan, workspace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(found: &[f32], expected: &[f32]) -> Distance {
        let tensor = |values: &[f32]| Tensor::new(Shape::from([values.len()]), values.to_vec()).unwrap();
        Distance::between(&tensor(found), &tensor(expected))
    }

    #[test]
    fn distances_are_those_of_the_formulas() {
        let found = between(&[3.0, 4.5], &[3.0, 4.0]);
        assert_eq!((found.largest, found.relative_largest), (0.5, 0.125));
        assert!((found.relative_l2 - 0.1).abs() < 1e-12 && (found.rmse - 0.125f64.sqrt()).abs() < 1e-12);
        assert!((found.snr() - 20.0).abs() < 1e-12, "a tenth is 20 dB: {}", found.snr());
    }

    #[test]
    fn what_has_no_ratio_is_no_distance_or_an_infinite_one() {
        let same = between(&[0.0, f32::NAN], &[0.0, f32::NAN]);
        assert_eq!((same, same.snr()), (Distance::default(), f64::INFINITY));
        assert_eq!(between(&[1.0], &[0.0]).snr(), f64::NEG_INFINITY);
        assert_eq!(between(&[f32::INFINITY, 2.0], &[f32::INFINITY, 1.0]).relative_l2, 1.0);
        assert_eq!(between(&[f32::NAN], &[1.0]).relative_l2, f64::INFINITY);
        assert_eq!(between(&[1.0], &[0.0]).relative_l2, f64::INFINITY);
        assert_eq!(between(&[1.0], &[1.0, 2.0]).largest, f64::INFINITY);
    }

    #[test]
    fn one_wrong_number_among_many_is_beyond_the_bounds() {
        let expected = vec![1.0f32; 1 << 20];
        let mut found = expected.clone();
        found[7] = 1.01;
        let distance = between(&found, &expected);
        assert!(distance.relative_l2 < 1e-4 && !Bounds::default().admit(distance), "{distance:?}");
        found[7] = 1.0 + 1e-5;
        assert!(Bounds::default().admit(between(&found, &expected)));
    }
}
