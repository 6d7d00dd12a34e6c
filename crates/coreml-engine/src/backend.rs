//! The engine as a [`Backend`]: a plan for each input shape, a workspace for each run, and values as the interface
//! declares them.
//!
//! A model plans its default shapes when it is loaded, so that missing operations are reported then; other shapes are
//! planned when they first come (`plans.rs`). A prediction takes a workspace from its plan's pool, or makes one, and
//! gives it back, so that predictions run side by side without waiting for each other.

use std::fmt;
use std::sync::Arc;

use coreml_convert::ConvertError;
use coreml_core::{
    Availability, Backend, Cancel, CheckedInputs, CheckedValue, Error, ErrorKind, Label, LoadOptions, Model, ModelInfo,
    ModelState, Value, cast,
};
use coreml_kernels::Isa;
use coreml_kernels::gemm::Precision;
use coreml_kernels::image::ChannelOrder;
use coreml_model::{
    ColorLayout, Content as StageContent, Dim, Feature, FeatureKind, Function, ImageFeature, Interface, Package,
    ReadError, ShapeConstraint, Stage, ValueType,
};
use coreml_tensor::{DType, Shape, Tensor, TensorView};

use crate::compute::Compute;
use crate::error::{PlanError, PlanErrorKind, RunError, RunErrorKind};
use crate::literal::Labels;
use crate::options::PlanOptions;
use crate::pipeline::{Content, Loaded};
use crate::plan::Plan;
use crate::plans::{Planned, Plans};
use crate::state::States;
use crate::workspace::Workspace;

/// This engine as a backend.
#[derive(Debug, Clone, Default)]
pub struct CpuBackend {
    options: CpuOptions,
    /// What the options' low precision comes to on this machine.
    precision: Precision,
}

/// Whether the factors of convolutions and of matrix products with constant weights are rounded to bf16 (8 significant bits
/// instead of 24); sums stay `f32`. Depthwise and transposed convolutions, convolutions by Winograd's method, recurrent
/// layers, compressed weights, products of a few rows and those of an odd length are never rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LowPrecision {
    /// Results do not depend on the machine, except for the rounding of sums.
    #[default]
    Never,
    /// If the CPU multiplies bf16 faster than `f32`, which is measured for a millisecond when the backend is made.
    WhereFaster,
    /// On every CPU, however slow: to see what rounding does to a model.
    Always,
}

impl LowPrecision {
    fn on_this_machine(self) -> Precision {
        let rounds = match self {
            Self::Never => false,
            Self::WhereFaster => coreml_kernels::bf16_pays(Isa::detect()),
            Self::Always => true,
        };
        if rounds { Precision::Bf16 } else { Precision::F32 }
    }
}

/// How the engine runs models.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CpuOptions {
    /// Threads for one prediction; 0 leaves it to [`LoadOptions::threads`].
    pub threads: usize,
    /// A thread pool for this model alone. Without it all models of the process with the same number of threads share one
    /// pool: if several predict at once, one has the pool's threads, and the others compute on their callers' threads.
    pub own_threads: bool,
    /// Slow kernels and no passes: the plan that optimised plans are checked against.
    pub reference: bool,
    /// Whether factors of products may be rounded. The reference never rounds.
    pub low_precision: LowPrecision,
    /// For tests of code that finds faults: the value of the program that optimised plans compute wrongly on purpose.
    #[doc(hidden)]
    pub planted: Option<Arc<str>>,
}

impl CpuOptions {
    /// Plans without passes, with slow kernels, for comparison.
    pub fn reference() -> Self {
        Self { reference: true, ..Self::default() }
    }
}

impl CpuBackend {
    /// The engine with these options.
    pub fn new(options: CpuOptions) -> Self {
        let precision = if options.reference { Precision::F32 } else { options.low_precision.on_this_machine() };
        Self { options, precision }
    }
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many predictions of so many threads the processors have room for.
fn at_once(threads: usize) -> usize {
    (processors() / threads.max(1)).max(1)
}

/// The instruction set the engine uses on this machine.
pub fn isa() -> &'static str {
    Isa::detect().name()
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        match self.precision {
            Precision::F32 if self.options.reference => "reference",
            Precision::F32 => "cpu",
            Precision::Bf16 => "cpu-bf16",
        }
    }

    fn availability(&self) -> Availability {
        Availability::Available
    }

    fn load(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Ok(Box::new(self.open(package, options)?))
    }
}

