//! The cost of stopping a prediction: how soon it ends, what the switch costs when it is not used, and whether a million
//! cancelled predictions leak anything.
//!
//! `cargo run --release --example cancel -- [MODEL] [CALLS]`
#![allow(clippy::print_stdout, reason = "what it shows is its purpose")]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coreml_anywhere::telemetry::{Growth, memory, percentile};
use coreml_anywhere::{Call, Cancel, Error, ErrorKind, Session, synthetic_inputs};

/// Predictions that are stopped halfway.
const STOPPED: u64 = 1000;
/// Predictions of each kind in the comparison.
const COMPARED: usize = 300;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name);
    let model = arguments.next().map_or_else(|| fixture("fixtures/models/EfficientNetLite0.mlpackage"), PathBuf::from);
    let calls = arguments.next().and_then(|calls| calls.parse().ok()).unwrap_or(1_000_000);
    let session = Session::open(&model)?;
    stop_halfway(&session)?;
    compare(&session)?;
    cancel_many(&fixture("golden/elementwise/add-same.mlmodel"), calls)
}

/// From setting the switch until the prediction has returned.
fn stop_halfway(session: &Session) -> Result<(), Error> {
    let inputs = synthetic_inputs(session.interface(), 0)?;
    let usual = {
        let start = Instant::now();
        (0..20).try_for_each(|_| session.predict(&inputs).map(drop))?;
        start.elapsed() / 20
    };
    let (mut latencies, mut finished) = (Vec::new(), 0);
    let mut dice = 1u64;
    for _ in 0..STOPPED {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pause = usual.mul_f64((dice >> 11) as f64 / (1u64 << 53) as f64);
        let cancel = Cancel::new();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let switch = cancel.clone();
            scope.spawn(move || {
                let until = Instant::now() + pause;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                let at = Instant::now();
                switch.cancel();
                // Whoever listens outlives this thread.
                let _ = tell.send(at);
            });
            let result = session.predict_call(&inputs, &Call::new().cancel(&cancel));
            let ended = Instant::now();
            match result.map_err(|error| error.kind()) {
                Err(ErrorKind::Cancelled) => {
                    let at = told.recv().unwrap_or(ended);
                    latencies.push(ended.saturating_duration_since(at).as_secs_f64() * 1e3);
                }
                _ => finished += 1,
            }
        });
    }
    let at = |quantile| percentile::of(&latencies, quantile).map_or("-".into(), |ms| format!("{ms:.3} ms"));
    println!(
        "{} of {STOPPED} predictions of {usual:.1?} stopped halfway, {finished} were done before",
        latencies.len()
    );
    println!("from the switch to the end: p50 {}, p99 {}", at(0.5), at(0.99));
    Ok(())
}

/// Predictions with a switch that nobody sets, beside those without, in turns.
fn compare(session: &Session) -> Result<(), Error> {
    let inputs = synthetic_inputs(session.interface(), 0)?;
    let timed = |call: &Call| {
        let start = Instant::now();
        session.predict_call(&inputs, call)?;
        Ok::<_, Error>(start.elapsed().as_secs_f64())
    };
    let (mut plain, mut switched) = (Vec::new(), Vec::new());
    for _ in 0..COMPARED {
        plain.push(timed(&Call::new())?);
        switched.push(timed(&Call::new().cancel(&Cancel::new()))?);
    }
    let median = |times: &[f64]| percentile::of(times, 0.5).unwrap_or(f64::NAN);
    println!("with a switch that is not set: {:.4} of the time without, by p50", median(&switched) / median(&plain));
    Ok(())
}

/// Cancelled before, during and by dropping what awaits them.
fn cancel_many(model: &Path, calls: u64) -> Result<(), Error> {
    let session = Session::builder().threads(1).open(model)?;
    let inputs = synthetic_inputs(session.interface(), 0)?;
    let (mut readings, mut cancelled) = (Vec::new(), 0u64);
    let start = Instant::now();
    for call in 0..calls {
        if call % 2 == 0 {
            drop(session.predict_async(&inputs));
            cancelled += 1;
        } else {
            let cancel = Cancel::new();
            cancel.cancel();
            let result = session.predict_call(&inputs, &Call::new().cancel(&cancel));
            cancelled += u64::from(result.is_err_and(|error| error.kind() == ErrorKind::Cancelled));
        }
        if call % (calls / 200).max(1) == 0
            && let Some(bytes) = memory::resident_bytes()
        {
            readings.push((call, bytes));
        }
    }
    let elapsed: Duration = start.elapsed();
    println!("{cancelled} of {calls} calls dropped or cancelled in {elapsed:.1?}");
    match Growth::of(&readings) {
        Some(growth) => println!("memory: {growth}"),
        None => println!("memory: this system does not tell"),
    }
    Ok(())
}
