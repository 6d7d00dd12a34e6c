//! Compares each step of a program with the reference plan's result for the same numbers.

use std::collections::HashMap;
use std::sync::Arc;

use coreml_core::{Error, ErrorKind};
use coreml_model::{Function, Operation, TensorType, ValueId, ValueType};
use coreml_tensor::{Shape, Tensor};

use super::record::{Record, Recorded};
use super::{Bounds, Covered, Distance, StepError};
use crate::as_program::tensor_type;
use crate::backend::{plan_error, run_error};
use crate::compute::Compute;
use crate::cut::{Cutter, Part};
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::workspace::Workspace;

/// Unseen integers of this number at most are taken as constants: sizes that were worked out when the plan was made.
const MOST_SIZES: usize = 256;

/// A step whose own error is as small as that is not asked how sensitive it is to rounding.
const DOUBTLESS: Bounds = Bounds { relative_l2: 1e-5, relative_largest: 1e-4 };

/// One program's run beside that of its reference plan.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) record: Record,
    reference: Plan,
    workspace: Workspace,
    /// Where the program's values are in the reference plan.
    kept: HashMap<ValueId, usize>,
    options: PlanOptions,
    compute: Compute,
}

impl Judged {
    pub(super) fn new(record: Record, options: &PlanOptions, compute: &Compute) -> Result<Self, Error> {
        let (reference, workspace) = run(&record.function, &record.values, options, compute)?;
        let kept = reference.kept_values();
        Ok(Self { record, reference, workspace, kept, options: options.clone(), compute: compute.clone() })
    }

    fn expected(&self, id: ValueId) -> Option<Tensor> {
        self.reference.kept_value(*self.kept.get(&id)?, &self.workspace).ok()?
    }

    /// The part of the program that `step` stands for.
    pub(super) fn part(&self, step: &Recorded) -> Result<Part, String> {
        let Record { function, values, .. } = &self.record;
        let known = |id: ValueId| values.get(&id).map(|tensor| (tensor.dtype(), tensor.shape()));
        // Sizes are worked out when a plan is made, so nothing is seen of them.
        let size = |id: ValueId| {
            let sizes = |tensor: &Tensor| !tensor.dtype().is_float() && tensor.shape().count() <= MOST_SIZES;
            if values.contains_key(&id) { None } else { self.expected(id).filter(sizes) }
        };
        let part = Cutter::new(function).part(&step.results, &step.reads, known, size)?;
        match part.function.body.operations.iter().find_map(|operation| random(operation)) {
            Some(kind) => Err(format!("`{kind}` draws other numbers each time")),
            None => Ok(part),
        }
    }

    pub(super) fn step(&self, step: &Recorded, member: usize) -> StepError {
        let Record { function, values, .. } = &self.record;
        let name = |id: Option<&ValueId>| id.map_or_else(String::new, |&id| function.value(id).name.to_string());
        let (mut covers, mut own) = (Vec::new(), Ok(step.again.unwrap_or_default()));
        let mut rounding = Distance::default();
        if step.again.is_none() {
            own = self.part(step).and_then(|part| {
                let operations = part.operations.iter().map(|&at| &function.body.operations[at]);
                covers = operations
                    .map(|operation| Covered {
                        kind: operation.kind.to_string(),
                        output: name(operation.outputs.first()),
                    })
                    .collect();
                let expected = self.results(&part, values)?;
                let found = step
                    .results
                    .iter()
                    .zip(&expected)
                    .filter_map(|(id, expected)| Some(Distance::between(values.get(id)?, expected)));
                let own = found.reduce(Distance::or).unwrap_or_default();
                if !DOUBTLESS.admit(own) {
                    let nudged = self.results(&part, &nudged(&part.function, values))?;
                    let pairs = nudged.iter().zip(&expected);
                    let moved = pairs.map(|(nudged, expected)| Distance::between(nudged, expected));
                    rounding = moved.reduce(Distance::or).unwrap_or_default();
                }
                Ok(own)
            });
        }
        let distances =
            step.results.iter().filter_map(|&id| Some(Distance::between(values.get(&id)?, &self.expected(id)?)));
        StepError {
            member,
            position: step.position,
            kind: step.kind.clone(),
            output: name(step.results.first()),
            shape: step.results.iter().find_map(|id| values.get(id)).map_or(Shape::SCALAR, Tensor::shape),
            covers,
            own,
            rounding,
            total: distances.reduce(Distance::or),
        }
    }

    /// What the reference plan of a part makes of its inputs among `values`.
    fn results(&self, part: &Part, values: &HashMap<ValueId, Tensor>) -> Result<Vec<Tensor>, String> {
        let ran = run(&part.function, values, &self.options, &self.compute);
        let (plan, workspace) = ran.map_err(|error| error.to_string())?;
        let result = |i| plan.output_tensor(&workspace, i).map_err(|error| error.to_string());
        (0..part.function.body.outputs.len()).map(result).collect()
    }

    /// The types of all values of a part, which a network's program does not declare.
    pub(super) fn types(&self, function: &Function) -> Result<HashMap<ValueId, TensorType>, Error> {
        let shapes = shapes(function, &self.record.values)?;
        let types = Plan::types(function, &shapes, &PlanOptions::default(), &self.compute, &Arc::default());
        let types = types.map_err(|error| plan_error(error, ErrorKind::InvalidModel))?;
        Ok(types.into_iter().filter_map(|(id, ty)| Some((id, tensor_type(&ty?)))).collect())
    }
}

/// The inputs of a function, each number moved to the next one above it or so.
fn nudged(function: &Function, values: &HashMap<ValueId, Tensor>) -> HashMap<ValueId, Tensor> {
    let nudge = |tensor: &Tensor| match tensor.as_slice::<f32>() {
        Some(numbers) => {
            let moved: Vec<f32> = numbers.iter().map(|x| x + f32::EPSILON * x.abs()).collect();
            Tensor::new(tensor.shape(), moved).unwrap_or_else(|_| tensor.clone())
        }
        None => tensor.clone(),
    };
    function.inputs.iter().filter_map(|id| Some((*id, nudge(values.get(id)?)))).collect()
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
