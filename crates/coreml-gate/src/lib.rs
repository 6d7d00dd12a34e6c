//! The reference run: one model measured from opening to the last prediction, and judged by a gate.
//!
//! [`run`] measures and returns a [`RunReport`]; a [`Gate`] judges it, Gate C by default; [`audit`] lists what in a report cannot
//! be true; a [`Plant`] is a fault that shows whether a criterion can fail. What this host cannot measure is reported as
//! unavailable, with the reason.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_anywhere::model::Package;
use coreml_anywhere::telemetry::report::{ModelBlock, RUN_SCHEMA, RunReport};
use coreml_anywhere::telemetry::{Environment, Metric, Recorder, names, percentile};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Error, Inputs, Session, default_backends, synthetic_inputs};
use serde_json::json;

mod audit;
mod drill;
mod gate;
mod junit;
mod memory;
mod parity;
mod placement;
mod plant;
mod speedup;
mod table;

pub use audit::audit;
pub use gate::{FIGURES, Gate, GateError};
pub use junit::{Case, junit, suite};
pub use plant::Plant;
pub use table::table;

/// How often memory is looked at while predictions are timed; between them, not while one runs.
const MEMORY_POINTS: u32 = 200;
const MEASURED: &str = "measured";
const NO_ACCELERATOR: &str = "no accelerator here: the CPU engine served";

/// What to run, and how often.
#[derive(Debug, Clone)]
pub struct ReferenceRun {
    /// The model.
    pub model: PathBuf,
    /// Timed predictions.
    pub iterations: u32,
    /// Predictions before those.
    pub warmup: u32,
    /// Threads for one prediction; 0 for all.
    pub threads: usize,
    /// The time budget of one prediction.
    pub deadline: Duration,
    /// What answers, in order.
    pub backends: Vec<Arc<dyn Backend>>,
    /// What judges.
    pub gate: Gate,
    /// A fault, to see the gate fail.
    pub plant: Option<Plant>,
    /// Asked between timed predictions whether to stop; the report then has what was measured so far.
    pub stop: fn() -> bool,
}

impl ReferenceRun {
    /// A run of `iterations` predictions of `model` with everything else as usual: 20 predictions to warm up, all
    /// threads, a budget of 100 ms, the best backends of this host, Gate C.
    pub fn new(model: impl Into<PathBuf>, iterations: u32) -> Self {
        Self {
            model: model.into(),
            iterations,
            warmup: 20,
            threads: 0,
            deadline: Duration::from_millis(100),
            backends: default_backends(),
            gate: Gate::c(),
            plant: None,
            stop: || false,
        }
    }
}

/// Measures. `progress` is called with the stage, the steps done, and the number of steps.
///
/// # Errors
/// When the model cannot be opened. Predictions that fail are counted, not returned.
pub fn run(config: &ReferenceRun, progress: &mut dyn FnMut(&str, u32, u32)) -> Result<RunReport, Error> {
    let mut config = config.clone();
    if let Some(plant) = config.plant {
        config.backends = plant.spoil(config.backends);
    }
    let mut report = measure(&config, progress)?;
    if let Some(plant) = config.plant {
        report.events.push(format!("planted on purpose: {}", plant.name()));
        report.config.insert("plant".to_owned(), json!(plant.name()));
        plant.loses().into_iter().for_each(|figure| _ = report.metrics.remove(figure));
    }
    (report.gate, report.verdict) = config.gate.judge(&report);
    Ok(report)
}

fn measure(config: &ReferenceRun, progress: &mut dyn FnMut(&str, u32, u32)) -> Result<RunReport, Error> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, metric: Metric| {
        metrics.insert(name.to_owned(), metric);
    };
    put("memory_baseline", memory::resident());
    let mut recorder = Recorder::new(Instant::now());

    recorder.stage("load");
    progress("load", 0, 2);
    let start = Instant::now();
    let package = Package::open(&config.model)?;
    put("read_time", milliseconds(start.elapsed(), 1, MEASURED));
    let start = Instant::now();
    let builder = || Session::builder().threads(config.threads).backends(config.backends.clone());
    let session = builder().load(package)?;
    put("compile_time_first", milliseconds(start.elapsed(), 1, "measured: the first plan of this process"));
    progress("load", 1, 2);
    let start = Instant::now();
    let session_again = builder().open(&config.model)?;
    put("load_time", milliseconds(start.elapsed(), 1, "measured: read and planned, file in the system's cache"));
    drop(session_again);
    put(
        "compile_time_cached",
        Metric::unavailable("the CPU engine keeps no compiled model: every load plans again, see load_time"),
    );

    let inputs = synthetic_inputs(session.interface(), 0)?;
    let mut events: Vec<String> = session.passed_over().iter().map(|passed| format!("passed over {passed}")).collect();
    let timed = Timed::measure(config, &session, &inputs, &mut events, &mut recorder, progress);
    let config = &ReferenceRun { iterations: timed.made, ..config.clone() };
    timed.report(config, &mut put);

    let snapshot = session.telemetry().snapshot();
    let fallbacks = snapshot.total(&names::FALLBACKS) as f64;
    put("fallbacks", Metric::measured(fallbacks, "1", u64::from(config.iterations), "the session's telemetry"));
    recorder.stage("drill");
    drill::measure(config, &inputs, &mut events, &mut recorder, &mut put);
    recorder.stage("against the CPU engine");
    speedup::measure(config, &session, &inputs, &mut put, progress);
    let accelerated = timed.served_by.contains_key("core-ml");
    for (name, metric) in placement::metrics(&session.info(), accelerated, NO_ACCELERATOR) {
        put(name, metric);
    }

    recorder.stage("against the reference");
    let mut reference = Session::builder().backends([Arc::new(CpuBackend::new(CpuOptions::reference())) as _]);
    reference = reference.threads(config.threads);
    parity::measure(config, &session, &reference.open(&config.model)?, &mut put, progress);
    put("memory_peak", memory::peak());

    let info = session.info();
    Ok(RunReport {
        schema: RUN_SCHEMA.into(),
        environment: Environment::detect(&info.isa, env!("CARGO_PKG_VERSION")),
        model: ModelBlock {
            name: config.model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            size_bytes: session.package().size_bytes(),
            specification_version: session.package().specification_version(),
            function: session.function().to_owned(),
        },
        config: BTreeMap::from([
            ("iterations".to_owned(), json!(config.iterations)),
            ("warmup".to_owned(), json!(config.warmup)),
            ("threads".to_owned(), json!(info.threads)),
            ("deadline_ms".to_owned(), json!(config.deadline.as_secs_f64() * 1e3)),
            ("input".to_owned(), json!("noise of the default shapes, seed 0")),
            ("gate".to_owned(), json!(config.gate.name)),
        ]),
        metrics,
        samples_ms: timed.samples,
        served_by: timed.served_by,
        events,
        timeline: recorder.finish(),
        profile: None,
        gate: Vec::new(),
        verdict: coreml_anywhere::telemetry::report::Outcome::Unavailable,
    })
}

