//! A plan: a graph compiled for fixed input shapes, ready to run any number of times.
//!
//! The plan is immutable and shared; everything a run changes lives in a [`Workspace`]. All storage is laid out when
//! the plan is made ([`memory`]), so a run of a plan without data-dependent shapes allocates nothing. Values whose
//! shape depends on data are the exception: their types are inferred as the run reaches them and their storage grows
//! on demand.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use coreml_core::Cancel;
use coreml_kernels::image::{self, ChannelOrder};
use coreml_kernels::parallel::stoppable;
use coreml_kernels::transpose::transpose;
use coreml_model::{Function, ValueId, ValueType};
use coreml_tensor::{Shape, Tensor, TensorView};

use crate::compute::Compute;
use crate::error::{PlanError, PlanErrorKind, RunError, RunErrorKind};
use crate::forms::Forms;
use crate::graph::{Graph, Id, Origin, ValueInfo, build};
use crate::ledger::Ledger;
use crate::literal::{Labels, Literal};
use crate::op::{Block, Env, Ins, Op, OpError, Operands, Outs, Types, Work};
use crate::options::PlanOptions;
use crate::state::States;
use crate::value::{Buffer, Kind, Type, load_tensor, try_store_tensor};
use crate::workspace::Workspace;

mod listing;
mod memory;
mod observed;
mod passes;
mod planted;
#[cfg(test)]
mod tests;

pub(crate) use self::listing::{ListedNode, Listing};

/// A compiled graph.
#[derive(Debug)]
pub struct Plan {
    compute: Compute,
    options: PlanOptions,
    steps: Vec<Step>,
    /// Types of all values; those of data-dependent ones are placeholders.
    types: Vec<Type>,
    /// Which values have a type that holds for every run.
    fixed: Vec<bool>,
    places: Vec<Place>,
    constants: Vec<Literal>,
    /// Elements each slot needs from the start.
    slots: Vec<usize>,
    scratch: usize,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    states: Vec<(String, Type)>,
    /// Operations whose weights are in packed form.
    packed: usize,
    /// Which value of the program each value is.
    origins: Vec<Option<Origin>>,
    /// Values that are others under another name: what they show, and the value.
    views: Vec<(usize, usize)>,
    listing: Listing,
}

/// An input or output of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    value: usize,
    pub(crate) labels: Option<Arc<Labels>>,
    /// The plan wants an input `[n, c, h, w]` as `[n, h, w, c]`; setting it reorders.
    channels_last: bool,
}

/// Where a value's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Slot(usize),
    Constant(usize),
    /// Never used.
    Nowhere,
}

#[derive(Debug)]
struct Step {
    op: Arc<dyn Op>,
    kind: String,
    output_name: String,
    inputs: Vec<Option<usize>>,
    outputs: Vec<usize>,
    /// The input that lies in the first output's slot.
    in_place: Option<usize>,
    /// The types of the outputs are known only at run time.
    deferred: bool,
    /// Position of the workspaces of nested blocks, and their number.
    nested: (usize, usize),
}

impl Step {
    /// What it asks of the machine if values have these types.
    fn work(&self, types: &[Type]) -> Work {
        let outputs: Vec<Type> = self.outputs.iter().map(|&value| types[value]).collect();
        self.op.work(Ins(&StepTypes { step: self, types }), &outputs)
    }
}

impl Plan {
    /// Plans `function` for inputs of these shapes, one for each tensor input in order.
    ///
    /// # Errors
    /// [`PlanError`] lists the operations the engine lacks, or names the one whose inputs or parameters contradict
    /// its rules, or says by how much the plan is over its memory limit.
    pub fn new(
        function: &Function,
        shapes: &[Shape],
        options: &PlanOptions,
        compute: &Compute,
    ) -> Result<Self, PlanError> {
        let shapes: Vec<_> = shapes.iter().copied().map(Some).collect();
        Self::sharing(function, &shapes, None, options, compute, &Arc::default())
    }

