//! Measures a model from opening to the last prediction, judges it by Gate C and writes `telemetry.json`.
//!
//! Exits with 1 if a line of the gate fails, 3 if the model cannot be opened or the report cannot be written. A line
//! that cannot be measured on this host is unavailable: neither failed nor passed.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use coreml_anywhere::telemetry::report::Outcome;
use coreml_gate::{ReferenceRun, audit, run, table};

/// Measures a model and judges it by Gate C.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model package
    #[arg(long)]
    model: PathBuf,
    /// Timed predictions; p99 needs 662
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Where the report goes
    #[arg(long, default_value = "telemetry.json")]
    output: PathBuf,
    /// Threads for one prediction; 0 for all
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The time budget of one prediction, in milliseconds
    #[arg(long, default_value_t = 100)]
    deadline_ms: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Tells of fallbacks and circuits when it is built with `--features tracing`.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    match smoke_test(&arguments) {
        Ok(Outcome::Fail) => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(3)
        }
    }
}

fn smoke_test(arguments: &Arguments) -> Result<Outcome, Box<dyn std::error::Error>> {
    let config = ReferenceRun {
        threads: arguments.threads,
        deadline: Duration::from_millis(arguments.deadline_ms),
        ..ReferenceRun::new(&arguments.model, arguments.iterations)
    };
    let watched = std::io::stderr().is_terminal();
    let mut stage = String::new();
    let report = run(&config, &mut |now, done, total| {
        let mut err = std::io::stderr().lock();
        // A line for each stage; on a terminal it also counts.
        let _ = if now != stage {
            writeln!(err, "{}{now} …", if watched { "\r" } else { "" })
        } else if watched && done % 10 == 0 {
            write!(err, "\r  {done}/{total} ").and_then(|()| err.flush())
        } else {
            Ok(())
        };
        now.clone_into(&mut stage);
    })?;
    let lies = audit(&report, &config.gate);
    if !lies.is_empty() {
        return Err(format!("the report contradicts itself: {}", lies.join("; ")).into());
    }
    write!(std::io::stdout(), "{}", table(&report))?;
    let json = serde_json::to_string_pretty(&report)?;
    std::fs::write(&arguments.output, json + "\n")
        .map_err(|error| format!("cannot write {}: {error}", arguments.output.display()))?;
    writeln!(std::io::stdout(), "\nwritten to {}", arguments.output.display())?;
    Ok(report.verdict)
}