fn milliseconds(duration: Duration, n: u64, source: &str) -> Metric {
    Metric::measured(duration.as_secs_f64() * 1e3, "ms", n, source)
}

/// The predictions that are timed.
struct Timed {
    /// How many were made: all, or as many as there were when the run was stopped.
    made: u32,
    first: Option<Duration>,
    samples: Vec<f64>,
    served_by: BTreeMap<String, u64>,
    growth: Metric,
}

impl Timed {
    fn measure(
        config: &ReferenceRun,
        session: &Session,
        inputs: &Inputs<'_>,
        events: &mut Vec<String>,
        recorder: &mut Recorder,
        progress: &mut dyn FnMut(&str, u32, u32),
    ) -> Self {
        let state = session.state();
        let stateful = !session.interface().states.is_empty();
        let predict = || {
            let start = Instant::now();
            let result = if stateful { session.predict_with_state(inputs, &state) } else { session.predict(inputs) };
            (start.elapsed(), result)
        };
        let (elapsed, result) = predict();
        let first = result.is_ok().then_some(elapsed);
        recorder.stage("warm-up");
        for i in 0..config.warmup {
            if (config.stop)() {
                break;
            }
            progress("warm-up", i, config.warmup);
            // Failures show in the timed predictions too, where they are counted.
            let _ = predict();
        }
        let mut samples = Vec::with_capacity(config.iterations as usize);
        let mut served_by: BTreeMap<String, u64> = BTreeMap::new();
        let before = memory::resident();
        recorder.stage("predictions");
        let mut made = 0;
        for i in 0..config.iterations {
            if i > 0 && (config.stop)() {
                events.push(format!("stopped after {i} of {} predictions", config.iterations));
                break;
            }
            made = i + 1;
            if i % config.iterations.div_ceil(MEMORY_POINTS) == 0 {
                recorder.memory();
            }
            progress("predictions", i, config.iterations);
            let (elapsed, result) = predict();
            match result {
                Ok(prediction) => {
                    samples.push(elapsed.as_secs_f64() * 1e3);
                    match served_by.get_mut(prediction.served_by()) {
                        Some(count) => *count += 1,
                        None => _ = served_by.insert(prediction.served_by().to_owned(), 1),
                    }
                }
                Err(error) => {
                    recorder.moment(format!("prediction {i} failed"));
                    events.push(format!("prediction {i} failed: {error}"));
                }
            }
        }
        let growth = memory::growth(&before, &memory::resident(), made);
        Self { made, first, samples, served_by, growth }
    }

    fn report(&self, config: &ReferenceRun, put: &mut impl FnMut(&str, Metric)) {
        let n = self.samples.len() as u64;
        let first = self.first.map(|first| milliseconds(first, 1, MEASURED));
        put("first_inference", first.unwrap_or_else(|| Metric::unavailable("the first prediction failed")));
        for (name, quantile) in [("latency_p50", 0.5), ("latency_p95", 0.95), ("latency_p99", 0.99)] {
            put(name, percentile::metric(&self.samples, quantile, "ms", MEASURED));
        }
        let total: f64 = self.samples.iter().sum();
        let of_samples = |value: f64, unit: &str| {
            if n == 0 {
                Metric::unavailable("no prediction succeeded")
            } else {
                Metric::measured(value, unit, n, MEASURED)
            }
        };
        put("latency_max", of_samples(self.samples.iter().copied().fold(0.0, f64::max), "ms"));
        put("latency_mean", of_samples(total / n as f64, "ms"));
        put("throughput", of_samples(n as f64 / total * 1e3, "1/s"));
        let budget = config.deadline.as_secs_f64() * 1e3;
        let in_time = self.samples.iter().filter(|&&sample| sample <= budget).count();
        put("deadline_compliance", of_samples(in_time as f64 / n as f64, "1"));
        let iterations = u64::from(config.iterations);
        put("success_rate", Metric::measured(n as f64 / iterations as f64, "1", iterations, MEASURED));
        put("memory_growth_per_100", self.growth.clone());
    }
}
