//! A plan: a graph compiled for fixed input shapes, ready to run any number of times.
//!
//! The plan is immutable and shared; everything a run changes lives in a [`Workspace`]. All storage is laid out when
//! the plan is made ([`memory`]), so a run of a plan without data-dependent shapes allocates nothing. Values whose
//! shape depends on data are the exception: their types are inferred as the run reaches them and their storage grows
//! on demand.

use std::fmt;
use std::sync::Arc;

use coreml_kernels::gemm::Precision;
use coreml_kernels::image::{self, ChannelOrder};
use coreml_kernels::transpose::transpose;
use coreml_kernels::{Isa, ThreadPool};
use coreml_model::Function;
use coreml_tensor::{Shape, Tensor, TensorView};

use crate::error::{PlanError, PlanErrorKind, RunError};
use crate::graph::{Graph, Id, Labels, Literal, build};
use crate::op::{Env, Ins, Op, Operands, Outs, Work};
use crate::state::States;
use crate::value::{Buffer, Kind, Type, load_tensor, store_tensor};

mod memory;
mod passes;

/// How a plan is made.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    optimize: bool,
    /// The most bytes a workspace of the plan and its states may take together; plans that need more are refused.
    /// Default 4 GiB, or all of a smaller address space.
    pub max_bytes: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { optimize: true, max_bytes: 4usize.saturating_mul(1 << 30) }
    }
}

impl PlanOptions {
    /// No passes, slow kernels: the oracle of the optimised plan.
    pub fn reference() -> Self {
        Self { optimize: false, ..Self::default() }
    }

    pub(crate) fn is_reference(&self) -> bool {
        !self.optimize
    }

    pub(crate) fn fold_constants(&self) -> bool {
        self.optimize
    }
}

/// What plans compute with: an instruction set, a pool of threads, and what factors are rounded to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Compute {
    pub(crate) isa: Isa,
    pub(crate) pool: Arc<ThreadPool>,
    pub(crate) precision: Precision,
}

impl Compute {
    /// The best instruction set of this machine and a pool of `threads`, the calling one included.
    pub fn new(threads: usize) -> Self {
        let pool = Arc::new(ThreadPool::new(threads.max(1)));
        Self { isa: Isa::detect(), pool, precision: Precision::F32 }
    }

    /// The same, but optimised plans round the factors of convolutions and of products with constant matrices to `precision`
    /// where the kernels for these can. Reference plans never do.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set's name.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }
}

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
    text: String,
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

