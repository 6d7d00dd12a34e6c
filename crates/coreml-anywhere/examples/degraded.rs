//! Watch a session survive: an accelerator that fails, hangs, lies and recovers, in front of the CPU engine.
//!
//! The accelerator is a scripted backend around the CPU engine, so this runs anywhere:
//!
//! ```console
//! $ cargo run --release --example degraded
//! ```
//!
//! `--metrics` prints what a Prometheus server would scrape afterwards.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use coreml_anywhere::breaker::{BreakerConfig, OpenWait};
use coreml_anywhere::telemetry::openmetrics;
use coreml_anywhere::{CpuBackend, Error, ErrorKind, Session, Shadow, synthetic_inputs};
use coreml_testing::scripted::{Act, Scripted};

/// Shows a session whose accelerator fails, hangs, lies and recovers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/EfficientNetLite0.mlpackage"))]
    model: String,
    /// Print the telemetry as OpenMetrics text at the end
    #[arg(long)]
    metrics: bool,
    /// Tell of every fallback and every change of the circuit on standard error (built with `--features tracing`)
    #[arg(short, long)]
    verbose: bool,
}

/// What the accelerator does for a while, and what to call it.
const CHAPTERS: [(&str, Act, u32); 6] = [
    ("it works", Act::Answer, 12),
    ("it fails", Act::Fail(ErrorKind::Fault), 12),
    ("it works again", Act::Answer, 40),
    ("it never returns", Act::Hang, 12),
    ("it works again", Act::Answer, 60),
    ("it lies", Act::WrongValues, 12),
];
const DEADLINE: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let level = if arguments.verbose { tracing::Level::INFO } else { tracing::Level::ERROR };
    tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level).init();
    match show(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(3)
        }
    }
}

fn show(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let chapter = Arc::new(AtomicU8::new(0));
    let now = chapter.clone();
    let script = move |_| CHAPTERS[usize::from(now.load(Ordering::Relaxed))].1;
    let accelerator = Scripted::new("accelerator", Arc::new(CpuBackend::default())).on_predict(Arc::new(script));
    let config = BreakerConfig {
        // Three failures in a row are enough, and nobody wants to watch a minute's wait.
        consecutive_failures: Some(3),
        open_wait: OpenWait { initial: Duration::from_millis(200), ..OpenWait::default() },
        ..BreakerConfig::default()
    };
    let session = Session::builder()
        .backends([accelerator.backend(), Arc::new(CpuBackend::default())])
        .deadline(DEADLINE)
        .breaker(config)
        .shadow(Shadow { every: 1, before_answer: true, ..Shadow::default() })
        .open(&arguments.model)?;
    let inputs = synthetic_inputs(session.interface(), 0)?;
    let mut out = io::stdout().lock();
    writeln!(out, "every prediction has {DEADLINE:?}; A: answered by the accelerator, c: by the CPU engine\n")?;
    writeln!(out, "{:<18} {:<62} {:>10}  circuit", "the accelerator", "who answers", "slowest")?;
    for (number, (name, act, predictions)) in CHAPTERS.iter().enumerate() {
        chapter.store(number as u8, Ordering::Relaxed);
        let mut answers = String::new();
        let mut slowest = Duration::ZERO;
        for _ in 0..*predictions {
            let start = Instant::now();
            let prediction = session.predict(&inputs)?;
            slowest = slowest.max(start.elapsed());
            answers.push(if prediction.degraded() { 'c' } else { 'A' });
            std::thread::sleep(Duration::from_millis(10));
        }
        if *act == Act::Hang {
            // As if the driver had come to its senses: the calls left behind return, too late.
            accelerator.release();
        }
        writeln!(out, "{name:<18} {answers:<62} {:>7.1} ms  {}", slowest.as_secs_f64() * 1e3, circuit(&session)?)?;
    }
    if arguments.metrics {
        let model = [("model", session.path().file_name().and_then(|name| name.to_str()).unwrap_or_default())];
        write!(out, "\n{}", openmetrics::write(&[(&model, &session.telemetry().snapshot())]))?;
    }
    Ok(())
}

fn circuit(session: &Session) -> Result<String, Error> {
    let breaker = session.breaker("accelerator").ok_or_else(|| Error::new(ErrorKind::Bug, "no such backend"))?;
    let status = breaker.status(Instant::now());
    let reason = status.reason.map_or(String::new(), |reason| format!(" ({})", reason.name()));
    Ok(format!("{}{reason}", status.state.name()))
}