impl CpuBackend {
    pub(crate) fn plan_options(&self, load: &LoadOptions) -> PlanOptions {
        let mut options = if self.options.reference { PlanOptions::reference() } else { PlanOptions::default() };
        if let Some(bytes) = load.max_memory {
            options.max_bytes = bytes;
        }
        if let Some(rounds) = load.max_loop_rounds {
            options.max_loop_rounds = rounds;
        }
        options.planted.clone_from(&self.options.planted);
        options
    }

    /// The model, ready for predictions.
    pub(crate) fn open(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Loaded, Error> {
        if let Some(error) = package.missing_weights() {
            return Err(Error::new(ErrorKind::InvalidModel, error.to_string()));
        }
        let threads = [self.options.threads, options.threads].into_iter().find(|&n| n > 0).unwrap_or_else(processors);
        let function = options.function.as_deref().unwrap_or(package.default_function());
        let interface = package.interface(Some(function)).map_err(|error: ReadError| Error::from(error))?.clone();
        let compute = if self.options.own_threads { Compute::new(threads) } else { Compute::shared(threads) };
        let compute = compute.with_precision(self.precision);
        let loader = Loader { package, options: self.plan_options(options), compute };
        loader.load(package.model(), &mut Vec::new(), interface, function)
    }
}

/// What all members of a package are loaded with.
struct Loader<'a> {
    package: &'a Arc<Package>,
    options: PlanOptions,
    compute: Compute,
}

impl Loader<'_> {
    /// Loads the model at `path` within the package's pipelines.
    fn load(
        &self,
        stage: &Stage,
        path: &mut Vec<usize>,
        interface: Interface,
        function: &str,
    ) -> Result<Loaded, Error> {
        let content = match stage.content() {
            StageContent::Classic(classic) => {
                let read = coreml_classic::complete(classic, interface.clone())
                    .and_then(|interface| Ok((coreml_classic::read(classic, &interface)?, interface)));
                let (model, interface) = read.map_err(|error| self.in_file(&error, path))?;
                let (needed, allowed) = (model.least_bytes(), self.options.max_bytes);
                if needed > allowed {
                    let message = format!("a prediction takes {needed} bytes, above the limit of {allowed}");
                    return Err(self.in_file(&Error::new(ErrorKind::Unsupported, message), path));
                }
                let kind = stage.kind();
                return Ok(Loaded { kind, interface, content: Content::Classic(model), max_bytes: allowed });
            }
            StageContent::Pipeline(members) => {
                let member = |(i, member): (usize, &Stage)| {
                    path.push(i);
                    let place = format!("member {} of the pipeline, `{}`", i + 1, member.kind());
                    let loaded = self.load(member, path, member.interface().clone(), member.default_function());
                    path.pop();
                    Ok((place.clone(), loaded.map_err(|error| error.within(&place))?))
                };
                let members = members.iter().enumerate().map(member).collect::<Result<_, Error>>();
                Content::Pipeline(members.map_err(|error| self.in_file(&error, path))?)
            }
            _ => Content::Planned(Box::new(self.plan(stage, path, interface.clone(), function)?)),
        };
        Ok(Loaded { kind: stage.kind(), interface, content, max_bytes: self.options.max_bytes })
    }

    /// Names the file of what is wrong with the outermost model; those within it add their places first.
    fn in_file(&self, error: &Error, path: &[usize]) -> Error {
        let file = self.package.path();
        if path.is_empty() && !file.as_os_str().is_empty() {
            error.within(&file.display().to_string())
        } else {
            error.clone()
        }
    }

    fn plan(&self, stage: &Stage, path: &[usize], interface: Interface, function: &str) -> Result<CpuModel, Error> {
        let network = stage.network().map(|network| coreml_convert::lower(network, &interface));
        let model = CpuModel {
            lowered: network.transpose().map_err(|error| self.in_file(&lower_error(&error), path))?,
            package: self.package.clone(),
            path: path.to_vec(),
            interface,
            function: function.to_owned(),
            plans: Plans::new(self.options.clone(), self.compute.clone()),
        };
        let shapes = model.default_shapes()?;
        model.planned(&shapes).map_err(|error| plan_error(error, ErrorKind::InvalidModel))?;
        Ok(model)
    }
}

/// One program of a package, planned as need be.
pub(crate) struct CpuModel {
    package: Arc<Package>,
    /// Which member of which member it is; empty for the package's model itself.
    path: Vec<usize>,
    /// What it was lowered to, if it is a neural network.
    lowered: Option<Function>,
    interface: Interface,
    function: String,
    plans: Plans,
}

