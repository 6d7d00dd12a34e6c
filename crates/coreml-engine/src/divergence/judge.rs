//! The steps of one program, each beside what the reference plan makes of the same numbers.

use std::collections::HashMap;
use std::sync::Arc;

use coreml_core::{Error, ErrorKind};
use coreml_model::{Function, Operation, TensorType, ValueId, ValueType};
use coreml_tensor::{Shape, Tensor};

use super::record::{Record, Recorded};
use super::{Covered, Distance, StepError};
use crate::as_program::tensor_type;
use crate::backend::{plan_error, run_error};
use crate::compute::Compute;
use crate::cut::{Cutter, Part};
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::workspace::Workspace;

/// Unseen integers of this number at most are taken as constants: sizes that were worked out when the plan was made.
const MOST_SIZES: usize = 256;

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

    pub(super) fn step(&self, step: &Recorded, member: usize) -> StepError {
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
        StepError {
            member,
            position: step.position,
            kind: step.kind.clone(),
            output: name(step.results.first()),
            shape: step.results.iter().find_map(|id| values.get(id)).map_or(Shape::SCALAR, Tensor::shape),
            covers,
            own,
            total: distances.reduce(Distance::or),
        }
    }

    /// The types of all values of a part, which a network's program does not declare.
    pub(super) fn types(&self, function: &Function) -> Result<HashMap<ValueId, TensorType>, Error> {
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