    /// As [`Plan::new`], sharing weights with other plans of the same `function` whose `forms` these are. The shape of an
    /// input may be left open; values that depend on it are then taken to have the types `known` says, and a run that
    /// finds another type is an error.
    pub(crate) fn sharing(
        function: &Function,
        shapes: &[Option<Shape>],
        known: Option<&HashMap<ValueId, Type>>,
        options: &PlanOptions,
        compute: &Compute,
        forms: &Arc<Forms>,
    ) -> Result<Self, PlanError> {
        let knowledge = build::Knowledge { known, found: None };
        let (graph, states) = Self::graph(function, shapes, options, compute, forms, knowledge)?;
        Self::compile(graph, states, options, compute)
    }

    /// The types that the values of `function` have for inputs of these shapes, nested blocks' included; `None` for those
    /// that depend on data.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn types(
        function: &Function,
        shapes: &[Shape],
        options: &PlanOptions,
        compute: &Compute,
        forms: &Arc<Forms>,
    ) -> Result<HashMap<ValueId, Option<Type>>, PlanError> {
        let found = build::Types::default();
        let shapes: Vec<_> = shapes.iter().copied().map(Some).collect();
        let knowledge = build::Knowledge { known: None, found: Some(&found) };
        Self::graph(function, &shapes, options, compute, forms, knowledge)?;
        Ok(found.into_inner())
    }

    fn graph(
        function: &Function,
        shapes: &[Option<Shape>],
        options: &PlanOptions,
        compute: &Compute,
        forms: &Arc<Forms>,
        knowledge: build::Knowledge<'_>,
    ) -> Result<(Graph, Vec<(String, Type)>), PlanError> {
        let declared = function.inputs.iter().filter_map(|&id| match &function.value(id).ty {
            ValueType::Tensor(ty) => Some(Kind::of(ty.dtype)),
            _ => None,
        });
        let types: Vec<_> =
            declared.zip(shapes).map(|(kind, shape)| shape.map(|shape| Type::new(kind, shape))).collect();
        let nested = |graph: Graph| {
            let plan = Self::compile(graph, Vec::new(), options, compute)?;
            Ok(Box::new(plan) as Box<dyn Block>)
        };
        build::build(function, &types, options, compute, forms, &nested, knowledge)
    }

    /// Compiles a graph.
    pub(crate) fn compile(
        mut graph: Graph,
        states: Vec<(String, Type)>,
        options: &PlanOptions,
        compute: &Compute,
    ) -> Result<Self, PlanError> {
        if !options.is_reference() {
            passes::run(&mut graph, compute);
        }
        let listing = Listing::of(&graph);
        let mut layout = memory::lay_out(&graph, !options.is_reference());
        let scratch = layout.scratch(&graph, compute);
        let held = states.iter().map(|(_, ty)| ty.count());
        let own = layout.slots.iter().copied().chain([scratch]).chain(held).map(|len| len.checked_mul(4));
        let nested = layout.steps.iter().flat_map(|step| step.op.nested()).map(|block| Some(block.workspace_bytes()));
        let bytes = own.chain(nested).try_fold(0usize, |sum, bytes| sum.checked_add(bytes?));
        if bytes.is_none_or(|bytes| bytes > options.max_bytes) {
            let needed = bytes.map_or("more than fits the address space".into(), |bytes| format!("{bytes} bytes"));
            let message = format!("activations and states need {needed}, the limit is {} bytes", options.max_bytes);
            return Err(PlanError::general(PlanErrorKind::Limit, message));
        }
        if let Some(name) = options.planted() {
            planted::plant(&mut layout.steps, name);
        }
        let mut constants = Vec::new();
        let mut places = layout.places;
        for (value, info) in graph.values.iter().enumerate() {
            if layout.used[value]
                && let Some(literal) = &info.constant
                && literal.elements().is_some()
            {
                places[value] = Place::Constant(constants.len());
                constants.push(literal.clone());
            }
        }
        let port = |&Id(value): &Id| {
            let info = &graph.values[value];
            let channels_last = graph.channels_last_inputs.contains(&Id(value));
            Port { name: info.name.to_string(), value, labels: info.labels.clone(), channels_last }
        };
        Ok(Self {
            compute: compute.clone(),
            options: options.clone(),
            inputs: graph.inputs.iter().map(port).collect(),
            outputs: graph.outputs.iter().map(port).collect(),
            types: graph.values.iter().map(|info| info.ty.unwrap_or_else(|| placeholder(info))).collect(),
            fixed: graph.values.iter().map(|info| info.ty.is_some()).collect(),
            steps: layout.steps,
            places,
            constants,
            slots: layout.slots,
            scratch,
            states,
            packed: graph.packed,
            origins: graph.values.iter().map(|info| info.origin).collect(),
            views: layout.views,
            listing,
        })
    }

    /// Storage for one run at a time.
    ///
    /// # Errors
    /// [`PlanErrorKind::Limit`] when there is no memory for it.
    pub fn workspace(&self) -> Result<Workspace, PlanError> {
        self.empty_workspace().map_err(|error| PlanError::general(PlanErrorKind::Limit, error.to_string()))
    }

    fn empty_workspace(&self) -> Result<Workspace, OpError> {
        let mut ledger = Ledger::new(self.options.run_limits(), 0, None);
        let mut buffer = |len: usize| {
            let mut buffer = Buffer::default();
            ledger.grow(&mut buffer, len).map(|()| buffer)
        };
        let slots = self.slots.iter().map(|&len| buffer(len)).collect::<Result<_, _>>()?;
        let scratch = buffer(self.scratch)?;
        let nested = self.steps.iter().flat_map(|step| step.op.nested()).map(|block| block.workspace());
        let nested = nested.collect::<Result<Vec<_>, _>>()?;
        let held = ledger.held() + nested.iter().map(|nested| nested.held).sum::<usize>();
        Ok(Workspace {
            slots,
            types: self.types.clone(),
            scratch,
            staging: Buffer::default(),
            taken: Vec::with_capacity(8),
            taken_types: Vec::with_capacity(8),
            nested,
            held,
        })
    }

    /// Fresh states, all zero.
    pub fn states(&self) -> States {
        States::zeros(self.states.iter().cloned())
    }

    /// Bytes a workspace of this plan takes at first, including those of nested blocks.
    pub fn workspace_bytes(&self) -> usize {
        let nested = self.steps.iter().flat_map(|step| step.op.nested()).map(|block| block.workspace_bytes());
        4 * (self.slots.iter().sum::<usize>() + self.scratch) + nested.sum::<usize>()
    }

    /// Number of operations a run executes.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Number of operations whose weights are in packed form.
    pub(crate) fn packed(&self) -> usize {
        self.packed
    }

    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The position of the input `name`.
    pub fn input_position(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|port| port.name == name)
    }

    /// The position of the output `name`.
    pub fn output_position(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|port| port.name == name)
    }

    /// The shape that input `i` was planned for; a scalar's if it may have any shape.
    pub fn input_shape(&self, i: usize) -> Shape {
        let port = &self.inputs[i];
        let shape = self.types[port.value].shape;
        match *shape.dims() {
            [n, h, w, c] if port.channels_last => [n, c, h, w].into(),
            _ => shape,
        }
    }

    /// Copies `tensor` into input `i`, converting its elements.
    ///
    /// # Errors
    /// When there is no such input, the plan was made for another shape, or there is no room for it.
    pub fn set_input(&self, workspace: &mut Workspace, i: usize, tensor: TensorView<'_>) -> Result<(), PlanError> {
        let Some(port) = self.inputs.get(i) else {
            return Err(PlanError::general(PlanErrorKind::Inputs, format!("there is no input {i}")));
        };
        let fixed = self.fixed[port.value];
        let ty = self.types[port.value].with_shape(if fixed { self.input_shape(i) } else { tensor.shape() });
        let kind = Kind::of(tensor.dtype());
        if tensor.shape() != ty.shape || (kind == Kind::Float) != (ty.kind == Kind::Float) {
            let message = format!(
                "input {} is planned as {}{}, not {}{}",
                port.name,
                ty.kind.name(),
                ty.shape,
                kind.name(),
                tensor.shape()
            );
            return Err(PlanError::general(PlanErrorKind::Inputs, message));
        }
        let Place::Slot(slot) = self.places[port.value] else { return Ok(()) };
        let Workspace { slots, staging, types, held, .. } = workspace;
        if !fixed {
            types[port.value] = ty;
            let mut ledger = Ledger::new(self.options.run_limits(), *held, None);
            let grown = ledger.grow(&mut slots[slot], ty.count());
            grown.map_err(|error| PlanError::general(PlanErrorKind::Limit, error.to_string()))?;
            *held = ledger.held();
        }
        if !port.channels_last {
            load_tensor(tensor.data(), &mut slots[slot]);
            return Ok(());
        }
        let planes = match tensor.as_slice::<f32>() {
            Some(planes) => planes,
            None => {
                load_tensor(tensor.data(), staging);
                &staging.floats()[..ty.count()]
            }
        };
        let pixels = &mut slots[slot].floats_mut()[..ty.count()];
        transpose(self.compute.isa, &self.compute.pool, &ty.shape, &[0, 2, 3, 1], planes, pixels);
        Ok(())
    }

    /// Copies an image of bytes `[h, w, c]` into input `i` of shape `[1, c, h, w]`; `order` gives the order of its
    /// channels there.
    ///
    /// # Errors
    /// When there is no such input or its shape is not the image's.
    pub fn set_image(
        &self,
        workspace: &mut Workspace,
        i: usize,
        [h, w, c]: [usize; 3],
        order: ChannelOrder,
        pixels: &[u8],
    ) -> Result<(), PlanError> {
        let fits = i < self.inputs.len() && *self.input_shape(i) == [1, c, h, w] && pixels.len() == h * w * c;
        if !fits {
            let message = format!("input {i} is not planned for an image of {w} x {h} pixels with {c} channels");
            return Err(PlanError::general(PlanErrorKind::Inputs, message));
        }
        let port = &self.inputs[i];
        let Place::Slot(slot) = self.places[port.value] else { return Ok(()) };
        let out = &mut workspace.slots[slot].floats_mut()[..h * w * c];
        if port.channels_last {
            image::bytes_to_pixels(&self.compute.pool, [h, w, c], order, pixels, out);
        } else {
            image::bytes_to_planes(&self.compute.pool, [h, w, c], order, pixels, out);
        }
        Ok(())
    }

    /// Type and elements of output `i` after a run.
    fn result<'w>(&'w self, workspace: &'w Workspace, i: usize) -> (Type, &'w [f32]) {
        let value = self.outputs[i].value;
        let ty = workspace.types[value];
        let elements = match self.places[value] {
            Place::Slot(slot) => workspace.slots[slot].floats(),
            Place::Constant(constant) => self.constants[constant].elements().map_or(&[][..], Buffer::floats),
            Place::Nowhere => &[],
        };
        (ty, &elements[..ty.count()])
    }

    /// A copy of output `i` after a run, as `f32`, `i32` or `bool`.
    ///
    /// # Errors
    /// [`RunErrorKind::Limit`] when there is no memory for it.
    pub fn output_tensor(&self, workspace: &Workspace, i: usize) -> Result<Tensor, RunError> {
        let (ty, elements) = self.result(workspace, i);
        try_store_tensor(&ty, elements).map_err(|_| RunError {
            kind: RunErrorKind::Limit,
            operation: "output".into(),
            output: self.outputs[i].name.clone(),
            message: format!("there is no memory for a copy of shape {}", ty.shape),
        })
    }

    /// Runs the plan on the inputs set before.
    ///
    /// # Errors
    /// When an operation cannot compute with its data, such as an index out of range, or the run would use more than
    /// [`PlanOptions`] allow.
    pub fn run(&self, workspace: &mut Workspace, states: &mut States) -> Result<(), RunError> {
        self.run_observed(workspace, states, None, |_, _| ())
    }

    /// As [`Plan::run`]; stops soon after `cancel` is set, between two tasks of an operation if need be, and calls `observe` after
    /// every step with its position and the values as it left them.
    ///
    /// # Errors
    /// As [`Plan::run`], and [`RunErrorKind::Cancelled`].
    pub(crate) fn run_observed(
        &self,
        workspace: &mut Workspace,
        states: &mut States,
        cancel: Option<Cancel>,
        observe: impl FnMut(usize, &Workspace),
    ) -> Result<(), RunError> {
        let mut ledger = Ledger::new(self.options.run_limits(), workspace.held, cancel.clone());
        let steps = || self.run_steps(workspace, states, &mut ledger, observe);
        let done = match cancel {
            Some(cancel) => stoppable(Arc::new(move || cancel.is_cancelled()), steps),
            None => steps(),
        };
        workspace.held = ledger.held();
        done.map_err(|(step, error)| RunError {
            kind: RunErrorKind::of(&error),
            operation: step.kind.clone(),
            output: step.output_name.clone(),
            message: error.to_string(),
        })
    }

    /// Runs the steps one by one; an error comes with the step it is about.
    fn run_steps(
        &self,
        workspace: &mut Workspace,
        states: &mut States,
        ledger: &mut Ledger,
        mut observe: impl FnMut(usize, &Workspace),
    ) -> Result<(), (&Step, OpError)> {
        for (position, step) in self.steps.iter().enumerate() {
            let done = ledger.go_on().and_then(|()| self.run_step(step, workspace, states, ledger));
            done.map_err(|error| (step, error))?;
            observe(position, workspace);
        }
        match self.steps.last() {
            // Tasks of the last one may have been left out.
            Some(step) => ledger.go_on().map_err(|error| (step, error)),
            None => Ok(()),
        }
    }

    /// What each step is and what it asked of the machine, by the types that a run left in `workspace`.
    pub(crate) fn tasks(&self, workspace: &Workspace) -> impl Iterator<Item = Task<'_>> {
        let types = workspace.types.clone();
        self.steps.iter().map(move |step| {
            let shape = step.outputs.first().map_or(Shape::SCALAR, |&value| types[value].shape);
            Task { kind: &step.kind, output: &step.output_name, shape, work: step.work(&types) }
        })
    }

    /// Each step's first output and what it asks of the machine, `None` where that depends on data.
    pub(crate) fn known_tasks(&self) -> impl Iterator<Item = (Option<usize>, Option<Work>)> {
        self.steps.iter().map(|step| {
            let known = !step.deferred && step.op.nested().is_empty();
            (step.outputs.first().copied(), known.then(|| step.work(&self.types)))
        })
    }

    /// The graph it was compiled from.
    pub(crate) fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Bytes of fresh states.
    pub(crate) fn state_bytes(&self) -> usize {
        self.states.iter().map(|(_, ty)| 4 * ty.count()).sum()
    }

    fn run_step(
        &self,
        step: &Step,
        workspace: &mut Workspace,
        states: &mut States,
        ledger: &mut Ledger,
    ) -> Result<(), OpError> {
        if step.deferred {
            self.resolve_types(step, workspace, ledger)?;
        }
        workspace.taken.clear();
        workspace.taken_types.clear();
        for &value in &step.outputs {
            workspace.taken_types.push(workspace.types[value]);
            workspace.taken.push(match self.places[value] {
                Place::Slot(slot) => std::mem::take(&mut workspace.slots[slot]),
                _ => Buffer::default(),
            });
        }
        let operands = StepOperands { plan: self, step, slots: &workspace.slots, types: &workspace.types };
        let mut outs = Outs { buffers: &mut workspace.taken, types: &mut workspace.taken_types };
        let mut env = Env {
            isa: self.compute.isa,
            pool: &self.compute.pool,
            reference: self.options.is_reference(),
            scratch: workspace.scratch.floats_mut(),
            nested: &mut workspace.nested[step.nested.0..][..step.nested.1],
            states,
            ledger,
        };
        let result = step.op.run(Ins(&operands), &mut outs, &mut env);
        for (buffer, &value) in workspace.taken.iter_mut().zip(&step.outputs) {
            if let Place::Slot(slot) = self.places[value] {
                workspace.slots[slot] = std::mem::take(buffer);
            }
        }
        // Nested blocks can find out only by running what types their results have.
        for (&ty, &value) in workspace.taken_types.iter().zip(&step.outputs) {
            workspace.types[value] = ty;
        }
        result
    }

    /// Infers the types of a step's outputs from the current values, and makes room for them.
    fn resolve_types(&self, step: &Step, workspace: &mut Workspace, ledger: &mut Ledger) -> Result<(), OpError> {
        let operands = StepOperands { plan: self, step, slots: &workspace.slots, types: &workspace.types };
        let ins = Ins(&operands);
        let types = step.op.infer(ins)?;
        let scratch = step.op.scratch(ins, &self.compute);
        for (&value, &ty) in step.outputs.iter().zip(&types) {
            if self.fixed[value] && self.types[value] != ty {
                let message =
                    format!("is {}{}, it is {} for other sizes", ty.kind.name(), ty.shape, self.types[value].shape);
                return Err(OpError::Unplanned(message));
            }
            workspace.types[value] = ty;
            if let Place::Slot(slot) = self.places[value] {
                ledger.grow(&mut workspace.slots[slot], ty.count())?;
            }
        }
        ledger.grow(&mut workspace.scratch, scratch)
    }
}

