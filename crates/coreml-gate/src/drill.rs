//! The circuit breaker's drill: a backend that fails on schedule, in front of the CPU engine, with the model of the
//! run.

use std::sync::Arc;
use std::time::Instant;

use coreml_anywhere::breaker::{BreakerConfig, Mode};
use coreml_anywhere::telemetry::{Metric, Recorder};
use coreml_anywhere::{Backend, CpuBackend, Error, ErrorKind, Inputs, Session};

use crate::plant::{Fault, Faulty};
use crate::{Plant, ReferenceRun};

/// Predictions of each drill.
const CALLS: u64 = 60;

/// How often the circuit opened when 96 % of the calls, the first ones among them, succeeded, and when 90 % did.
pub(crate) fn measure(
    config: &ReferenceRun,
    inputs: &Inputs<'_>,
    events: &mut Vec<String>,
    recorder: &mut Recorder,
    put: &mut impl FnMut(&str, Metric),
) {
    for (name, every, words) in [
        ("breaker_trips_at_96_percent", 25, "drill: every 25th call of a faulty backend fails"),
        ("breaker_trips_at_90_percent", 10, "drill: every 10th call of a faulty backend fails"),
    ] {
        let metric = match trips(config, inputs, every, events, recorder) {
            Ok(trips) => Metric::measured(trips as f64, "1", CALLS, words),
            Err(error) => Metric::unavailable(format!("the drill failed: {error}")),
        };
        put(name, metric);
    }
}

fn trips(
    config: &ReferenceRun,
    inputs: &Inputs<'_>,
    every: u64,
    events: &mut Vec<String>,
    recorder: &mut Recorder,
) -> Result<u64, Error> {
    let cpu = || Arc::new(CpuBackend::default()) as Arc<dyn Backend>;
    let deaf = config.plant == Some(Plant::DeafBreaker);
    let mode = if deaf { Mode::Disabled } else { Mode::Normal };
    let builder = Session::builder().threads(config.threads).memory_probe(|| None);
    let builder = builder.breaker(BreakerConfig { mode, ..BreakerConfig::default() });
    let faulty = Faulty::over("drill", Fault::Every(every), cpu());
    let session = builder.backends([faulty, cpu()]).open(&config.model)?;
    let breaker = session.breaker("drill").ok_or_else(|| Error::new(ErrorKind::Bug, "the session lost its backend"))?;
    for call in 1..=CALLS {
        let before = breaker.state();
        if session.interface().states.is_empty() {
            session.predict(inputs)?;
        } else {
            session.predict_with_state(inputs, &session.state())?;
        }
        let status = breaker.status(Instant::now());
        if status.state != before {
            let reason = status.reason.map_or(String::new(), |reason| format!(" ({})", reason.name()));
            recorder.moment(format!("drill, every {every}th call fails: breaker {before} -> {}", status.state));
            events.push(format!(
                "drill, call {call} of a backend that fails every {every}th: {before} -> {}{reason}",
                status.state
            ));
        }
    }
    Ok(breaker.status(Instant::now()).trips)
}
