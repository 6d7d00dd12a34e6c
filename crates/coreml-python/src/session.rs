//! Sessions and states.

use std::path::PathBuf;
use std::time::Duration;

use coreml_anywhere::{Call, ComputeUnits, Error, ErrorKind, telemetry};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::error::{exception, instance};
use crate::exit::Inside;
use crate::signals::{self, Signals};
use crate::{interface, outputs, values};

/// A model that is ready for predictions.
#[pyclass(frozen, module = "coreml_anywhere._native")]
pub(crate) struct Session {
    session: coreml_anywhere::Session,
    /// The process that opened it: threads that a session computes on do not survive a fork.
    process: u32,
}

/// What survives between the predictions of a model with states.
#[pyclass(frozen, module = "coreml_anywhere._native")]
pub(crate) struct State {
    state: coreml_anywhere::State,
    process: u32,
}

/// Begins a call. Refuses it in a process that is a fork of the one that opened the session, and in the middle of a prediction.
fn enter(py: Python<'_>, process: u32) -> PyResult<Inside> {
    signals::not_in_a_handler(py)?;
    if std::process::id() == process {
        return Ok(Inside::enter(py));
    }
    let message = "the session was opened in another process, and its threads are not in this fork of it; \
                   open the model here, or start processes by spawn";
    Err(exception(py, &Error::new(ErrorKind::Unavailable, message)))
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (path, compute_units, deadline, threads, function))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        compute_units: &str,
        deadline: Option<f64>,
        threads: usize,
        function: Option<String>,
    ) -> PyResult<Self> {
        let inside = enter(py, std::process::id())?;
        let refuse = |message: String| exception(py, &Error::new(ErrorKind::InvalidInput, message));
        let units: ComputeUnits = compute_units.parse().map_err(|error| refuse(format!("compute_units: {error}")))?;
        let mut builder = coreml_anywhere::Session::builder().compute_units(units).threads(threads);
        if let Some(seconds) = deadline {
            let deadline = Duration::try_from_secs_f64(seconds)
                .map_err(|error| refuse(format!("deadline: {seconds} seconds: {error}")))?;
            builder = builder.deadline(deadline);
        }
        if let Some(function) = function {
            builder = builder.function(function);
        }
        let session = inside.detached(py, || builder.open(path)).map_err(|error| exception(py, &error))?;
        Ok(Self { session, process: std::process::id() })
    }

    /// Outputs, who answered, whether degraded, and the attempts. `convert` casts arrays to the features' types as Core ML
    /// does, fractions cut off, instead of refusing those that do not fit.
    #[pyo3(signature = (inputs, state, convert))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyDict>,
        state: Option<&Bound<'py, State>>,
        convert: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let inside = enter(py, self.process)?;
        let held = values::hold(self.session.interface(), inputs, convert)?;
        let inputs = values::inputs(py, &held)?;
        let state = state.map(|state| &state.get().state);
        let signals = Signals::new();
        let call = Call::new().cancel(&signals.cancel);
        let result = inside.detached(py, || match state {
            Some(state) => self.session.predict_call_with_state(&inputs, state, &call),
            None => self.session.predict_call(&inputs, &call),
        });
        signals.raised()?;
        let prediction = result.map_err(|error| exception(py, &error))?;
        let attempts = PyList::empty(py);
        for attempt in prediction.attempts() {
            let error = attempt.error.as_ref().map(|error| instance(py, error)).transpose()?;
            attempts.append((attempt.backend, error, attempt.elapsed.as_secs_f64()))?;
        }
        let (served_by, degraded) = (prediction.served_by(), prediction.degraded());
        (outputs::dict(py, prediction.into_outputs())?, served_by, degraded, attempts).into_pyobject(py)
    }

    fn make_state(&self, py: Python<'_>) -> PyResult<State> {
        let _inside = enter(py, self.process)?;
        Ok(State { state: self.session.state(), process: self.process })
    }

    fn interface<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        interface::dict(py, self.session.interface())
    }

    #[getter]
    fn function(&self) -> &str {
        self.session.function()
    }

    #[getter]
    fn functions(&self) -> Vec<String> {
        self.session.package().functions().map(str::to_owned).collect()
    }

    #[getter]
    fn backends(&self) -> Vec<&'static str> {
        self.session.backends().collect()
    }

    fn open_metrics(&self) -> String {
        telemetry::openmetrics::write(&[(&[], &self.session.telemetry().snapshot())])
    }

    /// Series by name: label values, and a number or the summary of a histogram.
    fn telemetry<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all = PyList::empty(py);
        for series in self.session.telemetry().snapshot().series {
            let reading = match series.reading {
                telemetry::Reading::Counter(count) => count.into_pyobject(py)?.into_any(),
                telemetry::Reading::Gauge(value) => value.into_pyobject(py)?.into_any(),
                telemetry::Reading::Histogram(values) => {
                    let summary = PyDict::new(py);
                    summary.set_item("count", values.count())?;
                    summary.set_item("sum_seconds", values.sum() as f64 / 1e9)?;
                    for (name, quantile) in [("p50_seconds", 0.5), ("p95_seconds", 0.95), ("p99_seconds", 0.99)] {
                        // Left out where there are too few samples for it.
                        if let Ok(nanoseconds) = values.quantile(quantile) {
                            summary.set_item(name, nanoseconds / 1e9)?;
                        }
                    }
                    summary.into_any()
                }
            };
            let spec = telemetry::names::ALL.iter().find(|spec| spec.name == series.name);
            let labels = PyDict::new(py);
            for (name, value) in spec.map_or(&[][..], |spec| spec.labels).iter().zip(series.labels) {
                labels.set_item(name, value)?;
            }
            all.append((series.name, labels, reading))?;
        }
        Ok(all)
    }
}

#[pymethods]
impl State {
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let inside = enter(py, self.process)?;
        let tensor = inside.detached(py, || self.state.read(name)).map_err(|error| exception(py, &error))?;
        outputs::array(py, tensor)
    }

    fn write(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let inside = enter(py, self.process)?;
        let held = values::array(name, value)?;
        let view = held.view(py)?;
        inside.detached(py, || self.state.write(name, view)).map_err(|error| exception(py, &error))
    }
}