/// The type of a value until it is known. Constants that are no numbers, such as names, keep it; operations that admit them
/// know them by being neither integers nor booleans.
fn placeholder(info: &ValueInfo) -> Type {
    let kind = if info.constant.is_some() { Kind::Float } else { Kind::of(info.dtype) };
    Type::new(kind, Shape::SCALAR)
}

/// A plan as a nested block of another one.
impl Block for Plan {
    fn workspace(&self) -> Result<Workspace, OpError> {
        self.empty_workspace()
    }

    fn workspace_bytes(&self) -> usize {
        Self::workspace_bytes(self)
    }

    fn output_types(&self) -> Option<Types> {
        let fixed = |port: &Port| self.fixed[port.value].then_some(self.types[port.value]);
        self.outputs.iter().map(fixed).collect()
    }

    fn placeholder_types(&self) -> Types {
        self.outputs.iter().map(|port| self.types[port.value]).collect()
    }

    fn set_input(
        &self,
        workspace: &mut Workspace,
        i: usize,
        ty: Type,
        elements: &[f32],
        ledger: &mut Ledger,
    ) -> Result<(), OpError> {
        let value = self.inputs[i].value;
        workspace.types[value] = ty;
        if let Place::Slot(slot) = self.places[value] {
            ledger.grow(&mut workspace.slots[slot], ty.count())?;
            workspace.slots[slot].floats_mut()[..ty.count()].copy_from_slice(&elements[..ty.count()]);
        }
        Ok(())
    }

