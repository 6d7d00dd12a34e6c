//! The traits that a backend implements: what executes models, as the session sees it.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use coreml_model::Package;
use coreml_tensor::{Tensor, TensorView};

use crate::cancel::Cancel;
use crate::check::CheckedInputs;
use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;

/// Something that can execute models.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Its name in reports, metrics and commands: `cpu`, `core-ml`.
    fn name(&self) -> &'static str;

    /// Whether this host has it.
    fn availability(&self) -> Availability;

    /// Makes a model ready for predictions. Everything that needs doing only once is done here.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what the backend lacks; otherwise the kind says whose fault it is.
    fn load(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Box<dyn Model>, Error>;
}

/// A loaded model. Any number of threads may predict at once.
pub trait Model: Send + Sync + fmt::Debug {
    /// Answers one prediction. `state` is one that [`Model::new_state`] of this model gave, if the model has states.
    ///
    /// # Errors
    /// The kind says whose fault it is; the inputs have already been checked against the interface.
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error>;

    /// As [`Model::predict`], but stops soon after `cancel` is set, with [`ErrorKind::Cancelled`], if
    /// the model [can](Model::stops). One that cannot goes on to its end.
    ///
    /// # Errors
    /// As [`Model::predict`].
    fn predict_until(
        &self,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
        _cancel: &Cancel,
    ) -> Result<Outputs, Error> {
        self.predict(inputs, state)
    }

    /// Answers several predictions without a state, on the calling thread.
    ///
    /// # Errors
    /// As [`Model::predict`], for each.
    fn predict_batch(&self, inputs: &[CheckedInputs<'_>]) -> Vec<Result<Outputs, Error>> {
        inputs.iter().map(|inputs| self.predict(inputs, None)).collect()
    }

    /// Whether [`Model::predict_batch`] is faster than separate predictions.
    fn gains_by_batches(&self) -> bool {
        false
    }

    /// How many predictions are worth computing at once; more only make all of them slower. `None` if the backend limits
    /// this itself.
    fn concurrency(&self) -> Option<usize> {
        None
    }

    /// Whether [`Model::predict_until`] obeys its switch. If not, a call counts as abandoned from when its caller has left
    /// until it returns.
    fn stops(&self) -> bool {
        false
    }

    /// A fresh state, all zero.
    ///
    /// # Errors
    /// When the backend cannot make one.
    fn new_state(&self) -> Result<ModelState, Error>;

    /// What the state `name` holds; half precision comes as `float32`. The name is one of the interface's.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the backend cannot read its states, which is the default.
    fn read_state(&self, _state: &mut ModelState, _name: &str) -> Result<Tensor, Error> {
        Err(hidden_states())
    }

    /// Replaces what the state `name` holds. The name is one of the interface's, and the shape is that state's.
    ///
    /// # Errors
    /// As [`Model::read_state`].
    fn write_state(&self, _state: &mut ModelState, _name: &str, _contents: TensorView<'_>) -> Result<(), Error> {
        Err(hidden_states())
    }

    /// What was loaded, for reports.
    fn info(&self) -> ModelInfo;
}

fn hidden_states() -> Error {
    Error::new(ErrorKind::Unsupported, "this backend does not show what its states hold")
}

/// Whether a host has a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// The host has it.
    Available,
    /// The host does not have it.
    Unavailable {
        /// Why, in words for the user.
        reason: String,
    },
}

/// A model's state in the form of the backend that made it.
pub struct ModelState(Box<dyn Any + Send>);

impl ModelState {
    /// Wraps a backend's own type.
    pub fn new(state: impl Any + Send) -> Self {
        Self(Box::new(state))
    }

    /// The backend's own type; `None` if another backend made the state.
    pub fn downcast_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.0.downcast_mut()
    }
}

impl fmt::Debug for ModelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelState(..)")
    }
}

/// What a backend says about a model it has loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelInfo {
    /// Operations that one prediction executes.
    pub steps: usize,
    /// Threads that take part in one prediction.
    pub threads: usize,
    /// The processor's instruction set it uses; empty if the backend does not know.
    pub isa: String,
    /// Bytes of working memory for one prediction, not counting the weights.
    pub workspace_bytes: usize,
    /// The compiled program as text; empty where the backend has none.
    pub plan: String,
    /// Where the backend plans to run the model, if it chooses among devices and says so: planned, not measured.
    pub placement: Option<Placement>,
    /// Bytes a Neural Engine holds for this process, where the system reports them: measured, for all models together.
    pub neural_engine_bytes: Option<u64>,
}

