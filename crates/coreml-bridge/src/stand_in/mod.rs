//! The stand-in for Core ML, as tests use it: it computes on any backend they give it, and misbehaves on request.
//!
//! There is one for the whole process, so tests that stage faults must not run side by side.

use std::path::Path;
use std::sync::Arc;

use coreml_core::{Backend, CheckedInputs, Inputs, Label, LoadOptions, Model, ModelState, Outputs, Value, check};
use coreml_model::{Interface, Package};

use crate::inputs;

pub use self::ffi::cmlb_standin_faults as Faults;

mod engine;
pub mod ffi;

/// What computes for the stand-in.
pub trait Engine: Send + Sync + 'static {
    /// Opens a model file or package.
    ///
    /// # Errors
    /// In words.
    fn open(&self, path: &Path, function: Option<&str>) -> Result<Box<dyn EngineModel>, String>;
}

/// A model that the stand-in shows as Core ML's.
pub trait EngineModel: Send + Sync {
    /// What it takes and gives.
    fn interface(&self) -> &Interface;

    /// A classifier's classes.
    fn labels(&self) -> Vec<Label>;

    /// What the compute plan says of each operation.
    fn operations(&self) -> Vec<PlannedOperation>;

    /// Computes.
    ///
    /// # Errors
    /// In words.
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, String>;

    /// A fresh state.
    ///
    /// # Errors
    /// In words.
    fn new_state(&self) -> Result<ModelState, String>;
}

/// One operation in a staged compute plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedOperation {
    /// The operation's name.
    pub operator: String,
    /// Its first output.
    pub output: String,
    /// One of `CMLB_DEVICE`; `None` for constants.
    pub preferred: Option<i32>,
    /// Its share of the cost.
    pub cost: Option<f64>,
}

/// Makes `engine` compute for models opened from now on.
pub fn install(engine: impl Engine) {
    engine::install(Box::new(engine));
}

/// Makes `backend` compute for models opened from now on.
pub fn install_backend(backend: Arc<dyn Backend>) {
    install(BackendEngine(backend));
}

/// Makes these things go wrong from now on.
pub fn stage(faults: Faults) {
    // SAFETY: the faults are copied during the call.
    unsafe { ffi::cmlb_standin_stage(&faults) }
}

/// A count since the process began: one of `CMLB_STANDIN`.
pub fn observe(what: i32) -> i64 {
    // SAFETY: the function takes a number.
    unsafe { ffi::cmlb_standin_observe(what) }
}

struct BackendEngine(Arc<dyn Backend>);

impl Engine for BackendEngine {
    fn open(&self, path: &Path, function: Option<&str>) -> Result<Box<dyn EngineModel>, String> {
        let package = Arc::new(Package::open(path).map_err(|error| error.to_string())?);
        let mut options = LoadOptions::default();
        options.function = function.map(str::to_owned);
        options.threads = 1;
        let model = self.0.load(&package, &options).map_err(|error| error.to_string())?;
        let interface = package.interface(function).map_err(|error| error.to_string())?.clone();
        let labels = labels(&interface, &*model)?;
        Ok(Box::new(BackendModel { package, interface, model, labels, function: options.function }))
    }
}

/// A classifier's classes, as the order in which it gives their probabilities shows them.
fn labels(interface: &Interface, model: &dyn Model) -> Result<Vec<Label>, String> {
    if interface.predicted_probabilities.is_none() {
        return Ok(Vec::new());
    }
    let zeros = inputs::zeros(interface).ok_or("the classifier takes more than arrays and images")?;
    let inputs: Inputs<'_> = zeros.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let checked = check(interface, &inputs).map_err(|error| error.to_string())?;
    let outputs = model.predict(&checked, None).map_err(|error| error.to_string())?;
    let classes = outputs.iter().find_map(|(_, value)| match value {
        Value::Dictionary(entries) => Some(entries.iter().map(|(label, _)| label.clone()).collect()),
        _ => None,
    });
    Ok(classes.unwrap_or_default())
}

struct BackendModel {
    package: Arc<Package>,
    function: Option<String>,
    interface: Interface,
    model: Box<dyn Model>,
    labels: Vec<Label>,
}

impl EngineModel for BackendModel {
    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn labels(&self) -> Vec<Label> {
        self.labels.clone()
    }

    /// Constants nowhere, casts on the CPU, all else on the Neural Engine; every operation costs the same.
    fn operations(&self) -> Vec<PlannedOperation> {
        let name = self.function.as_deref().unwrap_or(self.package.default_function());
        let Some(function) = self.package.program().functions.get(name) else { return Vec::new() };
        let operations = &function.body.operations;
        let work = operations.iter().filter(|operation| operation.kind != "const").count();
        let planned = |operation: &coreml_model::Operation| {
            let constant = operation.kind == "const";
            let output = operation.outputs.first().map(|&id| function.value(id).name.clone());
            PlannedOperation {
                operator: operation.kind.to_string(),
                output: output.unwrap_or_default().to_string(),
                preferred: (!constant).then_some(if operation.kind == "cast" { 0 } else { 2 }),
                cost: (!constant).then(|| 1.0 / work as f64),
            }
        };
        operations.iter().map(planned).collect()
    }

    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, String> {
        self.model.predict(inputs, state).map_err(|error| error.to_string())
    }

    fn new_state(&self) -> Result<ModelState, String> {
        self.model.new_state().map_err(|error| error.to_string())
    }
}