    fn run(&self, workspace: &mut Workspace, states: &mut States, ledger: &mut Ledger) -> Result<(), OpError> {
        self.run_steps(workspace, states, ledger, |_, _| ()).map_err(|(step, error)| match error {
            // What is wrong with an operation is told with its place.
            OpError::Invalid { .. } => OpError::new(format!("{} -> %{}: {error}", step.kind, step.output_name)),
            error => error,
        })
    }

    fn output<'w>(&'w self, workspace: &'w Workspace, i: usize) -> (Type, &'w [f32]) {
        self.result(workspace, i)
    }
}

/// The plan as text: one line per operation with the types of its results.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listing.fmt(f)
    }
}

/// A step of a plan, described.
pub(crate) struct Task<'a> {
    pub(crate) kind: &'a str,
    /// The first output's name and shape.
    pub(crate) output: &'a str,
    pub(crate) shape: Shape,
    pub(crate) work: Work,
}

/// A step's inputs after the run, when others have taken over their storage.
struct StepTypes<'a> {
    step: &'a Step,
    types: &'a [Type],
}

impl Operands for StepTypes<'_> {
    fn len(&self) -> usize {
        self.step.inputs.len()
    }

    fn ty(&self, i: usize) -> Option<Type> {
        Some(self.types[self.step.inputs.get(i).copied().flatten()?])
    }

    fn elements(&self, _: usize) -> Option<&[f32]> {
        None
    }
}

struct StepOperands<'a> {
    plan: &'a Plan,
    step: &'a Step,
    slots: &'a [Buffer],
    types: &'a [Type],
}

impl Operands for StepOperands<'_> {
    fn len(&self) -> usize {
        self.step.inputs.len()
    }

    fn ty(&self, i: usize) -> Option<Type> {
        Some(self.types[self.step.inputs.get(i).copied().flatten()?])
    }

    fn elements(&self, i: usize) -> Option<&[f32]> {
        match self.plan.places[self.step.inputs.get(i).copied().flatten()?] {
            Place::Slot(slot) => Some(self.slots[slot].floats()),
            Place::Constant(constant) => Some(self.plan.constants[constant].elements()?.floats()),
            Place::Nowhere => None,
        }
    }

    fn is_out(&self, i: usize) -> bool {
        self.step.in_place == Some(i)
    }
}