impl fmt::Debug for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuModel({}, {:?})", self.package.path().display(), self.function)
    }
}

/// An observer of a prediction.
pub(crate) trait Observer {
    /// A program's inputs are set in `workspace`; the steps of its plan follow.
    fn begin(&mut self, _model: &CpuModel, _plan: &Plan, _workspace: &Workspace) {}
    /// The step at `position` of the plan is done, and `workspace` holds what it left.
    fn step(&mut self, _plan: &Plan, _position: usize, _workspace: &Workspace) {}
    /// All steps are done, and `workspace` holds what they left.
    fn end(&mut self, _plan: &Plan, _workspace: &Workspace) {}
}

/// Nobody.
impl Observer for () {}

impl CpuModel {
    /// How many predictions the processors have room for at once.
    pub(crate) fn concurrency(&self) -> usize {
        at_once(self.compute().threads())
    }

    pub(crate) fn compute(&self) -> &Compute {
        self.plans.compute()
    }

    pub(crate) fn new_state(&self) -> Result<ModelState, Error> {
        let shapes = self.default_shapes()?;
        let planned = self.planned(&shapes).map_err(|error| plan_error(error, ErrorKind::InvalidModel))?;
        Ok(ModelState::new(planned.plan.states()))
    }

    pub(crate) fn info(&self) -> ModelInfo {
        let compute = self.compute();
        let mut info = ModelInfo { threads: compute.threads(), isa: compute.isa().to_owned(), ..ModelInfo::default() };
        if let Some(planned) = self.plans.last() {
            info.steps = planned.plan.steps();
            info.workspace_bytes = planned.plan.workspace_bytes();
            info.plan = planned.plan.to_string();
        }
        info
    }

    /// The values of all outputs, by feature name; `observer` sees how they come to be.
    pub(crate) fn run(
        &self,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
        cancel: Option<&Cancel>,
        observer: &mut impl Observer,
    ) -> Result<Vec<(String, Value)>, Error> {
        let shapes = self.shapes(inputs)?;
        let stateful = state.is_some();
        let mut none = States::default();
        let states = match state {
            Some(state) => state
                .downcast_mut::<States>()
                .ok_or_else(|| Error::new(ErrorKind::Bug, "the state was made by another backend"))?,
            None => &mut none,
        };
        loop {
            let planned = self.planned(&shapes).map_err(|error| plan_error(error, ErrorKind::InvalidInput))?;
            let done = self.run_planned(&planned, &shapes, inputs, states, cancel, observer);
            // A plan for these very sizes takes the place of one that did not fit them; but states may have changed by now.
            if done.is_err() && self.plans.is_refused(&planned) && !stateful {
                continue;
            }
            return done;
        }
    }

    fn run_planned(
        &self,
        planned: &Planned,
        shapes: &[Shape],
        inputs: &CheckedInputs<'_>,
        states: &mut States,
        cancel: Option<&Cancel>,
        observer: &mut impl Observer,
    ) -> Result<Vec<(String, Value)>, Error> {
        let plan = &planned.plan;
        let limit = |error: PlanError| plan_error(error, ErrorKind::Unsupported);
        let mut workspace = planned.workspace().map_err(limit)?;
        for (i, (port, &shape)) in plan.inputs().iter().zip(shapes).enumerate() {
            self.set_input(plan, &mut workspace, i, shape, inputs.get(&port.name))?;
        }
        observer.begin(self, plan, &workspace);
        let step = |position, workspace: &Workspace| observer.step(plan, position, workspace);
        let run = plan.run_observed(&mut workspace, states, cancel.cloned(), step);
        run.map_err(|error| {
            if error.kind == RunErrorKind::Unplanned {
                self.plans.refuse(planned);
            }
            run_error(error)
        })?;
        observer.end(plan, &workspace);
        let output = |feature: &Feature| Ok((feature.name.clone(), self.output(plan, &workspace, feature)?));
        let outputs = self.interface.outputs.iter().map(output).collect::<Result<Vec<_>, Error>>()?;
        planned.give_back(workspace);
        Ok(outputs)
    }

    /// The plan that was used last; that of the default shapes after loading.
    pub(crate) fn last_plan(&self) -> Option<Arc<Planned>> {
        self.plans.last()
    }

    /// Which member of which member of the package's pipelines it is.
    pub(crate) fn path(&self) -> &[usize] {
        &self.path
    }