/// Everything a run of a plan changes. Made once, used for one run at a time.
#[derive(Debug)]
pub struct Workspace {
    slots: Vec<Buffer>,
    types: Vec<Type>,
    scratch: Buffer,
    /// Inputs on their way into another layout.
    staging: Buffer,
    taken: Vec<Buffer>,
    taken_types: Vec<Type>,
    nested: Vec<Self>,
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
        let declared = function.inputs.iter().filter_map(|&id| match &function.value(id).ty {
            coreml_model::ValueType::Tensor(ty) => Some(Kind::of(ty.dtype)),
            _ => None,
        });
        let types: Vec<Type> = declared.zip(shapes).map(|(kind, &shape)| Type::new(kind, shape)).collect();
        let (graph, states) = build::build(function, &types, options, compute)?;
        Self::compile(graph, states, options, compute)
    }

    /// Compiles a graph; nested blocks come here directly.
    pub(crate) fn compile(
        mut graph: Graph,
        states: Vec<(String, Type)>,
        options: &PlanOptions,
        compute: &Compute,
    ) -> Result<Self, PlanError> {
        if !options.is_reference() {
            passes::run(&mut graph, compute);
        }
        let text = graph.to_string();
        let layout = memory::lay_out(&graph, !options.is_reference());
        let scratch = layout.scratch(&graph, compute);
        let held = states.iter().map(|(_, ty)| ty.count());
        let mut elements = layout.slots.iter().copied().chain([scratch]).chain(held);
        let bytes = elements.try_fold(0usize, |sum, len| sum.checked_add(len.checked_mul(4)?));
        if bytes.is_none_or(|bytes| bytes > options.max_bytes) {
            let needed = bytes.map_or("more than fits the address space".into(), |bytes| format!("{bytes} bytes"));
            let message = format!("activations and states need {needed}, the limit is {} bytes", options.max_bytes);
            return Err(PlanError::general(PlanErrorKind::Limit, message));
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
            Port { name: info.name.clone(), value, labels: info.labels.clone(), channels_last }
        };
        let placeholder = Type::new(Kind::Float, Shape::SCALAR);
        Ok(Self {
            compute: compute.clone(),
            options: options.clone(),
            inputs: graph.inputs.iter().map(port).collect(),
            outputs: graph.outputs.iter().map(port).collect(),
            types: graph.values.iter().map(|info| info.ty.unwrap_or(placeholder)).collect(),
            fixed: graph.values.iter().map(|info| info.ty.is_some()).collect(),
            steps: layout.steps,
            places,
            constants,
            slots: layout.slots,
            scratch,
            states,
            text,
        })
    }

    /// Storage for one run at a time.
    pub fn workspace(&self) -> Workspace {
        Workspace {
            slots: self.slots.iter().map(|&len| Buffer::with_len(len)).collect(),
            types: self.types.clone(),
            scratch: Buffer::with_len(self.scratch),
            staging: Buffer::default(),
            taken: Vec::with_capacity(8),
            taken_types: Vec::with_capacity(8),
            nested: self.steps.iter().flat_map(|step| step.op.nested()).map(Self::workspace).collect(),
        }
    }

    /// Fresh states, all zero.
    pub fn states(&self) -> States {
        States::zeros(self.states.iter().cloned())
    }

    /// Bytes a workspace of this plan takes at first.
    pub fn workspace_bytes(&self) -> usize {
        4 * (self.slots.iter().sum::<usize>() + self.scratch)
    }

    /// Number of operations a run executes.
    pub fn steps(&self) -> usize {
        self.steps.len()
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

    /// The shape input `i` was planned for.
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
    /// When there is no such input or the plan was made for another shape.
    pub fn set_input(&self, workspace: &mut Workspace, i: usize, tensor: TensorView<'_>) -> Result<(), PlanError> {
        let Some(port) = self.inputs.get(i) else {
            return Err(PlanError::general(PlanErrorKind::Inputs, format!("there is no input {i}")));
        };
        let ty = self.types[port.value].with_shape(self.input_shape(i));
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
        let Workspace { slots, staging, .. } = workspace;
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

    /// Copies an image of bytes `[h, w, c]` into input `i` of shape `[1, c, h, w]`, `order` saying how its channels
    /// follow each other there.
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

    /// Sets input `i` of a nested block, whose type may differ from run to run.
    pub(crate) fn set_raw(&self, workspace: &mut Workspace, i: usize, ty: Type, elements: &[f32]) {
        let value = self.inputs[i].value;
        workspace.types[value] = ty;
        if let Place::Slot(slot) = self.places[value] {
            workspace.slots[slot].grow(ty.count());
            workspace.slots[slot].floats_mut()[..ty.count()].copy_from_slice(&elements[..ty.count()]);
        }
    }

    /// Type and elements of output `i` after a run.
    pub(crate) fn output<'w>(&'w self, workspace: &'w Workspace, i: usize) -> (Type, &'w [f32]) {
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
    pub fn output_tensor(&self, workspace: &Workspace, i: usize) -> Tensor {
        let (ty, elements) = self.output(workspace, i);
        store_tensor(&ty, elements)
    }

    /// The types of all outputs, if none depends on data.
    pub(crate) fn output_types(&self) -> Option<Vec<Type>> {
        let fixed = |port: &Port| self.fixed[port.value].then_some(self.types[port.value]);
        self.outputs.iter().map(fixed).collect()
    }

    /// Types for outputs that the run decides: right in number, to be replaced.
    pub(crate) fn placeholder_types(&self) -> Vec<Type> {
        self.outputs.iter().map(|port| self.types[port.value]).collect()
    }

    /// Runs the plan on the inputs set before.
    ///
    /// # Errors
    /// When an operation meets data it has no answer for, such as an index out of range it must report, or
    /// data-dependent values grow beyond the memory limit.
    pub fn run(&self, workspace: &mut Workspace, states: &mut States) -> Result<(), RunError> {
        self.run_observed(workspace, states, |_, _| ())
    }

    /// As [`Plan::run`]; calls `observe` with the position and the operation's type after every operation.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run_observed(
        &self,
        workspace: &mut Workspace,
        states: &mut States,
        mut observe: impl FnMut(usize, &str),
    ) -> Result<(), RunError> {
        for (position, step) in self.steps.iter().enumerate() {
            self.run_step(step, workspace, states).map_err(|message| RunError {
                operation: step.kind.clone(),
                output: step.output_name.clone(),
                message,
            })?;
            observe(position, &step.kind);
        }
        Ok(())
    }

    /// What each step is and what it asked of the machine, by the types that a run left in `workspace`.
    pub(crate) fn tasks(&self, workspace: &Workspace) -> impl Iterator<Item = Task<'_>> {
        let types = workspace.types.clone();
        self.steps.iter().map(move |step| {
            let outputs: Vec<Type> = step.outputs.iter().map(|&value| types[value]).collect();
            let work = step.op.work(Ins(&StepTypes { step, types: &types }), &outputs);
            let shape = outputs.first().map_or(Shape::SCALAR, |ty| ty.shape);
            Task { kind: &step.kind, output: &step.output_name, shape, work }
        })
    }

    fn run_step(&self, step: &Step, workspace: &mut Workspace, states: &mut States) -> Result<(), String> {
        if step.deferred {
            self.resolve_types(step, workspace)?;
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
        result.map_err(|error| error.to_string())
    }

    /// Infers the types of a step's outputs from the values at hand, and makes room for them.
    fn resolve_types(&self, step: &Step, workspace: &mut Workspace) -> Result<(), String> {
        let operands = StepOperands { plan: self, step, slots: &workspace.slots, types: &workspace.types };
        let ins = Ins(&operands);
        let types = step.op.infer(ins).map_err(|error| error.to_string())?;
        let scratch = step.op.scratch(ins, &self.compute);
        let mut bytes = scratch.saturating_mul(4);
        for (&value, &ty) in step.outputs.iter().zip(&types) {
            workspace.types[value] = ty;
            bytes = bytes.saturating_add(ty.count().saturating_mul(4));
        }
        if bytes > self.options.max_bytes {
            return Err(format!("needs {bytes} bytes, the limit is {}", self.options.max_bytes));
        }
        for (&value, ty) in step.outputs.iter().zip(&types) {
            if let Place::Slot(slot) = self.places[value] {
                workspace.slots[slot].grow(ty.count());
            }
        }
        workspace.scratch.grow(scratch);
        Ok(())
    }
}

/// The plan as text: one line per operation with the types of its results.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
