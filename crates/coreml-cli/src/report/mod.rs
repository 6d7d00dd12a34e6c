//! `coreml report`: shows what was measured as a self-contained page.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use coreml_gate::{Gate, ReferenceRun, run as measure};
use serde_json::{Value as Json, json};

use crate::baseline::read_record;
use crate::bench::profile;
use crate::console;
use crate::failure::Failure;
use crate::validate::{Progress, save};

mod charts;
mod html;
mod page;
mod treemap;

/// Write what was measured as one HTML page, which asks no network for anything
///
/// The page shows a record, which `coreml validate --output`, `coreml bench --format json` and `coreml report --json` write.
/// Given a model, the command measures it first, as `validate` does, and profiles it. The record is in the page, as JSON in
/// the script element `record`; every number that is shown says where in it it comes from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    coreml report Model.mlpackage -o report.html\n  \
    coreml validate Model.mlpackage --output run.json; coreml report run.json --baseline last-week.json -o report.html\n  \
    coreml bench Model.mlpackage --threads 1,2 --format json | coreml report - > report.html")]
pub(crate) struct Arguments {
    /// A record (.json, or - for standard input), or a model to measure
    input: PathBuf,
    /// Where to write the page; to standard output without it
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// An earlier record to compare with
    #[arg(long, value_name = "FILE.json")]
    baseline: Option<PathBuf>,
    /// How much latency may change and still be the same, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0, value_parser = crate::compare::tolerance)]
    tolerance: f64,
    /// A profile to show, which `coreml bench --profile --format json` wrote
    #[arg(long, value_name = "FILE.json")]
    profile: Option<PathBuf>,
    /// Of a model: write the record, too
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    /// Of a model: timed predictions; a p99 needs 662
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Of a model: threads for one prediction; 0 for all
    #[arg(short, long, default_value_t = 0)]
    threads: usize,
    /// Of a model: the gate that judges it; Gate C without it
    #[arg(long, value_name = "FILE.toml")]
    gate: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let is_record = arguments.input == Path::new("-") || arguments.input.extension().is_some_and(|is| is == "json");
    let mut record = if is_record { read_record(&arguments.input)? } else { measured(arguments)? };
    if let Some(path) = &arguments.profile {
        record["profile"] = read_profile(path)?;
    }
    if let Some(path) = &arguments.json {
        save(path, &format!("{record:#}\n"))?;
    }
    let baseline = arguments.baseline.as_deref().map(read_record).transpose()?;
    let page = page_of(record, baseline, arguments.tolerance / 100.0);
    match &arguments.output {
        Some(path) => save(path, &page),
        None => Ok(out.write_all(page.as_bytes())?),
    }
}

/// The page of a record.
pub(crate) fn page_of(record: Json, baseline: Option<Json>, tolerance: f64) -> String {
    page::page(&page::embedded(record, baseline, tolerance))
}

fn measured(arguments: &Arguments) -> Result<Json, Failure> {
    let gate = match &arguments.gate {
        Some(path) => {
            Gate::open(path).map_err(|error| Failure::file(format!("{} is no gate", path.display()), error))?
        }
        None => Gate::c(),
    };
    let config = ReferenceRun {
        threads: arguments.threads,
        stop: console::stopped,
        gate,
        ..ReferenceRun::new(&arguments.input, arguments.iterations)
    };
    console::stop_when_interrupted();
    let mut progress = Progress::new();
    let mut report = measure(&config, &mut |stage, done, total| progress.show(stage, done, total))?;
    progress.show("profile", 0, 1);
    match profile::of_model(
        &arguments.input,
        arguments.threads,
        arguments.iterations.min(if console::stopped() { 1 } else { 200 }),
    ) {
        Ok(profile) => report.profile = Some(profile),
        Err(failure) => report.events.push(format!("not profiled: {failure}")),
    }
    progress.end();
    Ok(json!(report))
}

/// The first profile of the file.
fn read_profile(path: &Path) -> Result<Json, Failure> {
    let cannot = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::file(format!("cannot read {}", path.display()), error)
    };
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.into()))?;
    let mut profile: Json = serde_json::from_str(&text).map_err(|error| cannot(error.into()))?;
    match profile["profiles"].get_mut(0) {
        Some(first) => Ok(first.take()),
        None => Err(cannot("it is no profile of `coreml bench --profile --format json`".into())),
    }
}