    /// Whether the program was made of a neural network.
    pub(crate) fn is_network(&self) -> bool {
        self.lowered.is_some()
    }

    pub(crate) fn program(&self) -> Result<&Function, Error> {
        if let Some(function) = &self.lowered {
            return Ok(function);
        }
        let stage = self.path.iter().fold(self.package.model(), |stage, &member| &stage.members()[member]);
        stage.program().functions.get(&self.function).ok_or_else(|| {
            Error::new(ErrorKind::InvalidModel, format!("the program has no function `{}`", self.function))
        })
    }

    /// The plan for inputs of these shapes.
    fn planned(&self, shapes: &[Shape]) -> Result<Arc<Planned>, PlanError> {
        let invalid = |error: Error| PlanError::general(PlanErrorKind::Invalid, error.to_string());
        let function = self.program().map_err(invalid)?;
        let extremes = |i: usize| extreme_shapes(self.tensor_inputs().ok()?.get(i)?.1);
        self.plans.get(function, shapes, extremes)
    }

    /// The tensor inputs of the program, in its order, with the features they belong to.
    fn tensor_inputs(&self) -> Result<Vec<(&[Dim], &Feature)>, Error> {
        let function = self.program()?;
        let values = function.inputs.iter().map(|&id| function.value(id));
        let tensors = values.filter_map(|value| match &value.ty {
            ValueType::Tensor(ty) => Some((value.name.as_str(), ty.dims.as_slice())),
            _ => None,
        });
        let with_feature = |(name, dims): (&str, _)| match self.interface.input(name) {
            Some(feature) => Ok((dims, feature)),
            None => Err(Error::feature(ErrorKind::InvalidModel, name, "the program takes it, the interface does not")),
        };
        tensors.map(with_feature).collect()
    }

    fn default_shapes(&self) -> Result<Vec<Shape>, Error> {
        let shape = |(dims, feature): (&[Dim], &Feature)| program_shape(feature, default_shape(feature)?, dims);
        self.tensor_inputs()?.into_iter().map(shape).collect()
    }

    fn shapes(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<Shape>, Error> {
        let shape = |(dims, feature): (&[Dim], &Feature)| {
            let shape = match inputs.get(&feature.name) {
                Some(CheckedValue::Tensor(view) | CheckedValue::Planes(view)) => view.shape(),
                Some(CheckedValue::Made(tensor)) => tensor.shape(),
                Some(CheckedValue::Image(image)) => [1, image.channels, image.height, image.width].into(),
                Some(CheckedValue::Absent) => default_shape(feature)?,
                _ => return Err(not_taken(&feature.name)),
            };
            program_shape(feature, shape, dims)
        };
        self.tensor_inputs()?.into_iter().map(shape).collect()
    }

    fn set_input(
        &self,
        plan: &Plan,
        workspace: &mut Workspace,
        i: usize,
        shape: Shape,
        value: Option<&CheckedValue<'_>>,
    ) -> Result<(), Error> {
        let name = &plan.inputs()[i].name;
        // The plan takes these inputs' shapes, up to the shape of scalars.
        let set = |workspace: &mut Workspace, view: TensorView<'_>| {
            if view.shape() == shape {
                return plan.set_input(workspace, i, view);
            }
            let reshaped = view.to_tensor().reshape(shape);
            let tensor = reshaped.map_err(|error| PlanError::general(PlanErrorKind::Inputs, error.to_string()))?;
            plan.set_input(workspace, i, tensor.view())
        };
        let done = match value {
            Some(CheckedValue::Tensor(view) | CheckedValue::Planes(view)) => set(workspace, *view),
            Some(CheckedValue::Made(tensor)) => set(workspace, tensor.view()),
            Some(CheckedValue::Absent) => set(workspace, Tensor::zeros(DType::Float32, shape).view()),
            Some(CheckedValue::Image(image)) => {
                let order = match self.interface.input(name).map(|feature| &feature.kind) {
                    Some(FeatureKind::Image(ImageFeature { color: ColorLayout::Bgr, .. })) => ChannelOrder::Reverse,
                    _ => ChannelOrder::Keep,
                };
                plan.set_image(workspace, i, [image.height, image.width, image.channels], order, &image.pixels)
            }
            _ => return Err(not_taken(name)),
        };
        done.map_err(|error| plan_error(error, ErrorKind::InvalidInput))
    }