/// Where a backend plans to run a model's operations. Constants are not counted, because they are no work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Placement {
    /// Operations whose device is known.
    pub operations: usize,
    /// Those on the CPU.
    pub cpu: DeviceShare,
    /// Those on a GPU.
    pub gpu: DeviceShare,
    /// Those on a Neural Engine.
    pub neural_engine: DeviceShare,
}

/// One device's part of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DeviceShare {
    /// Operations on it.
    pub operations: usize,
    /// Its share of the model's estimated cost, 0 to 1; `None` without estimates.
    pub cost: Option<f64>,
}

/// How a model is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The function to run; the model's default if `None`.
    pub function: Option<String>,
    /// Where the model may run.
    pub compute_units: ComputeUnits,
    /// Threads for one prediction; 0 for as many as there are processors.
    pub threads: usize,
    /// The most bytes of memory one prediction may use, including states, on backends that support a limit; the backend's
    /// own limit if `None`.
    pub max_memory: Option<usize>,
    /// The most rounds that all loops of one prediction together may run, on backends that support a limit; the
    /// backend's own limit if `None`.
    pub max_loop_rounds: Option<u64>,
}

/// Where Core ML may run a model: permissions, not placement. The CPU engine runs on the CPU whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(i32)]
pub enum ComputeUnits {
    /// The CPU only.
    CpuOnly = 0,
    /// The CPU and the GPU.
    CpuAndGpu = 1,
    /// All of them.
    #[default]
    All = 2,
    /// The CPU and the Neural Engine.
    CpuAndNeuralEngine = 3,
}

impl ComputeUnits {
    /// The value of `MLComputeUnits`.
    pub const fn raw_value(self) -> i32 {
        self as i32
    }

    /// The units of this value of `MLComputeUnits`.
    pub const fn from_raw_value(value: i32) -> Option<Self> {
        match value {
            0 => Some(Self::CpuOnly),
            1 => Some(Self::CpuAndGpu),
            2 => Some(Self::All),
            3 => Some(Self::CpuAndNeuralEngine),
            _ => None,
        }
    }
}

impl fmt::Display for ComputeUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CpuOnly => "cpu_only",
            Self::CpuAndGpu => "cpu_and_gpu",
            Self::All => "all",
            Self::CpuAndNeuralEngine => "cpu_and_neural_engine",
        })
    }
}

/// A name that is not one of [`ComputeUnits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownComputeUnits(String);

impl fmt::Display for UnknownComputeUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not one of all, cpu_only, cpu_and_gpu, cpu_and_neural_engine", self.0)
    }
}

impl std::error::Error for UnknownComputeUnits {}

/// Accepts the names of [`Display`](fmt::Display), in any case, and the short forms `cpu`, `gpu`, `ane`, `cpu_and_ne`.
impl FromStr for ComputeUnits {
    type Err = UnknownComputeUnits;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.to_ascii_lowercase().replace('-', "_").as_str() {
            "all" => Ok(Self::All),
            "cpu" | "cpu_only" => Ok(Self::CpuOnly),
            "gpu" | "cpu_and_gpu" => Ok(Self::CpuAndGpu),
            "ane" | "cpu_and_ne" | "cpu_and_neural_engine" => Ok(Self::CpuAndNeuralEngine),
            _ => Err(UnknownComputeUnits(name.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_are_core_mls() {
        let units = [
            (ComputeUnits::CpuOnly, 0),
            (ComputeUnits::CpuAndGpu, 1),
            (ComputeUnits::All, 2),
            (ComputeUnits::CpuAndNeuralEngine, 3),
        ];
        for (units, raw) in units {
            assert_eq!(units.raw_value(), raw);
            assert_eq!(ComputeUnits::from_raw_value(raw), Some(units));
            assert_eq!(units.to_string().parse(), Ok(units));
        }
        assert_eq!("CPU_AND_NE".parse(), Ok(ComputeUnits::CpuAndNeuralEngine));
        assert!("npu".parse::<ComputeUnits>().unwrap_err().to_string().contains("`npu` is not one of"));
    }
}
