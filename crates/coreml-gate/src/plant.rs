//! Faults planted on purpose: a gate that cannot fail proves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coreml_anywhere::model::Package;
use coreml_anywhere::tensor::{Tensor, TensorView};
use coreml_anywhere::{
    Availability, Backend, CheckedInputs, CpuBackend, DeviceShare, Error, ErrorKind, LoadOptions, Model, ModelInfo,
    ModelState, Outputs, Placement, Value, cast,
};

/// A fault that a run can be given, to see the gate fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plant {
    /// The time to load the model is lost.
    LostLoad,
    /// A figure is lost.
    LostFigure,
    /// An accelerator that is slower than the CPU engine.
    SlowAccelerator,
    /// An accelerator that leaves most operations to the CPU.
    IdleNeuralEngine,
    /// Each prediction keeps memory.
    Leak,
    /// Answers are off by a tenth.
    WrongAnswers,
    /// The circuit breaker never opens.
    DeafBreaker,
}

impl Plant {
    /// All of them, one for each criterion of Gate C in its order.
    pub const ALL: [Self; 7] = [
        Self::LostLoad,
        Self::LostFigure,
        Self::SlowAccelerator,
        Self::IdleNeuralEngine,
        Self::Leak,
        Self::WrongAnswers,
        Self::DeafBreaker,
    ];

    /// Its name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostLoad => "lost-load",
            Self::LostFigure => "lost-figure",
            Self::SlowAccelerator => "slow-accelerator",
            Self::IdleNeuralEngine => "idle-neural-engine",
            Self::Leak => "leak",
            Self::WrongAnswers => "wrong-answers",
            Self::DeafBreaker => "deaf-breaker",
        }
    }

    /// The backends of a run with this fault.
    pub(crate) fn spoil(self, backends: Vec<Arc<dyn Backend>>) -> Vec<Arc<dyn Backend>> {
        let cpu = || Arc::new(CpuBackend::default()) as Arc<dyn Backend>;
        match self {
            Self::SlowAccelerator => {
                vec![Faulty::over("core-ml", Fault::Slow(Duration::from_millis(10)), cpu()), cpu()]
            }
            Self::IdleNeuralEngine => vec![Faulty::over("core-ml", Fault::Idle, cpu()), cpu()],
            Self::Leak => vec![Faulty::over("cpu", Fault::Leak, cpu())],
            Self::WrongAnswers => vec![Faulty::over("cpu", Fault::Wrong, cpu())],
            Self::LostLoad | Self::LostFigure | Self::DeafBreaker => backends,
        }
    }

    /// The figure that is lost.
    pub(crate) fn loses(self) -> Option<&'static str> {
        match self {
            Self::LostLoad => Some("compile_time_first"),
            Self::LostFigure => Some("latency_mean"),
            _ => None,
        }
    }
}

/// What a [`Faulty`] backend does wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Every so many predictions one fails.
    Every(u64),
    Slow(Duration),
    Idle,
    Leak,
    Wrong,
}

/// A backend that does something wrong, around one that does not.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    name: &'static str,
    fault: Fault,
    inner: Arc<dyn Backend>,
    calls: Arc<AtomicU64>,
}

impl Faulty {
    pub(crate) fn over(name: &'static str, fault: Fault, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(Self { name, fault, inner, calls: Arc::default() })
    }
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        self.name
    }

    fn availability(&self) -> Availability {
        self.inner.availability()
    }

    fn load(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Ok(Box::new(FaultyModel { backend: self.clone(), inner: self.inner.load(package, options)? }))
    }
}

#[derive(Debug)]
struct FaultyModel {
    backend: Faulty,
    inner: Box<dyn Model>,
}

/// What a prediction keeps: 20 times of it are more than Gate C's 100 KB per 100.
const LEAK: usize = 20 << 10;

impl Model for FaultyModel {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        let call = self.backend.calls.fetch_add(1, Ordering::Relaxed);
        match self.backend.fault {
            Fault::Every(n) if call % n == n - 1 => return Err(Error::new(ErrorKind::Fault, "planted")),
            Fault::Slow(time) => std::thread::sleep(time),
            Fault::Leak => std::mem::forget(std::hint::black_box(vec![1u8; LEAK])),
            _ => {}
        }
        let outputs = self.inner.predict(inputs, state)?;
        Ok(if matches!(self.backend.fault, Fault::Wrong) { off_by_a_tenth(outputs) } else { outputs })
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        self.inner.new_state()
    }

    fn info(&self) -> ModelInfo {
        let mut info = self.inner.info();
        if matches!(self.backend.fault, Fault::Idle) {
            let share = |operations| DeviceShare { operations, cost: None };
            info.placement = Some(Placement { operations: 10, cpu: share(9), gpu: share(0), neural_engine: share(1) });
        }
        info
    }
}

fn off_by_a_tenth(outputs: Outputs) -> Outputs {
    let moved = |tensor: &Tensor| {
        let values: Vec<f32> = tensor.view().to_f64_vec().into_iter().map(|value| (value + 0.1) as f32).collect();
        let moved = TensorView::new(tensor.shape(), &values).ok()?;
        cast(moved, tensor.dtype())
    };
    let spoiled = outputs.into_entries().into_iter().map(|(name, value)| {
        let value = match value {
            Value::Tensor(tensor) => Value::Tensor(moved(&tensor).unwrap_or(tensor)),
            Value::Image(tensor) => Value::Image(moved(&tensor).unwrap_or(tensor)),
            Value::Double(number) => Value::Double(number + 0.1),
            Value::Dictionary(entries) => {
                Value::Dictionary(entries.into_iter().map(|(label, number)| (label, number + 0.1)).collect())
            }
            other => other,
        };
        (name, value)
    });
    Outputs::new(spoiled.collect())
}