    /// The value of an output feature after a run.
    fn output(&self, plan: &Plan, workspace: &Workspace, feature: &Feature) -> Result<Value, Error> {
        let bad = |message: String| Error::feature(ErrorKind::InvalidModel, &feature.name, message);
        let i = plan.output_position(&feature.name).ok_or_else(|| bad("the program does not give it".into()))?;
        let labels = plan.outputs()[i].labels.as_deref();
        let tensor = plan.output_tensor(workspace, i).map_err(run_error)?;
        let first = || tensor.view().to_f64_vec().first().copied();
        match (&feature.kind, labels) {
            (FeatureKind::MultiArray(array), _) => {
                let dtype = if array.dtype == DType::Float16 { DType::Float32 } else { array.dtype };
                let cast = if tensor.dtype() == dtype { Some(tensor) } else { cast(tensor.view(), dtype) };
                let cast = cast.ok_or_else(|| bad(format!("elements of type {dtype} are not supported")))?;
                let dims = if cast.shape().rank() == 0 { Shape::from([1]) } else { cast.shape() };
                cast.reshape(dims).map(Value::Tensor).map_err(|error| bad(error.to_string()))
            }
            (FeatureKind::Image(image), _) => picture(image, &tensor).map(Value::Image).map_err(bad),
            (FeatureKind::String | FeatureKind::Int64, Some(labels)) => {
                let class = first().map_or(0, |class| class as usize);
                match label(labels, class) {
                    Some(Label::String(label)) => Ok(Value::String(label.to_string())),
                    Some(Label::Int64(label)) => Ok(Value::Int64(label)),
                    None => Err(bad(format!("there is no class {class}"))),
                }
            }
            (FeatureKind::Dictionary(_), Some(labels)) => {
                let probabilities = tensor.view().to_f64_vec();
                let entry = |(class, p): (usize, f64)| Some((label(labels, class)?, p));
                Ok(Value::Dictionary(probabilities.into_iter().enumerate().filter_map(entry).collect()))
            }
            (FeatureKind::Int64, None) => {
                first().map(|value| Value::Int64(value as i64)).ok_or_else(|| bad("is empty".into()))
            }
            (FeatureKind::Double, _) => first().map(Value::Double).ok_or_else(|| bad("is empty".into())),
            _ => Err(bad("the program gives no value of the feature's type".into())),
        }
    }
}

fn not_taken(name: &str) -> Error {
    Error::feature(ErrorKind::Unsupported, name, "the CPU engine takes multi-arrays and images only")
}

/// The default shape of an input.
pub(crate) fn default_shape(feature: &Feature) -> Result<Shape, Error> {
    let dims = match &feature.kind {
        FeatureKind::MultiArray(array) => array.shape.clone(),
        FeatureKind::Image(image) => vec![1, channels(image), image.height, image.width],
        _ => return Err(not_taken(&feature.name)),
    };
    Shape::try_new(&dims).map_err(|error| Error::feature(ErrorKind::InvalidModel, &feature.name, error.to_string()))
}

/// The smallest and largest shapes of an array. Pictures have none: they come in a layout that only a plan for their size can
/// ask for.
fn extreme_shapes(feature: &Feature) -> Option<Vec<Shape>> {
    let FeatureKind::MultiArray(array) = &feature.kind else { return None };
    let shapes: Vec<Vec<usize>> = match &array.constraint {
        ShapeConstraint::Range(ranges) => {
            let largest: Option<Vec<usize>> = ranges.iter().map(|range| range.max).collect();
            std::iter::once(ranges.iter().map(|range| range.min).collect()).chain(largest).collect()
        }
        ShapeConstraint::Enumerated(shapes) => shapes.clone(),
        _ => Vec::new(),
    };
    Some(shapes.iter().filter_map(|shape| Shape::try_new(shape).ok()).collect())
}

/// The shape as the program has it: its scalars are one-element vectors in the interface. Whatever the interface
/// admits must fit what the program declares.
fn program_shape(feature: &Feature, shape: Shape, declared: &[Dim]) -> Result<Shape, Error> {
    if declared.is_empty() && shape.count() == 1 {
        return Ok(Shape::SCALAR);
    }
    let fits = |(size, dim): (&usize, &Dim)| match dim {
        Dim::Fixed(declared) => size == declared,
        Dim::Unknown => true,
    };
    if shape.rank() == declared.len() && shape.iter().zip(declared).all(fits) {
        return Ok(shape);
    }
    // Neural networks take either form of these as it comes.
    if matches!(&feature.kind, FeatureKind::MultiArray(array) if array.constraint == ShapeConstraint::Sequences) {
        return Ok(shape);
    }
    let declared: Vec<_> =
        declared.iter().map(|dim| if let Dim::Fixed(n) = dim { n.to_string() } else { "?".into() }).collect();
    let message = format!("the interface admits the shape {shape}, the program takes [{}]", declared.join(", "));
    Err(Error::feature(ErrorKind::InvalidModel, &feature.name, message))
}

