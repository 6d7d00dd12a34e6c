//! `coreml bench`: measures how long predictions take.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use coreml_anywhere::telemetry::percentile;
use coreml_anywhere::{Inputs, Session, State};
use indicatif::ProgressBar;

use self::args::Cell;
use crate::console;
use crate::failure::Failure;

mod against;
mod args;
pub(crate) mod profile;
mod show;
mod trace;

pub(crate) use self::args::Arguments;

/// The result of one combination.
struct Run {
    cell: Cell,
    /// Those that one prediction had; as asked for where a backend does not tell.
    threads: usize,
    load: Duration,
    first: Duration,
    served_by: &'static str,
    isa: String,
    /// From the first timed prediction to the end of the last one.
    wall: Duration,
    /// Milliseconds, in the order in which they ended.
    samples: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.profile {
        return profile::run(arguments, out);
    }
    // A baseline that cannot be read is told before the time is spent.
    let baseline = arguments.baseline.as_deref().map(against::read).transpose()?;
    console::stop_when_interrupted();
    let mut runs = Vec::new();
    for cell in arguments.cells() {
        runs.push(measure(arguments, cell)?);
        if console::stopped() {
            console::note("interrupted: this was measured until then");
            break;
        }
    }
    let comparison = baseline.map(|baseline| against::compare(&runs, &baseline, arguments.tolerance / 100.0));
    show::show(arguments, &runs, comparison.as_ref(), out)?;
    out.flush()?;
    comparison.map_or(Ok(()), |comparison| comparison.verdict(arguments))
}

/// Makes predictions, one after the other.
struct Caller<'a> {
    session: &'a Session,
    inputs: &'a Inputs<'static>,
    state: Option<State>,
}

impl<'a> Caller<'a> {
    fn new(session: &'a Session, inputs: &'a Inputs<'static>) -> Self {
        let stateful = !session.interface().states.is_empty();
        Self { session, inputs, state: stateful.then(|| session.state()) }
    }

    /// How long one took, and who answered.
    fn predict(&self) -> Result<(Duration, &'static str), Failure> {
        let start = Instant::now();
        let prediction = match &self.state {
            Some(state) => self.session.predict_with_state(self.inputs, state)?,
            None => self.session.predict(self.inputs)?,
        };
        Ok((start.elapsed(), prediction.served_by()))
    }
}

/// The fewest samples that a time limit ends with: those a median needs.
const LEAST: u32 = 11;

fn measure(arguments: &Arguments, cell: Cell) -> Result<Run, Failure> {
    let start = Instant::now();
    let session = cell.model.open(cell.threads)?;
    let load = start.elapsed();
    let inputs = arguments.inputs_of(session.interface(), cell.batch)?;
    let caller = Caller::new(&session, &inputs);
    let (first, _) = caller.predict()?;
    for _ in 0..arguments.warmup {
        if console::stopped() {
            break;
        }
        caller.predict()?;
    }
    let info = session.info();
    let threads = if info.threads > 0 { info.threads } else { cell.threads };
    let progress = Progress::new(arguments, &cell, threads);
    let (begun, taken) = (Instant::now(), AtomicU32::new(0));
    // Whether there is another prediction to be made, which is then the asker's.
    let another = || {
        let before = taken.fetch_add(1, Ordering::Relaxed);
        if before > 0 && console::stopped() {
            return false;
        }
        match arguments.seconds {
            None => before < arguments.iterations,
            Some(limit) => before < LEAST || begun.elapsed() < limit,
        }
    };
    let seen = Mutex::new((Vec::new(), ""));
    let calls = |caller: Caller<'_>| {
        while another() {
            let (elapsed, served_by) = caller.predict()?;
            let milliseconds = elapsed.as_secs_f64() * 1e3;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.0.push(milliseconds);
            seen.1 = served_by;
            progress.tell(&seen.0, begun.elapsed());
        }
        Ok::<_, Failure>(())
    };
    if cell.concurrency == 1 {
        calls(caller)?;
    } else {
        std::thread::scope(|scope| {
            let call = || calls(Caller::new(&session, &inputs));
            let callers: Vec<_> = (0..cell.concurrency).map(|_| scope.spawn(call)).collect();
            let ended = |caller: ScopedJoinHandle<'_, _>| match caller.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            callers.into_iter().try_for_each(ended)
        })?;
    }
    let wall = begun.elapsed();
    progress.bar.finish_and_clear();
    let (samples, served_by) = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Run { cell, threads, load, first, served_by, isa: info.isa, wall, samples })
}

/// A bar on standard error if a person is watching, nothing otherwise.
struct Progress {
    bar: ProgressBar,
    limit: Option<Duration>,
}

impl Progress {
    fn new(arguments: &Arguments, cell: &Cell, threads: usize) -> Self {
        let limit = arguments.seconds;
        let steps =
            limit.map_or(u64::from(arguments.iterations), |limit| limit.as_millis().try_into().unwrap_or(u64::MAX));
        let what = match cell.concurrency {
            1 => format!("{threads} threads"),
            at_once => format!("{threads} threads, {at_once} at once"),
        };
        let bar = console::bar(steps, "{msg} {wide_bar} {pos}/{len}").with_prefix(what.clone());
        Self { bar: bar.with_message(what), limit }
    }

    /// Shows how far it is, and now and then the median so far.
    fn tell(&self, samples: &[f64], elapsed: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        match self.limit {
            Some(_) => self.bar.set_position(elapsed.as_millis().try_into().unwrap_or(u64::MAX)),
            None => self.bar.set_position(samples.len() as u64),
        }
        if samples.len().is_power_of_two()
            && let Ok(median) = percentile::of(samples, 0.5)
        {
            self.bar.set_message(format!("{}, p50 {median:.2} ms", self.bar.prefix()));
        }
    }
}

impl Run {
    fn mean(&self) -> f64 {
        self.samples.iter().sum::<f64>() / self.samples.len() as f64
    }

    fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Predictions in a second.
    fn per_second(&self) -> f64 {
        self.samples.len() as f64 / self.wall.as_secs_f64()
    }
}
