//! Describes what the engine would do for a prediction, without making one.

use std::sync::Arc;

use coreml_core::{Error, LoadOptions};
use coreml_model::{Package, ValueId};
use coreml_tensor::Shape;

use crate::backend::{CpuBackend, CpuModel};
use crate::plan::Plan;

/// The plans of a model for its default shapes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outline {
    /// One for each program, in the order they run; classic models have none.
    pub programs: Vec<PlannedProgram>,
}

/// One plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedProgram {
    /// Which member of which member of the package's pipelines it belongs to; empty for the package's model itself.
    pub member: Vec<usize>,
    /// The values that steps read and write.
    pub values: Vec<PlannedValue>,
    /// What is done, in order.
    pub steps: Vec<PlannedStep>,
    /// Positions of the inputs in `values`.
    pub inputs: Vec<usize>,
    /// Positions of the results in `values`.
    pub outputs: Vec<usize>,
    /// Bytes one prediction works in, besides weights and states. Values whose size depends on data come on top.
    pub workspace_bytes: usize,
    /// Bytes of the states of one course of predictions.
    pub state_bytes: usize,
}

/// A value of a plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedValue {
    /// Its name, which others may have as well.
    pub name: String,
    /// `float`, `int` or `bool`; `None` if only the run finds it out.
    pub kind: Option<&'static str>,
    /// Its shape as the engine holds it.
    pub shape: Option<Shape>,
    /// Whether it is a constant.
    pub is_constant: bool,
    /// Which value it is of the program's function, if the file has one and it is there.
    pub origin: Option<ValueId>,
}

/// A step of a plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedStep {
    /// The operations it does: `conv+gelu` is one with another in its wake, `conv > conv` two in a row.
    pub kind: String,
    /// Positions in the plan's values; `None` for inputs that are left out.
    pub inputs: Vec<Option<usize>>,
    /// Positions in the plan's values.
    pub outputs: Vec<usize>,
    /// It shows its input under another shape, and so takes no time.
    pub is_view: bool,
    /// Floating-point operations of its products, a multiply-add counting two. `None` where products are not what takes
    /// the time, or their number is not known before the run.
    pub flops: Option<u64>,
    /// Bytes it reads and writes at least; `None` if that depends on the run.
    pub bytes: Option<u64>,
}

impl Outline {
    /// Loads a model as [`CpuBackend`] does and tells what its plans are.
    ///
    /// # Errors
    /// As loading the model.
    pub fn of(backend: &CpuBackend, package: &Arc<Package>, options: &LoadOptions) -> Result<Self, Error> {
        let loaded = backend.open(package, options)?;
        let programs = loaded.planned().into_iter().filter_map(program).collect();
        Ok(Self { programs })
    }
}

fn program(model: &CpuModel) -> Option<PlannedProgram> {
    let planned = model.last_plan()?;
    let plan: &Plan = &planned.plan;
    let listing = plan.listing();
    let values = listing.values.iter().map(|value| PlannedValue {
        name: value.name.to_string(),
        kind: value.ty.map(|ty| ty.kind.name()),
        shape: value.shape(),
        is_constant: value.is_constant,
        origin: value.origin.filter(|_| !model.is_network()).map(|origin| origin.value),
    });
    // Steps are the nodes without those that are views, in the same order.
    let mut tasks = plan.known_tasks().peekable();
    let step = |node: &crate::plan::ListedNode| {
        let first = node.outputs.first().map(|&value| listing.values[value].id);
        let task = tasks.next_if(|(output, _)| *output == first);
        let work = task.as_ref().and_then(|(_, work)| *work);
        PlannedStep {
            kind: node.kind.to_string(),
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
            is_view: task.is_none(),
            flops: work.and_then(|work| work.flops),
            bytes: work.map(|work| work.bytes),
        }
    };
    Some(PlannedProgram {
        member: model.path().to_vec(),
        values: values.collect(),
        steps: listing.nodes.iter().map(step).collect(),
        inputs: listing.inputs.clone(),
        outputs: listing.outputs.clone(),
        workspace_bytes: plan.workspace_bytes(),
        state_bytes: plan.state_bytes(),
    })
}
