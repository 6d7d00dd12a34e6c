//! `coreml validate`: measures a model and judges it by a gate.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use coreml_anywhere::telemetry::report::{Outcome, RunReport};
use coreml_gate::{Gate, Plant, ReferenceRun, audit, junit, run as measure, table};
use indicatif::ProgressBar;

use crate::console;
use crate::failure::Failure;

/// Measure a model and judge it by a gate: exit code 0 if it passes, 1 if it fails, 5 if something cannot be measured here
///
/// Loads the model, makes predictions with made-up inputs, compares the answers with the reference plan's, drills the circuit
/// breaker and compares an accelerator, if there is one, with the CPU engine. Gate C judges unless another gate is given.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model: an .mlpackage or .mlmodelc folder, an .mlmodel file, or a zip archive of one
    model: PathBuf,
    /// The gate, in TOML; see `gates/gate-c.toml` in the crate coreml-gate
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Timed predictions; a p99 needs 662
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Threads for one prediction; 0 for all
    #[arg(short, long, default_value_t = 0)]
    threads: usize,
    /// The time budget of one prediction
    #[arg(long, value_name = "MS", default_value_t = 100)]
    deadline_ms: u64,
    /// Write the report as JSON
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the verdicts as JUnit XML, for continuous integration
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Plant a fault, to see the gate fail
    #[arg(long, value_name = "FAULT", value_parser = plants())]
    plant: Option<Plant>,
}

fn plants() -> impl TypedValueParser<Value = Plant> {
    let of = |name: String| Plant::ALL.into_iter().find(|plant| plant.name() == name).ok_or("there is no such fault");
    PossibleValuesParser::new(Plant::ALL.map(Plant::name)).try_map(of)
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let gate = match &arguments.gate {
        Some(path) => {
            Gate::open(path).map_err(|error| Failure::file(format!("{} is no gate", path.display()), error))?
        }
        None => Gate::c(),
    };
    let config = ReferenceRun {
        threads: arguments.threads,
        deadline: Duration::from_millis(arguments.deadline_ms),
        plant: arguments.plant,
        stop: console::stopped,
        gate,
        ..ReferenceRun::new(&arguments.model, arguments.iterations)
    };
    console::stop_when_interrupted();
    let mut progress = Progress::new();
    let report = measure(&config, &mut |stage, done, total| progress.show(stage, done, total))?;
    progress.end();
    if arguments.plant.is_none() {
        let lies = audit(&report, &config.gate);
        if !lies.is_empty() {
            return Err(Failure::different(format!("the report contradicts itself: {}", lies.join("; "))));
        }
    }
    let json = || serde_json::to_string_pretty(&report).map_err(std::io::Error::from);
    if let Some(path) = &arguments.output {
        save(path, &(json()? + "\n"))?;
    }
    if let Some(path) = &arguments.junit {
        save(path, &junit(&report))?;
    }
    if arguments.json {
        writeln!(out, "{}", json()?)?;
    } else {
        write!(out, "{}", table(&report))?;
    }
    out.flush()?;
    verdict(&report, &config.gate)
}

pub(crate) fn save(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::file(format!("cannot write {}", path.display()), error))
}

fn verdict(report: &RunReport, gate: &Gate) -> Result<(), Failure> {
    let these = |outcome| {
        let lines = report.gate.iter().filter(|line| line.outcome == outcome);
        lines.map(|line| line.requirement.as_str()).collect::<Vec<_>>().join("; ")
    };
    match report.verdict {
        Outcome::Pass => Ok(()),
        Outcome::Fail => Err(Failure::different(format!("{} fails: {}", gate.name, these(Outcome::Fail)))),
        Outcome::Unavailable => {
            let message = format!("{} is inconclusive here: {}", gate.name, these(Outcome::Unavailable));
            Err(Failure::inconclusive(message))
        }
    }
}

/// What is being measured, on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    stage: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { bar: console::bar(0, "{msg:24} {wide_bar} {pos}/{len}  {eta}"), stage: String::new() }
    }

    pub(crate) fn show(&mut self, stage: &str, done: u32, total: u32) {
        if stage != self.stage {
            stage.clone_into(&mut self.stage);
            self.bar.reset();
            self.bar.set_message(self.stage.clone());
        }
        self.bar.set_length(total.into());
        self.bar.set_position(done.into());
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
