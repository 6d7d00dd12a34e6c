//! Compares the speed of the first backend with the CPU engine's, in turns.

use std::sync::Arc;
use std::time::Instant;

use coreml_anywhere::telemetry::{Metric, Speedup, percentile};
use coreml_anywhere::{CpuBackend, Error, ErrorKind, Inputs, Session};

use crate::{NO_ACCELERATOR, ReferenceRun};

/// Rounds, in each of which both sides take their turn.
const ROUNDS: u32 = 12;

/// How many times the p99 of the session's first backend is shorter than the CPU engine's.
pub(crate) fn measure(
    config: &ReferenceRun,
    session: &Session,
    inputs: &Inputs<'_>,
    put: &mut impl FnMut(&str, Metric),
    progress: &mut dyn FnMut(&str, u32, u32),
) {
    let needed = percentile::minimum_samples(0.99);
    let measured = if session.backends().next().is_none_or(|first| first == "cpu" || first == "reference") {
        Err(NO_ACCELERATOR.to_owned())
    } else if !session.interface().states.is_empty() {
        Err("models with states are not timed against each other".to_owned())
    } else if (config.stop)() {
        Err("the run was stopped before".to_owned())
    } else if u64::from(config.iterations) < needed {
        Err(format!("a p99 needs at least {needed} iterations, there are {}", config.iterations))
    } else {
        rounds(config, session, inputs, progress).map_err(|error| error.to_string())
    };
    let speedup =
        measured.and_then(|(ours, cpu)| Speedup::of_quantile(&ours, &cpu, 0.99).map_err(|refusal| refusal.to_string()));
    match speedup {
        Ok(Speedup { ratio, low, high, runs, .. }) => {
            let n = u64::from(config.iterations);
            let source =
                format!("measured: p99 against p99, {runs} rounds in turns, 95 % interval {low:.3}..{high:.3}");
            put("speedup_p99", Metric::measured(ratio, "1", n, &source));
            put("speedup_p99_at_least", Metric::measured(low, "1", n, "lower end of the interval of speedup_p99"));
        }
        Err(reason) => {
            put("speedup_p99", Metric::unavailable(reason.clone()));
            put("speedup_p99_at_least", Metric::unavailable(reason));
        }
    }
}

type Rounds = Vec<Vec<f64>>;

fn rounds(
    config: &ReferenceRun,
    session: &Session,
    inputs: &Inputs<'_>,
    progress: &mut dyn FnMut(&str, u32, u32),
) -> Result<(Rounds, Rounds), Error> {
    let cpu = Session::builder().threads(config.threads).backends([Arc::new(CpuBackend::default()) as _]);
    let cpu = cpu.open(&config.model)?;
    let first = session.backends().next().unwrap_or_default();
    let each = config.iterations.div_ceil(ROUNDS);
    let round = |session: &Session, backend: &str| {
        (0..each)
            .map(|_| {
                let start = Instant::now();
                let prediction = session.predict(inputs)?;
                let elapsed = start.elapsed().as_secs_f64();
                if prediction.served_by() == backend {
                    return Ok(elapsed);
                }
                let message = format!("{} answered in place of {backend}", prediction.served_by());
                Err(Error::new(ErrorKind::Unavailable, message))
            })
            .collect::<Result<Vec<f64>, Error>>()
    };
    round(&cpu, "cpu")?;
    let (mut ours, mut theirs) = (Rounds::new(), Rounds::new());
    for number in 0..ROUNDS {
        progress("against the CPU engine", number, ROUNDS);
        ours.push(round(session, first)?);
        theirs.push(round(&cpu, "cpu")?);
    }
    Ok((ours, theirs))
}