fn channels(image: &ImageFeature) -> usize {
    match image.color {
        ColorLayout::Grayscale | ColorLayout::GrayscaleFloat16 => 1,
        _ => 3,
    }
}

fn label(labels: &Labels, class: usize) -> Option<Label> {
    match labels {
        Labels::Strings(labels) => labels.get(class).cloned().map(Label::String),
        Labels::Ints(labels) => labels.get(class).copied().map(Label::Int64),
    }
}

/// Planes 1×C×H×W in the feature's colour order as an image with its channels innermost.
fn picture(feature: &ImageFeature, tensor: &Tensor) -> Result<Tensor, String> {
    let wanted = channels(feature);
    let (height, width) = match *tensor.shape() {
        [1, c, h, w] | [c, h, w] if c == wanted => (h, w),
        [h, w] if wanted == 1 => (h, w),
        _ => return Err(format!("an image has {wanted} planes, the program gives the shape {}", tensor.shape())),
    };
    let planes = tensor.as_slice::<f32>().ok_or("the program gives no floating-point pixels")?;
    let image = if feature.color == ColorLayout::GrayscaleFloat16 {
        Tensor::new([height, width].into(), planes.to_vec())
    } else {
        let byte = |value: f32| value.round_ties_even() as u8;
        let area = height * width;
        let plane = |channel: usize| if feature.color == ColorLayout::Bgr { wanted - 1 - channel } else { channel };
        let pixels = (0..area).flat_map(|i| (0..wanted).map(move |channel| (i, channel)));
        let bytes: Vec<u8> = pixels.map(|(i, channel)| byte(planes[plane(channel) * area + i])).collect();
        let shape = if wanted == 1 { [height, width].into() } else { [height, width, wanted].into() };
        Tensor::new(shape, bytes)
    };
    image.map_err(|error| error.to_string())
}

pub(crate) fn lower_error(error: &ConvertError) -> Error {
    let kind = if error.is_unsupported() { ErrorKind::Unsupported } else { ErrorKind::InvalidModel };
    Error::new(kind, error.to_string())
}

pub(crate) fn run_error(error: RunError) -> Error {
    let kind = match error.kind {
        RunErrorKind::Data | RunErrorKind::Unplanned => ErrorKind::Fault,
        RunErrorKind::Limit => ErrorKind::Unsupported,
        RunErrorKind::Cancelled => ErrorKind::Cancelled,
    };
    Error::operation(kind, format!("{} -> %{}", error.operation, error.output), error.message)
}

/// `invalid` is the kind for a program that contradicts itself: the file's fault for its own default shapes, the
/// caller's for shapes that came later.
pub(crate) fn plan_error(error: PlanError, invalid: ErrorKind) -> Error {
    let kind = match error.kind() {
        PlanErrorKind::Unsupported | PlanErrorKind::Limit => ErrorKind::Unsupported,
        PlanErrorKind::Invalid => invalid,
        PlanErrorKind::Inputs => ErrorKind::InvalidInput,
    };
    match error.problems() {
        [problem] if !problem.operation.is_empty() => {
            let operation = format!("{} -> %{}", problem.operation, problem.output);
            Error::operation(kind, operation, problem.message.clone())
        }
        _ => Error::new(kind, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_share_threads_unless_told_otherwise() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/elementwise/add-same.mlmodel");
        let package = Arc::new(Package::open(path).unwrap());
        let pool = |own_threads, threads| {
            let backend = CpuBackend::new(CpuOptions { own_threads, threads, ..CpuOptions::default() });
            backend.open(&package, &LoadOptions::default()).unwrap().compute().unwrap().pool.clone()
        };
        let shared = pool(false, 5);
        assert_eq!(shared.threads(), 5);
        assert!(Arc::ptr_eq(&shared, &pool(false, 5)));
        assert!(!Arc::ptr_eq(&shared, &pool(false, 4)), "as many threads as were asked for");
        assert!(!Arc::ptr_eq(&shared, &pool(true, 5)));
    }
}
