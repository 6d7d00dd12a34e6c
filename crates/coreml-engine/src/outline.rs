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
    /// The member of the pipeline it belongs to, as a path through nested pipelines; empty for the package's model
    /// itself.
    pub member: Vec<usize>,
    /// The values that steps read and write.
    pub values: Vec<PlannedValue>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// Positions of the inputs in `values`.
    pub inputs: Vec<usize>,
    /// Positions of the results in `values`.
    pub outputs: Vec<usize>,
    /// Bytes of working memory for one prediction, without weights and states. Values whose size depends on data are
    /// extra.
    pub workspace_bytes: usize,
    /// Bytes of one set of states.
    pub state_bytes: usize,
}

/// A value of a plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedValue {
    /// Its name, which need not be unique.
    pub name: String,
    /// `float`, `int` or `bool`; `None` if it is only known during the run.
    pub kind: Option<&'static str>,
    /// Its shape as the engine holds it.
    pub shape: Option<Shape>,
    /// Whether it is a constant.
    pub is_constant: bool,
    /// The value of the program's function that it is, if the file has a program and the value is in it.
    pub origin: Option<ValueId>,
}

/// A step of a plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedStep {
    /// The operations it does: `conv+gelu` is one operation with another applied to its results, `conv > conv` two in a
    /// row.
    pub kind: String,
    /// Positions in the plan's values; `None` for inputs that are left out.
    pub inputs: Vec<Option<usize>>,
    /// Positions in the plan's values.
    pub outputs: Vec<usize>,
    /// Whether it only gives its input another shape, and so takes no time.
    pub is_view: bool,
    /// Floating-point operations of its products, a multiply-add counting two. `None` if products do not take most of
    /// its time, or their number is not known before the run.
    pub flops: Option<u64>,
    /// The fewest bytes it reads and writes; `None` if that depends on the run.
    pub bytes: Option<u64>,
}

impl Outline {
    /// Loads a model as [`CpuBackend`] does and describes its plans.
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
