//! Where a prediction's time goes: what each step of the plan does, and how long it takes.
//!
//! [`Profile::measure`] makes ordinary predictions and reads a clock between the steps of the plan, which costs some tens
//! of nanoseconds each. The operations report what a step does (`Op::work`); multiply-adds measured in between show what
//! the machine can do.

use std::sync::Arc;
use std::time::Duration;

use coreml_core::{CheckedInputs, Clock, Error, ErrorKind, Instant, LoadOptions, Model, Outputs};
use coreml_kernels::peak_flops;
use coreml_model::Package;
use coreml_tensor::Shape;

use crate::backend::{CpuBackend, CpuModel, Observer};
use crate::plan::Plan;
use crate::workspace::Workspace;

/// How often the peak is measured: a machine that others use is slow at moments.
const PEAKS: usize = 8;

/// How often a model is run to profile it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repetitions {
    /// Predictions before those that count.
    pub warmup: usize,
    /// Predictions that count, at least 1. Each is kept, 32 bytes a step.
    pub runs: usize,
}

/// Where the time of a model's predictions went.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Profile {
    /// The steps in the order in which they ran, one member of a pipeline after another.
    pub steps: Vec<StepProfile>,
    /// The predictions that counted, in order; at least one.
    pub runs: Vec<Run>,
    /// The outputs of the last of them.
    pub outputs: Outputs,
    /// The number of threads that took part.
    pub threads: usize,
    /// The processor's instruction set that was used.
    pub isa: &'static str,
    /// Floating-point operations per second that these threads reach with multiply-adds on registers only: the best of
    /// some measurements before, between and after the runs.
    pub peak_flops: f64,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepProfile {
    /// Which member of a pipeline it belongs to; 0 without a pipeline.
    pub member: usize,
    /// Its position in the plan of that member.
    pub position: usize,
    /// The operations it does: `conv+gelu` is one operation with another applied to its results, `conv > conv` two in a
    /// row.
    pub kind: String,
    /// The name of its first output in the program.
    pub output: String,
    /// That output's shape as the engine holds it.
    pub shape: Shape,
    /// Floating-point operations of its products, a multiply-add counting two. `None` if products do not take most of
    /// its time, or their number is not known, as with loops.
    pub flops: Option<u64>,
    /// The fewest bytes it reads and writes: inputs, weights and outputs, once each.
    pub bytes: u64,
    /// The median over the runs of the time it took.
    pub median: Duration,
    /// The shortest time it took.
    pub fastest: Duration,
}

/// One prediction, its times counted from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// When each step began and ended, as in [`Profile::steps`]. Between a member's last step and the next member's
    /// first, outputs are handed over as inputs.
    pub steps: Vec<(Duration, Duration)>,
    /// How long the whole prediction took: setting inputs, the steps, reading outputs.
    pub whole: Duration,
}

impl StepProfile {
    /// Whether it is a convolution, or several in a row.
    pub fn is_convolution(&self) -> bool {
        self.kind.starts_with("conv")
    }
}

impl Profile {
    /// Loads a model as [`CpuBackend`] does and makes predictions on `inputs`, watching each step. A model with states gets
    /// fresh ones, which all predictions share.
    ///
    /// # Errors
    /// As loading the model and predicting; [`ErrorKind::InvalidInput`] if no runs are asked for.
    pub fn measure(
        backend: &CpuBackend,
        package: &Arc<Package>,
        options: &LoadOptions,
        inputs: &CheckedInputs<'_>,
        repetitions: Repetitions,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let model = backend.open(package, options)?;
        let mut state = model.new_state()?;
        let nothing = || Error::new(ErrorKind::InvalidInput, "a profile takes one run at least");
        let no_program = || {
            let message =
                format!("a model of type `{}` has no program, whose steps a profile would tell of", model.kind);
            Error::new(ErrorKind::InvalidInput, message)
        };
        let compute = model.compute().ok_or_else(no_program)?;
        // An extra run, as what an operation does may depend on data.
        let mut described = Describe::default();
        let mut outputs = Outputs::new(model.run(inputs, Some(&mut state), None, &mut described)?);
        for _ in 0..repetitions.warmup {
            model.run(inputs, Some(&mut state), None, &mut ())?;
        }
        let peak = || peak_flops(compute.isa, &compute.pool);
        let mut most = peak();
        let mut runs = Vec::new();
        for i in 1..=repetitions.runs {
            let steps = Vec::with_capacity(described.steps.len());
            let start = clock.now();
            let mut watch = Watch { clock, start, mark: Duration::ZERO, steps };
            outputs = Outputs::new(model.run(inputs, Some(&mut state), None, &mut watch)?);
            let whole = watch.now();
            runs.push(Run { steps: watch.steps, whole });
            if i.is_multiple_of(repetitions.runs.div_ceil(PEAKS)) {
                most = most.max(peak());
            }
        }
        if runs.is_empty() {
            return Err(nothing());
        }
        let mut steps = described.steps;
        for (i, step) in steps.iter_mut().enumerate() {
            let mut times: Vec<Duration> = runs.iter().map(|run| run.steps[i].1 - run.steps[i].0).collect();
            times.sort_unstable();
            (step.fastest, step.median) = (times[0], times[times.len() / 2]);
        }
        Ok(Self { steps, runs, outputs, threads: compute.threads(), isa: compute.isa(), peak_flops: most })
    }

    /// The run whose time is the median.
    pub fn typical_run(&self) -> &Run {
        let mut order: Vec<&Run> = self.runs.iter().collect();
        order.sort_by_key(|run| run.whole);
        order[order.len() / 2]
    }
}

/// Learns what the steps do.
#[derive(Default)]
struct Describe {
    steps: Vec<StepProfile>,
    members: usize,
}

impl Observer for Describe {
    fn end(&mut self, plan: &Plan, workspace: &Workspace) {
        let member = self.members;
        self.members += 1;
        self.steps.extend(plan.tasks(workspace).enumerate().map(|(position, task)| StepProfile {
            member,
            position,
            kind: task.kind.to_owned(),
            output: task.output.to_owned(),
            shape: task.shape,
            flops: task.work.flops,
            bytes: task.work.bytes,
            median: Duration::ZERO,
            fastest: Duration::ZERO,
        }));
    }
}

/// Notes when steps begin and end.
struct Watch<'a> {
    clock: &'a dyn Clock,
    start: Instant,
    /// The end of what happened last.
    mark: Duration,
    steps: Vec<(Duration, Duration)>,
}

impl Watch<'_> {
    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.start)
    }
}

impl Observer for Watch<'_> {
    fn begin(&mut self, _: &CpuModel, _: &Plan, _: &Workspace) {
        self.mark = self.now();
    }

    fn step(&mut self, _: &Plan, _: usize, _: &Workspace) {
        let now = self.now();
        self.steps.push((self.mark, now));
        self.mark = now;
    }
}
